//! Shorter ways to say a query, put in the longer one: `FROM t SELECT …`, `GROUP BY ALL` and `UNION` without ALL.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion_sql::sqlparser::ast::{
    self, Expr, GroupByExpr, SelectFlavor, SelectItem, SetExpr, SetOperator, SetQuantifier, TableFactor, Value, Visit,
    VisitMut, Visitor, VisitorMut, WildcardAdditionalOptions,
};
use datafusion_sql::sqlparser::parser::Parser;
use datafusion_sql::sqlparser::tokenizer::Tokenizer;

use super::fold;
use crate::functions::{Called, Registry};
use crate::text::DIALECT;

/// Puts them in the longer form.
pub(super) fn expand(query: &mut ast::Query) {
    let _ = VisitMut::visit(query, &mut Longer);
}

struct Longer;

impl VisitorMut for Longer {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<()> {
        once(&mut query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        if select.flavor == SelectFlavor::FromFirstNoSelect {
            select.projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
        }
        if select.flavor != SelectFlavor::Standard {
            select.flavor = SelectFlavor::Standard;
        }
        if let GroupByExpr::All(modifiers) = &select.group_by
            && let Some(keys) = keys(&select.projection)
        {
            select.group_by = GroupByExpr::Expressions(keys, modifiers.clone());
        }
        ControlFlow::Continue(())
    }
}

/// What UNION is, but for what it unites.
static DISTINCT: LazyLock<Box<ast::Query>> = LazyLock::new(|| {
    let tokens = Tokenizer::new(&DIALECT, "SELECT DISTINCT * FROM (SELECT 1)").tokenize().expect("it is a text");
    Parser::new(&DIALECT).with_tokens(tokens).parse_query().expect("it is a query")
});

/// Puts what removes doubles above each UNION without ALL. One above another removes those of both.
fn once(body: &mut Box<SetExpr>) {
    let SetExpr::SetOperation { op, set_quantifier, left, .. } = body.as_mut() else { return };
    if !is_once(*op, *set_quantifier) {
        return once(left);
    }
    let mut part = body.as_mut();
    while let SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, left, .. } = part {
        if is_once(SetOperator::Union, *set_quantifier) {
            *set_quantifier = SetQuantifier::All;
        }
        part = left.as_mut();
    }
    let union = std::mem::replace(body, DISTINCT.body.clone());
    if let SetExpr::Select(select) = body.as_mut()
        && let Some(from) = select.from.first_mut()
        && let TableFactor::Derived { subquery, .. } = &mut from.relation
    {
        subquery.body = union;
    }
}

fn is_once(op: SetOperator, quantifier: SetQuantifier) -> bool {
    op == SetOperator::Union && matches!(quantifier, SetQuantifier::None | SetQuantifier::Distinct)
}

/// The items that GROUP BY ALL stands for: those without an aggregate. `None` when one is `*`.
fn keys(items: &[SelectItem]) -> Option<Vec<Expr>> {
    let mut keys = Vec::new();
    for item in items {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else { return None };
        let constant = matches!(expr, Expr::Value(value) if !matches!(value.value, Value::Placeholder(_)));
        if !constant && Visit::visit(expr, &mut Aggregates).is_continue() {
            keys.push(expr.clone());
        }
    }
    Some(keys)
}

/// Ends at the first call of an aggregate.
struct Aggregates;

impl Visitor for Aggregates {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let Expr::Function(call) = expr else { return ControlFlow::Continue(()) };
        let [ast::ObjectNamePart::Identifier(name)] = call.name.0.as_slice() else { return ControlFlow::Continue(()) };
        match Registry::get().called(&fold(name)) {
            Called::Aggregate => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}
