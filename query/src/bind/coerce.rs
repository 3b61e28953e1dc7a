//! Coercion of types, in time that grows with an expression and not with its square.
//!
//! DataFusion's coercion asks each node for its type, which walks all that is below. For a flat chain of operators
//! that is quadratic, so a long chain is coerced link by link: what is to the left of a link stands as a column of
//! known type while the link is coerced.

use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::expr::BinaryExpr;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, ExprSchemable, Operator};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;

use arrow::datatypes::{Field, Schema};

use super::column_of;

/// Links from which on a chain is coerced link by link.
const LONG_CHAIN: usize = 16;

/// The expression with all casts that its operators and functions need.
pub(super) fn coerce(expr: Expr, schema: &DFSchema) -> Result<Expr, DataFusionError> {
    let simplifier = ExprSimplifier::new(SimplifyContext::default());
    let mut chains: Vec<Expr> = Vec::new();
    let mut known = schema.clone();
    let expr = expr.transform_down(|expr| {
        if links(&expr) < LONG_CHAIN {
            return Ok(Transformed::no(expr));
        }
        let chain = coerce_chain(expr, schema)?;
        let name = stand_in(chains.len());
        known = with_field(&known, &name, &chain.expr_field(schema)?)?;
        chains.push(chain.expr);
        Ok(Transformed::new(column_of(&name), true, TreeNodeRecursion::Jump))
    })?;
    let coerced = simplifier.coerce(expr.data, &known)?;
    let mut chains: Vec<Option<Expr>> = chains.into_iter().map(Some).collect();
    put_back(coerced, &mut chains)
}

/// A coerced chain and the field that it makes.
struct Chain {
    expr: Expr,
    field: Option<Field>,
}

impl Chain {
    fn expr_field(&self, schema: &DFSchema) -> Result<Field, DataFusionError> {
        match &self.field {
            Some(field) => Ok(field.clone()),
            None => Ok(self.expr.to_field(schema)?.1.as_ref().clone()),
        }
    }
}

/// Operators of the chain that an expression ends.
fn links(expr: &Expr) -> usize {
    let (mut links, mut expr) = (0, expr);
    while let Expr::BinaryExpr(binary) = expr {
        links += 1;
        expr = &binary.left;
    }
    links
}

fn coerce_chain(expr: Expr, schema: &DFSchema) -> Result<Chain, DataFusionError> {
    let simplifier = ExprSimplifier::new(SimplifyContext::default());
    let mut links: Vec<(Operator, Expr)> = Vec::new();
    let mut first = expr;
    while let Expr::BinaryExpr(BinaryExpr { left, op, right }) = first {
        links.push((op, *right));
        first = *left;
    }
    let mut chain = Chain { expr: coerce(first, schema)?, field: None };
    let name = stand_in(0);
    for (op, right) in links.into_iter().rev() {
        let known = with_field(schema, &name, &chain.expr_field(schema)?)?;
        let right = coerce(right, schema)?;
        let link = BinaryExpr::new(Box::new(column_of(&name)), op, Box::new(right));
        let coerced = simplifier.coerce(Expr::BinaryExpr(link), &known)?;
        let field = coerced.to_field(&known)?.1.as_ref().clone();
        chain = Chain { expr: put_back(coerced, &mut [Some(chain.expr)])?, field: Some(field) };
    }
    Ok(chain)
}

/// A name that no text can hold.
fn stand_in(number: usize) -> String {
    format!("\u{1}{number}")
}

fn with_field(schema: &DFSchema, name: &str, field: &Field) -> Result<DFSchema, DataFusionError> {
    let field = Field::new(name, field.data_type().clone(), field.is_nullable());
    schema.join(&DFSchema::try_from(Schema::new(vec![field]))?)
}

/// The expression with chains in the place of the columns that stood for them.
fn put_back(expr: Expr, chains: &mut [Option<Expr>]) -> Result<Expr, DataFusionError> {
    let put = expr.transform_down(|expr| {
        if let Expr::Column(column) = &expr
            && let Some(number) = column.name.strip_prefix('\u{1}').and_then(|number| number.parse::<usize>().ok())
            && let Some(chain) = chains.get_mut(number).and_then(Option::take)
        {
            return Ok(Transformed::new(chain, true, TreeNodeRecursion::Jump));
        }
        Ok(Transformed::no(expr))
    })?;
    Ok(put.data)
}
