//! `tumble`, `hop` and the other windows, in both spellings.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion_sql::sqlparser::ast;

use super::check::{function_name, unknown_column};
use super::from::window_columns;
use super::{Binder, Bound, column_of};
use crate::calendar::{self, Calendar, Length};
use crate::diagnostic::{Diagnostic, Span};
use crate::duration::{self, human};
use crate::parse::fold;
use crate::plan::{NamedExpr, Plan, WindowKind, WindowSpec};
use crate::{WINDOW_END, WINDOW_START, WINDOW_TIME, timestamp_type};

/// Shortest window and slide: `window_time`, a millisecond before the end, lies inside the window.
const MIN_WINDOW_NS: i64 = 1_000_000;
/// Longest window: a hundred years, so that no bound near the ends of the calendar overflows.
const MAX_WINDOW_NS: i64 = 36_525 * 86_400_000_000_000;
/// Windows that one row may be in.
const MAX_WINDOWS_OF_A_ROW: i64 = 10_000;

/// Rows of a window by count at the most.
const MAX_COUNT: u64 = 100_000_000;
/// Windows by count that one row may be in.
const MAX_COUNT_WINDOWS_OF_A_ROW: u64 = 1_000;

/// A call of a window function.
pub(super) struct WindowCall {
    /// The windows.
    pub(super) spec: WindowSpec,
    /// The event-time column, when one is named.
    pub(super) column: Option<ast::Ident>,
    /// Rows go by their arrival: it is `PROCTIME()` that stands in the column's place.
    pub(super) by_arrival: bool,
}

/// All of them.
pub(super) const WINDOW_FUNCTIONS: [&str; 5] = ["tumble", "hop", "cumulate", "session", "count_window"];

/// How a window function is called.
pub(super) fn wrong_arguments(name: &str, at: Option<Span>) -> Diagnostic {
    let help = match name {
        "hop" => {
            "write hop(slide, size) in GROUP BY, as in hop('2s', '10s'), or FROM HOP(TABLE t, DESCRIPTOR(ts), slide, \
             size)"
        }
        "cumulate" => {
            "write cumulate(step, size) in GROUP BY, as in cumulate('1m', '1h'), or FROM CUMULATE(TABLE t, \
             DESCRIPTOR(ts), step, size)"
        }
        "session" => {
            "write session(gap) in GROUP BY, as in session('30s'), or FROM SESSION(TABLE t PARTITION BY user, \
             DESCRIPTOR(ts), gap)"
        }
        "count_window" => {
            "write count_window(rows) in GROUP BY, as in count_window(100), or FROM COUNT_WINDOW(TABLE t PARTITION BY \
             user, rows)"
        }
        _ => "write tumble(size) in GROUP BY, as in tumble('10s'), or FROM TUMBLE(TABLE t, DESCRIPTOR(ts), size)",
    };
    Diagnostic::new("invalid", format!("{name}(…) is not called like this")).at(at).help(help)
}

/// The window function that an expression of GROUP BY calls, or `None` when it calls none.
pub(super) fn window_function(expr: &ast::Expr) -> Option<(String, &ast::Function)> {
    match expr {
        ast::Expr::Function(function) => {
            let name = function_name(function);
            WINDOW_FUNCTIONS.contains(&name.as_str()).then_some((name, function))
        }
        ast::Expr::Nested(inner) => window_function(inner),
        _ => None,
    }
}

impl Binder<'_> {
    /// The short form in GROUP BY.
    pub(super) fn short_form(&mut self, name: &str, function: &ast::Function, bound: &Bound) -> Option<WindowCall> {
        let at = self.place(function);
        let ast::FunctionArguments::List(list) = &function.args else {
            self.tell(wrong_arguments(name, at));
            return None;
        };
        let args = self.in_order(name, &list.args, at, true)?;
        let call = self.window_call(name, &args, at, false)?;
        self.with_time(bound, call)
    }

    /// Reads the arguments behind the relation: `[DESCRIPTOR(ts),] [slide,] size [, offset]`.
    pub(super) fn window_call(
        &mut self,
        name: &str,
        args: &[&ast::Expr],
        at: Option<Span>,
        needs_column: bool,
    ) -> Option<WindowCall> {
        let column = args.first().and_then(|first| descriptor(first));
        let by_arrival = args.first().is_some_and(|first| is_arrival(first));
        let lengths = if column.is_some() || by_arrival { &args[1..] } else { args };
        if needs_column && column.is_none() && !by_arrival && name != "count_window" {
            self.tell(
                wrong_arguments(name, at).note("the second argument names the event-time column: DESCRIPTOR(ts)"),
            );
            return None;
        }
        let (wanted, more) = match name {
            "hop" | "cumulate" => (2, 1),
            "session" => (1, 0),
            _ => (1, 1),
        };
        if lengths.len() < wanted || lengths.len() > wanted + more {
            self.tell(wrong_arguments(name, at));
            return None;
        }
        if name == "count_window" {
            let kind = self.count_window(lengths, at)?;
            return Some(WindowCall { spec: WindowSpec { kind, offset_ns: 0 }, column, by_arrival: false });
        }
        if name == "tumble"
            && let Some(kind) = self.calendar(lengths, at)?
        {
            return Some(WindowCall { spec: WindowSpec { kind, offset_ns: 0 }, column, by_arrival });
        }
        let mut read = Vec::with_capacity(lengths.len());
        for (index, length) in lengths.iter().enumerate() {
            read.push(self.length(length, index == wanted)?);
        }
        let offset_ns = read.get(wanted).copied().unwrap_or(0);
        let kind = self.window_kind(name, &read, at)?;
        let grid_ns = match kind {
            WindowKind::Cumulate { size_ns, .. } => size_ns,
            kind => WindowSpec { kind, offset_ns }.slide_ns(),
        };
        let spec = WindowSpec { offset_ns: offset_ns.rem_euclid(grid_ns), kind };
        Some(WindowCall { spec, column, by_arrival })
    }

    /// Windows by the calendar: of months and years, and of days and weeks in a time zone. `Some(None)`: they are not.
    fn calendar(&mut self, args: &[&ast::Expr], at: Option<Span>) -> Option<Option<WindowKind>> {
        let length = text_of(args[0]).and_then(|(text, unit)| calendar::length(&text, unit.as_deref()));
        let named = args.get(1).and_then(|arg| text_of(arg)).filter(|(_, unit)| unit.is_none()).map(|(text, _)| text);
        let zone = named.as_deref().and_then(calendar::zone);
        let is_name = |text: &String| text.starts_with(|c: char| c.is_alphabetic());
        let mistake = match (&length, &zone) {
            (_, None) if named.as_ref().is_some_and(is_name) => {
                let message = format!("there is no time zone \"{}\"", named.unwrap_or_default());
                Diagnostic::new("invalid", message).help("write its name: 'UTC', 'Europe/Paris', 'America/Sao_Paulo'")
            }
            (None, Some(_)) => Diagnostic::new("invalid", "a time zone goes with whole days, weeks, months or years")
                .help("write tumble('1 day', 'Europe/Paris')"),
            (Some(Length::Months(_)), None) if args.len() > 1 => {
                let mistake = Diagnostic::new("invalid", "windows of months and years take a time zone, and no offset");
                mistake.help("write tumble('1 month', 'Europe/Paris')")
            }
            (Some(length @ Length::Months(_)), zone) | (Some(length), zone @ Some(_)) => {
                return Some(Some(WindowKind::Calendar(Calendar::new(*length, zone.unwrap_or_default()))));
            }
            _ => return Some(None),
        };
        self.tell(mistake.at(at));
        None
    }

    /// The windows of a function called with these lengths.
    fn window_kind(&mut self, name: &str, lengths: &[i64], at: Option<Span>) -> Option<WindowKind> {
        let (kind, help) = match *lengths {
            [gap_ns, ..] if name == "session" => return Some(WindowKind::Session { gap_ns }),
            [slide_ns, size_ns, ..] if name == "hop" => {
                (WindowKind::Hop { size_ns, slide_ns }, "the slide comes first: hop(slide, size)")
            }
            [step_ns, size_ns, ..] if name == "cumulate" => {
                let help = "the step comes first: cumulate(step, size)";
                if size_ns % step_ns != 0 || step_ns >= size_ns {
                    let message = format!("{} is not a multiple of the step {}", human(size_ns), human(step_ns));
                    self.tell(Diagnostic::new("invalid", message).at(at).help(help));
                    return None;
                }
                (WindowKind::Cumulate { size_ns, step_ns }, help)
            }
            [size_ns, ..] => return Some(WindowKind::Tumble { size_ns }),
            [] => return None,
        };
        let (slide_ns, size_ns) = (lengths[0], lengths[1]);
        if size_ns / slide_ns >= MAX_WINDOWS_OF_A_ROW {
            let message = format!(
                "windows of {} every {} put each row in {} windows: the limit is {MAX_WINDOWS_OF_A_ROW}",
                human(size_ns),
                human(slide_ns),
                size_ns / slide_ns
            );
            self.tell(Diagnostic::new("limit", message).at(at).help(help));
            return None;
        }
        Some(kind)
    }

    /// `rows [, slide]`.
    fn count_window(&mut self, args: &[&ast::Expr], at: Option<Span>) -> Option<WindowKind> {
        let mut counts = Vec::new();
        for arg in args {
            match count(arg) {
                Some(count) if (1..=MAX_COUNT).contains(&count) => counts.push(count),
                Some(count) => {
                    let at = self.place(*arg).or(at);
                    let message = format!("{count} is out of range: windows have from 1 to {MAX_COUNT} rows");
                    let help = "write count_window(100), or count_window(100, 10) for one every 10 rows";
                    self.tell(Diagnostic::new("limit", message).at(at).help(help));
                    return None;
                }
                None => {
                    self.tell(wrong_arguments("count_window", at).note("rows are a whole number"));
                    return None;
                }
            }
        }
        let rows = *counts.first()?;
        let slide = counts.get(1).copied().unwrap_or(rows);
        if slide > rows {
            let message = format!("windows of {rows} rows every {slide} would leave rows out");
            self.tell(
                Diagnostic::new("invalid", message).at(at).help("the rows come first: count_window(rows, slide)"),
            );
            return None;
        }
        if rows / slide >= MAX_COUNT_WINDOWS_OF_A_ROW {
            let message = format!(
                "windows of {rows} rows every {slide} put each row in {} windows: the limit is \
                 {MAX_COUNT_WINDOWS_OF_A_ROW}",
                rows / slide
            );
            self.tell(Diagnostic::new("limit", message).at(at).help("take smaller windows, or a larger slide"));
            return None;
        }
        Some(WindowKind::Count { rows, slide })
    }

    /// A length of time: `INTERVAL '10' SECOND` or `'10s'`.
    fn length(&mut self, expr: &ast::Expr, offset: bool) -> Option<i64> {
        let at = self.place(expr).or_else(|| self.text.end_span());
        match interval(expr) {
            Ok(ns) if offset && ns.abs() <= MAX_WINDOW_NS => Some(ns),
            Ok(ns) if (MIN_WINDOW_NS..=MAX_WINDOW_NS).contains(&ns) => Some(ns),
            Ok(ns) => {
                let message = format!("{} is out of range: windows last from 1ms to 100 years", human(ns));
                self.tell(Diagnostic::new("limit", message).at(at).help("write '10s' or INTERVAL '10 seconds'"));
                None
            }
            Err((message, help)) => {
                self.tell(Diagnostic::new("invalid", message).at(at).help(help));
                None
            }
        }
    }

    /// The windows by what the column that they name tells: the event time, or the arrival.
    pub(super) fn with_time(&mut self, bound: &Bound, call: WindowCall) -> Option<WindowCall> {
        let Some(column) = &call.column else { return Some(call) };
        if bound.plan.is_arrival(&fold(column)) {
            // Windows of rows go by their order anyway.
            let by_arrival = !matches!(call.spec.kind, WindowKind::Count { .. });
            return Some(WindowCall { by_arrival, ..call });
        }
        self.check_time(bound, column).then_some(call)
    }

    /// The column is one that carries the event time.
    pub(super) fn check_time(&mut self, bound: &Bound, column: &ast::Ident) -> bool {
        let at = self.text.span(column.span);
        let name = fold(column);
        if bound.times.contains(&name) {
            return true;
        }
        let Some(scope) = bound.scope("DESCRIPTOR") else { return false };
        if !scope.schema.has_column_with_unqualified_name(&name) {
            self.tell(unknown_column(&name, column.quote_style.is_some(), &scope, at));
            return false;
        }
        let mistake =
            Diagnostic::new("not_event_time", format!("\"{name}\" is not the event time of {}", bound.label)).at(at);
        self.tell(match bound.times.first() {
            Some(time) => {
                mistake.help(format!("its event time is \"{time}\"; WATERMARK FOR in CREATE SOURCE chooses another"))
            }
            None => {
                mistake.help("its event time is in no column here: GROUP BY tumble('10s') goes by it without naming it")
            }
        });
        false
    }

    /// Puts rows in windows. Columns of earlier windows make room for those of the new ones.
    pub(super) fn assign(&mut self, bound: Bound, spec: WindowSpec, at: Option<Span>) -> Option<Bound> {
        let new = [WINDOW_START, WINDOW_END, WINDOW_TIME];
        let hidden = bound.schema().fields().iter().any(|field| new.contains(&field.name().as_str()));
        let bound = if hidden {
            let kept = bound.schema().fields().iter().filter(|field| !new.contains(&field.name().as_str()));
            let kept = kept.map(|field| NamedExpr { expr: column_of(field.name()), name: field.name().clone() });
            let kept = kept.collect();
            self.project(bound, kept, at)?
        } else {
            bound
        };
        let mut fields: Vec<Arc<Field>> = bound.schema().fields().to_vec();
        fields.extend(new.map(|name| Arc::new(Field::new(name, timestamp_type(), false))));
        let plan =
            Plan::AssignWindow { input: Arc::clone(&bound.plan), window: spec, schema: Arc::new(Schema::new(fields)) };
        let window = Some(window_columns(spec, false));
        if spec.is_made_by_rows() {
            self.made_by_rows_at = at;
        }
        self.grown(Bound { plan: Arc::new(plan), window, nodes: bound.nodes + 1, ..bound }, at)
    }
}

/// `PROCTIME()`, `now()`, or a `DESCRIPTOR` of one.
pub(crate) fn is_arrival(expr: &ast::Expr) -> bool {
    let ast::Expr::Function(function) = expr else { return false };
    let args = match &function.args {
        ast::FunctionArguments::List(list) => list.args.as_slice(),
        _ => &[],
    };
    match (function_name(function).as_str(), args) {
        ("proctime" | "now" | "current_timestamp" | "localtimestamp", []) => true,
        ("descriptor", [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(inner))]) => is_arrival(inner),
        _ => false,
    }
}

/// `DESCRIPTOR(ts)` or the bare column.
fn descriptor(expr: &ast::Expr) -> Option<ast::Ident> {
    match expr {
        ast::Expr::Identifier(ident) => Some(ident.clone()),
        ast::Expr::CompoundIdentifier(parts) => parts.last().cloned(),
        ast::Expr::Function(function) if function_name(function) == "descriptor" => {
            let ast::FunctionArguments::List(list) = &function.args else { return None };
            match list.args.as_slice() {
                [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(inner))] => descriptor(inner),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Windows that rows of the given windows fall into one by one, by their ends.
pub(super) fn ends(spec: WindowSpec) -> WindowSpec {
    if let WindowKind::Calendar(_) = spec.kind {
        return spec;
    }
    let (size_ns, slide_ns) = (spec.size_ns(), spec.slide_ns());
    let offset_ns = (spec.offset_ns + size_ns).rem_euclid(slide_ns);
    WindowSpec { kind: WindowKind::Tumble { size_ns: slide_ns }, offset_ns }
}

/// The text of a length or a name, and the unit that stands behind it.
fn text_of(expr: &ast::Expr) -> Option<(String, Option<String>)> {
    let text = |expr: &ast::Expr| match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) | ast::Value::Number(text, _) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    };
    match expr {
        ast::Expr::Interval(ast::Interval { value, leading_field, last_field: None, .. }) => {
            Some((text(value)?, leading_field.as_ref().map(|field| field.to_string().to_lowercase())))
        }
        other => text(other).map(|text| (text, None)),
    }
}

/// A whole number.
fn count(expr: &ast::Expr) -> Option<u64> {
    match expr {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(number, _) => number.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

fn interval(expr: &ast::Expr) -> Result<i64, (String, String)> {
    let not = || ("this is not an interval".to_owned(), "write '10s' or INTERVAL '10' SECOND".to_owned());
    match expr {
        ast::Expr::Nested(inner) => interval(inner),
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => interval(expr).map(|ns| -ns),
        ast::Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) => duration::parse(text, None),
            _ => Err(not()),
        },
        ast::Expr::Interval(ast::Interval { value, leading_field, last_field: None, .. }) => {
            let ast::Expr::Value(value) = value.as_ref() else { return Err(not()) };
            let unit = leading_field.as_ref().map(|field| field.to_string().to_lowercase());
            match &value.value {
                ast::Value::SingleQuotedString(text) | ast::Value::Number(text, _) => {
                    duration::parse(text, unit.as_deref())
                }
                _ => Err(not()),
            }
        }
        _ => Err(not()),
    }
}
