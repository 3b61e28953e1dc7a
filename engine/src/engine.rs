//! The engine's front: definitions and queries in, subscriptions and facts out.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use serde::Serialize;
use squilla_query::Query;

use crate::clock::Clock;
use crate::clock::EventTime;
use crate::counters::{CountersSnapshot, FailedSample};
use crate::error::EngineError;
use crate::sink::Sink;
use crate::source::SourceDefinition;
use crate::stream::Start;
use crate::subscription::{Policy, Subscription};

/// Limits and behaviour of an engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Threads of the compute runtime.
    pub compute_threads: usize,
    /// Bytes of state that one query may hold.
    pub query_state_bytes: usize,
    /// Bytes of state that all queries together may hold.
    pub process_state_bytes: usize,
    /// Live queries there can be.
    pub max_queries: usize,
    /// How long a job without users runs on after the last one vanished.
    pub linger_disconnected: Duration,
    /// How long a job without users runs on after the last one unsubscribed.
    pub linger_unsubscribed: Duration,
    /// How far a `drop_oldest` or `disconnect` subscription may be behind, in bytes of rows.
    pub subscription_lag_bytes: u64,
    /// All readers hold back sources that can wait, so that nothing is skipped (`squilla run`).
    pub lossless: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            compute_threads: std::thread::available_parallelism().map_or(2, usize::from),
            query_state_bytes: 1 << 30,
            process_state_bytes: 4 << 30,
            max_queries: 20_000,
            linger_disconnected: Duration::from_secs(60),
            linger_unsubscribed: Duration::from_secs(2),
            subscription_lag_bytes: 16 << 20,
            lossless: false,
        }
    }
}

/// How a client wants to read a query.
#[derive(Debug, Clone, Default)]
pub struct SubscribeOptions {
    /// Where to start; `None`: where a fresh query of its kind starts (the latest row; a windowed query: the
    /// beginning of the windows now open; a bounded source: its start).
    pub from: Option<Start>,
    /// `None`: `drop_oldest` for appended rows, `conflate` for keyed updates.
    pub policy: Option<Policy>,
    /// At most so many deliveries a second; updates between are conflated, appended rows are gathered.
    pub max_hz: Option<f64>,
}

/// Runs jobs. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<EngineConfig>,
}

/// A running sink.
pub struct SinkHandle {}

/// What a sink took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SinkSummary {
    /// Rows written.
    pub rows: u64,
}

impl SinkHandle {
    /// Waits until the sink's bounded inputs have ended and all its rows are durable.
    ///
    /// # Errors
    /// What ended it.
    pub async fn finished(&mut self) -> Result<SinkSummary, Arc<EngineError>> {
        unreachable!("in work")
    }
}

/// A running job, for `SHOW JOBS`.
#[derive(Debug, Clone, Serialize)]
pub struct JobInfo {
    /// Short id.
    pub id: String,
    /// `source`, `filter`, `aggregate`, `union`, `sink` and so on: what it does, in a word.
    pub kind: String,
    /// What it does, in a line a user can read.
    pub description: String,
    /// Ids of the jobs whose output it reads.
    pub inputs: Vec<String>,
    /// The name of its output stream, when it has one.
    pub stream: Option<String>,
    /// Who uses it: queries, named streams, sinks and jobs, by id or name.
    pub users: Vec<String>,
    /// When it started.
    pub started: EventTime,
    /// Its output's watermark; `None` while there is none.
    pub watermark: Option<EventTime>,
    /// Bytes of state.
    pub state_bytes: usize,
    /// The ledger.
    pub counters: CountersSnapshot,
    /// `running`, `lingering`, `ended`, or `failed: …`.
    pub status: String,
}

/// A source or named stream, for `SHOW STREAMS`.
#[derive(Debug, Clone, Serialize)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// `source` or `stream`.
    pub kind: &'static str,
    /// The label of [`crate::ConnectorInfo`], passed on through chains.
    pub labels: Vec<String>,
    /// Its visible fields.
    #[serde(skip)]
    pub schema: SchemaRef,
    /// The connector, for a source.
    pub connector: Option<&'static str>,
    /// Options of the connector, secrets redacted.
    pub options: Vec<(String, String)>,
    /// The event-time column and how the watermark follows, in words.
    pub event_time: String,
    /// How many partitions; zero while its job does not run.
    pub partitions: u32,
    /// Its watermark; `None` while there is none.
    pub watermark: Option<EventTime>,
    /// Rows committed so far.
    pub rows: u64,
    /// Rows kept in the log.
    pub log_rows: u64,
    /// Bytes kept in the log.
    pub log_bytes: u64,
    /// Who reads it: queries, streams and sinks, by id or name.
    pub users: Vec<String>,
    /// The ledger of the job that writes it.
    pub counters: CountersSnapshot,
    /// `running`, `waiting` (starts with its first reader), `ended`, or `failed: …`.
    pub status: String,
}

/// A live query, for `SHOW QUERIES`.
#[derive(Debug, Clone, Serialize)]
pub struct QueryInfo {
    /// Its id, for `KILL QUERY`.
    pub id: String,
    /// Its text.
    pub sql: String,
    /// When it was submitted.
    pub started: EventTime,
    /// Its jobs, the source's first.
    pub jobs: Vec<String>,
    /// Subscriptions of this very query.
    pub subscriptions: usize,
    /// Rows handed to subscriptions.
    pub rows: u64,
}

/// One job of a query that is explained, the source's first.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedJob {
    /// As in [`JobInfo`].
    pub kind: String,
    /// As in [`JobInfo`].
    pub description: String,
    /// Id of the running job that the query would share; `None`: it would start its own.
    pub shared: Option<String>,
    /// How many users that job has.
    pub users: usize,
    /// What it keeps, in words: `windows of 10 s, shared panes of 2 s`, `nothing`.
    pub state: String,
}

impl Engine {
    /// Starts an engine with a runtime of its own for compute.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when threads cannot be started.
    pub fn new(config: EngineConfig, clock: Arc<dyn Clock>) -> Result<Self, EngineError> {
        let _ = clock;
        Ok(Self { inner: Arc::new(config) })
    }

    /// The configuration.
    pub fn config(&self) -> &EngineConfig {
        &self.inner
    }

    /// Adds a source. A live one starts at once, so that its log can be read back; one that can be reread starts
    /// with its first reader.
    ///
    /// # Errors
    /// [`EngineError::Exists`], [`EngineError::Plan`] for a definition that does not hold together.
    pub async fn create_source(&self, definition: SourceDefinition) -> Result<(), EngineError> {
        let _ = definition;
        unreachable!("in work")
    }

    /// Adds a named stream: a job that runs without clients; its output is a stream like any other.
    ///
    /// # Errors
    /// [`EngineError::Exists`], [`EngineError::UnknownRelation`], [`EngineError::Plan`].
    pub async fn create_stream(&self, name: &str, query: &Query) -> Result<(), EngineError> {
        let _ = (name, query);
        unreachable!("in work")
    }

    /// Removes a source or named stream.
    ///
    /// # Errors
    /// [`EngineError::UnknownRelation`]; [`EngineError::InUse`] while a named stream or sink reads it. Live queries on
    /// it are ended with an error.
    pub fn drop_relation(&self, name: &str) -> Result<(), EngineError> {
        let _ = name;
        unreachable!("in work")
    }

    /// Starts a query, or attaches to its jobs that run already.
    ///
    /// # Errors
    /// [`EngineError::UnknownRelation`], [`EngineError::Plan`], [`EngineError::Limit`], [`EngineError::Source`].
    pub async fn subscribe(&self, query: &Query, options: SubscribeOptions) -> Result<Subscription, EngineError> {
        let _ = (query, options);
        unreachable!("in work")
    }

    /// Starts a query that feeds a sink, under the sink's name.
    ///
    /// # Errors
    /// As [`Engine::subscribe`].
    pub async fn start_sink(&self, name: &str, query: &Query, sink: Box<dyn Sink>) -> Result<SinkHandle, EngineError> {
        let _ = (name, query, sink);
        unreachable!("in work")
    }

    /// Lets sources that can be reread begin. In a `lossless` engine they wait for this, so that every query of a
    /// script sees every row; otherwise it does nothing.
    pub fn start_sources(&self) {}

    /// Ends a query and all its subscriptions.
    ///
    /// # Errors
    /// [`EngineError::UnknownQuery`].
    pub fn kill(&self, query: &str) -> Result<(), EngineError> {
        let _ = query;
        unreachable!("in work")
    }

    /// What running a query would start and share.
    ///
    /// # Errors
    /// As [`Engine::subscribe`].
    pub fn explain(&self, query: &Query) -> Result<Vec<ExplainedJob>, EngineError> {
        let _ = query;
        unreachable!("in work")
    }

    /// Running jobs, sources first.
    pub fn jobs(&self) -> Vec<JobInfo> {
        unreachable!("in work")
    }

    /// Sources and named streams, by name.
    pub fn streams(&self) -> Vec<StreamInfo> {
        unreachable!("in work")
    }

    /// Live queries, oldest first.
    pub fn queries(&self) -> Vec<QueryInfo> {
        unreachable!("in work")
    }

    /// The last records that a source or a stream's job set aside, oldest first.
    ///
    /// # Errors
    /// [`EngineError::UnknownRelation`].
    pub fn failed_samples(&self, name: &str) -> Result<Vec<FailedSample>, EngineError> {
        let _ = name;
        unreachable!("in work")
    }

    /// Ends every job, and returns when all tasks have ended.
    pub async fn shutdown(&self) {}
}
