//! The `SINCE` clause, taken out of the tokens before the rest is parsed.

use std::time::Duration;

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::{Reads, unsupported};
use crate::diagnostic::{Diagnostic, Span};
use crate::duration;
use crate::statement::Since;
use crate::text::{Text, is_word, word};

/// What a query may start with, for help.
const FORMS: &str = "write SINCE INTERVAL '5 minutes', SINCE TIMESTAMP '2026-01-31T12:00:00Z' or SINCE EARLIEST";
/// Units that may stand behind the text of an interval.
const UNITS: [&str; 8] = ["second", "seconds", "minute", "minutes", "hour", "hours", "day", "days"];

/// A `SINCE` clause.
#[derive(Clone, Copy)]
pub(crate) struct SinceSyntax {
    /// What it asks.
    pub(crate) since: Since,
    /// Where it stands.
    pub(crate) span: Option<Span>,
}

/// The tokens without the `SINCE` clause, and the clause.
pub(super) fn cut(text: &Text<'_>, tokens: Vec<TokenWithSpan>) -> Reads<(Vec<TokenWithSpan>, Option<SinceSyntax>)> {
    let Some(at) = (1..tokens.len()).find(|at| starts(&tokens, *at)) else { return Ok((tokens, None)) };
    let (since, end) = read(text, &tokens, at + 1)?;
    let place = |token: &TokenWithSpan| text.span(token.span);
    let span = match (place(&tokens[at]), place(&tokens[end - 1])) {
        (Some(first), Some(last)) => Some(Span { start: first.start, end: last.end }),
        (first, _) => first,
    };
    if let Some(again) = (end..tokens.len()).find(|at| starts(&tokens, *at)) {
        return Err(Diagnostic::new("invalid", "there are two SINCE clauses")
            .at(place(&tokens[again]))
            .help("one says where all that the query reads starts"));
    }
    if tokens.get(end).is_some_and(|next| is_word(&next.token, "until")) {
        let mistake = unsupported("UNTIL is not available", place(&tokens[end]));
        return Err(mistake.help("a query goes on until it is stopped; WHERE leaves out later rows"));
    }
    let rest = tokens[..at].iter().chain(&tokens[end..]).cloned().collect();
    Ok((rest, Some(SinceSyntax { since, span })))
}

/// Whether the clause starts here: the word may also be a name.
fn starts(tokens: &[TokenWithSpan], at: usize) -> bool {
    let behind_name = matches!(tokens[at - 1].token, Token::Word(_) | Token::RParen);
    let value = tokens.get(at + 1).is_some_and(|next| match &next.token {
        Token::SingleQuotedString(_) => true,
        other => ["interval", "timestamp", "earliest", "latest"].iter().any(|word| is_word(other, word)),
    });
    behind_name && value && is_word(&tokens[at].token, "since")
}

/// What stands behind the word, and where that ends.
fn read(text: &Text<'_>, tokens: &[TokenWithSpan], at: usize) -> Reads<(Since, usize)> {
    let kind = word(&tokens[at].token);
    match kind.as_deref() {
        Some("earliest") => return Ok((Since::Earliest, at + 1)),
        Some("latest") => return Ok((Since::Latest, at + 1)),
        _ => {}
    }
    let at = if kind.is_some() { at + 1 } else { at };
    let place = tokens.get(at).and_then(|token| text.span(token.span)).or_else(|| text.end_span());
    let Some(Token::SingleQuotedString(value)) = tokens.get(at).map(|token| &token.token) else {
        return Err(Diagnostic::new("syntax", "expected a text behind SINCE").at(place).help(FORMS));
    };
    let wrong = |message: String| Diagnostic::new("invalid", message).at(place).help(FORMS);
    let moment = string_to_timestamp_nanos(value).ok().map(Since::Moment);
    if kind.as_deref() == Some("timestamp") || (kind.is_none() && moment.is_some()) {
        let since = moment.ok_or_else(|| wrong(format!("\"{value}\" is no moment")))?;
        return Ok((since, at + 1));
    }
    let unit = tokens.get(at + 1).and_then(|next| word(&next.token)).filter(|word| UNITS.contains(&word.as_str()));
    let end = at + 1 + usize::from(unit.is_some());
    let ns = duration::parse(value, unit.as_deref()).map_err(|(message, _)| wrong(message))?;
    let ago =
        u64::try_from(ns).ok().filter(|ns| *ns > 0).ok_or_else(|| wrong(format!("\"{value}\" is not in the past")))?;
    Ok((Since::Ago(Duration::from_nanos(ago)), end))
}
