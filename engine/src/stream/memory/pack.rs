//! Small batches put together: a batch of one row takes hundreds of bytes a column for buffers of its own.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::compute::concat_batches;

use super::log::{Entry, Item};
use crate::batch::StreamBatch;

/// Rows of a batch that is small, at the most.
const SMALL_ROWS: usize = 128;
/// Bytes of a batch that is small, at the most: more would be copied in vain, and kept for as long as its neighbours.
const SMALL_BYTES: usize = 16 << 10;
/// Small batches whose rows come to lie in the same buffers.
const TOGETHER: usize = 64;

/// How many of the latest entries are small batches with buffers of their own.
#[derive(Debug, Default)]
pub(super) struct Loose(usize);

impl Loose {
    /// Counts the entry that was put last, and puts the small batches before the latest [`TOGETHER`] in common buffers
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
        Item::Batch(batch) if batch.rows.num_rows() <= SMALL_ROWS && entry.bytes <= SMALL_BYTES => Some(batch),
        Item::Batch(_) | Item::End(_) => None,
    }
}

/// Makes the rows of entries slices of the same columns. Types that cannot be put together stay as they are.
fn put_together(entries: Vec<&mut Entry>) {
    let batches: Vec<Arc<StreamBatch>> = entries.iter().filter_map(|entry| small(entry).cloned()).collect();
    let Some(schema) = batches.first().map(|batch| batch.rows.schema()) else { return };
    let Ok(all) = concat_batches(&schema, batches.iter().map(|batch| &batch.rows)) else { return };
    let mut first = 0;
    for (entry, batch) in entries.into_iter().zip(batches) {
        let rows = batch.rows.num_rows();
        entry.item = Item::Batch(Arc::new(batch.with_rows(all.slice(first, rows))));
        first += rows;
    }
}
