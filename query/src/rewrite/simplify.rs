//! Constants are folded and conditions simplified by DataFusion.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion_expr::{Expr, ExprSchemable};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;

use super::with_inputs;
use crate::functions::Registry;
use crate::plan::{AggregateCall, JoinSpec, NamedExpr, Plan};

/// Simplifies all expressions of a plan; a filter that is always true goes.
pub(super) fn fold(plan: &Arc<Plan>) -> Arc<Plan> {
    let mut plan = with_inputs(plan, &mut fold);
    let Some(schema) = plan.inputs().first().map(|input| Arc::clone(input.schema())) else { return Arc::new(plan) };
    match &mut plan {
        Plan::Filter { input, predicate } => {
            *predicate = simplify(predicate.clone(), &schema);
            if matches!(predicate, Expr::Literal(ScalarValue::Boolean(Some(true)), _)) {
                return Arc::clone(input);
            }
        }
        Plan::Project { exprs, .. } => simplify_all(exprs, &schema),
        Plan::Aggregate { keys, aggregates, .. } | Plan::AggregateRunning { keys, aggregates, .. } => {
            simplify_all(keys, &schema);
            aggregates.iter_mut().for_each(|call| simplify_call(call, &schema));
        }
        Plan::Gather { gather, .. } => {
            for expr in gather.partition_by.iter_mut().chain(gather.filter.iter_mut()) {
                *expr = simplify(expr.clone(), &schema);
            }
            simplify_all(&mut gather.keys, &schema);
            gather.aggregates.iter_mut().for_each(|call| simplify_call(call, &schema));
        }
        Plan::Sample { sample, .. } => {
            sample.keys.iter_mut().for_each(|key| *key = simplify(key.clone(), &schema));
        }
        Plan::Join { left, right, join, .. } => simplify_join(join, left.schema(), right.schema()),
        Plan::Rank { rank, .. } => {
            rank.partition_by.iter_mut().for_each(|part| *part = simplify(part.clone(), &schema));
            rank.order_by.iter_mut().for_each(|sort| sort.expr = simplify(sort.expr.clone(), &schema));
        }
        Plan::Fill { .. }
        | Plan::Scan { .. }
        | Plan::Unnest { .. }
        | Plan::Track { .. }
        | Plan::AssignWindow { .. }
        | Plan::ByArrival { .. }
        | Plan::Union { .. } => {}
    }
    Arc::new(plan)
}

fn simplify_all(exprs: &mut [NamedExpr], schema: &Schema) {
    for item in exprs {
        item.expr = simplify(item.expr.clone(), schema);
    }
}

/// Keys are over one side each, the condition over both.
fn simplify_join(join: &mut JoinSpec, left: &Schema, right: &Schema) {
    for key in &mut join.on {
        key.left = simplify(key.left.clone(), left);
        key.right = simplify(key.right.clone(), right);
    }
    if let Some(filter) = &mut join.filter {
        let fields = left.fields().iter().chain(right.fields()).cloned().collect::<Vec<_>>();
        *filter = simplify(filter.clone(), &Schema::new(fields));
    }
}

/// An aggregate stays what it is; its arguments are simplified.
fn simplify_call(call: &mut AggregateCall, schema: &Schema) {
    let mapped = call.expr.clone().map_children(|child| Ok(Transformed::yes(simplify(child, schema))));
    if let Ok(mapped) = mapped {
        call.expr = mapped.data;
    }
}

/// The expression simplified, of the same type. When a constant in it fails or may grow large, it stays as it was, but
/// for the functions that cannot be evaluated as they are.
pub(crate) fn simplify(expr: Expr, schema: &Schema) -> Expr {
    let Ok(schema) = DFSchema::try_from(schema.clone()) else { return expr };
    let schema = Arc::new(schema);
    let context = SimplifyContext::builder().with_schema(Arc::clone(&schema)).build();
    let grows = |expr: &Expr| matches!(expr, Expr::ScalarFunction(call) if Registry::grows(call.name()));
    if expr.exists(|expr| Ok(grows(expr))).unwrap_or(true) {
        return lower(expr, &context);
    }
    let Ok(simplified) = ExprSimplifier::new(context.clone()).simplify(expr.clone()) else {
        return lower(expr, &context);
    };
    let same = expr.get_type(&schema).ok() == simplified.get_type(&schema).ok();
    if same { simplified } else { lower(expr, &context) }
}

/// Functions that DataFusion evaluates in another form only, which its simplifier gives them.
const LOWERED: [&str; 7] =
    ["coalesce", "nvl", "nvl2", "arrow_cast", "arrow_try_cast", "cast_to_type", "try_cast_to_type"];

/// The expression with those functions in the form that can be evaluated, and nothing else changed.
fn lower(expr: Expr, context: &SimplifyContext) -> Expr {
    let lowered = expr.clone().transform_up(|expr| match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) if LOWERED.contains(&func.name()) => {
            Ok(match func.simplify(args, context)? {
                ExprSimplifyResult::Simplified(simplified) => Transformed::yes(simplified),
                ExprSimplifyResult::Original(args) => {
                    Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))
                }
            })
        }
        other => Ok(Transformed::no(other)),
    });
    lowered.map_or(expr, |lowered| lowered.data)
}
