//! What lies ready behind a batch.

use super::{Fed, Feed};
use crate::batch::StreamBatch;
use crate::error::EngineError;

impl Feed {
    /// Further batches that are there already, in the order in which [`Feed::next`] would give them, until they have so
    /// many rows.
    pub(crate) fn more(&mut self, rows: usize) -> Result<Vec<StreamBatch>, EngineError> {
        let (mut batches, mut count) = (Vec::new(), 0);
        while count < rows {
            match self.ready.pop_front() {
                Some(Fed::Batch(batch)) => {
                    count += batch.rows.num_rows();
                    batches.push(batch);
                }
                Some(other) => {
                    self.ready.push_front(other);
                    break;
                }
                None => {
                    if !self.pass_single()? && !self.read_ready()? {
                        break;
                    }
                }
            }
        }
        Ok(batches)
    }

    /// Whether there is something already that [`Feed::next`] would give.
    pub(crate) fn lies_ready(&mut self) -> Result<bool, EngineError> {
        while self.ready.is_empty() {
            if !self.pass_single()? && !self.read_ready()? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
