//! `PAUSE STREAM name`, `PAUSE QUERY id`, and `RESUME` of either, from where it was or `FROM LATEST`.

use datafusion_sql::sqlparser::tokenizer::Token;

use super::{Parsed, Reader, Reads, expected, unsupported};
use crate::diagnostic::{Diagnostic, Span};
use crate::statement::{Pausable, Resume};
use crate::text::is_word;

const WHAT: &str = "PAUSE STREAM name and PAUSE QUERY id hold up what a query makes; RESUME lets it go on";

impl Reader<'_> {
    pub(super) fn pause(&mut self) -> Reads<Parsed> {
        self.parser.next_token();
        let what = self.pausable("PAUSE")?;
        self.end_of_pause("PAUSE")?;
        Ok(Parsed::Pause(what))
    }

    pub(super) fn resume(&mut self) -> Reads<Parsed> {
        self.parser.next_token();
        let what = self.pausable("RESUME")?;
        let from_latest = self.take("from");
        if from_latest && !self.take("latest") {
            let help = "RESUME goes on from where it was; FROM LATEST skips what came since";
            return Err(self.expected("LATEST").help(help));
        }
        self.end_of_pause("RESUME")?;
        Ok(Parsed::Resume(Resume { what, from_latest }))
    }

    fn pausable(&mut self, verb: &str) -> Reads<Pausable> {
        let at = self.here();
        match self.peek_word().as_deref() {
            Some("stream") => {
                self.parser.next_token();
                if !matches!(self.parser.peek_token_ref().token, Token::Word(_)) {
                    return Err(self.expected("the name of a stream").help("SHOW STREAMS lists them"));
                }
                let (name, span) = self.name("the name of a stream")?;
                Ok(Pausable::Stream { name, span })
            }
            Some("query") => {
                self.parser.next_token();
                Ok(Pausable::Query { id: self.query_id(Some("from"))? })
            }
            Some(kind @ ("source" | "table" | "sink" | "view")) => {
                let kind = kind.to_uppercase();
                Err(unsupported(format!("{verb} {kind} is not available"), at).help(WHAT))
            }
            _ => Err(self.expected("STREAM or QUERY").help(WHAT)),
        }
    }

    fn end_of_pause(&self, verb: &str) -> Reads<()> {
        let help = format!("{verb} STREAM name, or {verb} QUERY id, is the whole statement");
        self.end_without_emit().map_err(|mistake| mistake.help(help))
    }

    /// The id of a query, in quotes or not, up to the end or to a word.
    pub(super) fn query_id(&mut self, until: Option<&str>) -> Reads<String> {
        let start = self.here();
        let token = self.parser.next_token();
        let query = match token.token {
            Token::SingleQuotedString(id) => id,
            ref token if until.is_some_and(|word| is_word(token, word)) => {
                return Err(Diagnostic::new("syntax", format!("expected the id of a query, found \"{token}\""))
                    .at(start)
                    .help("RESUME QUERY 'q17' FROM LATEST; SHOW QUERIES lists the ids"));
            }
            Token::EOF => return Err(expected("the id of a query", &token, self.text).help("SHOW QUERIES lists them")),
            _ => {
                let mut end = self.text.span(token.span);
                loop {
                    let next = self.parser.peek_token_ref();
                    let ends = until.is_some_and(|word| is_word(&next.token, word));
                    if ends || matches!(next.token, Token::EOF) {
                        break;
                    }
                    end = self.text.span(next.span).or(end);
                    self.parser.next_token();
                }
                match (start, end) {
                    (Some(start), Some(end)) => self.text.slice(Span { start: start.start, end: end.end }),
                    _ => return Err(self.expected("the id of a query").help("SHOW QUERIES lists them")),
                }
            }
        };
        if query.contains(char::is_whitespace) {
            return Err(Diagnostic::new("syntax", "an id has no spaces").at(start).help("SHOW QUERIES lists them"));
        }
        Ok(query)
    }
}
