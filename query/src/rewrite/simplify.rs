//! Constants are folded and conditions simplified by DataFusion.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, ExprSchemable};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;

use super::with_inputs;
use crate::functions::Registry;
use crate::plan::{AggregateCall, NamedExpr, Plan};

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
        Plan::Fill { .. }
        | Plan::Scan { .. }
        | Plan::Unnest { .. }
        | Plan::Track { .. }
        | Plan::AssignWindow { .. }
        | Plan::ByArrival { .. }
        | Plan::Join { .. }
        | Plan::Rank { .. }
        | Plan::Union { .. } => {}
    }
    Arc::new(plan)
}

fn simplify_all(exprs: &mut [NamedExpr], schema: &Schema) {
    for item in exprs {
        item.expr = simplify(item.expr.clone(), schema);
    }
}

/// An aggregate stays what it is; its arguments are simplified.
fn simplify_call(call: &mut AggregateCall, schema: &Schema) {
    let mapped = call.expr.clone().map_children(|child| Ok(Transformed::yes(simplify(child, schema))));
    if let Ok(mapped) = mapped {
        call.expr = mapped.data;
    }
}

/// The expression simplified, of the same type; as it was when a constant in it fails or may grow large.
pub(crate) fn simplify(expr: Expr, schema: &Schema) -> Expr {
    let grows = |expr: &Expr| matches!(expr, Expr::ScalarFunction(call) if Registry::grows(call.name()));
    if expr.exists(|expr| Ok(grows(expr))).unwrap_or(true) {
        return expr;
    }
    let Ok(schema) = DFSchema::try_from(schema.clone()) else { return expr };
    let schema = Arc::new(schema);
    let context = SimplifyContext::builder().with_schema(Arc::clone(&schema)).build();
    let Ok(simplified) = ExprSimplifier::new(context).simplify(expr.clone()) else { return expr };
    let same = expr.get_type(&schema).ok() == simplified.get_type(&schema).ok();
    if same { simplified } else { expr }
}
