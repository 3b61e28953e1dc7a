//! The `EMIT` clause, taken out of the tokens before the rest is parsed.

use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::help::help;
use super::{Reads, expected, limit};
use crate::diagnostic::{Diagnostic, Span};
use crate::duration;
use crate::text::{Text, is_word};

/// An `EMIT` clause.
pub(crate) struct EmitSyntax {
    /// What it asks.
    pub(crate) kind: EmitKind,
    /// Where it stands.
    pub(crate) span: Option<Span>,
}

/// When results are told, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum EmitKind {
    /// `ON WINDOW CLOSE [GRACE interval]`, or `FINAL`.
    OnWindowClose {
        /// How long windows wait after their end.
        grace_ns: i64,
    },
    /// `CHANGES`.
    Changes,
    /// `EVERY interval`.
    Every {
        /// The interval, above zero.
        interval_ns: i64,
    },
}

/// Shortest interval of `EMIT EVERY`.
const MIN_EVERY_NS: i64 = 10_000_000;
/// Words behind an interval that are not its unit.
const NO_UNITS: [&str; 8] = ["grace", "emit", "where", "group", "having", "order", "limit", "fetch"];

/// The tokens before the `EMIT` clause, and the clause.
pub(super) fn cut(tokens: Vec<TokenWithSpan>, text: &Text<'_>) -> Reads<(Vec<TokenWithSpan>, Option<EmitSyntax>)> {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        let next = tokens.get(at + 1).map(|next| &next.token);
        let starts = at > 0
            && is_word(&token.token, "emit")
            && match next {
                Some(next) => ["on", "every", "changes", "final"].iter().any(|word| is_word(next, word)),
                None => ends_a_clause(&tokens[at - 1].token),
            };
        if !starts {
            continue;
        }
        let start = text.span(token.span);
        if depth > 0 {
            return Err(Diagnostic::new("syntax", "EMIT stands at the end of a statement, not in a sub-query")
                .at(start)
                .help("it says when results are told to the reader; inner windows tell each result once"));
        }
        let mut clause = Clause { text, tokens: &tokens, at: at + 1 };
        let kind = clause.read()?;
        let behind = clause.at;
        let span = match (start, text.span(tokens[behind - 1].span)) {
            (Some(start), Some(end)) => Some(Span { start: start.start, end: end.end }),
            _ => start,
        };
        return Ok(([&tokens[..at], &tokens[behind..]].concat(), Some(EmitSyntax { kind, span })));
    }
    Ok((tokens, None))
}

/// Whether a clause can end here, so that a last word behind it is no column.
fn ends_a_clause(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.keyword == Keyword::NoKeyword,
        Token::RParen | Token::Number(..) | Token::SingleQuotedString(_) => true,
        _ => false,
    }
}

/// A clause of our own, read from left to right.
pub(super) struct Clause<'t> {
    pub(super) text: &'t Text<'t>,
    pub(super) tokens: &'t [TokenWithSpan],
    pub(super) at: usize,
}

impl Clause<'_> {
    fn read(&mut self) -> Reads<EmitKind> {
        let kind = if self.take("changes") {
            EmitKind::Changes
        } else if self.take("final") {
            EmitKind::OnWindowClose { grace_ns: 0 }
        } else if self.take("every") {
            let at = self.here();
            let interval_ns = self.interval()?;
            if interval_ns < MIN_EVERY_NS {
                return Err(Diagnostic::new("limit", "EMIT EVERY takes at least 10ms")
                    .at(at)
                    .help("nobody sees more; EMIT CHANGES tells each change"));
            }
            EmitKind::Every { interval_ns }
        } else {
            let said = self.take("on");
            for word in ["window", "close"] {
                if !self.take(word) {
                    let mistake = self.expected(&word.to_uppercase());
                    return Err(if said { mistake.help("write EMIT ON WINDOW CLOSE") } else { mistake });
                }
            }
            let grace_ns = if self.take("grace") {
                let at = self.here();
                let grace_ns = self.interval()?;
                if grace_ns < 0 {
                    return Err(Diagnostic::new("invalid", "a grace cannot be negative")
                        .at(at)
                        .help("it is how long windows wait after their end: GRACE INTERVAL '10 seconds'"));
                }
                grace_ns
            } else {
                0
            };
            EmitKind::OnWindowClose { grace_ns }
        };
        // LIMIT stands before EMIT or, as ksqlDB has it, behind it.
        if self.tokens.get(self.at).is_some_and(|next| !limit::opens(&next.token)) {
            return Err(self.expected("the end of the statement"));
        }
        Ok(kind)
    }

    /// `INTERVAL '10' SECOND`, `INTERVAL '10 seconds'` or `'10s'`.
    pub(super) fn interval(&mut self) -> Reads<i64> {
        self.take("interval");
        let at = self.here();
        let Some(Token::SingleQuotedString(value)) = self.tokens.get(self.at).map(|token| token.token.clone()) else {
            return Err(self.expected("an interval").help("write '1s' or INTERVAL '1 second'"));
        };
        self.at += 1;
        let unit = self.tokens.get(self.at).and_then(|token| match &token.token {
            Token::Word(word) if !NO_UNITS.iter().any(|next| is_word(&token.token, next)) => {
                Some(word.value.to_lowercase())
            }
            _ => None,
        });
        if unit.is_some() {
            self.at += 1;
        }
        duration::parse(&value, unit.as_deref())
            .map_err(|(message, help)| Diagnostic::new("invalid", message).at(at).help(help))
    }

    pub(super) fn take(&mut self, word: &str) -> bool {
        let found = self.tokens.get(self.at).is_some_and(|token| is_word(&token.token, word));
        self.at += usize::from(found);
        found
    }

    pub(super) fn here(&self) -> Option<Span> {
        self.tokens.get(self.at).and_then(|token| self.text.span(token.span)).or_else(|| self.text.end_span())
    }

    pub(super) fn expected(&self, what: &str) -> Diagnostic {
        match self.tokens.get(self.at) {
            Some(token) => expected(what, token, self.text),
            None => Diagnostic::new("syntax", format!("expected {what}, found the end"))
                .at(self.text.end_span())
                .help(help(self.text, what, None)),
        }
    }
}
