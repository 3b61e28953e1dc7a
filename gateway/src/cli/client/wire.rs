//! What a server sends, as this client reads it. Fields that it does not need are left out.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use squilla_query::{DiagnosticParts, Span};

use crate::cli::output::Column;

/// The subprotocol that is spoken.
pub(super) const SUBPROTOCOL: &str = "squilla.v1.json";

/// Answer to `POST /statements`.
#[derive(Debug, Deserialize)]
pub(super) struct StatementResults {
    pub(super) results: Vec<StatementResult>,
}

/// What one statement gave. Fields that its kind does not have are empty.
#[derive(Debug, Deserialize)]
pub(super) struct StatementResult {
    pub(super) kind: ResultKind,
    /// Of [`ResultKind::Done`].
    #[serde(default)]
    pub(super) message: String,
    /// Of [`ResultKind::Live`]: its text, with values in the place of parameters.
    #[serde(default)]
    pub(super) sql: String,
    /// Of [`ResultKind::Sink`].
    #[serde(default)]
    pub(super) name: String,
    /// Of [`ResultKind::Table`].
    #[serde(default)]
    pub(super) columns: Vec<Column>,
    /// Of [`ResultKind::Table`].
    #[serde(default)]
    pub(super) rows: Vec<Vec<Box<RawValue>>>,
}

/// What a statement was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ResultKind {
    /// Carried out.
    Done,
    /// Rows that end.
    Table,
    /// A live query: subscribe to it.
    Live,
    /// A sink that runs.
    Sink,
}

/// Body of every error.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: WireError,
}

/// An error, with all the mistakes of a statement in `diagnostics`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct WireError {
    #[serde(flatten)]
    pub(super) first: WireDiagnostic,
    #[serde(default)]
    pub(super) retryable: bool,
    #[serde(default)]
    diagnostics: Vec<WireDiagnostic>,
}

/// One mistake.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct WireDiagnostic {
    pub(super) code: String,
    pub(super) message: String,
    span: Option<WireSpan>,
    #[serde(default)]
    notes: Vec<String>,
    help: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct WireSpan {
    start: usize,
    end: usize,
}

impl WireError {
    /// An error without a readable body.
    pub(super) fn of_status(status: u16, text: &str) -> Self {
        let message = if text.is_empty() { format!("status {status}") } else { format!("status {status}: {text}") };
        let first = WireDiagnostic { code: "http".to_owned(), message, span: None, notes: Vec::new(), help: None };
        Self { first, retryable: false, diagnostics: Vec::new() }
    }

    /// The error as a person reads it, places shown in the statement.
    pub(super) fn render(&self, statement: &str) -> String {
        let all = if self.diagnostics.is_empty() { std::slice::from_ref(&self.first) } else { &self.diagnostics[..] };
        let rendered: Vec<String> = all.iter().map(|diagnostic| diagnostic.render(statement)).collect();
        rendered.join("\n\n")
    }
}

impl WireDiagnostic {
    fn render(&self, statement: &str) -> String {
        let parts = DiagnosticParts {
            code: &self.code,
            message: &self.message,
            span: self.span.map(|span| Span { start: span.start, end: span.end }),
            notes: &self.notes,
            help: self.help.as_deref(),
        };
        parts.render("", statement)
    }
}

/// Where a replay stands.
#[derive(Debug, Deserialize)]
pub(super) struct Pace {
    pub(super) paused: bool,
    pub(super) position: String,
    pub(super) event_time: Option<String>,
}

/// The kind of a message of the socket.
#[derive(Debug, Deserialize)]
pub(super) struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) name: Cow<'a, str>,
}

/// `subscribed`.
#[derive(Debug, Deserialize)]
pub(super) struct Subscribed {
    pub(super) schema: Vec<Column>,
    #[serde(default)]
    pub(super) key: Vec<String>,
    pub(super) position: Option<String>,
    pub(super) complete_from: Option<serde_json::Value>,
    /// It is complete after so many rows.
    pub(super) limit: Option<u64>,
    #[serde(default)]
    pub(super) labels: Vec<String>,
}

/// `rows`.
#[derive(Debug, Deserialize)]
pub(super) struct Rows<'a> {
    #[serde(borrow)]
    pub(super) rows: Vec<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    pub(super) ops: Option<Vec<Cow<'a, str>>>,
    pub(super) position: Option<String>,
}

/// `gap`.
#[derive(Debug, Deserialize)]
pub(super) struct Gap {
    /// `None`: unknown.
    pub(super) rows: Option<u64>,
    pub(super) reason: String,
}

/// `progress`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Progress {
    #[serde(default)]
    pub(super) late: u64,
    #[serde(default)]
    pub(super) dropped: u64,
    /// What holds rows back.
    #[serde(default)]
    pub(super) notices: Vec<Notice>,
}

/// One of the `notices` of `progress`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Notice {
    pub(super) message: String,
}

/// `complete`.
#[derive(Debug, Deserialize)]
pub(super) struct Complete {
    pub(super) reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_of_a_statement_are_shown() {
        let body = r#"{"error":{"code":"unknown_column","message":"no column \"a\"","span":{"start":7,"end":8},"retryable":false,
            "diagnostics":[{"code":"unknown_column","message":"no column \"a\"","span":{"start":7,"end":8}},
                           {"code":"unknown_column","message":"no column \"b\"","help":"did you mean \"c\"?"}]}}"#;
        let error = serde_json::from_str::<ErrorBody>(body).expect("an error").error;
        let shown = error.render("SELECT a, b FROM s");
        assert!(shown.starts_with("error[unknown_column]: no column \"a\"\n  --> line 1, column 8\n"), "{shown}");
        assert!(shown.ends_with("no column \"b\"\n  help: did you mean \"c\"?"), "{shown}");
    }

    #[test]
    fn results_of_statements() {
        let body = r#"{"results":[{"kind":"done","message":"created"},{"kind":"live","sql":"SELECT 1"},
            {"kind":"table","columns":[{"name":"a","type":"Int64","nullable":true}],"rows":[[1.50]]}]}"#;
        let results = serde_json::from_str::<StatementResults>(body).expect("results").results;
        let kinds: Vec<ResultKind> = results.iter().map(|result| result.kind).collect();
        assert_eq!(kinds, [ResultKind::Done, ResultKind::Live, ResultKind::Table]);
        assert_eq!(results[2].rows[0][0].get(), "1.50");
    }
}
