//! Assigns windows row by row.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use squilla_query::WindowSpec;

use super::expression::text;
use super::grid::{Grid, Starts};
use super::{Operator, Output, RESULT_LAG_NS};
use crate::batch::{StreamBatch, physical_schema};
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Windows that one row can be in. Each is a row of its own: more would multiply a batch beyond memory.
const MAX_WINDOWS_PER_ROW: i64 = 100;

/// Gives out each row once for each window that it is in, with `window_start`, `window_end` and `window_time`.
///
/// - Schema: the input's columns, the three of the window, the hidden ones as they were. Rows keep order and event
///   times, the windows of a row ascend. Offsets stay the input's: with hopping windows there may be more rows than
///   offsets.
/// - Watermark: passed on as it is; nothing is judged late here.
/// - State: none.
/// - Errors: a row whose windows do not fit in 64 bits of nanoseconds is set aside and counted `failed`. A row
///   between windows (slide > size) is counted `filtered`. Each window of a row beyond the first is counted as a row
///   in, so that the ledger stays whole.
/// - Example: 00:07 with windows of 10 s every 5 s gives two rows, of 00:00–00:10 and 00:05–00:15.
pub struct AssignWindow {
    schema: SchemaRef,
    grid: Grid,
    counters: Arc<Counters>,
}

impl AssignWindow {
    /// An operator from physical batches of schema `input` to the visible columns `output`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] for windows without length, or more than a hundred a row.
    pub fn new(
        input: &SchemaRef,
        window: WindowSpec,
        output: &SchemaRef,
        counters: Arc<Counters>,
    ) -> Result<Self, EngineError> {
        let grid = Grid::new(window)?;
        let windows = grid.windows_per_row();
        if windows > MAX_WINDOWS_PER_ROW {
            return Err(EngineError::Plan(format!(
                "a row would be in {windows} windows; without GROUP BY at most {MAX_WINDOWS_PER_ROW} are possible"
            )));
        }
        if output.fields().len() + 2 != input.fields().len() + 3 {
            return Err(EngineError::Plan("windows add three columns".into()));
        }
        Ok(Self { schema: physical_schema(output), grid, counters })
    }

    /// For each window of each row: the row, and the window's start.
    fn assign(&self, batch: &StreamBatch) -> (Vec<u32>, Vec<i64>) {
        let times = batch.event_times();
        let (mut rows, mut starts) = (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
        let (mut failed, mut gaps) = (0, 0);
        for (row, &time) in (0u32..).zip(times) {
            if !self.grid.range().contains(&time) {
                failed += 1;
                self.counters.sample("its windows do not fit in 64 bits", &text(&batch.rows, row as usize));
                continue;
            }
            let Starts { first, last } = self.grid.windows(time);
            if first > last {
                gaps += 1;
                continue;
            }
            let mut start = first;
            while start < last {
                rows.push(row);
                starts.push(start);
                start += self.grid.slide();
            }
            rows.push(row);
            starts.push(last);
        }
        add(&self.counters.failed, failed);
        add(&self.counters.filtered, gaps);
        add(&self.counters.rows_in, rows.len() + failed + gaps - times.len());
        (rows, starts)
    }
}

impl Operator for AssignWindow {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let (rows, starts) = self.assign(&batch);
        let one_each = rows.len() == batch.rows.num_rows() && rows.iter().zip(0u32..).all(|(row, at)| *row == at);
        let rows = UInt32Array::from(rows);
        let pick = |column: &ArrayRef| if one_each { Ok(Arc::clone(column)) } else { take(column, &rows, None) };
        let mut columns = batch.rows.columns().iter().map(pick).collect::<Result<Vec<_>, _>>()?;
        let hidden = columns.split_off(columns.len() - 2);
        let ends: Vec<i64> = starts.iter().map(|start| self.grid.end(*start)).collect();
        let starts: Vec<i64> = starts.into_iter().map(|start| self.grid.start(start)).collect();
        let times: Vec<i64> = ends.iter().map(|end| end.saturating_sub(RESULT_LAG_NS)).collect();
        for bounds in [starts, ends, times] {
            columns.push(Arc::new(TimestampNanosecondArray::from(bounds)));
        }
        columns.extend(hidden);
        output.rows.push(batch.with_rows(RecordBatch::try_new(Arc::clone(&self.schema), columns)?));
        Ok(())
    }
}
