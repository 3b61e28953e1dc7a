//! Takes the assignment of windows out of a plan, for an aggregate that assigns them itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion_expr::Expr;
use datafusion_expr::utils::{conjunction, split_conjunction_owned};

use super::expr::{columns, substitute};
use super::{WindowColumn, column_of};
use crate::plan::Plan;
use crate::{WINDOW_END, WINDOW_START, WINDOW_TIME};

/// A plan without its windows.
pub(super) struct Stripped {
    /// The plan; every other column is as it was.
    pub(super) plan: Arc<Plan>,
    /// Conditions on window columns alone, to be put above the aggregate, under the columns' first names.
    pub(super) moved: Vec<Expr>,
    /// Columns that tell the window.
    windows: BTreeMap<String, WindowColumn>,
    /// Columns computed from window columns: gone.
    blocked: BTreeSet<String>,
}

/// The plan without the windows that are assigned in it, or `None` when something below `read` (the columns that the
/// aggregate reads) needs them row by row.
pub(super) fn strip(plan: &Arc<Plan>, read: &[String]) -> Option<Stripped> {
    let stripped = walk(plan)?;
    let needed = |name: &String| stripped.windows.contains_key(name) || stripped.blocked.contains(name);
    (!read.iter().any(needed)).then_some(stripped)
}

fn walk(plan: &Arc<Plan>) -> Option<Stripped> {
    match plan.as_ref() {
        Plan::AssignWindow { input, .. } => {
            let windows = [
                (WINDOW_START.to_owned(), WindowColumn::Start),
                (WINDOW_END.to_owned(), WindowColumn::End),
                (WINDOW_TIME.to_owned(), WindowColumn::Time),
            ];
            Some(Stripped {
                plan: Arc::clone(input),
                moved: Vec::new(),
                windows: windows.into(),
                blocked: BTreeSet::new(),
            })
        }
        Plan::Filter { input, predicate } => filter(walk(input)?, predicate),
        Plan::Project { input, exprs, schema } => {
            let below = walk(input)?;
            let mut windows = BTreeMap::new();
            let mut blocked = BTreeSet::new();
            let mut kept = Vec::new();
            let mut fields = Vec::new();
            for (item, field) in exprs.iter().zip(schema.fields()) {
                if let Expr::Column(column) = &item.expr
                    && let Some(bounds) = below.windows.get(&column.name)
                {
                    windows.insert(item.name.clone(), *bounds);
                } else if below.reads_windows(&item.expr) {
                    blocked.insert(item.name.clone());
                } else {
                    kept.push(item.clone());
                    fields.push(Arc::clone(field));
                }
            }
            let schema = Arc::new(Schema::new(fields));
            let plan = Arc::new(Plan::Project { input: below.plan, exprs: kept, schema });
            Some(Stripped { plan, moved: below.moved, windows, blocked })
        }
        Plan::Sample { input, sample } => {
            let below = walk(input)?;
            let blocked = sample.keys.iter().any(|key| below.reads_windows(key));
            let plan = Plan::Sample { input: Arc::clone(&below.plan), sample: sample.clone() };
            (!blocked).then(|| Stripped { plan: Arc::new(plan), ..below })
        }
        Plan::Unnest { input, outer, ordinality, schema } => {
            let list = input.schema().fields().len() - 1;
            let below = walk(input)?;
            // The list is computed from what goes with the windows, or not.
            if below.plan.schema().fields().last() != input.schema().fields().last() {
                return None;
            }
            let mut fields = below.plan.schema().fields().to_vec();
            fields.pop();
            fields.extend(schema.fields().iter().skip(list).cloned());
            let (schema, input) = (Arc::new(Schema::new(fields)), Arc::clone(&below.plan));
            let plan = Plan::Unnest { input, outer: *outer, ordinality: *ordinality, schema };
            Some(Stripped { plan: Arc::new(plan), ..below })
        }
        Plan::Scan { .. }
        | Plan::ByArrival { .. }
        | Plan::Aggregate { .. }
        | Plan::Gather { .. }
        | Plan::AggregateRunning { .. }
        | Plan::Fill { .. }
        | Plan::Join { .. }
        | Plan::Rank { .. }
        | Plan::Track { .. }
        | Plan::Union { .. } => None,
    }
}

impl Stripped {
    fn reads_windows(&self, expr: &Expr) -> bool {
        columns(expr).iter().any(|name| self.windows.contains_key(name) || self.blocked.contains(name))
    }
}

fn filter(mut below: Stripped, predicate: &Expr) -> Option<Stripped> {
    let mut kept = Vec::new();
    for conjunct in split_conjunction_owned(predicate.clone()) {
        if !below.reads_windows(&conjunct) {
            kept.push(conjunct);
        } else if columns(&conjunct).iter().all(|name| below.windows.contains_key(name)) {
            let windows = &below.windows;
            below.moved.push(substitute(conjunct, &|name| {
                windows.get(name).map(|bounds| match bounds {
                    WindowColumn::Start => column_of(WINDOW_START),
                    WindowColumn::End => column_of(WINDOW_END),
                    WindowColumn::Time => column_of(WINDOW_TIME),
                })
            }));
        } else {
            return None;
        }
    }
    if let Some(predicate) = conjunction(kept) {
        below.plan = Arc::new(Plan::Filter { input: below.plan, predicate });
    }
    Some(below)
}
