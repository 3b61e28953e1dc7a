//! Statements, carried out: one place for every client protocol and the command line.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use squilla_engine::{Clock, Engine, EngineConfig, EngineError, SinkSummary};
use squilla_query::{Diagnostic, Query};
use squilla_sources::SourceEnv;

/// What a service is made with.
#[derive(Debug)]
pub struct ServiceConfig {
    /// Limits of the engine.
    pub engine: EngineConfig,
    /// Folder of the catalog; `None`: nothing is kept.
    pub data_dir: Option<PathBuf>,
    /// Folders under which files may be read and written.
    pub roots: Vec<PathBuf>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// A catalog, an engine and sources, put together. Shared by all clients.
pub struct Service {
    engine: Engine,
    sources: SourceEnv,
}

/// What a statement gave.
#[derive(Debug)]
pub enum Answer {
    /// It was carried out; what to tell.
    Done(String),
    /// Rows that end: of `SHOW`, `DESCRIBE`, `EXPLAIN`.
    Table(RecordBatch),
    /// A live query, planned and not started: subscribe to it.
    Live(Query),
    /// A sink that runs now, by name (`CREATE SINK … AS`, `INSERT INTO`).
    Sink(String),
}

/// Why a statement was not carried out.
#[derive(Debug)]
pub enum Refusal {
    /// Mistakes in the text, with spans in it.
    Mistakes(Vec<Diagnostic>),
    /// The engine refused.
    Engine(EngineError),
    /// The catalog could not be written.
    Catalog(String),
}

impl Service {
    /// Opens the catalog, and starts again what it holds.
    ///
    /// # Errors
    /// A catalog that cannot be read or is locked by another process.
    pub async fn open(config: ServiceConfig) -> Result<Self, Refusal> {
        let _ = config;
        unreachable!("in work")
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Where sources get what they need, `http` publishers among it.
    pub fn sources(&self) -> &SourceEnv {
        &self.sources
    }

    /// Carries out one statement.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn execute(&self, sql: &str) -> Result<Answer, Refusal> {
        let _ = sql;
        unreachable!("in work")
    }

    /// Waits until the bounded inputs of a running sink have ended and its rows are durable; `name` as in
    /// [`Answer::Sink`]. With unbounded inputs it waits for ever.
    ///
    /// # Errors
    /// What ended the sink.
    pub async fn sink_finished(&self, name: &str) -> Result<SinkSummary, Arc<EngineError>> {
        let _ = name;
        unreachable!("in work")
    }

    /// Reads and plans a statement without carrying it out, for an editor.
    ///
    /// # Errors
    /// Its mistakes.
    pub fn check(&self, sql: &str) -> Result<(), Vec<Diagnostic>> {
        let _ = sql;
        unreachable!("in work")
    }
}
