//! What a join's condition says: equalities, bounds on event time, and the rest.

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalMonthDayNano};
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{Between, BinaryExpr, Cast};
use datafusion_expr::utils::split_conjunction_owned;
use datafusion_expr::{Expr, ExprSchemable, Operator, binary_expr, lit};

use super::super::expr::columns;
use super::super::{Bound, WindowColumn, column_of};
use crate::plan::{JoinKey, Plan, WindowKind};
use crate::{WINDOW_END, WINDOW_TIME};

/// A window's end less the event time of its results.
pub(super) const RESULT_LAG_NS: i64 = 1_000_000;
const DAY_NS: i64 = 86_400_000_000_000;

/// A condition over two relations, taken apart.
#[derive(Default)]
pub(super) struct Condition {
    /// What concerns the left only.
    pub(super) left: Vec<Expr>,
    /// What concerns the right only.
    pub(super) right: Vec<Expr>,
    pub(super) on: Vec<JoinKey>,
    /// The ends of the windows that both are in, when those must be equal.
    pub(super) window: Option<(Expr, Expr)>,
    /// Left event time less right event time is no less.
    pub(super) least_ns: Option<i64>,
    /// And no more.
    pub(super) most_ns: Option<i64>,
    /// The rest.
    pub(super) filter: Vec<Expr>,
}

/// Which side an expression is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    None,
    Left,
    Right,
    Both,
}

/// A point in time: a column and how much later.
struct Moment {
    column: String,
    later_ns: i64,
}

impl Condition {
    /// Takes conjuncts apart.
    pub(super) fn of(left: &Bound, right: &Bound, conjuncts: Vec<Expr>) -> Self {
        let mut condition = Self::default();
        let (mut ends, mut bounds) = (Vec::new(), Vec::new());
        for conjunct in conjuncts.into_iter().flat_map(split_conjunction_owned).flat_map(comparisons) {
            let sides = Sides { left, right };
            match sides.of(&conjunct) {
                Side::Left | Side::None => condition.left.push(conjunct),
                Side::Right => condition.right.push(conjunct),
                Side::Both => {
                    if let Some(same) = sides.same_window(&conjunct) {
                        ends.push((conjunct, same));
                    } else if condition.bound(&sides, &conjunct) {
                        bounds.push(conjunct);
                    } else {
                        match sides.key(&conjunct) {
                            Some(key) => condition.on.push(key),
                            None => condition.filter.push(conjunct),
                        }
                    }
                }
            }
        }
        condition.windows(&Sides { left, right }, ends);
        if condition.window.is_some() {
            // Rows of one window wait for its end, whatever their times, which are compared pair by pair.
            condition.filter.extend(bounds);
        }
        condition
    }

    /// Conditions on equal window columns. Windows of one kind that share one of their bounds share both, but for those
    /// that rows make, and cumulating ones that start together.
    fn windows(&mut self, sides: &Sides<'_>, ends: Vec<(Expr, (WindowColumn, Expr, Expr))>) {
        let spec = |bound: &Bound| bound.window.as_ref().map(|window| window.spec);
        let alike = spec(sides.left).filter(|left| Some(*left) == spec(sides.right)).map(|spec| spec.kind);
        let by_start = matches!(alike, Some(WindowKind::Tumble { .. } | WindowKind::Hop { .. }));
        let by_end = by_start || matches!(alike, Some(WindowKind::Cumulate { .. }));
        let chosen = ends.iter().find(|(_, (column, ..))| *column != WindowColumn::Start);
        let chosen = chosen.or_else(|| ends.first().filter(|_| by_start));
        self.window = chosen.map(|(_, (_, left, right))| (left.clone(), right.clone()));
        for (conjunct, (column, ..)) in ends {
            let said = self.window.is_some() && (by_end || column != WindowColumn::Start);
            if !said && let Some(key) = sides.key(&conjunct) {
                self.on.push(key);
            }
        }
    }

    /// Takes in a bound on the event times; false when the conjunct is none.
    fn bound(&mut self, sides: &Sides<'_>, conjunct: &Expr) -> bool {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = conjunct else { return false };
        let Some((least_ns, most_ns)) = sides.difference(left, *op, right) else { return false };
        self.narrow(least_ns, most_ns);
        if *op == Operator::Eq {
            // Equal event times find each other by hash too.
            self.on.extend(sides.key(conjunct));
        }
        true
    }

    fn narrow(&mut self, least_ns: Option<i64>, most_ns: Option<i64>) {
        self.least_ns = self.least_ns.max(least_ns);
        self.most_ns = match (self.most_ns, most_ns) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

/// BETWEEN as the two comparisons that it is.
fn comparisons(conjunct: Expr) -> Vec<Expr> {
    match conjunct {
        Expr::Between(Between { expr, negated: false, low, high }) => {
            vec![binary_expr(expr.as_ref().clone(), Operator::GtEq, *low), binary_expr(*expr, Operator::LtEq, *high)]
        }
        other => vec![other],
    }
}

struct Sides<'b> {
    left: &'b Bound,
    right: &'b Bound,
}

impl Sides<'_> {
    fn of(&self, expr: &Expr) -> Side {
        let has = |bound: &Bound, name: &String| bound.schema().field_with_name(name).is_ok();
        let names = columns(expr);
        match (names.iter().any(|name| has(self.left, name)), names.iter().any(|name| has(self.right, name))) {
            (true, true) => Side::Both,
            (true, false) => Side::Left,
            (false, true) => Side::Right,
            (false, false) => Side::None,
        }
    }

    /// An equality of something of the left and something of the right.
    fn key(&self, conjunct: &Expr) -> Option<JoinKey> {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = conjunct else { return None };
        let nulls = match op {
            Operator::Eq => false,
            Operator::IsNotDistinctFrom => true,
            _ => return None,
        };
        let nested = |bound: &Bound, expr: &Expr| {
            let schema = datafusion_common::DFSchema::try_from(bound.schema().as_ref().clone()).ok();
            schema.and_then(|schema| expr.get_type(&schema).ok()).is_none_or(|kind| kind.is_nested())
        };
        let (left, right) = (left.as_ref().clone(), right.as_ref().clone());
        let (left, right) = match (self.of(&left), self.of(&right)) {
            (Side::Left, Side::Right) => (left, right),
            (Side::Right, Side::Left) => (right, left),
            _ => return None,
        };
        let plain = !left.is_volatile() && !right.is_volatile() && !nested(self.left, &left);
        plain.then_some(JoinKey { left, right, nulls })
    }

    /// An equality of window columns that mean the same, and the windows' ends.
    fn same_window(&self, conjunct: &Expr) -> Option<(WindowColumn, Expr, Expr)> {
        let JoinKey { left, right, .. } = self.key(conjunct)?;
        let (Expr::Column(left), Expr::Column(right)) = (left, right) else { return None };
        let means = |bound: &Bound, name: &str| bound.window.as_ref()?.columns.get(name).copied();
        let column = means(self.left, &left.name)?;
        (means(self.right, &right.name)? == column).then_some(())?;
        Some((column, end_of(self.left, &left.name, column)?, end_of(self.right, &right.name, column)?))
    }

    /// The bounds of left less right event time that a comparison sets.
    fn difference(&self, left: &Expr, op: Operator, right: &Expr) -> Option<(Option<i64>, Option<i64>)> {
        if let (Some((one, other)), Some(limit_ns)) = (minus(left), length(right)) {
            return self.between(&one, op, &Moment { later_ns: other.later_ns.checked_add(limit_ns)?, ..other });
        }
        self.between(&moment(left)?, op, &moment(right)?)
    }

    fn between(&self, one: &Moment, op: Operator, other: &Moment) -> Option<(Option<i64>, Option<i64>)> {
        let flipped = self.left.schema().field_with_name(&one.column).is_err();
        let (left, op, right) = if flipped { (other, op.swap()?, one) } else { (one, op, other) };
        // Column left + l `op` column right + r, and a column is its row's event time and some more.
        let of_left = after_event_time(self.left, &left.column)?.checked_add(left.later_ns)?;
        let of_right = after_event_time(self.right, &right.column)?.checked_add(right.later_ns)?;
        let difference = of_right.checked_sub(of_left)?;
        Some(match op {
            Operator::Eq => (Some(difference), Some(difference)),
            Operator::LtEq => (None, Some(difference)),
            Operator::Lt => (None, Some(difference.checked_sub(1)?)),
            Operator::GtEq => (Some(difference), None),
            Operator::Gt => (Some(difference.checked_add(1)?), None),
            _ => return None,
        })
    }
}

/// How much later than its row's event time a column is; `None` when it does not tell the event time.
fn after_event_time(bound: &Bound, column: &str) -> Option<i64> {
    bound.schema().field_with_name(column).ok()?;
    if !bound.times.iter().any(|time| time == column) {
        return None;
    }
    match bound.window.as_ref().filter(|window| window.grouped) {
        Some(window) => match (window.columns.get(column)?, window.spec.kind) {
            (_, WindowKind::Count { .. }) => None,
            (WindowColumn::Time, _) => Some(0),
            (WindowColumn::End, _) => Some(RESULT_LAG_NS),
            (WindowColumn::Start, WindowKind::Tumble { size_ns } | WindowKind::Hop { size_ns, .. }) => {
                Some(RESULT_LAG_NS - size_ns)
            }
            (WindowColumn::Start, _) => None,
        },
        None if reads_windows(&bound.plan, column) => None,
        None => Some(if column_below(&bound.plan, column).as_deref() == Some(WINDOW_END) { RESULT_LAG_NS } else { 0 }),
    }
}

/// Whether a time column is one of a named stream's windows other than its end and its event time.
fn reads_windows(plan: &Arc<Plan>, column: &str) -> bool {
    column_below(plan, column)
        .is_some_and(|name| name.starts_with("window_") && ![WINDOW_END, WINDOW_TIME].contains(&name.as_str()))
}

/// What a column is called where rows come from.
fn column_below(plan: &Arc<Plan>, column: &str) -> Option<String> {
    match plan.as_ref() {
        Plan::Project { input, exprs, .. } => {
            let item = exprs.iter().find(|item| item.name == column)?;
            match &item.expr {
                Expr::Column(below) => column_below(input, &below.name),
                _ => None,
            }
        }
        Plan::Filter { input, .. } => column_below(input, column),
        _ => Some(column.to_owned()),
    }
}

/// The end of a window by one of its columns.
fn end_of(bound: &Bound, column: &str, means: WindowColumn) -> Option<Expr> {
    let later = |ns: i64| {
        let interval = ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 0, ns)));
        binary_expr(column_of(column), Operator::Plus, lit(interval))
    };
    Some(match (means, bound.window.as_ref()?.spec.kind) {
        (_, WindowKind::Count { .. }) => return None,
        (WindowColumn::End, _) => column_of(column),
        (WindowColumn::Time, _) => later(RESULT_LAG_NS),
        (WindowColumn::Start, WindowKind::Tumble { size_ns } | WindowKind::Hop { size_ns, .. }) => later(size_ns),
        // Never asked for: see `Condition::windows`.
        (WindowColumn::Start, _) => column_of(column),
    })
}

/// A column, or one and an interval.
fn moment(expr: &Expr) -> Option<Moment> {
    match expr {
        Expr::Column(column) => Some(Moment { column: column.name.clone(), later_ns: 0 }),
        Expr::Cast(Cast { expr, field }) if matches!(field.data_type(), DataType::Timestamp(..)) => moment(expr),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (at, ns) = match op {
                Operator::Plus => moment(left).zip(length(right)).or_else(|| moment(right).zip(length(left)))?,
                Operator::Minus => (moment(left)?, length(right)?.checked_neg()?),
                _ => return None,
            };
            Some(Moment { later_ns: at.later_ns.checked_add(ns)?, ..at })
        }
        _ => None,
    }
}

/// The difference of two moments.
fn minus(expr: &Expr) -> Option<(Moment, Moment)> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => moment(left).zip(moment(right)),
        Expr::Cast(Cast { expr, .. }) => minus(expr),
        _ => None,
    }
}

/// An interval of fixed length.
fn length(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) if interval.months == 0 => {
            i64::from(interval.days).checked_mul(DAY_NS)?.checked_add(interval.nanoseconds)
        }
        Expr::Literal(ScalarValue::IntervalDayTime(Some(interval)), _) => {
            i64::from(interval.days).checked_mul(DAY_NS)?.checked_add(i64::from(interval.milliseconds) * 1_000_000)
        }
        Expr::Literal(ScalarValue::DurationNanosecond(ns), _) => *ns,
        Expr::Literal(ScalarValue::DurationSecond(Some(seconds)), _) => seconds.checked_mul(1_000_000_000),
        Expr::Cast(Cast { expr, .. }) => length(expr),
        Expr::Negative(inner) => length(inner)?.checked_neg(),
        _ => None,
    }
}
