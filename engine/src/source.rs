//! What a source is to the engine. The outside world itself lives in the crate `sources`.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion_expr::Expr;

use crate::error::EngineError;
use crate::stream::{Durability, ProducerMark, Producers};

/// Definition of a named source: what it reads and how its rows get their event time.
#[derive(Debug, Clone)]
pub struct SourceDefinition {
    /// Its name.
    pub name: String,
    /// The columns that users see.
    pub schema: SchemaRef,
    /// Names of the columns by which later rows take the place of earlier ones, of a table; empty: it is a stream of rows.
    pub key: Vec<String>,
    /// Where event time and watermark come from.
    pub event_time: EventTimeSpec,
    /// How long a live partition may be polled empty before it no longer holds back the others.
    pub idle_timeout: Duration,
    /// How far back the stream's log reaches at the most, and how large it gets.
    pub retention: Duration,
    /// Bytes of the stream's log.
    pub retention_bytes: usize,
    /// Whether its rows outlast the process.
    pub durability: Durability,
    /// It was there when the process started: its log goes on. Otherwise it begins anew.
    pub resumes: bool,
    /// Where the rows come from.
    pub connector: Arc<dyn Connector>,
}

/// Where a row's event time comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum EventTimeSpec {
    /// A column of the source's schema, of type `timestamp_type()`, and how the watermark follows from a row.
    Column {
        /// Index in the schema.
        index: usize,
        /// How.
        watermark: WatermarkSpec,
    },
    /// The arrival time, which is the watermark too.
    Arrival,
}

/// The watermark that a row implies.
#[derive(Debug, Clone, PartialEq)]
pub enum WatermarkSpec {
    /// Its event time less this many nanoseconds.
    Delay(i64),
    /// An expression over the source's fields (by unqualified name), a timestamp.
    Expr(Expr),
}

/// What a connector says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorInfo {
    /// `file`, `http`, `host`, `flights`, `generator`.
    pub connector: &'static str,
    /// What users must be told wherever its rows are shown: that they are a replay, or synthetic. `None`: nothing.
    pub label: Option<String>,
    /// Its readers come to an end.
    pub bounded: bool,
    /// Its rows are there to be read again from the start (files). A query opens its own readers from the start
    /// unless the running job's log still reaches back to it.
    pub rereadable: bool,
    /// It can be made to wait. Live sources cannot: who is too slow loses rows, which are counted.
    pub can_wait: bool,
    /// Its event time runs apart from the wall clock (a replay).
    pub replay: bool,
    /// Its options for `DESCRIBE`, secrets replaced by `***`.
    pub options: Vec<(String, String)>,
}

/// Opens readers on the outside world.
#[async_trait]
pub trait Connector: Send + Sync + std::fmt::Debug {
    /// What it is.
    fn info(&self) -> ConnectorInfo;

    /// Takes what the stream's log remembers of its publishers, before anything is read. Connectors without publishers
    /// have no use for it.
    fn resume(&self, _producers: Producers) {}

    /// Opens all partitions anew, each from its start. `columns` are the indices, ascending, of the fields that
    /// will be read: batches hold these and no others, in this order.
    ///
    /// # Errors
    /// [`EngineError::Source`] when the outside world refuses.
    async fn open(&self, columns: &[usize]) -> Result<Vec<Box<dyn PartitionReader>>, EngineError>;
}

/// Reads one partition.
#[async_trait]
pub trait PartitionReader: Send {
    /// The next rows. A live reader waits for rows for at most 100 ms and then says [`ReadEvent::Empty`]. It hands
    /// on at once what has arrived (low latency), and large batches (8,192 rows) under load. Cancel safe: a dropped
    /// future loses no row.
    ///
    /// # Errors
    /// [`EngineError::Source`]; the reader is then dropped.
    async fn next(&mut self) -> Result<ReadEvent, EngineError>;
}

/// Tells a publisher that its rows have been committed (in a stream that is durable: are on disk), or why not.
#[derive(Debug)]
pub struct Receipt {
    /// Who waits for it.
    pub told: tokio::sync::oneshot::Sender<Result<(), Arc<EngineError>>>,
    /// What the log remembers of the publisher's request, with its rows; `None`: it was not numbered.
    pub mark: Option<ProducerMark>,
}

/// What a reader found.
#[derive(Debug)]
pub enum ReadEvent {
    /// Records.
    Batch {
        /// The decoded rows, with exactly the columns asked for.
        rows: RecordBatch,
        /// Records that did not decode: they come on top of `rows`.
        undecodable: u64,
        /// A few of those.
        rejects: Vec<Reject>,
        /// Bytes read from outside for all of these records.
        bytes: u64,
        /// Who wants to know what became of them.
        receipts: Vec<Receipt>,
    },
    /// Polled, and nothing there.
    Empty,
    /// Nothing will ever come again.
    End,
}

/// A record that did not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Where it stood: `line 7 of bids.ndjson`.
    pub place: String,
    /// Why.
    pub reason: String,
    /// The record, as text, cut to 2 KiB.
    pub record: String,
}
