//! A condition on a rank says how many ranks are needed at all.

use std::sync::Arc;

use datafusion_common::ScalarValue;
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{Expr, Operator};

use crate::plan::{Plan, RankFunction, RankSpec, RankTime};

/// The plan with ranks cut short where the condition lets no others through.
pub(super) fn limited(plan: &Arc<Plan>, predicate: &Expr) -> Arc<Plan> {
    let mut plan = Arc::clone(plan);
    for conjunct in split_conjunction(predicate) {
        if let Some((column, most)) = upper_bound(conjunct) {
            plan = cut(&plan, column, most);
        }
    }
    plan
}

/// `column <= number` and its kin: the column, and the greatest number that passes.
fn upper_bound(condition: &Expr) -> Option<(&str, u64)> {
    let number = |expr: &Expr| match expr {
        Expr::Literal(ScalarValue::Int64(Some(number)), _) => Some(*number),
        _ => None,
    };
    let (expr, most) = match condition {
        Expr::Between(between) if !between.negated => (between.expr.as_ref(), number(&between.high)?),
        Expr::BinaryExpr(binary) => match (binary.op, number(&binary.right), number(&binary.left)) {
            (Operator::LtEq | Operator::Eq, Some(most), _) => (binary.left.as_ref(), most),
            (Operator::Lt, Some(most), _) => (binary.left.as_ref(), most.saturating_sub(1)),
            (Operator::GtEq | Operator::Eq, _, Some(most)) => (binary.right.as_ref(), most),
            (Operator::Gt, _, Some(most)) => (binary.right.as_ref(), most.saturating_sub(1)),
            _ => return None,
        },
        _ => return None,
    };
    let Expr::Column(column) = expr else { return None };
    Some((&column.name, u64::try_from(most).unwrap_or(0)))
}

fn cut(plan: &Arc<Plan>, column: &str, most: u64) -> Arc<Plan> {
    let mut changed = plan.as_ref().clone();
    match &mut changed {
        Plan::Filter { input, .. } => *input = cut(input, column, most),
        Plan::Project { input, exprs, .. } => {
            let passes = exprs.iter().find(|item| item.name == column).map(|item| &item.expr);
            let Some(Expr::Column(below)) = passes else { return Arc::clone(plan) };
            *input = cut(input, &below.name, most);
        }
        Plan::Rank { input, rank, .. } if rank.column.as_deref() == Some(column) => {
            rank.limit = Some(rank.limit.map_or(most, |limit| limit.min(most)));
            if rank.limit == Some(1) {
                take_first_that_comes(rank, input);
            }
        }
        _ => return Arc::clone(plan),
    }
    Arc::new(changed)
}

/// The first row by its arrival is the first that comes, which no later one replaces.
fn take_first_that_comes(rank: &mut RankSpec, input: &Plan) {
    let by_arrival = match rank.order_by.as_slice() {
        [only] if only.asc => matches!(&only.expr, Expr::Column(column) if input.is_arrival(&column.name)),
        _ => false,
    };
    if let RankTime::Running { by_time, .. } = &mut rank.time
        && by_arrival
        && rank.function == RankFunction::RowNumber
    {
        *by_time = true;
        rank.order_by.clear();
    }
}
