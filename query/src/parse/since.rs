//! The `SINCE … [UNTIL …]` clause, taken out of the tokens before the rest is parsed.

use std::time::Duration;

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::Reads;
use crate::diagnostic::{Diagnostic, Span};
use crate::duration;
use crate::statement::{Since, Until};
use crate::text::{Text, is_word, word};

/// What a query may start with, for help.
const FORMS: &str = "write SINCE INTERVAL '5 minutes', SINCE TIMESTAMP '2026-01-31T12:00:00Z' or SINCE EARLIEST";
/// How it may end, for help.
const ENDS: &str =
    "write SINCE INTERVAL '1 hour' UNTIL INTERVAL '30 minutes', UNTIL TIMESTAMP '2026-01-31T12:00:00Z' or UNTIL LATEST";
/// Units that may stand behind the text of an interval.
const UNITS: [&str; 8] = ["second", "seconds", "minute", "minutes", "hour", "hours", "day", "days"];

/// A `SINCE` clause.
#[derive(Clone, Copy)]
pub(crate) struct SinceSyntax {
    /// What it asks.
    pub(crate) since: Since,
    /// Where it stands.
    pub(crate) span: Option<Span>,
    /// What its `UNTIL` asks, and where that stands.
    pub(crate) until: Option<(Until, Option<Span>)>,
}

/// The tokens without the `SINCE` clause, and the clause.
pub(super) fn cut(text: &Text<'_>, tokens: Vec<TokenWithSpan>) -> Reads<(Vec<TokenWithSpan>, Option<SinceSyntax>)> {
    let Some(at) = (1..tokens.len()).find(|at| starts(&tokens, *at)) else {
        return match (1..tokens.len()).find(|at| ends_only(&tokens, *at)) {
            Some(at) => Err(Diagnostic::new("invalid", "UNTIL without SINCE: nothing says where it starts")
                .at(text.span(tokens[at].span))
                .help("write SINCE EARLIEST UNTIL TIMESTAMP '2026-01-31T12:00:00Z' for all that is kept before it")),
            None => Ok((tokens, None)),
        };
    };
    let (since, mut end) = read(text, &tokens, at + 1, FORMS)?;
    let place = |token: &TokenWithSpan| text.span(token.span);
    let mut until = None;
    if tokens.get(end).is_some_and(|next| is_word(&next.token, "until")) {
        let (value, span, behind) = read_until(text, &tokens, end, since)?;
        until = Some((value, span));
        end = behind;
    }
    let span = match (place(&tokens[at]), place(&tokens[end - 1])) {
        (Some(first), Some(last)) => Some(Span { start: first.start, end: last.end }),
        (first, _) => first,
    };
    if let Some(again) = (end..tokens.len()).find(|at| starts(&tokens, *at)) {
        return Err(Diagnostic::new("invalid", "there are two SINCE clauses")
            .at(place(&tokens[again]))
            .help("one says where all that the query reads starts"));
    }
    let rest = tokens[..at].iter().chain(&tokens[end..]).cloned().collect();
    Ok((rest, Some(SinceSyntax { since, span, until })))
}

/// What `UNTIL`, which stands at `at`, asks; where that stands, and ends.
fn read_until(
    text: &Text<'_>,
    tokens: &[TokenWithSpan],
    at: usize,
    since: Since,
) -> Reads<(Until, Option<Span>, usize)> {
    let (value, end) = read(text, tokens, at + 1, ENDS)?;
    let span = match (text.span(tokens[at].span), text.span(tokens[end - 1].span)) {
        (Some(first), Some(last)) => Some(Span { start: first.start, end: last.end }),
        (first, _) => first,
    };
    let until = match value {
        Since::Latest => Until::Ago(Duration::ZERO),
        Since::Ago(ago) => Until::Ago(ago),
        Since::Moment(moment) => Until::Moment(moment),
        Since::Earliest => {
            return Err(Diagnostic::new("invalid", "nothing lies before the first row").at(span).help(ENDS));
        }
    };
    let empty = match (since, until) {
        (Since::Ago(since), Until::Ago(until)) => since <= until,
        (Since::Moment(since), Until::Moment(until)) => since >= until,
        (Since::Latest, Until::Ago(_)) => true,
        _ => false,
    };
    if empty {
        return Err(Diagnostic::new("invalid", "UNTIL does not lie behind SINCE").at(span).help(ENDS));
    }
    Ok((until, span, end))
}

/// Whether a name, a value or a call may end here.
fn ends_expression(token: &Token) -> bool {
    matches!(token, Token::Word(_) | Token::RParen | Token::Number(..) | Token::SingleQuotedString(_))
}

/// Whether the clause starts here: the word may also be a name.
fn starts(tokens: &[TokenWithSpan], at: usize) -> bool {
    let behind = ends_expression(&tokens[at - 1].token);
    let value = tokens.get(at + 1).is_some_and(|next| match &next.token {
        Token::SingleQuotedString(_) => true,
        other => ["interval", "timestamp", "earliest", "latest"].iter().any(|word| is_word(other, word)),
    });
    behind && value && is_word(&tokens[at].token, "since")
}

/// Whether `UNTIL` stands here with what it asks.
fn ends_only(tokens: &[TokenWithSpan], at: usize) -> bool {
    let behind = ends_expression(&tokens[at - 1].token);
    let text = matches!(tokens.get(at + 2).map(|token| &token.token), Some(Token::SingleQuotedString(_)));
    let kind = |next: &TokenWithSpan| ["interval", "timestamp"].iter().any(|word| is_word(&next.token, word));
    behind && text && tokens.get(at + 1).is_some_and(kind) && is_word(&tokens[at].token, "until")
}

/// What stands behind the word, and where that ends.
fn read(text: &Text<'_>, tokens: &[TokenWithSpan], at: usize, forms: &str) -> Reads<(Since, usize)> {
    let kind = tokens.get(at).and_then(|token| word(&token.token));
    match kind.as_deref() {
        Some("earliest") => return Ok((Since::Earliest, at + 1)),
        Some("latest") => return Ok((Since::Latest, at + 1)),
        _ => {}
    }
    let is_kind = kind.as_deref().is_some_and(|word| matches!(word, "interval" | "timestamp"));
    let at = if is_kind { at + 1 } else { at };
    let place = tokens.get(at).and_then(|token| text.span(token.span)).or_else(|| text.end_span());
    let Some(Token::SingleQuotedString(value)) = tokens.get(at).map(|token| &token.token) else {
        let before = tokens[at.saturating_sub(1)].token.to_string().to_uppercase();
        return Err(Diagnostic::new("syntax", format!("expected a text behind {before}")).at(place).help(forms));
    };
    let wrong = |message: String| Diagnostic::new("invalid", message).at(place).help(forms);
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
