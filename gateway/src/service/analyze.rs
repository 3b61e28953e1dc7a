//! A statement, read against the names that there are.

use squilla_query::{Diagnostic, Params, Span, Statement};

use super::{Refusal, Service};
use crate::catalog::{Body, Lookup, Names};

/// A statement and what it reads.
pub(super) struct Analyzed {
    /// The statement.
    pub(super) statement: Statement,
    /// The names that it looks at: what it reads, views on the way among them.
    pub(super) asked: Vec<String>,
}

impl Service {
    /// Reads and plans one statement, on a thread for that.
    pub(super) async fn analyze(&self, sql: &str, params: &Params) -> Result<Analyzed, Refusal> {
        let (names, sql, params) = (self.names(), sql.to_owned(), params.clone());
        let work = move || {
            let (result, asked) = analyze(&names, &sql, &params);
            result.map(|statement| Analyzed { statement, asked })
        };
        self.engine.on_planner(work).await.map_err(Refusal::Engine)?.map_err(Refusal::Mistakes)
    }
}

/// Reads and plans one statement; the known names that it asked for come with it, whether it has mistakes or not.
pub(super) fn analyze(names: &Names, sql: &str, params: &Params) -> (Result<Statement, Vec<Diagnostic>>, Vec<String>) {
    let lookup = Lookup::new(names);
    let result = squilla_query::analyze_with(sql, params, &lookup);
    let asked = lookup.asked();
    let reads_rows = !matches!(
        result,
        Ok(Statement::Drop(_)
            | Statement::Describe(_)
            | Statement::Show(_)
            | Statement::Kill { .. }
            | Statement::CreateSource(_))
    );
    if reads_rows {
        // Without columns nothing else that was found means anything.
        let unreadable: Vec<Diagnostic> = asked.iter().filter_map(|name| unreadable(names, name, sql)).collect();
        if !unreadable.is_empty() {
            return (Err(unreadable), asked);
        }
    }
    (result, asked)
}

/// The place of a name in a statement: its first mention as a whole word.
pub(super) fn place_of(name: &str, sql: &str) -> Option<Span> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
    let (text, wanted) = (sql.as_bytes(), name.as_bytes());
    let at = (0..=text.len().checked_sub(wanted.len())?).find(|&at| {
        let end = at + wanted.len();
        text[at..end].eq_ignore_ascii_case(wanted)
            && (at == 0 || !is_word(text[at - 1]))
            && text.get(end).is_none_or(|&byte| !is_word(byte))
    })?;
    Some(Span { start: at, end: at + wanted.len() })
}

fn unreadable(names: &Names, name: &str, sql: &str) -> Option<Diagnostic> {
    match &names.get(name)?.body {
        Body::Readable(_) | Body::Sink(..) => None,
        Body::Pending(_) => Some(
            Diagnostic::new(
                "needs_events",
                format!("source \"{name}\" has no columns yet: they are inferred from its first events"),
            )
            .at(place_of(name, sql))
            .help(format!(
                "publish events to POST /api/v1/streams/{name}/events, or create the source with its columns declared"
            )),
        ),
        Body::Broken { kind, reason } => Some(
            Diagnostic::new("broken", format!("{} \"{name}\" could not be started again: {reason}", kind.word()))
                .at(place_of(name, sql))
                .help(format!("mend the cause and restart, or DROP {} {name}", kind.word().to_uppercase())),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_as_a_whole_word() {
        let at = |name: &str, sql: &str| place_of(name, sql).map(|span| (span.start, span.end));
        assert_eq!(at("bids", "SELECT bids_id, x FROM Bids"), Some((23, 27)));
        assert_eq!(at("bids", "SELECT 1"), None);
        assert_eq!(at("a longer name than the text", "SELECT"), None);
        assert_eq!(at("x", "x"), Some((0, 1)));
    }
}
