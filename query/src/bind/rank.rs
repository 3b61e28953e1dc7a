//! Ranks, within windows or over all time: `ROW_NUMBER() OVER (…)` and `QUALIFY`.
//!
//! What a ranking reads beside the `SELECT` list is computed with it in columns of its own ([`Hidden`]), which a last
//! projection leaves out.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::{Expr, SortExpr};
use datafusion_sql::sqlparser::ast::{self, Spanned, VisitMut, VisitorMut};

use super::check::function_name;
use super::expr::Scope;
use super::group::Grouping;
use super::names::expand_aliases;
use super::select::{Item, filter};
use super::{Binder, Bound, WindowColumn, Windowed, column_of};
use crate::diagnostic::{Diagnostic, Span};
use crate::parse::unsupported;
use crate::plan::{NamedExpr, Plan, RankFunction, RankSpec, RankTime};
use crate::{WINDOW_END, WINDOW_START};

/// Name of the number when nobody has named it.
const RANK: &str = "__rank";

/// The columns of a `SELECT` list, and behind them those that only a ranking reads.
pub(super) struct Hidden {
    exprs: Vec<NamedExpr>,
    shown: usize,
    /// Names of the result that are not among them: the number's.
    taken: Vec<String>,
}

/// A ranking over the columns of a [`Hidden`].
pub(super) struct Ranking {
    pub(super) spec: RankSpec,
    pub(super) at: Option<Span>,
}

/// The rows' windows and the names, in the rows, of the columns that tell them.
pub(super) struct Bounds {
    start: String,
    end: String,
    window: Option<Windowed>,
}

/// The call of a ranking function that an expression is.
pub(super) fn over(syntax: &ast::Expr) -> Option<&ast::Function> {
    match syntax {
        ast::Expr::Nested(inner) => over(inner),
        ast::Expr::Function(function) if function.over.is_some() => rank_function(function).map(|_| function),
        _ => None,
    }
}

fn rank_function(function: &ast::Function) -> Option<RankFunction> {
    match function_name(function).as_str() {
        "row_number" => Some(RankFunction::RowNumber),
        "rank" => Some(RankFunction::Rank),
        "dense_rank" => Some(RankFunction::DenseRank),
        _ => None,
    }
}

/// What is told of a function with OVER, or one that needs it, where no rank can be taken.
pub(super) fn refused_over(name: &str, at: Option<Span>) -> Diagnostic {
    match name {
        "row_number" | "rank" | "dense_rank" => {
            let name = name.to_uppercase();
            let message = format!("{name}() OVER (…) stands by itself in the SELECT list, or in QUALIFY");
            let help = format!(
                "SELECT *, {name}() OVER (PARTITION BY window_start, window_end ORDER BY price DESC) AS rn, and \
                 WHERE rn <= 3 in a query around it"
            );
            unsupported(message, at).help(help)
        }
        name if super::track_call::is_function(name) => super::track::misplaced(name, at),
        _ => unsupported(format!("{name}(…) OVER (…) is not available"), at)
            .help("GROUP BY k, tumble('10s') aggregates windows of rows; of OVER functions there are ROW_NUMBER, RANK and DENSE_RANK"),
    }
}

impl Binder<'_> {
    /// The ranking that the `SELECT` list or QUALIFY asks for; `Err` when it has been refused.
    pub(super) fn ranking(
        &mut self,
        select: &ast::Select,
        items: &[Item],
        scope: &Scope,
        grouping: &Grouping,
        bound: &Bound,
        hidden: &mut Hidden,
    ) -> Result<Option<Ranking>, ()> {
        let mut calls: Vec<&ast::Function> = items.iter().filter_map(|item| over(&item.syntax)).collect();
        let in_qualify = select.qualify.as_ref().map(over_calls).unwrap_or_default();
        calls.extend(&in_qualify);
        let Some(call) = calls.first() else {
            if let Some(qualify) = &select.qualify {
                let at = self.place(qualify);
                let mistake = Diagnostic::new("invalid", "QUALIFY is a condition on a rank, and there is none");
                self.tell(mistake.at(at).help("QUALIFY ROW_NUMBER() OVER (PARTITION BY … ORDER BY …) <= 3"));
                return Err(());
            }
            return Ok(None);
        };
        let at = self.place(*call);
        if calls.iter().any(|other| other.to_string() != call.to_string()) {
            self.refuse(
                "two different ranks in one query are not available",
                at,
                "rank the result of a sub-query again",
            );
            return Err(());
        }
        let mut named = items.iter().filter(|item| over(&item.syntax).is_some()).map(|item| item.name.clone());
        let column = named.next().unwrap_or_else(|| RANK.to_owned());
        if named.next().is_some() {
            self.refuse("the same rank twice is not available", at, "select it once");
            return Err(());
        }
        let spec = self.over_clause(call, items, scope, grouping, bound, hidden, at).ok_or(())?;
        Ok(Some(Ranking { spec: RankSpec { column: Some(column), ..spec }, at }))
    }

    #[expect(clippy::too_many_arguments, reason = "all that a SELECT has found out so far")]
    fn over_clause(
        &mut self,
        call: &ast::Function,
        items: &[Item],
        scope: &Scope,
        grouping: &Grouping,
        bound: &Bound,
        hidden: &mut Hidden,
        at: Option<Span>,
    ) -> Option<RankSpec> {
        let function = rank_function(call)?;
        let Some(ast::WindowType::WindowSpec(clause)) = &call.over else {
            self.refuse("a named WINDOW is not available", at, "write it out: OVER (PARTITION BY … ORDER BY …)");
            return None;
        };
        if clause.window_frame.is_some() || clause.window_name.is_some() {
            self.refuse("a frame does not go with a rank", at, "OVER (PARTITION BY … ORDER BY …)");
            return None;
        }
        if clause.order_by.is_empty() {
            let name = function_name(call).to_uppercase();
            let mistake = Diagnostic::new("invalid", format!("{name}() needs an order")).at(at);
            self.tell(mistake.help(format!("{name}() OVER (PARTITION BY … ORDER BY price DESC)")));
            return None;
        }
        let mut parts = Vec::with_capacity(clause.partition_by.len());
        let mut of_window = false;
        for syntax in &clause.partition_by {
            let name = self.extra(syntax, items, scope, grouping, hidden)?;
            if hidden.window_column(&name, bound).is_some() {
                of_window = true;
            } else {
                parts.push(column_of(&name));
            }
        }
        let mut order_by = Vec::with_capacity(clause.order_by.len());
        for order in &clause.order_by {
            let name = self.extra(&order.expr, items, scope, grouping, hidden)?;
            order_by.push(sort(&name, order));
        }
        let time = self.rank_time(bound, of_window, hidden, at)?;
        let time = hidden.by_time(time, &order_by, bound);
        Some(RankSpec { function, partition_by: parts, order_by, limit: None, column: None, ordered: false, time })
    }

    /// When rows are ranked: as their windows close.
    pub(super) fn rank_time(
        &mut self,
        bound: &Bound,
        of_window: bool,
        hidden: &mut Hidden,
        at: Option<Span>,
    ) -> Option<RankTime> {
        let Some(bounds) = bounds(bound) else {
            if bound.window.is_some() {
                self.refuse(
                    "a rank over rows whose window is not known is not available",
                    at,
                    "select window_start and window_end in the sub-query, and PARTITION BY them",
                );
                return None;
            }
            return Some(RankTime::Running { ttl_ns: self.ttl_ns(), by_time: false });
        };
        if !of_window {
            let mistake = unsupported("a rank over all windows at once would never be final", at);
            self.tell(mistake.help(format!(
                "rank within each window: OVER (PARTITION BY {}, {}, … ORDER BY …)",
                bounds.start, bounds.end
            )));
            return None;
        }
        Some(hidden.window_time(&bounds))
    }

    /// Where an expression beside the `SELECT` list is computed: the name of its column.
    pub(super) fn extra(
        &mut self,
        syntax: &ast::Expr,
        items: &[Item],
        scope: &Scope,
        grouping: &Grouping,
        hidden: &mut Hidden,
    ) -> Option<String> {
        let known = |name: &str| scope.schema.has_column_with_unqualified_name(name);
        let syntax = grouping.in_place(&expand_aliases(syntax, items, &known));
        let expr = self.expr(&syntax, scope)?;
        Some(hidden.add(expr))
    }

    /// Numbers the rows, whose columns are those of a [`Hidden`].
    pub(super) fn rank(&mut self, bound: Bound, ranking: Ranking) -> Option<Bound> {
        let Ranking { spec, at } = ranking;
        if let RankTime::Running { .. } = &spec.time {
            if let Some(place) = spec.place().filter(|place| bound.schema().field_with_name(place).is_ok()) {
                let message =
                    format!("\"{place}\", which numbers the rows of equal rank, is the name of another column");
                self.tell(
                    Diagnostic::new("invalid", message).at(at).help("name the rank otherwise: RANK() OVER (…) AS r"),
                );
                return None;
            }
            let schema = spec.running_schema(bound.schema());
            let plan = Plan::Rank { input: Arc::clone(&bound.plan), rank: Box::new(spec), schema };
            return self.grown(Bound { plan: Arc::new(plan), nodes: bound.nodes + 1, ..bound }, at);
        }
        let mut fields = bound.schema().fields().to_vec();
        if let Some(column) = &spec.column {
            fields.push(Arc::new(Field::new(column, DataType::Int64, false)));
        }
        // A ranked row happens at the end of its window: its own moment is a value like any other now.
        let window = bound.window.clone().map(|window| Windowed { grouped: true, ..window });
        let tells = |name: &String| match &window {
            Some(window) => window.columns.contains_key(name),
            None => [WINDOW_START, WINDOW_END, crate::WINDOW_TIME].contains(&name.as_str()),
        };
        let times = bound.times.iter().filter(|name| tells(name)).cloned().collect();
        let input = Arc::clone(&bound.plan);
        let plan = Plan::Rank { input, rank: Box::new(spec), schema: Arc::new(Schema::new(fields)) };
        self.grown(Bound { plan: Arc::new(plan), times, window, nodes: bound.nodes + 1, ..bound }, at)
    }

    /// `SELECT DISTINCT` without windows: each row the first time that it comes.
    pub(super) fn first_of_each(&mut self, bound: Bound, at: Option<Span>) -> Option<Bound> {
        let names = bound.schema().fields().iter().map(|field| column_of(field.name()));
        let spec = RankSpec {
            function: RankFunction::RowNumber,
            partition_by: names.collect(),
            order_by: Vec::new(),
            limit: Some(1),
            column: None,
            ordered: false,
            time: RankTime::Running { ttl_ns: self.ttl_ns(), by_time: true },
        };
        self.rank(bound, Ranking { spec, at })
    }

    /// QUALIFY: a condition on the ranked rows.
    pub(super) fn qualify(&mut self, bound: Bound, qualify: &ast::Expr, items: &[Item]) -> Option<Bound> {
        use std::ops::ControlFlow;
        struct Replace<'n>(&'n str);
        impl VisitorMut for Replace<'_> {
            type Break = ();
            fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
                if let Some(call) = over(expr) {
                    let mut ident = ast::Ident::with_quote('"', self.0);
                    ident.span = call.span();
                    *expr = ast::Expr::Identifier(ident);
                }
                ControlFlow::Continue(())
            }
        }
        let column = items.iter().find(|item| over(&item.syntax).is_some()).map_or(RANK, |item| item.name.as_str());
        let mut syntax = qualify.clone();
        let _ = VisitMut::visit(&mut syntax, &mut Replace(column));
        let scope = bound.scope("QUALIFY")?;
        let predicate = self.condition(&syntax, &scope)?;
        Some(filter(bound, predicate))
    }
}

impl Hidden {
    /// The `SELECT` list.
    pub(super) fn new(exprs: Vec<NamedExpr>, items: &[Item]) -> Self {
        Self { shown: exprs.len(), exprs, taken: items.iter().map(|item| item.name.clone()).collect() }
    }

    /// All columns.
    pub(super) fn exprs(&self) -> Vec<NamedExpr> {
        self.exprs.clone()
    }

    /// True when a column is only for the ranking.
    pub(super) fn any(&self) -> bool {
        self.exprs.len() > self.shown
    }

    /// True when a column added since there were `before` tells more than the window.
    pub(super) fn computes(&self, before: usize, bound: &Bound) -> bool {
        self.exprs[before..].iter().any(|item| self.window_column(&item.name, bound).is_none())
    }

    /// The name of the column of an expression, which is added when there is none yet.
    fn add(&mut self, expr: Expr) -> String {
        if let Some(known) = self.exprs.iter().find(|item| item.expr == expr) {
            return known.name.clone();
        }
        if let Expr::Column(column) = &expr
            && !self.exprs.iter().any(|item| item.name == column.name)
            && !self.taken.contains(&column.name)
        {
            let name = column.name.clone();
            self.exprs.push(NamedExpr { expr, name: name.clone() });
            return name;
        }
        let mut number = self.exprs.len();
        let taken = |name: &String| self.exprs.iter().any(|item| item.name == *name);
        let mut name = format!("__by_{number}");
        while taken(&name) {
            number += 1;
            name = format!("__by_{number}");
        }
        self.exprs.push(NamedExpr { expr, name: name.clone() });
        name
    }

    /// What a column tells of the window, if it is one of `bound`'s that do.
    pub(super) fn window_column(&self, name: &str, bound: &Bound) -> Option<WindowColumn> {
        let item = self.exprs.iter().find(|item| item.name == name)?;
        let Expr::Column(column) = &item.expr else { return None };
        match &bound.window {
            Some(window) => window.columns.get(&column.name).copied(),
            None if !bound.times.contains(&column.name) => None,
            None => match column.name.as_str() {
                WINDOW_START => Some(WindowColumn::Start),
                WINDOW_END => Some(WindowColumn::End),
                crate::WINDOW_TIME => Some(WindowColumn::Time),
                _ => None,
            },
        }
    }

    /// The same, with whether the order is that of event time.
    pub(super) fn by_time(&self, time: RankTime, order_by: &[SortExpr], bound: &Bound) -> RankTime {
        let RankTime::Running { ttl_ns, .. } = time else { return time };
        let is_time = |sort: &SortExpr| {
            let Expr::Column(column) = &sort.expr else { return false };
            let item = self.exprs.iter().find(|item| item.name == column.name);
            sort.asc
                && item.is_some_and(
                    |item| matches!(&item.expr, Expr::Column(column) if bound.times.contains(&column.name)),
                )
        };
        RankTime::Running { ttl_ns, by_time: matches!(order_by, [only] if is_time(only)) }
    }

    /// Ranking by these windows.
    pub(super) fn window_time(&mut self, bounds: &Bounds) -> RankTime {
        let assigned = bounds.window.as_ref().filter(|window| !window.grouped).map(|window| window.spec);
        let (start, end) = (self.add(column_of(&bounds.start)), self.add(column_of(&bounds.end)));
        RankTime::Window { start, end, grace_ns: 0, assigned }
    }
}

/// The windows of rows, when columns still tell both their bounds.
pub(super) fn bounds(bound: &Bound) -> Option<Bounds> {
    match &bound.window {
        Some(window) => {
            let named = |wanted: WindowColumn| {
                let mut names: Vec<&String> =
                    window.columns.iter().filter(|(_, column)| **column == wanted).map(|(name, _)| name).collect();
                names.sort_unstable();
                names.first().map(|name| (*name).clone())
            };
            let (start, end) = (named(WindowColumn::Start)?, named(WindowColumn::End)?);
            Some(Bounds { start, end, window: Some(window.clone()) })
        }
        None => {
            let has = |name: &str| bound.times.iter().any(|time| time == name);
            (has(WINDOW_START) && has(WINDOW_END)).then(|| Bounds {
                start: WINDOW_START.to_owned(),
                end: WINDOW_END.to_owned(),
                window: None,
            })
        }
    }
}

pub(super) fn sort(name: &str, order: &ast::OrderByExpr) -> SortExpr {
    let asc = order.options.asc.unwrap_or(true);
    SortExpr::new(column_of(name), asc, order.options.nulls_first.unwrap_or(!asc))
}

/// Calls of ranking functions in a condition.
fn over_calls(syntax: &ast::Expr) -> Vec<&ast::Function> {
    match syntax {
        ast::Expr::Nested(inner) => over_calls(inner),
        ast::Expr::BinaryOp { left, right, .. } => {
            let mut calls = over_calls(left);
            calls.extend(over_calls(right));
            calls
        }
        ast::Expr::Between { expr, .. } | ast::Expr::InList { expr, .. } => over_calls(expr),
        other => over(other).into_iter().collect(),
    }
}
