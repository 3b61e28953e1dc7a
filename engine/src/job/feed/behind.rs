//! A feed that goes on behind what others have told to the same readers.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampNanosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampNanosecondType;

use super::{Feed, Inlet};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::counters::Counters;
use crate::error::EngineError;
use crate::job::skipped::leave_out;

/// What was told before the rows of a branch.
#[derive(Clone)]
pub(crate) struct Behind {
    /// For each of the branch's partitions the watermark that its readers were told: it does not go back.
    marks: Vec<EventTime>,
    /// Rows with earlier event times were told already: they are results of windows that others have closed. `MIN`: none.
    told: EventTime,
}

impl Feed {
    /// Goes on behind what was told: `marks`, for each partition, its watermark. Rows with event times before `until` were
    /// told, too.
    pub(crate) fn set_behind(&mut self, marks: &[EventTime], until: EventTime) {
        for inlet in &mut self.branches {
            let from = inlet.first_partition as usize;
            let marks = (from..from + inlet.partitions as usize).map(|at| marks.get(at).copied());
            let marks: Vec<EventTime> = marks.map(|mark| mark.unwrap_or(EventTime::MIN)).collect();
            let told = marks.iter().any(|mark| *mark > EventTime::MIN);
            inlet.behind = told.then_some(Behind { marks, told: until });
        }
    }

    /// Whether some of what comes was told, or its watermark.
    pub(crate) fn is_behind(&self) -> bool {
        self.branches.iter().any(|inlet| inlet.behind.is_some())
    }

    /// The same as another feed, of branches that are no others.
    pub(crate) fn behind_as(&mut self, other: &Self) {
        for (inlet, other) in self.branches.iter_mut().zip(&other.branches) {
            inlet.behind.clone_from(&other.behind);
        }
    }
}

impl Inlet {
    /// Leaves out what was skipped.
    pub(super) fn leave_skipped(
        &self,
        batch: StreamBatch,
        counters: &Arc<Counters>,
    ) -> Result<StreamBatch, EngineError> {
        if self.skipped.is_empty() { Ok(batch) } else { leave_out(&self.skipped, batch, counters) }
    }

    /// Leaves out what was told, and keeps the watermark from going back.
    pub(super) fn go_behind(&mut self, batch: StreamBatch) -> Result<StreamBatch, EngineError> {
        let Some(behind) = &mut self.behind else { return Ok(batch) };
        let Some(mark) = behind.marks.get_mut(batch.partition as usize) else { return Ok(batch) };
        if *mark == EventTime::MIN {
            return Ok(batch);
        }
        let (at, reached) = (*mark, batch.watermark);
        let mut rows = batch.rows.clone();
        if behind.told > EventTime::MIN {
            let later: BooleanArray = batch.event_times().iter().map(|time| Some(*time >= behind.told.0)).collect();
            rows = filter_record_batch(&rows, &later)?;
        }
        let mut passed = batch.with_rows(with_least_watermark(&rows, at)?);
        passed.watermark = reached.max(at);
        if reached >= at {
            // All that follows is later.
            *mark = EventTime::MIN;
            if behind.marks.iter().all(|mark| *mark == EventTime::MIN) {
                self.behind = None;
            }
        }
        Ok(passed)
    }
}

/// Rows whose watermarks are this or later.
fn with_least_watermark(rows: &RecordBatch, least: EventTime) -> Result<RecordBatch, EngineError> {
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    if let Some(last) = columns.last_mut() {
        let marks = last.as_primitive::<TimestampNanosecondType>().values().iter();
        *last = Arc::new(TimestampNanosecondArray::from_iter_values(marks.map(|mark| (*mark).max(least.0))));
    }
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}
