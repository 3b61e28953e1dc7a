//! `ALTER STREAM [IF EXISTS] name AS SELECT …`: a named stream goes over to another query.

use datafusion_sql::sqlparser::tokenizer::Token;

use super::{Parsed, Reader, Reads, is_word, unsupported};
use crate::diagnostic::Span;

const FORM: &str = "ALTER STREAM name AS SELECT … gives a stream another query";

/// The head of an `ALTER STREAM`.
pub(crate) struct Altered {
    /// The stream's name, folded.
    pub(crate) name: String,
    /// Where the name stands.
    pub(crate) span: Option<Span>,
    /// `IF EXISTS` was said.
    pub(crate) if_exists: bool,
    /// Where the query begins in the text.
    pub(crate) query_at: usize,
}

impl Reader<'_> {
    pub(super) fn alter(&mut self) -> Reads<Parsed> {
        self.parser.next_token();
        let at = self.here();
        match self.peek_word().as_deref() {
            Some("stream") => {}
            Some(kind @ ("source" | "table" | "sink")) => {
                let kind = kind.to_uppercase();
                return Err(unsupported(format!("ALTER {kind} is not available"), at)
                    .help(format!("DROP {kind} what was created, and CREATE it anew; {FORM}")));
            }
            Some("view") => {
                return Err(unsupported("ALTER VIEW is not available", at)
                    .help(format!("DROP VIEW name, then CREATE VIEW name AS SELECT …; {FORM}")));
            }
            Some("materialized") => {
                return Err(unsupported("ALTER MATERIALIZED VIEW is not available", at).help(FORM));
            }
            _ => return Err(self.expected("STREAM").help(FORM)),
        }
        self.parser.next_token();
        let if_exists = is_word(&self.parser.peek_token_ref().token, "if")
            && is_word(&self.parser.peek_nth_token(1).token, "exists");
        if if_exists {
            self.parser.next_token();
            self.parser.next_token();
        }
        if !matches!(self.parser.peek_token_ref().token, Token::Word(_)) {
            return Err(self.expected("the name of a stream").help("SHOW STREAMS lists them"));
        }
        let (name, span) = self.name("the name of a stream")?;
        self.refuse_other_changes(&name)?;
        if !self.take("as") {
            return Err(self.expected("AS").help(FORM));
        }
        let query_at = self.here().map_or(0, |span| span.start);
        Ok(Parsed::AlterStream(Altered { name, span, if_exists, query_at }, self.query()?))
    }

    /// What other systems change of a stream.
    fn refuse_other_changes(&self, name: &str) -> Reads<()> {
        let at = self.here();
        let (message, help) = match self.peek_word().as_deref() {
            Some("with" | "set" | "reset") => (
                "the options of a stream stay as they are".to_owned(),
                format!(
                    "ALTER STREAM {name} AS SELECT … gives it another query; CREATE STREAM under another name, with \
                         the options that are wanted, runs beside it"
                ),
            ),
            Some("rename") => (
                "a stream keeps its name".to_owned(),
                format!("CREATE VIEW other AS SELECT * FROM {name} gives its rows another name"),
            ),
            Some("add" | "drop" | "column" | "modify" | "change") => (
                "the columns of a stream are those of its query".to_owned(),
                format!("ALTER STREAM {name} AS SELECT … gives it a query with other columns"),
            ),
            Some("from") => (
                "a stream that is there does not take over a live query".to_owned(),
                "CREATE STREAM other FROM QUERY 'q17' names it; ALTER STREAM name AS SELECT … takes a query's text"
                    .to_owned(),
            ),
            _ => return Ok(()),
        };
        Err(unsupported(message, at).help(help))
    }
}
