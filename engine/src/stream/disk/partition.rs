//! One partition's log: its segments in order. One appends, many read.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::DiskError;
use super::notes::Inputs;
use super::record::Header;
use super::scan::Found;
use super::segment::{Extent, Flaws, INDEX, SEGMENT, Segment};
use super::volume::Volume;
use crate::clock::EventTime;
use crate::stream::{Offset, ProducerMark, Producers};

/// See the module.
#[derive(Debug)]
pub(super) struct PartitionLog {
    volume: Arc<dyn Volume>,
    folder: PathBuf,
    /// Never empty. The last is the one that is appended to.
    segments: RwLock<VecDeque<Arc<Segment>>>,
    /// Bytes of all segments. Written where segments change: by whoever appends.
    bytes: AtomicU64,
    /// Who published, as of the last record that is written.
    producers: Mutex<Producers>,
}

/// How far a log reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    /// The first offset that is kept.
    pub(super) first: Offset,
    /// The greatest event time of what is no longer kept.
    pub(super) removed: EventTime,
    /// What is written, by the last record.
    pub(super) extent: Extent,
}

impl PartitionLog {
    /// Opens what lies in a folder, or begins at `start`.
    pub(super) fn open(volume: Arc<dyn Volume>, folder: &Path, start: Offset) -> Result<(Self, Flaws), DiskError> {
        volume.create_folder(folder)?;
        let mut names: Vec<String> = volume.list(folder)?;
        names.retain(|name| Path::new(name).extension().is_some_and(|ending| ending == SEGMENT));
        names.sort_unstable();
        let empty = Extent::empty(start);
        let (mut segments, mut flaws, mut before) = (VecDeque::new(), Flaws::default(), empty);
        for (at, name) in names.iter().enumerate() {
            let sealed = at + 1 < names.len();
            let path = folder.join(name);
            let Some((segment, found)) = Segment::open(volume.as_ref(), &path, &before, sealed)? else {
                set_aside(volume.as_ref(), &path, sealed)?;
                // Nothing is known of what it held.
                flaws.cut_bytes += 1;
                continue;
            };
            flaws.cut_bytes += found.cut_bytes;
            flaws.damaged_rows += found.damaged_rows;
            if !segments.is_empty() {
                flaws.damaged_rows += segment.base.0.saturating_sub(before.next.0);
            }
            before = segment.extent();
            segments.push_back(Arc::new(segment));
        }
        if segments.is_empty() {
            segments.push_back(Arc::new(Segment::create(volume.as_ref(), folder, before.next, &before)?));
        }
        let producers = Mutex::new(producers_of(&segments)?);
        let bytes = AtomicU64::new(0);
        let log = Self { volume, folder: folder.to_owned(), segments: RwLock::new(segments), bytes, producers };
        log.count();
        Ok((log, flaws))
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts the bytes anew.
    fn count(&self) {
        let bytes = self.segments().iter().map(|segment| segment.bytes()).sum();
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// The publishers' requests that are remembered.
    pub(super) fn marks(&self) -> Vec<ProducerMark> {
        self.producers.lock().expect("no holder of this lock panics").marks()
    }

    /// Remembers requests whose rows are written.
    pub(super) fn take_marks(&self, marks: &[ProducerMark]) {
        let mut producers = self.producers.lock().expect("no holder of this lock panics");
        marks.iter().for_each(|mark| producers.take(mark.clone()));
    }

    /// What a segment has to remember that begins with the next records; `None`: they begin none, or there is nothing.
    pub(super) fn marks_before_segment(&self, bytes: u64, segment_bytes: u64) -> Option<Vec<ProducerMark>> {
        let begins = self.last().is_empty() || self.is_full(bytes, segment_bytes);
        let marks = if begins { self.marks() } else { Vec::new() };
        (!marks.is_empty()).then_some(marks)
    }

    /// Whether so many more bytes belong into another segment.
    fn is_full(&self, bytes: u64, segment_bytes: u64) -> bool {
        let last = self.last();
        !last.is_empty() && last.bytes() + bytes > segment_bytes
    }

    /// How far it reaches.
    pub(super) fn reach(&self) -> Reach {
        let segments = self.segments();
        let first = segments.front().expect("there is always a segment");
        let last = segments.back().expect("there is always a segment");
        Reach { first: first.base, removed: first.before.latest_ever, extent: last.extent() }
    }

    /// Rows that are kept.
    pub(super) fn rows(&self) -> u64 {
        self.segments().iter().map(|segment| segment.extent().rows).sum()
    }

    /// Appends records, which lie behind each other in `bytes`; a segment of `segment_bytes` is followed by another.
    pub(super) fn append(&self, bytes: &[u8], headers: &[Header], segment_bytes: u64) -> Result<(), DiskError> {
        let mut last = self.last();
        if self.is_full(bytes.len() as u64, segment_bytes) {
            last.seal(self.volume.as_ref())?;
            last.publish();
            let extent = last.extent();
            let next = Segment::create(self.volume.as_ref(), &self.folder, extent.next, &extent)?;
            last = Arc::new(next);
            self.bytes.fetch_add(last.bytes(), Ordering::Relaxed);
            self.segments_mut().push_back(last.clone());
        }
        last.append(bytes, headers)?;
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Makes what is written outlast a power cut.
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        self.last().sync()
    }

    /// Cuts what was written since the last sync that succeeded.
    pub(super) fn cut_unsynced(&self) -> Result<(), DiskError> {
        self.last().cut_unsynced()?;
        self.count();
        Ok(())
    }

    /// Lets readers read what is written.
    pub(super) fn publish(&self) {
        self.last().publish();
    }

    /// Removes segments whose rows arrived before `oldest`, and the oldest while there are more than `limit_bytes`.
    /// The last stays, and the one before it while the last is empty: it alone knows the publishers then.
    pub(super) fn retain(&self, oldest: EventTime, limit_bytes: u64) -> Result<(), DiskError> {
        loop {
            let gone = {
                let segments = self.segments();
                let (first, last) = (&segments[0], &segments[segments.len() - 1]);
                let stay = if last.is_empty() { 2 } else { 1 };
                let over = self.bytes() > limit_bytes || first.extent().arrival < oldest;
                if segments.len() <= stay || !over {
                    return Ok(());
                }
                drop(segments);
                self.segments_mut().pop_front().expect("there are several")
            };
            self.bytes.fetch_sub(gone.bytes(), Ordering::Relaxed);
            // Whoever reads it has it open.
            gone.remove(self.volume.as_ref())?;
        }
    }

    /// Cuts all records at and behind an offset.
    pub(super) fn cut(&self, from: Offset) -> Result<(), DiskError> {
        loop {
            let mut segments = self.segments_mut();
            let last = segments.back().expect("there is always a segment").clone();
            if last.base >= from && segments.len() > 1 {
                segments.pop_back();
                drop(segments);
                last.remove(self.volume.as_ref())?;
                continue;
            }
            drop(segments);
            if last.extent().next > from {
                last.cut(self.volume.as_ref(), from)?;
            }
            self.count();
            return Ok(());
        }
    }

    /// The last record that is whole, and how far the inputs had been read for it.
    pub(super) fn last_record(&self) -> Result<Option<(Header, Inputs)>, DiskError> {
        for segment in self.segments().iter().rev() {
            if let Some(found) = segment.last_record(|_| true)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Cuts results of a window that was not told to its end: those behind the last record whose watermark says that
    /// no more of its kind come. The bytes that were cut.
    pub(super) fn cut_unfinished(&self) -> Result<u64, DiskError> {
        let bytes = self.bytes();
        let mut whole = self.reach().first;
        for segment in self.segments().iter().rev() {
            if let Some((header, _)) = segment.last_record(|header| header.watermark > header.latest)? {
                whole = header.next;
                break;
            }
        }
        if whole < self.reach().extent.next {
            self.cut(whole)?;
        }
        Ok(bytes.saturating_sub(self.bytes()))
    }

    /// The segment that holds an offset or comes next behind it, or ends there: with records without rows at the offset.
    pub(super) fn segment_of(&self, offset: Offset) -> Arc<Segment> {
        let segments = self.segments();
        let at = segments.partition_point(|segment| segment.base < offset).saturating_sub(1);
        segments[at].clone()
    }

    /// The commits of the records at and behind an offset, and how far the inputs had been read for each.
    pub(super) fn inputs_since(&self, offset: Offset) -> Result<Vec<(u64, Inputs)>, DiskError> {
        let mut told = Vec::new();
        let mut segment = self.segment_of(offset);
        let mut place = segment.place_at(offset)?;
        loop {
            let mut scan = segment.scan(place);
            loop {
                match scan.next()? {
                    Found::Record { header, payload } => {
                        let inputs = header.notes(&payload)?.inputs.into_owned();
                        if !inputs.is_empty() {
                            told.push((header.commit, inputs));
                        }
                    }
                    Found::Damage { .. } => {}
                    Found::End => break,
                }
            }
            let Some(next) = self.following(segment.base) else { return Ok(told) };
            (place, segment) = (next.start(), next);
        }
    }

    /// The segment behind the one that begins at `base`, which may be gone itself.
    pub(super) fn following(&self, base: Offset) -> Option<Arc<Segment>> {
        self.segments().iter().find(|segment| segment.base > base).cloned()
    }

    /// The first offset at or behind which a row of that event time or a later one lies; `None`: there is none.
    pub(super) fn since(&self, moment: EventTime) -> Result<Option<Offset>, DiskError> {
        let found = self.segments().iter().find(|segment| segment.extent().latest >= moment).cloned();
        let Some(segment) = found else { return Ok(None) };
        let mut scan = segment.scan(segment.place_since(moment)?);
        Ok(Some(scan.header()?.map_or(segment.base, |header| header.first)))
    }

    fn last(&self) -> Arc<Segment> {
        self.segments().back().expect("there is always a segment").clone()
    }

    fn segments(&self) -> RwLockReadGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.read().expect("no holder of this lock panics")
    }

    fn segments_mut(&self) -> RwLockWriteGuard<'_, VecDeque<Arc<Segment>>> {
        self.segments.write().expect("no holder of this lock panics")
    }
}

/// Who published, as the segments tell: the first record of each tells all that was known before it.
fn producers_of(segments: &VecDeque<Arc<Segment>>) -> Result<Producers, DiskError> {
    let mut told = Vec::new();
    for segment in segments.iter().rev() {
        let (marks, whole) = segment.marks()?;
        told.push(marks);
        if whole {
            break;
        }
    }
    let mut producers = Producers::default();
    told.into_iter().rev().flatten().for_each(|mark| producers.take(mark));
    Ok(producers)
}

/// A file that is no segment: one that was being made when the process died is removed; any other is kept under
/// another name, to be looked at.
fn set_aside(volume: &dyn Volume, path: &Path, sealed: bool) -> Result<(), DiskError> {
    if sealed {
        tracing::error!(path = %path.display(), "this is no segment; it is kept as .damaged");
        let _ = volume.rename(&path.with_extension(INDEX), &path.with_extension("index.damaged"));
        return Ok(volume.rename(path, &path.with_extension("log.damaged"))?);
    }
    Ok(volume.remove(path)?)
}
