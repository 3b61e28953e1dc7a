//! What a join tells: batches of one partition with dense offsets.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::SchemaRef;

use super::super::{Output, State};
use crate::batch::{Memo, RowKind, StreamBatch};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;
use crate::stream::Offset;

/// Rows of a batch at the most.
const MAX_BATCH_ROWS: usize = 8192;

/// A series of batches of appended rows.
pub(super) struct Told {
    schema: SchemaRef,
    next: u64,
    watermark: i64,
    idle: bool,
    /// Bytes of rows told since the last step began.
    step_bytes: usize,
    counters: Arc<Counters>,
}

impl Told {
    /// Batches of the physical schema `schema`.
    pub(super) fn new(schema: SchemaRef, counters: Arc<Counters>) -> Self {
        Self { schema, next: 0, watermark: i64::MIN, idle: false, step_bytes: 0, counters }
    }

    /// Fields of the batches.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Puts how far it has come behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn save(&self, state: &mut State) -> Result<(), EngineError> {
        state.put(&(self.next, self.watermark, self.idle))
    }

    /// Takes it from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        (self.next, self.watermark, self.idle) = state.take()?;
        Ok(())
    }

    /// Bytes of rows told in this step.
    pub(super) fn step_bytes(&self) -> usize {
        self.step_bytes
    }

    /// Tells rows; none of them has happened before the watermark that was told last.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn rows(
        &mut self,
        mut columns: Vec<ArrayRef>,
        times: ArrayRef,
        arrival: EventTime,
        output: &mut Output,
    ) -> Result<(), EngineError> {
        let len = times.len();
        if len == 0 {
            return Ok(());
        }
        columns.push(times);
        columns.push(Arc::new(TimestampNanosecondArray::from_value(self.watermark, len)));
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        add(&self.counters.rows_out, len);
        let mut first = 0;
        while first < len {
            let count = MAX_BATCH_ROWS.min(len - first);
            let batch = self.batch(rows.slice(first, count), arrival);
            self.step_bytes += batch.bytes();
            output.rows.push(batch);
            first += count;
        }
        Ok(())
    }

    /// Ends a step: what was told since `from` carries the new watermark, or an empty batch does.
    pub(super) fn advance(&mut self, watermark: i64, idle: bool, arrival: EventTime, from: usize, output: &mut Output) {
        let watermark = watermark.max(self.watermark);
        let news = watermark > self.watermark || idle != self.idle;
        (self.watermark, self.idle, self.step_bytes) = (watermark, idle, 0);
        match output.rows.get_mut(from..).and_then(|told| told.last_mut()) {
            Some(last) => (last.watermark, last.idle) = (EventTime(watermark), idle),
            None if news => {
                let none = RecordBatch::new_empty(Arc::clone(&self.schema));
                let batch = self.batch(none, arrival);
                output.rows.push(batch);
            }
            None => {}
        }
    }

    fn batch(&mut self, rows: RecordBatch, arrival: EventTime) -> StreamBatch {
        let first = Offset(self.next);
        self.next += rows.num_rows() as u64;
        StreamBatch {
            kind: RowKind::Append,
            partition: 0,
            first,
            next: Offset(self.next),
            rows,
            watermark: EventTime(self.watermark),
            arrival,
            idle: self.idle,
            memo: Memo::default(),
        }
    }
}
