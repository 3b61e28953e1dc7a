//! `tumble` and `hop`, in both spellings.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion_sql::sqlparser::ast;

use super::check::{function_name, unknown_column};
use super::from::window_columns;
use super::{Binder, Bound, column_of};
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

/// A call of a window function.
pub(super) struct WindowCall {
    /// The windows.
    pub(super) spec: WindowSpec,
    /// The event-time column, when one is named.
    pub(super) column: Option<ast::Ident>,
}

/// How a window function is called.
pub(super) fn wrong_arguments(name: &str, at: Option<Span>) -> Diagnostic {
    let help = if name == "hop" {
        "write hop(slide, size) in GROUP BY, as in hop('2s', '10s'), or FROM HOP(TABLE t, DESCRIPTOR(ts), slide, size)"
    } else {
        "write tumble(size) in GROUP BY, as in tumble('10s'), or FROM TUMBLE(TABLE t, DESCRIPTOR(ts), size)"
    };
    Diagnostic::new("invalid", format!("{name}(…) is not called like this")).at(at).help(help)
}

/// The window function that an expression of GROUP BY calls, or `None` when it calls none.
pub(super) fn window_function(expr: &ast::Expr) -> Option<(String, &ast::Function)> {
    match expr {
        ast::Expr::Function(function) => {
            let name = function_name(function);
            ["tumble", "hop", "session", "cumulate", "count_window"]
                .contains(&name.as_str())
                .then_some((name, function))
        }
        ast::Expr::Nested(inner) => window_function(inner),
        _ => None,
    }
}

impl Binder<'_> {
    /// The short form in GROUP BY.
    pub(super) fn short_form(&mut self, name: &str, function: &ast::Function, bound: &Bound) -> Option<WindowSpec> {
        let at = self.place(function);
        if !["tumble", "hop"].contains(&name) {
            self.refuse(format!("{name} windows are not available"), at, "tumble and hop windows are");
            return None;
        }
        let ast::FunctionArguments::List(list) = &function.args else {
            self.tell(wrong_arguments(name, at));
            return None;
        };
        let plain = list.args.iter().map(|arg| match arg {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some(expr),
            _ => None,
        });
        let Some(args) = plain.collect::<Option<Vec<_>>>() else {
            self.tell(wrong_arguments(name, at));
            return None;
        };
        let call = self.window_call(name, &args, at, false)?;
        match &call.column {
            Some(column) if !self.check_time(bound, column) => None,
            _ => Some(call.spec),
        }
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
        let lengths = if column.is_some() { &args[1..] } else { args };
        if needs_column && column.is_none() {
            self.tell(
                wrong_arguments(name, at).note("the second argument names the event-time column: DESCRIPTOR(ts)"),
            );
            return None;
        }
        let wanted = if name == "hop" { 2 } else { 1 };
        if lengths.len() < wanted || lengths.len() > wanted + 1 {
            self.tell(wrong_arguments(name, at));
            return None;
        }
        let mut read = Vec::with_capacity(lengths.len());
        for (index, length) in lengths.iter().enumerate() {
            read.push(self.length(length, index == wanted)?);
        }
        let offset_ns = read.get(wanted).copied().unwrap_or(0);
        let kind = if name == "hop" {
            let (slide_ns, size_ns) = (read[0], read[1]);
            if size_ns / slide_ns >= MAX_WINDOWS_OF_A_ROW {
                let message = format!(
                    "windows of {} every {} put each row in {} windows: the limit is {MAX_WINDOWS_OF_A_ROW}",
                    human(size_ns),
                    human(slide_ns),
                    size_ns / slide_ns
                );
                self.tell(Diagnostic::new("limit", message).at(at).help("the slide comes first: hop(slide, size)"));
                return None;
            }
            WindowKind::Hop { size_ns, slide_ns }
        } else {
            WindowKind::Tumble { size_ns: read[0] }
        };
        let spec = WindowSpec { kind, offset_ns };
        let spec = WindowSpec { offset_ns: offset_ns.rem_euclid(spec.slide_ns()), kind };
        Some(WindowCall { spec, column })
    }

    /// A length of time: `INTERVAL '10' SECOND` or `'10s'`.
    fn length(&mut self, expr: &ast::Expr, offset: bool) -> Option<i64> {
        let at = self.place(expr).or_else(|| self.text.end_span());
        match interval(expr) {
            Ok(ns) if offset && ns.abs() <= MAX_WINDOW_NS => Some(ns),
            Ok(ns) if (MIN_WINDOW_NS..=MAX_WINDOW_NS).contains(&ns) => Some(ns),
            Ok(ns) => {
                let message = format!("{} is out of range: windows last from 1ms to 100 years", human(ns));
                self.tell(Diagnostic::new("limit", message).at(at));
                None
            }
            Err((message, help)) => {
                self.tell(Diagnostic::new("invalid", message).at(at).help(help));
                None
            }
        }
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
        self.grown(Bound { plan: Arc::new(plan), window, nodes: bound.nodes + 1, ..bound }, at)
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
