//! A stream's log on disk: an append-only file of records a partition, cut into segments.
//!
//! What jobs and clients read live comes from memory; the log is read by those that go farther back, and when the
//! process starts again. One thread writes for all streams ([`DiskWriter`]); readers read on threads for blocking work.
//!
//! **Crashes.** A record is whole or it is not there: checksums say so. When a log is opened, what lies behind its last
//! whole commit is cut. If readers may have seen what was cut, the stream gets a new epoch; positions of the epochs
//! before it stay good up to where the new one began (as Kafka's leader epochs do, KIP-101). Damage elsewhere is passed
//! over, counted, and told to readers as a gap.
//!
//! **Full disks.** Nothing is appended beyond the budget, or when the disk is full: the append is refused, what was
//! written of it is cut, and the log goes on when there is room.

mod budget;
mod error;
mod meta;
mod notes;
mod partition;
mod reader;
mod record;
mod scan;
mod segment;
mod volume;
mod writer;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use serde::Serialize;

use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::failpoint::Failpoint;
use crate::stream::{Carried, Offset, Position, Producers};

use meta::Meta;
use partition::PartitionLog;
use record::Encoder;

pub(crate) use budget::DiskBudget;
pub use error::DiskError;
pub(crate) use reader::{DiskRead, DiskReader};
#[cfg(test)]
pub(crate) use testing::TestVolume;
pub(crate) use volume::{RealVolume, Volume, VolumeFile};
pub(crate) use writer::{Append, DiskWriter};

/// A segment is at most this large, unless a single commit is larger.
const SEGMENT_BYTES: u64 = 64 << 20;
/// A log has at least so many segments before the oldest goes: so much more than was asked for is kept at the most.
const SEGMENTS: u64 = 8;
/// Decoded batches that readers at the same place share.
const SHARED_BATCHES: usize = 1024;

/// When a stream's rows are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Never.
    #[default]
    Memory,
    /// Within 200 ms; readers see them, and publishers are told, before.
    Buffered,
    /// Before readers see them and publishers are told.
    Durable,
}

/// How a log is opened.
#[derive(Debug, Clone)]
pub(crate) struct DiskOptions {
    pub(crate) folder: PathBuf,
    pub(crate) schema: SchemaRef,
    pub(crate) partitions: u32,
    pub(crate) durability: Durability,
    /// How long rows are kept by arrival, and how many bytes.
    pub(crate) age: Duration,
    pub(crate) bytes: u64,
    /// The epoch of a log that begins, or that cannot go on in its own.
    pub(crate) epoch: u64,
    /// Results of a window that are not all there are cut when it is opened.
    pub(crate) whole_windows: bool,
    /// The logs that it takes the place of; `None`: none, or what is there says it.
    pub(crate) carried: Option<Carried>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct DiskLog {
    volume: Arc<dyn Volume>,
    options: DiskOptions,
    budget: Arc<DiskBudget>,
    partitions: Vec<PartitionLog>,
    meta: Mutex<Meta>,
    /// Up to which commit readers may read.
    published: AtomicU64,
    /// The next commit's number.
    commit: AtomicU64,
    bytes: AtomicU64,
    damaged_rows: u64,
    /// The last append failed: who commits waits for the next one's result, lest more rows be lost.
    refusing: AtomicBool,
    /// Rows that readers saw and the disk did not take.
    unstored_rows: AtomicU64,
    /// It failed for good or was closed: nothing is appended until it is opened again.
    broken: AtomicBool,
    /// It is about to be removed: no file of it is touched any more. Held while one is.
    removed: Mutex<bool>,
    /// What readers have decoded and still hold.
    decoded: Mutex<HashMap<(u32, Offset), Weak<StreamBatch>>>,
}

/// Where a log goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resumed {
    /// Its epoch, and each partition's next offset.
    pub(crate) position: Position,
    /// Each partition's first offset that is kept.
    pub(crate) first: Vec<Offset>,
    /// Each partition's watermark.
    pub(crate) watermarks: Vec<EventTime>,
    /// The greatest event time that there was.
    pub(crate) latest: EventTime,
    /// When the last row arrived.
    pub(crate) arrival: EventTime,
    /// Bytes that were cut: of commits that were not whole.
    pub(crate) cut_bytes: u64,
    /// Rows that are damaged.
    pub(crate) damaged_rows: u64,
    /// How far the inputs had been read at the last commit.
    pub(crate) inputs: Vec<(String, Position)>,
    /// The same at the last commit to each partition.
    pub(crate) partition_inputs: Vec<Vec<(String, Position)>>,
    /// Who published, and how far each came.
    pub(crate) producers: Producers,
}

impl Resumed {
    /// Before anything is known of what is there.
    fn at(epoch: u64) -> Self {
        Self {
            position: Position { epoch, offsets: BTreeMap::new() },
            first: Vec::new(),
            watermarks: Vec::new(),
            latest: EventTime::MIN,
            arrival: EventTime::MIN,
            cut_bytes: 0,
            damaged_rows: 0,
            inputs: Vec::new(),
            partition_inputs: Vec::new(),
            producers: Producers::default(),
        }
    }
}

impl DiskLog {
    /// Opens the log in a folder, or begins one. Blocks.
    pub(crate) fn open(
        volume: Arc<dyn Volume>,
        budget: Arc<DiskBudget>,
        options: DiskOptions,
    ) -> Result<(Arc<Self>, Resumed), DiskError> {
        check_types(&options.schema)?;
        volume.create_folder(&options.folder)?;
        let known = Meta::read(volume.as_ref(), &options.folder)?;
        if let Some(known) = &known {
            known.check(&options)?;
        }
        let mut partitions = Vec::new();
        let mut resumed = Resumed::at(options.epoch);
        let mut commit = 0;
        let start = |number| options.carried.as_ref().map_or(Offset(0), |carried| carried.first(number));
        for number in 0..options.partitions {
            let folder = options.folder.join(format!("p{number}"));
            let (partition, mut flaws) = PartitionLog::open(volume.clone(), &folder, start(number))?;
            if options.whole_windows {
                flaws.cut_bytes += partition.cut_unfinished()?;
            }
            partition.marks().into_iter().for_each(|mark| resumed.producers.take(mark));
            let last = partition.last_record()?;
            resumed.partition_inputs.push(last.as_ref().map(|(_, inputs)| inputs.clone()).unwrap_or_default());
            if let Some((header, inputs)) = last
                && header.commit >= commit
            {
                resumed.inputs = inputs;
            }
            let reach = partition.reach();
            resumed.position.offsets.insert(number, (reach.extent.next, 0));
            resumed.first.push(reach.first);
            resumed.watermarks.push(reach.extent.watermark);
            resumed.latest = resumed.latest.max(reach.extent.latest_ever);
            resumed.arrival = resumed.arrival.max(reach.extent.arrival);
            resumed.cut_bytes += flaws.cut_bytes;
            resumed.damaged_rows += flaws.damaged_rows;
            commit = commit.max(reach.extent.commit);
            partitions.push(partition);
        }
        // What a killed process wrote may not be on disk yet; readers will see it.
        partitions.iter().try_for_each(PartitionLog::sync)?;
        let meta = Meta::resume(known, &options, &mut resumed);
        meta.write(volume.as_ref(), &options.folder)?;
        volume.sync_folder(&options.folder)?;
        let bytes = partitions.iter().map(PartitionLog::bytes).sum();
        budget.change(0, bytes);
        let log = Self {
            volume,
            budget,
            partitions,
            meta: Mutex::new(meta),
            published: AtomicU64::new(commit),
            commit: AtomicU64::new(commit + 1),
            bytes: AtomicU64::new(bytes),
            damaged_rows: resumed.damaged_rows,
            refusing: AtomicBool::new(false),
            unstored_rows: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            removed: Mutex::new(false),
            decoded: Mutex::default(),
            options,
        };
        Failpoint::LogOpened.pass();
        Ok((Arc::new(log), resumed))
    }

    /// Its columns, with the hidden ones.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.options.schema
    }

    pub(crate) fn durability(&self) -> Durability {
        self.options.durability
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Rows on disk.
    pub(crate) fn rows(&self) -> u64 {
        self.partitions.iter().map(PartitionLog::rows).sum()
    }

    /// Rows that were found damaged when it was opened.
    pub(crate) fn damaged_rows(&self) -> u64 {
        self.damaged_rows
    }

    /// Rows that readers saw and the disk did not take.
    pub(crate) fn unstored_rows(&self) -> u64 {
        self.unstored_rows.load(Ordering::Relaxed)
    }

    /// Whether the last append failed.
    pub(crate) fn refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// The number of a commit, which are appended in the order of their numbers.
    pub(crate) fn next_commit(&self) -> u64 {
        self.commit.fetch_add(1, Ordering::Relaxed)
    }

    /// The first offset of each partition that is kept.
    pub(crate) fn first(&self) -> Position {
        let offsets = (0..).zip(&self.partitions).map(|(number, partition)| (number, (partition.reach().first, 0)));
        Position { epoch: self.epoch(), offsets: offsets.collect() }
    }

    /// The greatest event time of rows that are no longer kept; `MIN`: all are.
    pub(crate) fn removed_event_time(&self) -> EventTime {
        self.partitions.iter().map(|partition| partition.reach().removed).max().unwrap_or(EventTime::MIN)
    }

    /// Its incarnation.
    pub(crate) fn epoch(&self) -> u64 {
        self.meta.lock().expect("no holder of this lock panics").epoch()
    }

    /// The logs that it takes the place of.
    pub(crate) fn carried(&self) -> Option<Carried> {
        self.meta.lock().expect("no holder of this lock panics").carried().cloned()
    }

    /// The position in this epoch, of one in this or an earlier one; `None`: what lay there was lost, or is not known.
    pub(crate) fn translate(&self, position: &Position) -> Option<Position> {
        self.meta.lock().expect("no holder of this lock panics").translate(position)
    }

    /// The place of the first row of that event time or a later one, in any partition: what the others have from the
    /// same time on follows it. `None`: there is none.
    pub(crate) fn since(&self, moment: EventTime) -> Result<Option<Position>, DiskError> {
        let mut offsets = BTreeMap::new();
        let mut found = false;
        for (number, partition) in (0..).zip(&self.partitions) {
            let place = partition.since(moment)?;
            found |= place.is_some();
            offsets.insert(number, (place.unwrap_or(partition.reach().extent.next), 0));
        }
        Ok(found.then(|| Position { epoch: self.epoch(), offsets }))
    }

    /// How far the inputs had been read for each of the commits that lie behind a position, in their order. Blocks.
    pub(crate) fn inputs_since(&self, position: &Position) -> Result<Vec<Vec<(String, Position)>>, DiskError> {
        let mut all = Vec::new();
        for (number, partition) in (0..).zip(&self.partitions) {
            let from = position.offsets.get(&number).map_or(Offset(0), |(offset, _)| *offset);
            all.append(&mut partition.inputs_since(from)?);
        }
        all.sort_by_key(|(commit, _)| *commit);
        Ok(all.into_iter().map(|(_, inputs)| inputs).collect())
    }

    /// Appends one commit's batches, all of one partition. Blocks; only the writer calls it. Nothing of it stays when
    /// it fails.
    fn append(&self, encoder: &mut Encoder, append: &Append, buffer: &mut Vec<u8>) -> Result<(), DiskError> {
        let removed = self.removed.lock().expect("no holder of this lock panics");
        if *removed || self.broken.load(Ordering::Relaxed) {
            return Err(DiskError::Closed);
        }
        let Some(first) = append.batches.first() else { return Ok(()) };
        let mut headers = append.encode(encoder, &append.marks, buffer)?;
        self.make_room(buffer.len() as u64, append.now)?;
        let partition = &self.partitions[first.partition as usize];
        let limit = SEGMENT_BYTES.min(self.options.bytes / SEGMENTS);
        if let Some(before) = partition.marks_before_segment(buffer.len() as u64, limit) {
            // Segments before it may be gone when the log is opened again.
            headers = append.encode(encoder, &[before, append.marks.clone()].concat(), buffer)?;
        }
        let result = partition.append(buffer, &headers, limit);
        if result.is_ok() {
            partition.take_marks(&append.marks);
        }
        self.note(&result);
        self.recount();
        result
    }

    /// Drops what is too old or too much.
    fn make_room(&self, wanted_bytes: u64, now: EventTime) -> Result<(), DiskError> {
        let age = i64::try_from(self.options.age.as_nanos()).unwrap_or(i64::MAX);
        for partition in &self.partitions {
            let limit = self.options.bytes / u64::from(self.options.partitions.max(1));
            partition.retain(now.plus(-age), limit)?;
        }
        self.recount();
        self.budget.check(wanted_bytes)
    }

    fn recount(&self) {
        let now = self.partitions.iter().map(PartitionLog::bytes).sum();
        let before = self.bytes.swap(now, Ordering::Relaxed);
        self.budget.change(before, now);
    }

    fn sync(&self) -> Result<(), DiskError> {
        let removed = self.removed.lock().expect("no holder of this lock panics");
        if *removed { Ok(()) } else { self.sync_files() }
    }

    fn sync_files(&self) -> Result<(), DiskError> {
        if self.broken.load(Ordering::Relaxed) {
            // A second attempt may succeed though the first has lost rows: the system forgets what it could not write.
            return Err(DiskError::Closed);
        }
        let result = self.partitions.iter().try_for_each(PartitionLog::sync);
        self.note(&result);
        result
    }

    fn note(&self, result: &Result<(), DiskError>) {
        if !matches!(result, Err(DiskError::Broken { .. })) || self.broken.swap(true, Ordering::Relaxed) {
            return;
        }
        if self.options.durability == Durability::Durable {
            // Nobody has seen these rows, and their publishers are told that they were not stored.
            for partition in &self.partitions {
                if let Err(error) = partition.cut_unsynced() {
                    tracing::error!(%error, "rows that could not be synced cannot be cut: they may be there again");
                }
            }
            self.recount();
        }
    }

    /// Lets readers read up to a commit.
    fn publish(&self, commit: u64) {
        for partition in &self.partitions {
            partition.publish();
        }
        self.published.fetch_max(commit, Ordering::Release);
    }

    /// Says that all that readers have seen is on disk: the log goes on in its epoch when it is opened again.
    fn close(&self) -> Result<(), DiskError> {
        let removed = self.removed.lock().expect("no holder of this lock panics");
        if *removed {
            return Ok(());
        }
        self.sync_files()?;
        Failpoint::LogCloses.pass();
        let mut meta = self.meta.lock().expect("no holder of this lock panics");
        meta.close();
        self.broken.store(true, Ordering::Relaxed);
        meta.write(self.volume.as_ref(), &self.options.folder)?;
        Failpoint::LogClosed.pass();
        Ok(())
    }

    /// Lets no file of it be touched any more, after the call that does: its folder goes, and may be another's then.
    /// Blocks.
    pub(crate) fn end(&self) {
        *self.removed.lock().expect("no holder of this lock panics") = true;
    }

    /// Its bytes count no longer: it is about to be removed.
    pub(crate) fn give_back(&self) {
        self.budget.change(self.bytes.swap(0, Ordering::Relaxed), 0);
    }

    fn is_removed(&self) -> bool {
        *self.removed.lock().expect("no holder of this lock panics")
    }

    /// Whether it lies in a folder.
    pub(crate) fn lies_in(&self, folder: &Path) -> bool {
        self.options.folder == folder
    }

    /// Removes a log with all that it holds. Blocks.
    pub(crate) fn remove(volume: &dyn Volume, folder: &Path) -> Result<(), DiskError> {
        Failpoint::LogRemoves.pass();
        volume.remove_folder(folder)?;
        Failpoint::LogRemoved.pass();
        Ok(())
    }

    /// A decoded batch, unless somebody holds it: then that one.
    fn share(&self, batch: StreamBatch) -> Arc<StreamBatch> {
        let batch = Arc::new(batch);
        if batch.first == batch.next {
            // Others may lie at the same offset.
            return batch;
        }
        let mut decoded = self.decoded.lock().expect("no holder of this lock panics");
        if decoded.len() >= SHARED_BATCHES {
            decoded.retain(|_, held| held.strong_count() > 0);
        }
        if decoded.len() < SHARED_BATCHES {
            decoded.insert((batch.partition, batch.first), Arc::downgrade(&batch));
        }
        batch
    }

    fn shared(&self, partition: u32, first: Offset) -> Option<Arc<StreamBatch>> {
        self.decoded.lock().expect("no holder of this lock panics").get(&(partition, first)).and_then(Weak::upgrade)
    }
}

impl Drop for DiskLog {
    fn drop(&mut self) {
        self.budget.change(self.bytes(), 0);
    }
}

/// Dictionaries would need a second kind of record.
fn check_types(schema: &SchemaRef) -> Result<(), DiskError> {
    for field in schema.flattened_fields() {
        if let DataType::Dictionary(_, _) = field.data_type() {
            let (column, data_type) = (field.name().clone(), field.data_type().clone());
            return Err(DiskError::Type { column, data_type });
        }
    }
    Ok(())
}
