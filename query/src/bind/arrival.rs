//! Processing time: rows by their arrival.

use std::sync::Arc;

use super::group::Grouping;
use super::{Binder, Bound};
use crate::diagnostic::{Diagnostic, Span};
use crate::plan::Plan;

impl Binder<'_> {
    /// The rows in the windows of the short form, if there is one.
    pub(super) fn put_in_windows(&mut self, bound: Bound, grouping: &Grouping) -> Option<Bound> {
        let Some(spec) = grouping.short_form else { return Some(bound) };
        let by_arrival = grouping.by_arrival == Some(true);
        let bound = if by_arrival { self.by_arrival(bound, grouping.at)? } else { bound };
        self.assign(bound, spec, grouping.at)
    }

    /// The rows with their arrival as their event time, for windows over `PROCTIME()`.
    pub(super) fn by_arrival(&mut self, bound: Bound, at: Option<Span>) -> Option<Bound> {
        if !comes_as_it_comes(&bound.plan) || bound.window.is_some() {
            let message = format!("the rows of {} are results, which do not arrive from outside", bound.label);
            let mistake = Diagnostic::new("unsupported", message).at(at);
            self.tell(mistake.help(
                "windows of processing time are over sources, filtered and computed with as you like; windows over \
                 results go by their event time, window_time",
            ));
            return None;
        }
        let plan = Plan::ByArrival { input: Arc::clone(&bound.plan) };
        let bound = Bound { plan: Arc::new(plan), times: Vec::new(), replay: false, nodes: bound.nodes + 1, ..bound };
        self.grown(bound, at)
    }
}

/// Whether rows come from sources and named streams one by one.
fn comes_as_it_comes(plan: &Plan) -> bool {
    match plan {
        Plan::Scan { .. } => true,
        Plan::Filter { input, .. }
        | Plan::Project { input, .. }
        | Plan::Sample { input, .. }
        | Plan::Unnest { input, .. } => comes_as_it_comes(input),
        Plan::Union { inputs, .. } => inputs.iter().all(|input| comes_as_it_comes(input)),
        _ => false,
    }
}
