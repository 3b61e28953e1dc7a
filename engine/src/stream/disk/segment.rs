//! A segment: one file of records in the order of their offsets, with a sparse index.
//!
//! Its name is its first offset. Whoever appends is one; readers read up to what was published to them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};

use super::DiskError;
use super::notes::Inputs;
use super::record::{ALIGNMENT, Header};
use super::scan::{Found, Scan};
use super::volume::{Volume, VolumeFile};
use crate::clock::EventTime;
use crate::failpoint::Failpoint;
use crate::stream::{Offset, ProducerMark};

/// Bytes between two places that the index knows.
const INDEX_BYTES: u64 = 64 << 10;
/// What a segment's file begins with; the last byte is the version of the format.
const MAGIC: [u8; 8] = *b"squilla\x01";
/// Bytes before the first record.
const HEAD_BYTES: u64 = ALIGNMENT as u64;
/// Ending of a segment's name, and of its index's.
pub(super) const SEGMENT: &str = "log";
pub(super) const INDEX: &str = "index";

/// A place that the index knows.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Mark {
    /// Where a record begins.
    at: u64,
    /// Its first offset.
    offset: Offset,
    /// The greatest event time before it in the segment.
    latest_before: EventTime,
}

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extent {
    /// One past the last offset.
    pub(super) next: Offset,
    /// Of the last record.
    pub(super) commit: u64,
    pub(super) watermark: EventTime,
    pub(super) arrival: EventTime,
    /// The greatest event time of the segment.
    pub(super) latest: EventTime,
    /// The greatest event time of the segment and of all before it.
    pub(super) latest_ever: EventTime,
    pub(super) rows: u64,
}

impl Extent {
    /// Of a log that begins.
    pub(super) fn empty(next: Offset) -> Self {
        let none = EventTime::MIN;
        Self { next, commit: 0, watermark: none, arrival: none, latest: none, latest_ever: none, rows: 0 }
    }

    /// That of a segment without rows that follows this one, at `base`.
    fn follow(&self, base: Offset) -> Self {
        Self { next: base, latest: EventTime::MIN, rows: 0, ..*self }
    }

    /// As a segment's head tells what lay before it.
    fn write_head(&self) -> [u8; HEAD_BYTES as usize] {
        let mut head = [0; HEAD_BYTES as usize];
        head[..8].copy_from_slice(&MAGIC);
        let moments = [self.watermark, self.arrival, self.latest_ever].map(|moment| moment.0.cast_unsigned());
        let numbers = [self.next.0, self.commit].into_iter().chain(moments);
        for (at, number) in numbers.enumerate() {
            head[8 + at * 8..16 + at * 8].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&head[..48]);
        head[48..52].copy_from_slice(&crc.to_le_bytes());
        head
    }

    /// `None`: the head is damaged.
    fn read_head(head: &[u8; HEAD_BYTES as usize]) -> Option<Self> {
        let crc = u32::from_le_bytes(head[48..52].try_into().ok()?);
        if head[..8] != MAGIC || crc != crc32c::crc32c(&head[..48]) {
            return None;
        }
        let number = |at: usize| u64::from_le_bytes(head[8 + at * 8..16 + at * 8].try_into().expect("eight bytes"));
        let moment = |at: usize| EventTime(number(at).cast_signed());
        let latest_ever = moment(4);
        let (watermark, arrival) = (moment(2), moment(3));
        let (next, commit) = (Offset(number(0)), number(1));
        Some(Self { next, commit, watermark, arrival, latest: EventTime::MIN, latest_ever, rows: 0 })
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    pub(super) base: Offset,
    /// What lay before it.
    pub(super) before: Extent,
    file: Arc<dyn VolumeFile>,
    /// Bytes that readers may read.
    published: AtomicU64,
    known: RwLock<Known>,
    /// Bytes that outlast a power cut.
    synced: AtomicU64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    /// Bytes that are written.
    bytes: u64,
    extent: Extent,
    marks: Vec<Mark>,
}

/// What was found wrong when a segment was opened.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flaws {
    /// Bytes that were cut at the end: no whole commit.
    pub(super) cut_bytes: u64,
    /// Offsets of damaged records within.
    pub(super) damaged_rows: u64,
}

impl Segment {
    /// An empty one that goes on behind `before`.
    pub(super) fn create(volume: &dyn Volume, folder: &Path, base: Offset, before: &Extent) -> Result<Self, DiskError> {
        let path = folder.join(format!("{:020}.{SEGMENT}", base.0));
        let file = volume.open(&path, true)?;
        file.truncate(0)?;
        Failpoint::SegmentCreated.pass();
        let before = before.follow(base);
        file.write_all_at(&before.write_head(), 0)?;
        file.sync()?;
        Failpoint::SegmentBegins.pass();
        volume.sync_folder(folder)?;
        let known = Known { bytes: HEAD_BYTES, extent: before, marks: Vec::new() };
        let published = AtomicU64::new(HEAD_BYTES);
        let synced = AtomicU64::new(HEAD_BYTES);
        Ok(Self { path, base, before, file, published, known: RwLock::new(known), synced })
    }

    /// One that lies there. `sealed`: others follow it, so that its index is used if it has one, and nothing is cut.
    /// `None`: its head was never wholly written.
    pub(super) fn open(
        volume: &dyn Volume,
        path: &Path,
        before: &Extent,
        sealed: bool,
    ) -> Result<Option<(Self, Flaws)>, DiskError> {
        let file = volume.open(path, false)?;
        let length = file.length()?;
        let mut head = [0; HEAD_BYTES as usize];
        if length < HEAD_BYTES {
            return Ok(None);
        }
        file.read_exact_at(&mut head, 0)?;
        if let Some(found) = other_version(&head) {
            return Err(DiskError::Format { path: path.to_owned(), found });
        }
        let named =
            path.file_stem().and_then(|name| name.to_str()?.parse().ok()).map(|base| before.follow(Offset(base)));
        let Some(before) = Extent::read_head(&head).or(named) else { return Ok(None) };
        let base = before.next;
        let indexed = if sealed { read_index(volume, path, length) } else { None };
        let (known, flaws) = match indexed {
            Some(known) => (known, Flaws::default()),
            None => recover(&file, &before, length, sealed)?,
        };
        if flaws.cut_bytes > 0 {
            file.truncate(known.bytes)?;
            Failpoint::TailCut.pass();
        }
        if flaws.cut_bytes > 0 || !sealed {
            // Of what a killed process wrote, some may not have come to the disk yet. From now on it is seen.
            file.sync()?;
        }
        let published = AtomicU64::new(known.bytes);
        let (path, synced) = (path.to_owned(), AtomicU64::new(known.bytes));
        let segment = Self { path, base, before, file, published, known: RwLock::new(known), synced };
        Ok(Some((segment, flaws)))
    }

    /// Bytes that are written.
    pub(super) fn bytes(&self) -> u64 {
        self.known().bytes
    }

    /// What is written.
    pub(super) fn extent(&self) -> Extent {
        self.known().extent
    }

    /// Whether it has no record.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes() <= HEAD_BYTES
    }

    /// Where the first record begins.
    pub(super) fn start(&self) -> u64 {
        HEAD_BYTES
    }

    /// Up to where readers may read.
    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Lets readers read what is written.
    pub(super) fn publish(&self) {
        self.published.store(self.bytes(), Ordering::Release);
    }

    /// Appends records, which lie behind each other in `bytes`. When it fails nothing of them stays.
    pub(super) fn append(&self, bytes: &[u8], headers: &[Header]) -> Result<(), DiskError> {
        let at = self.bytes();
        Failpoint::AppendBegins.pass();
        Failpoint::AppendTorn.pass_with(|| _ = self.file.write_all_at(&bytes[..bytes.len() / 2], at));
        if let Err(error) = self.file.write_all_at(bytes, at) {
            return match self.file.truncate(at) {
                Ok(()) => Err(error.into()),
                Err(second) => Err(DiskError::Broken { path: self.path.clone(), source: second }),
            };
        }
        let mut known = self.known_mut();
        for header in headers {
            known.take(header);
        }
        debug_assert_eq!(known.bytes, at + bytes.len() as u64, "the headers are those of the bytes");
        Failpoint::AppendWritten.pass();
        Ok(())
    }

    /// Makes what is written outlast a power cut.
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        let bytes = self.bytes();
        Failpoint::SyncBegins.pass();
        self.file.sync().map_err(|source| DiskError::Broken { path: self.path.clone(), source })?;
        self.synced.store(bytes, Ordering::Relaxed);
        Failpoint::SyncEnds.pass();
        Ok(())
    }

    /// Cuts what was written since the last sync that succeeded.
    pub(super) fn cut_unsynced(&self) -> Result<(), DiskError> {
        let at = self.synced.load(Ordering::Relaxed);
        if at < self.bytes() {
            self.file.truncate(at)?;
            *self.known_mut() = recover(&self.file, &self.before, at, false)?.0;
        }
        Ok(())
    }

    /// The publishers' requests that its records note, and whether its first record is there, which notes all that were
    /// known before.
    pub(super) fn marks(&self) -> Result<(Vec<ProducerMark>, bool), DiskError> {
        let mut marks = Vec::new();
        let mut scan = Scan::new(self.file.clone(), HEAD_BYTES, self.bytes());
        let mut whole = None;
        loop {
            match scan.next()? {
                Found::Record { header, payload } => {
                    whole.get_or_insert(true);
                    marks.extend_from_slice(&header.notes(&payload)?.marks);
                }
                Found::Damage { .. } => _ = whole.get_or_insert(false),
                Found::End => return Ok((marks, whole.unwrap_or(false))),
            }
        }
    }

    /// Says that nothing will be appended: writes the index, for the next time that it is opened.
    pub(super) fn seal(&self, volume: &dyn Volume) -> Result<(), DiskError> {
        self.sync()?;
        let text = serde_json::to_string(&*self.known()).expect("numbers are always JSON");
        let file = volume.open(&self.path.with_extension(INDEX), true)?;
        file.truncate(0)?;
        file.write_all_at(format!("{:08x}\n{text}", crc32c::crc32c(text.as_bytes())).as_bytes(), 0)?;
        file.sync()?;
        Failpoint::SegmentSealed.pass();
        Ok(())
    }

    /// Cuts all records at and behind an offset.
    pub(super) fn cut(&self, volume: &dyn Volume, from: Offset) -> Result<(), DiskError> {
        let at = self.place_of(from)?;
        let _ = volume.remove(&self.path.with_extension(INDEX));
        self.file.truncate(at)?;
        self.sync()?;
        let (known, _) = recover(&self.file, &self.before, at, false)?;
        *self.known_mut() = known;
        self.publish();
        Ok(())
    }

    /// Removes its files.
    pub(super) fn remove(&self, volume: &dyn Volume) -> io::Result<()> {
        let _ = volume.remove(&self.path.with_extension(INDEX));
        Failpoint::RetentionBegins.pass();
        volume.remove(&self.path)?;
        Failpoint::RetentionEnds.pass();
        Ok(())
    }

    /// Where the record begins that holds the offset or comes next behind it; the end when there is none.
    pub(super) fn place_of(&self, offset: Offset) -> Result<u64, DiskError> {
        let from = {
            let known = self.known();
            let behind = known.marks.partition_point(|mark| mark.offset <= offset);
            behind.checked_sub(1).map_or(HEAD_BYTES, |at| known.marks[at].at)
        };
        self.first(from, |header| header.next > offset)
    }

    /// The same, where records without rows lie at the offset: the first of them.
    pub(super) fn place_at(&self, offset: Offset) -> Result<u64, DiskError> {
        let from = {
            let known = self.known();
            let behind = known.marks.partition_point(|mark| mark.offset < offset);
            behind.checked_sub(1).map_or(HEAD_BYTES, |at| known.marks[at].at)
        };
        self.first(from, |header| header.next > offset || header.first == offset && header.next == offset)
    }

    /// Where the first record begins that has a row of that event time or a later one.
    pub(super) fn place_since(&self, moment: EventTime) -> Result<u64, DiskError> {
        let from = {
            let known = self.known();
            let behind = known.marks.partition_point(|mark| mark.latest_before < moment);
            behind.checked_sub(1).map_or(HEAD_BYTES, |at| known.marks[at].at)
        };
        self.first(from, |header| header.latest >= moment)
    }

    fn first(&self, from: u64, is_it: impl Fn(&Header) -> bool) -> Result<u64, DiskError> {
        let mut scan = self.scan(from);
        loop {
            let at = scan.at;
            match scan.skip()? {
                Some(header) if is_it(&header) => return Ok(at),
                Some(_) => {}
                None => match scan.next()? {
                    Found::End => return Ok(at),
                    // The reader is told of the damage.
                    Found::Damage { .. } => return Ok(at),
                    Found::Record { header, .. } if is_it(&header) => return Ok(at),
                    Found::Record { .. } => {}
                },
            }
        }
    }

    /// The last whole record of which `is_it` holds, and how far the inputs had been read for it.
    pub(super) fn last_record(&self, is_it: impl Fn(&Header) -> bool) -> Result<Option<(Header, Inputs)>, DiskError> {
        let places: Vec<u64> =
            std::iter::once(HEAD_BYTES).chain(self.known().marks.iter().map(|mark| mark.at)).collect();
        let mut end = self.published();
        for from in places.into_iter().rev() {
            let mut found = None;
            let mut scan = Scan::new(self.file.clone(), from, end);
            loop {
                match scan.next()? {
                    Found::Record { header, payload } if is_it(&header) => found = Some((header, payload)),
                    Found::Record { .. } | Found::Damage { .. } => {}
                    Found::End => break,
                }
            }
            if let Some((header, payload)) = found {
                return Ok(Some((header, header.notes(&payload)?.inputs.into_owned())));
            }
            end = from;
        }
        Ok(None)
    }

    /// Reads records from a place on.
    pub(super) fn scan(&self, at: u64) -> Scan {
        Scan::new(self.file.clone(), at, self.published())
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().expect("no holder of this lock panics")
    }

    fn known_mut(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().expect("no holder of this lock panics")
    }
}

impl Known {
    fn take(&mut self, header: &Header) {
        if self.marks.last().map_or(HEAD_BYTES, |mark| mark.at) + INDEX_BYTES <= self.bytes {
            self.marks.push(Mark { at: self.bytes, offset: header.first, latest_before: self.extent.latest });
        }
        self.bytes += header.record_bytes();
        self.extent = Extent {
            next: header.next,
            commit: header.commit,
            watermark: self.extent.watermark.max(header.watermark),
            arrival: header.arrival,
            latest: self.extent.latest.max(header.latest),
            latest_ever: self.extent.latest_ever.max(header.latest),
            rows: self.extent.rows + u64::from(header.rows),
        };
    }
}

/// The version of a whole head of another format.
fn other_version(head: &[u8; HEAD_BYTES as usize]) -> Option<u8> {
    let crc = u32::from_le_bytes(head[48..52].try_into().ok()?);
    let ours = head[..7] == MAGIC[..7] && crc == crc32c::crc32c(&head[..48]);
    (ours && head[7] != MAGIC[7]).then_some(head[7])
}

/// Reads all records. Damage with whole records behind it is passed over and counted; what lies behind the last whole
/// commit is to be cut, unless the segment is sealed.
fn recover(
    file: &Arc<dyn VolumeFile>,
    before: &Extent,
    length: u64,
    sealed: bool,
) -> Result<(Known, Flaws), DiskError> {
    let mut known = Known { bytes: HEAD_BYTES, extent: *before, marks: Vec::new() };
    let mut whole = (known.clone(), 0);
    let mut scan = Scan::new(file.clone(), HEAD_BYTES, length);
    let mut damaged_rows = 0;
    let mut after_damage = false;
    loop {
        match scan.next()? {
            Found::Record { header, .. } => {
                if std::mem::take(&mut after_damage) {
                    damaged_rows += header.first.0.saturating_sub(known.extent.next.0);
                }
                known.take(&header);
                if header.last {
                    whole = (known.clone(), damaged_rows);
                }
            }
            Found::Damage { to } if to < length => {
                known.bytes = to;
                after_damage = true;
            }
            Found::Damage { .. } | Found::End => break,
        }
    }
    if sealed {
        known.bytes = length;
        return Ok((known, Flaws { cut_bytes: 0, damaged_rows }));
    }
    let (known, damaged_rows) = whole;
    let cut_bytes = length - known.bytes;
    Ok((known, Flaws { cut_bytes, damaged_rows }))
}

/// The index of a sealed segment, unless it is absent, damaged or of other bytes.
fn read_index(volume: &dyn Volume, path: &Path, length: u64) -> Option<Known> {
    let file = volume.open(&path.with_extension(INDEX), false).ok()?;
    let mut bytes = vec![0; usize::try_from(file.length().ok()?).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let (crc, text) = bytes.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(&crc[..8]).ok()?, 16).ok()?;
    let known: Known = serde_json::from_slice(text).ok().filter(|_| crc == crc32c::crc32c(text))?;
    (known.bytes == length).then_some(known)
}
