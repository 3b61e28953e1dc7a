//! A feed whose right input is a table.

use super::{Begin, Feed};
use crate::clock::EventTime;
use crate::job::Branch;
use crate::job::history::Base;

impl Feed {
    /// The event time from which on the stream is read back for a look-up, if somebody needs that; otherwise it begins with
    /// the rows that come now, and lacks those that have come.
    pub(super) fn looks_up_from(
        &mut self,
        branches: &[Branch],
        below: &[Vec<Base>],
        (begin, needed): (&Begin, EventTime),
    ) -> Option<EventTime> {
        if *begin != Begin::Fresh {
            return None;
        }
        for (branch, bases) in branches.iter().zip(below).filter(|(branch, _)| !branch.right) {
            for base in bases {
                let facts = base.job.output.facts();
                let read_back = needed < EventTime::MAX || branch.fresh;
                let gone = if read_back { facts.evicted_event_time } else { facts.max_event_time };
                if gone > EventTime::MIN {
                    self.missing_before = self.missing_before.max(gone.plus(1));
                }
            }
        }
        Some(needed).filter(|needed| *needed < EventTime::MAX)
    }

    /// True while a table that has an end is read: nothing else is, until all of it is there.
    pub(super) fn loads(&self) -> bool {
        self.reads_table && self.branches.iter().any(|inlet| inlet.right && inlet.bounded && !inlet.done)
    }
}
