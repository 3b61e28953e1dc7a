//! JSON in expressions: `->`, `->>`, dotted paths and brackets become calls; JSON values beside others become those'
//! types.

use arrow::datatypes::{DataType, Field};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DFSchema, ExprSchema, Result, ScalarValue, TableReference, plan_err};
use datafusion_expr::expr::{BinaryExpr, Cast, Like, ScalarFunction, TryCast};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion_expr::{Expr, ExprSchemable, GetFieldAccess, Operator, lit};
use datafusion_sql::sqlparser::ast::BinaryOperator;

use super::{JSON, JsonFunction, Kind, function};

/// Puts calls in the place of the operators.
#[derive(Debug)]
pub(crate) struct JsonPlanner;

impl ExprPlanner for JsonPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, _schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let kind = match expr.op {
            BinaryOperator::Arrow => Kind::Get,
            BinaryOperator::LongArrow => Kind::Text,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        // A cast binds more closely than an arrow; of a key it would mean nothing.
        Ok(PlannerResult::Planned(match expr.right {
            Expr::Cast(Cast { expr: key, field }) if matches!(*key, Expr::Literal(..)) => {
                Expr::Cast(Cast { expr: Box::new(step(kind, expr.left, *key)), field })
            }
            Expr::TryCast(TryCast { expr: key, field }) if matches!(*key, Expr::Literal(..)) => {
                Expr::TryCast(TryCast { expr: Box::new(step(kind, expr.left, *key)), field })
            }
            right => step(kind, expr.left, right),
        }))
    }

    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        if !is_json(&access.expr, schema) {
            return Ok(PlannerResult::Original(access));
        }
        match access.field_access {
            GetFieldAccess::NamedStructField { name } => {
                Ok(PlannerResult::Planned(step(Kind::Get, access.expr, lit(name))))
            }
            GetFieldAccess::ListIndex { key } => Ok(PlannerResult::Planned(step(Kind::Get, access.expr, *key))),
            GetFieldAccess::ListRange { .. } => plan_err!("JSON arrays have no ranges; json_get_array makes a list"),
        }
    }

    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        if *field.data_type() != JSON {
            // The next planner's.
            return Ok(PlannerResult::Original(Vec::new()));
        }
        let column = Expr::Column(Column::from((qualifier, field)));
        let all = nested_names.iter().fold(column, |json, name| step(Kind::Get, json, lit(name.as_str())));
        Ok(PlannerResult::Planned(all))
    }
}

/// A further step into a value; steps into steps are one call.
fn step(kind: Kind, json: Expr, key: Expr) -> Expr {
    let (mut args, whole) = match json {
        Expr::ScalarFunction(call) if call.func == function(Kind::Get) => (call.args, None),
        other => (Vec::new(), Some(other)),
    };
    args.extend(whole);
    args.push(key);
    Expr::ScalarFunction(ScalarFunction::new_udf(function(kind), args))
}

/// The text of a JSON value.
fn text(json: Expr) -> Expr {
    as_kind(Kind::Text, json)
}

/// A JSON value by another function, over the same path.
fn as_kind(kind: Kind, json: Expr) -> Expr {
    let args = match json {
        Expr::ScalarFunction(call) if call.func == function(Kind::Get) => call.args,
        other => vec![other],
    };
    Expr::ScalarFunction(ScalarFunction::new_udf(function(kind), args))
}

/// Whether an expression's value is JSON, and not only held as JSON is.
fn is_json(expr: &Expr, schema: &DFSchema) -> bool {
    let all = |exprs: &[Expr]| exprs.iter().all(|expr| is_json(expr, schema) || is_null(expr));
    match expr {
        Expr::Column(column) => schema.data_type(column).is_ok_and(|data_type| *data_type == JSON),
        Expr::Alias(alias) => is_json(&alias.expr, schema),
        Expr::LambdaVariable(_) => expr.get_type(schema).is_ok_and(|data_type| data_type == JSON),
        Expr::ScalarFunction(call) => match call.name() {
            "json_get" | "parse_json" | "try_parse_json" => true,
            "coalesce" | "nullif" | "nvl" | "greatest" | "least" => all(&call.args),
            "get_field" | "array_element" | "array_min" | "array_max" => {
                expr.get_type(schema).is_ok_and(|data_type| data_type == JSON)
            }
            _ => false,
        },
        Expr::AggregateFunction(call) => {
            matches!(call.func.name(), "first_value" | "last_value" | "nth_value" | "min" | "max" | "any_value")
                && call.params.args.first().is_some_and(|arg| is_json(arg, schema))
        }
        Expr::Case(case) => {
            let mut results = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
            let results_are = results.all(|then| is_json(then, schema) || is_null(then));
            results_are && case.else_expr.as_ref().is_none_or(|other| is_json(other, schema) || is_null(other))
        }
        _ => false,
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

/// The expression with JSON values as what they are compared to, computed with and cast to. To be done before types
/// are coerced.
///
/// # Errors
/// A cast to JSON of what is no text.
pub(crate) fn resolve(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let columns = schema.fields().iter().any(|field| holds_json(field.data_type()));
    let called = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) => call.func.inner().downcast_ref::<JsonFunction>().is_some(),
        Expr::Cast(cast) => *cast.field.data_type() == JSON,
        Expr::TryCast(cast) => *cast.field.data_type() == JSON,
        _ => false,
    };
    if !columns && !expr.exists(|expr| Ok(called(expr)))? {
        return Ok(expr);
    }
    let resolved = expr.transform_up(|expr| {
        Ok(match expr {
            Expr::ScalarFunction(call) => {
                check_path(&call)?;
                Transformed::no(Expr::ScalarFunction(call))
            }
            Expr::Cast(cast) => Transformed::yes(resolve_cast(cast, schema)?),
            Expr::TryCast(cast) => Transformed::yes(resolve_try_cast(cast, schema)?),
            Expr::BinaryExpr(binary) => Transformed::yes(resolve_binary(binary, schema)?),
            Expr::Like(like) if is_json(&like.expr, schema) => {
                Transformed::yes(Expr::Like(Like { expr: Box::new(text(*like.expr)), ..like }))
            }
            Expr::SimilarTo(like) if is_json(&like.expr, schema) => {
                Transformed::yes(Expr::SimilarTo(Like { expr: Box::new(text(*like.expr)), ..like }))
            }
            Expr::InList(mut list) if is_json(&list.expr, schema) => {
                let other = list.list.first().map_or(Ok(DataType::Utf8), |item| item.get_type(schema))?;
                list.expr = Box::new(beside(*list.expr, &other));
                Transformed::yes(Expr::InList(list))
            }
            Expr::Between(mut between) if is_json(&between.expr, schema) => {
                let other = between.low.get_type(schema)?;
                between.expr = Box::new(beside(*between.expr, &other));
                Transformed::yes(Expr::Between(between))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(resolved.data)
}

/// What is held as JSON is, without being JSON, is text.
pub(crate) fn as_text(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    if expr.get_type(schema)? != JSON || is_json(&expr, schema) {
        return Ok(expr);
    }
    Ok(datafusion_expr::cast(expr, DataType::Utf8))
}

/// A path that cannot be read is told now, not with the first row.
fn check_path(call: &ScalarFunction) -> Result<()> {
    if call.func.inner().downcast_ref::<JsonFunction>().is_none() {
        return Ok(());
    }
    for arg in call.args.iter().skip(1) {
        if let Expr::Literal(ScalarValue::Utf8(Some(path)), _) = arg {
            super::path::steps(path, &mut Vec::new())?;
        }
    }
    Ok(())
}

fn holds_json(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => holds_json(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_json(field.data_type())),
        other => *other == JSON,
    }
}

/// The JSON value that a cast to JSON makes; `None`: it is no such cast.
fn parsed(kind: Kind, expr: &Expr, to: &DataType, schema: &DFSchema) -> Result<Option<Expr>> {
    if *to != JSON {
        return Ok(None);
    }
    let from = expr.get_type(schema)?;
    if is_json(expr, schema) {
        return Ok(Some(expr.clone()));
    }
    if !(from.is_string() || from.is_null()) {
        return plan_err!("only a text can be cast to JSON, not a {from}");
    }
    Ok(Some(Expr::ScalarFunction(ScalarFunction::new_udf(function(kind), vec![expr.clone()]))))
}

fn resolve_cast(cast: Cast, schema: &DFSchema) -> Result<Expr> {
    if let Some(json) = parsed(Kind::Parse, &cast.expr, cast.field.data_type(), schema)? {
        return Ok(json);
    }
    let unquoted = is_json(&cast.expr, schema) && !cast.field.data_type().is_string();
    Ok(Expr::Cast(if unquoted { Cast { expr: Box::new(text(*cast.expr)), ..cast } } else { cast }))
}

fn resolve_try_cast(cast: TryCast, schema: &DFSchema) -> Result<Expr> {
    if let Some(json) = parsed(Kind::TryParse, &cast.expr, cast.field.data_type(), schema)? {
        return Ok(json);
    }
    let unquoted = is_json(&cast.expr, schema) && !cast.field.data_type().is_string();
    Ok(Expr::TryCast(if unquoted { TryCast { expr: Box::new(text(*cast.expr)), ..cast } } else { cast }))
}

/// A JSON value beside one of another type becomes of that type: null where it is none.
fn resolve_binary(binary: BinaryExpr, schema: &DFSchema) -> Result<Expr> {
    let BinaryExpr { left, op, right } = binary;
    let (left_json, right_json) = (is_json(&left, schema), is_json(&right, schema));
    let compares = matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    );
    let of_types = compares || op.is_numerical_operators();
    let of_texts = matches!(
        op,
        Operator::StringConcat
            | Operator::LikeMatch
            | Operator::ILikeMatch
            | Operator::NotLikeMatch
            | Operator::NotILikeMatch
            | Operator::RegexMatch
            | Operator::RegexIMatch
            | Operator::RegexNotMatch
            | Operator::RegexNotIMatch
    );
    if !(left_json || right_json) || !(of_types || of_texts) {
        return Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }));
    }
    let (left, right) = match (left_json, right_json) {
        _ if of_texts => {
            let one = |expr: Box<Expr>, json: bool| if json { text(*expr) } else { *expr };
            (one(left, left_json), one(right, right_json))
        }
        (true, true) if op.is_numerical_operators() => {
            (beside(*left, &DataType::Float64), beside(*right, &DataType::Float64))
        }
        (true, false) => {
            let other = right.get_type(schema)?;
            (beside(*left, &other), *right)
        }
        (false, true) => {
            let other = left.get_type(schema)?;
            let right = beside(*right, &other);
            (*left, right)
        }
        _ => (*left, *right),
    };
    Ok(Expr::BinaryExpr(BinaryExpr { left: Box::new(left), op, right: Box::new(right) }))
}

/// A JSON value as something that compares with a value of the given type.
fn beside(json: Expr, other: &DataType) -> Expr {
    match other {
        DataType::Null => json,
        DataType::Boolean => as_kind(Kind::Bool, json),
        kind if kind.is_string() => text(json),
        kind if kind.is_numeric() => datafusion_expr::try_cast(text(json), DataType::Float64),
        kind => datafusion_expr::try_cast(text(json), kind.clone()),
    }
}

/// The elements of a JSON array, as a list.
pub(crate) fn elements(json: Expr) -> Expr {
    as_kind(Kind::Array, json)
}
