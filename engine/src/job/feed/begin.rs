//! Where windows begin that a feed is read for.

use super::{Begin, Feed};
use crate::clock::EventTime;
use crate::job::history::{Base, complete_from};
use crate::job::stage::{Stage, Stateful};
use crate::stream::Start;

impl Feed {
    /// Windows begin at `since`, or where it was asked for.
    pub(super) fn begin_since(
        &mut self,
        since: EventTime,
        stage: &Stage,
        begin: &Begin,
        (below, by_arrival): (&[Vec<Base>], bool),
    ) {
        if *begin == Begin::Fresh {
            self.start = since;
        }
        let whole = |step: &dyn Stateful| step.whole_from(self.start, self.missing_before);
        let whole = stage.stateful().filter(|_| self.start > EventTime::MIN).map_or(EventTime::MIN, whole);
        let kept = || complete_from(below.iter().flatten(), self.start, by_arrival).max(whole);
        self.complete_from = if self.reads_table { whole } else { kept() };
        if let Begin::At(Start::Timestamp(moment)) = begin {
            self.complete_from = self.complete_from.max(*moment);
        }
    }
}
