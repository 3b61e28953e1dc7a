//! Where a subscription ends that wants so many rows.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use squilla_query::Query;

use super::SubscribeOptions;
use super::step::head;
use super::{Completion, Subscription, SubscriptionEvent};
use crate::batch::StreamBatch;
use crate::error::EngineError;
use crate::stream::Position;

/// How many rows are wanted: what the query says, or its reader, whichever is less. `None`: all.
///
/// # Errors
/// [`EngineError::Plan`]: rows that replace each other are not counted.
pub(super) fn limit(query: &Query, options: &SubscribeOptions, changing: bool) -> Result<Option<u64>, EngineError> {
    if changing && options.limit.is_some() {
        let message = "limit is for rows and for windows that have closed: leave out EMIT, or limit";
        return Err(EngineError::Plan(message.to_owned()));
    }
    Ok(query.limit.into_iter().chain(options.limit).min())
}

impl Subscription {
    /// How many rows it still tells; `None`: no end is set. Whoever comes back asks for so many.
    pub fn left(&self) -> Option<u64> {
        self.info.limit.map(|limit| limit.saturating_sub(self.admission.live.rows.load(Relaxed)))
    }

    /// Queues the rows of a batch behind the first `skip`, as far as they are wanted. Those behind are nobody's loss.
    pub(super) fn queue(&mut self, batch: Arc<StreamBatch>, skip: usize, position: Position) {
        if self.done {
            return;
        }
        let rows = batch.rows.num_rows() - skip;
        let wanted = self.wanted.map_or(rows, |wanted| usize::try_from(wanted).unwrap_or(usize::MAX).min(rows));
        let (batch, position) = if wanted < rows { head(&batch, skip + wanted, &position) } else { (batch, position) };
        self.ready.push_back(SubscriptionEvent::Rows { batch, skip, position, snapshot: false });
        self.wanted = self.wanted.map(|before| before - wanted as u64);
        self.complete_at_limit();
    }

    /// Completes a subscription that wants no more rows. Its jobs are held up by it no longer, and end soon unless
    /// others use them: nobody comes back for what follows.
    pub(super) fn complete_at_limit(&mut self) {
        if self.wanted != Some(0) || self.done {
            return;
        }
        self.done = true;
        self.reader.hold(false);
        self.lease.unsubscribe();
        self.relations.values().for_each(|lease| lease.unsubscribe());
        self.ready.push_back(SubscriptionEvent::Complete(Completion::Limit));
    }
}
