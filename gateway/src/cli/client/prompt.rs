//! The prompt of `squilla sql`: lines until a semicolon, a history, and a few commands that start with `\`.

use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Editor, Helper};

use crate::cli::failure::Failure;

/// Statements that the history keeps.
const HISTORY_ENTRIES: usize = 10_000;

const HELP: &str = "\
Statements end with a semicolon and may span lines. A live query prints rows until Ctrl-C.

  SHOW STREAMS;                        what there is to ask
  DESCRIBE plays;                      its columns
  SELECT title, count(*) FROM plays GROUP BY title, tumble('5s');
  CREATE STREAM failing AS SELECT * FROM plays WHERE outcome <> 'ok';
  EXPLAIN SELECT ...;                  what would run, and what is shared

  \\d          SHOW STREAMS             \\d NAME     DESCRIBE NAME
  \\?          this help                \\q          leave (or Ctrl-D)";

/// What the user typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// One or several statements.
    Statements(String),
    /// Nothing to carry out.
    Nothing,
    /// No more will come.
    End,
}

/// The terminal.
pub(super) struct Prompt {
    editor: Editor<WholeStatements, FileHistory>,
    history: Option<PathBuf>,
}

impl Prompt {
    /// A prompt with the history of earlier ones.
    pub(super) fn new() -> Result<Self, Failure> {
        let mut editor = Editor::new().map_err(|error| Failure::because(&error))?;
        editor.set_helper(Some(WholeStatements));
        editor.set_max_history_size(HISTORY_ENTRIES).map_err(|error| Failure::because(&error))?;
        let history = history_file();
        if let Some(path) = &history {
            // There is none before the first time.
            let _ = editor.load_history(path);
        }
        Ok(Self { editor, history })
    }

    /// Waits for the user.
    pub(super) fn read(&mut self) -> Result<Line, Failure> {
        match self.editor.readline("squilla> ") {
            Ok(text) => {
                if !text.trim().is_empty() {
                    self.remember(&text);
                }
                Ok(understand(&text))
            }
            Err(ReadlineError::Interrupted) => Ok(Line::Nothing),
            Err(ReadlineError::Eof) => Ok(Line::End),
            Err(error) => Err(Failure::because(&error)),
        }
    }

    /// A history that cannot be written is no reason to stop.
    fn remember(&mut self, text: &str) {
        let _ = self.editor.add_history_entry(text);
        if let Some(path) = &self.history {
            if let Some(folder) = path.parent() {
                let _ = std::fs::create_dir_all(folder);
            }
            let _ = self.editor.save_history(path);
        }
    }
}

/// `$XDG_STATE_HOME/squilla/history`, by default below `~/.local/state`; `None` without a home.
fn history_file() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("squilla").join("history"))
}

fn understand(text: &str) -> Line {
    let text = text.trim();
    let Some(command) = text.strip_prefix('\\') else {
        return if text.is_empty() { Line::Nothing } else { Line::Statements(text.to_owned()) };
    };
    let (command, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
    match (command, argument.trim().trim_end_matches(';')) {
        ("q" | "quit" | "exit", _) => return Line::End,
        ("d", "") => return Line::Statements("SHOW STREAMS".to_owned()),
        ("d", name) => return Line::Statements(format!("DESCRIBE {name}")),
        ("?" | "h" | "help", _) => println!("{HELP}"),
        _ => eprintln!("error: no command \"\\{command}\"\n  help: \\? lists them"),
    }
    Line::Nothing
}

/// Reads on until a semicolon, but for commands and empty lines.
struct WholeStatements;

fn is_whole(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.starts_with('\\') || text.ends_with(';')
}

impl Validator for WholeStatements {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let whole = is_whole(context.input());
        Ok(if whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Completer for WholeStatements {
    type Candidate = String;
}

impl Hinter for WholeStatements {
    type Hint = String;
}

impl Highlighter for WholeStatements {}

impl Helper for WholeStatements {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_until_a_semicolon() {
        assert!(!is_whole("SELECT *\n"));
        for text in ["SELECT 1;", "SELECT *\nFROM a; ", "\\d", "  "] {
            assert!(is_whole(text), "{text}");
        }
    }

    #[test]
    fn commands_stand_for_statements() {
        assert_eq!(understand("\\d plays;"), Line::Statements("DESCRIBE plays".to_owned()));
        assert_eq!(understand("\\d"), Line::Statements("SHOW STREAMS".to_owned()));
        assert_eq!(understand("\\q"), Line::End);
        assert_eq!(understand("\\nonsense"), Line::Nothing);
        assert_eq!(understand(" SELECT 1; "), Line::Statements("SELECT 1;".to_owned()));
    }
}
