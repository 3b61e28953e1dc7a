//! Projections on projections become one; those that change nothing go.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_expr::Expr;

use super::with_inputs;
use crate::bind::{columns_with_repeats, substitute};
use crate::is_random;
use crate::plan::{NamedExpr, Plan};

/// Merges projections from the leaves up.
pub(super) fn merge(plan: &Arc<Plan>) -> Arc<Plan> {
    let plan = Arc::new(with_inputs(plan, &mut merge));
    let Plan::Project { input, exprs, schema } = plan.as_ref() else { return plan };
    if let Plan::Project { input: below, exprs: inner, .. } = input.as_ref() {
        let outer: Vec<Expr> = exprs.iter().map(|item| item.expr.clone()).collect();
        if may_inline(&outer, inner) {
            let inner = by_name(inner);
            let exprs = exprs
                .iter()
                .map(|item| NamedExpr { expr: inline(item.expr.clone(), &inner), name: item.name.clone() })
                .collect();
            let merged = Plan::Project { input: Arc::clone(below), exprs, schema: Arc::clone(schema) };
            return without_identity(Arc::new(merged));
        }
    }
    without_identity(plan)
}

/// The input of a projection that passes all columns on as they are.
fn without_identity(plan: Arc<Plan>) -> Arc<Plan> {
    let Plan::Project { input, exprs, schema } = plan.as_ref() else { return plan };
    let passes = |(item, field): (&NamedExpr, &Arc<arrow::datatypes::Field>)| {
        item.name == *field.name() && matches!(&item.expr, Expr::Column(column) if column.name == item.name)
    };
    let fields = input.schema().fields();
    if fields.len() == exprs.len() && exprs.iter().zip(fields).all(passes) && schema == input.schema() {
        return Arc::clone(input);
    }
    plan
}

/// True when putting the inner expressions in place of their names computes none of them twice.
pub(super) fn may_inline(outer: &[Expr], inner: &[NamedExpr]) -> bool {
    let mut read: HashMap<String, usize> = HashMap::new();
    for name in outer.iter().flat_map(columns_with_repeats) {
        *read.entry(name).or_default() += 1;
    }
    inner.iter().all(|item| {
        let count = read.get(&item.name).copied().unwrap_or(0);
        matches!(item.expr, Expr::Column(_) | Expr::Literal(..)) || count == 0 || count == 1 && !is_random(&item.expr)
    })
}

/// The expressions of a projection by their names.
pub(super) fn by_name(inner: &[NamedExpr]) -> HashMap<&str, &Expr> {
    inner.iter().map(|item| (item.name.as_str(), &item.expr)).collect()
}

/// The expression over the inner projection's input.
pub(super) fn inline(expr: Expr, inner: &HashMap<&str, &Expr>) -> Expr {
    substitute(expr, &|name| inner.get(name).map(|expr| (*expr).clone()))
}
