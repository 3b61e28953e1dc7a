//! A subscription whose query rests.

use std::sync::Arc;

use super::Subscription;
use super::open::{holds, resume, told_before};
use crate::error::EngineError;
use crate::job::Node;
use crate::shared::Shared;
use crate::stream::{Gap, GapReason, MemoryStream, Position, Start, Stream};

/// Whether a subscription's query rests, and what it was opened with, to be opened again where it was.
pub(super) struct Rest {
    shared: Arc<Shared>,
    node: Node,
    pub(super) resting: bool,
    /// How often it went on.
    resumes: u64,
}

impl Rest {
    pub(super) fn new(shared: &Arc<Shared>, node: &Node) -> Self {
        Self { shared: shared.clone(), node: node.clone(), resting: false, resumes: 0 }
    }
}

impl Subscription {
    /// Whether the query rests from now on. It goes on here when it was told to.
    pub(super) fn see_rest(&mut self) {
        let (paused, resumes) = (self.admission.live.is_paused(), self.admission.live.resumes());
        if paused && !self.rest.resting {
            self.rest.resting = true;
            self.reader.hold(false);
        } else if !paused && resumes != self.rest.resumes {
            (self.rest.resting, self.rest.resumes) = (false, resumes);
            if let Err(error) = self.go_on() {
                let event = self.fail(Arc::new(error));
                self.ready.push_back(event);
            }
        }
    }

    /// Goes on where the reader was, with what the logs still hold, or with the rows that come from now on.
    fn go_on(&mut self) -> Result<(), EngineError> {
        let job = self.lease.job().clone();
        let holding = self.steps.holds() || holds(&self.rest.shared, &job, self.info.policy);
        // Until it has caught up, being behind is not being slow.
        self.replays = true;
        let (position, stream) = (self.reader.position(), self.stream());
        if self.admission.live.take_skip() {
            let rows = self.reader.behind_rows();
            self.reader = stream.reader(&Start::Latest, holding);
            if rows > 0 {
                let (from, to) = (Some(position), self.reader.position());
                self.gap(Gap { from, to, rows: Some(rows), reason: GapReason::Skipped });
            }
            return Ok(());
        }
        if job.logged || stream.covers(&position) {
            self.reader.hold(holding);
            return Ok(());
        }
        self.make_again(&position, holding)
    }

    /// Reads on from a position that a hand-off, which keeps seconds only, has no more: what lies before is made again
    /// from the logs.
    pub(super) fn make_again(&mut self, position: &Position, holding: bool) -> Result<(), EngineError> {
        let user = self.info.query.clone();
        let chosen = resume(&self.rest.shared, &self.rest.node, &self.relations, &user, position)?;
        if chosen.recovered == Some(false) {
            let to = chosen.built.lease.job().output.end_position();
            self.gap(Gap { from: Some(position.clone()), to, rows: None, reason: GapReason::Retention });
        }
        let job = chosen.built.lease.job();
        self.told = told_before(&chosen.start, &job.output);
        self.reader = job.output.clone().reader(&chosen.start, holding);
        self.chain = job.chain();
        self.admission.live.set_jobs(&self.chain);
        self.lease = chosen.built.lease;
        Ok(())
    }

    pub(super) fn stream(&self) -> Arc<MemoryStream> {
        self.lease.job().output.clone()
    }
}
