//! `IS [NOT] DISTINCT FROM` binds closer than AND and OR, which the parser does not see.

use datafusion_sql::sqlparser::ast::{BinaryOperator, Expr};

/// Turns `a IS DISTINCT FROM (b AND c)`, where nobody wrote those parentheses, into `(a IS DISTINCT FROM b) AND c`.
pub(super) fn rotate(expr: &mut Expr) {
    let (Expr::IsDistinctFrom(_, right) | Expr::IsNotDistinctFrom(_, right)) = &*expr else { return };
    if !is_logic(right) {
        return;
    }
    let null = || Box::new(Expr::Value(datafusion_sql::sqlparser::ast::Value::Null.into()));
    let negated = matches!(expr, Expr::IsNotDistinctFrom(..));
    let (Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right)) = expr else { return };
    let left = std::mem::replace(left, null());
    let mut whole = *std::mem::replace(right, null());
    let mut operand = &mut whole;
    while is_logic(operand)
        && let Expr::BinaryOp { left, .. } = operand
    {
        operand = left;
    }
    let right = Box::new(std::mem::replace(operand, *null()));
    *operand = if negated { Expr::IsNotDistinctFrom(left, right) } else { Expr::IsDistinctFrom(left, right) };
    *expr = whole;
}

fn is_logic(expr: &Expr) -> bool {
    matches!(expr, Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Xor, .. })
}
