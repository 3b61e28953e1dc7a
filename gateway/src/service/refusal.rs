//! Why something was not done.

use std::fmt;

use squilla_engine::EngineError;
use squilla_query::Diagnostic;
use squilla_sources::PublishError;

use crate::catalog::StoreError;

/// Why a statement was not carried out.
#[derive(Debug)]
pub enum Refusal {
    /// Mistakes in the text, with spans in it.
    Mistakes(Vec<Diagnostic>),
    /// The engine refused.
    Engine(EngineError),
    /// The catalog could not be read or written.
    Catalog(String),
}

/// Why nothing of a publish was taken.
#[derive(Debug)]
pub enum PublishRefusal {
    /// The source refused.
    Publish(PublishError),
    /// The source's columns could not be defined from these events.
    Define(Refusal),
}

impl Refusal {
    /// A single mistake.
    pub(crate) fn mistake(diagnostic: Diagnostic) -> Self {
        Self::Mistakes(vec![diagnostic])
    }

    /// Work on another thread has panicked.
    pub(crate) fn panicked(error: tokio::task::JoinError) -> Self {
        Self::Engine(EngineError::Internal(Box::new(error)))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Catalog(error.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mistakes(mistakes) => {
                for (at, mistake) in mistakes.iter().enumerate() {
                    let separator = if at == 0 { "" } else { "; " };
                    write!(f, "{separator}{}", mistake.message)?;
                }
                Ok(())
            }
            Self::Engine(error) => error.fmt(f),
            Self::Catalog(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Engine(error) => error.source(),
            Self::Mistakes(_) | Self::Catalog(_) => None,
        }
    }
}
