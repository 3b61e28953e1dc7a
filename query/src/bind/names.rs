//! Names of the `SELECT` list and of windows, put in place in the syntax before it is planned.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{self, Visit, VisitMut, Visitor, VisitorMut};
use datafusion_sql::sqlparser::tokenizer::Span as TokenSpan;

use super::check::function_name;
use super::group::{Grouping, WINDOW};
use super::select::Item;
use super::window::WINDOW_FUNCTIONS;
use crate::parse::fold;
use crate::{WINDOW_END, WINDOW_START, WINDOW_TIME};

/// Nodes of an expression after names of the `SELECT` list were put in place.
pub(super) const MAX_EXPANDED_NODES: usize = 10_000;

/// Puts the `SELECT` list's expressions in place of its names, where the input has no such column.
pub(super) fn expand_aliases(syntax: &ast::Expr, items: &[Item], known: &dyn Fn(&str) -> bool) -> ast::Expr {
    struct Expand<'e> {
        items: &'e [Item],
        known: &'e dyn Fn(&str) -> bool,
    }
    impl VisitorMut for Expand<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            if let ast::Expr::Identifier(ident) = expr
                && !(self.known)(&fold(ident))
                && let Some(item) = self.items.iter().find(|item| item.alias && item.name == fold(ident))
            {
                *expr = ast::Expr::Nested(Box::new(item.syntax.clone()));
            }
            ControlFlow::Continue(())
        }
    }
    let mut syntax = syntax.clone();
    let _ = VisitMut::visit(&mut syntax, &mut Expand { items, known });
    syntax
}

/// How many expressions are in an expression.
pub(super) fn nodes(syntax: &ast::Expr) -> usize {
    struct Count(usize);
    impl Visitor for Count {
        type Break = ();
        fn pre_visit_expr(&mut self, _expr: &ast::Expr) -> ControlFlow<()> {
            self.0 += 1;
            ControlFlow::Continue(())
        }
    }
    let mut count = Count(0);
    let _ = syntax.visit(&mut count);
    count.0
}

impl Grouping {
    /// The expression with `tumble(…)`, `TUMBLE_START(…)` and `window.start` replaced by the columns they mean.
    pub(super) fn in_place(&self, syntax: &ast::Expr) -> ast::Expr {
        struct Replace<'r>(&'r str);
        impl VisitorMut for Replace<'_> {
            type Break = ();
            fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
                if let Some((name, ident)) = window_name(expr, self.0) {
                    let mut replacement = ast::Ident::new(name);
                    replacement.span = ident;
                    *expr = ast::Expr::Identifier(replacement);
                }
                ControlFlow::Continue(())
            }
        }
        let Some(call) = &self.call else { return syntax.clone() };
        let mut syntax = syntax.clone();
        let _ = VisitMut::visit(&mut syntax, &mut Replace(call));
        syntax
    }
}

/// The window column that an expression stands for, given the text of GROUP BY's window call.
fn window_name(expr: &ast::Expr, call: &str) -> Option<(&'static str, TokenSpan)> {
    match expr {
        ast::Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [window, bound] if fold(window) == WINDOW => match fold(bound).as_str() {
                "start" => Some((WINDOW_START, bound.span)),
                "end" => Some((WINDOW_END, bound.span)),
                _ => None,
            },
            _ => None,
        },
        ast::Expr::Function(function) => {
            let place = function.name.0.first()?.as_ident()?.span;
            let name = function_name(function);
            let suffix = WINDOW_FUNCTIONS.iter().find_map(|function| name.strip_prefix(function))?;
            let arguments = |text: &str| text.split_once('(').map(|(_, rest)| rest.to_owned());
            if arguments(&expr.to_string())? != arguments(call)? {
                return None;
            }
            match suffix {
                "" => Some((WINDOW, place)),
                "_start" => Some((WINDOW_START, place)),
                "_end" => Some((WINDOW_END, place)),
                "_rowtime" => Some((WINDOW_TIME, place)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The expression in the form that DataFusion plans: lambdas as such; of `a.b[1].c` the names before the first bracket
/// as one dotted name, those behind it as texts.
pub(super) fn with_paths(syntax: &ast::Expr) -> ast::Expr {
    struct Paths;
    impl VisitorMut for Paths {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            if let ast::Expr::Function(function) = expr {
                super::lambda::read(function);
                // `user` without parentheses is a column here: there are no users to ask for.
                if let (ast::FunctionArguments::None, [ast::ObjectNamePart::Identifier(name)]) =
                    (&function.args, function.name.0.as_slice())
                    && name.value.eq_ignore_ascii_case("user")
                {
                    *expr = ast::Expr::Identifier(name.clone());
                }
            }
            if let ast::Expr::CompoundFieldAccess { root, access_chain } = expr {
                // Some names (`user`) are read as calls without brackets.
                for access in access_chain.iter_mut() {
                    if let ast::AccessExpr::Dot(ast::Expr::Function(function)) = access
                        && matches!(function.args, ast::FunctionArguments::None)
                        && let [part] = function.name.0.as_slice()
                        && let Some(ident) = part.as_ident()
                    {
                        *access = ast::AccessExpr::Dot(ast::Expr::Identifier(ident.clone()));
                    }
                }
                let mut names = match root.as_ref() {
                    ast::Expr::Identifier(ident) => vec![ident.clone()],
                    ast::Expr::CompoundIdentifier(idents) => idents.clone(),
                    _ => Vec::new(),
                };
                while !names.is_empty()
                    && let Some(ast::AccessExpr::Dot(ast::Expr::Identifier(ident))) = access_chain.first()
                {
                    names.push(ident.clone());
                    access_chain.remove(0);
                }
                if names.len() > 1 {
                    **root = ast::Expr::CompoundIdentifier(names);
                }
                for access in access_chain.iter_mut() {
                    if let ast::AccessExpr::Dot(ast::Expr::Identifier(ident)) = access {
                        let name = ast::Value::SingleQuotedString(fold(ident)).with_span(ident.span);
                        *access = ast::AccessExpr::Dot(ast::Expr::Value(name));
                    }
                }
                if access_chain.is_empty() {
                    *expr = root.as_ref().clone();
                }
            }
            ControlFlow::Continue(())
        }
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            super::distinct::rotate(expr);
            ControlFlow::Continue(())
        }
    }
    let mut syntax = syntax.clone();
    let _ = VisitMut::visit(&mut syntax, &mut Paths);
    syntax
}

/// The name, with a number behind it when it is taken.
pub(super) fn unique(name: &str, names: &mut Vec<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while names.contains(&candidate) {
        candidate = format!("{name}_{number}");
        number += 1;
    }
    names.push(candidate.clone());
    candidate
}
