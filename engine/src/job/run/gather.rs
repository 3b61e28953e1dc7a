//! Batches that lie ready, processed at once.

use super::{Late, Task, Work};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::operator::Output;
use crate::stream::hand_on_woken;

/// Rows that are processed at once at the most: enough that helpers are worth their coming, and few beside what windows
/// hold.
const GATHERED_ROWS: usize = 65_536;
/// Times that others are let go first without anything more having come. Whoever writes the input is often on this very
/// thread: who never let it go on would get one batch at a time, and leave the other threads nothing to do.
const FRUITLESS_WAITS: usize = 2;

impl Task {
    /// Processes a batch together with those that lie ready behind it or come as soon as others are let go on. Not where
    /// the job goes on after a crash: that has to know at which batch it was.
    pub(super) async fn gather(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let mut rows = batch.rows.num_rows();
        let (mut batches, mut fruitless) = (vec![batch], 0);
        // Those who read what comes too late are told it before the watermark that is behind it.
        let alone = self.job.late.as_ref().is_some_and(Late::is_wanted);
        while !alone && rows < GATHERED_ROWS && fruitless < FRUITLESS_WAITS {
            let mut more = self.feed.more(GATHERED_ROWS - rows)?;
            more.iter().try_for_each(|batch| self.late_from(batch))?;
            fruitless = if more.is_empty() { fruitless + 1 } else { 0 };
            rows += more.iter().map(|batch| batch.rows.num_rows()).sum::<usize>();
            batches.append(&mut more);
            if rows < GATHERED_ROWS {
                tokio::task::yield_now().await;
            }
        }
        let Work::Operator(operator) = &mut self.work else { return Ok(()) };
        hand_on_woken();
        operator.process_all(batches, output)?;
        // Nothing is put off while nothing else is to be done.
        while !self.feed.lies_ready()? {
            tokio::task::yield_now().await;
            if self.feed.lies_ready()? || !operator.catch_up(output)? {
                break;
            }
        }
        Ok(())
    }

    /// Writes what batches have come to.
    pub(super) async fn hand_on(&mut self, output: Output, arrival: EventTime) -> Result<(), EngineError> {
        let told = self.shared.config.lossless && !output.rows.is_empty();
        self.write(output, arrival).await?;
        if told {
            hand_on_woken();
        }
        Ok(())
    }
}
