//! How jobs that get no rows follow the stream.

use std::ops::Range;

use super::Routing;
use crate::error::EngineError;
use crate::job::route::member::Member;
use crate::stream::together;

impl Routing {
    /// Brings some of the jobs up to where the stream is.
    pub(super) fn bring_up(&mut self) {
        let turn = self.carry.step(self.shown.batches, self.members.len(), self.calls.len());
        self.bring_to_places(turn);
    }

    pub(super) fn bring_all_up(&mut self) {
        self.bring_to_places(0..self.members.len());
    }

    fn bring_to_places(&mut self, slots: Range<usize>) {
        let (places, shown) = (self.places.clone(), self.shown);
        self.bring(slots, |member| member.carry(&places, shown));
    }

    /// Tells jobs something; false: its reader makes one wait.
    pub(super) fn bring(&mut self, slots: Range<usize>, tell: impl Fn(&mut Member) -> Result<bool, EngineError>) {
        together(|| slots.for_each(|slot| self.bring_one(slot, &tell)));
    }

    fn bring_one(&mut self, slot: usize, tell: impl Fn(&mut Member) -> Result<bool, EngineError>) {
        // Those whose rows wait are brought up with them.
        let waits = self.ways[slot].waits;
        let stays = |member: &&mut Member| member.leaving.is_none() && !waits;
        let Some(member) = self.members[slot].as_mut().filter(stays) else { return };
        match tell(member) {
            Ok(true) => {}
            // What is carried is told by its own task.
            Ok(false) => self.part(u32::try_from(slot).unwrap_or(u32::MAX), None),
            Err(error) => self.fail(u32::try_from(slot).unwrap_or(u32::MAX), error),
        }
    }
}
