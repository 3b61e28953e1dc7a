//! Streams: where jobs meet. A stream's rows lie in one or more partitions; a row's place is an offset.

mod carried;
mod disk;
mod memory;
mod position;
mod producers;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use squilla_query::Since;
use thiserror::Error;

use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::error::EngineError;

pub(crate) use carried::Carried;
#[cfg(test)]
pub(crate) use disk::TestVolume;
pub(crate) use disk::{DiskBudget, DiskLog, DiskOptions, DiskWriter, RealVolume, Resumed, Volume, VolumeFile};
pub use disk::{DiskError, Durability};
pub(crate) use memory::{Disk, LogLimits, MemoryStream, hand_on_woken, together};
pub use position::{Position, PositionError};
pub use producers::{Arrived, ProducerMark, Producers};

/// A place in a partition. Ascends; is never reused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Offset(pub u64);

/// The right to commit to a partition. Taking it makes every earlier owner stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The partition.
    pub partition: u32,
    /// Ascends with every owner.
    pub generation: u64,
    /// Commits made to the partition so far: the next commit's `expected_sequence`.
    pub sequence: u64,
    /// The offset that the next row gets.
    pub next: Offset,
    /// The state of the last commit that had one; `None` when there is none.
    pub state: Option<Bytes>,
}

/// One atomic step of a task: outputs, state and the inputs' positions take effect together or not at all.
#[derive(Debug)]
pub struct Commit {
    /// The partition that is written.
    pub partition: u32,
    /// The owner's [`Owner::generation`].
    pub generation: u64,
    /// How many commits the owner knows of.
    pub expected_sequence: u64,
    /// Rows to append, in order, of this partition. Their offsets continue the partition's.
    pub outputs: Vec<StreamBatch>,
    /// The task's state to keep instead of the last; `None`: keep the last.
    pub state: Option<Bytes>,
    /// How far the inputs have been read to make this.
    pub inputs: Vec<(String, Position)>,
    /// The publishers' requests that it holds.
    pub marks: Vec<ProducerMark>,
}

/// Why a commit was refused. Nothing of it took effect.
#[derive(Debug, Clone, Error)]
pub enum CommitError {
    /// Another owner has taken the partition.
    #[error("partition {partition} has a newer owner")]
    StaleOwner {
        /// The partition.
        partition: u32,
    },
    /// A commit is missing or was made twice.
    #[error("partition {partition} is at commit {actual}, not {expected}")]
    Sequence {
        /// The partition.
        partition: u32,
        /// What the commit expected.
        expected: u64,
        /// What is there.
        actual: u64,
    },
    /// Offsets do not continue the partition.
    #[error("offset {given} does not continue partition {partition}, which is at {next}")]
    Offset {
        /// The partition.
        partition: u32,
        /// The offset given.
        given: u64,
        /// The least offset that may come.
        next: u64,
    },
    /// There is no such partition.
    #[error("there is no partition {0}")]
    Partition(u32),
    /// The log on disk does not take it.
    #[error("{0}")]
    Disk(Arc<DiskError>),
}

/// Where a reader starts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// Behind the last row.
    #[default]
    Latest,
    /// At the first row that is kept.
    Earliest,
    /// At a position. When the stream has another epoch, or retention has overtaken it, a gap is told first.
    Position(Position),
    /// At the first row with this event time or a later one, in the order of the log.
    Timestamp(EventTime),
    /// So long before the stream's clock.
    Ago(Duration),
}

impl From<Since> for Start {
    fn from(since: Since) -> Self {
        match since {
            Since::Earliest => Self::Earliest,
            Since::Latest => Self::Latest,
            Since::Ago(ago) => Self::Ago(ago),
            Since::Moment(moment) => Self::Timestamp(EventTime(moment)),
        }
    }
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub enum Read {
    /// A batch.
    Batch(Arc<StreamBatch>),
    /// Rows that were there and are no longer kept.
    Gap(Gap),
    /// A partition will get no further rows.
    EndOfPartition(u32),
    /// The stream has ended or its job has; told once, nothing follows.
    End,
    /// The job that writes the stream has failed; nothing follows.
    Failed(Arc<EngineError>),
}

/// Rows that a reader did not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Where the reader was; `None` when it was on another epoch.
    pub from: Option<Position>,
    /// Where it goes on.
    pub to: Position,
    /// How many rows; `None`: unknown.
    pub rows: Option<u64>,
    /// Why.
    pub reason: GapReason,
}

/// Why rows were not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The reader was slower than its policy allows.
    Slow,
    /// The log no longer holds them.
    Retention,
    /// The stream is another incarnation than the position's.
    Epoch,
    /// They cannot be read back from disk.
    Damaged,
    /// The reader had been paused, and was told to go on with the latest rows.
    Skipped,
}

/// A stream: all that jobs know of each other. A log in memory stands behind it; one on disk or on other machines
/// can.
#[async_trait]
pub trait Stream: Send + Sync + std::fmt::Debug {
    /// Its fields, with the hidden ones.
    fn schema(&self) -> &SchemaRef;

    /// How many partitions it has.
    fn partitions(&self) -> u32;

    /// Its log's incarnation.
    fn epoch(&self) -> u64;

    /// Takes the ownership of a partition.
    ///
    /// # Errors
    /// [`CommitError::Partition`].
    fn own(&self, partition: u32) -> Result<Owner, CommitError>;

    /// Commits. Waits while a reader that must not lose rows is behind by the stream's bounds.
    ///
    /// # Errors
    /// [`CommitError`]; nothing took effect then.
    async fn commit(&self, commit: Commit) -> Result<(), CommitError>;

    /// Says that a partition gets no further rows. Readers get [`Read::EndOfPartition`] behind its last row, and
    /// [`Read::End`] behind the last partition's.
    fn end(&self, partition: u32);

    /// Says that the job that writes has failed. Readers get [`Read::Failed`] behind the last row.
    fn fail(&self, error: Arc<EngineError>);

    /// A reader. `holding`: commits wait for it rather than overtake it.
    fn reader(self: Arc<Self>, start: &Start, holding: bool) -> Box<dyn StreamReader>;
}

/// Reads a stream, all partitions in the order of their commits.
pub trait StreamReader: Send {
    /// The next thing; its task is woken when there may be one.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Read>;

    /// The next thing if it is there.
    fn try_next(&mut self) -> Option<Read>;

    /// Batches of rows in memory that come next, at the most so many, while it stays where it is: who has much to do with each may
    /// begin with several.
    fn upcoming(&self, most: usize) -> Vec<Arc<StreamBatch>> {
        let _ = most;
        Vec::new()
    }

    /// From now on commits wait for it, or no longer do, where they can. What it has not read may be gone afterwards.
    fn hold(&mut self, holds: bool) {
        let _ = holds;
    }

    /// Where the reader is: before the row that comes next.
    fn position(&self) -> Position;

    /// Rows between the reader and the end of the stream.
    fn behind_rows(&self) -> u64;

    /// Bytes in memory between the reader and the end of the stream; none while it reads what is on disk only.
    fn behind_bytes(&self) -> u64;

    /// Goes to the end of the stream, or so far that at most `keep_bytes` are left to read; the gap that this
    /// makes, `None` when there is none.
    fn skip_to_latest(&mut self, keep_bytes: u64) -> Option<Gap>;
}

impl dyn StreamReader {
    /// The next thing; waits for it. Cancel safe.
    pub async fn next(&mut self) -> Read {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }
}
