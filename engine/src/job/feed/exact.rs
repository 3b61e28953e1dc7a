//! A feed whose places are exact: for jobs of which snapshots are taken.
//!
//! An offset says which rows were read, but not which of the batches without rows behind them, and those carry
//! watermarks that close windows. So beside the offset stands a *mark*: how far the last batch has carried the partition.
//! Where rows of several inputs meet, what is told may depend on the order in which they were read; when a job goes on
//! from a snapshot it reads what it had read since in the same order, as the records of its log tell.

use std::collections::{BTreeMap, VecDeque};

use super::Feed;
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::stream::{Offset, Position};

/// Where rows were read, and in which order they are to be read.
pub(super) struct Exact {
    /// Rows go by their arrival: a batch without rows carries on when they are.
    by_arrival: bool,
    /// For each branch and partition the offset behind the last batch, and its mark.
    seen: Vec<BTreeMap<u32, (Offset, u64)>>,
    /// Places that are to be reached one after the other.
    script: VecDeque<Vec<Position>>,
}

impl Exact {
    /// Takes note of a batch; false: it was read before.
    pub(super) fn note(&mut self, branch: usize, batch: &StreamBatch) -> bool {
        let mark = mark(if self.by_arrival { batch.arrival } else { batch.watermark }, batch.idle);
        let seen = self.seen[branch].entry(batch.partition).or_default();
        let place = (batch.next, mark);
        let again = batch.first == batch.next && batch.rows.num_rows() == 0 && place <= *seen;
        *seen = place.max(*seen);
        !again
    }

    /// Takes note of a gap.
    pub(super) fn pass(&mut self, branch: usize, to: &Position) {
        for (partition, (offset, _)) in &to.offsets {
            let seen = self.seen[branch].entry(*partition).or_default();
            *seen = (*seen).max((*offset, 0));
        }
    }
}

impl Feed {
    /// Keeps note of exact places from now on. `at`: where it is, with marks. `script`: places that are to be reached one
    /// after the other before anything else is read.
    pub(crate) fn be_exact(&mut self, by_arrival: bool, at: &[Position], script: Vec<Vec<Position>>) {
        let seen = at.iter().map(|position| position.offsets.clone()).collect();
        self.exact = Some(Exact { by_arrival, seen, script: script.into() });
    }

    /// Where the branches are, with marks in place of rows to be skipped.
    pub(crate) fn places(&self) -> Vec<Position> {
        let mut positions = self.done();
        let Some(exact) = &self.exact else { return positions };
        for (position, seen) in positions.iter_mut().zip(&exact.seen) {
            for (partition, (offset, mark)) in &mut position.offsets {
                *mark = seen.get(partition).filter(|(seen, _)| seen == offset).map_or(0, |(_, mark)| *mark);
            }
        }
        positions
    }

    /// Nothing that was read waits to be processed.
    pub(crate) fn is_at_rest(&self) -> bool {
        let follows = self.exact.as_ref().is_some_and(|exact| !exact.script.is_empty());
        self.ready.is_empty() && self.singles.is_empty() && !self.lies_before() && !follows
    }

    /// Whether the branch is to be read now: it has not come to the place that is to be reached.
    pub(super) fn may_read(&self, branch: usize) -> bool {
        let script = self.exact.as_ref().and_then(|exact| exact.script.front());
        script.is_none_or(|target| self.before(branch, &target[branch]))
    }

    /// Goes over to the next place when one is reached.
    pub(super) fn follow_script(&mut self) {
        while let Some(target) = self.exact.as_ref().and_then(|exact| exact.script.front()) {
            let reached = |branch: usize| self.branches[branch].done || !self.before(branch, &target[branch]);
            if !(0..self.branches.len()).all(reached) {
                return;
            }
            if let Some(exact) = &mut self.exact {
                exact.script.pop_front();
            }
        }
    }

    fn before(&self, branch: usize, target: &Position) -> bool {
        let Some(exact) = &self.exact else { return false };
        let seen = &exact.seen[branch];
        target.offsets.iter().any(|(partition, place)| seen.get(partition).copied().unwrap_or_default() < *place)
    }
}

/// How far a batch carries its partition, ascending: a moment, half as fine as it is, and whether it was found idle.
fn mark(moment: EventTime, idle: bool) -> u64 {
    let ascending = moment.0.cast_unsigned() ^ (1 << 63);
    ascending & !1 | u64::from(idle)
}

/// Whether all places of a vector lie at or before those of another. Epochs apart: offsets go on through them.
pub(crate) fn reached_by(places: &[Position], others: &[Position]) -> bool {
    let within = |(place, other): (&Position, &Position)| {
        let at = |partition| other.offsets.get(partition).copied().unwrap_or_default();
        place.offsets.iter().all(|(partition, place)| *place <= at(partition))
    };
    places.len() == others.len() && places.iter().zip(others).all(within)
}

/// A place without its marks: a position to read from.
pub(crate) fn unmarked(place: &Position) -> Position {
    let offsets = place.offsets.iter().map(|(partition, (offset, _))| (*partition, (*offset, 0)));
    Position { epoch: place.epoch, offsets: offsets.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_ascend_with_the_moment_and_then_with_idleness() {
        let moments = [EventTime::MIN, EventTime(-4), EventTime(0), EventTime(2), EventTime::MAX];
        let marks: Vec<u64> = moments.iter().flat_map(|at| [mark(*at, false), mark(*at, true)]).collect();
        assert!(marks.is_sorted_by(|a, b| a < b), "{marks:?}");
    }

    #[test]
    fn a_place_is_reached_when_all_partitions_of_all_inputs_are() {
        let at = |places: &[(u64, u64)]| Position {
            epoch: 1,
            offsets: (0..).zip(places.iter().map(|(offset, mark)| (Offset(*offset), *mark))).collect(),
        };
        let told = [at(&[(5, 2), (7, 0)]), at(&[(3, 0)])];
        assert!(reached_by(&told, &told));
        assert!(reached_by(&[at(&[(5, 1), (6, 9)]), at(&[(3, 0)])], &told));
        assert!(!reached_by(&[at(&[(5, 3), (7, 0)]), at(&[(3, 0)])], &told));
        assert!(!reached_by(&[at(&[(5, 2), (7, 0)]), at(&[(4, 0)])], &told));
        assert!(!reached_by(&told, &told[..1]));
        assert_eq!(unmarked(&told[0]), at(&[(5, 0), (7, 0)]));
    }
}
