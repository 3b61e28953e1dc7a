//! Aggregates without windows: results that change, and what may be done with them.

use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema};
use datafusion_common::DFSchema;
use datafusion_expr::Expr;

use super::expr::field;
use super::group::Group;
use super::names::unique;
use super::{Binder, Bound};
use crate::diagnostic::{Diagnostic, Span};
use crate::display::short_text;
use crate::parse::unsupported;
use crate::plan::{AggregateCall, NamedExpr, Plan, RankTime};

/// Ranks that are kept of a result that changes: each change moves those behind it.
pub(super) const MAX_RUNNING_RANKS: u64 = 10_000;

impl Binder<'_> {
    /// Groups all rows that come, by keys alone.
    pub(super) fn running(
        &mut self,
        bound: &Bound,
        keys: &[NamedExpr],
        calls: Vec<(Expr, Option<String>)>,
        at: Option<Span>,
    ) -> Option<Group> {
        if bound.plan.is_changing() {
            self.tell(refused("an aggregate", at));
            return None;
        }
        let scope = DFSchema::try_from(bound.schema().as_ref().clone()).ok()?;
        let mut fields: Vec<FieldRef> = Vec::with_capacity(keys.len() + calls.len());
        let mut names = Vec::new();
        let mut named = Vec::with_capacity(keys.len());
        let mut aggregates = Vec::with_capacity(calls.len());
        let mut mistake = None;
        let mut add = |expr: &Expr, name: &str| match field(expr, name, &scope) {
            Ok(field) => fields.push(field),
            Err(message) => mistake = Some(Diagnostic::new("type_mismatch", message).at(at)),
        };
        for key in keys {
            let name = unique(&key.name, &mut names);
            add(&key.expr, &name);
            named.push(NamedExpr { expr: key.expr.clone(), name });
        }
        for (expr, name) in calls {
            let name = unique(&name.unwrap_or_else(|| short_text(&expr)), &mut names);
            add(&expr, &name);
            aggregates.push(AggregateCall { expr, name });
        }
        if let Some(mistake) = mistake {
            self.tell(mistake);
            return None;
        }
        let plan = Plan::AggregateRunning {
            input: Arc::clone(&bound.plan),
            keys: named.clone(),
            aggregates: aggregates.clone(),
            ttl_ns: self.ttl_ns(),
            schema: Arc::new(Schema::new(fields)),
        };
        let bound = Bound {
            plan: Arc::new(plan),
            qualifier: None,
            label: "the groups".into(),
            times: Vec::new(),
            window: None,
            joined: None,
            replay: bound.replay,
            nodes: bound.nodes + 1,
        };
        Some(Group { bound, keys: named, aggregates, window: Vec::new(), nulls: Vec::new() })
    }
}

/// What a plan does with a result that changes and cannot be done, if anything.
pub(super) fn misused(plan: &Plan, at: Option<Span>) -> Option<Diagnostic> {
    if let Plan::Rank { rank, .. } = plan
        && matches!(rank.time, RankTime::Running { .. })
    {
        match rank.limit {
            None => {
                let mistake = unsupported("a rank over a stream that does not end needs a limit", at);
                return Some(mistake.help("write WHERE rn <= 10 in a query around it, or QUALIFY"));
            }
            Some(limit) if limit == 0 || limit > MAX_RUNNING_RANKS => {
                let message = format!("{limit} ranks: without windows there are from 1 to {MAX_RUNNING_RANKS}");
                return Some(Diagnostic::new("limit", message).at(at).help(
                    "ask for fewer, or rank within windows: GROUP BY tumble('1m'), k ORDER BY n DESC LIMIT 5000",
                ));
            }
            Some(_) => {}
        }
    }
    let changing = || plan.inputs().iter().any(|input| input.is_changing());
    let what = match plan {
        Plan::AssignWindow { .. } | Plan::ByArrival { .. } | Plan::Gather { .. } => "a window",
        Plan::Aggregate { .. } | Plan::AggregateRunning { .. } => "an aggregate",
        Plan::Rank { .. } => "a rank",
        Plan::Join { .. } => "a join",
        Plan::Union { .. } => "UNION ALL",
        Plan::Unnest { .. } => "UNNEST",
        Plan::Sample { .. } => "TABLESAMPLE",
        Plan::Scan { .. } | Plan::Filter { .. } | Plan::Project { .. } | Plan::Fill { .. } => "",
        Plan::Track { .. } => "lag or a score",
    };
    if !what.is_empty() && changing() {
        return Some(refused(what, at));
    }
    plan.inputs().into_iter().find_map(|input| misused(input, at))
}

fn refused(what: &str, at: Option<Span>) -> Diagnostic {
    unsupported(format!("{what} over a result that changes is not available"), at)
        .note("an aggregate or a rank without windows tells each of its groups again and again")
        .help("give it windows: GROUP BY …, tumble('10s') tells each group of each window once")
}
