//! The ring itself: entries, partitions, and what is dropped when.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::LogLimits;
use super::pack::{Kept, Loose};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::stream::disk::Resumed;
use crate::stream::{Commit, CommitError, Offset, Position};

/// Holders are looked through for those who have gone when there are so many, at the least.
const HOLDERS_TO_PRUNE: usize = 64;

/// What a stream holds.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) entries: VecDeque<Entry>,
    /// Sequence number of the first entry.
    pub(super) first: u64,
    pub(super) bytes: usize,
    /// Rows and bytes ever committed.
    pub(super) rows_total: u64,
    pub(super) bytes_total: u64,
    /// The greatest event time among evicted rows.
    pub(super) evicted_event_time: EventTime,
    /// The latest arrival among evicted rows.
    pub(super) evicted_arrival: EventTime,
    pub(super) max_event_time: EventTime,
    pub(super) partitions: Vec<Partition>,
    holders: Vec<Weak<AtomicU64>>,
    /// No holding reader is before this entry; `MAX`: there is none.
    held: u64,
    /// So many holders are looked through for those who have gone.
    holders_to_prune: usize,
    pub(super) failed: Option<Arc<EngineError>>,
    loose: Loose,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) item: Item,
    /// Rows and bytes committed before this entry.
    pub(super) rows_before: u64,
    pub(super) bytes_before: u64,
    pub(super) bytes: usize,
    pub(super) max_event_time: EventTime,
    /// When it was committed. What is read again has arrived long before.
    pub(super) committed: EventTime,
}

#[derive(Debug, Clone)]
pub(super) enum Item {
    Batch(Kept),
    End(u32),
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) generation: u64,
    pub(super) sequence: u64,
    pub(super) next: Offset,
    /// One past the last offset that is no longer kept.
    pub(super) evicted: Offset,
    pub(super) watermark: EventTime,
    pub(super) idle: bool,
    pub(super) ended: bool,
    pub(super) state: Option<Bytes>,
    /// How far the inputs had been read at the last commit.
    pub(super) inputs: Vec<(String, Position)>,
}

impl Log {
    /// An empty log whose partitions begin at the offsets given, zero for those not named.
    pub(super) fn new(start: &Position, partitions: u32) -> Self {
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
        Self {
            entries: VecDeque::new(),
            first: 0,
            bytes: 0,
            rows_total: 0,
            bytes_total: 0,
            evicted_event_time: EventTime::MIN,
            evicted_arrival: EventTime::MIN,
            max_event_time: EventTime::MIN,
            partitions: (0..partitions).map(partition).collect(),
            holders: Vec::new(),
            held: u64::MAX,
            holders_to_prune: HOLDERS_TO_PRUNE,
            failed: None,
            loose: Loose::default(),
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn watermark(&self) -> EventTime {
        let running = || self.partitions.iter().filter(|p| !p.ended);
        let active = running().filter(|p| !p.idle).map(|p| p.watermark).min();
        active.or_else(|| running().map(|p| p.watermark).min()).unwrap_or(EventTime::MAX)
    }

    /// The place before an entry.
    pub(super) fn position_before(&self, entry: &Entry, epoch: u64) -> Position {
        let mut offsets: BTreeMap<u32, (Offset, u64)> =
            (0..).zip(&self.partitions).map(|(index, p)| (index, (p.evicted, 0))).collect();
        for before in self.entries.iter().take_while(|before| before.rows_before < entry.rows_before) {
            if let Item::Batch(batch) = &before.item {
                offsets.insert(batch.partition(), (batch.next(), 0));
            }
        }
        Position { epoch, offsets }
    }

    /// From now on what the reader at this entry has not read is kept.
    pub(super) fn hold(&mut self, at: &Arc<AtomicU64>) {
        if self.holders.len() >= self.holders_to_prune {
            self.holders.retain(|holder| holder.strong_count() > 0);
            self.holders_to_prune = (2 * self.holders.len()).max(HOLDERS_TO_PRUNE);
        }
        self.holders.push(Arc::downgrade(at));
        self.held = self.held.min(at.load(Ordering::SeqCst));
    }

    /// Whether a holding reader has not read the first entry. Readers go on only: they are asked again when all have
    /// come to where the slowest was.
    fn is_held(&mut self) -> bool {
        if self.held > self.first {
            return false;
        }
        self.holders.retain(|holder| holder.strong_count() > 0);
        let places = self.holders.iter().filter_map(Weak::upgrade).map(|at| at.load(Ordering::SeqCst));
        self.held = places.min().unwrap_or(u64::MAX);
        self.held <= self.first
    }

    /// The first entry that has at most so many bytes behind it.
    pub(super) fn entry_before(&self, bytes: usize) -> u64 {
        let from = self.bytes_total.saturating_sub(bytes as u64);
        self.first + self.entries.partition_point(|entry| entry.bytes_before < from) as u64
    }

    fn evict_first(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        self.first += 1;
        self.bytes -= entry.bytes;
        self.evicted_event_time = self.evicted_event_time.max(entry.max_event_time);
        if let Item::Batch(batch) = entry.item {
            self.partitions[batch.partition() as usize].evicted = batch.next();
            if batch.rows() > 0 {
                self.evicted_arrival = self.evicted_arrival.max(batch.arrival());
            }
        }
    }

    /// Drops what is over the limits and not held. False: still over the bytes, and a holding reader is behind.
    pub(super) fn evict(&mut self, limits: &LogLimits, now: EventTime) -> bool {
        let oldest = now.plus(-i64::try_from(limits.age.as_nanos()).unwrap_or(i64::MAX));
        while let Some(entry) = self.entries.front() {
            let over = self.bytes > limits.bytes;
            let old = matches!(&entry.item, Item::Batch(_)) && entry.committed < oldest;
            if !over && !old {
                return true;
            }
            if self.is_held() {
                return !over;
            }
            self.evict_first();
        }
        true
    }

    /// Drops batches without rows that others have followed: whoever has not read them learns as much from those.
    pub(super) fn evict_bare(&mut self) {
        let bare = |entry: &Entry| matches!(&entry.item, Item::Batch(batch) if batch.rows() == 0);
        while self.entries.len() > 2 * self.partitions.len()
            && self.entries.front().is_some_and(bare)
            && !self.is_held()
        {
            self.evict_first();
        }
    }

    /// A partition's end.
    pub(super) fn push_end(&mut self, partition: u32, committed: EventTime) {
        self.push(Item::End(partition), (0, size_of::<Entry>()), EventTime::MIN, committed);
    }

    /// Puts an entry behind the others.
    fn push(&mut self, item: Item, (rows, bytes): (u64, usize), max_event_time: EventTime, committed: EventTime) {
        self.entries.push_back(Entry {
            item,
            rows_before: self.rows_total,
            bytes_before: self.bytes_total,
            bytes,
            max_event_time,
            committed,
        });
        self.loose.settle(&mut self.entries);
        self.rows_total += rows;
        self.bytes_total += bytes as u64;
        self.bytes += bytes;
        self.max_event_time = self.max_event_time.max(max_event_time);
    }

    pub(super) fn check(&self, commit: &Commit) -> Result<(), CommitError> {
        let partition = commit.partition;
        self.check_owner(partition, commit.generation, commit.expected_sequence)?;
        let mut next = self.partitions[partition as usize].next;
        for batch in &commit.outputs {
            if batch.partition != partition {
                return Err(CommitError::Partition(batch.partition));
            }
            next = follows(batch, next)?;
        }
        Ok(())
    }

    /// Whether the owner of a partition is the last one, and knows of all commits.
    pub(super) fn check_owner(&self, partition: u32, generation: u64, sequence: u64) -> Result<(), CommitError> {
        let state = self.partitions.get(partition as usize).ok_or(CommitError::Partition(partition))?;
        if generation != state.generation {
            return Err(CommitError::StaleOwner { partition });
        }
        if sequence != state.sequence {
            return Err(CommitError::Sequence { partition, expected: sequence, actual: state.sequence });
        }
        Ok(())
    }

    /// Whether a batch continues its partition.
    pub(super) fn check_place(&self, batch: &StreamBatch) -> Result<(), CommitError> {
        follows(batch, self.partitions[batch.partition as usize].next).map(drop)
    }

    /// Goes on where a log on disk ended.
    pub(super) fn resume(&mut self, resumed: &Resumed) {
        self.max_event_time = resumed.latest;
        self.evicted_event_time = resumed.latest;
        self.evicted_arrival = resumed.arrival;
        for (partition, watermark) in self.partitions.iter_mut().zip(&resumed.watermarks) {
            partition.watermark = *watermark;
        }
        for (partition, inputs) in self.partitions.iter_mut().zip(&resumed.partition_inputs) {
            partition.inputs.clone_from(inputs);
        }
    }

    /// A commit that was checked; its batches apart. Their bytes.
    pub(super) fn apply(&mut self, commit: Commit, outputs: Vec<Arc<StreamBatch>>, now: EventTime) -> usize {
        let state = &mut self.partitions[commit.partition as usize];
        state.sequence += 1;
        if let Some(kept) = commit.state {
            state.state = Some(kept);
        }
        state.inputs = commit.inputs;
        outputs.into_iter().map(|batch| self.push_behind(batch, now)).sum()
    }

    /// A commit of one batch that was checked; its bytes.
    pub(super) fn append(&mut self, batch: Arc<StreamBatch>, now: EventTime) -> usize {
        self.partitions[batch.partition as usize].sequence += 1;
        self.push_behind(batch, now)
    }

    fn push_behind(&mut self, batch: Arc<StreamBatch>, now: EventTime) -> usize {
        let state = &mut self.partitions[batch.partition as usize];
        state.next = batch.next;
        state.watermark = state.watermark.max(batch.watermark);
        state.idle = batch.idle;
        let (latest, rows, bytes) = (batch.latest(), batch.rows.num_rows() as u64, batch.bytes());
        self.push(Item::Batch(Kept::Own(batch)), (rows, bytes), latest, now);
        bytes
    }
}

/// Behind a batch, if it continues a partition that has come to `next`.
fn follows(batch: &StreamBatch, next: Offset) -> Result<Offset, CommitError> {
    if batch.first < next || batch.next < batch.first {
        return Err(CommitError::Offset { partition: batch.partition, given: batch.first.0, next: next.0 });
    }
    Ok(batch.next)
}
