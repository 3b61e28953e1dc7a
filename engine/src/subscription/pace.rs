//! A replay at the pace at which rows came, or a multiple of it.

use std::sync::Arc;

use crate::batch::StreamBatch;
use crate::clock::EventTime;

/// Holds each batch until as long after the first as it arrived after it, divided by the speed.
#[derive(Debug)]
pub(super) struct Pace {
    speed: f64,
    /// When the first batch with rows arrived, and when it was read.
    began: Option<(EventTime, EventTime)>,
    /// A batch that is held, and until when. The reader reads no further meanwhile.
    held: Option<(Arc<StreamBatch>, EventTime)>,
}

impl Pace {
    pub(super) fn new(speed: f64) -> Self {
        Self { speed, began: None, held: None }
    }

    /// A batch that was read; `None`: it is held.
    pub(super) fn take(&mut self, batch: Arc<StreamBatch>, now: EventTime) -> Option<Arc<StreamBatch>> {
        let Some((arrival, read)) = self.began else {
            if batch.rows.num_rows() > 0 {
                self.began = Some((batch.arrival, now));
            }
            return Some(batch);
        };
        let after_ns = batch.arrival.0.saturating_sub(arrival.0) as f64 / self.speed;
        // The cast is cut to the range.
        let due = read.plus(after_ns as i64);
        if due <= now {
            return Some(batch);
        }
        self.held = Some((batch, due));
        None
    }

    /// Until when a batch is held; `None`: none is.
    pub(super) fn due(&self) -> Option<EventTime> {
        self.held.as_ref().map(|(_, due)| *due)
    }

    /// The batch that is held, if its time has come.
    pub(super) fn release(&mut self, now: EventTime) -> Option<Arc<StreamBatch>> {
        self.held.take_if(|(_, due)| *due <= now).map(|(batch, _)| batch)
    }

    /// Rows were told otherwise: from now on the pace counts from the batch that comes next.
    pub(super) fn begin_again(&mut self, now: EventTime) {
        self.began = None;
        if let Some((batch, due)) = &mut self.held {
            *due = now;
            self.began = Some((batch.arrival, now));
        }
    }
}
