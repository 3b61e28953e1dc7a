//! Where a subscription ends that reads a piece of what was kept.

use std::ops::Range;
use std::sync::Arc;

use squilla_query::Until;

use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::Job;
use crate::operator::Progress;

/// Rows of earlier event time are told. It is reached when no such row can come any more.
#[derive(Debug)]
pub(super) struct End {
    moment: EventTime,
    progress: Progress,
}

impl End {
    /// `now`: the time of day, for streams that have had no row.
    pub(super) fn new(until: Until, chain: &[Arc<Job>], now: EventTime, partitions: u32) -> Self {
        let moment = match until {
            Until::Moment(moment) => EventTime(moment),
            Until::Ago(ago) => {
                let sources = chain.iter().filter(|job| job.inputs().branches.is_empty());
                let clock = sources.map(|job| job.output.facts().clock).max();
                let clock = clock.filter(|clock| *clock > EventTime::MIN).unwrap_or(now);
                clock.plus(-i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX))
            }
        };
        Self { moment, progress: Progress::new(partitions) }
    }

    /// The rows of a batch that come before it, behind the first `skip`: each piece of it as it lies there, so that
    /// positions within the batch count all of its rows.
    pub(super) fn runs(&self, batch: &StreamBatch, skip: usize) -> Vec<Range<usize>> {
        // A row that comes when none is expected any more is left out wherever batches are cut.
        let rows = batch.event_times().iter().zip(batch.watermarks()).enumerate().skip(skip);
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (row, (time, watermark)) in rows {
            if *time.max(watermark) >= self.moment.0 {
                continue;
            }
            match runs.last_mut().filter(|run| run.end == row) {
                Some(run) => run.end += 1,
                None => runs.push(row..row + 1),
            }
        }
        runs
    }

    /// A batch has been read.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn pass(&mut self, partition: u32, watermark: EventTime, idle: bool) -> Result<(), EngineError> {
        self.progress.advance(partition, watermark.0, idle)
    }

    /// A partition gets no more rows.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn end_partition(&mut self, partition: u32) -> Result<(), EngineError> {
        self.progress.end(partition)
    }

    /// Whether all rows before it have been read.
    pub(super) fn is_reached(&self) -> bool {
        self.progress.watermark() >= self.moment.0
    }

    /// Whether streams that never had a row have none before it.
    pub(super) fn is_past_without_rows(&self, chain: &[Arc<Job>], now: EventTime) -> bool {
        let mut sources = chain.iter().filter(|job| job.inputs().branches.is_empty());
        now >= self.moment && sources.all(|job| job.output.facts().max_event_time == EventTime::MIN)
    }
}
