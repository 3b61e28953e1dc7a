//! A stream's log in memory: a ring of batches, bounded by bytes and age.
//!
//! All partitions lie in one ring in the order of their commits. A reader is a place in the ring: it costs no memory
//! however far it is behind. A reader that *holds* makes commits wait when the ring is full; any other is overtaken,
//! and is told the gap with its rows counted.

mod log;
mod reader;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tokio::sync::{Notify, watch};

use super::{Commit, CommitError, Offset, Owner, Position, Start, Stream, StreamReader};
use crate::clock::{Clock, EventTime};
use crate::error::EngineError;

use log::{Item, Log};
use reader::MemoryReader;

/// How much a log keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogLimits {
    /// Bytes of batches.
    pub(crate) bytes: usize,
    /// Age since it was committed.
    pub(crate) age: Duration,
}

impl LogLimits {
    /// A hand-off between jobs: what readers at its end may be behind, not history.
    pub(crate) const HAND_OFF: Self = Self { bytes: 8 << 20, age: Duration::from_secs(10) };
    /// The log of a query's stateful job.
    pub(crate) const RESULTS: Self = Self { bytes: 16 << 20, age: Duration::from_secs(900) };
    /// Late rows of a named stream.
    pub(crate) const LATE: Self = Self { bytes: 4 << 20, age: Duration::from_secs(900) };
    /// The log of a named stream.
    pub(crate) const NAMED: Self = Self { bytes: 64 << 20, age: Duration::from_secs(900) };
}

/// See the module.
#[derive(Debug)]
pub(crate) struct MemoryStream {
    schema: SchemaRef,
    epoch: u64,
    replay: bool,
    limits: LogLimits,
    clock: Arc<dyn Clock>,
    log: RwLock<Log>,
    /// Ascends with every change; wakes readers.
    changed: watch::Sender<u64>,
    /// Wakes commits that wait for a holding reader.
    room: Notify,
}
/// What is known of a stream at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamFacts {
    /// The least watermark of the partitions that are neither idle nor ended; `MAX` when all have ended.
    pub(crate) watermark: EventTime,
    pub(crate) rows_total: u64,
    pub(crate) bytes_total: u64,
    pub(crate) log_rows: u64,
    pub(crate) log_bytes: u64,
    /// The greatest event time of rows no longer kept; `MIN` when all rows are kept.
    pub(crate) evicted_event_time: EventTime,
    /// The latest event time of all rows so far; `MIN`: there were none.
    pub(crate) max_event_time: EventTime,
    /// What the stream's clock shows: of a replay the greatest event time.
    pub(crate) clock: EventTime,
    /// When the latest of those arrived; `MIN` when all rows are kept.
    pub(crate) evicted_arrival: EventTime,
}

impl MemoryStream {
    /// An empty stream. `start`: the offsets at which the partitions begin, zero for those not named.
    pub(crate) fn new(
        schema: SchemaRef,
        start: &Position,
        partitions: u32,
        replay: bool,
        limits: LogLimits,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self {
            schema,
            epoch: start.epoch,
            replay,
            limits,
            clock,
            log: RwLock::new(Log::new(start, partitions)),
            changed: watch::Sender::new(0),
            room: Notify::new(),
        })
    }

    /// Whether its clock runs apart from the wall clock.
    pub(crate) fn replay(&self) -> bool {
        self.replay
    }

    pub(crate) fn facts(&self) -> StreamFacts {
        let log = self.read();
        StreamFacts {
            watermark: log.watermark(),
            rows_total: log.rows_total,
            bytes_total: log.bytes_total,
            log_rows: log.entries.front().map_or(0, |entry| log.rows_total - entry.rows_before),
            log_bytes: log.bytes as u64,
            evicted_event_time: log.evicted_event_time,
            max_event_time: log.max_event_time,
            evicted_arrival: log.evicted_arrival,
            clock: if self.replay { log.max_event_time } else { self.clock.now() },
        }
    }

    /// Whether every row since the position is kept.
    pub(crate) fn covers(&self, position: &Position) -> bool {
        let log = self.read();
        position.epoch == self.epoch
            && (0..).zip(&log.partitions).all(|(index, p)| {
                let wanted = position.offsets.get(&index).map_or(Offset(0), |(offset, _)| *offset);
                p.evicted <= wanted && wanted <= p.next
            })
    }

    fn read(&self) -> RwLockReadGuard<'_, Log> {
        self.log.read().expect("no holder of this lock panics")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Log> {
        self.log.write().expect("no holder of this lock panics")
    }

    fn wake(&self) {
        self.changed.send_modify(|version| *version += 1);
    }
}

#[async_trait]
impl Stream for MemoryStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn partitions(&self) -> u32 {
        u32::try_from(self.read().partitions.len()).expect("partitions were counted in 32 bits")
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn own(&self, partition: u32) -> Result<Owner, CommitError> {
        let mut log = self.write();
        let state = log.partitions.get_mut(partition as usize).ok_or(CommitError::Partition(partition))?;
        state.generation += 1;
        Ok(Owner {
            partition,
            generation: state.generation,
            sequence: state.sequence,
            next: state.next,
            state: state.state.clone(),
        })
    }

    async fn commit(&self, commit: Commit) -> Result<(), CommitError> {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let mut log = self.write();
                log.check(&commit)?;
                let now = self.clock.now();
                if log.evict(&self.limits, now) {
                    log.apply(commit, now);
                    break;
                }
            }
            room.await;
        }
        self.wake();
        Ok(())
    }

    fn end(&self, partition: u32) {
        let mut log = self.write();
        let Some(state) = log.partitions.get_mut(partition as usize) else { return };
        if !std::mem::replace(&mut state.ended, true) {
            log.push(Item::End(partition), self.clock.now());
        }
        drop(log);
        self.wake();
    }

    fn fail(&self, error: Arc<EngineError>) {
        self.write().failed.get_or_insert(error);
        self.wake();
    }

    fn reader(self: Arc<Self>, start: &Start, holding: bool) -> Box<dyn StreamReader> {
        let mut log = self.write();
        let mut reader = MemoryReader::at(self.clone(), &log, start);
        if holding {
            let at = Arc::new(AtomicU64::new(reader.next));
            log.holders.push(Arc::downgrade(&at));
            reader.holds = Some(at);
        }
        drop(log);
        Box::new(reader)
    }
}

#[cfg(test)]
mod tests;
