//! Functions over the windows of a key, one after the other: `robust_zscore(count(*), 30)`, `lag(n) OVER (…)`.
//!
//! A call is taken out of the `SELECT` list before that is bound: what it reads is computed in its place, and what stands
//! around it is computed behind, once the rows have been followed ([`Plan::Track`]).

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_sql::sqlparser::ast::{self, Spanned, Visit, VisitMut, Visitor, VisitorMut};

use super::check::function_name;
use super::group::Grouping;
use super::names::{MAX_EXPANDED_NODES, expand_aliases, nodes};
use super::order::Tail;
use super::rank::over;
use super::select::{Item, filter};
use super::track_call::{NAMES, argument, is_function};
use super::track_windows::{Grid, series};
use super::{Binder, Bound, column_of};
use crate::diagnostic::{Diagnostic, Span};
use crate::functions::{Called, Registry};
use crate::parse::fold;
use crate::plan::{NamedExpr, Plan};
use crate::track::{TrackCall, TrackSpec};

const HELP: &str = "write lag(n) OVER (PARTITION BY k ORDER BY window_end)";

/// What a `SELECT` computes behind the rows that it follows.
pub(super) struct Tracking {
    calls: Vec<Call>,
    /// Names of what is followed beside the calls: parts of the expressions around them.
    parts: Vec<ast::Expr>,
    /// The `SELECT` list, over the names of the followed rows.
    shown: Vec<(ast::Expr, String)>,
    qualify: Option<ast::Expr>,
    at: Option<Span>,
}

/// A call, and the columns that it reads.
struct Call {
    /// As it was written, to know it again.
    text: String,
    spec: TrackCall,
    /// Of its key, by name.
    keys: Vec<String>,
    /// Of its order, by name; `None`: that of windows.
    order: Option<String>,
    /// The keys are those of GROUP BY.
    implied: bool,
    at: Option<Span>,
}

/// Whether an expression calls one of the functions.
fn calls(syntax: &ast::Expr) -> bool {
    struct Find;
    impl Visitor for Find {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            if call(expr).is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    syntax.visit(&mut Find).is_break()
}

fn call(expr: &ast::Expr) -> Option<&ast::Function> {
    match expr {
        ast::Expr::Function(function) => {
            let name = function_name(function);
            // SQL's own functions have OVER; the others go by GROUP BY's keys without it.
            let meant = function.over.is_some() || !["lag", "lead"].contains(&name.as_str());
            (meant && is_function(&name)).then_some(function)
        }
        _ => None,
    }
}

impl Binder<'_> {
    /// Takes the calls out of a `SELECT` list and out of QUALIFY; what they read is put there. `Err`: it was refused.
    pub(super) fn tracking(
        &mut self,
        select: &ast::Select,
        tail: Option<&Tail>,
        items: &mut Vec<Item>,
        grouping: &Grouping,
        bound: &Bound,
    ) -> Result<Option<Tracking>, ()> {
        let listed = items.iter().find(|item| calls(&item.syntax)).map(|item| &item.syntax);
        let Some(first) = listed.or(select.qualify.as_ref().filter(|qualify| calls(qualify))) else {
            return Ok(None);
        };
        let at = self.place(first);
        if items.iter().any(|item| over(&item.syntax).is_some()) || select.distinct.is_some() {
            let help = "follow the windows in a sub-query: FROM (SELECT …, lag(n) OVER (…) AS before FROM …)";
            self.refuse("ranks and DISTINCT do not go with functions over a key's windows", at, help);
            return Err(());
        }
        let scope = self.select_scope(bound, grouping.short_form.is_some(), "SELECT").ok_or(())?;
        let known = |name: &str| scope.schema.has_column_with_unqualified_name(name);
        let mut tracking = Tracking { calls: Vec::new(), parts: Vec::new(), shown: Vec::new(), qualify: None, at };
        let aliases: Vec<Item> = items
            .iter()
            .map(|item| Item {
                syntax: item.syntax.clone(),
                name: item.name.clone(),
                alias: item.alias && !calls(&item.syntax),
            })
            .collect();
        let (all, mut rest, mut good) = (std::mem::take(items), Vec::new(), true);
        for item in all {
            if !calls(&item.syntax) {
                tracking.shown.push((plain(&item.name, &item.syntax), item.name.clone()));
                items.push(item);
                continue;
            }
            let before = tracking.parts.len();
            let syntax = expand_aliases(&item.syntax, &aliases, &known);
            match self.cut(syntax, &mut tracking, grouping, &aliases, &|_| false) {
                Ok(outer) => tracking.shown.push((outer, item.name)),
                Err(()) => good = false,
            }
            // GROUP BY 2 still means the second.
            if tracking.parts.len() == before {
                tracking.parts.push(number());
            }
            items.push(hidden(before, tracking.parts[before].clone()));
            rest.extend((before + 1..tracking.parts.len()).map(|part| hidden(part, tracking.parts[part].clone())));
        }
        items.append(&mut rest);
        if let Some(qualify) = &select.qualify {
            let before = tracking.parts.len();
            let names: Vec<String> = tracking.shown.iter().map(|(_, name)| name.clone()).collect();
            let shown = |name: &str| names.iter().any(|shown| shown == name);
            let outer = self.cut(qualify.clone(), &mut tracking, grouping, &aliases, &shown)?;
            tracking.qualify = Some(outer);
            items.extend((before..tracking.parts.len()).map(|part| hidden(part, tracking.parts[part].clone())));
        }
        good &= !self.refuse_tracked(select, tail, &tracking);
        good.then_some(Some(tracking)).ok_or(())
    }

    /// The expression over followed rows; what must be there for it is added to the parts. `shown`: names to be left as
    /// they are.
    fn cut(
        &mut self,
        mut syntax: ast::Expr,
        tracking: &mut Tracking,
        grouping: &Grouping,
        items: &[Item],
        shown: &dyn Fn(&str) -> bool,
    ) -> Result<ast::Expr, ()> {
        struct Cut<'c> {
            take: &'c mut dyn FnMut(&ast::Expr) -> Option<ast::Expr>,
        }
        impl VisitorMut for Cut<'_> {
            type Break = ();
            fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
                if let Some(taken) = (self.take)(expr) {
                    *expr = taken;
                }
                ControlFlow::Continue(())
            }
        }
        let mut good = true;
        let mut take = |expr: &ast::Expr| -> Option<ast::Expr> {
            match expr {
                ast::Expr::Value(_) | ast::Expr::Interval(_) | ast::Expr::TypedString(_) => None,
                ast::Expr::UnaryOp { expr, .. } if matches!(**expr, ast::Expr::Value(_)) => None,
                ast::Expr::Identifier(ident) if made(ident) || shown(&fold(ident)) => None,
                _ if call(expr).is_some() => match self.take_call(call(expr)?, tracking, grouping, items) {
                    Some(column) => Some(plain(&column, expr)),
                    None => {
                        good = false;
                        None
                    }
                },
                // What is around a call, or around what a call has made.
                _ if calls(expr) || names(expr, shown) && !aggregates(expr) => None,
                _ => Some(plain(&part_name(tracking.part(expr)), expr)),
            }
        };
        let _ = VisitMut::visit(&mut syntax, &mut Cut { take: &mut take });
        if nodes(&syntax) > MAX_EXPANDED_NODES {
            self.tell(
                Diagnostic::new("limit", "the expression is too large")
                    .at(tracking.at)
                    .help("compute its parts in a sub-query, and combine them around it"),
            );
            return Err(());
        }
        good.then_some(syntax).ok_or(())
    }

    /// Notes a call; gives the name of its column.
    fn take_call(
        &mut self,
        function: &ast::Function,
        tracking: &mut Tracking,
        grouping: &Grouping,
        items: &[Item],
    ) -> Option<String> {
        let text = function.to_string();
        if let Some(known) = tracking.calls.iter().find(|call| call.text == text) {
            return Some(known.spec.column.clone());
        }
        let at = self.place(function);
        let track = self.track_function(function, at)?;
        let value = argument(function, 0).cloned()?;
        if calls(&value) {
            self.refuse("a function over windows stands inside another", at, "follow the inner one in a sub-query");
            return None;
        }
        let (keys, order, implied) = match &function.over {
            Some(ast::WindowType::WindowSpec(clause)) => {
                let [order] = clause.order_by.as_slice() else {
                    self.refuse("windows of a key go by their time, and by nothing else", at, HELP);
                    return None;
                };
                if clause.window_frame.is_some() || clause.window_name.is_some() || order.options.asc == Some(false) {
                    self.refuse("a frame, a name or a descending order does not go with these functions", at, HELP);
                    return None;
                }
                (clause.partition_by.clone(), Some(order.expr.clone()), false)
            }
            Some(ast::WindowType::NamedWindow(_)) => {
                self.refuse("a named WINDOW is not available", at, HELP);
                return None;
            }
            None if grouping.said && grouping.key_syntax(items).is_some() => (grouping.key_syntax(items)?, None, true),
            None => {
                let name = function_name(function);
                let help = format!("write {name}(…) OVER (PARTITION BY k ORDER BY window_end)");
                self.refuse(
                    format!("{name}(…) without OVER goes by the keys of GROUP BY, and there is none"),
                    at,
                    &help,
                );
                return None;
            }
        };
        let mut part = |syntax: &ast::Expr| {
            let syntax = in_list(syntax, items);
            part_name(tracking.part(&syntax))
        };
        let spec_argument = part(&value);
        let keys = keys.iter().map(&mut part).collect();
        let order = order.as_ref().map(part);
        let column = format!("__track_{}", tracking.calls.len());
        let spec = TrackCall { argument: spec_argument, column: column.clone(), function: track };
        tracking.calls.push(Call { text, spec, keys, order, implied, at });
        Some(column)
    }

    /// Follows the rows of a `SELECT`, and computes what stands around the calls.
    ///
    /// `ordered`: the rows of windows have been put in order.
    pub(super) fn track(&mut self, bound: Bound, tracking: Tracking, ordered: bool) -> Option<Bound> {
        let at = tracking.at;
        if ordered {
            let help = "order the rows of a query around it";
            self.refuse("ORDER BY and LIMIT do not go with functions over a key's windows", at, help);
            return None;
        }
        let Some(series) = series(&bound.plan, &|name| self.grid_of(name)) else {
            let help =
                "GROUP BY k, tumble('10s') in this query or in a sub-query of its FROM, or read a stream of windows";
            self.refuse(
                "lag and scores go over the windows of a key, and these rows are not results of windows",
                at,
                help,
            );
            return None;
        };
        let mut bound = bound;
        let mut calls = tracking.calls;
        while let Some(first) = calls.first() {
            let keys = self.key_columns(&bound, first, &series)?;
            let (these, others): (Vec<Call>, Vec<Call>) =
                calls.into_iter().partition(|call| self.key_columns(&bound, call, &series).as_ref() == Some(&keys));
            if these.is_empty() {
                return None;
            }
            calls = others;
            let mut fields = bound.schema().fields().to_vec();
            for call in &these {
                let (_, read) = bound.schema().column_with_name(&call.spec.argument)?;
                let read = read.data_type().clone();
                let kind = self.returns(call, &read)?;
                fields.push(Arc::new(Field::new(&call.spec.column, kind, true)));
            }
            let calls = these.into_iter().map(|call| call.spec).collect();
            let track = Box::new(TrackSpec { partition_by: keys, calls, ttl_ns: series.ttl_ns });
            let plan = Plan::Track { input: Arc::clone(&bound.plan), track, schema: Arc::new(Schema::new(fields)) };
            bound = self.grown(Bound { plan: Arc::new(plan), nodes: bound.nodes + 1, ..bound }, at)?;
        }
        let mut exprs = Vec::with_capacity(tracking.shown.len());
        let bound = Bound { qualifier: None, joined: None, ..bound };
        let scope = bound.scope("SELECT")?;
        for (syntax, name) in &tracking.shown {
            exprs.push(NamedExpr { expr: self.expr(syntax, &scope)?, name: name.clone() });
        }
        let bound = self.project_beside(bound, exprs, at)?;
        let bound = match &tracking.qualify {
            Some(qualify) => {
                let scope = bound.scope("QUALIFY")?;
                let predicate = self.condition(qualify, &scope)?;
                filter(bound, predicate)
            }
            None => bound,
        };
        let shown = tracking.shown.iter().map(|(_, name)| NamedExpr { expr: column_of(name), name: name.clone() });
        self.project(bound, shown.collect(), at)
    }

    /// The `SELECT` list, and behind it what QUALIFY may read beside it.
    fn project_beside(&mut self, bound: Bound, mut exprs: Vec<NamedExpr>, at: Option<Span>) -> Option<Bound> {
        for field in bound.schema().fields() {
            if field.name().starts_with("__track") && !exprs.iter().any(|item| item.name == *field.name()) {
                exprs.push(NamedExpr { expr: column_of(field.name()), name: field.name().clone() });
            }
        }
        self.project(bound, exprs, at)
    }

    /// The columns that make the keys of a call, less those that tell the window.
    fn key_columns(&mut self, bound: &Bound, call: &Call, series: &Grid) -> Option<Vec<String>> {
        let tells = |name: &String| {
            bound.times.contains(name) || bound.window.as_ref().is_some_and(|window| window.columns.contains_key(name))
        };
        if call.order.as_ref().is_some_and(|order| !tells(order)) {
            self.refuse("windows of a key go by their time, and by nothing else", call.at, HELP);
            return None;
        }
        if !call.implied && call.keys.iter().any(tells) {
            self.refuse("each window would be by itself: nothing comes before it", call.at, HELP);
            return None;
        }
        let keys: Vec<String> = call.keys.iter().filter(|key| !tells(key)).cloned().collect();
        let missing = series.keys.as_ref().and_then(|all| {
            all.iter().find(|group| !group.1.iter().any(|name| keys.contains(name))).map(|group| group.0.clone())
        });
        if let Some(missing) = missing {
            let message = format!("a window has several rows, which \"{missing}\" tells apart: they have no order");
            let help = format!("write OVER (PARTITION BY {missing} ORDER BY window_end), or group without it");
            self.refuse(message, call.at, &help);
            return None;
        }
        Some(keys)
    }

    /// The type of what a call gives of a column.
    fn returns(&mut self, call: &Call, kind: &DataType) -> Option<DataType> {
        if call.spec.function.is_of_numbers() && !kind.is_numeric() && !kind.is_null() {
            let message = format!("this is computed of numbers, not of a {}", crate::types::sql_name(kind));
            let mistake = Diagnostic::new("type_mismatch", message).at(call.at);
            self.tell(mistake.help("count(*), sum(x) or CAST(… AS DOUBLE) makes a number"));
            return None;
        }
        if kind.is_nested() {
            let message = format!("lag of a {} is not available", crate::types::sql_name(kind));
            self.refuse(message, call.at, "lag its fields or elements");
            return None;
        }
        Some(call.spec.function.returns(kind))
    }

    /// The windows of a named stream's rows: `Some(None)` when it is of windows that have no common length.
    fn grid_of(&self, relation: &str) -> Option<Option<i64>> {
        let relation = self.catalog.relation(relation)?;
        let windowed = relation.windows.is_some() || relation.time == crate::TimeAttribute::WindowTime;
        windowed.then(|| relation.windows.map(|windows| windows.spec.slide_ns()))
    }

    /// What is told where a clause names what is known only once rows have been followed.
    fn refuse_tracked(&mut self, select: &ast::Select, tail: Option<&Tail>, tracking: &Tracking) -> bool {
        struct Names<'n>(&'n [String]);
        impl Visitor for Names<'_> {
            type Break = ast::Ident;
            fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<ast::Ident> {
                match expr {
                    ast::Expr::Identifier(ident) if self.0.contains(&fold(ident)) => ControlFlow::Break(ident.clone()),
                    _ => ControlFlow::Continue(()),
                }
            }
        }
        let made = |(syntax, name): &(ast::Expr, String)| {
            (!matches!(syntax, ast::Expr::Identifier(ident) if fold(ident) == *name)).then(|| name.clone())
        };
        let names: Vec<String> = tracking.shown.iter().filter_map(made).collect();
        let find = |expr: &ast::Expr| expr.visit(&mut Names(&names)).break_value();
        if let Some(ident) = select.having.as_ref().and_then(find) {
            let (at, name) = (self.text.span(ident.span), fold(&ident));
            let help = format!("write QUALIFY {name} > 3, or WHERE {name} > 3 in a query around it");
            self.refuse(format!("\"{name}\" is known only behind HAVING"), at, &help);
            return true;
        }
        if let Some(ident) = tail.and_then(|tail| tail.exprs().find_map(find)) {
            let at = self.text.span(ident.span);
            let help = format!("write it in a query around it: SELECT * FROM (…) ORDER BY {}", fold(&ident));
            self.refuse("ORDER BY does not go with functions over a key's windows", at, &help);
            return true;
        }
        false
    }
}

impl Tracking {
    /// The number of a part, which is added when it is not there yet.
    fn part(&mut self, syntax: &ast::Expr) -> usize {
        let text = syntax.to_string();
        if let Some(known) = self.parts.iter().position(|part| part.to_string() == text) {
            return known;
        }
        self.parts.push(syntax.clone());
        self.parts.len() - 1
    }
}

fn part_name(number: usize) -> String {
    format!("__track_of_{number}")
}

/// A name that was made here.
fn made(ident: &ast::Ident) -> bool {
    ident.value.starts_with("__track")
}

fn hidden(part: usize, syntax: ast::Expr) -> Item {
    Item { syntax, name: part_name(part), alias: false }
}

fn number() -> ast::Expr {
    ast::Expr::Value(ast::Value::Number("1".to_owned(), false).into())
}

/// A name in the place of an expression.
fn plain(name: &str, at: &ast::Expr) -> ast::Expr {
    let mut ident = ast::Ident::with_quote('"', name);
    ident.span = at.span();
    ast::Expr::Identifier(ident)
}

/// The expression that a name or number of the `SELECT` list stands for.
fn in_list(syntax: &ast::Expr, items: &[Item]) -> ast::Expr {
    match syntax {
        ast::Expr::Identifier(ident) => {
            let item = items.iter().find(|item| item.alias && item.name == fold(ident) && !calls(&item.syntax));
            item.map_or_else(|| syntax.clone(), |item| item.syntax.clone())
        }
        _ => syntax.clone(),
    }
}

fn aggregates(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Function(function)
        if matches!(Registry::get().called(&function_name(function)), Called::Aggregate))
}

/// Whether one of these names stands in an expression.
fn names(expr: &ast::Expr, shown: &dyn Fn(&str) -> bool) -> bool {
    struct Names<'n>(&'n dyn Fn(&str) -> bool);
    impl Visitor for Names<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            match expr {
                ast::Expr::Identifier(ident) if (self.0)(&fold(ident)) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expr.visit(&mut Names(shown)).is_break()
}

/// What is told of one of the functions where it cannot stand.
pub(super) fn misplaced(name: &str, at: Option<Span>) -> Diagnostic {
    debug_assert!(NAMES.contains(&name), "{name} is one of them");
    crate::parse::unsupported(format!("{name}(…) stands in the SELECT list and in QUALIFY"), at).help(format!(
        "SELECT k, window_end, {name}(…) OVER (PARTITION BY k ORDER BY window_end) AS x, and QUALIFY x > 3, or WHERE x > 3 \
         in a query around it"
    ))
}
