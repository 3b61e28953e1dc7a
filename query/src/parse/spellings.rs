//! Calls by other systems' names, read as what they mean: `arg_max(x, y)` as
//! `first_value(x ORDER BY y DESC) FILTER (…)`. Columns that are made of them keep the name that was written.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::LazyLock;

use datafusion_sql::sqlparser::ast::{
    self, BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident,
    SelectItem, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion_sql::sqlparser::parser::Parser;
use datafusion_sql::sqlparser::tokenizer::{Span as TokenSpan, TokenWithSpan, Tokenizer};

use super::fold;
use crate::bind::default_name;
use crate::functions::spellings::{SPELLINGS, Spelling};
use crate::text::{DIALECT, word};

/// `text RLIKE pattern`, which is `text ~ pattern` here.
const MATCHES: [&str; 2] = ["rlike", "regexp"];
/// Names of the arguments in a meaning.
const ARGUMENTS: [&str; 3] = ["a", "b", "c"];

/// What the spellings mean, by name and number of arguments.
type Meanings = HashMap<(&'static str, usize), (&'static Spelling, Expr)>;

static MEANINGS: LazyLock<Meanings> = LazyLock::new(|| {
    let named = SPELLINGS.iter().flat_map(|spelling| {
        // Without places, which would be those of another text.
        let tokens = Tokenizer::new(&DIALECT, spelling.meaning).tokenize().expect("the meanings are texts");
        let expr = Parser::new(&DIALECT).with_tokens(tokens).parse_expr().expect("the meanings are expressions");
        spelling.names.iter().map(move |name| ((*name, spelling.takes), (spelling, expr.clone())))
    });
    named.collect()
});

/// Puts what such calls mean in their place.
pub(super) fn read(query: &mut ast::Query, tokens: &[TokenWithSpan]) {
    let spelt = |name: &str| MATCHES.contains(&name) || SPELLINGS.iter().any(|spelling| spelling.names.contains(&name));
    if tokens.iter().any(|token| word(&token.token).is_some_and(|name| spelt(&name))) {
        let _ = VisitMut::visit(query, &mut Calls);
    }
}

struct Calls;

impl VisitorMut for Calls {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<()> {
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && Visit::visit(expr, &mut Spelt).is_break()
            {
                let alias = Ident::with_quote('"', default_name(expr));
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(call) => {
                if let Some(meaning) = meaning(call) {
                    *expr = meaning;
                }
            }
            Expr::RLike { negated, expr: text, pattern, .. } => {
                let op = if *negated { BinaryOperator::PGRegexNotMatch } else { BinaryOperator::PGRegexMatch };
                *expr = Expr::BinaryOp { left: text.clone(), op, right: pattern.clone() };
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Ends at the first of such calls.
struct Spelt;

impl Visitor for Spelt {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(call) if meaning(call).is_some() => ControlFlow::Break(()),
            Expr::RLike { .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// What a call means; `None`: what it says.
fn meaning(call: &ast::Function) -> Option<Expr> {
    let [ast::ObjectNamePart::Identifier(name)] = call.name.0.as_slice() else { return None };
    let FunctionArguments::List(list) = &call.args else { return None };
    let args: Option<Vec<&Expr>> = list.args.iter().map(argument).collect();
    let args = args?;
    let folded = fold(name);
    let (spelling, expr) = MEANINGS.get(&(folded.as_str(), args.len()))?;
    let plain = list.clauses.is_empty() && list.duplicate_treatment.is_none() && call.within_group.is_empty();
    let over = call.over.is_some() || call.null_treatment.is_some();
    if over || !(plain || spelling.renamed) || (call.filter.is_some() && !matches!(expr, Expr::Function(_))) {
        return None;
    }
    let mut expr = expr.clone();
    let _ = VisitMut::visit(&mut expr, &mut Placed(name.span));
    let _ = VisitMut::visit(&mut expr, &mut Arguments(&args));
    if let Expr::Function(meant) = &mut expr {
        meant.filter = match (meant.filter.take(), call.filter.clone()) {
            (Some(own), Some(asked)) => Some(Box::new(Expr::BinaryOp {
                left: Box::new(Expr::Nested(asked)),
                op: BinaryOperator::And,
                right: Box::new(Expr::Nested(own)),
            })),
            (own, asked) => own.or(asked),
        };
        if let FunctionArguments::List(meant) = &mut meant.args
            && spelling.renamed
        {
            meant.duplicate_treatment = list.duplicate_treatment;
            meant.clauses.clone_from(&list.clauses);
            if !call.within_group.is_empty() {
                meant.clauses.push(FunctionArgumentClause::OrderBy(call.within_group.clone()));
            }
        }
    }
    Some(expr)
}

fn argument(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

/// Gives the functions of a meaning the place of the call.
struct Placed(TokenSpan);

impl VisitorMut for Placed {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(call) => {
                for part in &mut call.name.0 {
                    if let ast::ObjectNamePart::Identifier(name) = part {
                        name.span = self.0;
                    }
                }
            }
            Expr::Identifier(name) => name.span = self.0,
            Expr::Value(value) => value.span = self.0,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Puts a call's arguments into its meaning.
struct Arguments<'a>(&'a [&'a Expr]);

impl VisitorMut for Arguments<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Identifier(name) = expr
            && let Some(at) = ARGUMENTS.iter().position(|argument| *argument == name.value)
        {
            *expr = self.0[at].clone();
        }
        ControlFlow::Continue(())
    }
}
