//! Rows as they lie in a stream.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, AsArray, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use crate::clock::EventTime;
use crate::stream::Offset;

/// Name of the hidden column that holds each row's event time, in nanoseconds, never null.
pub const EVENT_TIME: &str = "__event_time";
/// Name of the hidden column that holds, for each row, the watermark that the rows before it in its partition
/// imply (rows that a filter has dropped since included), in nanoseconds, never null; `i64::MIN` when there is none.
///
/// With it, whether a row is late depends neither on how rows were batched nor on what was filtered away.
pub const WATERMARK: &str = "__watermark";

/// Bytes that a column takes beside its values.
const COLUMN_BYTES: usize = 128;

/// What the rows of a batch do to what was told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// They are new and final: the only kind on streams that queries read.
    Append,
    /// Running results: each replaces what was told for its key.
    Update,
    /// Final results of a closed window: each replaces what was told for its key, for the last time.
    Final,
    /// What was told for these keys is withdrawn. Columns beside the key are null or stale.
    Delete,
}

/// A batch of rows of one partition, at its place in a stream.
#[derive(Debug)]
pub struct StreamBatch {
    /// What the rows do.
    pub kind: RowKind,
    /// The partition, from zero.
    pub partition: u32,
    /// The first offset that the batch covers. Offsets ascend and are never reused.
    pub first: Offset,
    /// One past the last offset that it covers. At least as far from `first` as there are rows; farther when rows
    /// were filtered away: the batch stands for all of them. Nearer only where hopping windows are assigned without an
    /// aggregate, and lists are taken apart: each row then comes out several times, at the offsets of the input.
    pub next: Offset,
    /// The rows: the visible columns, then [`EVENT_TIME`] and [`WATERMARK`]. May have no rows: then the batch
    /// carries its watermark only.
    pub rows: RecordBatch,
    /// The partition's watermark behind the last row: no earlier event is expected. Never goes back.
    pub watermark: EventTime,
    /// When the rows arrived, by the wall clock. Logged: a replay has the same.
    pub arrival: EventTime,
    /// The partition was found idle: until its next batch it does not hold back the others.
    pub idle: bool,
    /// Room for what readers make of the batch and share: an encoded frame.
    pub memo: Memo,
}

impl StreamBatch {
    /// A batch that continues `self`'s place in the stream with other rows.
    pub fn with_rows(&self, rows: RecordBatch) -> Self {
        Self {
            kind: self.kind,
            partition: self.partition,
            first: self.first,
            next: self.next,
            rows,
            watermark: self.watermark,
            arrival: self.arrival,
            idle: self.idle,
            memo: Memo::default(),
        }
    }

    /// Each row's event time in nanoseconds.
    pub fn event_times(&self) -> &[i64] {
        hidden(&self.rows, 2).values()
    }

    /// Each row's watermark in nanoseconds: see [`WATERMARK`].
    pub fn watermarks(&self) -> &[i64] {
        hidden(&self.rows, 1).values()
    }

    /// The latest of the rows' event times; `MIN` where there are none.
    pub fn latest(&self) -> EventTime {
        EventTime(arrow::compute::max(hidden(&self.rows, 2)).unwrap_or(i64::MIN))
    }

    /// The rows without the hidden columns.
    pub fn visible(&self) -> RecordBatch {
        let columns: Vec<usize> = (0..self.rows.num_columns() - 2).collect();
        self.rows.project(&columns).expect("the hidden columns are the last two")
    }

    /// Bytes that the rows take: of a slice its own part, not the whole of the buffers that it shares with others.
    pub fn bytes(&self) -> usize {
        let columns = self.rows.columns().iter().map(|column| column_bytes(column.as_ref()) + COLUMN_BYTES);
        columns.sum::<usize>() + size_of::<Self>()
    }
}

/// Bytes of a column's values.
fn column_bytes(column: &dyn Array) -> usize {
    let nulls = column.nulls().map_or(0, |nulls| nulls.len().div_ceil(8));
    // The common types without a description made of each: small batches come by the thousand.
    if let Some(width) = column.data_type().primitive_width() {
        return column.len() * width + nulls;
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        let offsets = texts.value_offsets();
        let values = offsets.last().zip(offsets.first()).map_or(0, |(last, first)| (last - first) as usize);
        return values + size_of_val(offsets) + nulls;
    }
    let own = column.to_data().get_slice_memory_size();
    // The size is not known of a few rare types; then the whole is taken.
    own.unwrap_or_else(|_| column.get_array_memory_size())
}

fn hidden(rows: &RecordBatch, from_end: usize) -> &TimestampNanosecondArray {
    rows.column(rows.num_columns() - from_end).as_primitive()
}

/// The visible fields with the hidden ones behind them.
pub fn physical_schema(visible: &Schema) -> SchemaRef {
    let hidden = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let mut fields: Vec<_> = visible.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(EVENT_TIME, hidden.clone(), false)));
    fields.push(Arc::new(Field::new(WATERMARK, hidden, false)));
    Arc::new(Schema::new_with_metadata(fields, visible.metadata().clone()))
}

/// The fields without the hidden ones.
pub fn visible_schema(physical: &Schema) -> SchemaRef {
    let visible: Vec<_> =
        physical.fields().iter().filter(|f| f.name() != EVENT_TIME && f.name() != WATERMARK).cloned().collect();
    Arc::new(Schema::new_with_metadata(visible, physical.metadata().clone()))
}

/// A value that the first reader computes and the others find.
#[derive(Default)]
pub struct Memo(OnceLock<Box<dyn Any + Send + Sync>>);

impl Memo {
    /// The value, computed at the first call. `None` when a value of another type is there already.
    pub fn get_or_init<T: Send + Sync + 'static>(&self, compute: impl FnOnce() -> T) -> Option<&T> {
        self.0.get_or_init(|| Box::new(compute())).downcast_ref()
    }
}

impl std::fmt::Debug for Memo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.get().is_some() { "Memo(set)" } else { "Memo(empty)" })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray, TimestampNanosecondArray};

    use super::*;

    #[test]
    fn a_slice_is_not_charged_for_the_buffers_that_it_shares() {
        let rows = 10_000;
        let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("row {row}"))));
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter_values(0..rows));
        let visible = Schema::new(vec![Field::new("name", DataType::Utf8, true)]);
        let all = RecordBatch::try_new(physical_schema(&visible), vec![names, times.clone(), times]);
        let all = all.expect("the columns fit");
        let of = |rows: RecordBatch| {
            let batch = StreamBatch {
                kind: RowKind::Append,
                partition: 0,
                first: Offset(0),
                next: Offset(0),
                rows,
                watermark: EventTime(0),
                arrival: EventTime(0),
                idle: false,
                memo: Memo::default(),
            };
            batch.bytes()
        };
        assert!(of(all.clone()) > 250_000);
        let known: usize = all.columns().iter().map(|it| it.to_data().get_slice_memory_size().expect("known")).sum();
        let found: usize = all.columns().iter().map(|it| column_bytes(it.as_ref())).sum();
        assert_eq!(found, known);
        assert!(of(all.slice(5_000, 2)) < 1_000);
    }
}
