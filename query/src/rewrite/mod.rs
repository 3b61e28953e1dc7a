//! Plans, made smaller: conditions go down, projections merge, unread columns go, constants are folded.
//!
//! Rewrites change no result. A constant that fails to compute (`1/0`) stays in the plan: it fails row by row, as
//! any other expression, and not the whole statement.

mod filter;
mod project;
mod prune;
mod simplify;

use std::sync::Arc;

use crate::plan::Plan;

pub(crate) use simplify::simplify;

/// The plan, rewritten.
pub(crate) fn rewrite(plan: Arc<Plan>) -> Plan {
    let plan = project::merge(&plan);
    let plan = filter::push_down(&plan);
    let plan = project::merge(&plan);
    let all = plan.schema().fields().iter().map(|field| field.name().clone()).collect();
    let plan = prune::prune(&plan, &all);
    let plan = project::merge(&plan);
    simplify::fold(&plan).as_ref().clone()
}

/// The node with other inputs.
fn with_inputs(plan: &Plan, replace: &mut dyn FnMut(&Arc<Plan>) -> Arc<Plan>) -> Plan {
    let mut plan = plan.clone();
    match &mut plan {
        Plan::Scan { .. } => {}
        Plan::Union { inputs, .. } => inputs.iter_mut().for_each(|input| *input = replace(input)),
        Plan::Filter { input, .. }
        | Plan::Project { input, .. }
        | Plan::AssignWindow { input, .. }
        | Plan::ByArrival { input }
        | Plan::Sample { input, .. }
        | Plan::Unnest { input, .. }
        | Plan::Track { input, .. }
        | Plan::Aggregate { input, .. }
        | Plan::Gather { input, .. }
        | Plan::AggregateRunning { input, .. }
        | Plan::Fill { input, .. }
        | Plan::Rank { input, .. } => *input = replace(input),
        Plan::Join { left, right, .. } => {
            *left = replace(left);
            *right = replace(right);
        }
    }
    plan
}
