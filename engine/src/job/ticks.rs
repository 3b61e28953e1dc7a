//! Running results over bounded input: told at moments of event time, wherever batches end.

use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::operator::{Operator, Output};

/// Processes a batch with the changes that each row makes, wherever batches end.
pub(super) fn row_by_row(
    operator: &mut dyn Operator,
    batch: &StreamBatch,
    output: &mut Output,
) -> Result<(), EngineError> {
    let watermarks = batch.watermarks().to_vec();
    for at in 0..watermarks.len() {
        let mut row = batch.with_rows(batch.rows.slice(at, 1));
        row.watermark = watermarks.get(at + 1).map_or(batch.watermark, |watermark| EventTime(*watermark));
        operator.process(row, output)?;
        operator.tick(output)?;
    }
    if watermarks.is_empty() { operator.process(batch.with_rows(batch.rows.clone()), output) } else { Ok(()) }
}

/// Processes a batch with running results by event time: a tick falls between two rows, wherever batches end.
pub(super) fn ticking(
    operator: &mut dyn Operator,
    batch: StreamBatch,
    interval: i64,
    next_tick: &mut EventTime,
    output: &mut Output,
) -> Result<(), EngineError> {
    let (times, watermarks) = (batch.event_times().to_vec(), batch.watermarks().to_vec());
    let mut from = 0;
    for (at, time) in times.iter().enumerate() {
        if *next_tick == EventTime::MIN || *time >= next_tick.0 {
            if *next_tick != EventTime::MIN {
                let mut slice = batch.with_rows(batch.rows.slice(from, at - from));
                slice.watermark = EventTime(watermarks[at]);
                operator.process(slice, output)?;
                operator.tick(output)?;
                from = at;
            }
            *next_tick = EventTime(time.div_euclid(interval).saturating_add(1).saturating_mul(interval));
        }
    }
    let rest = batch.rows.slice(from, times.len() - from);
    operator.process(batch.with_rows(rest), output)
}
