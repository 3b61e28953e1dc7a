//! A place in the ring.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use super::MemoryStream;
use super::bell::Listener;
use super::log::{Entry, Item, Log};
use super::pack::Kept;
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::stream::{Gap, GapReason, Offset, Position, Read, Start, StreamReader};

/// A place in the ring.
pub(super) struct MemoryReader {
    stream: Arc<MemoryStream>,
    /// Sequence number of the entry that comes next.
    pub(super) next: u64,
    rows_before: u64,
    bytes_before: u64,
    offsets: BTreeMap<u32, (Offset, u64)>,
    listener: Listener,
    pub(super) holds: Option<Arc<AtomicU64>>,
    /// A gap to tell first: the position asked for is not kept.
    gap: Option<Gap>,
    done: bool,
}

impl MemoryReader {
    pub(super) fn at(stream: Arc<MemoryStream>, log: &Log, start: &Start) -> Self {
        let mut gap = None;
        let mut from = None;
        let mut since = |moment: EventTime| {
            from = Some(moment);
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
        let mut reader = Self {
            stream,
            next,
            rows_before: 0,
            bytes_before: 0,
            offsets: BTreeMap::new(),
            listener: Listener::default(),
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
        if let Some(from) = from {
            reader.pass_earlier(log, from);
        }
        reader
    }

    /// Goes to the first row of the batch that comes next whose event time is `from` or later.
    fn pass_earlier(&mut self, log: &Log, from: EventTime) {
        let entry = log.entries.get((self.next - log.first) as usize);
        if let Some(Item::Batch(batch)) = entry.map(|entry| &entry.item)
            && let Some(row) = batch.batch().event_times().iter().position(|time| *time >= from.0)
            && batch.is_dense()
        {
            self.offsets.insert(batch.partition(), (Offset(batch.first().0 + row as u64), 0));
        }
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
                self.offsets.insert(batch.partition(), (batch.next(), 0));
            }
        }
    }

    /// Moves to an entry that is kept, and tells what was passed over.
    fn jump(&mut self, log: &Log, next: u64, reason: GapReason) -> Option<Gap> {
        let (from, rows) = (self.position(), self.rows_before);
        self.next = next;
        self.place(log);
        self.hold_on();
        let rows = self.rows_before - rows;
        (rows > 0).then(|| Gap { from: Some(from), to: self.position(), rows: Some(rows), reason })
    }

    fn hold_on(&self) {
        if let Some(at) = &self.holds {
            at.store(self.next, Ordering::SeqCst);
            self.stream.room.moved(self.next);
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
            Item::Batch(kept) => {
                self.rows_before += kept.rows() as u64;
                self.bytes_before += entry.bytes as u64;
                let before = self.offsets.insert(kept.partition(), (kept.next(), 0));
                Some(Read::Batch(rest_of(kept, before.map_or(kept.first(), |(offset, _)| offset))))
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

/// The rows of a batch from an offset within it on: whoever starts there is not shown those before, however rows were put
/// together. Of a batch from which rows were filtered all of them: which ones lie before, nobody knows.
fn rest_of(kept: &Kept, from: Offset) -> Arc<StreamBatch> {
    let batch = kept.batch();
    if from <= batch.first || from >= batch.next || !kept.is_dense() {
        return Arc::clone(batch);
    }
    let passed = (from.0 - batch.first.0) as usize;
    let rows = batch.rows.slice(passed, batch.rows.num_rows() - passed);
    Arc::new(StreamBatch { first: from, ..batch.with_rows(rows) })
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

/// The first entry that holds a row at or behind the position; with those without rows right before it, since nobody
/// knows whether they were read.
fn first_unread(log: &Log, position: &Position) -> u64 {
    let wanted = |batch: &Kept| position.offsets.get(&batch.partition()).copied().unwrap_or_default().0;
    let unread = log.entries.iter().position(|entry| match &entry.item {
        Item::Batch(batch) => batch.next() > wanted(batch),
        Item::End(_) => true,
    });
    let unread = unread.unwrap_or(log.entries.len());
    let carries = |entry: &&Entry| match &entry.item {
        Item::Batch(batch) => batch.first() == batch.next() && batch.next() == wanted(batch),
        Item::End(_) => false,
    };
    let carrying = log.entries.iter().take(unread).rev().take_while(carries).count();
    log.first + (unread - carrying) as u64
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        self.stream.bell.leave(&mut self.listener);
        if self.holds.take().is_some() {
            self.stream.room.left();
        }
    }
}

impl StreamReader for MemoryReader {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Read> {
        loop {
            let rung = self.stream.bell.rung();
            if let Some(read) = self.try_next() {
                return Poll::Ready(read);
            }
            ready!(self.stream.bell.wait(&mut self.listener, rung, context.waker()));
        }
    }

    fn try_next(&mut self) -> Option<Read> {
        let stream = self.stream.clone();
        let read = self.take(&stream.read());
        self.hold_on();
        read
    }

    fn upcoming(&self, most: usize) -> Vec<Arc<StreamBatch>> {
        let log = self.stream.read();
        let Some(next) = self.next.checked_sub(log.first).map(|at| at as usize) else { return Vec::new() };
        let batches = log.entries.iter().skip(next).map_while(|entry| match &entry.item {
            Item::Batch(kept) => Some(kept),
            Item::End(_) => None,
        });
        batches.filter(|kept| kept.rows() > 0).take(most).map(|kept| kept.batch().clone()).collect()
    }

    fn hold(&mut self, holds: bool) {
        if holds == self.holds.is_some() {
            return;
        }
        if holds {
            let at = Arc::new(AtomicU64::new(self.next));
            self.stream.write().hold(&at);
            self.holds = Some(at);
        } else {
            self.holds = None;
            self.stream.room.left();
        }
    }

    fn position(&self) -> Position {
        Position { epoch: self.stream.epoch, offsets: self.offsets.clone() }
    }

    fn behind_rows(&self) -> u64 {
        let log = self.stream.read();
        let entry = self.next.checked_sub(log.first).and_then(|at| log.entries.get(at as usize));
        // Of the batch that comes next, some rows may lie before the place.
        let read = entry.map_or(0, |entry| match &entry.item {
            Item::Batch(batch) if batch.is_dense() => {
                let place = self.offsets.get(&batch.partition()).map_or(batch.first(), |(offset, _)| *offset);
                place.0.clamp(batch.first().0, batch.next().0) - batch.first().0
            }
            _ => 0,
        });
        log.rows_total - self.rows_before - read
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
