//! Every aggregate that DataFusion has, over panes that are sealed and merged, against one accumulator that sees all
//! rows of the window at once.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::array_value_to_string;
use datafusion_expr::{Expr, ExprFunctionExt, cast, col, lit};
use datafusion_functions_aggregate::all_default_aggregate_functions;
use squilla_query::{AggregateCall, WindowSpec};

use super::aggregate_call::{ARRIVAL, plan};
use super::expression::{Expressions, Planner};
use super::testing::{Feed, Row, aggregate, hop, lines, named, tumble};
use super::{Operator, Output};
use crate::clock::EventTime;

/// Calls of a function, at least one. Arguments have the types that the function takes.
fn calls_of(name: &str) -> Vec<Expr> {
    let function = all_default_aggregate_functions().into_iter().find(|f| f.name() == name).unwrap();
    let call = |args: Vec<Expr>| function.call(args);
    let ordered = |args: Vec<Expr>, by: &str, ascending: bool| {
        call(args).order_by(vec![col(by).sort(ascending, false), col("ts").sort(ascending, false)]).build().unwrap()
    };
    let distinct = |args: Vec<Expr>| call(args).distinct().build().unwrap();
    let filtered = |args: Vec<Expr>| call(args).filter(col("v").gt(lit(0i64))).build().unwrap();
    let square = || col("f") * col("f") + cast(col("k"), DataType::Float64);
    match name {
        "count" => vec![
            call(vec![lit(1i64)]),
            call(vec![col("s")]),
            distinct(vec![col("v")]),
            distinct(vec![col("s")]),
            distinct(vec![col("f")]),
            distinct(vec![col("b")]),
            call(vec![col("v")]).distinct().filter(col("v").gt(lit(0i64))).build().unwrap(),
            filtered(vec![col("v")]),
        ],
        "sum" => vec![
            call(vec![col("v")]),
            call(vec![col("f")]),
            distinct(vec![col("v")]),
            call(vec![cast(col("v"), DataType::Decimal128(20, 2))]),
        ],
        "avg" => vec![call(vec![col("f")]), distinct(vec![col("f")]), filtered(vec![col("f")])],
        "min" | "max" => vec![call(vec![col("v")]), call(vec![col("f")]), call(vec![col("s")]), call(vec![col("ts")])],
        "median" => vec![call(vec![col("v")]), call(vec![col("f")]), distinct(vec![col("v")])],
        "array_agg" => vec![
            call(vec![col("v")]),
            distinct(vec![col("v")]),
            ordered(vec![col("s")], "v", true),
            ordered(vec![col("v")], "f", false),
        ],
        "string_agg" => vec![
            call(vec![col("s"), lit(",")]),
            ordered(vec![col("s"), lit(",")], "v", false),
            distinct(vec![col("s"), lit(",")]),
        ],
        "first_value" | "last_value" => vec![
            call(vec![col("v")]),
            call(vec![col("b")]),
            ordered(vec![col("s")], "v", true),
            filtered(vec![col("f")]),
        ],
        "nth_value" => vec![
            call(vec![col("v"), lit(2i64)]),
            call(vec![col("s"), lit(-2i64)]),
            ordered(vec![col("v"), lit(3i64)], "f", false),
            filtered(vec![col("v"), lit(1i64)]),
        ],
        "approx_percentile_cont" | "percentile_cont" => {
            vec![call(vec![col("f"), lit(0.25)]).order_by(vec![col("f").sort(true, false)]).build().unwrap()]
        }
        "approx_percentile_cont_with_weight" => {
            vec![call(vec![col("f"), lit(2.0), lit(0.25)]).order_by(vec![col("f").sort(true, false)]).build().unwrap()]
        }
        "approx_median" | "stddev" | "stddev_pop" | "var" | "var_pop" => vec![call(vec![col("f")])],
        "approx_distinct" => vec![call(vec![col("v")]), call(vec![col("s")])],
        "bit_and" | "bit_or" | "any_value" => vec![call(vec![col("v")])],
        "bit_xor" => vec![call(vec![col("v")]), distinct(vec![col("v")])],
        "bool_and" | "bool_or" => vec![call(vec![col("b")])],
        "corr" | "covar_pop" | "covar_samp" => vec![call(vec![col("f"), square()])],
        regression if regression.starts_with("regr_") => vec![call(vec![col("f"), square()])],
        other => panic!("no call of {other}: a new aggregate, to be tried here"),
    }
}

/// All functions but `grouping`, which the planner replaces.
pub(super) fn all_calls() -> Vec<Expr> {
    let functions = all_default_aggregate_functions();
    functions.iter().filter(|f| f.name() != "grouping").flat_map(|f| calls_of(f.name())).collect()
}

/// The results of one accumulator each that sees all rows, ordered by event time, at once.
fn directly(calls: &[Expr], rows: &[Row]) -> Vec<String> {
    let mut rows: Vec<Row> = rows.to_vec();
    rows.sort_by_key(|row| row.0);
    let batch = Feed::new(0, 1).batch(0, &rows).rows;
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(ARRIVAL, DataType::Int64, false)));
    let schema = Arc::new(Schema::new(fields));
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let planner = Planner::new(&schema).unwrap();
    let result = |expr: &Expr| {
        let mut exprs = Vec::new();
        let call = plan(&planner, &AggregateCall { expr: expr.clone(), name: "a".into() }, &mut exprs).unwrap();
        let columns = Expressions::new(exprs, &planner).unwrap().evaluate(&batch, EventTime(0)).unwrap().columns;
        let pick = |idx: &usize| -> ArrayRef {
            match call.filter {
                Some(passes) => filter(&columns[*idx], columns[passes].as_boolean()).unwrap(),
                None => Arc::clone(&columns[*idx]),
            }
        };
        let mut accumulator = call.function.create_accumulator().unwrap();
        // Accumulators that take ordered rows get them in the order that these have.
        let arguments: Vec<ArrayRef> = call.arguments.iter().map(pick).collect();
        let arguments = in_order(&call, arguments);
        accumulator.update_batch(&arguments).unwrap();
        let value = accumulator.evaluate().unwrap().to_array().unwrap();
        array_value_to_string(&value, 0).unwrap()
    };
    calls.iter().map(result).collect()
}

fn in_order(call: &super::aggregate_call::Call, arguments: Vec<ArrayRef>) -> Vec<ArrayRef> {
    let by = call.function.order_bys();
    if call.nth_value.is_none() || by.is_empty() {
        return arguments;
    }
    let sort: Vec<_> = by
        .iter()
        .zip(&arguments[arguments.len() - by.len()..])
        .map(|(by, values)| arrow::compute::SortColumn { values: Arc::clone(values), options: Some(by.options) })
        .collect();
    let order = arrow::compute::lexsort_to_indices(&sort, None).unwrap();
    arguments.iter().map(|column| arrow::compute::take(column, &order, None).unwrap()).collect()
}

/// Equal but for rounding and, where no order is asked for, the order of elements.
fn same(call: &Expr, left: &str, right: &str) -> bool {
    if left == right {
        return true;
    }
    if let (Ok(left), Ok(right)) = (left.parse::<f64>(), right.parse::<f64>()) {
        return (left - right).abs() <= 1e-9 * left.abs().max(1.0) || (left.is_nan() && right.is_nan());
    }
    let elements = |text: &str| {
        let mut elements: Vec<String> = text.trim_matches(['[', ']']).split(',').map(|e| e.trim().to_owned()).collect();
        elements.sort();
        elements
    };
    !call.to_string().contains("ORDER BY") && elements(left) == elements(right)
}

fn compare(window: WindowSpec, size_ms: i64, tick: bool) {
    let rows: Vec<Row> = (0i64..60)
        .map(|i| ((i * 37) % 40, Some(i % 3), if i % 7 == 0 { None } else { Some((i * 53) % 23 - 9) }))
        .collect();
    let calls = all_calls();
    let (mut operator, _) = aggregate(window, &[named(col("k"), "k")], calls.clone(), 0, 1);
    operator.operator().track_updates(tick);
    let (mut feed, mut output) = (Feed::new(1000, 1), Output::default());
    for rows in rows.chunks(13) {
        operator.process(feed.batch(0, rows), &mut output).unwrap();
        if tick {
            operator.tick(&mut output).unwrap();
        }
    }
    let snapshot = operator.snapshot().unwrap();
    operator.end_partition(0, &mut output).unwrap();
    let mut windows = BTreeSet::new();
    for (batches, all) in [(&output.rows, true), (&snapshot, true), (&output.updates, false)] {
        let mut last: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in lines(batches) {
            let cells: Vec<String> = line.split('|').map(str::to_owned).collect();
            last.insert(cells[..3].join("|"), cells[3..].to_vec());
        }
        assert!(!all || !last.is_empty());
        for (name, values) in last {
            let bounds: Vec<i64> = name.split('|').map(|cell| cell.parse().unwrap()).collect();
            assert_eq!(bounds[1] - bounds[0], size_ms);
            let own = |row: &&Row| (bounds[0]..bounds[1]).contains(&row.0) && row.1 == Some(bounds[2]);
            let own: Vec<Row> = rows.iter().filter(own).copied().collect();
            for ((call, found), expected) in calls.iter().zip(&values).zip(directly(&calls, &own)) {
                let any = call.to_string().starts_with("any_value");
                assert!(any || same(call, found, &expected), "{call} of {name}: {found}, directly {expected}");
            }
            windows.insert(name);
        }
    }
    assert!(windows.len() > 3);
}

#[test]
fn panes_combine_to_the_direct_answer() {
    compare(hop(20, 5, 3), 20, false);
}

#[test]
fn windows_of_one_pane_give_the_direct_answer() {
    compare(tumble(10), 10, false);
}

#[test]
fn running_results_give_the_direct_answer() {
    compare(tumble(10), 10, true);
    compare(hop(15, 5, 0), 15, true);
}
