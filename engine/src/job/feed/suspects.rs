//! What a feed read last, and rows that are passed on one by one since a job crashed among them.

use std::sync::Arc;

use super::Feed;
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::harm::Place;
use crate::stream::{Offset, Position};

impl Feed {
    /// Applies the branch's own steps to what was read, or has its rows come one by one.
    pub(super) fn read(&mut self, at: usize, batch: Arc<StreamBatch>) -> Result<(), EngineError> {
        if self.exact.as_mut().is_some_and(|exact| !exact.note(at, &batch)) {
            return Ok(());
        }
        let place = self.place(at, &batch);
        if self.suspects.is_some_and(|suspects| suspects.overlaps(&place)) && is_dense(&batch) {
            self.singles.extend(one_by_one(&batch).map(|row| (at, Arc::new(row))));
            return Ok(());
        }
        self.pass(at, batch)
    }

    /// Reads a batch once more that the only branch lies behind.
    pub(crate) fn read_again(&mut self, batch: Arc<StreamBatch>) {
        self.singles.push_back((0, batch));
    }

    /// Passes on the next of the rows that come one by one; false when there is none.
    pub(super) fn pass_single(&mut self) -> Result<bool, EngineError> {
        let Some((at, row)) = self.singles.pop_front() else { return Ok(false) };
        self.pass(at, row)?;
        Ok(true)
    }

    fn pass(&mut self, at: usize, batch: Arc<StreamBatch>) -> Result<(), EngineError> {
        self.last = Some((at, batch.clone()));
        self.branches[at].pass(batch.with_rows(batch.rows.clone()), &self.counters, &mut self.ready)
    }

    fn place(&self, at: usize, batch: &StreamBatch) -> Place {
        let partition = self.branches[at].first_partition + batch.partition;
        Place { partition, first: batch.first, next: batch.next }
    }

    /// Where what is worked on was read, in the feed's numbering; `None`: nothing is.
    pub(crate) fn reading(&self) -> Option<Place> {
        self.last.as_ref().map(|(at, batch)| self.place(*at, batch))
    }

    /// The branch and the rows that are worked on.
    pub(crate) fn last_read(&self) -> Option<(usize, &StreamBatch)> {
        self.last.as_ref().map(|(at, batch)| (*at, batch.as_ref()))
    }

    /// Where the branches are, rows apart that are still to come one by one.
    pub(crate) fn done(&self) -> Vec<Position> {
        let mut positions = self.positions();
        if let Some((at, row)) = self.singles.front() {
            positions[*at].offsets.insert(row.partition, (row.first, 0));
        }
        positions
    }

    /// Has these rows come one by one; `None`: all as they lie.
    pub(crate) fn try_one_by_one(&mut self, suspects: Option<Place>) {
        self.suspects = suspects;
    }

    /// Whether whoever writes its inputs waits for it.
    pub(crate) fn holding(&self) -> bool {
        self.branches.iter().any(|inlet| inlet.holding)
    }
}

/// Each offset of the batch is that of a row.
fn is_dense(batch: &StreamBatch) -> bool {
    batch.next.0 - batch.first.0 == batch.rows.num_rows() as u64
}

/// The rows of a batch, each as one of its own.
fn one_by_one(batch: &StreamBatch) -> impl Iterator<Item = StreamBatch> {
    let watermarks = batch.watermarks().to_vec();
    (0..batch.rows.num_rows()).map(move |at| {
        let mut row = batch.with_rows(batch.rows.slice(at, 1));
        row.first = Offset(batch.first.0 + at as u64);
        row.next = Offset(row.first.0 + 1);
        row.watermark = watermarks.get(at + 1).map_or(batch.watermark, |watermark| EventTime(*watermark));
        row.idle = batch.idle && at + 1 == batch.rows.num_rows();
        row
    })
}
