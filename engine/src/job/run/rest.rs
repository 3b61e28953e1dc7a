//! A task whose job rests.

use super::Task;
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::{Branch, Command, Rested};

impl Task {
    /// Rests until the job is told to go on. It is still asked for what it holds.
    pub(super) async fn rest(&mut self) -> Result<(), EngineError> {
        self.keep_now().await;
        let places = self.feed.let_go(&self.branches);
        self.job.hold.rest(places);
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
                    let rested = self.feed.go_on(&self.branches, &skip)?;
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
                other => self.answer(other),
            }
        }
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
