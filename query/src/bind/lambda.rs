//! `x -> x + 1` in the arguments of functions that take a function.
//!
//! The parser reads the arrow as the operator that takes a field out of JSON, which binds more closely than any other:
//! `x -> x > 2` comes as `(x -> x) > 2`. Here the arrow at the left edge of an argument becomes a lambda.

use datafusion_sql::sqlparser::ast::{self, BinaryOperator, Expr};

use super::check::function_name;
use crate::functions::Registry;

type Params = ast::OneOrManyWithParens<ast::LambdaFunctionParameter>;

/// Turns the arguments of a call that are lambdas into such.
pub(super) fn read(function: &mut ast::Function) {
    if !Registry::get().takes_lambda(&function_name(function)) {
        return;
    }
    let ast::FunctionArguments::List(list) = &mut function.args else { return };
    for arg in &mut list.args {
        if let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) = arg
            && let Some(params) = cut(expr)
        {
            let lambda = ast::LambdaFunction { params, body: Box::new(expr.clone()), syntax: ast::LambdaSyntax::Arrow };
            *expr = Expr::Lambda(lambda);
        }
    }
}

/// Takes the parameters and the arrow off the left edge of an expression.
fn cut(expr: &mut Expr) -> Option<Params> {
    match expr {
        Expr::BinaryOp { left, op: BinaryOperator::Arrow, right } => {
            let params = parameters(left)?;
            *expr = right.as_ref().clone();
            Some(params)
        }
        Expr::BinaryOp { left, .. } => cut(left),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) | Expr::IsUnknown(inner) | Expr::IsNotUnknown(inner) => cut(inner),
        Expr::IsTrue(inner) | Expr::IsNotTrue(inner) | Expr::IsFalse(inner) | Expr::IsNotFalse(inner) => cut(inner),
        Expr::IsDistinctFrom(left, _) | Expr::IsNotDistinctFrom(left, _) => cut(left),
        Expr::AtTimeZone { timestamp, .. } => cut(timestamp),
        Expr::InList { expr, .. } | Expr::Between { expr, .. } | Expr::Cast { expr, .. } => cut(expr),
        Expr::Like { expr, .. } | Expr::ILike { expr, .. } | Expr::SimilarTo { expr, .. } => cut(expr),
        _ => None,
    }
}

/// `x`, `(x)` or `(x, i)`.
fn parameters(expr: &Expr) -> Option<Params> {
    let one = |expr: &Expr| match expr {
        Expr::Identifier(name) => Some(ast::LambdaFunctionParameter { name: name.clone(), data_type: None }),
        _ => None,
    };
    match expr {
        Expr::Tuple(names) => Some(Params::Many(names.iter().map(one).collect::<Option<_>>()?)),
        Expr::Nested(inner) => parameters(inner),
        other => one(other).map(Params::One),
    }
}
