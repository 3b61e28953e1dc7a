//! Rows that came too late, for those who want to see them.

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use crate::error::EngineError;

/// Rows of a partition that were late for all that they belong to.
#[derive(Debug)]
pub struct LateRows {
    /// The partition of the input.
    pub partition: u32,
    /// The rows, with the hidden columns last.
    pub rows: RecordBatch,
    /// For each row whether it was in time by its own watermark, but not by what had been told while its partition was
    /// taken for idle.
    pub idle: Vec<bool>,
    /// The watermark by which that had been told.
    pub told_at: i64,
}

/// A row of a batch that was late, and whether that was by reason of its partition having been idle.
pub(super) type Tardy = (u32, bool);

impl LateRows {
    /// The late rows of a batch; `None` when there are none.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn pick(
        rows: &RecordBatch,
        partition: u32,
        tardy: &[Tardy],
        told_at: i64,
    ) -> Result<Option<Self>, EngineError> {
        if tardy.is_empty() {
            return Ok(None);
        }
        let picked: UInt32Array = tardy.iter().map(|(row, _)| Some(*row)).collect();
        debug_assert_eq!(picked.null_count(), 0);
        let idle = tardy.iter().map(|(_, idle)| *idle).collect();
        Ok(Some(Self { partition, rows: take_record_batch(rows, &picked)?, idle, told_at }))
    }
}
