//! The index finds what trying each predicate on each row finds.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::ScalarValue;
use datafusion_expr::{Expr, col, lit};
use proptest::prelude::*;
use squilla_query::timestamp_type;

use super::*;
use crate::batch::{Memo, RowKind, StreamBatch, physical_schema};
use crate::counters::Counters;
use crate::operator::{Filter, Operator, Output};
use crate::stream::Offset;

fn input() -> SchemaRef {
    physical_schema(&Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("k", DataType::Int64, true),
        Field::new("i", DataType::Int32, true),
        Field::new("f", DataType::Float64, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("b", DataType::Boolean, true),
        Field::new("t", timestamp_type(), true),
    ]))
}

const FLOATS: [f64; 7] = [f64::NEG_INFINITY, -1.5, -0.0, 0.0, 1.5, f64::INFINITY, f64::NAN];
const TEXTS: [&str; 6] = ["", "a", "ab", "abcdefgh", "abcdefghabcdefgh", "é"];

type Row = (Option<i64>, Option<i32>, Option<usize>, Option<usize>, Option<bool>, Option<i64>);

fn rows(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..rows.len() as i64)),
        Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| row.2.map(|at| FLOATS[at])).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.3.map(|at| TEXTS[at])).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.4).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.5).collect::<TimestampNanosecondArray>()),
        Arc::new(TimestampNanosecondArray::from_value(0, rows.len())),
        Arc::new(TimestampNanosecondArray::from_value(0, rows.len())),
    ];
    RecordBatch::try_new(input(), columns).unwrap()
}

/// The numbers of the rows that pass a filter.
fn plainly(rows: &RecordBatch, predicate: &Expr) -> Vec<u32> {
    let counters = Arc::new(Counters::default());
    let mut filter = Filter::new(&input(), predicate, counters.clone()).unwrap();
    let batch = StreamBatch {
        kind: RowKind::Append,
        partition: 0,
        first: Offset(0),
        next: Offset(rows.num_rows() as u64),
        rows: rows.clone(),
        watermark: EventTime(0),
        arrival: EventTime(0),
        idle: false,
        memo: Memo::default(),
    };
    let mut output = Output::default();
    filter.process(batch, &mut output).unwrap();
    assert_eq!(counters.snapshot().failed, 0);
    let ids = output.rows.iter().flat_map(|batch| {
        let ids = batch.rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        ids.values().iter().map(|id| u32::try_from(*id).unwrap()).collect::<Vec<_>>()
    });
    ids.collect()
}

fn row() -> impl Strategy<Value = Row> {
    let some = |strategy: std::ops::Range<i64>| prop::option::weighted(0.85, strategy);
    let at = |length: usize| prop::option::weighted(0.85, 0..length);
    (
        some(-3..8),
        prop::option::weighted(0.85, -2..3_i32),
        at(FLOATS.len()),
        at(TEXTS.len()),
        prop::option::weighted(0.85, any::<bool>()),
        some(0..5),
    )
}

fn compared(column: &'static str, value: Expr, op: usize) -> Expr {
    let column = col(column);
    match op {
        0 | 1 => column.eq(value),
        2 => column.lt(value),
        3 => column.lt_eq(value),
        4 => column.gt(value),
        5 => column.gt_eq(value),
        6 => value.lt(column),
        _ => column.not_eq(value),
    }
}

fn stamp(at: i64) -> Expr {
    Expr::Literal(ScalarValue::TimestampNanosecond(Some(at), None), None)
}

fn condition() -> BoxedStrategy<Expr> {
    let op = || 0..8_usize;
    let edge = prop_oneof![Just(i64::MIN), Just(i64::MAX)];
    prop_oneof![
        5 => (-3..8_i64, op()).prop_map(|(value, op)| compared("k", lit(value), op)),
        1 => (edge, op()).prop_map(|(value, op)| compared("k", lit(value), op)),
        2 => (-2..3_i32, op()).prop_map(|(value, op)| compared("i", lit(value), op)),
        3 => (0..FLOATS.len(), op()).prop_map(|(at, op)| compared("f", lit(FLOATS[at]), op)),
        4 => (0..TEXTS.len(), op()).prop_map(|(at, op)| compared("s", lit(TEXTS[at]), op)),
        2 => (0..5_i64, op()).prop_map(|(at, op)| compared("t", stamp(at), op)),
        2 => (-3..8_i64, -3..8_i64).prop_map(|(low, high)| col("k").between(lit(low), lit(high))),
        2 => prop::collection::vec(-3..8_i64, 0..4)
            .prop_map(|values| col("k").in_list(values.into_iter().map(lit).collect(), false)),
        2 => prop::collection::vec(0..TEXTS.len(), 1..4)
            .prop_map(|at| col("s").in_list(at.into_iter().map(|at| lit(TEXTS[at])).collect(), false)),
        1 => (-3..8_i64, -3..8_i64).prop_map(|(a, b)| col("k").eq(lit(a)).or(col("k").eq(lit(b)))),
        1 => (-3..8_i64, 0..2_i32).prop_map(|(a, b)| col("k").eq(lit(a)).or(col("i").eq(lit(b)))),
        1 => Just(col("b")),
        1 => Just(Expr::Not(Box::new(col("b")))),
        1 => Just(col("k").is_null()),
        1 => Just(col("s").is_not_null()),
        1 => Just(col("s").like(lit("a%"))),
        1 => Just(col("k").eq(lit(ScalarValue::Int64(None)))),
    ]
    .boxed()
}

fn predicate() -> impl Strategy<Value = Expr> {
    prop::collection::vec(condition(), 1..4).prop_map(|all| all.into_iter().reduce(Expr::and).unwrap())
}

/// Many who wait for one value, told apart by whatever else they ask for.
fn crowd() -> impl Strategy<Value = Vec<Expr>> {
    let one = prop::collection::vec(condition(), 1..4);
    let waits = |more: Vec<Expr>| more.into_iter().fold(col("k").eq(lit(3_i64)), Expr::and);
    prop::collection::vec(one.prop_map(waits), 8..80)
}

/// Many who wait for a few values each, most of them also for a range of the same other column.
fn told_apart() -> impl Strategy<Value = Vec<Expr>> {
    let floats = [f64::NEG_INFINITY, -2.0, -1.5, 0.0, 1.0, 1.5, f64::INFINITY, f64::NAN];
    let bound = move |column: usize, at: usize| match column {
        0 => ("f", lit(floats[at])),
        1 => ("t", stamp(at as i64)),
        _ => ("i", lit(at as i32 - 4)),
    };
    let one =
        (-3..8_i64, prop::collection::vec((0..8_usize, 2..6_usize), 0..3), prop::option::weighted(0.3, condition()));
    (0..3_usize, prop::collection::vec(one, 40..80)).prop_map(move |(column, all)| {
        let predicate = |(k, ranges, more): (i64, Vec<(usize, usize)>, Option<Expr>)| {
            let ranges = ranges.into_iter().map(|(at, op)| {
                let (column, value) = bound(column, at);
                compared(column, value, op)
            });
            ranges.chain(more).fold(col("k").eq(lit(k)), Expr::and)
        };
        all.into_iter().map(predicate).collect()
    })
}

fn find(index: &mut PredicateIndex, batch: &RecordBatch, matches: &mut Matches) {
    index.settle();
    index.find(batch, EventTime(0), &mut Scratch::default(), matches).unwrap();
}

/// Finds what trying each does, before and after some of them have gone.
fn check(drawn: &[Row], predicates: &[Expr], gone: &[bool]) -> Result<(), TestCaseError> {
    let (batch, schema) = (rows(drawn), input());
    let mut index = PredicateIndex::new(&schema);
    let mut known = Vec::new();
    for (slot, expr) in (0_u32..).zip(predicates) {
        let Some(predicate) = Predicate::new(&[expr], &schema) else { continue };
        index.add(slot, predicate).unwrap();
        known.push(slot);
    }
    let (mut scratch, mut matches) = (Scratch::default(), Matches::default());
    for round in 0..2 {
        let mut found: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        index.settle();
        index.find(&batch, EventTime(0), &mut scratch, &mut matches).unwrap();
        for (slot, rows) in matches.iter() {
            prop_assert!(found.insert(slot, rows.to_vec()).is_none());
        }
        for slot in &known {
            let expected = plainly(&batch, &predicates[*slot as usize]);
            prop_assert_eq!(found.remove(slot).unwrap_or_default(), expected, "{}", predicates[*slot as usize]);
        }
        prop_assert!(found.is_empty(), "of predicates that are gone: {:?}", found);
        if round == 0 {
            known.retain(|slot| !gone[*slot as usize]);
            let removed: Vec<u32> = (0..predicates.len() as u32).filter(|slot| gone[*slot as usize]).collect();
            removed.iter().for_each(|slot| index.remove(*slot));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_index_finds_what_each_predicate_lets_through(
        drawn in prop::collection::vec(row(), 0..60),
        predicates in prop::collection::vec(predicate(), 1..80),
        gone in prop::collection::vec(any::<bool>(), 80),
    ) {
        check(&drawn, &predicates, &gone)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]

    #[test]
    fn a_crowd_that_waits_for_one_value_is_told_apart(
        drawn in prop::collection::vec((row(), any::<bool>()), 0..60),
        predicates in crowd(),
        gone in prop::collection::vec(any::<bool>(), 80),
    ) {
        let wanted = |(row, wanted): (Row, bool)| if wanted { (Some(3), row.1, row.2, row.3, row.4, row.5) } else { row };
        let drawn: Vec<Row> = drawn.into_iter().map(wanted).collect();
        check(&drawn, &predicates, &gone)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn those_who_wait_for_a_few_values_are_told_apart_by_a_second_column(
        drawn in prop::collection::vec(row(), 0..60),
        predicates in told_apart(),
        gone in prop::collection::vec(any::<bool>(), 80),
    ) {
        check(&drawn, &predicates, &gone)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn values_that_few_rows_have_are_found(
        drawn in prop::collection::vec((row(), prop::bool::weighted(0.97)), 0..200),
        predicates in told_apart(),
        gone in prop::collection::vec(any::<bool>(), 80),
    ) {
        let elsewhere = |(row, elsewhere): (Row, bool)| match row {
            (Some(k), i, f, s, b, t) if elsewhere => (Some(k + 1_000), i, f, s, b, t),
            row => row,
        };
        let drawn: Vec<Row> = drawn.into_iter().map(elsewhere).collect();
        check(&drawn, &predicates, &gone)?;
    }
}

#[test]
fn who_comes_and_goes_is_told_apart_by_a_second_column() {
    let schema = input();
    let mut index = PredicateIndex::new(&schema);
    let column = schema.index_of("k").unwrap();
    let of = |slot: u32| {
        let (k, low) = (i64::from(slot % 10), f64::from(slot / 10));
        let condition = col("k").eq(lit(k)).and(col("f").gt_eq(lit(low))).and(col("f").lt(lit(low + 0.5)));
        Predicate::new(&[&condition], &schema).unwrap()
    };
    let mut batch = rows(&(0..10).map(|k| (Some(k), None, None, None, None, None)).collect::<Vec<Row>>());
    let mut found = |index: &mut PredicateIndex, value: f64| {
        let mut columns = batch.columns().to_vec();
        columns[3] = Arc::new(Float64Array::from_value(value, 10));
        batch = RecordBatch::try_new(input(), columns).unwrap();
        let mut matches = Matches::default();
        find(index, &batch, &mut matches);
        matches.iter().map(|(slot, _)| slot).collect::<Vec<_>>()
    };
    (0..100).for_each(|slot| index.add(slot, of(slot)).unwrap());
    assert_eq!(found(&mut index, 3.25), (30..40).collect::<Vec<_>>());
    assert!(index.numbers[&column].cells().is_some(), "a second column tells them apart");
    assert!(found(&mut index, 3.75).is_empty());
    // Behind all that there were, and in the place of one that has gone.
    (10..30).for_each(|slot| index.remove(slot));
    (100..110).for_each(|slot| index.add(slot, of(slot)).unwrap());
    assert_eq!(found(&mut index, 10.0), (100..110).collect::<Vec<_>>());
    assert!(found(&mut index, 1.0).is_empty());
    // A value that all others have left.
    (0..110).filter(|slot| slot % 10 == 7).for_each(|slot| index.remove(slot));
    assert_eq!(found(&mut index, 4.0), (40..50).filter(|slot| *slot != 47).collect::<Vec<_>>());
    // Many come at once, and one that asks for no range.
    (110..200).for_each(|slot| index.add(slot, of(slot)).unwrap());
    index.add(7, Predicate::new(&[&col("k").eq(lit(7_i64))], &schema).unwrap()).unwrap();
    assert_eq!(found(&mut index, 15.0), [vec![7], (150..160).collect()].concat());
    assert_eq!(found(&mut index, f64::NAN), [7]);
}

#[test]
fn what_may_fail_or_cannot_be_looked_up_is_left_alone() {
    let schema = input();
    let known = |expr: &Expr| Predicate::new(&[expr], &schema).is_some();
    assert!(known(&col("k").eq(lit(1_i64))));
    assert!(known(&col("k").gt(lit(1_i64)).and(col("s").like(lit("a%")))));
    assert!(known(&col("s").in_list(vec![lit("a"), lit("b")], false)));
    assert!(!known(&col("s").like(lit("a%"))), "nothing to look up");
    assert!(!known(&col("k").is_null()), "nothing to look up");
    assert!(!known(&col("k").eq(lit(1_i64)).and((lit(1_i64) / col("k")).gt(lit(0_i64)))), "it may fail");
    assert!(!known(&col("k").eq(lit(1_i32))), "of another type");
    let deep = (0..2_000_i64).fold(col("k").eq(lit(-1_i64)), |all, value| all.or(col("i").eq(lit(value as i32))));
    assert!(!known(&deep), "too deep");
    assert!(!known(&col("nowhere").eq(lit(1_i64))));
}

#[test]
fn thousands_of_values_come_and_go() {
    let schema = input();
    let mut index = PredicateIndex::new(&schema);
    let of = |value: i64| Predicate::new(&[&col("k").eq(lit(value))], &schema).unwrap();
    for slot in 0..5_000 {
        index.add(slot, of(i64::from(slot))).unwrap();
    }
    let drawn: Vec<Row> = (0..100).map(|at| (Some(at * 100), None, None, None, None, None)).collect();
    let batch = rows(&drawn);
    let mut matches = Matches::default();
    find(&mut index, &batch, &mut matches);
    assert_eq!(matches.iter().count(), 50);
    (0..5_000).filter(|slot| slot % 200 == 0).for_each(|slot| index.remove(slot));
    find(&mut index, &batch, &mut matches);
    let left: Vec<u32> = matches.iter().map(|(slot, _)| slot).collect();
    assert_eq!(left, (0..25).map(|at| at * 200 + 100).collect::<Vec<_>>());
    (0..5_000).for_each(|slot| index.remove(slot));
    find(&mut index, &batch, &mut matches);
    assert_eq!(matches.iter().count(), 0);
    assert!(index.numbers.is_empty() && index.others.is_empty());
}

#[test]
fn values_near_to_each_other_and_far_apart_are_found() {
    let schema = input();
    let of = |value: i64| Predicate::new(&[&col("k").eq(lit(value))], &schema).unwrap();
    // Near, then one far off on either side, then near again when those are gone.
    let mut index = PredicateIndex::new(&schema);
    let found = |index: &mut PredicateIndex| {
        let values = [i64::MIN, -1_000_001, -1, 0, 5, 199, 200, 70_000, i64::MAX];
        let drawn: Vec<Row> = values.iter().map(|value| (Some(*value), None, None, None, None, None)).collect();
        let mut matches = Matches::default();
        find(index, &rows(&drawn), &mut matches);
        matches.iter().map(|(slot, _)| slot).collect::<Vec<_>>()
    };
    (0..200).for_each(|slot| index.add(slot, of(i64::from(slot))).unwrap());
    assert_eq!(found(&mut index), [0, 5, 199]);
    for (slot, value) in [(200, i64::MAX), (201, i64::MIN), (202, 70_000), (203, -1)] {
        index.add(slot, of(value)).unwrap();
    }
    assert_eq!(found(&mut index), [0, 5, 199, 200, 201, 202, 203]);
    (200..204).for_each(|slot| index.remove(slot));
    (6..200).for_each(|slot| index.remove(slot));
    assert_eq!(found(&mut index), [0, 5]);
    index.add(6, of(200)).unwrap();
    assert_eq!(found(&mut index), [0, 5, 6]);
}

#[test]
fn those_who_wait_for_one_value_are_told_apart_by_ranges() {
    let schema = input();
    let mut index = PredicateIndex::new(&schema);
    let of = |low: i64, high: i64| {
        let condition = col("k").eq(lit(3_i64)).and(col("t").between(stamp(low), stamp(high)));
        Predicate::new(&[&condition], &schema).unwrap()
    };
    for slot in 0..20 {
        index.add(slot, of(i64::from(slot), i64::from(slot) + 1)).unwrap();
    }
    // One that no row meets, and one of another kind.
    index.add(20, of(5, 4)).unwrap();
    index.add(21, Predicate::new(&[&col("k").eq(lit(3_i64)).and(col("b"))], &schema).unwrap()).unwrap();
    let drawn: Vec<Row> =
        [Some(0), Some(7), None, Some(20)].iter().map(|at| (Some(3), None, None, None, Some(true), *at)).collect();
    let batch = rows(&drawn);
    let mut matches = Matches::default();
    let mut found = |index: &mut PredicateIndex| {
        find(index, &batch, &mut matches);
        matches.iter().map(|(slot, rows)| (slot, rows.to_vec())).collect::<Vec<_>>()
    };
    let all = (21, vec![0, 1, 2, 3]);
    let expected = [(0, vec![0]), (6, vec![1]), (7, vec![1]), (19, vec![3]), all.clone()];
    assert_eq!(found(&mut index), expected);
    index.remove(6);
    index.add(22, of(20, 30)).unwrap();
    assert_eq!(found(&mut index), [(0, vec![0]), (7, vec![1]), (19, vec![3]), all, (22, vec![3])]);
}
