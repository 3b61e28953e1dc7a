//! GROUP BY over windows that the rows themselves make: sessions and windows by count.
//!
//! Such windows are not known when a row comes, so that nothing can be computed of a row and its window but groups.
//! Conditions beside the table function choose among the rows of windows that all rows have made: they go along to the
//! grouping, through projections as columns of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion_common::DFSchema;
use datafusion_expr::Expr;
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_sql::sqlparser::ast;

use super::check::function_name;
use super::expr::{columns, field, substitute};
use super::group::Group;
use super::select::filter;
use super::{Binder, Bound, WindowColumn, Windowed, column_of};
use crate::diagnostic::{Diagnostic, Span};
use crate::parse::{PARTITION_BY, unsupported};
use crate::plan::{GatherKind, GatherSpec, NamedExpr, Plan, WindowKind};
use crate::{WINDOW_END, WINDOW_START, WINDOW_TIME};

/// A plan without its windows.
struct Carried {
    plan: Arc<Plan>,
    /// What has windows of its own.
    partition_by: Vec<Expr>,
    /// Conditions on rows.
    conditions: Vec<Expr>,
    /// Conditions on windows, under the names of the groups' columns.
    moved: Vec<Expr>,
    windows: BTreeMap<String, WindowColumn>,
    /// Columns computed of window columns: gone.
    blocked: BTreeSet<String>,
}

impl<'a> Binder<'a> {
    /// The `PARTITION BY` of a window table function, and the arguments behind it.
    pub(super) fn partition_by<'s>(
        &mut self,
        name: &str,
        args: &'s [&'s ast::Expr],
        bound: &Bound,
        at: Option<Span>,
    ) -> Option<(Vec<Expr>, &'s [&'s ast::Expr])> {
        let Some((ast::Expr::Function(call), rest)) = args.split_first() else { return Some((Vec::new(), args)) };
        if function_name(call) != PARTITION_BY {
            return Some((Vec::new(), args));
        }
        if !["session", "count_window"].contains(&name) {
            let message =
                format!("{}(…) takes no PARTITION BY: its windows are the same for all rows", name.to_uppercase());
            self.tell(Diagnostic::new("invalid", message).at(at).help("name the columns in GROUP BY"));
            return None;
        }
        let ast::FunctionArguments::List(list) = &call.args else { return None };
        let mut exprs = Vec::new();
        let scope = bound.scope("PARTITION BY")?;
        for arg in &list.args {
            let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) = arg else { return None };
            let parts = match expr {
                ast::Expr::Tuple(parts) => parts.clone(),
                ast::Expr::Nested(inner) => vec![inner.as_ref().clone()],
                other => vec![other.clone()],
            };
            for part in parts {
                exprs.push(self.expr(&part, &scope)?);
            }
        }
        Some((exprs, rest))
    }

    /// Groups rows by windows that they make.
    pub(super) fn gather(
        &mut self,
        bound: Bound,
        window: &Windowed,
        keys: Vec<NamedExpr>,
        calls: Vec<(Expr, Option<String>)>,
        at: Option<Span>,
    ) -> Option<Group> {
        let carried = walk(&bound.plan, window.partition_by.as_deref().unwrap_or_default());
        let reads = |carried: &Carried, expr: &Expr| carried.reads_windows(expr);
        let exprs = || keys.iter().map(|key| &key.expr).chain(calls.iter().map(|(call, _)| call));
        let Some(carried) = carried.filter(|carried| !exprs().any(|expr| reads(carried, expr))) else {
            let message = "an expression over both a row and its window is not available here: the window is not known \
                           before its last row has come";
            self.refuse(message, at, "use the window's columns alone, or aggregate first and compute with the results");
            return None;
        };
        let partition_by = match &window.partition_by {
            None => keys.iter().map(|key| key.expr.clone()).collect(),
            Some(_) => carried.partition_by,
        };
        if let Some(missing) = partition_by.iter().find(|expr| !keys.iter().any(|key| key.expr == **expr)) {
            let name = crate::display::short_text(missing);
            let message = format!("GROUP BY must name what PARTITION BY does: {name}");
            self.tell(unsupported(message, at).help(format!("add it: GROUP BY window_start, window_end, {name}")));
            return None;
        }
        let kind = match window.spec.kind {
            WindowKind::Session { gap_ns } => GatherKind::Session { gap_ns, grace_ns: 0 },
            WindowKind::Count { rows, slide } => GatherKind::Count { rows, slide },
            _ => return None,
        };
        let condition = conjunction(carried.conditions);
        let make = |input, keys, aggregates, schema| {
            let gather = GatherSpec { kind, partition_by, filter: condition, keys, aggregates };
            Plan::Gather { input, gather: Box::new(gather), schema }
        };
        let aggregate = self.aggregate(&bound, carried.plan, keys, calls, at, make)?;
        let mut group = aggregate;
        group.window = window.columns.clone().into_iter().collect();
        group.bound = self.with_window_columns(group.bound, window.spec, None, at)?;
        for predicate in carried.moved {
            group.bound = filter(group.bound, predicate);
        }
        Some(group)
    }

    /// False, and told, when windows that rows make are left without a grouping.
    pub(super) fn check_gathered(&mut self, plan: &Plan) -> bool {
        if let Plan::AssignWindow { window, .. } = plan
            && window.is_made_by_rows()
        {
            let at = self.made_by_rows_at.or_else(|| self.text.end_span());
            let message = "a row's session, or window by count, is not known when the row comes";
            self.tell(
                unsupported(message, at)
                    .help("aggregate: GROUP BY window_start, window_end and the columns of PARTITION BY"),
            );
            return false;
        }
        plan.inputs().into_iter().all(|input| self.check_gathered(input))
    }
}

fn walk(plan: &Arc<Plan>, partition_by: &[Expr]) -> Option<Carried> {
    match plan.as_ref() {
        Plan::AssignWindow { input, .. } => {
            let windows = [
                (WINDOW_START.to_owned(), WindowColumn::Start),
                (WINDOW_END.to_owned(), WindowColumn::End),
                (WINDOW_TIME.to_owned(), WindowColumn::Time),
            ];
            Some(Carried {
                plan: Arc::clone(input),
                partition_by: partition_by.to_vec(),
                conditions: Vec::new(),
                moved: Vec::new(),
                windows: windows.into(),
                blocked: BTreeSet::new(),
            })
        }
        Plan::Filter { input, predicate } => walk(input, partition_by)?.filter(predicate),
        Plan::Project { input, exprs, schema } => walk(input, partition_by)?.project(exprs, schema),
        _ => None,
    }
}

impl Carried {
    fn reads_windows(&self, expr: &Expr) -> bool {
        columns(expr).iter().any(|name| self.windows.contains_key(name) || self.blocked.contains(name))
    }

    fn filter(mut self, predicate: &Expr) -> Option<Self> {
        for conjunct in split_conjunction_owned(predicate.clone()) {
            if !self.reads_windows(&conjunct) {
                self.conditions.push(conjunct);
                continue;
            }
            if !columns(&conjunct).iter().all(|name| self.windows.contains_key(name)) {
                return None;
            }
            let windows = &self.windows;
            self.moved.push(substitute(conjunct, &|name| {
                windows.get(name).map(|bounds| match bounds {
                    WindowColumn::Start => column_of(WINDOW_START),
                    WindowColumn::End => column_of(WINDOW_END),
                    WindowColumn::Time => column_of(WINDOW_TIME),
                })
            }));
        }
        Some(self)
    }

    fn project(mut self, exprs: &[NamedExpr], schema: &Schema) -> Option<Self> {
        let (mut windows, mut blocked) = (BTreeMap::new(), BTreeSet::new());
        let (mut kept, mut fields) = (Vec::new(), Vec::new());
        for (item, known) in exprs.iter().zip(schema.fields()) {
            if let Expr::Column(column) = &item.expr
                && let Some(bounds) = self.windows.get(&column.name)
            {
                windows.insert(item.name.clone(), *bounds);
            } else if self.reads_windows(&item.expr) {
                blocked.insert(item.name.clone());
            } else {
                kept.push(item.clone());
                fields.push(Arc::clone(known));
            }
        }
        let scope = DFSchema::try_from(self.plan.schema().as_ref().clone()).ok()?;
        for carried in self.partition_by.iter_mut().chain(&mut self.conditions) {
            if let Some(item) = kept.iter().find(|item| item.expr == *carried) {
                *carried = column_of(&item.name);
                continue;
            }
            let name = format!("__carried_{}", kept.len());
            fields.push(field(carried, &name, &scope).ok()?);
            let through = std::mem::replace(carried, column_of(&name));
            kept.push(NamedExpr { expr: through, name });
        }
        let schema = Arc::new(Schema::new(fields));
        let plan = Arc::new(Plan::Project { input: self.plan, exprs: kept, schema });
        Some(Self { plan, windows, blocked, ..self })
    }
}
