//! A statement's text as tokens, and the way from a token's line and column to bytes.

use datafusion_sql::sqlparser::tokenizer::{
    Location, Span as TokenSpan, Token, TokenWithSpan, Tokenizer, Whitespace, Word,
};

use crate::diagnostic::{Diagnostic, Span};
use crate::dialect::Squilla;
use crate::params::{self, Params};

/// The dialect of every statement.
pub(crate) static DIALECT: Squilla = Squilla;

/// A text and its tokens, without spaces and comments.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    sql: &'a str,
    line_starts: Vec<usize>,
    tokens: Vec<TokenWithSpan>,
    /// The bytes of each token.
    spans: Vec<Option<Span>>,
    /// A character is a byte.
    ascii: bool,
    /// What stands in the place of parameters.
    placed: params::Placed,
}

impl<'a> Text<'a> {
    /// Reads the tokens.
    pub(crate) fn read(sql: &'a str) -> Result<Self, Diagnostic> {
        let line_starts = std::iter::once(0).chain(sql.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let (tokens, spans, placed) = (Vec::new(), Vec::new(), Vec::new());
        let mut text = Self { sql, line_starts, tokens, spans, ascii: sql.is_ascii(), placed };
        let tokens = Tokenizer::new(&DIALECT, sql).tokenize_with_location().map_err(|error| {
            let start = text.byte(error.location);
            let (message, help) = explain(&error.message);
            Diagnostic::new("syntax", message).at(Span { start: start.min(sql.len()), end: sql.len() }).help(help)
        })?;
        if let Some(hint) = tokens.iter().find(|token| is_ttl_hint(&token.token)) {
            let mistake = Diagnostic::new("unsupported", "hints are comments here: STATE_TTL would have no effect");
            return Err(mistake
                .at(text.span(hint.span))
                .help("write STATE TTL INTERVAL '1 day' at the end of the statement"));
        }
        text.tokens = tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
        text.spans = text.tokens.iter().map(|token| text.span(token.span)).collect();
        Ok(text)
    }

    /// Puts values in the place of parameters.
    ///
    /// # Errors
    /// Parameters without a value, and values without a parameter.
    pub(crate) fn with_params(mut self, params: &Params) -> Result<Self, Vec<Diagnostic>> {
        let tokens = std::mem::take(&mut self.tokens);
        let (tokens, placed) = params::put_in_place(tokens, params, &|token| self.span(token.span))?;
        self.spans = tokens.iter().map(|token| self.span(token.span)).collect();
        self.tokens = tokens;
        self.placed = placed;
        Ok(self)
    }

    /// The whole text as it was sent.
    pub(crate) fn sql(&self) -> &'a str {
        self.sql
    }

    /// The tokens, without spaces and comments.
    pub(crate) fn tokens(&self) -> &[TokenWithSpan] {
        &self.tokens
    }

    /// The byte at which a line and column (from one, in characters) stand.
    fn byte(&self, at: Location) -> usize {
        let line = (at.line as usize).saturating_sub(1);
        let Some(&start) = self.line_starts.get(line) else { return self.sql.len() };
        let column = (at.column as usize).saturating_sub(1);
        if self.ascii {
            return (start + column).min(self.sql.len());
        }
        let rest = &self.sql[start..];
        rest.char_indices().nth(column).map_or(self.sql.len(), |(offset, _)| start + offset)
    }

    /// The bytes of a token or syntax node; `None` when it has no place.
    pub(crate) fn span(&self, span: TokenSpan) -> Option<Span> {
        if span.start.line == 0 || span.end.line == 0 {
            return None;
        }
        let (start, end) = (self.byte(span.start), self.byte(span.end));
        (start < end).then_some(Span { start, end })
    }

    /// The same, drawn out to the parenthesis or bracket that closes what it opens, so that `f(x` becomes `f(x)`.
    pub(crate) fn whole_span(&self, span: TokenSpan) -> Option<Span> {
        let mut span = self.span(span)?;
        let mut open = 0_i32;
        for (token, at) in self.tokens.iter().zip(&self.spans) {
            let Some(at) = at else { continue };
            if at.start < span.start {
                continue;
            }
            if at.start >= span.end && open <= 0 {
                break;
            }
            match token.token {
                Token::LParen | Token::LBracket | Token::LBrace => open += 1,
                Token::RParen | Token::RBracket | Token::RBrace => open -= 1,
                _ => {}
            }
            span.end = span.end.max(at.end);
        }
        Some(span)
    }

    /// The place of the last token, for "something is missing here".
    pub(crate) fn end_span(&self) -> Option<Span> {
        self.tokens.last().and_then(|token| self.span(token.span))
    }

    /// The place of all tokens; `None`: there are none.
    pub(crate) fn all_span(&self) -> Option<Span> {
        let first = self.tokens.first().and_then(|token| self.span(token.span))?;
        self.end_span().map(|last| Span { start: first.start, end: last.end })
    }

    /// The place of the first text in single quotes that has this value: as a name it has none.
    pub(crate) fn text_span(&self, value: &str) -> Option<Span> {
        let same = |token: &&TokenWithSpan| matches!(&token.token, Token::SingleQuotedString(text) if text == value);
        self.tokens.iter().find(same).and_then(|token| self.span(token.span))
    }

    /// The place of the token that starts at a line and column.
    pub(crate) fn token_at(&self, line: u64, column: u64) -> Option<Span> {
        self.tokens
            .iter()
            .find(|token| token.span.start.line == line && token.span.start.column == column)
            .and_then(|token| self.span(token.span))
    }

    /// The text from one byte to another, trimmed, with values in the place of parameters.
    pub(crate) fn slice(&self, span: Span) -> String {
        let mut out = String::with_capacity(span.end - span.start);
        let mut from = span.start;
        for (at, value) in self.placed.iter().filter(|(at, _)| span.start <= at.start && at.end <= span.end) {
            out.push_str(&self.sql[from..at.start]);
            out.push_str(value);
            from = at.end;
        }
        out.push_str(&self.sql[from..span.end]);
        out.trim().to_owned()
    }

    /// All of the text, trimmed, with values in the place of parameters.
    pub(crate) fn whole(&self) -> String {
        self.slice(Span { start: 0, end: self.sql.len() })
    }
}

fn explain(message: &str) -> (String, &'static str) {
    if message.contains("single quote") || message.contains("string literal") {
        ("this text has no closing quote".into(), "close it with '; a quote inside a text is written twice: 'it''s'")
    } else if message.contains("close delimiter") {
        ("this quoted name has no closing quote".into(), "close it with \"")
    } else if message.contains("comment") || message.contains("EOF") {
        ("this comment has no end".into(), "close it with */")
    } else {
        (message.to_lowercase(), "only SQL can be read here")
    }
}

/// The unquoted word of a token in lower case, or `None`.
pub(crate) fn word(token: &Token) -> Option<String> {
    match token {
        Token::Word(Word { value, quote_style: None, .. }) => Some(value.to_lowercase()),
        _ => None,
    }
}

/// True when the token is that unquoted word (given in lower case).
pub(crate) fn is_word(token: &Token, expected: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(expected))
}

/// `/*+ STATE_TTL('orders' = '1d') */`, which changes what a query answers. Other hints tell how to compute it.
fn is_ttl_hint(token: &Token) -> bool {
    let Token::Whitespace(Whitespace::MultiLineComment(text)) = token else { return false };
    text.trim_start().strip_prefix('+').is_some_and(|hint| hint.trim_start().to_lowercase().starts_with("state_ttl"))
}

/// A script's tokens with spaces and comments, for cutting it.
pub(crate) fn is_space(token: &Token) -> bool {
    matches!(
        token,
        Token::Whitespace(
            Whitespace::Space
                | Whitespace::Newline
                | Whitespace::Tab
                | Whitespace::SingleLineComment { .. }
                | Whitespace::MultiLineComment(_)
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_count_bytes_over_lines_and_wide_characters() {
        let text = Text::read("SELECT 'é',\n  prise FROM \"bïds\"").expect("reads");
        let spans: Vec<&str> = text
            .tokens()
            .iter()
            .filter_map(|token| text.span(token.span))
            .map(|span| &text.sql()[span.start..span.end])
            .collect();
        assert_eq!(spans, ["SELECT", "'é'", ",", "prise", "FROM", "\"bïds\""]);
    }

    #[test]
    fn an_open_text_is_told() {
        let error = Text::read("SELECT 'abc").expect_err("open");
        assert_eq!(error.message, "this text has no closing quote");
        assert_eq!(error.span.map(|span| span.start), Some(7));
    }
}
