//! Which columns of a query's output tell the windows of its rows: those who read it under a name can group by them.

use arrow::datatypes::IntervalMonthDayNano;
use datafusion_common::ScalarValue;
use datafusion_expr::{Expr, Operator};

use crate::plan::{JoinTime, Plan, RankTime, WindowKind, WindowSpec};
use crate::{WINDOW_END, WINDOW_START};

const MILLISECOND_NS: i64 = 1_000_000;

/// The windows that a relation's rows are results of, and the columns that tell them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedWindows {
    /// The windows: those that lie on a grid.
    pub spec: WindowSpec,
    /// Columns that hold where a row's window starts.
    pub start: Vec<String>,
    /// Columns that hold where it ends.
    pub end: Vec<String>,
    /// Columns that hold its event time, a millisecond before the end.
    pub time: Vec<String>,
}

impl Plan {
    /// The windows of this plan's rows, as far as columns tell them. `of_relation`: those of what it reads.
    pub fn named_windows(&self, of_relation: &dyn Fn(&str) -> Option<NamedWindows>) -> Option<NamedWindows> {
        match self {
            Self::Scan { relation, schema } => {
                let mut windows = of_relation(relation)?;
                for names in [&mut windows.start, &mut windows.end, &mut windows.time] {
                    names.retain(|name| schema.field_with_name(name).is_ok());
                }
                Some(windows)
            }
            Self::Filter { input, .. } | Self::Track { input, .. } => input.named_windows(of_relation),
            Self::Join { left, join, .. } if matches!(join.time, JoinTime::Table { .. }) => {
                left.named_windows(of_relation)
            }
            Self::Rank { input, rank, .. } if matches!(rank.time, RankTime::Window { .. }) => {
                input.named_windows(of_relation)
            }
            Self::Aggregate { window, .. } => {
                let (start, end) = (vec![WINDOW_START.to_owned()], vec![WINDOW_END.to_owned()]);
                Some(NamedWindows { spec: *window, start, end, time: Vec::new() })
            }
            Self::Project { input, exprs, .. } => {
                let below = input.named_windows(of_relation)?;
                let mut windows =
                    NamedWindows { spec: below.spec, start: Vec::new(), end: Vec::new(), time: Vec::new() };
                for item in exprs {
                    windows.pass(&item.name, &item.expr, &below);
                }
                Some(windows)
            }
            _ => None,
        }
    }
}

impl NamedWindows {
    /// Notes a column that is computed of those below, if it tells the window.
    fn pass(&mut self, name: &str, expr: &Expr, below: &Self) {
        if let Expr::Column(column) = expr {
            for (from, to) in
                [(&below.start, &mut self.start), (&below.end, &mut self.end), (&below.time, &mut self.time)]
            {
                if from.contains(&column.name) {
                    to.push(name.to_owned());
                }
            }
            return;
        }
        let Some(before_ns) = before_end(expr, below) else { return };
        if before_ns == MILLISECOND_NS {
            self.time.push(name.to_owned());
        } else if before_ns > 0 {
            // Groups of groups share the ends of their windows with those that are meant, not always the starts.
            self.spec = with_size(below.spec, before_ns);
            self.start.push(name.to_owned());
        }
    }
}

/// How long before the end of the window an expression lies, in nanoseconds.
fn before_end(expr: &Expr, below: &NamedWindows) -> Option<i64> {
    let Expr::BinaryExpr(binary) = expr else { return None };
    let (Expr::Column(column), Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _)) =
        (binary.left.as_ref(), binary.right.as_ref())
    else {
        return None;
    };
    let IntervalMonthDayNano { months: 0, days: 0, nanoseconds } = interval else { return None };
    (binary.op == Operator::Minus && below.end.contains(&column.name)).then_some(*nanoseconds)
}

/// Windows of another size that end where these do.
fn with_size(spec: WindowSpec, size_ns: i64) -> WindowSpec {
    let slide_ns = spec.slide_ns();
    if slide_ns <= 0 || spec.size_ns() == size_ns {
        return spec;
    }
    let offset_ns = (spec.offset_ns + spec.size_ns() - size_ns).rem_euclid(slide_ns);
    WindowSpec { kind: WindowKind::Hop { size_ns, slide_ns }, offset_ns }
}
