//! `TABLESAMPLE BERNOULLI (percent) [REPEATABLE (seed)] [BY (keys)]`, and what becomes of aggregates over a sample.
//!
//! Each row, or each key, is in the sample with probability p, by a hash of its place or of the key: a replay, and
//! every query with the same sample, has the same rows. Counts and sums over a sample are divided by p, which makes
//! them unbiased estimates (Horvitz and Thompson, 1952); means, spreads and quantiles need no change. Standard errors
//! are those of Bernoulli sampling in C.-E. Särndal, B. Swensson and J. Wretman, "Model Assisted Survey Sampling"
//! (1992), section 3.2: of a sum the root of (1 - p) Σx² / p², of a mean, linearised, the root of (1 - p) s² / n.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::{Expr, ExprSchemable, cast, lit};
use datafusion_functions::math::expr_fn::{round, sqrt};
use datafusion_functions_aggregate::{average::avg_udaf, count::count_udaf, stddev::stddev_pop_udaf, sum::sum_udaf};
use datafusion_sql::sqlparser::ast;

use super::expr::columns;
use super::{Binder, Bound};
use crate::diagnostic::{Diagnostic, Span};
use crate::display::short_text;
use crate::functions::error::is_standard_error;
use crate::functions::rate::WINDOW_SECONDS;
use crate::plan::{NamedExpr, Plan};
use crate::sample::SampleSpec;

/// The call that the parser finds around the percentage and the keys.
pub(crate) const SAMPLE_BY: &str = "__sample_by";
/// The seed unless it is said.
const SEED: u64 = 0;

/// Aggregates whose value over a sample estimates that over all.
const UNCHANGED: [&str; 20] = [
    "avg",
    "median",
    "approx_median",
    "approx_percentile_cont",
    "percentile_cont",
    "quantile_cont",
    "stddev",
    "stddev_pop",
    "var",
    "var_pop",
    "covar_samp",
    "covar_pop",
    "corr",
    "regr_slope",
    "regr_intercept",
    "regr_r2",
    "regr_avgx",
    "regr_avgy",
    "var_samp",
    "stddev_samp",
];

/// What the rows of a plan are a sample of.
enum Sampled<'p> {
    No,
    By(&'p SampleSpec),
    /// Of several inputs, not alike.
    Mixed,
}

impl Binder<'_> {
    /// The sample of a relation.
    pub(super) fn sample(&mut self, bound: Bound, sample: &ast::TableSample, at: Option<Span>) -> Option<Bound> {
        const HELP: &str = "write TABLESAMPLE BERNOULLI (1), of percent; BY (user_id) behind it keeps or drops each \
                            user as a whole, REPEATABLE (7) takes another sample";
        let form = matches!(sample.name, None | Some(ast::TableSampleMethod::Bernoulli))
            && sample.bucket.is_none()
            && sample.offset.is_none();
        let Some(quantity) = sample.quantity.as_ref().filter(|quantity| form && quantity.unit.is_none_or_percent())
        else {
            self.refuse("this form of TABLESAMPLE is not available", at, HELP);
            return None;
        };
        let (percent, by) = match &quantity.value {
            ast::Expr::Function(call) if call.name.to_string() == SAMPLE_BY => {
                let ast::FunctionArguments::List(list) = &call.args else { return None };
                let mut args = list.args.iter().filter_map(|arg| match arg {
                    ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                    _ => None,
                });
                (args.next()?, args.collect())
            }
            other => (other.clone(), Vec::new()),
        };
        let percent = match &percent {
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Number(number, _) => number.parse::<f64>().ok(),
                _ => None,
            },
            _ => None,
        };
        let Some(percent) = percent.filter(|percent| *percent > 0.0 && *percent <= 100.0) else {
            let message = "a sample is of more than 0 and at most 100 percent";
            self.tell(Diagnostic::new("invalid", message).at(at).help(HELP));
            return None;
        };
        let seed = sample.seed.as_ref().map(|seed| seed.value.value.to_string().parse::<u64>());
        let Ok(seed) = seed.unwrap_or(Ok(SEED)) else {
            self.tell(Diagnostic::new("invalid", "the seed of a sample is a whole number").at(at).help(HELP));
            return None;
        };
        let scope = bound.scope("TABLESAMPLE")?;
        let keys = by.iter().map(|key| self.expr(key, &scope)).collect::<Option<Vec<_>>>()?;
        if keys.is_empty() && !is_scan(&bound.plan) {
            self.refuse(
                format!("rows of {} have no place of their own to sample by", bound.label),
                at,
                "sample a source or a named stream, or by a key: TABLESAMPLE BERNOULLI (1) BY (user_id)",
            );
            return None;
        }
        if percent == 100.0 {
            return Some(bound);
        }
        let sample = SampleSpec { fraction: percent / 100.0, seed, keys };
        let plan = Plan::Sample { input: Arc::clone(&bound.plan), sample: Box::new(sample) };
        self.grown(Bound { plan: Arc::new(plan), nodes: bound.nodes + 1, ..bound }, at)
    }

    /// Expressions over groups of a sample, with estimates in the place of counts and sums.
    pub(super) fn estimates(
        &mut self,
        bound: &Bound,
        mut exprs: Vec<NamedExpr>,
        mut having: Option<Expr>,
        at: Option<Span>,
    ) -> Option<(Vec<NamedExpr>, Option<Expr>)> {
        let scope = DFSchema::try_from(bound.schema().as_ref().clone()).ok()?;
        let per_second = |expr: &Expr| columns(expr).iter().any(|name| name == WINDOW_SECONDS);
        if bound.window.is_none() && exprs.iter().map(|item| &item.expr).chain(&having).any(per_second) {
            self.refuse("a rate is per second of a window, and there is none", at, "add tumble('10s') to GROUP BY");
            return None;
        }
        let sampled = sampled(&bound.plan);
        let all = || exprs.iter().map(|item| &item.expr).chain(&having);
        let counts = all().any(super::group::has_aggregate);
        if let (Sampled::Mixed, true) = (&sampled, counts) {
            self.refuse(
                "what is sampled in part cannot be aggregated: there is no one share to scale by",
                at,
                "sample all of it alike, or aggregate first",
            );
            return None;
        }
        let sample = match &sampled {
            Sampled::By(sample) => Some(*sample),
            _ => None,
        };
        let mut wrong = Vec::new();
        let mut one = |expr: Expr| estimate(expr, sample, &scope, &mut wrong);
        for item in &mut exprs {
            item.expr = one(item.expr.clone());
        }
        having = having.map(one);
        for (message, help) in &wrong {
            self.refuse(message.clone(), at, help);
        }
        wrong.is_empty().then_some((exprs, having))
    }
}

/// Whether a unit is percent, or left out.
trait Percent {
    fn is_none_or_percent(&self) -> bool;
}

impl Percent for Option<ast::TableSampleUnit> {
    fn is_none_or_percent(&self) -> bool {
        matches!(self, None | Some(ast::TableSampleUnit::Percent))
    }
}

fn sampled(plan: &Plan) -> Sampled<'_> {
    match plan {
        Plan::Scan { .. } | Plan::Aggregate { .. } | Plan::AggregateRunning { .. } | Plan::Gather { .. } => Sampled::No,
        Plan::Sample { input, sample } => match sampled(input) {
            Sampled::No => Sampled::By(sample),
            _ => Sampled::Mixed,
        },
        Plan::Filter { input, .. }
        | Plan::Project { input, .. }
        | Plan::AssignWindow { input, .. }
        | Plan::ByArrival { input } => sampled(input),
        other => {
            let inputs = other.inputs();
            let any = inputs.iter().any(|input| !matches!(sampled(input), Sampled::No));
            match (any, inputs.as_slice()) {
                (false, _) => Sampled::No,
                (true, [only]) if matches!(other, Plan::Unnest { .. }) => sampled(only),
                (true, _) => Sampled::Mixed,
            }
        }
    }
}

fn estimate(expr: Expr, sample: Option<&SampleSpec>, scope: &DFSchema, wrong: &mut Vec<(String, String)>) -> Expr {
    let estimated = expr.transform_down(|expr| {
        let replacement = match &expr {
            Expr::ScalarFunction(call) if is_standard_error(&call.func) => standard_error(&call.args, sample, wrong),
            Expr::AggregateFunction(call) => sample.and_then(|sample| scaled(call, sample, scope, wrong)),
            _ => return Ok(Transformed::no(expr)),
        };
        Ok(Transformed::new(replacement.unwrap_or(expr), true, TreeNodeRecursion::Jump))
    });
    estimated.expect("the closure does not fail").data
}

/// The estimate in the place of an aggregate; `None`: it stays as it is, or is wrong.
fn scaled(
    call: &AggregateFunction,
    sample: &SampleSpec,
    scope: &DFSchema,
    wrong: &mut Vec<(String, String)>,
) -> Option<Expr> {
    let whole = Expr::AggregateFunction(call.clone());
    let name = call.func.name();
    let of_keys = name == "count" && call.params.distinct && call.params.args == sample.keys;
    if ["count", "sum"].contains(&name) && !call.params.distinct || of_keys {
        let kind = whole.get_type(scope).ok()?;
        let estimate = cast(whole, DataType::Float64) / lit(sample.fraction);
        let estimate = if kind.is_integer() { round(vec![estimate]) } else { estimate };
        return Some(if kind == DataType::Float64 { estimate } else { cast(estimate, kind) });
    }
    if call.params.distinct || !UNCHANGED.contains(&name) {
        let message = format!("{} cannot be told from a sample", short_text(&whole));
        let help = "counts, sums, rates, means, spreads and quantiles can; with BY (key) count(DISTINCT key) too";
        wrong.push((message, help.to_owned()));
    }
    None
}

/// The standard error of an aggregate over a sample.
fn standard_error(args: &[Expr], sample: Option<&SampleSpec>, wrong: &mut Vec<(String, String)>) -> Option<Expr> {
    let mut refuse = |message: &str, help: &str| {
        wrong.push((message.to_owned(), help.to_owned()));
        None
    };
    let Some(sample) = sample else {
        return refuse(
            "standard_error is of a sample, and this is none",
            "write FROM name TABLESAMPLE BERNOULLI (1), or leave it out: the answer is exact",
        );
    };
    let [Expr::AggregateFunction(call)] = args else {
        return refuse(
            "standard_error takes one aggregate",
            "write standard_error(count(*)) or standard_error(sum(x))",
        );
    };
    let left_out = 1.0 - sample.fraction;
    let with = |func, args: Vec<Expr>| {
        let mut call = call.clone();
        (call.func, call.params.args) = (func, args);
        cast(Expr::AggregateFunction(call), DataType::Float64)
    };
    let of_keys = call.func.name() == "count" && call.params.distinct && call.params.args == sample.keys;
    if !of_keys && (!sample.keys.is_empty() || call.params.distinct) {
        return refuse(
            "the standard error of a sample by key needs each key's total",
            "sum by key in a sub-query, or sample rows: leave BY out",
        );
    }
    let argument = call.params.args.first().cloned().unwrap_or_else(|| lit(ScalarValue::Int64(Some(1))));
    let squares = || {
        let x = cast(argument.clone(), DataType::Float64);
        with(sum_udaf(), vec![x.clone() * x])
    };
    match call.func.name() {
        "count" => Some(sqrt(with(count_udaf(), call.params.args.clone()) * lit(left_out)) / lit(sample.fraction)),
        "sum" => Some(sqrt(squares() * lit(left_out)) / lit(sample.fraction)),
        name if name == avg_udaf().name() => {
            let spread = with(stddev_pop_udaf(), vec![cast(argument.clone(), DataType::Float64)]);
            Some(spread * lit(left_out.sqrt()) / sqrt(with(count_udaf(), vec![argument.clone()])))
        }
        _ => refuse("standard_error takes count, sum or avg", "write standard_error(sum(x))"),
    }
}

/// Rows as they stand in a log, perhaps with their arrival beside them.
fn is_scan(plan: &Plan) -> bool {
    match plan {
        Plan::Scan { .. } => true,
        Plan::Project { input, exprs, .. } => {
            let has_arrival = exprs.iter().any(|item| plan.is_arrival(&item.name));
            has_arrival && matches!(input.as_ref(), Plan::Scan { .. })
        }
        _ => false,
    }
}
