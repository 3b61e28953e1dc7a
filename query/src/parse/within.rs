//! `JOIN o WITHIN 1 MINUTE ON …`, as ksqlDB bounds the event times of two streams: the bounds go where the parser takes
//! hints about a relation, as lengths of time before and after the left row.

use datafusion_sql::sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, FunctionArguments, TableFactor, Value};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::emit::Clause;
use super::{Reads, unsupported};
use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::text::{Text, is_word};

/// The name of the hint. No function can be called so.
const WITHIN: &str = "__within";
const HELP: &str = "write JOIN o WITHIN 1 MINUTE ON …, or WITHIN (5 SECONDS, 1 MINUTE): so long before and after";

/// The tokens with `WITH (__within('…', '…'))` in the place of the clause.
pub(super) fn as_hints(mut tokens: Vec<TokenWithSpan>, text: &Text<'_>) -> Reads<Vec<TokenWithSpan>> {
    while let Some(at) = (1..tokens.len()).find(|at| opens(&tokens, *at)) {
        let mut clause = Clause { text, tokens: &tokens, at: at + 1 };
        let bounds = clause.bounds()?;
        let end = clause.at;
        let span = tokens[at].span;
        let mut hint =
            vec![word("WITH", Keyword::WITH), Token::LParen, word(WITHIN, Keyword::NoKeyword), Token::LParen];
        hint.extend([Token::SingleQuotedString(bounds[0].to_string()), Token::Comma]);
        hint.extend([Token::SingleQuotedString(bounds[1].to_string()), Token::RParen, Token::RParen]);
        tokens.splice(at..end, hint.into_iter().map(|token| TokenWithSpan { token, span }));
    }
    Ok(tokens)
}

/// How long before and after its left row, in nanoseconds, a row of this relation may be; `None`: nothing is said.
pub(crate) fn bounds(factor: &TableFactor) -> Option<[i64; 2]> {
    let TableFactor::Table { with_hints, .. } = factor else { return None };
    let [Expr::Function(hint)] = with_hints.as_slice() else { return None };
    if hint.name.to_string() != WITHIN {
        return None;
    }
    let FunctionArguments::List(list) = &hint.args else { return None };
    let mut bounds = list.args.iter().filter_map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))) => match &value.value {
            Value::SingleQuotedString(length_ns) => length_ns.parse().ok(),
            _ => None,
        },
        _ => None,
    });
    Some([bounds.next()?, bounds.next()?])
}

/// `o WITHIN 1` or `o WITHIN (1`: behind a relation's name.
fn opens(tokens: &[TokenWithSpan], at: usize) -> bool {
    let number = |at: usize| tokens.get(at).is_some_and(|token| matches!(token.token, Token::Number(..)));
    let bracket = tokens.get(at + 1).is_some_and(|token| token.token == Token::LParen);
    is_word(&tokens[at].token, "within")
        && matches!(tokens[at - 1].token, Token::Word(_))
        && (number(at + 1) || bracket && number(at + 2))
}

impl Clause<'_> {
    /// `1 MINUTE ON` or `(5 SECONDS, 1 MINUTE) ON`, up to ON.
    fn bounds(&mut self) -> Reads<[i64; 2]> {
        let bounds = if self.is(&Token::LParen) {
            self.at += 1;
            let before = self.span_of_time()?;
            if !self.is(&Token::Comma) {
                return Err(self.expected("\",\"").help(HELP));
            }
            self.at += 1;
            let after = self.span_of_time()?;
            if !self.is(&Token::RParen) {
                return Err(self.expected("\")\"").help(HELP));
            }
            self.at += 1;
            [before, after]
        } else {
            [self.span_of_time()?; 2]
        };
        if self.tokens.get(self.at).is_some_and(|token| is_word(&token.token, "grace")) {
            return Err(unsupported("GRACE PERIOD is not available in a join", self.here()).help(
                "how late rows of a stream may be its source says: WATERMARK FOR ts AS ts - INTERVAL '1 minute'",
            ));
        }
        if self.tokens.get(self.at).is_none_or(|token| !is_word(&token.token, "on")) {
            return Err(self.expected("ON").help(HELP));
        }
        Ok(bounds)
    }

    fn is(&self, token: &Token) -> bool {
        self.tokens.get(self.at).is_some_and(|next| next.token == *token)
    }

    /// `30 SECONDS`, in nanoseconds.
    fn span_of_time(&mut self) -> Reads<i64> {
        let token = |at: usize| self.tokens.get(at).map(|token| &token.token);
        let (Some(Token::Number(count, _)), Some(Token::Word(unit))) = (token(self.at), token(self.at + 1)) else {
            return Err(self.expected("a length of time").help(HELP));
        };
        let length = duration::parse(count, Some(&unit.value.to_lowercase()));
        let length =
            length.map_err(|(message, help)| Diagnostic::new("invalid", message).at(self.here()).help(help))?;
        self.at += 2;
        Ok(length)
    }
}

fn word(value: &str, keyword: Keyword) -> Token {
    Token::Word(Word { value: value.to_owned(), quote_style: None, keyword })
}
