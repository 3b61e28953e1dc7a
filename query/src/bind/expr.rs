//! Expressions: from syntax to DataFusion's typed and coerced form.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, DataFusionError, plan_err};
use datafusion_expr::{Expr, ExprSchemable};
use datafusion_sql::planner::{PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{self, Visit, Visitor};

use super::Binder;
use super::coerce::coerce;
use super::names::with_paths;
use crate::diagnostic::{Diagnostic, Span};
use crate::functions::{Registry, json};
use crate::parse::fold;
use crate::types::{sql_name, translate};

/// What an expression may name.
pub(super) struct Scope {
    /// The input's columns.
    pub(super) schema: DFSchema,
    /// What the input is called, in messages.
    pub(super) label: String,
    /// The name that columns may be qualified with.
    pub(super) qualifier: Option<String>,
    /// What the columns of several relations are called.
    pub(super) joined: Option<super::join::Joined>,
    /// The clause, in messages.
    pub(super) clause: &'static str,
    /// Aggregates may be called.
    pub(super) aggregates: bool,
    /// Names of the input's columns, once they were asked for.
    pub(super) names: OnceCell<HashSet<String>>,
}

impl Scope {
    /// A scope without aggregates.
    pub(super) fn new(schema: DFSchema, label: String, clause: &'static str) -> Self {
        Self { schema, label, qualifier: None, joined: None, clause, aggregates: false, names: OnceCell::new() }
    }
}

/// Mistakes that are told; behind so many no further expression is looked at.
const MAX_MISTAKES: usize = 100;
/// Characters of a column's name that is made of an expression.
const MAX_NAME_CHARS: usize = 60;
/// Sub-expressions that are tried while looking for the smallest wrong one.
const MAX_TRIES: usize = 200;

impl Binder<'_> {
    /// The expression, typed, its columns unqualified and with their places.
    pub(super) fn expr(&mut self, syntax: &ast::Expr, scope: &Scope) -> Option<Expr> {
        if let Some(column) = plain_column(syntax, scope) {
            return Some(column);
        }
        if self.mistakes.len() >= MAX_MISTAKES {
            return None;
        }
        let mut syntax = with_paths(syntax);
        if let Some(joined) = &scope.joined {
            syntax = self.resolve(&syntax, &[joined])?;
        }
        let syntax = &syntax;
        if !self.check(syntax, scope) {
            return None;
        }
        match plan(syntax, scope) {
            Ok(expr) => Some(expr),
            Err(error) => {
                let mut tries = MAX_TRIES;
                let mut culprits = Vec::new();
                smallest(syntax, error, scope, &mut tries, &mut culprits);
                for (culprit, error) in culprits {
                    let at = self.place(&culprit).or_else(|| self.place(syntax));
                    self.tell(mistake(&error, at));
                }
                None
            }
        }
    }

    /// A condition: an expression that must be a BOOLEAN.
    pub(super) fn condition(&mut self, syntax: &ast::Expr, scope: &Scope) -> Option<Expr> {
        let expr = self.expr(syntax, scope)?;
        let at = self.place(syntax);
        match data_type(&expr, &scope.schema) {
            Ok(DataType::Boolean | DataType::Null) => Some(expr),
            Ok(other) => {
                let message = format!("{} needs a condition, this is a {}", scope.clause, sql_name(&other));
                self.tell(
                    Diagnostic::new("type_mismatch", message).at(at).help("compare it with something: price > 10"),
                );
                None
            }
            Err(message) => {
                self.tell(Diagnostic::new("type_mismatch", message).at(at));
                None
            }
        }
    }
}

/// A column's name alone, as `*` stands for many: found at once, where the planner looks through all columns many times.
fn plain_column(syntax: &ast::Expr, scope: &Scope) -> Option<Expr> {
    let ast::Expr::Identifier(ident) = syntax else { return None };
    let name = fold(ident);
    let names = || scope.schema.fields().iter().map(|field| field.name().clone()).collect();
    if scope.joined.is_some() || !scope.names.get_or_init(names).contains(&name) {
        return None;
    }
    let mut column = Column::new_unqualified(name);
    if let Some(span) = datafusion_common::Span::try_from_sqlparser_span(ident.span) {
        column.spans_mut().add_span(span);
    }
    Some(Expr::Column(column))
}

/// Plans and types an expression that has passed the checks.
fn plan(syntax: &ast::Expr, scope: &Scope) -> Result<Expr, DataFusionError> {
    let planner = SqlToRel::new(Registry::get());
    let expr = planner.sql_to_expr(syntax.clone(), &scope.schema, &mut PlannerContext::new())?;
    let expr = json::resolve(bare(expr)?, &scope.schema)?;
    let expr = coerce(expr, &scope.schema)?;
    let expr = json::as_text(bare(expr)?, &scope.schema)?;
    expr.to_field(&scope.schema)?;
    check_casts(&expr, &scope.schema)?;
    Ok(expr)
}

/// Every cast is between types that can be cast.
fn check_casts(expr: &Expr, schema: &DFSchema) -> Result<(), DataFusionError> {
    expr.apply(|expr| {
        let (inner, to) = match expr {
            Expr::Cast(cast) => (&cast.expr, cast.field.data_type()),
            Expr::TryCast(cast) => (&cast.expr, cast.field.data_type()),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        let from = inner.get_type(schema)?;
        if !can_cast_types(&from, to) {
            return plan_err!("a {} cannot be cast to {}", sql_name(&from), sql_name(to));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// The expression without aliases, and its columns without qualifiers.
fn bare(expr: Expr) -> Result<Expr, DataFusionError> {
    expr.transform_up(|expr| {
        Ok(match expr {
            Expr::Alias(alias) => Transformed::yes(*alias.expr),
            Expr::Column(column) if column.relation.is_some() => {
                Transformed::yes(Expr::Column(Column { relation: None, name: column.name, spans: column.spans }))
            }
            other => Transformed::no(other),
        })
    })
    .map(|transformed| transformed.data)
}

/// The type of an expression.
pub(super) fn data_type(expr: &Expr, schema: &DFSchema) -> Result<DataType, String> {
    expr.get_type(schema).map_err(|error| message(&error))
}

/// The field that an expression makes.
pub(super) fn field(expr: &Expr, name: &str, schema: &DFSchema) -> Result<FieldRef, String> {
    let (_, field) = expr.to_field(schema).map_err(|error| message(&error))?;
    Ok(Arc::new(Field::new(name, field.data_type().clone(), field.is_nullable())))
}

/// The innermost parts of an expression that cannot be planned by themselves, and why.
fn smallest(
    syntax: &ast::Expr,
    error: DataFusionError,
    scope: &Scope,
    tries: &mut usize,
    found: &mut Vec<(ast::Expr, DataFusionError)>,
) {
    let before = found.len();
    for child in children(syntax) {
        if *tries == 0 {
            break;
        }
        *tries -= 1;
        if let Err(error) = plan(&child, scope) {
            smallest(&child, error, scope, tries, found);
        }
    }
    if found.len() == before {
        found.push((syntax.clone(), error));
    }
}

#[derive(Default)]
struct Children {
    depth: usize,
    lambdas: usize,
    found: Vec<ast::Expr>,
}

impl Visitor for Children {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
        self.depth += 1;
        self.lambdas += usize::from(matches!(expr, ast::Expr::Lambda(_)));
        if self.depth == 2 && self.lambdas == 0 {
            self.found.push(expr.clone());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
        self.depth -= 1;
        self.lambdas -= usize::from(matches!(expr, ast::Expr::Lambda(_)));
        ControlFlow::Continue(())
    }
}

/// The expressions right below one.
fn children(syntax: &ast::Expr) -> Vec<ast::Expr> {
    let mut children = Children::default();
    let _ = syntax.visit(&mut children);
    children.found
}

/// DataFusion's message in our words.
pub(super) fn message(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let mut text = text.as_str();
    for prefix in [
        "Error during planning: ",
        "Schema error: ",
        "This feature is not implemented: ",
        "Execution error: ",
        "Internal error: ",
        "Arrow error: ",
        "type_coercion",
        "\ncaused by\n",
        "Error during planning: ",
    ] {
        text = text.strip_prefix(prefix).unwrap_or(text);
    }
    if let Some((_, cause)) = text.split_once("user-defined coercion failed with: Error during planning: ") {
        text = cause;
    }
    let text = text.split("\n").next().unwrap_or(text).trim_end_matches('.');
    let text = translate(text).replace(['\'', '`'], "\"");
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().collect::<String>() + chars.as_str())
}

/// A mistake of types, told in our words.
fn mistake(error: &DataFusionError, at: Option<Span>) -> Diagnostic {
    let text = error.strip_backtrace();
    if let DataFusionError::NotImplemented(_) = error.find_root() {
        // What DataFusion does not know it shows as it is held in memory.
        let shown = message(error);
        let told = if shown.contains("Span(") { "this expression is not available".to_owned() } else { shown };
        return Diagnostic::new("unsupported", told).at(at);
    }
    let told = wrong_call(&text).or_else(|| wrong_operands(&text).map(|message| (message, None)));
    let (message, called) = told.unwrap_or_else(|| (message(error), None));
    let diagnostic = Diagnostic::new("type_mismatch", message).at(at);
    match called.and_then(|name| Registry::syntax(&name)) {
        Some(syntax) => diagnostic.help(format!("it is called {syntax}")),
        None if diagnostic.message.contains("cannot be cast") => diagnostic,
        None => diagnostic.help("CAST(… AS type) changes a type"),
    }
}

/// What is wrong with a function's arguments, and the function.
fn wrong_call(text: &str) -> Option<(String, Option<String>)> {
    if text.contains("user-defined coercion failed") {
        return None;
    }
    if let Some(call) = between(text, "argument types '", "'") {
        let (name, arguments) = call.split_once('(')?;
        let arguments = translate(arguments.strip_suffix(')').unwrap_or(arguments));
        let message = if arguments.is_empty() {
            format!("function \"{name}\" needs arguments")
        } else {
            format!("function \"{name}\" does not take ({arguments})")
        };
        return Some((message, Some(name.to_owned())));
    }
    let name = between(text, "unction '", "'")?;
    let message = if let Some(given) = between(text, "(DataType: ", ").") {
        format!("function \"{name}\" does not take a {}", translate(given))
    } else if let (Some(wanted), Some(given)) =
        (between(text, "expects ", " arguments"), text.split("received ").nth(1))
    {
        let given = given.split(|c: char| !c.is_ascii_digit()).next().unwrap_or(given);
        let plural = if wanted == "1" { "" } else { "s" };
        format!("function \"{name}\" takes {wanted} argument{plural}, not {given}")
    } else if let (Some(wanted), Some(given)) = (between(text, "expects ", " but"), text.split("received ").nth(1)) {
        let native = |name: &str| name.lines().next().unwrap_or(name).replace("NativeType::", "").to_uppercase();
        let given = native(given).replace("STRING", "VARCHAR");
        format!("function \"{name}\" takes a {}, not a {given}", native(wanted))
    } else {
        return None;
    };
    Some((message, Some(name.to_owned())))
}

/// What is wrong with an operator's operands.
fn wrong_operands(text: &str) -> Option<String> {
    for (start, word) in [("arithmetic expression ", "compute"), ("comparison operation ", "compare")] {
        let line = text.lines().next().unwrap_or(text);
        let rest = line.split_once(start).map(|(_, rest)| rest);
        if let Some(operands) = rest.map(|rest| rest.split_once(" to ").map_or(rest, |(operands, _)| operands)) {
            return Some(format!("cannot {word} {}", translate(operands.trim())));
        }
    }
    None
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let from = text.find(start)? + start.len();
    let rest = &text[from..];
    Some(&rest[..rest.find(end)?])
}

/// Names of the columns that an expression reads.
pub(crate) fn columns(expr: &Expr) -> Vec<String> {
    let mut names: Vec<String> = expr.column_refs().into_iter().map(|column| column.name.clone()).collect();
    names.sort();
    names
}

/// The same, with each name as often as it is read.
pub(crate) fn columns_with_repeats(expr: &Expr) -> Vec<String> {
    let mut names = Vec::new();
    let _ = expr.apply(|expr| {
        if let Expr::Column(column) = expr {
            names.push(column.name.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    names
}

/// Puts expressions in the place of columns.
pub(crate) fn substitute(expr: Expr, with: &dyn Fn(&str) -> Option<Expr>) -> Expr {
    let replaced = expr.transform_up(|expr| {
        let replacement = match &expr {
            Expr::Column(column) => with(&column.name),
            _ => None,
        };
        Ok(match replacement {
            Some(replacement) => Transformed::yes(replacement),
            None => Transformed::no(expr),
        })
    });
    replaced.expect("the closure does not fail").data
}

/// A name for the column that an unnamed expression makes: its text, small outside quotes.
pub(crate) fn default_name(syntax: &ast::Expr) -> String {
    match syntax {
        ast::Expr::Identifier(ident) => crate::parse::fold(ident),
        ast::Expr::CompoundIdentifier(parts) => parts.last().map(crate::parse::fold).unwrap_or_default(),
        ast::Expr::Nested(inner) => default_name(inner),
        other => {
            let mut quoted = None;
            let small = |c: char| {
                match quoted {
                    Some(quote) if quote == c => quoted = None,
                    None if c == '\'' || c == '"' => quoted = Some(c),
                    _ => {}
                }
                if quoted.is_some() { c } else { c.to_ascii_lowercase() }
            };
            let name: String = other.to_string().chars().take(MAX_NAME_CHARS + 1).map(small).collect();
            match name.char_indices().nth(MAX_NAME_CHARS) {
                Some((end, _)) => format!("{}…", &name[..end]),
                None => name,
            }
        }
    }
}

/// The place of a planned expression: that of its first column.
pub(super) fn first_span(expr: &Expr, text: &crate::text::Text<'_>) -> Option<Span> {
    let mut found = None;
    let _ = expr.apply(|expr| {
        if let Expr::Column(column) = expr
            && let Some(span) = column.spans.first()
        {
            use datafusion_sql::sqlparser::tokenizer::{Location, Span as TokenSpan};
            let at = |location: datafusion_common::Location| Location::new(location.line, location.column);
            found = text.span(TokenSpan::new(at(span.start), at(span.end)));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}
