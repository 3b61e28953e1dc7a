//! What of a query may change while it runs.

use std::sync::Arc;

use crate::plan::Plan;
use crate::statement::{Emit, Query};

impl Query {
    /// True when the other query differs in conditions on rows alone, none of which stands below anything that keeps
    /// state, and asks for the same piece of history and as many rows: whoever reads this one can go on with the other at
    /// any position. Not of results that change or are told while they do: rows that no longer fit would have to be taken
    /// back.
    pub fn differs_in_filters_alone(&self, other: &Self) -> bool {
        let told_once = self.emit == Emit::OnWindowClose && other.emit == Emit::OnWindowClose;
        let same_piece = self.since == other.since && self.until == other.until && self.limit == other.limit;
        told_once && same_piece && !self.plan.is_changing() && same_but_filters(&self.plan, &other.plan)
    }
}

fn same_but_filters(left: &Plan, right: &Plan) -> bool {
    let (left, right) = (without_filters(left), without_filters(right));
    let below = |left: &Arc<Plan>, right: &Arc<Plan>| same_but_filters(left, right);
    match (left, right) {
        (
            Plan::Project { input, exprs, schema },
            Plan::Project { input: other_input, exprs: other_exprs, schema: other_schema },
        ) => exprs == other_exprs && schema == other_schema && below(input, other_input),
        (
            Plan::AssignWindow { input, window, schema },
            Plan::AssignWindow { input: other_input, window: other_window, schema: other_schema },
        ) => window == other_window && schema == other_schema && below(input, other_input),
        (Plan::Sample { input, sample }, Plan::Sample { input: other_input, sample: other_sample }) => {
            sample == other_sample && below(input, other_input)
        }
        (Plan::Union { inputs, schema }, Plan::Union { inputs: others, schema: other_schema }) => {
            let pairs = inputs.iter().zip(others);
            inputs.len() == others.len()
                && schema == other_schema
                && pairs.fold(true, |same, (a, b)| same && below(a, b))
        }
        _ => left == right,
    }
}

fn without_filters(plan: &Plan) -> &Plan {
    match plan {
        Plan::Filter { input, .. } => without_filters(input),
        other => other,
    }
}
