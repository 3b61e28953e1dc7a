//! One aggregate of a query, made ready to run.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::{Expr, col};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use squilla_query::AggregateCall;

use super::expression::{Planner, checked, plan_error, with_arrival};
use super::nth_value::NthSpec;
use crate::batch::EVENT_TIME;
use crate::error::EngineError;

/// Name of the column, behind the physical ones, that numbers rows in the order in which they arrived.
pub(super) const ARRIVAL: &str = "__arrival";

/// Functions whose DISTINCT is ours, where they have an accumulator for all groups.
const DISTINCT: [&str; 8] = ["count", "sum", "avg", "stddev", "stddev_pop", "var", "var_pop", "bit_xor"];

/// Functions that put values in a row, in the order that is asked for.
const LISTS: [&str; 2] = ["array_agg", "string_agg"];

/// An aggregate whose arguments are columns.
pub(super) struct Call {
    pub(super) function: Arc<AggregateFunctionExpr>,
    /// The columns of its arguments, those of its ORDER BY behind.
    pub(super) arguments: Vec<usize>,
    /// The column of its FILTER.
    pub(super) filter: Option<usize>,
    /// The types of its state columns.
    pub(super) states: Vec<DataType>,
    /// `Some`: computed by our own accumulator, since DataFusion's takes ordered input only.
    pub(super) nth_value: Option<NthSpec>,
    /// `Some`: the function without its DISTINCT, which our own accumulator feeds with each group's values once, and
    /// their type.
    pub(super) distinct: Option<(Arc<AggregateFunctionExpr>, DataType)>,
}

/// True for aggregates that pick a row by its place: `first_value`, `last_value`, `nth_value`. Without an ORDER BY
/// they go by event time; rows that are equal by it go by arrival.
pub(super) fn is_positional(expr: &Expr) -> bool {
    matches!(expr, Expr::AggregateFunction(AggregateFunction { func, .. })
        if matches!(func.name(), "first_value" | "last_value" | "nth_value"))
}

/// Plans one aggregate. The expressions that it needs are added to `columns`, unless they are there already.
///
/// # Errors
/// [`EngineError::Plan`] when it cannot be computed.
pub(super) fn plan(
    planner: &Planner,
    call: &AggregateCall,
    columns: &mut Vec<Arc<dyn PhysicalExpr>>,
) -> Result<Call, EngineError> {
    let expr = with_arrival(call.expr.clone())?;
    let expr = if is_positional(&expr) { in_order(expr) } else { without_order(expr) };
    let lowered =
        LoweredAggregateBuilder::new(&expr, &planner.fields, &planner.schema, &planner.props, &planner.context)
            .with_name(call.name.clone())
            .build()
            .map_err(|error| plan_error(&error))?;
    let function = lowered.aggregate;
    let mut place = |expr: &Arc<dyn PhysicalExpr>| -> Result<usize, EngineError> {
        let expr = checked(Arc::clone(expr), &planner.schema).map_err(|error| plan_error(&error))?;
        let known = if is_volatile(&expr) { None } else { columns.iter().position(|known| known.eq(&expr)) };
        Ok(known.unwrap_or_else(|| {
            columns.push(expr);
            columns.len() - 1
        }))
    };
    let mut arguments: Vec<usize> = function.expressions().iter().map(&mut place).collect::<Result<_, _>>()?;
    for by in function.order_bys() {
        arguments.push(place(&by.expr)?);
    }
    let filter = lowered.filter.as_ref().map(&mut place).transpose()?;
    let distinct = without_distinct(planner, &expr, &call.name)?;
    let states = match &distinct {
        Some((_, value)) => vec![DataType::new_list(value.clone(), true)],
        None => {
            let fields = function.state_fields().map_err(|error| plan_error(&error))?;
            fields.iter().map(|field| field.data_type().clone()).collect()
        }
    };
    let nth_value = (function.fun().name() == "nth_value").then(|| NthSpec::new(&function)).transpose()?;
    let call = Call { function, arguments, filter, states, nth_value, distinct };
    // What an accumulator refuses (a delimiter that is not a literal, say) is refused now, not with the first row.
    if call.nth_value.is_none() && call.distinct.is_none() && !call.is_grouped() {
        call.function.create_accumulator().map_err(|error| plan_error(&error))?;
    }
    Ok(call)
}

impl Call {
    /// Whether one accumulator serves all groups. That of `bit_xor` overlooks DISTINCT.
    pub(super) fn is_grouped(&self) -> bool {
        let overlooks_distinct = self.function.fun().name() == "bit_xor" && self.function.is_distinct();
        self.function.groups_accumulator_supported() && !overlooks_distinct
    }
}

/// The function of a call with DISTINCT, without it: of those that ignore nulls and the order of rows.
fn without_distinct(
    planner: &Planner,
    expr: &Expr,
    name: &str,
) -> Result<Option<(Arc<AggregateFunctionExpr>, DataType)>, EngineError> {
    let Expr::AggregateFunction(call) = expr else { return Ok(None) };
    if !call.params.distinct || call.params.args.len() != 1 || !DISTINCT.contains(&call.func.name()) {
        return Ok(None);
    }
    let mut call = call.clone();
    (call.params.distinct, call.params.filter, call.params.order_by) = (false, None, Vec::new());
    let expr = Expr::AggregateFunction(call);
    let lowered =
        LoweredAggregateBuilder::new(&expr, &planner.fields, &planner.schema, &planner.props, &planner.context)
            .with_name(name.to_owned())
            .build()
            .map_err(|error| plan_error(&error))?;
    let function = lowered.aggregate;
    let value = function.expressions()[0].data_type(&planner.schema).map_err(|error| plan_error(&error))?;
    Ok(function.groups_accumulator_supported().then_some((function, value)))
}

fn is_volatile(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.is_volatile_node() || expr.children().into_iter().any(is_volatile)
}

/// The call without an ORDER BY that changes nothing of its result: its accumulator takes the values alone.
fn without_order(expr: Expr) -> Expr {
    match expr {
        Expr::AggregateFunction(mut call) => {
            let is_list = LISTS.contains(&call.func.name());
            if !is_list && !call.func.supports_within_group_clause() {
                call.params.order_by.clear();
            }
            Expr::AggregateFunction(call)
        }
        other => other,
    }
}

fn in_order(expr: Expr) -> Expr {
    match expr {
        Expr::AggregateFunction(mut call) => {
            if call.params.order_by.is_empty() {
                call.params.order_by.push(col(EVENT_TIME).sort(true, false));
            }
            call.params.order_by.push(col(ARRIVAL).sort(true, false));
            Expr::AggregateFunction(call)
        }
        other => other,
    }
}
