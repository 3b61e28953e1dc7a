//! The `STATE TTL` clause, taken out of the tokens before the rest is parsed.

use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::emit::Clause;
use super::{Reads, limit};
use crate::diagnostic::{Diagnostic, Span};
use crate::duration::human;
use crate::text::{Text, is_word};

/// A `STATE TTL` clause.
#[derive(Clone, Copy)]
pub(crate) struct StateTtl {
    /// For how long what has no windows is remembered, in nanoseconds of event time, above zero.
    pub(crate) ttl_ns: i64,
    /// Where it stands.
    pub(crate) span: Option<Span>,
}

/// Longest time to live: 400 days.
const MAX_TTL_NS: i64 = 400 * 86_400_000_000_000;

/// The tokens without the `STATE TTL` clause, and the clause. It stands at the end, before or behind `EMIT`.
pub(super) fn cut(text: &Text<'_>) -> Reads<(Vec<TokenWithSpan>, Option<StateTtl>)> {
    let tokens = text.tokens();
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|token| is_word(&token.token, word));
    let is_text = |at: usize| matches!(tokens.get(at), Some(TokenWithSpan { token: Token::SingleQuotedString(_), .. }));
    let starts = |at: &usize| is(*at, "state") && is(at + 1, "ttl") && (is(at + 2, "interval") || is_text(at + 2));
    let Some(start) = (1..tokens.len()).find(starts) else { return Ok((tokens.to_vec(), None)) };
    let first = text.span(tokens[start].span);
    let opened = tokens[..start].iter().filter(|token| token.token == Token::LParen).count();
    let closed = tokens[..start].iter().filter(|token| token.token == Token::RParen).count();
    if opened > closed {
        let mistake = Diagnostic::new("syntax", "STATE TTL stands at the end of a statement, not in a sub-query");
        return Err(mistake.at(first).help("it holds for all that the statement remembers without windows"));
    }
    let mut clause = Clause { text, tokens, at: start + 2 };
    let value_at = clause.here();
    let ttl_ns = clause.interval()?;
    if ttl_ns <= 0 || ttl_ns > MAX_TTL_NS {
        let message = format!("STATE TTL takes a time above zero and up to {}", human(MAX_TTL_NS));
        let mistake = Diagnostic::new("limit", message).at(value_at);
        return Err(mistake.help("a stream does not end: what is remembered for ever fills every memory"));
    }
    let end = clause.at;
    let ends = |next: &TokenWithSpan| is_word(&next.token, "emit") || limit::opens(&next.token);
    if tokens.get(end).is_some_and(|next| !ends(next)) {
        return Err(clause.expected("EMIT, LIMIT or the end of the statement"));
    }
    let last = text.span(tokens[end - 1].span);
    let span = first.zip(last).map(|(first, last)| Span { start: first.start, end: last.end });
    let rest = [&tokens[..start], &tokens[end..]].concat();
    Ok((rest, Some(StateTtl { ttl_ns, span })))
}
