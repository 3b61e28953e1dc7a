//! Batches as a log keeps them. Small ones are put together in time: a batch of one row takes over a hundred bytes a
//! column for what describes it, and as much again for buffers of its own.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::log::{Entry, Item};
use crate::batch::{Memo, RowKind, StreamBatch};
use crate::clock::EventTime;
use crate::stream::Offset;

/// Rows of a batch that is small, at the most.
const SMALL_ROWS: usize = 128;
/// Bytes of a batch that is small, at the most: more would be copied in vain, and kept for as long as its neighbours.
const SMALL_BYTES: usize = 16 << 10;
/// Small batches whose rows come to lie in the same columns.
const TOGETHER: usize = 64;

/// A batch of a log.
#[derive(Debug, Clone)]
pub(super) enum Kept {
    /// As it was committed.
    Own(Arc<StreamBatch>),
    /// Among others in common columns.
    Packed(Packed),
}

/// A small batch that lies among others: its place, and where its rows are.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    kind: RowKind,
    partition: u32,
    first: Offset,
    next: Offset,
    watermark: EventTime,
    arrival: EventTime,
    idle: bool,
    all: Arc<RecordBatch>,
    from: u32,
    rows: u32,
    /// The batch again, once somebody has read it: readers share it, and what they compute of it.
    again: OnceLock<Arc<StreamBatch>>,
}

impl Kept {
    /// The batch itself.
    pub(super) fn batch(&self) -> &Arc<StreamBatch> {
        match self {
            Self::Own(batch) => batch,
            Self::Packed(packed) => packed.again.get_or_init(|| Arc::new(packed.unpack())),
        }
    }

    pub(super) fn partition(&self) -> u32 {
        match self {
            Self::Own(batch) => batch.partition,
            Self::Packed(packed) => packed.partition,
        }
    }

    /// The first offset that it covers.
    pub(super) fn first(&self) -> Offset {
        match self {
            Self::Own(batch) => batch.first,
            Self::Packed(packed) => packed.first,
        }
    }

    /// One past the last offset that it covers.
    pub(super) fn next(&self) -> Offset {
        match self {
            Self::Own(batch) => batch.next,
            Self::Packed(packed) => packed.next,
        }
    }

    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Own(batch) => batch.rows.num_rows(),
            Self::Packed(packed) => packed.rows as usize,
        }
    }

    pub(super) fn arrival(&self) -> EventTime {
        match self {
            Self::Own(batch) => batch.arrival,
            Self::Packed(packed) => packed.arrival,
        }
    }

    /// Each offset of the batch is that of a row.
    pub(super) fn is_dense(&self) -> bool {
        self.next().0 - self.first().0 == self.rows() as u64
    }
}

impl Packed {
    fn unpack(&self) -> StreamBatch {
        StreamBatch {
            kind: self.kind,
            partition: self.partition,
            first: self.first,
            next: self.next,
            rows: self.all.slice(self.from as usize, self.rows as usize),
            watermark: self.watermark,
            arrival: self.arrival,
            idle: self.idle,
            memo: Memo::default(),
        }
    }
}

/// How many of the latest entries are small batches with columns of their own.
#[derive(Debug, Default)]
pub(super) struct Loose(usize);

impl Loose {
    /// Counts the entry that was put last, and puts the small batches before the latest [`TOGETHER`] in common columns
    /// once there are as many. The latest are left alone: readers share what they have computed of them.
    pub(super) fn settle(&mut self, entries: &mut VecDeque<Entry>) {
        let small = entries.back().is_some_and(|entry| small(entry).is_some());
        self.0 = if small { (self.0 + 1).min(entries.len()) } else { 0 };
        if self.0 == 2 * TOGETHER {
            self.0 = TOGETHER;
            let from = entries.len() - 2 * TOGETHER;
            put_together(entries.range_mut(from..from + TOGETHER).collect());
        }
    }
}

fn small(entry: &Entry) -> Option<&Arc<StreamBatch>> {
    match &entry.item {
        Item::Batch(Kept::Own(batch)) if batch.rows.num_rows() <= SMALL_ROWS && entry.bytes <= SMALL_BYTES => {
            Some(batch)
        }
        Item::Batch(_) | Item::End(_) => None,
    }
}

/// Puts the rows of entries into the same columns. Types that cannot be put together stay as they are.
fn put_together(entries: Vec<&mut Entry>) {
    let batches: Vec<Arc<StreamBatch>> = entries.iter().filter_map(|entry| small(entry).cloned()).collect();
    let Some(schema) = batches.first().map(|batch| batch.rows.schema()) else { return };
    let Ok(all) = concat_batches(&schema, batches.iter().map(|batch| &batch.rows)) else { return };
    let all = Arc::new(all);
    let mut from = 0;
    for (entry, batch) in entries.into_iter().zip(batches) {
        let rows = u32::try_from(batch.rows.num_rows()).expect("the batch is small");
        entry.item = Item::Batch(Kept::Packed(Packed {
            kind: batch.kind,
            partition: batch.partition,
            first: batch.first,
            next: batch.next,
            watermark: batch.watermark,
            arrival: batch.arrival,
            idle: batch.idle,
            all: all.clone(),
            from,
            rows,
            again: OnceLock::new(),
        }));
        from += rows;
    }
}
