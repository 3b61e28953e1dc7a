//! Conditions go down to where rows come from, so that they are judged once and early.

use std::sync::Arc;

use datafusion_expr::Expr;
use datafusion_expr::utils::{conjunction, split_conjunction_owned};

use super::project::{by_name, inline, may_inline};
use super::with_inputs;
use crate::bind::columns;
use crate::plan::{JoinKind, JoinTime, Plan};
use crate::{WINDOW_END, WINDOW_START, WINDOW_TIME};

/// Moves filters below projections, assignments of windows, unions, and joins where no row that comes with nulls can
/// be lost by it. They stop at aggregates: what stands in HAVING
/// is judged on groups, so that queries with other conditions can share the groups.
pub(super) fn push_down(plan: &Arc<Plan>) -> Arc<Plan> {
    push(plan, Vec::new())
}

fn push(plan: &Arc<Plan>, mut conditions: Vec<Expr>) -> Arc<Plan> {
    match plan.as_ref() {
        Plan::Filter { input, predicate } => {
            let mut all = split_conjunction_owned(predicate.clone());
            all.append(&mut conditions);
            push(input, all)
        }
        Plan::Project { input, exprs, .. } => {
            let (below, above): (Vec<_>, Vec<_>) =
                conditions.into_iter().partition(|condition| may_inline(std::slice::from_ref(condition), exprs));
            let by_name = by_name(exprs);
            let below: Vec<Expr> = below.into_iter().map(|condition| inline(condition, &by_name)).collect();
            keep(with_inputs(plan, &mut |_| push(input, below.clone())), above)
        }
        Plan::AssignWindow { input, .. } => {
            let of_window = |name: &String| [WINDOW_START, WINDOW_END, WINDOW_TIME].contains(&name.as_str());
            let (above, below): (Vec<_>, Vec<_>) =
                conditions.into_iter().partition(|condition| columns(condition).iter().any(of_window));
            keep(with_inputs(plan, &mut |_| push(input, below.clone())), above)
        }
        Plan::ByArrival { .. } => Arc::new(with_inputs(plan, &mut |input| push(input, conditions.clone()))),
        // What is kept of keys does not depend on conditions; places are those in the stream itself.
        Plan::Sample { sample, .. } if !sample.keys.is_empty() => {
            Arc::new(with_inputs(plan, &mut |input| push(input, conditions.clone())))
        }
        Plan::Sample { .. } => keep(with_inputs(plan, &mut |input| push(input, Vec::new())), conditions),
        Plan::Unnest { input, .. } => {
            let kept = input.schema().fields().len() - 1;
            let known = |name: &String| input.schema().fields().iter().take(kept).any(|field| field.name() == name);
            let (below, above): (Vec<_>, Vec<_>) =
                conditions.into_iter().partition(|condition| columns(condition).iter().all(known));
            keep(with_inputs(plan, &mut |_| push(input, below.clone())), above)
        }
        Plan::Union { .. } => Arc::new(with_inputs(plan, &mut |input| push(input, conditions.clone()))),
        Plan::Join { left, right, join, .. } => {
            let (mut of_left, mut of_right, mut above) = (Vec::new(), Vec::new(), Vec::new());
            let is_table = matches!(join.time, JoinTime::Table { .. });
            for condition in conditions {
                let only = |side: &Arc<Plan>| {
                    let names = columns(&condition);
                    !names.is_empty() && names.iter().all(|name| side.schema().field_with_name(name).is_ok())
                };
                match join.kind {
                    JoinKind::Inner | JoinKind::Left | JoinKind::Semi | JoinKind::Anti if only(left) => {
                        of_left.push(condition);
                    }
                    // A row of a table that meets a condition no longer takes the place of one that met it.
                    JoinKind::Inner | JoinKind::Right if only(right) && !is_table => of_right.push(condition),
                    _ => above.push(condition),
                }
            }
            let mut sides = [of_left, of_right].into_iter();
            keep(with_inputs(plan, &mut |input| push(input, sides.next().unwrap_or_default())), above)
        }
        Plan::Aggregate { .. }
        | Plan::AggregateRunning { .. }
        | Plan::Gather { .. }
        | Plan::Fill { .. }
        | Plan::Track { .. }
        | Plan::Rank { .. }
        | Plan::Scan { .. } => keep(with_inputs(plan, &mut |input| push(input, Vec::new())), conditions),
    }
}

fn keep(plan: Plan, conditions: Vec<Expr>) -> Arc<Plan> {
    let plan = Arc::new(plan);
    match conjunction(conditions) {
        Some(predicate) => Arc::new(Plan::Filter { input: plan, predicate }),
        None => plan,
    }
}
