//! Windows that the SELECT list calls and GROUP BY names, as in Arroyo: `SELECT tumble('10s') AS w … GROUP BY w`.

use datafusion_sql::sqlparser::ast;

use super::window::window_function;
use crate::parse::fold;

/// The SELECT with those calls in GROUP BY itself; `None`: there are none.
pub(super) fn put_in_place(select: &ast::Select) -> Option<ast::Select> {
    let ast::GroupByExpr::Expressions(exprs, _) = &select.group_by else { return None };
    let calls: Vec<Option<ast::Expr>> = exprs.iter().map(|expr| call(expr, &select.projection)).collect();
    if calls.iter().all(Option::is_none) {
        return None;
    }
    let mut select = select.clone();
    if let ast::GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
        for (expr, call) in exprs.iter_mut().zip(calls) {
            *expr = call.unwrap_or_else(|| expr.clone());
        }
    }
    Some(select)
}

/// The window function that an item of the list calls under this name or number.
fn call(key: &ast::Expr, items: &[ast::SelectItem]) -> Option<ast::Expr> {
    let called = match key {
        ast::Expr::Identifier(name) => items.iter().find_map(|item| match item {
            ast::SelectItem::ExprWithAlias { expr, alias } if fold(alias) == fold(name) => Some(expr),
            _ => None,
        }),
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(number, _) => match items.get(number.parse::<usize>().ok()?.checked_sub(1)?)? {
                ast::SelectItem::ExprWithAlias { expr, .. } | ast::SelectItem::UnnamedExpr(expr) => Some(expr),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }?;
    window_function(called).map(|_| called.clone())
}
