//! Batches of the results of windows.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;

use super::RESULT_LAG_NS;
use super::grouping::Results;
use crate::batch::{Memo, RowKind, StreamBatch};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::stream::Offset;

/// Rows of a batch of results at the most.
const MAX_BATCH_ROWS: usize = 8192;

/// A series of batches with dense offsets from zero, in partition 0.
#[derive(Debug, Clone)]
pub(super) struct Series {
    schema: SchemaRef,
    next: u64,
}

/// What is said of the results of a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saying {
    pub(super) kind: RowKind,
    /// The window's bounds.
    pub(super) start: i64,
    pub(super) end: i64,
    /// The watermark before the first batch and after the last.
    pub(super) before: i64,
    pub(super) after: i64,
    pub(super) arrival: EventTime,
}

/// Event times of results, and the watermark before each.
#[derive(Debug, Default)]
pub(super) struct Moments {
    pub(super) times: Vec<i64>,
    pub(super) before: Vec<i64>,
}

impl Series {
    /// Batches of the physical schema `schema`.
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, next: 0 }
    }

    /// The offset of the next row, which may be set.
    pub(super) fn next(&mut self) -> &mut u64 {
        &mut self.next
    }

    /// The results of a window, in batches of at most 8,192 rows.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn results(
        &mut self,
        results: Results,
        saying: &Saying,
        batches: &mut Vec<StreamBatch>,
    ) -> Result<(), EngineError> {
        let Results { columns, len } = results;
        let times = |time: i64| -> ArrayRef { Arc::new(TimestampNanosecondArray::from_value(time, len)) };
        let mut all = vec![times(saying.start), times(saying.end)];
        for (column, field) in columns.into_iter().zip(&self.schema.fields()[2..]) {
            // Aggregates are not exact about the names of the fields of nested types.
            let exact = column.data_type() == field.data_type();
            all.push(if exact { column } else { cast(&column, field.data_type())? });
        }
        self.rows(all, len, saying, batches)
    }

    /// Rows of a window, all visible columns given, in batches of at most 8,192 rows.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn rows(
        &mut self,
        visible: Vec<ArrayRef>,
        len: usize,
        saying: &Saying,
        batches: &mut Vec<StreamBatch>,
    ) -> Result<(), EngineError> {
        let times = |time: i64| -> ArrayRef { Arc::new(TimestampNanosecondArray::from_value(time, len)) };
        let mut all = visible;
        all.push(times(saying.end.saturating_sub(RESULT_LAG_NS)));
        all.push(times(saying.before));
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), all)?;
        let mut first = 0;
        while first < len {
            let count = MAX_BATCH_ROWS.min(len - first);
            let watermark = if first + count == len { saying.after } else { saying.before };
            batches.push(self.batch(saying.kind, rows.slice(first, count), watermark, saying.arrival, false));
            first += count;
        }
        Ok(())
    }

    /// Rows each of a window of its own, in batches of at most 8,192. `columns` are the visible ones.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn spread(
        &mut self,
        kind: RowKind,
        columns: Vec<ArrayRef>,
        moments: Moments,
        after: i64,
        arrival: EventTime,
        batches: &mut Vec<StreamBatch>,
    ) -> Result<(), EngineError> {
        let Moments { times, before } = moments;
        let len = times.len();
        if len == 0 {
            return Ok(());
        }
        let mut all = Vec::with_capacity(self.schema.fields().len());
        for (column, field) in columns.into_iter().zip(self.schema.fields()) {
            let exact = column.data_type() == field.data_type();
            all.push(if exact { column } else { cast(&column, field.data_type())? });
        }
        all.push(Arc::new(TimestampNanosecondArray::from(times)));
        all.push(Arc::new(TimestampNanosecondArray::from(before.clone())));
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), all)?;
        let mut first = 0;
        while first < len {
            let count = MAX_BATCH_ROWS.min(len - first);
            let watermark = if first + count == len { after } else { before[first + count - 1] };
            batches.push(self.batch(kind, rows.slice(first, count), watermark, arrival, false));
            first += count;
        }
        Ok(())
    }

    /// Rows of the whole schema, in batches of at most 8,192.
    pub(super) fn batches(
        &mut self,
        kind: RowKind,
        rows: &RecordBatch,
        watermark: i64,
        arrival: EventTime,
        batches: &mut Vec<StreamBatch>,
    ) {
        let mut first = 0;
        while first < rows.num_rows() {
            let count = MAX_BATCH_ROWS.min(rows.num_rows() - first);
            batches.push(self.batch(kind, rows.slice(first, count), watermark, arrival, false));
            first += count;
        }
    }

    /// A batch without rows, which carries a watermark on.
    pub(super) fn progress(&mut self, watermark: i64, arrival: EventTime, idle: bool) -> StreamBatch {
        let rows = RecordBatch::new_empty(Arc::clone(&self.schema));
        self.batch(RowKind::Append, rows, watermark, arrival, idle)
    }

    fn batch(
        &mut self,
        kind: RowKind,
        rows: RecordBatch,
        watermark: i64,
        arrival: EventTime,
        idle: bool,
    ) -> StreamBatch {
        let first = Offset(self.next);
        self.next += rows.num_rows() as u64;
        StreamBatch {
            kind,
            partition: 0,
            first,
            next: Offset(self.next),
            rows,
            watermark: EventTime(watermark),
            arrival,
            idle,
            memo: Memo::default(),
        }
    }
}
