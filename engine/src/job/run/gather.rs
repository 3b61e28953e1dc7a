//! Batches that lie ready, processed at once.

use super::{Task, Work};
use crate::batch::StreamBatch;
use crate::error::EngineError;
use crate::operator::Output;

/// Rows that are processed at once at the most: enough that helpers are worth their coming, and few beside what windows
/// hold.
const GATHERED_ROWS: usize = 65_536;

impl Task {
    /// Processes a batch together with those that lie ready behind it. Not where the job goes on after a crash: that has
    /// to know at which batch it was.
    pub(super) fn gather(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let more = self.feed.more(GATHERED_ROWS.saturating_sub(batch.rows.num_rows()))?;
        more.iter().try_for_each(|batch| self.late_from(batch))?;
        let batches = std::iter::once(batch).chain(more).collect();
        if let Work::Operator(operator) = &mut self.work {
            operator.process_all(batches, output)?;
        }
        Ok(())
    }
}
