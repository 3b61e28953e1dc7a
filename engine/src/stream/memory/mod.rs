//! A stream's log in memory: a ring of batches, bounded by bytes and age. A log on disk may lie behind it, for what is
//! older and for the next start of the process.
//!
//! All partitions lie in one ring in the order of their commits. A reader is a place in the ring: it costs no memory
//! however far it is behind. A reader that *holds* makes commits wait when the ring is full; any other is overtaken,
//! and is told the gap with its rows counted.

mod bell;
mod log;
mod pack;
mod past;
mod reader;
mod room;
mod wakes;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;

use super::disk::{Append, DiskLog, DiskWriter, Durability, Resumed};
use super::{Carried, Commit, CommitError, Offset, Owner, Position, Start, Stream, StreamReader};
use crate::batch::StreamBatch;
use crate::clock::{Clock, EventTime};
use crate::error::EngineError;
use crate::failpoint::Failpoint;

use bell::Bell;
use log::{Item, Log};
use reader::MemoryReader;
use room::{LOOK_AGAIN, Room};
pub(crate) use wakes::{hand_on_woken, together};

/// When a commit is tried again that a full disk refused.
const RETRY_AFTER_NS: i64 = 1_000_000_000;

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
    /// Wakes readers.
    bell: Arc<Bell>,
    /// Commits that wait for a holding reader.
    room: Room,
    /// What lasts.
    disk: Option<Disk>,
    /// Commits wait while the disk is full.
    waits: bool,
    /// The logs that it takes the place of; `None`: none.
    carried: Option<Carried>,
    /// Results of windows with earlier event times were told by the last of them, whose readers go on; `None`: nobody does.
    takes_over: Option<EventTime>,
}

/// A log on disk and who writes it.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) log: Arc<DiskLog>,
    pub(crate) writer: Arc<DiskWriter>,
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
            bell: Arc::default(),
            room: Room::default(),
            disk: None,
            waits: false,
            carried: None,
            takes_over: None,
        })
    }

    /// The same in the place of others. `until`: results of windows with earlier event times were told.
    pub(crate) fn taking_over(self: Arc<Self>, carried: &Carried, until: EventTime) -> Arc<Self> {
        let Some(stream) = Arc::into_inner(self) else { unreachable!("nobody has it yet") };
        Arc::new(Self { carried: Some(carried.clone()), takes_over: Some(until), ..stream })
    }

    /// The same, which is written again by who has told results of windows before: up to an event time.
    pub(crate) fn told_until(self: Arc<Self>, until: EventTime) -> Arc<Self> {
        let Some(stream) = Arc::into_inner(self) else { unreachable!("nobody has it yet") };
        Arc::new(Self { takes_over: Some(until), ..stream })
    }

    /// The logs that it takes the place of.
    pub(crate) fn carried(&self) -> Option<&Carried> {
        self.carried.as_ref()
    }

    /// Since it was made for readers of another, the event time before which results of windows were told.
    pub(crate) fn takes_over(&self) -> Option<EventTime> {
        self.takes_over
    }

    /// A place in it, of one in it or in those that it takes the place of.
    pub(crate) fn carry(&self, position: &Position) -> Position {
        let carried = self.carried.as_ref().is_some_and(|carried| carried.holds(position));
        Position { epoch: if carried { self.epoch } else { position.epoch }, offsets: position.offsets.clone() }
    }

    /// A stream that goes on where its log on disk ended.
    pub(crate) fn on_disk(
        disk: Disk,
        resumed: &Resumed,
        replay: bool,
        limits: LogLimits,
        clock: Arc<dyn Clock>,
        waits: bool,
    ) -> Arc<Self> {
        let schema = disk.log.schema().clone();
        let mut log = Log::new(&resumed.position, u32::try_from(resumed.first.len()).unwrap_or(u32::MAX));
        log.resume(resumed);
        let carried = disk.log.carried();
        Arc::new(Self {
            schema,
            epoch: resumed.position.epoch,
            replay,
            limits,
            clock,
            log: RwLock::new(log),
            bell: Arc::default(),
            room: Room::default(),
            disk: Some(disk),
            waits,
            carried,
            takes_over: None,
        })
    }

    /// Behind the last row.
    pub(crate) fn end_position(&self) -> Position {
        let log = self.read();
        let offsets = (0..).zip(&log.partitions).map(|(index, p)| (index, (p.next, 0))).collect();
        Position { epoch: self.epoch, offsets }
    }

    /// The first row in memory.
    pub(crate) fn start_in_memory(&self) -> Start {
        let log = self.read();
        let offsets = (0..).zip(&log.partitions).map(|(index, p)| (index, (p.evicted, 0))).collect();
        Start::Position(Position { epoch: self.epoch, offsets })
    }

    /// Whether the position is one of this stream's, of this or an earlier epoch, and not behind its end.
    pub(crate) fn knows(&self, position: &Position) -> bool {
        let known = match &self.disk {
            Some(disk) => disk.log.translate(position),
            None => (position.epoch == self.epoch).then(|| position.clone()),
        };
        known.is_some_and(|position| self.reaches(&position))
    }

    /// Whether a position, whatever its epoch, lies in partitions that there are, and not behind the end.
    pub(crate) fn reaches(&self, position: &Position) -> bool {
        let end = self.end_position();
        let before = |(index, (offset, _)): (&u32, &(Offset, u64))| {
            end.offsets.get(index).is_some_and(|(next, _)| offset <= next)
        };
        position.offsets.iter().all(before)
    }

    /// Rows behind a position that are no longer kept; none that are known of, where it is of another incarnation.
    pub(crate) fn lost_rows(&self, position: &Position) -> u64 {
        self.gone_since(position).unwrap_or_default()
    }

    /// Partitions that get no further rows.
    pub(crate) fn ended(&self) -> Vec<u32> {
        (0..).zip(&self.read().partitions).filter(|(_, p)| p.ended).map(|(index, _)| index).collect()
    }

    /// Each partition's watermark.
    pub(crate) fn watermarks(&self) -> Vec<EventTime> {
        self.read().partitions.iter().map(|partition| partition.watermark).collect()
    }

    /// How far the inputs had been read at the last commit to each partition; empty where nothing says.
    pub(crate) fn inputs(&self) -> Vec<Vec<(String, Position)>> {
        self.read().partitions.iter().map(|partition| partition.inputs.clone()).collect()
    }

    /// Whether a partition was found idle at its last batch.
    pub(crate) fn is_idle(&self, partition: u32) -> bool {
        self.read().partitions.get(partition as usize).is_some_and(|partition| partition.idle)
    }

    /// Its log on disk.
    pub(crate) fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Whether its clock runs apart from the wall clock.
    pub(crate) fn replay(&self) -> bool {
        self.replay
    }

    pub(crate) fn durability(&self) -> Durability {
        self.disk.as_ref().map_or(Durability::Memory, |disk| disk.log.durability())
    }

    pub(crate) fn facts(&self) -> StreamFacts {
        let kept = self.disk.as_ref().map(|disk| (disk.log.rows(), disk.log.bytes()));
        let log = self.read();
        let rows = log.entries.front().map_or(0, |entry| log.rows_total - entry.rows_before);
        let (log_rows, log_bytes) = kept.unwrap_or((rows, log.bytes as u64));
        let carried = self.carried.as_ref().map_or(EventTime::MIN, Carried::latest);
        let latest = log.max_event_time.max(carried);
        StreamFacts {
            watermark: log.watermark(),
            rows_total: log.rows_total,
            bytes_total: log.bytes_total,
            log_rows,
            log_bytes,
            evicted_event_time: match &self.disk {
                Some(disk) => disk.log.removed_event_time(),
                None => log.evicted_event_time,
            }
            .max(carried),
            max_event_time: latest,
            evicted_arrival: log.evicted_arrival,
            clock: if self.replay { latest } else { self.clock.now() },
        }
    }

    /// Whether every row since the position is kept.
    pub(crate) fn covers(&self, position: &Position) -> bool {
        if let Some(disk) = &self.disk
            && let Some(position) = disk.log.translate(position)
        {
            let log = self.read();
            let first = disk.log.first();
            return (0..).zip(&log.partitions).all(|(index, p)| {
                let wanted = position.offsets.get(&index).map_or(Offset(0), |(offset, _)| *offset);
                first.offsets.get(&index).is_some_and(|(first, _)| *first <= wanted) && wanted <= p.next
            });
        }
        self.in_memory(position)
    }

    /// How many rows since the position are no longer kept; `None`: it is of another incarnation.
    pub(crate) fn gone_since(&self, position: &Position) -> Option<u64> {
        let (position, first) = match &self.disk {
            Some(disk) => (disk.log.translate(position)?, disk.log.first()),
            None => {
                let Start::Position(first) = self.start_in_memory() else { return None };
                ((position.epoch == self.epoch).then(|| position.clone())?, first)
            }
        };
        let gone = |(partition, (first, _)): (&u32, &(Offset, u64))| {
            let (offset, skip) = position.offsets.get(partition).copied().unwrap_or_default();
            first.0.saturating_sub(offset.0 + skip)
        };
        Some(first.offsets.iter().map(gone).sum())
    }

    /// How many rows there are since the position, kept or not; `None`: it is of another incarnation.
    pub(crate) fn rows_since(&self, position: &Position) -> Option<u64> {
        let position = match &self.disk {
            Some(disk) => disk.log.translate(position)?,
            None => (position.epoch == self.epoch).then(|| position.clone())?,
        };
        let end = self.end_position();
        let since = |(partition, (next, _)): (&u32, &(Offset, u64))| {
            let (offset, skip) = position.offsets.get(partition).copied().unwrap_or_default();
            next.0.saturating_sub(offset.0 + skip)
        };
        Some(end.offsets.iter().map(since).sum())
    }

    /// Commits a batch to a stream in memory without waiting. False: a holding reader is behind by the stream's bounds.
    /// Then nothing was done, or (`whatever`) the stream holds more than its bounds by this batch.
    ///
    /// # Errors
    /// As [`Stream::commit`].
    pub(crate) fn put(&self, batch: StreamBatch, owner: &Owner, whatever: bool) -> Result<bool, CommitError> {
        let mut log = self.write();
        log.check_owner(batch.partition, owner.generation, owner.sequence)?;
        log.check_place(&batch)?;
        let now = self.clock.now();
        let room = log.evict(&self.limits, now);
        if !room && !whatever {
            return Ok(false);
        }
        let bytes = log.append(Arc::new(batch), now);
        log.evict_bare();
        drop(log);
        if room {
            self.bell.ring(bytes)
        } else {
            self.bell.ring_now()
        }
        Ok(room)
    }

    /// Whether every row since the position is in memory.
    fn in_memory(&self, position: &Position) -> bool {
        let log = self.read();
        position.epoch == self.epoch
            && (0..).zip(&log.partitions).all(|(index, p)| {
                let wanted = position.offsets.get(&index).map_or(Offset(0), |(offset, _)| *offset);
                p.evicted <= wanted && wanted <= p.next
            })
    }

    /// The greatest event time of the last batch that has rows, where none is in memory of all rows; `None`: there were none.
    pub(crate) fn last_event_time(&self) -> Option<EventTime> {
        let log = self.read();
        let with_rows = |entry: &&log::Entry| matches!(&entry.item, Item::Batch(batch) if batch.rows() > 0);
        let last = log.entries.iter().rev().find(with_rows).map(|entry| entry.max_event_time);
        last.or(Some(log.max_event_time).filter(|latest| *latest > EventTime::MIN))
    }

    fn read(&self) -> RwLockReadGuard<'_, Log> {
        self.log.read().expect("no holder of this lock panics")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Log> {
        self.log.write().expect("no holder of this lock panics")
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

    async fn commit(&self, mut commit: Commit) -> Result<(), CommitError> {
        self.read().check(&commit)?;
        let outputs: Vec<Arc<StreamBatch>> = commit.outputs.drain(..).map(Arc::new).collect();
        if let Some(disk) = self.disk.as_ref().filter(|_| !outputs.is_empty()) {
            // Durable rows are on disk before anybody sees them; buffered ones are handed to the writer. After a failure
            // a buffered log is waited for too: rows would be lost behind the back of who commits them.
            let wait = disk.log.durability() == Durability::Durable || disk.log.refusing();
            Failpoint::CommitBegins.pass();
            loop {
                let now = self.clock.now();
                let append = Append {
                    log: disk.log.clone(),
                    batches: outputs.clone(),
                    commit: disk.log.next_commit(),
                    inputs: commit.inputs.clone(),
                    marks: commit.marks.clone(),
                    now,
                };
                match disk.writer.append(append, wait).await {
                    Ok(()) => break,
                    Err(error) if self.waits && error.retryable() => {
                        self.clock.sleep_until(now.plus(RETRY_AFTER_NS)).await;
                    }
                    Err(error) => return Err(CommitError::Disk(error)),
                }
            }
        }
        let wanting = self.room.want();
        let bytes = loop {
            let room = wanting.room();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let mut log = self.write();
                let now = self.clock.now();
                if log.evict(&self.limits, now) {
                    break log.apply(commit, outputs, now);
                }
                wanting.until(log.entry_before(self.limits.bytes / 2));
            }
            self.bell.ring_now();
            // Late is as good as woken: it looks again.
            let _ = tokio::time::timeout(LOOK_AGAIN, room).await;
        };
        self.bell.ring(bytes);
        if self.disk.is_some() {
            Failpoint::CommitSeen.pass();
        }
        Ok(())
    }

    fn end(&self, partition: u32) {
        let mut log = self.write();
        let Some(state) = log.partitions.get_mut(partition as usize) else { return };
        if !std::mem::replace(&mut state.ended, true) {
            log.push_end(partition, self.clock.now());
        }
        drop(log);
        self.bell.ring_now();
    }

    fn fail(&self, error: Arc<EngineError>) {
        self.write().failed.get_or_insert(error);
        self.bell.ring_now();
    }

    fn reader(self: Arc<Self>, start: &Start, holding: bool) -> Box<dyn StreamReader> {
        if let Some(disk) = self.disk.clone() {
            return Box::new(past::PastReader::new(self, disk, start));
        }
        let mut log = self.write();
        let mut reader = MemoryReader::at(self.clone(), &log, start);
        if holding {
            let at = Arc::new(AtomicU64::new(reader.next));
            log.hold(&at);
            reader.holds = Some(at);
        }
        drop(log);
        Box::new(reader)
    }
}

#[cfg(test)]
mod tests;
