//! A feed whose job rests: nobody waits for it meanwhile, and it goes on where it was, or with what comes then.

use std::sync::atomic::Ordering::Relaxed;

use super::{Feed, Inlet, pipeline_of};
use crate::clock::EventTime;
use crate::counters::add;
use crate::error::EngineError;
use crate::job::history::{bases, position_in};
use crate::job::hold::{Place, Rested};
use crate::job::skipped::Skipped;
use crate::job::stage::TABLE;
use crate::job::{Branch, Fed};
use crate::stream::{Position, Start, Stream};

impl Feed {
    /// Lets go of what waits for it; where it is in each branch.
    pub(crate) fn let_go(&mut self, branches: &[Branch]) -> Vec<Place> {
        let inlets = self.branches.iter_mut().zip(branches);
        inlets
            .map(|(inlet, branch)| {
                inlet.live.hold(false);
                Place {
                    stream: branch.stream().clone(),
                    position: inlet.live.position(),
                    behind_rows: inlet.live.behind_rows(),
                    rows_total: branch.stream().facts().rows_total,
                    logged: branch.job().logged,
                }
            })
            .collect()
    }

    /// Goes on where it was; `skip`, for each branch: with the rows that come from now on, those in between counted as
    /// skipped. What a table holds is not skipped.
    pub(crate) fn go_on(&mut self, branches: &[Branch], skip: &[bool]) -> Result<Rested, EngineError> {
        let mut rested = Rested::default();
        // What is ready of a table is its content.
        if !self.reads_table && !skip.is_empty() && skip.iter().all(|skip| *skip) {
            let ready =
                self.ready.iter().map(|fed| if let Fed::Batch(batch) = fed { batch.rows.num_rows() } else { 0 });
            let read: usize = ready.sum();
            add(&self.counters.skipped, read);
            rested.lost_rows += read as u64;
            self.ready.retain(|fed| !matches!(fed, Fed::Batch(_)));
            let singles = self.singles.drain(..).count();
            add(&self.counters.rows_in, singles);
            add(&self.counters.skipped, singles);
            rested.lost_rows += singles as u64;
        }
        let inlets = self.branches.iter_mut().zip(branches).zip(skip).filter(|((inlet, _), _)| !inlet.done);
        for ((inlet, branch), skip) in inlets {
            let behind_rows = inlet.live.behind_rows();
            if *skip && !(self.reads_table && branch.right) {
                let past_rows: u64 = inlet.history.drain(..).map(|history| history.left_rows()).sum();
                self.counters.rows_in.fetch_add(past_rows + behind_rows, Relaxed);
                self.counters.skipped.fetch_add(past_rows + behind_rows, Relaxed);
                rested.lost_rows += past_rows + behind_rows;
                inlet.reopen(branch, &Start::Latest, &mut self.ready);
            } else {
                let position = inlet.live.position();
                let lost_rows = inlet.reach_back(branch, &position, &mut self.ready)?.min(behind_rows);
                rested += Rested { waiting_rows: behind_rows - lost_rows, lost_rows };
            }
            inlet.live.hold(inlet.holding);
        }
        Ok(rested)
    }

    /// Windows are told that begin at `start` and later; stretches of the inputs' logs are not to come.
    pub(crate) fn go_on_from(&mut self, start: EventTime, skipped: &[Skipped], branches: &[Branch]) {
        self.start = start;
        for (at, inlet) in self.branches.iter_mut().enumerate() {
            inlet.skipped = Skipped::of(skipped, at, branches);
        }
        let lost = skipped.iter().map(|skipped| skipped.lost_before).max();
        self.complete_from = self.complete_from.max(lost.unwrap_or(EventTime::MIN));
    }

    /// Reads another stream from a place on in a branch that is at the end of its own.
    pub(crate) fn go_on_with(&mut self, at: usize, branch: &Branch, start: &Start) -> Result<(), EngineError> {
        let inlet = &mut self.branches[at];
        inlet.live = branch.stream().clone().reader(start, inlet.holding);
        inlet.pipeline = pipeline_of(branch, &self.counters)?;
        Ok(())
    }

    /// Has tables that have gone on farther than their logs reach back read on from now; whether there are any. What they
    /// hold is to be asked for.
    pub(crate) fn let_stale_tables_go(&mut self, branches: &[Branch]) -> bool {
        let mut stale = false;
        for (inlet, branch) in self.branches.iter_mut().zip(branches) {
            let held = self.reads_table && branch.right && branch.job().kind == TABLE;
            if held && branch.stream().lost_rows(&inlet.live.position()) > 0 {
                inlet.reopen(branch, &Start::Latest, &mut self.ready);
                stale = true;
            }
        }
        stale
    }

    /// Whether there is history to be read before the live rows.
    pub(crate) fn lies_before(&self) -> bool {
        self.branches.iter().any(|inlet| !inlet.history.is_empty())
    }
}

impl Inlet {
    /// Reads on at another place. What has ended by then is told.
    fn reopen(&mut self, branch: &Branch, start: &Start, ready: &mut std::collections::VecDeque<Fed>) {
        let stream = branch.stream();
        self.live = stream.clone().reader(start, false);
        for partition in stream.ended() {
            if self.ended.insert(partition) {
                ready.push_back(Fed::EndOfPartition(self.first_partition + partition));
            }
        }
    }

    /// Takes what comes next from the logs below when a hand-off no longer has it; how many rows are lost.
    pub(super) fn reach_back(
        &mut self,
        branch: &Branch,
        position: &Position,
        ready: &mut std::collections::VecDeque<Fed>,
    ) -> Result<u64, EngineError> {
        let stream = branch.stream();
        if branch.job().logged {
            return Ok(stream.lost_rows(position));
        }
        if stream.covers(position) || branch.updates || branch.late {
            return Ok(0);
        }
        let below = bases(branch);
        self.reopen(branch, &Start::Latest, ready);
        let mut lost_rows = 0;
        for base in &below {
            let from = position_in(base, position);
            lost_rows += base.job.output.lost_rows(&from);
            self.read_back(base, &Start::Position(from), false)?;
        }
        Ok(lost_rows)
    }
}
