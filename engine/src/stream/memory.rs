//! A stream's log in memory: a ring of batches, bounded by bytes and age.
//!
//! All partitions lie in one ring in the order of their commits. A reader is a place in the ring: it costs no memory
//! however far it is behind. A reader that *holds* makes commits wait when the ring is full; any other is overtaken,
//! and is told the gap with its rows counted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::{Commit, CommitError, Gap, GapReason, Offset, Owner, Position, Read, Start, Stream, StreamReader};
use crate::batch::StreamBatch;
use crate::clock::{Clock, EventTime};
use crate::error::EngineError;

/// How much a log keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogLimits {
    /// Bytes of batches.
    pub(crate) bytes: usize,
    /// Age by arrival.
    pub(crate) age: Duration,
}

impl LogLimits {
    /// A hand-off between jobs: what readers at its end may be behind, not history.
    pub(crate) const HAND_OFF: Self = Self { bytes: 8 << 20, age: Duration::from_secs(10) };
    /// The log of a query's stateful job.
    pub(crate) const RESULTS: Self = Self { bytes: 16 << 20, age: Duration::from_secs(900) };
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

#[derive(Debug)]
struct Log {
    entries: VecDeque<Entry>,
    /// Sequence number of the first entry.
    first: u64,
    bytes: usize,
    /// Rows and bytes ever committed.
    rows_total: u64,
    bytes_total: u64,
    /// The greatest event time among evicted rows.
    evicted_event_time: EventTime,
    max_event_time: EventTime,
    partitions: Vec<Partition>,
    holders: Vec<Weak<AtomicU64>>,
    failed: Option<Arc<EngineError>>,
}

#[derive(Debug, Clone)]
struct Entry {
    item: Item,
    /// Rows and bytes committed before this entry.
    rows_before: u64,
    bytes_before: u64,
    bytes: usize,
    max_event_time: EventTime,
}

#[derive(Debug, Clone)]
enum Item {
    Batch(Arc<StreamBatch>),
    End(u32),
}

#[derive(Debug)]
struct Partition {
    generation: u64,
    sequence: u64,
    next: Offset,
    /// One past the last offset that is no longer kept.
    evicted: Offset,
    watermark: EventTime,
    idle: bool,
    ended: bool,
    state: Option<Bytes>,
    /// How far the inputs had been read at the last commit.
    inputs: Vec<(String, Position)>,
}

/// What is known of a stream at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamFacts {
    /// The least watermark of the partitions that are neither idle nor ended; `MAX` when all have ended.
    pub(crate) watermark: EventTime,
    pub(crate) rows_total: u64,
    pub(crate) log_rows: u64,
    pub(crate) log_bytes: u64,
    /// The greatest event time of rows no longer kept; `MIN` when all rows are kept.
    pub(crate) evicted_event_time: EventTime,
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
        let partition = |index| {
            let next = start.offsets.get(&index).map_or(Offset(0), |(offset, _)| *offset);
            Partition {
                generation: 0,
                sequence: 0,
                next,
                evicted: next,
                watermark: EventTime::MIN,
                idle: false,
                ended: false,
                state: None,
                inputs: Vec::new(),
            }
        };
        Arc::new(Self {
            schema,
            epoch: start.epoch,
            replay,
            limits,
            clock,
            log: RwLock::new(Log {
                entries: VecDeque::new(),
                first: 0,
                bytes: 0,
                rows_total: 0,
                bytes_total: 0,
                evicted_event_time: EventTime::MIN,
                max_event_time: EventTime::MIN,
                partitions: (0..partitions).map(partition).collect(),
                holders: Vec::new(),
                failed: None,
            }),
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
            log_rows: log.entries.front().map_or(0, |entry| log.rows_total - entry.rows_before),
            log_bytes: log.bytes as u64,
            evicted_event_time: log.evicted_event_time,
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

impl Log {
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn watermark(&self) -> EventTime {
        let running = || self.partitions.iter().filter(|p| !p.ended);
        let active = running().filter(|p| !p.idle).map(|p| p.watermark).min();
        active.or_else(|| running().map(|p| p.watermark).min()).unwrap_or(EventTime::MAX)
    }

    /// The entry at which the slowest holding reader is; `None` when nobody holds.
    fn held_from(&mut self) -> Option<u64> {
        self.holders.retain(|holder| holder.strong_count() > 0);
        self.holders.iter().filter_map(Weak::upgrade).map(|at| at.load(Ordering::Acquire)).min()
    }

    fn evict_first(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        self.first += 1;
        self.bytes -= entry.bytes;
        self.evicted_event_time = self.evicted_event_time.max(entry.max_event_time);
        if let Item::Batch(batch) = entry.item {
            self.partitions[batch.partition as usize].evicted = batch.next;
        }
    }

    /// Drops what is over the limits and not held. False: still over the bytes, and a holding reader is behind.
    fn evict(&mut self, limits: &LogLimits, now: EventTime) -> bool {
        let oldest = now.plus(-i64::try_from(limits.age.as_nanos()).unwrap_or(i64::MAX));
        let held = self.held_from();
        while let Some(entry) = self.entries.front() {
            let over = self.bytes > limits.bytes;
            let old = matches!(&entry.item, Item::Batch(batch) if batch.arrival < oldest);
            if !over && !old {
                return true;
            }
            if held.is_some_and(|at| at <= self.first) {
                return !over;
            }
            self.evict_first();
        }
        true
    }

    fn push(&mut self, item: Item) {
        let (rows, bytes, max_event_time) = match &item {
            Item::Batch(batch) => {
                let latest = batch.event_times().iter().copied().max().unwrap_or(i64::MIN);
                (batch.rows.num_rows() as u64, batch.bytes(), EventTime(latest))
            }
            Item::End(_) => (0, size_of::<Entry>(), EventTime::MIN),
        };
        self.entries.push_back(Entry {
            item,
            rows_before: self.rows_total,
            bytes_before: self.bytes_total,
            bytes,
            max_event_time,
        });
        self.rows_total += rows;
        self.bytes_total += bytes as u64;
        self.bytes += bytes;
        self.max_event_time = self.max_event_time.max(max_event_time);
    }

    fn check(&self, commit: &Commit) -> Result<(), CommitError> {
        let partition = commit.partition;
        let state = self.partitions.get(partition as usize).ok_or(CommitError::Partition(partition))?;
        if commit.generation != state.generation {
            return Err(CommitError::StaleOwner { partition });
        }
        if commit.expected_sequence != state.sequence {
            return Err(CommitError::Sequence {
                partition,
                expected: commit.expected_sequence,
                actual: state.sequence,
            });
        }
        let mut next = state.next;
        for batch in &commit.outputs {
            if batch.partition != partition {
                return Err(CommitError::Partition(batch.partition));
            }
            if batch.first < next || batch.next < batch.first {
                return Err(CommitError::Offset { partition, given: batch.first.0, next: next.0 });
            }
            next = batch.next;
        }
        Ok(())
    }

    fn apply(&mut self, commit: Commit) {
        let state = &mut self.partitions[commit.partition as usize];
        state.sequence += 1;
        if let Some(kept) = commit.state {
            state.state = Some(kept);
        }
        state.inputs = commit.inputs;
        for batch in commit.outputs {
            let state = &mut self.partitions[commit.partition as usize];
            state.next = batch.next;
            state.watermark = state.watermark.max(batch.watermark);
            state.idle = batch.idle;
            self.push(Item::Batch(Arc::new(batch)));
        }
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
                if log.evict(&self.limits, self.clock.now()) {
                    log.apply(commit);
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
            log.push(Item::End(partition));
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

/// A place in the ring.
struct MemoryReader {
    stream: Arc<MemoryStream>,
    /// Sequence number of the entry that comes next.
    next: u64,
    rows_before: u64,
    bytes_before: u64,
    offsets: BTreeMap<u32, (Offset, u64)>,
    changed: watch::Receiver<u64>,
    holds: Option<Arc<AtomicU64>>,
    /// A gap to tell first: the position asked for is not kept.
    gap: Option<Gap>,
    done: bool,
}

impl MemoryReader {
    fn at(stream: Arc<MemoryStream>, log: &Log, start: &Start) -> Self {
        let mut gap = None;
        let since = |moment: EventTime| {
            let at = log.entries.iter().position(|entry| entry.max_event_time >= moment);
            at.map_or(log.end(), |at| log.first + at as u64)
        };
        let next = match start {
            Start::Latest => log.end(),
            Start::Earliest => log.first,
            Start::Timestamp(moment) => since(*moment),
            Start::Ago(ago) => {
                let now = if stream.replay { log.max_event_time } else { stream.clock.now() };
                since(now.plus(-i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX)))
            }
            Start::Position(position) => {
                gap = gap_before(&stream, log, position);
                if position.epoch == stream.epoch { first_unread(log, position) } else { log.first }
            }
        };
        let changed = stream.changed.subscribe();
        let mut reader = Self {
            stream,
            next,
            rows_before: 0,
            bytes_before: 0,
            offsets: BTreeMap::new(),
            changed,
            holds: None,
            gap,
            done: false,
        };
        reader.place(log);
        if let Start::Position(position) = start
            && reader.gap.is_none()
        {
            reader.offsets.extend(position.offsets.iter().map(|(partition, place)| (*partition, *place)));
        }
        reader
    }

    /// Finds counts and offsets for the entry that comes next.
    fn place(&mut self, log: &Log) {
        let at = (self.next - log.first) as usize;
        let (rows, bytes) =
            log.entries.get(at).map_or((log.rows_total, log.bytes_total), |e| (e.rows_before, e.bytes_before));
        self.rows_before = rows;
        self.bytes_before = bytes;
        self.offsets = (0..).zip(&log.partitions).map(|(index, p)| (index, (p.evicted, 0))).collect();
        for entry in log.entries.iter().take(at) {
            if let Item::Batch(batch) = &entry.item {
                self.offsets.insert(batch.partition, (batch.next, 0));
            }
        }
    }

    /// Moves to an entry that is kept, and tells what was passed over.
    fn jump(&mut self, log: &Log, next: u64, reason: GapReason) -> Option<Gap> {
        let (from, rows) = (self.position(), self.rows_before);
        self.next = next;
        self.place(log);
        self.hold();
        let rows = self.rows_before - rows;
        (rows > 0).then(|| Gap { from: Some(from), to: self.position(), rows: Some(rows), reason })
    }

    fn hold(&self) {
        if let Some(at) = &self.holds {
            at.store(self.next, Ordering::Release);
            self.stream.room.notify_waiters();
        }
    }

    fn take(&mut self, log: &Log) -> Option<Read> {
        if let Some(gap) = self.gap.take() {
            return Some(Read::Gap(gap));
        }
        if self.next < log.first
            && let Some(gap) = self.jump(log, log.first, GapReason::Retention)
        {
            return Some(Read::Gap(gap));
        }
        let Some(entry) = log.entries.get((self.next - log.first) as usize) else {
            return self.at_end(log);
        };
        self.next += 1;
        match &entry.item {
            Item::Batch(batch) => {
                self.rows_before += batch.rows.num_rows() as u64;
                self.bytes_before += entry.bytes as u64;
                self.offsets.insert(batch.partition, (batch.next, 0));
                Some(Read::Batch(batch.clone()))
            }
            Item::End(partition) => Some(Read::EndOfPartition(*partition)),
        }
    }

    fn at_end(&mut self, log: &Log) -> Option<Read> {
        if self.done {
            return None;
        }
        let read = match &log.failed {
            Some(error) => Read::Failed(error.clone()),
            None if log.partitions.iter().all(|p| p.ended) => Read::End,
            None => return None,
        };
        self.done = true;
        Some(read)
    }
}

/// The rows since a position that are no longer kept.
fn gap_before(stream: &MemoryStream, log: &Log, position: &Position) -> Option<Gap> {
    let kept = (0..).zip(&log.partitions).map(|(index, p)| (index, p.evicted));
    if position.epoch != stream.epoch {
        let offsets = kept.map(|(index, offset)| (index, (offset, 0))).collect();
        let to = Position { epoch: stream.epoch, offsets };
        return Some(Gap { from: None, to, rows: None, reason: GapReason::Epoch });
    }
    let mut to = position.clone();
    let mut rows = 0;
    for (index, evicted) in kept {
        let (wanted, skip) = position.offsets.get(&index).copied().unwrap_or_default();
        if wanted < evicted {
            rows += evicted.0 - wanted.0 - skip.min(evicted.0 - wanted.0);
            to.offsets.insert(index, (evicted, 0));
        }
    }
    (rows > 0).then(|| Gap { from: Some(position.clone()), to, rows: Some(rows), reason: GapReason::Retention })
}

/// The first entry that holds a row at or behind the position.
fn first_unread(log: &Log, position: &Position) -> u64 {
    let unread = log.entries.iter().position(|entry| match &entry.item {
        Item::Batch(batch) => {
            let (wanted, _) = position.offsets.get(&batch.partition).copied().unwrap_or_default();
            batch.next > wanted
        }
        Item::End(_) => true,
    });
    unread.map_or(log.end(), |at| log.first + at as u64)
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        if self.holds.take().is_some() {
            self.stream.room.notify_waiters();
        }
    }
}

#[async_trait]
impl StreamReader for MemoryReader {
    async fn next(&mut self) -> Read {
        loop {
            self.changed.borrow_and_update();
            if let Some(read) = self.try_next() {
                return read;
            }
            // The sender lives in the stream, which this reader keeps.
            let _ = self.changed.changed().await;
        }
    }

    fn try_next(&mut self) -> Option<Read> {
        let stream = self.stream.clone();
        let read = self.take(&stream.read());
        self.hold();
        read
    }

    fn position(&self) -> Position {
        Position { epoch: self.stream.epoch, offsets: self.offsets.clone() }
    }

    fn behind_rows(&self) -> u64 {
        self.stream.read().rows_total - self.rows_before
    }

    fn behind_bytes(&self) -> u64 {
        self.stream.read().bytes_total - self.bytes_before
    }

    fn skip_to_latest(&mut self, keep_bytes: u64) -> Option<Gap> {
        let stream = self.stream.clone();
        let log = stream.read();
        let keep_from = log.bytes_total.saturating_sub(keep_bytes);
        let skipped = log.entries.partition_point(|entry| entry.bytes_before < keep_from);
        let next = (log.first + skipped as u64).max(log.first);
        if next <= self.next {
            return None;
        }
        self.jump(&log, next, GapReason::Slow)
    }
}
