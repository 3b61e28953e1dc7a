//! `IN (SELECT …)` and `EXISTS (SELECT …)` in WHERE, with and without NOT: semi and anti joins.

use std::collections::HashSet;
use std::ops::ControlFlow;

use arrow::datatypes::Schema;
use datafusion_common::DFSchema;
use datafusion_expr::{Expr, ExprSchemable};
use datafusion_sql::sqlparser::ast::{self, Visit, Visitor};

use super::super::expr::Scope;
use super::super::select::filter;
use super::super::{Binder, Bound, Ctes};
use super::names::knows;
use super::{Joined, JoinedColumn};
use crate::diagnostic::{Diagnostic, Span};
use crate::plan::JoinKind;

/// A sub-query that stands as a condition of WHERE.
struct Condition<'s> {
    negated: bool,
    /// What stands before IN; empty with EXISTS.
    operands: Vec<&'s ast::Expr>,
    query: &'s ast::Query,
}

/// What a sub-query gives.
struct Inner {
    bound: Bound,
    /// Its columns, by their fields.
    items: Vec<ast::Expr>,
    /// Conditions that name the outer query too, by fields.
    correlated: Vec<ast::Expr>,
}

/// Conditions that all must be true.
pub(in crate::bind) fn conjuncts(syntax: &ast::Expr) -> Vec<&ast::Expr> {
    let mut found = Vec::new();
    let mut rest = vec![syntax];
    while let Some(next) = rest.pop() {
        match next {
            ast::Expr::BinaryOp { left, op: ast::BinaryOperator::And, right } => rest.extend([right.as_ref(), left]),
            ast::Expr::Nested(inner)
                if matches!(inner.as_ref(), ast::Expr::BinaryOp { op: ast::BinaryOperator::And, .. }) =>
            {
                rest.push(inner);
            }
            other => found.push(other),
        }
    }
    found
}

/// All of the conditions in one; `None`: there are none.
pub(in crate::bind) fn all_of(conjuncts: Vec<&ast::Expr>) -> Option<ast::Expr> {
    conjuncts.into_iter().cloned().reduce(|left, right| ast::Expr::BinaryOp {
        left: Box::new(left),
        op: ast::BinaryOperator::And,
        right: Box::new(right),
    })
}

/// Whether a condition is IN or EXISTS with a sub-query.
pub(in crate::bind) fn is_sub_query(syntax: &ast::Expr) -> bool {
    read(syntax).is_some()
}

fn read(syntax: &ast::Expr) -> Option<Condition<'_>> {
    match syntax {
        ast::Expr::Nested(inner) => read(inner),
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Not, expr } => {
            let condition = read(expr)?;
            Some(Condition { negated: !condition.negated, ..condition })
        }
        ast::Expr::Exists { subquery, negated } => {
            Some(Condition { negated: *negated, operands: Vec::new(), query: subquery })
        }
        ast::Expr::InSubquery { expr, subquery, negated } => {
            let operands = match expr.as_ref() {
                ast::Expr::Tuple(several) => several.iter().collect(),
                one => vec![one],
            };
            Some(Condition { negated: *negated, operands, query: subquery })
        }
        _ => None,
    }
}

impl Binder<'_> {
    /// The relation's rows that meet each of the conditions.
    pub(in crate::bind) fn sub_queries(&mut self, bound: Bound, all: &[&ast::Expr], ctes: &Ctes) -> Option<Bound> {
        all.iter().try_fold(bound, |bound, syntax| self.sub_query(bound, syntax, ctes))
    }

    fn sub_query(&mut self, outer: Bound, syntax: &ast::Expr, ctes: &Ctes) -> Option<Bound> {
        let condition = read(syntax)?;
        let at = self.place(syntax).or_else(|| self.place(condition.query));
        let mut taken: HashSet<String> = outer.schema().fields().iter().map(|field| field.name().clone()).collect();
        let names = outer.names();
        let inner = self.inner(&condition, &names, &mut taken, ctes)?;
        if outer.replay != inner.bound.replay && !self.is_table(&inner.bound) {
            let mistake =
                Diagnostic::new("mixed_clocks", "a replay and a live stream cannot be joined: their clocks differ");
            self.tell(mistake.at(at).help("query each by itself"));
            return None;
        }
        let operands = condition.operands.len();
        if operands > 0 && operands != inner.items.len() {
            let message = format!("the sub-query gives {} columns where IN compares {operands}", inner.items.len());
            self.tell(Diagnostic::new("invalid", message).at(at).help("select what IN compares, and nothing else"));
            return None;
        }
        let fields = outer.schema().fields().iter().chain(inner.bound.schema().fields()).cloned();
        let schema = DFSchema::try_from(Schema::new(fields.collect::<Vec<_>>())).ok()?;
        let scope = Scope::new(schema, "the sub-query".to_owned(), "WHERE");
        let mut conditions = Vec::new();
        for (operand, item) in condition.operands.iter().zip(inner.items) {
            let left = self.resolve(&super::super::names::with_paths(operand), &[&names])?;
            let equal =
                ast::Expr::BinaryOp { left: Box::new(left), op: ast::BinaryOperator::Eq, right: Box::new(item) };
            let equal = self.condition(&equal, &scope)?;
            if condition.negated && self.may_be_null(&equal, &scope, at) {
                return None;
            }
            conditions.push(equal);
        }
        for correlated in &inner.correlated {
            conditions.push(self.condition(correlated, &scope)?);
        }
        let kind = if condition.negated { JoinKind::Anti } else { JoinKind::Semi };
        self.combine(outer, inner.bound, kind, conditions, at)
    }

    /// NOT IN is not true of any row once the sub-query has given a null: nobody wants that of a stream.
    fn may_be_null(&mut self, equal: &Expr, scope: &Scope, at: Option<Span>) -> bool {
        if !equal.nullable(&scope.schema).unwrap_or(true) {
            return false;
        }
        self.refuse(
            "NOT IN over columns that may be null is never true once one is",
            at,
            "write NOT EXISTS (SELECT 1 FROM b WHERE b.x = a.x), or declare the columns NOT NULL",
        );
        true
    }

    /// Binds a sub-query. What its WHERE says of the outer query's columns is set apart.
    fn inner(
        &mut self,
        condition: &Condition<'_>,
        outer: &[JoinedColumn],
        taken: &mut HashSet<String>,
        ctes: &Ctes,
    ) -> Option<Inner> {
        let query = condition.query;
        let at = self.place(query);
        if let ast::SetExpr::Select(select) = query.body.as_ref()
            && query.with.is_none()
            && let Some(selection) = &select.selection
        {
            let plain = ast::Select { selection: None, ..select.as_ref().clone() };
            let (from, _) = self.from(&plain, ctes)?;
            let names = from.names();
            let (correlated, own): (Vec<_>, Vec<_>) =
                conjuncts(selection).into_iter().partition(|conjunct| is_correlated(conjunct, &names, outer));
            if !correlated.is_empty() {
                self.refuse_tail(query);
                self.refuse_limit(condition)?;
                self.check_plain(select, at)?;
                let own = ast::Select { selection: all_of(own), ..plain };
                return self.correlated(&own, &correlated, outer, taken, ctes, at);
            }
        }
        let bound = self.query(query, ctes)?;
        let bound = self.apart(bound, taken, at)?;
        let items = bound.schema().fields().iter().map(|field| {
            let mut ident = ast::Ident::with_quote('"', field.name());
            ident.span = datafusion_sql::sqlparser::ast::Spanned::span(query);
            ast::Expr::Identifier(ident)
        });
        Some(Inner { items: items.collect(), correlated: Vec::new(), bound })
    }

    fn correlated(
        &mut self,
        select: &ast::Select,
        correlated: &[&ast::Expr],
        outer: &[JoinedColumn],
        taken: &mut HashSet<String>,
        ctes: &Ctes,
        at: Option<Span>,
    ) -> Option<Inner> {
        let (mut bound, rest) = self.from(select, ctes)?;
        if let Some(rest) = rest {
            let scope = bound.scope("WHERE")?;
            let predicate = self.condition(&rest, &scope)?;
            bound = filter(bound, predicate);
        }
        let bound = self.apart(bound, taken, at)?;
        let names: Joined = bound.names();
        let mut items = Vec::new();
        for item in &select.projection {
            if let ast::SelectItem::UnnamedExpr(syntax) | ast::SelectItem::ExprWithAlias { expr: syntax, .. } = item {
                items.push(self.resolve(&super::super::names::with_paths(syntax), &[&names])?);
            }
        }
        let mut conditions = Vec::new();
        for syntax in correlated {
            conditions.push(self.resolve(&super::super::names::with_paths(syntax), &[&names, outer])?);
        }
        Some(Inner { bound, items, correlated: conditions })
    }

    /// EXISTS is true of one row as of many, in whatever order.
    fn refuse_limit(&mut self, condition: &Condition<'_>) -> Option<()> {
        let before = self.mistakes.len();
        let tail = self.tail(condition.query);
        if let Some(tail) = tail.filter(|tail| !condition.operands.is_empty() || tail.is_empty()) {
            self.refuse_order(&tail);
        }
        (self.mistakes.len() == before).then_some(())
    }

    /// A sub-query that names the outer query's columns is rows as they come.
    fn check_plain(&mut self, select: &ast::Select, at: Option<Span>) -> Option<()> {
        let grouped = !matches!(&select.group_by, ast::GroupByExpr::Expressions(exprs, _) if exprs.is_empty());
        if !grouped && select.having.is_none() && select.distinct.is_none() {
            return Some(());
        }
        self.refuse(
            "a sub-query that groups its rows cannot name columns of the outer query in its WHERE",
            at,
            "group in a sub-query of its FROM: EXISTS (SELECT 1 FROM (SELECT … GROUP BY …) AS g WHERE g.id = a.id)",
        );
        None
    }
}

/// Whether a condition names a column that only the outer query has.
fn is_correlated(syntax: &ast::Expr, inner: &[JoinedColumn], outer: &[JoinedColumn]) -> bool {
    struct Outer<'c> {
        inner: &'c [JoinedColumn],
        outer: &'c [JoinedColumn],
    }
    impl Visitor for Outer<'_> {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
            let parts = match expr {
                ast::Expr::Identifier(ident) => std::slice::from_ref(ident),
                ast::Expr::CompoundIdentifier(parts) => parts.as_slice(),
                _ => return ControlFlow::Continue(()),
            };
            if !knows(self.inner, parts) && knows(self.outer, parts) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }
    }
    syntax.visit(&mut Outer { inner, outer }).is_break()
}
