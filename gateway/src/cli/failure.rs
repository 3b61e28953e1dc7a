//! What ends a command, as the user reads it.

use std::error::Error;
use std::fmt;
use std::io;

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something failed.
    Message {
        /// What, in lower case without a full stop.
        message: String,
        /// What to do; `None`: nothing to suggest.
        help: Option<String>,
    },
    /// Mistakes in a statement, rendered with their places.
    Rendered(String),
    /// Whoever reads our output has gone: no failure, there is nothing left to do.
    BrokenPipe,
}

impl Failure {
    /// A failure without help.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Message { message: message.into(), help: None }
    }

    /// The same, with what to do.
    #[must_use]
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        match self {
            Self::Message { message, .. } => Self::Message { message, help: Some(help.into()) },
            other => other,
        }
    }

    /// An error with its causes.
    pub(crate) fn because(error: &dyn Error) -> Self {
        Self::new(chain(error))
    }

    /// True when the output has nobody who reads it.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::BrokenPipe)
    }
}

/// The error and its causes on one line; what a cause repeats of the error before is left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// An error of writing the output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::new(format!("cannot write the output: {error}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { message, help } => {
                write!(f, "error: {message}")?;
                help.as_ref().map_or(Ok(()), |help| write!(f, "\n  help: {help}"))
            }
            Self::Rendered(text) => f.write_str(text),
            Self::BrokenPipe => f.write_str("error: the reader of the output has gone"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_stands_below_the_message() {
        let failure = Failure::new("port taken").help("use --listen");
        assert_eq!(failure.to_string(), "error: port taken\n  help: use --listen");
    }

    #[test]
    fn a_gone_reader_is_no_failure() {
        assert!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_broken_pipe());
        assert!(!Failure::from(io::Error::from(io::ErrorKind::StorageFull)).is_broken_pipe());
    }
}
