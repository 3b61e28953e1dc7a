//! `JOIN o WITHIN 1 MINUTE ON …`: bounds on the event times of two streams that need not be named.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion_common::ScalarValue;
use datafusion_expr::{Expr, Operator, binary_expr, lit};

use super::super::{Binder, Bound, column_of};
use super::{Part, label};

impl Binder<'_> {
    /// What WITHIN says of a part: a row of it comes at most so long before and after its left row.
    pub(super) fn within(&mut self, part: &Part<'_>, left: &Bound, right: &Bound) -> Option<Vec<Expr>> {
        let Some([before_ns, after_ns]) = crate::parse::within(part.factor) else { return Some(Vec::new()) };
        if self.looks_up(left, right, part.kind).is_some() {
            let help = "leave it out: the row of a table is found whatever its time";
            self.refuse("WITHIN is about the event times of two streams", part.at, help);
            return None;
        }
        let (Some(of_left), Some(of_right)) = (left.times.first(), right.times.first()) else {
            let untimed = if left.times.is_empty() { left } else { right };
            let message = format!("WITHIN: the event time of {} is in none of its columns", label(untimed));
            self.refuse(message, part.at, "select the event time too, or bound other columns in ON: a.ts BETWEEN …");
            return None;
        };
        let length = |ns| lit(ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(0, 0, ns))));
        let later = |operator, ns| binary_expr(column_of(of_left), operator, length(ns));
        Some(vec![
            binary_expr(column_of(of_right), Operator::GtEq, later(Operator::Minus, before_ns)),
            binary_expr(column_of(of_right), Operator::LtEq, later(Operator::Plus, after_ns)),
        ])
    }
}
