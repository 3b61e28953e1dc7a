//! Where fused steps begin: as each would as a job of its own.

use std::sync::Arc;

use super::{From, Fusion};
use crate::clock::EventTime;
use crate::job::alter::begins;
use crate::job::branch::OpSpec;
use crate::job::lasting::Onset;
use crate::job::snapshot::Begins;
use crate::job::{Branch, Job};
use crate::stream::{Position, Start, Stream};

/// Finds out where the steps begin, from the last one down and up again.
struct Beginning<'a> {
    fusion: &'a Fusion,
    branches: &'a [Branch],
    now: EventTime,
    /// For each step where it begins to tell, and what its inputs lack.
    steps: Vec<(EventTime, EventTime)>,
    /// Results with earlier event times are not told by each step.
    untold: Vec<EventTime>,
    leaves: Vec<Start>,
    complete_from: EventTime,
}

impl Fusion {
    /// Where the steps begin now, and the first row of each leaf. `branches`: the leaves'. `onset`: they take over there.
    pub(in crate::job) fn begin(
        &self,
        branches: &[Branch],
        now: EventTime,
        onset: Option<&Onset<'_>>,
    ) -> (Begins, Vec<Position>) {
        if let Some(onset) = onset.filter(|onset| onset.at_place) {
            let steps = vec![(EventTime::MIN, EventTime::MIN); self.steps.len()];
            return (Begins { steps, ..Begins::default() }, begins(branches, onset.read));
        }
        let told = onset.filter(|onset| onset.windowed && onset.told > EventTime::MIN);
        let told = told.map(|onset| onset.told);
        let needed = told.unwrap_or(EventTime::MAX);
        let none = (EventTime::MIN, EventTime::MIN);
        let mut beginning = Beginning {
            fusion: self,
            branches,
            now,
            steps: vec![none; self.steps.len()],
            untold: vec![EventTime::MIN; self.steps.len()],
            leaves: vec![Start::Latest; branches.len()],
            complete_from: EventTime::MIN,
        };
        let mut untold = EventTime::MIN;
        for limb in &self.root {
            untold = untold.max(match limb.from {
                From::Leaf(leaf) => branches[leaf].job().missing_before,
                From::Step(step) => {
                    beginning.step(step, needed);
                    beginning.untold[step]
                }
            });
        }
        let known = |moment: EventTime| (moment > EventTime::MIN).then_some(moment);
        let (complete_from, untold) = (known(beginning.complete_from), known(untold));
        let read = onset.map_or(&[][..], |onset| onset.read);
        let position = |(branch, start): (&Branch, &Start)| {
            let known = read.iter().find(|(job, _)| *start == Start::Latest && Arc::ptr_eq(job, branch.job()));
            known.map_or_else(|| branch.stream().clone().reader(start, false).position(), |(_, at)| at.clone())
        };
        let positions = branches.iter().zip(&beginning.leaves).map(position).collect();
        (Begins { steps: beginning.steps, complete_from, untold, told, goes_on: false }, positions)
    }
}

impl Beginning<'_> {
    /// A step whose results are needed from an event time on.
    fn step(&mut self, at: usize, needed: EventTime) {
        let spec = &self.fusion.steps[at];
        let reached = self.watermark_below(at).min(needed);
        let of_inputs = spec.job.begin(reached).unwrap_or(needed);
        let (mut come_to, mut missing, mut by_arrival) = (needed, EventTime::MIN, false);
        for limb in &spec.limbs {
            let (lacks, watermark, ops) = match limb.from {
                From::Leaf(leaf) => {
                    let job = self.job(leaf);
                    let reached = job.output.facts().watermark;
                    (job.missing_before, reached.max(job.missing_before), &self.fusion.leaves[leaf].ops)
                }
                From::Step(below) => {
                    self.step(below, of_inputs);
                    (self.untold[below], self.untold[below], &limb.ops)
                }
            };
            come_to = come_to.min(watermark);
            missing = missing.max(lacks);
            by_arrival |= ops.contains(&OpSpec::ByArrival);
        }
        if by_arrival {
            come_to = self.now;
            missing = if missing > EventTime::MIN { self.now } else { missing };
        }
        let since = spec.job.begin(come_to);
        let start = since.unwrap_or(EventTime::MIN);
        if start > EventTime::MIN {
            self.complete_from = self.complete_from.max(spec.job.whole_from(start, missing));
        }
        let told_from = if start > EventTime::MIN { spec.job.missing_before(start) } else { EventTime::MIN };
        self.steps[at] = (start, missing);
        self.untold[at] = told_from.max(missing);
        let Some(since) = since else { return };
        for limb in &spec.limbs {
            if let From::Leaf(leaf) = limb.from {
                self.leaf(leaf, since, by_arrival);
            }
        }
    }

    /// Reads a leaf from an event time on; by arrival: what is in memory, as logs do not lie in the order of arrival.
    fn leaf(&mut self, leaf: usize, since: EventTime, by_arrival: bool) {
        let output = self.job(leaf).output.clone();
        let facts = output.facts();
        let gone = if by_arrival { facts.evicted_arrival } else { facts.evicted_event_time };
        if gone >= since && gone > EventTime::MIN {
            self.complete_from = self.complete_from.max(gone.plus(1));
        }
        self.leaves[leaf] = match since {
            _ if by_arrival => output.start_in_memory(),
            EventTime::MIN => Start::Earliest,
            since => Start::Timestamp(since),
        };
    }

    /// The least watermark of the relations below a step, of those that have one; `MAX`: none has.
    fn watermark_below(&self, at: usize) -> EventTime {
        let below = self.fusion.steps[at].limbs.iter().map(|limb| match limb.from {
            From::Leaf(leaf) => {
                let watermark = self.job(leaf).output.facts().watermark;
                if watermark > EventTime::MIN { watermark } else { EventTime::MAX }
            }
            From::Step(below) => self.watermark_below(below),
        });
        below.min().unwrap_or(EventTime::MAX)
    }

    fn job(&self, leaf: usize) -> &Arc<Job> {
        self.branches[leaf].job()
    }
}
