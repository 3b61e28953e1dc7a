//! What is wrong with a statement, where, and what to write instead.

use serde::Serialize;

/// A half-open range of bytes in the text that was submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// One mistake in a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Stable, machine-readable kind, in snake case: `syntax`, `unknown_column`, `unsupported`, `limit` and so on.
    pub code: &'static str,
    /// What is wrong, in lower case without a full stop.
    pub message: String,
    /// Where in the text; `None` when the mistake has no single place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Further facts that explain the message.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What to do. Never empty.
    pub help: String,
}

impl Diagnostic {
    /// A diagnostic without a span or notes, and with the help that holds for all of its kind.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), span: None, notes: Vec::new(), help: general_help(code).to_owned() }
    }

    /// The same, at a place.
    #[must_use]
    pub fn at(mut self, span: impl Into<Option<Span>>) -> Self {
        self.span = span.into();
        self
    }

    /// The same, with one more note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The same, with what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// The diagnostic as a person reads it in a terminal: message, the line with a caret below, notes and help.
    pub fn render(&self, text: &str) -> String {
        self.parts().render("", text)
    }

    /// The same, with the name of the file that holds the text before the place: `--> bids.sql, line 2, column 3`.
    pub fn render_in(&self, file: &str, text: &str) -> String {
        self.parts().render(&format!("{file}, "), text)
    }

    fn parts(&self) -> DiagnosticParts<'_> {
        DiagnosticParts {
            code: self.code,
            message: &self.message,
            span: self.span,
            notes: &self.notes,
            help: Some(&self.help),
        }
    }
}

/// What to do about any mistake of a kind, where nothing closer to it is said.
fn general_help(code: &str) -> &'static str {
    match code {
        "syntax" => "a query is written SELECT … FROM … WHERE … GROUP BY … HAVING … ORDER BY … LIMIT … EMIT …",
        "unknown_column" => "DESCRIBE name lists the columns of what FROM reads",
        "unknown_relation" => "SHOW STREAMS lists what can be read",
        "unknown_query" => "SHOW QUERIES lists the queries that run, with their ids",
        "type_mismatch" => "CAST(… AS type) changes a type; DESCRIBE name tells those of columns",
        "limit" => "do the work in parts: name one with CREATE STREAM or CREATE VIEW, and query that",
        "state_budget" | "aggregate" => {
            "keep less: shorter windows, fewer groups, WHERE before GROUP BY, or STATE TTL for what has no windows"
        }
        "bad_option" | "duplicate_option" => "options are written WITH (name = 'value', …), each once",
        "disk" => "free space in the data folder, or keep less of streams: retention, retention_size",
        "internal" => "this is a mistake of Squilla's: the server's log has the details; please report the statement",
        _ => "the README's page on the language has an example of each clause, and the console's completion all names",
    }
}

/// A diagnostic that belongs to somebody else: one that came over the wire has a code of its own.
#[derive(Debug, Clone, Copy)]
pub struct DiagnosticParts<'a> {
    /// As in [`Diagnostic`].
    pub code: &'a str,
    /// As in [`Diagnostic`].
    pub message: &'a str,
    /// As in [`Diagnostic`].
    pub span: Option<Span>,
    /// As in [`Diagnostic`].
    pub notes: &'a [String],
    /// As in [`Diagnostic`].
    pub help: Option<&'a str>,
}

impl DiagnosticParts<'_> {
    /// As [`Diagnostic::render`], with words before the place.
    pub fn render(&self, before_place: &str, text: &str) -> String {
        let mut out = format!("error[{}]: {}", self.code, self.message);
        if let Some(span) = self.span {
            let start = floor_char_boundary(text, span.start);
            let end = floor_char_boundary(text, span.end.max(start));
            let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
            let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
            let line = text[..line_start].matches('\n').count() + 1;
            let column = text[line_start..start].chars().count();
            let width = text[start..end.min(line_end).max(start)].chars().count().max(1);
            let gutter = line.to_string();
            let pad = " ".repeat(gutter.len());
            out.push_str(&format!("\n{pad} --> {before_place}line {line}, column {}", column + 1));
            out.push_str(&format!("\n{pad} |\n{gutter} | {}", &text[line_start..line_end]));
            out.push_str(&format!("\n{pad} | {}{}", " ".repeat(column), "^".repeat(width)));
        }
        for note in self.notes {
            out.push_str(&format!("\n  note: {note}"));
        }
        if let Some(help) = self.help {
            out.push_str(&format!("\n  help: {help}"));
        }
        out
    }
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_line_and_a_caret_below_the_span() {
        let text = "SELECT 1,\n  prise FROM bids";
        let rendered = Diagnostic::new("unknown_column", "no column \"prise\"")
            .at(Span { start: 12, end: 17 })
            .help("did you mean \"price\"?")
            .render(text);
        assert_eq!(
            rendered,
            "error[unknown_column]: no column \"prise\"\n  --> line 2, column 3\n  |\n2 |   prise FROM bids\n  |   ^^^^^\n  help: did you mean \"price\"?"
        );
    }

    #[test]
    fn names_the_file_of_a_script() {
        let rendered = Diagnostic::new("syntax", "what").at(Span { start: 2, end: 3 }).render_in("a.sql", "1\n2");
        assert!(rendered.contains("\n  --> a.sql, line 2, column 1\n"), "{rendered}");
    }

    #[test]
    fn a_span_past_the_end_or_inside_a_character_does_not_panic() {
        let rendered = Diagnostic::new("syntax", "unexpected end").at(Span { start: 1, end: 99 }).render("é");
        assert!(rendered.contains("line 1"));
    }
}
