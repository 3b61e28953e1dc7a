//! How rows that wait are told.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Routing;
use crate::error::EngineError;
use crate::job::route::gather::{PAUSE, Portion};
use crate::stream::together;

/// Jobs that are told before others go on: about 0.2 ms.
const TOLD_AT_ONCE: u32 = 256;

impl Routing {
    /// Whether rows that wait may wait for more.
    pub(super) fn may_wait(&self) -> bool {
        let in_time = self.tails.due().is_none_or(|due| Instant::now() < due);
        let more = || self.reader.behind_rows() > 0 || self.came.elapsed() < self.pause();
        self.gathers && in_time && !self.tails.is_full() && more()
    }

    /// When rows that wait are told unless more rows come; `None`: none wait.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        self.tails.due().map(|due| due.min(self.came + self.pause()))
    }

    /// When nothing has come for so long, rows that wait are told: a source that has to wait for a core does not have
    /// all told twice.
    fn pause(&self) -> Duration {
        if self.holding { *PAUSE.end() } else { self.tails.telling().clamp(*PAUSE.start(), *PAUSE.end()) }
    }

    /// Tells all rows that wait; others go on in between.
    pub(super) async fn settle(&mut self) {
        let (mut started, mut took) = (Instant::now(), Duration::ZERO);
        let mut told = self.tails.take().into_iter().peekable();
        let mut all = 0;
        while told.peek().is_some() {
            together(|| {
                let mut jobs = 0;
                while jobs < TOLD_AT_ONCE && self.settle_next(&mut told) {
                    jobs += 1;
                }
                all += jobs;
            });
            self.spend(started);
            took += started.elapsed();
            tokio::task::yield_now().await;
            started = Instant::now();
        }
        self.tails.told_in(took, all);
    }

    /// The same at once.
    pub(super) fn settle_at_once(&mut self) {
        let mut told = self.tails.take().into_iter().peekable();
        together(|| while self.settle_next(&mut told) {});
    }

    /// Tells a job what waits for it; false: that was all.
    fn settle_next(&mut self, told: &mut std::iter::Peekable<std::vec::IntoIter<Portion>>) -> bool {
        let Some(first) = told.next() else { return false };
        let slot = first.slot;
        let mut portions = vec![first];
        while let Some(next) = told.next_if(|next| next.slot == slot) {
            portions.push(next);
        }
        self.ways[slot as usize].waits = false;
        let member = self.members[slot as usize].as_mut();
        let given = member.map(|member| member.give(portions, &self.places, self.shown));
        if let Some(Ok(false)) = given {
            self.part(slot, None);
        } else if let Some(Err(error)) = given {
            self.fail(slot, error);
        }
        true
    }

    /// Tells a job what waits for it, before others. `before`: what waited before the last batch, which it has not been
    /// shown; it is to have a task of its own then.
    pub(super) fn settle_of(&mut self, slot: u32, before: bool) {
        let Some(member) = self.members[slot as usize].as_mut() else { return };
        if !std::mem::take(&mut self.ways[slot as usize].waits) {
            return;
        }
        let told = self.tails.take_of(slot, &member.tail);
        if told.is_empty() {
            return;
        }
        let given = if before {
            let (at, place, shown) = self.before;
            let mut places = self.places.clone();
            places[at] = place;
            member.give(told, &places, shown)
        } else {
            member.give(told, &self.places, self.shown)
        };
        match given {
            Ok(false) if !before => self.part(slot, None),
            Ok(_) => {}
            Err(error) => self.fail(slot, error),
        }
    }

    /// It can give nothing any more. The task of what has failed is not waited for.
    pub(super) fn fail(&self, slot: u32, error: EngineError) {
        if let Some(member) = &self.members[slot as usize] {
            member.fail(Arc::new(error));
            member.job.cancel.cancel();
        }
    }
}
