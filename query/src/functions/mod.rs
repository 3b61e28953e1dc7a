//! The functions that expressions may call, and DataFusion's view of them.

mod clock;
pub(crate) mod error;
pub(crate) mod json;
pub(crate) mod rate;
pub(crate) mod spellings;
mod top_k;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::TreeNode;
use datafusion_common::{Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion_expr::{AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions::datetime::planner::DatetimeFunctionPlanner;
use datafusion_functions::unicode::planner::UnicodeFunctionPlanner;
use datafusion_functions_aggregate::planner::AggregateFunctionPlanner;
use datafusion_functions_nested::planner::{FieldAccessPlanner, NestedFunctionPlanner};
use datafusion_sql::sqlparser::ast;

pub use clock::ArrivalFunction;
pub(crate) use clock::arrival;

use crate::FunctionInfo;
use crate::types::column_type;

/// Functions that read the engine's configuration, that mean nothing on a stream, or whose types no column has.
const HIDDEN: [&str; 7] =
    ["version", "arrow_metadata", "arrow_try_cast", "file_row_index", "input_file_name", "union_extract", "union_tag"];

/// Functions whose result can be large however short their arguments are: never evaluated while planning.
const GROWING: [&str; 13] = [
    "repeat",
    "lpad",
    "rpad",
    "replace",
    "regexp_replace",
    "range",
    "generate_series",
    "gen_series",
    "array_repeat",
    "array_resize",
    "list_repeat",
    "list_resize",
    "space",
];

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

/// All functions by lower-case name, aliases included, and how DataFusion plans with them.
pub(crate) struct Registry {
    scalars: BTreeMap<String, Arc<ScalarUDF>>,
    /// Those that take a lambda: `array_transform(xs, x -> x + 1)`.
    lambdas: BTreeMap<String, Arc<HigherOrderUDF>>,
    aggregates: BTreeMap<String, Arc<AggregateUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: ConfigOptions,
}

/// What a called name is.
pub(crate) enum Called {
    /// A scalar function.
    Scalar,
    /// An aggregate.
    Aggregate,
    /// Nothing of that name; with the nearest name.
    Unknown(Option<String>),
}

impl Registry {
    fn new() -> Self {
        let mut scalars = BTreeMap::new();
        let all = datafusion_functions::all_default_functions();
        let nested = datafusion_functions_nested::all_default_nested_functions();
        for function in all.into_iter().chain(nested).chain(clock::all()).chain(json::all()).chain([error::function()])
        {
            for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
                if !HIDDEN.contains(&name) {
                    scalars.insert(name.to_lowercase(), Arc::clone(&function));
                }
            }
        }
        let mut lambdas = BTreeMap::new();
        for function in datafusion_functions_nested::all_default_higher_order_functions() {
            for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
                lambdas.insert(name.to_lowercase(), Arc::clone(&function));
            }
        }
        let mut aggregates = BTreeMap::new();
        let known = datafusion_functions_aggregate::all_default_aggregate_functions();
        for function in known.into_iter().chain(rate::all()).chain([top_k::function()]) {
            for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
                if !HIDDEN.contains(&name) {
                    aggregates.insert(name.to_lowercase(), Arc::clone(&function));
                }
            }
        }
        let mut options = ConfigOptions::default();
        options.sql_parser.collect_spans = true;
        options.sql_parser.map_string_types_to_utf8view = false;
        Self {
            scalars,
            lambdas,
            aggregates,
            planners: vec![
                Arc::new(json::JsonPlanner),
                Arc::new(CoreFunctionPlanner::default()),
                Arc::new(NestedFunctionPlanner),
                Arc::new(FieldAccessPlanner),
                Arc::new(DatetimeFunctionPlanner),
                Arc::new(UnicodeFunctionPlanner),
                Arc::new(AggregateFunctionPlanner),
            ],
            options,
        }
    }

    /// The one registry.
    pub(crate) fn get() -> &'static Self {
        &REGISTRY
    }

    /// What a name (in lower case) calls.
    pub(crate) fn called(&self, name: &str) -> Called {
        if self.aggregates.contains_key(name) {
            return Called::Aggregate;
        }
        if self.scalars.contains_key(name) || self.lambdas.contains_key(name) {
            return Called::Scalar;
        }
        let names = self.scalars.keys().chain(self.lambdas.keys()).chain(self.aggregates.keys());
        let names = names.map(String::as_str).chain(spellings::names());
        Called::Unknown(crate::suggest::nearest(name, names).map(str::to_owned))
    }

    /// How a function is called.
    pub(crate) fn syntax(name: &str) -> Option<String> {
        let (registry, name) = (Self::get(), name.to_lowercase());
        let scalar = registry.scalars.get(&name).and_then(|function| function.documentation());
        let aggregate = || registry.aggregates.get(&name).and_then(|function| function.documentation());
        let lambda = || registry.lambdas.get(&name).and_then(|function| function.documentation());
        let documentation = scalar.or_else(lambda).or_else(aggregate)?;
        documentation.syntax_example.lines().next().map(|line| line.trim().to_owned())
    }

    /// True when a function of that name (in lower case) takes a function as an argument.
    pub(crate) fn takes_lambda(&self, name: &str) -> bool {
        self.lambdas.contains_key(name)
    }

    /// True when a function of that name may make much out of little.
    pub(crate) fn grows(name: &str) -> bool {
        GROWING.contains(&name)
    }
}

/// True when an expression's value differs from one evaluation to the next, on one row: it may neither be computed
/// twice nor be shared.
pub fn is_random(expr: &Expr) -> bool {
    let random = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) => {
            expr.is_volatile_node() && call.func.inner().downcast_ref::<ArrivalFunction>().is_none()
        }
        _ => false,
    };
    expr.exists(|expr| Ok(random(expr))).unwrap_or(true)
}

/// All functions, by name.
pub(crate) fn describe() -> Vec<FunctionInfo> {
    let registry = Registry::get();
    let info = |name: &str, kind, documentation: Option<&datafusion_expr::Documentation>| FunctionInfo {
        name: name.to_owned(),
        kind,
        syntax: documentation.map_or_else(|| format!("{name}(…)"), |doc| doc.syntax_example.trim().to_owned()),
        description: documentation.map_or_else(String::new, |doc| doc.description.trim().to_owned()),
    };
    let mut all = windows();
    all.extend(registry.scalars.iter().map(|(name, function)| info(name, "scalar", function.documentation())));
    all.extend(registry.lambdas.iter().map(|(name, function)| info(name, "scalar", function.documentation())));
    all.extend(registry.aggregates.iter().map(|(name, function)| info(name, "aggregate", function.documentation())));
    all.extend(spellings::describe());
    all.sort_by(|left, right| left.name.cmp(&right.name));
    all
}

/// What is read or grouped by, rather than computed.
fn windows() -> Vec<FunctionInfo> {
    let window = |name: &str, syntax: &str, description: &str| FunctionInfo {
        name: name.to_owned(),
        kind: "window",
        syntax: syntax.to_owned(),
        description: description.to_owned(),
    };
    let mut all = vec![
        FunctionInfo {
            name: "unnest".to_owned(),
            kind: "scalar",
            syntax: "unnest(list) in the SELECT list, or FROM s CROSS JOIN UNNEST(list) AS t(element)".to_owned(),
            description:
                "A row for each element of a list or JSON array. WITH ORDINALITY adds its number; LEFT JOIN … \
                          ON TRUE keeps rows without elements."
                    .to_owned(),
        },
        window(
            "late",
            "FROM LATE(name), of a named stream",
            "The rows that came too late for a stream's windows or joins, with late_reason ('late' or 'idle'), late_by_ms, \
             late_watermark, late_at and late_input. Windows over them wait five minutes for rows.",
        ),
        window(
            "since",
            "FROM s SINCE INTERVAL '5 minutes', SINCE TIMESTAMP '…' or SINCE EARLIEST",
            "Where a live query starts: with what its inputs have kept, then goes on with the rows that come. Windows that \
             began before are told with what there is of them, and complete_from says so.",
        ),
        window(
            "tumble",
            "tumble(size) in GROUP BY, or FROM TUMBLE(TABLE t, DESCRIPTOR(ts), size [, offset])",
            "Windows of one size, each row in exactly one; of months and years, or days in a time zone, by the calendar: \
             tumble('1 day', 'Europe/Paris'). Adds window_start, window_end and window_time. Arguments may have names, as in \
             Flink: TUMBLE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE).",
        ),
        window(
            "hop",
            "hop(slide, size) in GROUP BY, or FROM HOP(TABLE t, DESCRIPTOR(ts), slide, size [, offset])",
            "Windows of one size that start every slide, so that they overlap. Adds window_start, window_end and \
             window_time.",
        ),
        window(
            "cumulate",
            "cumulate(step, size) in GROUP BY, or FROM CUMULATE(TABLE t, DESCRIPTOR(ts), step, size [, offset])",
            "Windows that start together every size and end a step, two steps and so on later: running totals of an hour, \
             say, minute by minute. Adds window_start, window_end and window_time.",
        ),
        window(
            "count_window",
            "count_window(rows [, slide]) in GROUP BY, or FROM COUNT_WINDOW(TABLE t [PARTITION BY user], rows [, slide])",
            "Windows of so many rows in the order of their arrival, for each group. Adds window_start and window_end, the \
             least and the greatest event time of the window's rows, and window_time.",
        ),
        window(
            "session",
            "session(gap) in GROUP BY, or FROM SESSION(TABLE t [PARTITION BY user], DESCRIPTOR(ts), gap)",
            "Windows of rows no more than a gap apart, for each group: from the first row to a gap behind the last. Adds \
             window_start, window_end and window_time.",
        ),
    ];
    all.extend(tracks());
    all.extend(ranks());
    all
}

/// The functions that number rows.
fn ranks() -> [FunctionInfo; 3] {
    let ranks = [
        ("row_number", "1, 2, 3, 4 by an order: rows that are equal by it go by event time."),
        ("rank", "1, 2, 2, 4 by an order: rows that are equal by it have the same rank."),
        ("dense_rank", "1, 2, 2, 3 by an order: rows that are equal by it have the same rank."),
    ];
    ranks.map(|(name, description)| FunctionInfo {
        name: name.to_owned(),
        kind: "window",
        syntax: format!("{name}() OVER (PARTITION BY window_start, window_end [, key] ORDER BY column [DESC])"),
        description: description.to_owned(),
    })
}

/// The functions over the windows of a key.
fn tracks() -> [FunctionInfo; 6] {
    let track = |name: &str, syntax: &str, description: &str| FunctionInfo {
        name: name.to_owned(),
        kind: "window",
        syntax: format!("{syntax} OVER (PARTITION BY key ORDER BY window_end)"),
        description: description.to_owned(),
    };
    let scored = "Beside GROUP BY it may stand without OVER, and goes by the keys of that.";
    let band = "standard deviations (3 unless said) from the weighted average of the key's windows before. Null until there \
                were min_count, 10 unless said.";
    [
        track("lag", "lag(x [, windows])", "What x was in the key's last window, or so many windows before."),
        track(
            "robust_zscore",
            "robust_zscore(x, windows [, min_count])",
            &format!(
                "How many deviations x is from the median of so many of the key's windows before it, by their median \
                 absolute deviation: beyond 3.5 it stands out. Null until there were min_count, 10 unless said. {scored}"
            ),
        ),
        track(
            "ewma",
            "ewma(x, alpha)",
            &format!(
                "The exponentially weighted moving average of x over the key's windows, the newest by alpha. {scored}"
            ),
        ),
        track("ewma_lower", "ewma_lower(x, alpha [, width [, min_count]])", &format!("So many {band} {scored}")),
        track("ewma_upper", "ewma_upper(x, alpha [, width [, min_count]])", &format!("So many {band} {scored}")),
        track(
            "rate_of_change",
            "rate_of_change(x)",
            &format!("How much x has changed since the key's last window, per second. {scored}"),
        ),
    ]
}

/// Maps SQL's types onto ours, in casts as in `CREATE SOURCE`.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        let field = |data_type: DataType| Arc::new(Field::new("", data_type, true));
        Ok(column_type(sql_type).ok().map(field))
    }
}

impl ContextProvider for Registry {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("expressions cannot read \"{name}\"")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars.get(&name.to_lowercase()).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.lambdas.get(&name.to_lowercase()).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates.get(&name.to_lowercase()).cloned()
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.scalars.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.lambdas.keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregates.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
