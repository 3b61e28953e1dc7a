//! A script's text: read, with its `${NAME}` replaced, and its mistakes shown at their places.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use squilla_gateway::Refusal;
use squilla_query::{Diagnostic, Span, StatementText, split_statements};

use crate::cli::failure::{Failure, chain};

/// Longest script, in bytes. Statements have a limit of their own.
const SCRIPT_BYTES: u64 = 16 << 20;

/// A script, ready to run.
#[derive(Debug)]
pub(crate) struct Script {
    /// Of the file; `None`: the text was typed.
    name: Option<String>,
    text: String,
}

impl Script {
    /// Reads a file, or standard input for `-`.
    ///
    /// # Errors
    /// What cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let from_standard_input = path.as_os_str() == "-";
        let name = if from_standard_input { "standard input".to_owned() } else { path.display().to_string() };
        let mut bytes = Vec::new();
        let read = if from_standard_input {
            std::io::stdin().lock().take(SCRIPT_BYTES + 1).read_to_end(&mut bytes)
        } else {
            std::fs::File::open(path).and_then(|file| file.take(SCRIPT_BYTES + 1).read_to_end(&mut bytes))
        };
        read.map_err(|error| Failure::new(format!("cannot read the script \"{name}\": {error}")))?;
        if bytes.len() as u64 > SCRIPT_BYTES {
            return Err(Failure::new(format!("the script \"{name}\" is longer than {SCRIPT_BYTES} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            Failure::new(format!("the script \"{name}\" is no UTF-8 at byte {}", error.utf8_error().valid_up_to()))
        })?;
        Ok(Self { name: Some(name), text })
    }

    /// A text that was typed.
    pub(crate) fn of_text(text: &str) -> Self {
        Self { name: None, text: text.to_owned() }
    }

    /// The script with each `${NAME}` replaced, as text.
    ///
    /// # Errors
    /// Names that are not set.
    pub(crate) fn with_settings(self, settings: &[(String, String)]) -> Result<Self, Failure> {
        let values: HashMap<&str, &str> =
            settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        match substitute(&self.text, &values) {
            Ok(text) => Ok(Self { name: self.name, text }),
            Err(diagnostics) => Err(self.mistakes(&diagnostics, 0)),
        }
    }

    /// Its statements.
    ///
    /// # Errors
    /// Where it cannot be cut.
    pub(crate) fn statements(&self) -> Result<Vec<StatementText>, Failure> {
        split_statements(&self.text).map_err(|diagnostics| self.mistakes(&diagnostics, 0))
    }

    /// Mistakes in a statement that starts at a byte of the script, as the user reads them.
    pub(crate) fn mistakes(&self, diagnostics: &[Diagnostic], statement_start: usize) -> Failure {
        let shifted = diagnostics.iter().map(|diagnostic| {
            let span = diagnostic
                .span
                .map(|span| Span { start: span.start + statement_start, end: span.end + statement_start });
            let diagnostic = Diagnostic { span, ..diagnostic.clone() };
            match &self.name {
                Some(name) => diagnostic.render_in(name, &self.text),
                None => diagnostic.render(&self.text),
            }
        });
        Failure::Rendered(shifted.collect::<Vec<_>>().join("\n\n"))
    }

    /// Why a script that is one statement was refused, as the user reads it.
    pub(crate) fn refused_whole(&self, refusal: Refusal) -> Failure {
        let span = Span { start: 0, end: self.text.len() };
        self.refused(refusal, &StatementText { sql: self.text.clone(), span })
    }

    /// Why a statement was refused, as the user reads it.
    pub(crate) fn refused(&self, refusal: Refusal, statement: &StatementText) -> Failure {
        match refusal {
            Refusal::Mistakes(diagnostics) => self.mistakes(&diagnostics, statement.span.start),
            Refusal::Engine(error) => {
                let diagnostic =
                    Diagnostic::new(error.code(), chain(&error)).at(first_line(statement)).help(error.help());
                self.mistakes(&[diagnostic], statement.span.start)
            }
            Refusal::Catalog(message) => Failure::new(message),
        }
    }
}

/// The statement's first line, as a span in the statement.
pub(crate) fn first_line(statement: &StatementText) -> Span {
    Span { start: 0, end: statement.sql.find('\n').unwrap_or(statement.sql.len()) }
}

fn substitute(text: &str, values: &HashMap<&str, &str>) -> Result<String, Vec<Diagnostic>> {
    let mut out = String::with_capacity(text.len());
    let mut unknown = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let end_of_name =
            rest[at + 2..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map(|length| at + 2 + length);
        let Some(end) = end_of_name.filter(|end| *end > at + 2 && rest[*end..].starts_with('}')) else {
            // Not a name in braces: it stays as it is.
            out.push_str(&rest[..at + 2]);
            rest = &rest[at + 2..];
            continue;
        };
        let name = &rest[at + 2..end];
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at]);
            out.push_str(&rest[at + 1..=end]);
        } else if let Some(value) = values.get(name) {
            out.push_str(&rest[..at]);
            out.push_str(value);
        } else {
            let start = text.len() - rest.len() + at;
            unknown.push(
                Diagnostic::new("unknown_setting", format!("${{{name}}} has no value"))
                    .at(Span { start, end: start + name.len() + 3 })
                    .help(format!("say --set {name}=VALUE, or write $${{{name}}} for the text itself")),
            );
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    if unknown.is_empty() { Ok(out) } else { Err(unknown) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn substituted(text: &str) -> Result<String, Vec<Diagnostic>> {
        substitute(text, &HashMap::from([("A", "1"), ("FILE", "x.csv")]))
    }

    #[test]
    fn names_in_braces_are_replaced_as_text() {
        assert_eq!(substituted("'${FILE}' ${A}${A}"), Ok("'x.csv' 11".to_owned()));
    }

    #[test]
    fn what_is_no_name_in_braces_stays() {
        for text in ["$A {A} ${} ${A ${a-b}", "$$", "${", "'^a${1,2}'"] {
            assert_eq!(substituted(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn two_dollars_stand_for_the_text_itself() {
        assert_eq!(substituted("'$${A}' ${A}"), Ok("'${A}' 1".to_owned()));
    }

    #[test]
    fn every_name_without_a_value_is_told_at_its_place() {
        let text = "SELECT\n '${B}', ${A}, '${NOPE}'";
        let unknown = substituted(text).expect_err("two names have no value");
        let named: Vec<&str> = unknown.iter().filter_map(|d| d.span).map(|span| &text[span.start..span.end]).collect();
        assert_eq!(named, ["${B}", "${NOPE}"]);
        assert!(unknown[1].help.contains("--set NOPE=VALUE"));
    }

    #[test]
    fn mistakes_stand_at_their_place_in_the_script() {
        let script = Script { name: Some("s.sql".to_owned()), text: "SELECT 1;\nSELECT prise FROM b".to_owned() };
        let mistake = Diagnostic::new("unknown_column", "no column \"prise\"").at(Span { start: 7, end: 12 });
        let shown = script.mistakes(&[mistake], 10).to_string();
        assert!(shown.contains("--> s.sql, line 2, column 8"), "{shown}");
    }
}
