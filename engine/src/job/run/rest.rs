//! A task whose job rests.

use super::Task;
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::{Branch, Command, Rested};
use crate::stream::Position;

impl Task {
    /// Rests until the job is told to go on. It is still asked for what it holds.
    pub(super) async fn rest(&mut self) -> Result<(), EngineError> {
        self.finish_read().await?;
        self.keep_now().await;
        let places = self.feed.let_go(&self.branches);
        self.job.hold.rest(places);
        self.notes.clear();
        self.refuse_switch();
        // The job, which this task keeps, holds a sender.
        loop {
            let told = match self.wakes.take() {
                Some(told) => Some(told),
                None => self.inbox.recv().await,
            };
            let Some(command) = told else { return Ok(()) };
            match command {
                Command::Resume { skip, reply } => {
                    // What it stopped at is tried again.
                    self.job.harm.quarantine(None);
                    self.crashes.forget();
                    // After a crash it reads the logs below jobs that it read before.
                    let foreign = |own: &Vec<String>, branch: &Branch| !own.contains(&branch.job().id);
                    let skips = |branch| skip.as_ref().is_some_and(|own| foreign(own, branch));
                    let skip: Vec<bool> = self.branches.iter().map(skips).collect();
                    let stale = self.feed.let_stale_tables_go(&self.branches);
                    let from = self.feed.done();
                    let rested = self.feed.go_on(&self.branches, &skip)?;
                    self.note_skipped(&skip, from);
                    if stale {
                        self.feed.seed_tables(&self.branches).await?;
                    }
                    self.lose_windows(&skip, rested);
                    if skip.contains(&true) {
                        // What was skipped is not to come when it goes on from a snapshot.
                        self.want_snapshot();
                        self.keep_now().await;
                        self.mark_skipped(&skip).await?;
                    }
                    self.job.hold.wake();
                    // Whoever asked may have gone.
                    let _ = reply.send(rested);
                    return Ok(());
                }
                other => {
                    self.answer(other);
                    // It has stopped: nobody is to wait for what it does not write.
                    self.notes.clear();
                    self.refuse_switch();
                }
            }
        }
    }

    /// What was read together with the last rows is done with them: it rests at a place in its inputs.
    async fn finish_read(&mut self) -> Result<(), EngineError> {
        if self.feed.reads_table || self.stage.is_stateless() {
            return Ok(());
        }
        for batch in self.feed.rest() {
            let interval = *self.ticks.borrow();
            self.batch(batch, interval).await?;
        }
        Ok(())
    }

    /// Rows of which windows are made are not to come when the job is made anew.
    fn note_skipped(&mut self, skip: &[bool], from: Vec<Position>) {
        if !skip.contains(&true) {
            return;
        }
        let latest = |branch: &Branch| branch.stream().facts().max_event_time;
        let lost_before = self.branches.iter().map(latest).max().unwrap_or(EventTime::MIN).plus(1);
        let to = self.feed.positions();
        let to = from.iter().zip(to).zip(skip).map(|((from, to), skip)| if *skip { to } else { from.clone() });
        self.job.skips.add(&self.branches, from.clone(), to.collect(), lost_before);
        self.reached.count(self.job.counters.snapshot());
    }

    /// A record without rows tells what was skipped of what it reads.
    pub(super) async fn note(&mut self) -> Result<(), EngineError> {
        if self.notes.is_empty() {
            return Ok(());
        }
        if self.keeper.is_none() && !self.job.skipped_to_record().is_empty() {
            let output = &self.job.output;
            // Behind a part of a window's results it would go with them when the process starts again.
            if output.last_event_time().is_some_and(|last| last >= output.facts().watermark) {
                return Ok(());
            }
            let places = self.places();
            let inputs = self.read_so_far(&[], places);
            self.mark(inputs).await?;
        }
        for told in self.notes.drain(..) {
            // Whoever asked may have gone.
            let _ = told.send(());
        }
        Ok(())
    }

    /// Nor is it to come when it goes on where the last record of its log says that the inputs were read to.
    async fn mark_skipped(&mut self, skip: &[bool]) -> Result<(), EngineError> {
        // What is read of other branches and not processed is not to be recorded as read.
        if self.keeper.is_some() || !skip.iter().all(|skip| *skip) {
            return Ok(());
        }
        let places = self.places();
        let inputs = self.read_so_far(&[], places);
        self.mark(inputs).await
    }

    /// Windows that were open while rows were lost or skipped may be partial: whoever asks from now on is told.
    fn lose_windows(&self, skip: &[bool], rested: Rested) {
        if rested.lost_rows == 0 {
            return;
        }
        for (branch, skipped) in self.branches.iter().zip(skip) {
            let facts = branch.stream().facts();
            let lost = if *skipped { facts.max_event_time } else { facts.evicted_event_time };
            if lost > EventTime::MIN {
                self.job.lose_before(lost.plus(1));
            }
        }
    }
}
