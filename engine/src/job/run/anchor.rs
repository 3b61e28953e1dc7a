//! What a task of windows goes back to when it crashes behind a log that was replaced by another: the rows that its open
//! windows are made of are no longer there.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::again::Recipe;
use super::keep::cut_before;
use super::switch::ends_at;
use super::{Task, Work};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::carry::Switch;
use crate::job::feed::{Begin, Feed};
use crate::job::history::{from_logs, positions_below};
use crate::job::skipped::Skipped;
use crate::job::{Job, Lease};
use crate::operator::{Output, State};
use crate::stream::Position;

/// What a job kept at a place in its inputs' logs behind which they have all rows. It is dropped once all windows are
/// told that have rows from before.
pub(super) struct Anchor {
    /// `None`: there was no room for it beside what the job keeps itself.
    state: Option<State>,
    bytes: usize,
    /// Where each of the logs below the job had been read to.
    at: Vec<Position>,
    /// Rows that came before have earlier event times.
    before: EventTime,
}

/// A log that is to be replaced, which the job reads through others.
pub(super) struct Awaited {
    from: Arc<Job>,
    end: Position,
    before: EventTime,
    /// Told when those have gone on with the other log; nothing, when all stays as it is.
    decided: oneshot::Receiver<Arc<Lease>>,
    goes: bool,
}

impl Awaited {
    pub(super) fn of(switch: Switch) -> Self {
        let before = switch.from.output.facts().max_event_time.plus(1);
        Self { from: switch.from, end: switch.end, before, decided: switch.decided, goes: false }
    }

    /// Returns when it is decided whether the log is replaced. Cancel safe.
    pub(super) async fn is_decided(awaited: &mut Option<Self>) {
        let Some(known) = awaited.as_mut().filter(|awaited| !awaited.goes) else {
            return std::future::pending().await;
        };
        match (&mut known.decided).await {
            Ok(_) => known.goes = true,
            Err(_) => *awaited = None,
        }
    }
}

impl Anchor {
    /// What was kept at these places.
    pub(super) fn of(state: State, at: Vec<Position>, before: EventTime) -> Self {
        let bytes = state.bytes();
        Self { state: Some(state), bytes, at, before }
    }
}

impl Task {
    /// Bytes of what it would go back to, as long as windows need it and there is room for it.
    pub(super) fn anchor_bytes(&mut self, room_bytes: usize) -> usize {
        if self.anchor.is_none() {
            return 0;
        }
        if self.resumes_at().is_none_or(|start| self.is_behind_anchor(start)) {
            self.anchor = None;
        }
        if self.anchor.as_ref().is_some_and(|anchor| anchor.bytes > room_bytes) {
            self.forget_anchor();
        }
        self.anchor.as_ref().map_or(0, |anchor| anchor.bytes)
    }

    /// Makes room: after a crash, windows that began before it are told as partial.
    pub(super) fn forget_anchor(&mut self) {
        if let Some(anchor) = &mut self.anchor {
            (anchor.state, anchor.bytes) = (None, 0);
        }
    }

    fn is_behind_anchor(&self, start: EventTime) -> bool {
        self.anchor.as_ref().is_none_or(|anchor| anchor.before <= start)
    }

    /// The start of the first window that it has not told; `None`: it is no job of windows that are made again.
    pub(super) fn resumes_at(&self) -> Option<EventTime> {
        let Some(Recipe::Windows { start }) = &self.recipe else { return None };
        let told = self.job.output.watermarks().first().copied().unwrap_or(EventTime::MIN);
        self.stage.stateful().and_then(|step| step.resume(told)).map(|resumed| resumed.max(*start))
    }

    /// Keeps what it has come to in the logs that it reads now: rows before these places may be there no more.
    pub(super) fn anchor_at(&mut self, at: Vec<Position>, before: EventTime) -> Result<(), EngineError> {
        let (Some(_), Work::Operator(operator)) = (self.resumes_at(), &mut self.work) else { return Ok(()) };
        let mut state = State::default();
        operator.save(&mut state)?;
        self.anchor = Some(Anchor::of(state, at, before));
        self.book()
    }

    /// Does so once those between it and a log that was replaced have gone on with the other.
    pub(super) fn anchor_when_read(&mut self) -> Result<(), EngineError> {
        let Some(awaited) = &mut self.awaited else { return Ok(()) };
        if !awaited.goes {
            match awaited.decided.try_recv() {
                Ok(_) => awaited.goes = true,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Closed) => {
                    self.awaited = None;
                    return Ok(());
                }
            }
        }
        if !self.feed.is_clear() {
            return Ok(());
        }
        let places: Vec<Position> = self.feed.positions();
        let read = |(branch, at): (&crate::job::Branch, &Position)| ends_at(at, &branch.stream().end_position());
        let all_read = self.branches.iter().zip(&places).all(read);
        let name = awaited.from.display_name();
        let own = from_logs(&self.branches);
        let mut at: Vec<Position> =
            self.branches.iter().zip(&places).flat_map(|(branch, place)| positions_below(branch, place)).collect();
        for (branch, at) in own.iter().zip(&mut at).filter(|(branch, _)| branch.job().display_name() == name) {
            if Arc::ptr_eq(branch.job(), &awaited.from) || !all_read && !ends_at(at, &awaited.end) {
                return Ok(());
            }
            // What its steps have left out of the end is read as well.
            for (partition, end) in &awaited.end.offsets {
                let own = at.offsets.entry(*partition).or_default();
                *own = (*own).max(*end);
            }
        }
        let before = awaited.before;
        self.awaited = None;
        self.anchor_at(at, before)
    }

    /// Makes all anew of what it kept, for windows that begin at `start` and later; false: that is not needed, or there is
    /// nothing.
    pub(super) fn go_back_to_anchor(&mut self, start: EventTime) -> Result<bool, EngineError> {
        if self.is_behind_anchor(start) {
            self.anchor = None;
        }
        let gone = self.awaited.as_ref().is_some_and(|awaited| awaited.goes && awaited.before > start);
        let Some(Anchor { state: Some(state), at, .. }) = self.anchor.as_ref().filter(|_| !gone) else {
            // How many rows the windows lack, nobody knows.
            self.job.counters.gaps.fetch_add(u64::from(gone || self.anchor.is_some()), Relaxed);
            return Ok(false);
        };
        let (mut state, at) = (state.clone(), at.clone());
        let branches = from_logs(&self.job.inputs().branches);
        let skipped: Vec<Skipped> = self.job.skips.all().into_iter().map(Skipped::counted).collect();
        let begin = Begin::Each(at);
        let begin = (&begin, EventTime::MAX, self.shared.clock.now());
        let mut feed = Feed::open(&branches, &self.stage, begin, self.feed.holding(), &self.job.counters)?;
        let untold = (EventTime::MIN, EventTime::MIN);
        let mut work = Work::begun(&self.shared, &self.stage, &feed, untold, &self.job.counters)?;
        if let Work::Operator(operator) = &mut work {
            operator.restore(&mut state)?;
        }
        feed.go_on_from(start, &skipped, &branches);
        self.told_before = self.job.output.watermarks().first().copied();
        let last = std::mem::replace(&mut self.feed, feed);
        self.feed.behind_as(&last);
        (self.work, self.branches) = (work, branches);
        Ok(true)
    }

    /// Leaves out results that it told before it went back.
    pub(super) fn leave_out_told(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let Some(told) = self.told_before else { return Ok(()) };
        let mut passed = false;
        for batch in output.rows.iter_mut().chain(&mut output.updates) {
            cut_before(batch, told)?;
            passed |= batch.watermark > told;
            batch.watermark = batch.watermark.max(told);
        }
        if passed {
            self.told_before = None;
        }
        Ok(())
    }
}
