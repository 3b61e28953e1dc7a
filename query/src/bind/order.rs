//! What stands behind a query: `ORDER BY`, `LIMIT` and `FETCH` within windows; and `DISTINCT ON`, which goes by it.

use datafusion_sql::sqlparser::ast;

use super::expr::Scope;
use super::group::Grouping;
use super::rank::{Hidden, Ranking, bounds, sort};
use super::select::Item;
use super::{Binder, Bound, column_of};
use crate::diagnostic::{Diagnostic, Span};
use crate::parse::{fold, unsupported};
use crate::plan::{RankFunction, RankSpec};

/// `ORDER BY` and `LIMIT` behind a query.
pub(super) struct Tail {
    order: Vec<ast::OrderByExpr>,
    limit: Option<u64>,
    /// `WITH TIES`.
    ties: bool,
    order_at: Option<Span>,
    limit_at: Option<Span>,
}

impl Tail {
    /// What is ordered by.
    pub(super) fn exprs(&self) -> impl Iterator<Item = &ast::Expr> {
        self.order.iter().map(|order| &order.expr)
    }

    /// Whether it leaves no row.
    pub(super) fn is_empty(&self) -> bool {
        self.limit == Some(0)
    }
}

impl Binder<'_> {
    /// Reads what stands behind a query's body.
    ///
    /// What limits a whole query without order is no part of it, see [`crate::parse::LimitSyntax`].
    pub(super) fn tail(&mut self, query: &ast::Query) -> Option<Tail> {
        let mut tail = Tail { order: Vec::new(), limit: None, ties: false, order_at: None, limit_at: None };
        if let Some(order_by) = &query.order_by {
            tail.order_at = self.place(order_by);
            match &order_by.kind {
                ast::OrderByKind::Expressions(exprs) => tail.order.clone_from(exprs),
                ast::OrderByKind::All(_) => {
                    self.refuse("ORDER BY ALL is not available", tail.order_at, "name the columns");
                }
            }
        }
        match &query.limit_clause {
            Some(ast::LimitClause::LimitOffset { limit, offset: None, limit_by }) if limit_by.is_empty() => {
                tail.limit_at = query.limit_clause.as_ref().and_then(|clause| self.place(clause));
                tail.limit = limit.as_ref().and_then(|count| self.count(count));
            }
            Some(clause) => {
                let by = matches!(clause, ast::LimitClause::LimitOffset { limit_by, .. } if !limit_by.is_empty());
                let at = self.place(clause);
                self.refuse(
                    if by { "LIMIT … BY is not available" } else { "OFFSET is not available: LIMIT takes the first rows" },
                    at,
                    "ROW_NUMBER() OVER (…) AS rn with a condition on rn chooses among the ranks; SINCE says with which row \
                     a query begins",
                );
            }
            None => {}
        }
        if let Some(fetch) = &query.fetch {
            tail.limit_at = fetch.quantity.as_ref().and_then(|quantity| self.place(quantity));
            tail.limit_at = tail.limit_at.or_else(|| self.text.end_span());
            tail.ties = fetch.with_ties;
            tail.limit = match &fetch.quantity {
                _ if fetch.percent => {
                    self.refuse("FETCH by percent is not available", tail.limit_at, "write FETCH FIRST 10 ROWS ONLY");
                    None
                }
                Some(count) => self.count(count),
                None => Some(1),
            };
        }
        (query.order_by.is_some() || tail.limit.is_some()).then_some(tail)
    }

    fn count(&mut self, syntax: &ast::Expr) -> Option<u64> {
        if let ast::Expr::Value(value) = syntax
            && let ast::Value::Number(number, _) = &value.value
            && let Ok(count) = number.parse::<u64>()
        {
            return Some(count);
        }
        let at = self.place(syntax).or_else(|| self.text.end_span());
        self.tell(Diagnostic::new("invalid", "LIMIT takes a whole number").at(at).help("LIMIT 10"));
        None
    }

    /// `ORDER BY` and `LIMIT` where there are no windows to order.
    pub(super) fn refuse_order(&mut self, tail: &Tail) {
        if tail.order_at.is_some() || !tail.order.is_empty() {
            self.refuse(
                "ORDER BY over a stream that does not end is not available: the first row would never be known",
                tail.order_at,
                "inside windows it is: GROUP BY …, tumble('10s') ORDER BY … LIMIT 10 orders each window; \
                 max(…), min(…) or first_value(… ORDER BY …) find its extremes",
            );
        } else if tail.ties {
            self.refuse(
                "WITH TIES needs the order in which rows are tied",
                tail.limit_at,
                "leave it out, or order each window: GROUP BY …, tumble('10s') ORDER BY n DESC FETCH FIRST 10 ROWS WITH TIES",
            );
        } else {
            self.refuse(
                "LIMIT stands at the end of the whole query: it ends what its reader gets",
                tail.limit_at,
                "write SELECT … FROM (…) LIMIT 10; ORDER BY … LIMIT 10 takes the first ones of each window, anywhere",
            );
        }
    }

    /// `ORDER BY … LIMIT` within windows: the ranking it stands for; `None` when the windows' own order is meant.
    pub(super) fn order(
        &mut self,
        tail: &Tail,
        items: &[Item],
        scope: &Scope,
        grouping: &Grouping,
        bound: &Bound,
        hidden: &mut Hidden,
    ) -> Result<Option<Ranking>, ()> {
        let Some(bounds) = bounds(bound) else {
            self.refuse_order(tail);
            return Err(());
        };
        if tail.order.is_empty() {
            self.refuse_order(tail);
            return Err(());
        }
        if tail.limit == Some(0) {
            let mistake = Diagnostic::new("invalid", "LIMIT takes at least one row of each window").at(tail.limit_at);
            self.tell(mistake.help("ORDER BY n DESC LIMIT 10"));
            return Err(());
        }
        let mut order_by = Vec::new();
        for order in &tail.order {
            let name = match self.output_column(&order.expr, items) {
                Some(name) => name,
                None => self.extra(&order.expr, items, scope, grouping, hidden).ok_or(())?,
            };
            if order_by.is_empty() && hidden.window_column(&name, bound).is_some() {
                if order.options.asc == Some(false) {
                    let at = self.place(&order.expr);
                    let mistake = unsupported("windows come in the order in which they close", at);
                    self.tell(mistake.help("order by other columns, within each window, or ascending"));
                    return Err(());
                }
                continue;
            }
            order_by.push(sort(&name, order));
        }
        if order_by.is_empty() {
            if tail.limit.is_none() {
                return Ok(None);
            }
            self.refuse(
                "LIMIT behind ORDER BY counts the rows of each window and needs their order",
                tail.limit_at,
                "write ORDER BY n DESC LIMIT 10; for the first rows of all leave ORDER BY out: windows come in order",
            );
            return Err(());
        }
        let function = if tail.ties { RankFunction::Rank } else { RankFunction::RowNumber };
        let (limit, time) = (tail.limit, hidden.window_time(&bounds));
        let spec = RankSpec { function, partition_by: Vec::new(), order_by, limit, column: None, ordered: true, time };
        Ok(Some(Ranking { spec, at: tail.order_at }))
    }

    /// The column of the result that ORDER BY names or numbers.
    fn output_column(&mut self, syntax: &ast::Expr, items: &[Item]) -> Option<String> {
        let item = match syntax {
            ast::Expr::Identifier(ident) => items.iter().find(|item| item.name == fold(ident)),
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Number(number, _) => {
                    number.parse::<usize>().ok().and_then(|number| items.get(number.checked_sub(1)?))
                }
                _ => None,
            },
            _ => None,
        };
        item.map(|item| item.name.clone())
    }

    /// `DISTINCT ON (…)`: the first row, by ORDER BY, of each part of each window.
    #[expect(clippy::too_many_arguments, reason = "all that a SELECT has found out so far")]
    pub(super) fn distinct_on(
        &mut self,
        on: &[ast::Expr],
        tail: Option<&Tail>,
        items: &[Item],
        scope: &Scope,
        grouping: &Grouping,
        bound: &Bound,
        hidden: &mut Hidden,
    ) -> Option<Ranking> {
        let at = on.iter().filter_map(|on| self.place(on)).next();
        let mut parts: Vec<String> = Vec::new();
        for syntax in on {
            let name = match self.output_column(syntax, items) {
                Some(name) => name,
                None => self.extra(syntax, items, scope, grouping, hidden)?,
            };
            parts.push(name);
        }
        let mut order_by = Vec::new();
        for order in tail.map(|tail| tail.order.as_slice()).unwrap_or_default() {
            let name = match self.output_column(&order.expr, items) {
                Some(name) => name,
                None => self.extra(&order.expr, items, scope, grouping, hidden)?,
            };
            if !parts.contains(&name) {
                order_by.push(sort(&name, order));
            }
        }
        if order_by.is_empty() {
            let mistake = Diagnostic::new("invalid", "DISTINCT ON keeps the first row by ORDER BY, which is missing");
            self.tell(mistake.at(at).help("SELECT DISTINCT ON (k) … ORDER BY k, ts DESC"));
            return None;
        }
        if let Some(limit_at) = tail.filter(|tail| tail.limit.is_some()).map(|tail| tail.limit_at) {
            self.refuse("LIMIT does not go with DISTINCT ON", limit_at, "limit the result of a sub-query");
            return None;
        }
        let of_window = bounds(bound).is_some();
        let time = self.rank_time(bound, of_window, hidden, at)?;
        let time = hidden.by_time(time, &order_by, bound);
        let partition_by = parts
            .iter()
            .filter(|name| hidden.window_column(name, bound).is_none())
            .map(|name| column_of(name))
            .collect();
        let function = RankFunction::RowNumber;
        let spec = RankSpec { function, partition_by, order_by, limit: Some(1), column: None, ordered: false, time };
        Some(Ranking { spec, at })
    }
}
