//! A walk over an expression's syntax before it is planned, so that every unknown name is told, not just the first.

use std::ops::ControlFlow;

use arrow::datatypes::DataType;
use datafusion_sql::sqlparser::ast::{self, Visit, Visitor};

use super::Binder;
use super::expr::Scope;
use crate::diagnostic::{Diagnostic, Span};
use crate::functions::{Called, Registry};
use crate::parse::{fold, unsupported};
use crate::suggest;
use crate::{WINDOW_END, WINDOW_START, WINDOW_TIME};

/// Bytes or items that one call may be told to make of a row.
const MAX_GROWTH: f64 = 100_000.0;

impl Binder<'_> {
    /// True when all names are known and nothing in it is refused.
    pub(super) fn check(&mut self, syntax: &ast::Expr, scope: &Scope) -> bool {
        let lambda = Vec::new();
        let mut walk = Walk { binder: self, scope, good: true, queries: 0, alternatives: 0, aggregates: 0, lambda };
        let _ = syntax.visit(&mut walk);
        walk.good
    }
}

struct Walk<'w, 'a> {
    binder: &'w mut Binder<'a>,
    scope: &'w Scope,
    good: bool,
    /// Sub-queries that the walk is in.
    queries: usize,
    /// Conditions with OR that the walk is in.
    alternatives: usize,
    /// Calls of aggregates that the walk is in.
    aggregates: usize,
    /// Parameters of lambdas seen so far.
    lambda: Vec<String>,
}

impl Visitor for Walk<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        if self.queries == 0 {
            let at = self.binder.place(query);
            let help = if self.alternatives > 0 {
                "a row that meets either condition: a query for each, the later ones without what those before give: SELECT … \
                 WHERE c UNION ALL SELECT … WHERE EXISTS (SELECT …) AND c IS NOT TRUE; or a LEFT JOIN, whose columns \
                 are null where there is no partner"
            } else {
                "IN (SELECT …) and EXISTS (SELECT …) stand by themselves in WHERE, beside AND; others are written as a \
                 sub-query in FROM and joined; for a fixed list of values write IN ('a', 'b')"
            };
            self.tell(unsupported("a query inside an expression is not available", at).help(help));
        }
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
        if self.queries > 0 {
            return ControlFlow::Continue(());
        }
        match expr {
            ast::Expr::BinaryOp { op: ast::BinaryOperator::Or, .. } => self.alternatives += 1,
            ast::Expr::Lambda(lambda) => self.lambda.extend(lambda.params.iter().map(|param| fold(&param.name))),
            ast::Expr::Identifier(ident) => self.identifier(ident),
            ast::Expr::CompoundIdentifier(parts) => self.compound(parts),
            ast::Expr::Function(function) => self.function(function),
            ast::Expr::Wildcard(_) | ast::Expr::QualifiedWildcard(..) => {
                let at = self.binder.place(expr);
                self.tell(
                    Diagnostic::new("syntax", "* stands alone in a SELECT list or in count(*)")
                        .at(at)
                        .help("name the column that is meant"),
                );
            }
            ast::Expr::GroupingSets(_) | ast::Expr::Cube(_) | ast::Expr::Rollup(_) => {
                let at = self.binder.place(expr);
                self.tell(
                    unsupported("GROUPING SETS, CUBE and ROLLUP stand by themselves in GROUP BY", at)
                        .help("GROUP BY ROLLUP (country, city), tumble('10s')"),
                );
            }
            ast::Expr::BinaryOp { op: ast::BinaryOperator::BitwiseXor, .. } => {
                let at = self.binder.place(expr);
                let mistake =
                    unsupported("^ is not available: it is a power to some and an exclusive or to others", at);
                self.tell(
                    mistake.help("write power(x, 2), or (a | b) - (a & b) for the bits in which two numbers differ"),
                );
            }
            // DataFusion reads the pattern as a regular expression that may match anywhere.
            ast::Expr::SimilarTo { .. } => {
                let at = self.binder.place(expr);
                let mistake = unsupported("SIMILAR TO is not available", at);
                self.tell(mistake.help("write channel ~ '^(a|b.*)$', a regular expression, or channel LIKE 'b%'"));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<()> {
        match expr {
            ast::Expr::BinaryOp { op: ast::BinaryOperator::Or, .. } if self.queries == 0 => self.alternatives -= 1,
            ast::Expr::Function(function)
                if self.queries == 0 && function.over.is_none() && self.is_aggregate(function) =>
            {
                self.aggregates -= 1;
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The name that a function is called by, folded; of a dotted name all of it.
pub(super) fn function_name(function: &ast::Function) -> String {
    let parts = function.name.0.iter().filter_map(|part| part.as_ident()).map(fold);
    parts.collect::<Vec<_>>().join(".")
}

impl Walk<'_, '_> {
    fn tell(&mut self, diagnostic: Diagnostic) {
        self.good = false;
        self.binder.tell(diagnostic);
    }

    fn is_aggregate(&self, function: &ast::Function) -> bool {
        matches!(Registry::get().called(&function_name(function)), Called::Aggregate)
    }

    fn identifier(&mut self, ident: &ast::Ident) {
        let name = fold(ident);
        if self.scope.schema.has_column_with_unqualified_name(&name) || self.lambda.contains(&name) {
            return;
        }
        let at = self.binder.text.span(ident.span);
        let mistake = unknown_column(&name, ident.quote_style == Some('"'), self.scope, at);
        self.tell(mistake);
    }

    fn compound(&mut self, parts: &[ast::Ident]) {
        let [first, second, rest @ ..] = parts else { return };
        let (first_name, second_name) = (fold(first), fold(second));
        if self.lambda.contains(&first_name) {
            return;
        }
        let at = self.binder.text.span(second.span);
        if self.scope.qualifier.as_ref() == Some(&first_name) {
            match self.scope.schema.field_with_unqualified_name(&second_name) {
                Ok(field) => {
                    let data_type = field.data_type().clone();
                    self.fields(&second_name, &data_type, rest);
                }
                Err(_) => {
                    let mistake = unknown_column(&second_name, second.quote_style == Some('"'), self.scope, at);
                    self.tell(mistake);
                }
            }
        } else if let Ok(field) = self.scope.schema.field_with_unqualified_name(&first_name) {
            let data_type = field.data_type().clone();
            self.fields(&first_name, &data_type, &parts[1..]);
        } else {
            let at = self.binder.text.span(first.span);
            let mut names: Vec<&str> = self.scope.schema.fields().iter().map(|field| field.name().as_str()).collect();
            names.extend(self.scope.qualifier.as_deref());
            let mistake = Diagnostic::new(
                "unknown_column",
                format!("\"{first_name}\" is neither the relation nor a column of it"),
            );
            let mistake = mistake.at(at);
            let nearest = suggest::nearest(&first_name, names.iter().copied());
            self.tell(match nearest {
                Some(nearest) => mistake.help(format!("did you mean \"{nearest}\"?")),
                None => mistake.note(format!("names here: {}", suggest::list(names))),
            });
        }
    }

    /// The path into a struct column.
    fn fields(&mut self, column: &str, data_type: &DataType, path: &[ast::Ident]) {
        let Some((first, rest)) = path.split_first() else { return };
        let at = self.binder.text.span(first.span);
        let name = fold(first);
        if *data_type == crate::functions::json::JSON {
            return;
        }
        let DataType::Struct(fields) = data_type else {
            let actual = crate::types::sql_name(data_type);
            self.tell(
                Diagnostic::new("type_mismatch", format!("\"{column}\" is a {actual} and has no fields"))
                    .at(at)
                    .help("fields are of STRUCT and JSON columns; DESCRIBE name tells the types"),
            );
            return;
        };
        match fields.find(&name) {
            Some((_, field)) => self.fields(&name, &field.data_type().clone(), rest),
            None => {
                let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
                let mistake = Diagnostic::new("unknown_column", format!("\"{column}\" has no field \"{name}\"")).at(at);
                self.tell(match suggest::nearest(&name, names.iter().copied()) {
                    Some(nearest) => mistake.help(format!("did you mean \"{nearest}\"?")),
                    None => mistake.note(format!("its fields: {}", suggest::list(names))),
                });
            }
        }
    }

    fn function(&mut self, function: &ast::Function) {
        let name = function_name(function);
        let at = function
            .name
            .0
            .first()
            .and_then(|part| part.as_ident())
            .and_then(|ident| self.binder.text.span(ident.span));
        if function.over.is_some() {
            self.tell(super::rank::refused_over(&name, at));
            return;
        }
        match Registry::get().called(&name) {
            Called::Scalar => {
                self.check_growth(&name, function);
                if let Some(mistake) = super::time_format::check(self.binder, &name, function) {
                    self.tell(mistake);
                }
                if function.filter.is_some() {
                    self.tell(
                        Diagnostic::new("invalid", format!("\"{name}\" is not an aggregate: it takes no FILTER"))
                            .at(at)
                            .help("FILTER (WHERE …) stands behind count, sum and the like; CASE WHEN … THEN … END chooses values"),
                    );
                }
            }
            Called::Aggregate => {
                if !self.scope.aggregates {
                    let message = format!("aggregate \"{name}\" cannot be used in {}", self.scope.clause);
                    self.tell(Diagnostic::new("misplaced_aggregate", message).at(at).help(match self.scope.clause {
                        "WHERE" => "conditions on aggregates stand in HAVING, after GROUP BY",
                        _ => "aggregates stand in the SELECT list and in HAVING",
                    }));
                } else if self.aggregates > 0 {
                    self.tell(
                        Diagnostic::new("misplaced_aggregate", format!("aggregate \"{name}\" stands inside another"))
                            .at(at)
                            .help("aggregate in a sub-query first, and aggregate its result"),
                    );
                }
                self.aggregates += 1;
            }
            Called::Unknown(nearest) => self.unknown_function(&name, nearest, at),
        }
    }

    /// Functions that make much out of little take no huge constant.
    fn check_growth(&mut self, name: &str, function: &ast::Function) {
        let ast::FunctionArguments::List(list) = &function.args else { return };
        if !Registry::grows(name) {
            return;
        }
        for arg in &list.args {
            if let ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Value(value))) = arg
                && let ast::Value::Number(number, _) = &value.value
                && number.parse::<f64>().is_ok_and(|number| number > MAX_GROWTH)
            {
                let at = self.binder.text.span(value.span);
                let message = format!("{number} is too many for {name}(…): the limit is {MAX_GROWTH}");
                self.tell(Diagnostic::new("limit", message).at(at).help(format!("ask for {MAX_GROWTH} or less")));
            }
        }
    }

    fn unknown_function(&mut self, name: &str, nearest: Option<String>, at: Option<Span>) {
        if super::window::WINDOW_FUNCTIONS.contains(&name) {
            let message = format!("{name}(…) stands in GROUP BY or FROM, not in {}", self.scope.clause);
            self.tell(
                Diagnostic::new("misplaced_window", message)
                    .at(at)
                    .help("GROUP BY tumble('10s') and select window_start, window_end"),
            );
            return;
        }
        if ["row_number", "rank", "dense_rank", "ntile", "percent_rank", "cume_dist"].contains(&name)
            || super::track_call::is_function(name)
        {
            self.tell(super::rank::refused_over(name, at));
            return;
        }
        if name == "unnest" {
            self.tell(
                unsupported("unnest stands once in a SELECT list, over a list of the input's", at)
                    .help("several lists are taken apart in FROM: FROM s CROSS JOIN UNNEST(a) AS x(a) CROSS JOIN …"),
            );
            return;
        }
        if let Some(syntax) = crate::functions::spellings::syntax(name) {
            let mistake = Diagnostic::new("invalid", format!("{name} does not take these arguments"));
            self.tell(mistake.at(at).help(format!("it is called {syntax}")));
            return;
        }
        let mistake = Diagnostic::new("unknown_function", format!("no function \"{name}\"")).at(at);
        self.tell(match nearest {
            Some(nearest) => mistake.help(format!("did you mean \"{nearest}\"?")),
            None => mistake.help("the console's completion lists all functions"),
        });
    }
}

/// A column that is not there, and what may have been meant.
pub(super) fn unknown_column(name: &str, quoted: bool, scope: &Scope, at: Option<Span>) -> Diagnostic {
    let names: Vec<&str> = scope.schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mistake = Diagnostic::new("unknown_column", format!("{} has no column \"{name}\"", scope.label)).at(at);
    if let Some(exact) = names.iter().find(|candidate| candidate.to_lowercase() == name.to_lowercase()) {
        return mistake.help(format!(
            "did you mean \"{exact}\"? write it with the double quotes: names without them are read in lower case"
        ));
    }
    if let Some(nearest) = suggest::nearest(name, names.iter().copied()) {
        return mistake.help(format!("did you mean \"{nearest}\"?"));
    }
    if [WINDOW_START, WINDOW_END, WINDOW_TIME, "window"].contains(&name) {
        return mistake
            .help("GROUP BY tumble('10s'), or FROM TUMBLE(TABLE …, DESCRIPTOR(…), INTERVAL '10' SECOND), adds it");
    }
    let mistake = mistake.note(format!("its columns: {}", suggest::list(names)));
    if quoted { mistake.help(format!("a text stands in single quotes: '{name}'")) } else { mistake }
}
