//! Processing time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::SchemaRef;

use super::{Operator, Output, State};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::error::EngineError;

/// Gives rows the moment of their arrival as their event time.
///
/// - Schema: physical batches in, the same out, in the same order; only the hidden columns are other ones.
/// - Watermark: that of a partition is the arrival of its latest batch: a later row arrives later. Sources tell batches
///   without rows now and then, so that it moves when no row comes. Arrivals are logged: a replay has the same. A partition
///   is not marked idle, for it is none by the clock.
/// - State: none beside the latest arrival of each partition. A wall clock that goes back stands still here.
/// - Errors: none.
/// - Example: `GROUP BY tumble(PROCTIME(), '10s')` counts the rows that came within each ten seconds.
///
/// Processing-time windows as in section 2.2 of Akidau et al., "The dataflow model" (VLDB 2015).
pub struct ByArrival {
    schema: SchemaRef,
    latest: BTreeMap<u32, EventTime>,
}

impl ByArrival {
    /// For rows of the physical fields `input`.
    pub fn new(input: &SchemaRef) -> Self {
        Self { schema: Arc::clone(input), latest: BTreeMap::new() }
    }
}

impl Operator for ByArrival {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let latest = self.latest.entry(batch.partition).or_insert(EventTime::MIN);
        *latest = (*latest).max(batch.arrival);
        let mut columns: Vec<ArrayRef> = batch.rows.columns().to_vec();
        let hidden = columns.len() - 2;
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from_value(latest.0, batch.rows.num_rows()));
        columns.splice(hidden.., [Arc::clone(&times), times]);
        let mut told = batch.with_rows(RecordBatch::try_new(batch.rows.schema(), columns)?);
        (told.watermark, told.idle) = (*latest, false);
        output.rows.push(told);
        Ok(())
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        state.put(&self.latest.iter().collect::<Vec<_>>())
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        let latest: Vec<(u32, EventTime)> = state.take()?;
        self.latest = latest.into_iter().collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::check::Checked;
    use crate::operator::testing::{Feed, MS};

    #[test]
    fn rows_go_by_their_arrival_and_the_clock_never_goes_back() {
        let mut feed = Feed::new(0, 1);
        let first = feed.batch(0, &[(50, None, None), (10, None, None)]);
        let mut operator = Checked::new(ByArrival::new(&first.rows.schema()), 1);
        let mut output = Output::default();
        for (batch, arrival) in [(first, 100), (feed.idle(0), 120), (feed.batch(0, &[(60, None, None)]), 110)] {
            let mut batch = batch;
            batch.arrival = EventTime(arrival * MS);
            operator.process(batch, &mut output).expect("it takes a batch");
        }
        let times: Vec<Vec<i64>> = output.rows.iter().map(|batch| batch.event_times().to_vec()).collect();
        assert_eq!(times, [vec![100 * MS, 100 * MS], vec![], vec![120 * MS]]);
        let marks: Vec<(i64, bool)> = output.rows.iter().map(|batch| (batch.watermark.0 / MS, batch.idle)).collect();
        assert_eq!(marks, [(100, false), (120, false), (120, false)]);
    }
}
