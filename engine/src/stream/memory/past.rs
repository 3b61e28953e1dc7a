//! Reads a log on disk up to what lies in memory, and there from then on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Notify;

use super::bell::Listener;
use super::reader::MemoryReader;
use super::{Disk, MemoryStream};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::stream::disk::{DiskError, DiskRead, DiskReader};
use crate::stream::{Gap, GapReason, Offset, Position, Read, Start, StreamReader};

/// Bytes of batches that are read from disk at once.
const READ_BYTES: usize = 1 << 20;

/// See the module. It is never overtaken while what it reads next is kept on disk.
pub(super) struct PastReader {
    stream: Arc<MemoryStream>,
    disk: Disk,
    place: Place,
    /// Before what comes next.
    position: Position,
    /// To be told first.
    gap: Option<Gap>,
    listener: Listener,
    /// What the disk is waited for.
    waits: Option<BoxFuture<'static, ()>>,
    /// The disk failed, which was told.
    failed: bool,
}

enum Place {
    /// What follows is read from disk. `reader`: `None` while it is read, or before that.
    Disk { ready: VecDeque<DiskRead>, reader: Option<DiskReader>, reading: Option<Arc<Reading>> },
    /// What follows is in memory.
    Memory(Box<MemoryReader>),
}

/// A read that goes on elsewhere.
#[derive(Default)]
struct Reading {
    found: Mutex<Option<Found>>,
    done: Notify,
}

type Found = (DiskReader, Result<Vec<DiskRead>, DiskError>);

impl PastReader {
    pub(super) fn new(stream: Arc<MemoryStream>, disk: Disk, start: &Start) -> Self {
        let (position, gap) = begin(&stream, &disk, start);
        let place = Place::on_disk();
        let (listener, waits) = (Listener::default(), None);
        let mut reader = Self { stream, disk, place, position, gap, listener, waits, failed: false };
        reader.enter_memory();
        reader
    }

    /// Goes on in memory if what comes next is there.
    fn enter_memory(&mut self) -> bool {
        let there = self.stream.in_memory(&self.position);
        if there {
            let start = Start::Position(self.position.clone());
            let reader = MemoryReader::at(self.stream.clone(), &self.stream.read(), &start);
            self.place = Place::Memory(Box::new(reader));
        }
        there
    }

    /// What can be had without waiting. When there is nothing, a read has begun, or all has been read.
    fn take(&mut self) -> Option<Read> {
        if let Some(gap) = self.gap.take() {
            return Some(Read::Gap(gap));
        }
        loop {
            match &mut self.place {
                Place::Memory(reader) => {
                    let read = reader.try_next()?;
                    if let Read::Gap(Gap { reason: GapReason::Retention, .. }) = &read
                        && self.stream.covers(&self.position)
                    {
                        // Memory has gone on; the disk has what it dropped.
                        self.place = Place::on_disk();
                        continue;
                    }
                    self.position = reader.position();
                    return Some(read);
                }
                Place::Disk { ready, reader, reading } => {
                    if let Some(read) = ready.pop_front() {
                        return Some(self.tell(read));
                    }
                    if self.failed {
                        return None;
                    }
                    if let Some(task) = reading {
                        let (back, found) = task.found.lock().expect("no holder of this lock panics").take()?;
                        (*reader, *reading) = (Some(back), None);
                        match found {
                            Ok(found) if found.is_empty() && !self.enter_memory() => return None,
                            Ok(found) => {
                                if let Place::Disk { ready, .. } = &mut self.place {
                                    ready.extend(found);
                                }
                            }
                            Err(error) => {
                                self.failed = true;
                                return Some(Read::Failed(Arc::new(EngineError::Disk(Arc::new(error)))));
                            }
                        }
                    } else if !self.enter_memory() {
                        self.read_on();
                    }
                }
            }
        }
    }

    /// Begins to read from disk.
    fn read_on(&mut self) {
        let Place::Disk { reader, reading, .. } = &mut self.place else { return };
        let mut from = reader.take().unwrap_or_else(|| DiskReader::new(&self.disk.log, &self.position));
        let task = Arc::<Reading>::default();
        *reading = Some(task.clone());
        tokio::task::spawn_blocking(move || {
            let found = from.read(READ_BYTES);
            *task.found.lock().expect("no holder of this lock panics") = Some((from, found));
            task.done.notify_one();
        });
    }

    /// Ready: there may be more. `rung`: how often the bell had rung before it looked.
    fn poll_wait(&mut self, rung: u64, context: &mut Context<'_>) -> Poll<()> {
        let waits = match &self.place {
            Place::Disk { .. } if self.failed => return Poll::Pending,
            Place::Memory(_) => return self.stream.bell.wait(&mut self.listener, rung, context.waker()),
            Place::Disk { reading, .. } => self.waits.get_or_insert_with(|| {
                let (reading, Disk { log, writer }) = (reading.clone(), self.disk.clone());
                async move {
                    match reading {
                        Some(task) => task.done.notified().await,
                        // What comes next is neither in memory nor on disk: it waits to be written.
                        None => drop(writer.flush(&log, false).await),
                    }
                }
                .boxed()
            }),
        };
        ready!(waits.as_mut().poll(context));
        self.waits = None;
        Poll::Ready(())
    }

    fn tell(&mut self, read: DiskRead) -> Read {
        match read {
            DiskRead::Batch(batch) => {
                self.position.offsets.insert(batch.partition, (batch.next, 0));
                Read::Batch(batch)
            }
            DiskRead::Lost { partition, from, to, reason } => {
                let before = self.position.clone();
                self.position.offsets.insert(partition, (to, 0));
                Read::Gap(Gap { from: Some(before), to: self.position.clone(), rows: Some(to.0 - from.0), reason })
            }
        }
    }
}

impl Place {
    fn on_disk() -> Self {
        Self::Disk { ready: VecDeque::new(), reader: None, reading: None }
    }
}

impl Drop for PastReader {
    fn drop(&mut self) {
        self.stream.bell.leave(&mut self.listener);
    }
}

/// Where a reader begins, and what it did not get.
fn begin(stream: &MemoryStream, disk: &Disk, start: &Start) -> (Position, Option<Gap>) {
    let ends = || stream.end_position();
    let first = disk.log.first();
    match start {
        Start::Latest => (ends(), None),
        Start::Earliest => (first, None),
        Start::Timestamp(moment) => (since(stream, disk, *moment).unwrap_or_else(ends), None),
        Start::Ago(ago) => {
            let now = if stream.replay { stream.read().max_event_time } else { stream.clock.now() };
            let moment = now.plus(-i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX));
            (since(stream, disk, moment).unwrap_or_else(ends), None)
        }
        Start::Position(given) => {
            let Some(mut position) = disk.log.translate(given) else {
                let gap = Gap { from: None, to: first.clone(), rows: None, reason: GapReason::Epoch };
                return (first, Some(gap));
            };
            let from = position.clone();
            let mut rows = 0;
            for (index, (kept, _)) in &first.offsets {
                let (wanted, skip) = position.offsets.get(index).copied().unwrap_or_default();
                if wanted < *kept {
                    rows += kept.0 - wanted.0 - skip.min(kept.0 - wanted.0);
                }
                if wanted < *kept || wanted == Offset(0) {
                    position.offsets.insert(*index, (*kept.max(&wanted), if wanted < *kept { 0 } else { skip }));
                }
            }
            let reason = GapReason::Retention;
            let gap = (rows > 0).then(|| Gap { from: Some(from), to: position.clone(), rows: Some(rows), reason });
            (position, gap)
        }
    }
}

/// The first rows of that event time or later ones; `None`: there are none yet.
fn since(stream: &MemoryStream, disk: &Disk, moment: EventTime) -> Option<Position> {
    if moment <= stream.read().evicted_event_time {
        // A look into the index and at most one block of headers.
        match disk.log.since(moment) {
            Ok(Some(position)) => return Some(position),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "a log on disk cannot be searched: it is read from its start");
                return Some(disk.log.first());
            }
        }
    }
    let log = stream.read();
    let at = log.entries.iter().find(|entry| entry.max_event_time >= moment)?;
    Some(log.position_before(at, stream.epoch))
}

impl StreamReader for PastReader {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Read> {
        loop {
            let rung = self.stream.bell.rung();
            if let Some(read) = self.take() {
                self.waits = None;
                return Poll::Ready(read);
            }
            ready!(self.poll_wait(rung, context));
        }
    }

    fn try_next(&mut self) -> Option<Read> {
        self.take()
    }

    fn upcoming(&self, most: usize) -> Vec<Arc<StreamBatch>> {
        match &self.place {
            Place::Memory(reader) => reader.upcoming(most),
            Place::Disk { .. } => Vec::new(),
        }
    }

    fn position(&self) -> Position {
        self.position.clone()
    }

    fn behind_rows(&self) -> u64 {
        let log = self.stream.read();
        let read = |index: u32| self.position.offsets.get(&index).map_or(0, |(offset, _)| offset.0);
        (0..).zip(&log.partitions).map(|(index, p)| p.next.0.saturating_sub(read(index))).sum()
    }

    fn behind_bytes(&self) -> u64 {
        match &self.place {
            Place::Memory(reader) => reader.behind_bytes(),
            Place::Disk { .. } => 0,
        }
    }

    fn skip_to_latest(&mut self, keep_bytes: u64) -> Option<Gap> {
        let Place::Memory(reader) = &mut self.place else { return None };
        let gap = reader.skip_to_latest(keep_bytes);
        self.position = reader.position();
        gap
    }
}
