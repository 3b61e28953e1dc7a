//! The outside world in, [`squilla_engine`] sources and sinks out: one file a connector, one file a format.
//!
//! An event's way: a connector reads bytes, a format makes them record batches, the engine takes it from there.
//!
//! Planning, windows and client protocols never live here.

mod connector;
mod define;
pub mod encode;
mod event_time;
mod faults;
mod format;
mod infer;
mod options;
mod paths;
mod sink;
#[cfg(test)]
mod testing;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use serde::Serialize;
use squilla_engine::{Clock, ProducerMark, Sink, SourceDefinition, StreamOptions};
use squilla_query::{CreateSink, CreateSource, CreateStream, Diagnostic};
use thiserror::Error;

pub use faults::{Fault, FaultControl};

/// What definitions are made in.
#[derive(Debug, Clone)]
pub struct SourceEnv {
    /// Folders under which files may be read and written, symbolic links resolved. Relative paths start at the first.
    pub roots: Vec<PathBuf>,
    /// Where `http` sources get their rows from.
    pub publishers: Arc<Publishers>,
    /// Reaches the faults of `generator` sources.
    pub faults: Arc<FaultControl>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Makes a source from its definition: checks the options, infers columns that are not declared, finds the event
/// time.
///
/// # Errors
/// What is wrong with the statement: unknown, missing and malformed options (with the right ones named), a file that
/// is not there or not allowed, columns that cannot be inferred. `code` is `needs_events` for an `http` source
/// without columns: they are inferred from the first events, see [`infer_json`].
pub async fn define_source(create: &CreateSource, env: &SourceEnv) -> Result<SourceDefinition, Vec<Diagnostic>> {
    define::source(create, env)
}

/// How the log of a named stream is kept, from its definition.
///
/// # Errors
/// Unknown and malformed options.
pub fn define_stream(create: &CreateStream) -> Result<StreamOptions, Vec<Diagnostic>> {
    define::stream(create)
}

/// Makes a sink from its definition, for rows of these fields.
///
/// # Errors
/// As [`define_source`].
pub async fn define_sink(
    create: &CreateSink,
    schema: &SchemaRef,
    env: &SourceEnv,
) -> Result<Box<dyn Sink>, Vec<Diagnostic>> {
    sink::define(create, schema, env)
}

/// Columns of a source, from a body of NDJSON or of a JSON array of objects.
///
/// # Errors
/// Why there are none.
pub fn infer_json(create: &CreateSource, body: &[u8]) -> Result<SchemaRef, String> {
    Ok(event_time::with_event_time(&infer::json_body(body)?, create))
}

/// A connector and its options, for help and completion.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectorHelp {
    /// `file`, `http` and so on.
    pub name: &'static str,
    /// What it does, in a sentence.
    pub description: &'static str,
    /// Option names with a sentence each.
    pub options: Vec<(&'static str, &'static str)>,
}

/// All connectors of sources.
pub fn connectors() -> Vec<ConnectorHelp> {
    connector::help()
}

/// The options of `CREATE STREAM … WITH (…)`, with a sentence each.
pub fn stream_options() -> Vec<(&'static str, &'static str)> {
    connector::stream_options()
}

/// Hands what clients publish to the `http` sources.
#[derive(Debug, Default)]
pub struct Publishers {
    registry: connector::http::Registry,
}

/// The answer to a publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishReport {
    /// Rows taken.
    pub accepted: u64,
    /// Rows not taken.
    pub rejected: u64,
    /// The first hundred of those.
    pub errors: Vec<PublishReject>,
}

/// A publisher's number of a request: each is one more than the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// The name that the publisher gave itself.
    pub producer: String,
    /// The number. The first may be any.
    pub sequence: u64,
}

/// The answer to a numbered publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NumberedReport {
    /// It was taken now.
    Taken(PublishReport),
    /// It was taken before.
    Before(ProducerMark),
}

/// A record that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishReject {
    /// From 1; of an array: the element, from 1.
    pub line: u64,
    /// Why.
    pub reason: String,
}

/// Why nothing of a publish was taken.
#[derive(Debug, Error)]
pub enum PublishError {
    /// No such `http` source.
    #[error("no http source \"{0}\"")]
    Unknown(String),
    /// The body is neither NDJSON nor a JSON array.
    #[error("the body is neither newline-delimited JSON nor a JSON array of objects: {0}")]
    Malformed(String),
    /// The source's queue is full. Worth a retry.
    #[error("the queue of {limit} rows is full")]
    Full {
        /// Rows that it holds.
        limit: usize,
    },
    /// The stream did not take all of the rows; some may have been. Worth a retry when the disk has room.
    #[error("the rows could not be stored: {0}")]
    NotStored(String),
    /// Requests of the publisher are missing before this one.
    #[error("sequence {sequence} of producer \"{producer}\" came, and {expected} was to come")]
    SequenceGap {
        /// The publisher.
        producer: String,
        /// The request's number.
        sequence: u64,
        /// The number that was to come.
        expected: u64,
    },
    /// Later requests of the publisher were taken so long ago that nothing is known of this one.
    #[error("sequence {sequence} of producer \"{producer}\" came, long after later ones")]
    SequenceForgotten {
        /// The publisher.
        producer: String,
        /// The request's number.
        sequence: u64,
        /// The number that was to come; `None`: there is none left.
        expected: Option<u64>,
    },
}
