//! `LIMIT` and `FETCH FIRST` of a query without order, taken out of the tokens before the rest is parsed: how many rows
//! are wanted is for those to say who read. Behind `ORDER BY` they are left: the first ones of each window.

use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::Reads;
use crate::diagnostic::{Diagnostic, Span};
use crate::text::{Text, is_word};

/// A `LIMIT` or `FETCH FIRST` clause.
#[derive(Clone, Copy)]
pub(crate) struct LimitSyntax {
    /// How many rows are wanted.
    pub(crate) rows: u64,
    /// Where it stands.
    pub(crate) span: Option<Span>,
}

/// Whether a word opens such a clause.
pub(super) fn opens(token: &Token) -> bool {
    is_word(token, "limit") || is_word(token, "fetch")
}

/// The tokens without the clause at their end, and the clause. What is written in another way is left to the parser.
pub(super) fn cut(mut tokens: Vec<TokenWithSpan>, text: &Text<'_>) -> Reads<(Vec<TokenWithSpan>, Option<LimitSyntax>)> {
    let Some((start, rows)) = at_end(&tokens).filter(|(start, _)| *start > 0) else { return Ok((tokens, None)) };
    let mut depth = 0_i32;
    for (at, token) in tokens[..start].iter().enumerate() {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ if depth > 0 => {}
            _ if is_word(&token.token, "order") && is_word(&tokens[at + 1].token, "by") => return Ok((tokens, None)),
            _ if is_word(&token.token, "limit") && matches!(tokens[at + 1].token, Token::Number(..)) => {
                let again = Diagnostic::new("invalid", "there are two clauses that limit the rows");
                return Err(again.at(text.span(tokens[start].span)).help("leave one of them out"));
            }
            _ => {}
        }
    }
    let ends = (text.span(tokens[start].span), tokens.last().and_then(|last| text.span(last.span)));
    let span = match ends {
        (Some(first), Some(last)) => Some(Span { start: first.start, end: last.end }),
        (first, _) => first,
    };
    tokens.truncate(start);
    Ok((tokens, Some(LimitSyntax { rows, span })))
}

/// Where the clause begins that the tokens end with, and its number.
fn at_end(tokens: &[TokenWithSpan]) -> Option<(usize, u64)> {
    let back = |count: usize| tokens.len().checked_sub(count).map(|at| &tokens[at].token);
    let is =
        |count: usize, words: &[&str]| back(count).is_some_and(|token| words.iter().any(|word| is_word(token, word)));
    let number = |count: usize| match back(count)? {
        Token::Number(digits, _) => digits.parse().ok(),
        _ => None,
    };
    if is(2, &["limit"]) {
        return Some((tokens.len() - 2, number(1)?));
    }
    if !is(1, &["only"]) || !is(2, &["row", "rows"]) {
        return None;
    }
    let first = ["first", "next"];
    match () {
        () if is(3, &first) && is(4, &["fetch"]) => Some((tokens.len() - 4, 1)),
        () if is(4, &first) && is(5, &["fetch"]) => Some((tokens.len() - 5, number(3)?)),
        () => None,
    }
}
