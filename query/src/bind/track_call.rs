//! What the functions over a key's windows take.

use arrow::datatypes::DataType;
use datafusion_sql::sqlparser::ast;

use super::Binder;
use super::check::function_name;
use crate::diagnostic::{Diagnostic, Span};
use crate::parse::unsupported;
use crate::track::TrackFunction;

/// Windows that one call may look back at: its state is as many values a key.
const MAX_WINDOWS: f64 = 1_000.0;
/// Earlier windows that a score needs unless it is said: with fewer it is null.
const MIN_COUNT: u32 = 10;
/// A median needs so many values for their spread to mean something.
const LEAST_MEDIAN: f64 = 3.0;
/// A variance needs so many.
const LEAST_VARIANCE: f64 = 2.0;
/// Half the width of a band in standard deviations unless it is said.
const WIDTH: f64 = 3.0;

/// Names of the functions.
pub(super) const NAMES: [&str; 7] =
    ["robust_zscore", "ewma", "ewma_lower", "ewma_upper", "rate_of_change", "lag", "lead"];

/// Whether a name (in lower case) is one of the functions.
pub(super) fn is_function(name: &str) -> bool {
    NAMES.contains(&name)
}

/// An argument of a call.
pub(super) fn argument(function: &ast::Function, index: usize) -> Option<&ast::Expr> {
    let ast::FunctionArguments::List(list) = &function.args else { return None };
    match list.args.get(index)? {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

impl Binder<'_> {
    /// Which function a call is, and with what numbers.
    pub(super) fn track_function(&mut self, function: &ast::Function, at: Option<Span>) -> Option<TrackFunction> {
        let name = function_name(function);
        if name == "lead" {
            let mistake = unsupported("LEAD is not available: a window's row is told before the next one is known", at);
            self.tell(mistake.help("LAG(x) OVER (…) tells of each row what was before"));
            return None;
        }
        if function.filter.is_some() || function.null_treatment.is_some() || !function.within_group.is_empty() {
            let mistake = unsupported(format!("{name} takes no FILTER, no IGNORE NULLS and no WITHIN GROUP"), at);
            self.tell(mistake.help("a FILTER stands in the aggregate: ewma(count(*) FILTER (WHERE …), 0.3)"));
            return None;
        }
        let given = match &function.args {
            ast::FunctionArguments::List(list) if list.clauses.is_empty() && list.duplicate_treatment.is_none() => {
                list.args.len()
            }
            _ => 0,
        };
        let numbers: Vec<f64> = (1..given).filter_map(|index| argument(function, index).and_then(number)).collect();
        let track = if numbers.len() + 1 == given { of_numbers(&name, &numbers) } else { None };
        if track.is_none() {
            let syntax = crate::functions().into_iter().find(|info| info.name == name).map(|info| info.syntax);
            let mistake = Diagnostic::new("invalid", format!("{name} does not take these arguments")).at(at);
            let mut help = format!("it is called {}", syntax.unwrap_or_default());
            if name == "lag" && given == 3 {
                "coalesce(lag(x, 1) OVER (…), 0) puts another value for a null".clone_into(&mut help);
            }
            self.tell(mistake.help(help));
        }
        track
    }
}

fn of_numbers(name: &str, numbers: &[f64]) -> Option<TrackFunction> {
    let whole = |number: f64, least: f64| number.fract() == 0.0 && (least..=MAX_WINDOWS).contains(&number);
    let share = |number: f64| number > 0.0 && number <= 1.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and a thousand, and whole")]
    let count = |number: f64| number as u32;
    match (name, numbers) {
        ("lag", []) => Some(TrackFunction::Lag { windows: 1 }),
        ("lag", [n]) if whole(*n, 1.0) => Some(TrackFunction::Lag { windows: count(*n) }),
        ("robust_zscore", [n]) if whole(*n, LEAST_MEDIAN) => {
            Some(TrackFunction::RobustZscore { windows: count(*n), min_count: MIN_COUNT.min(count(*n)) })
        }
        ("robust_zscore", [n, least]) if whole(*n, LEAST_MEDIAN) && whole(*least, LEAST_MEDIAN) && least <= n => {
            Some(TrackFunction::RobustZscore { windows: count(*n), min_count: count(*least) })
        }
        ("ewma", [alpha]) if share(*alpha) => Some(TrackFunction::Ewma { alpha: *alpha }),
        ("ewma_lower" | "ewma_upper", [alpha, rest @ ..]) if share(*alpha) && rest.len() <= 2 => {
            let width = rest.first().copied().unwrap_or(WIDTH);
            let least = rest.get(1).copied().unwrap_or(f64::from(MIN_COUNT));
            let good = width > 0.0 && width.is_finite() && whole(least, LEAST_VARIANCE);
            let deviations = if name == "ewma_lower" { -width } else { width };
            good.then_some(TrackFunction::EwmaBand { alpha: *alpha, deviations, min_count: count(least) })
        }
        ("rate_of_change", []) => Some(TrackFunction::RateOfChange),
        _ => None,
    }
}

fn number(expr: &ast::Expr) -> Option<f64> {
    match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(number, _) => number.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

impl TrackFunction {
    /// The type of what it gives for values of a type.
    pub(crate) fn returns(&self, value: &DataType) -> DataType {
        match self {
            Self::Lag { .. } => value.clone(),
            _ => DataType::Float64,
        }
    }

    /// Whether it takes DOUBLE alone.
    pub(super) fn is_of_numbers(&self) -> bool {
        !matches!(self, Self::Lag { .. })
    }
}
