//! A task of a named stream that goes over to another query: see [`crate::job::alter`].

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::oneshot;

use super::again::{Reached, Recipe};
use super::{Task, describe};
use crate::batch::{Memo, RowKind, StreamBatch};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::alter::{Before, Next, Ready, Told, begin_state, begins, let_go, places, told_until};
use crate::job::feed::{Begin, Feed};
use crate::job::{Branch, Command, HandedOver, Inputs, Job, Successor, Whereabouts};
use crate::stream::{Durability, Offset, Position, Stream};

/// What a task is to go over to.
pub(super) struct Altering {
    successor: Box<Successor>,
    /// Where the job is whose state is given up, once it has said so.
    asked: Option<oneshot::Receiver<Whereabouts>>,
    place: Option<Whereabouts>,
}

impl Altering {
    pub(super) fn new(successor: Box<Successor>) -> Self {
        Self { successor, asked: None, place: None }
    }

    /// Returns when the job that was asked where it is has answered. Cancel safe.
    pub(super) async fn answered(altering: &mut Option<Self>) {
        let Some(Self { asked: Some(answer), place, .. }) = altering else { return std::future::pending().await };
        let answered = answer.await;
        *place = answered.ok();
        if let Some(altering) = altering {
            altering.asked = None;
        }
    }
}

impl Task {
    /// Where it is: behind all that it has processed.
    pub(super) fn whereabouts(&self) -> Whereabouts {
        let inputs = self.branches.iter().cloned().zip(self.feed.done()).collect();
        Whereabouts { inputs, output: self.job.output.end_position() }
    }

    /// Goes over if it is to, and can.
    pub(super) async fn hand_over(&mut self) -> Result<(), EngineError> {
        if self.altering.is_none() || !self.feed.is_clear() {
            return Ok(());
        }
        let Some(read) = self.place().await else { return Ok(()) };
        let Some(altering) = self.altering.take() else { return Ok(()) };
        let Successor { before, next, ready, decided, done, .. } = *altering.successor;
        let Some(next) = next else {
            let at = HandedOver { watermark: self.until(before), complete_from: EventTime::MIN };
            if ready.send(Ok(Ready { at, read })).is_ok() && decided.await == Ok(true) {
                // Another has taken its place.
                self.job.cancel.cancel();
            }
            return Ok(());
        };
        let next = match next {
            Next::Kept(next) => return self.go_over_kept(before, *next, read, (ready, decided, done)).await,
            next => next,
        };
        let heir = match self.heir(before, next, &read) {
            Ok(heir) => heir,
            Err(error) => {
                // Whoever asked may have gone: all stays as it is.
                let _ = ready.send(Err(error));
                return Ok(());
            }
        };
        let inputs = self.read_by_both(&heir);
        self.mark(inputs).await?;
        if ready.send(Ok(Ready { at: heir.handed_over, read })).is_ok() && decided.await == Ok(true) {
            self.go_over(heir);
            // Whoever asked may have gone: the stream has another definition all the same.
            let _ = done.send(());
        }
        Ok(())
    }

    /// The event time of the first results of windows that its readers have not been told.
    pub(super) fn until(&self, before: Before) -> EventTime {
        let output = &self.job.output;
        // Results of windows that began before it were never told.
        before.told_until(output.facts().watermark, output.last_event_time()).max(self.job.missing_before)
    }

    /// Where each log was read to, if this is a place to go over at.
    async fn place(&mut self) -> Option<Vec<(Arc<Job>, Position)>> {
        if self.keeper.is_some() && !self.is_ready() {
            return None;
        }
        let altering = self.altering.as_mut()?;
        let successor = &altering.successor;
        if successor.told == Told::Windows {
            // Not amid the results of a window.
            let reached = self.job.output.facts().watermark;
            let whole = self.job.output.last_event_time().is_none_or(|last| last < reached);
            let may = whole || successor.before.told != Told::Windows;
            let kept = || self.keeper.as_ref().and_then(|_| places(&self.whereabouts().inputs)).unwrap_or_default();
            return may.then(kept);
        }
        if successor.before.told == Told::Rows {
            return places(&self.whereabouts().inputs);
        }
        // What its rows are made of is known by the job that makes them.
        let [branch] = self.branches.as_slice() else { return Some(Vec::new()) };
        let (own, below) = (self.feed.positions().pop()?, branch.job().clone());
        match altering.place.take() {
            Some(place) if place.output == own => return places(&place.inputs),
            Some(place) if behind(&own, &place.output) => altering.place = Some(place),
            _ if altering.asked.is_some() => {}
            _ => {
                let (reply, answer) = oneshot::channel();
                altering.asked = Some(answer);
                // One that has ended answers nothing, and this task ends with it.
                let _ = below.commands.try_send(Command::Where(reply));
            }
        }
        None
    }

    /// What it is to read from now on.
    fn heir(&self, before: Before, next: Next, read: &[(Arc<Job>, Position)]) -> Result<Heir, EngineError> {
        let holding = self.feed.holding() || self.job.output.durability() == Durability::Durable;
        let marks = self.job.output.watermarks();
        let watermark = marks.iter().copied().min().unwrap_or(EventTime::MIN);
        let mut until = EventTime::MIN;
        let (branches, begin) = match next {
            Next::Rows(branches) => {
                let begin = Begin::Each(begins(&branches, read));
                (branches, begin)
            }
            Next::Windows(branches) => {
                until = self.until(before);
                self.lose_results(&branches, until);
                (branches, Begin::Earliest)
            }
            Next::State { below, step, ops } => {
                let branch = begin_state(&self.shared, &self.job.display_name(), (below, step, ops), read, holding)?;
                (vec![branch], Begin::Earliest)
            }
            Next::Kept(_) => return Err(EngineError::Plan("what is kept has a way of its own".into())),
        };
        let begin = (&begin, EventTime::MAX, self.shared.clock.now());
        let mut feed = Feed::open(&branches, &self.stage, begin, holding, &self.job.counters)?;
        feed.set_behind(&marks, until);
        let from = branches.iter().flat_map(|branch| branch.job().chain()).map(|job| job.complete_from()).max();
        let complete_from = from.unwrap_or(EventTime::MIN).max(self.job.complete_from());
        let watermark = if until > EventTime::MIN { until } else { watermark };
        Ok(Heir { branches, feed, handed_over: HandedOver { watermark, complete_from }, until })
    }

    /// Results that have not been told, and are no longer kept by who made them.
    fn lose_results(&self, branches: &[Branch], until: EventTime) {
        let gone = branches.iter().map(|branch| branch.stream().facts().evicted_event_time).max();
        if let Some(gone) = gone.filter(|gone| *gone >= until && *gone > EventTime::MIN) {
            self.job.counters.gaps.fetch_add(1, Relaxed);
            self.job.lose_before(gone.plus(1));
        }
    }

    fn go_over(&mut self, heir: Heir) {
        let Heir { branches, feed, until, .. } = heir;
        let names: Vec<_> =
            branches.iter().map(|branch| (branch.job().display_name(), branch.ops.as_slice())).collect();
        let description = describe(&names, &self.stage);
        let before = self.job.set_inputs(Inputs::new(branches.clone(), description));
        let_go(&before.branches);
        let_go(&self.branches);
        self.recipe = Recipe::of(&self.stage, &branches, &feed);
        self.reached = Reached::at(feed.positions());
        self.repeated.clear();
        self.running_partitions = feed.partitions();
        self.told_until = Some(until).filter(|until| *until > EventTime::MIN);
        self.branches = branches;
        self.feed = feed;
    }

    /// A log on disk says how far the inputs were read, those of the old query and those of the new one: whichever the
    /// catalog holds goes on there when the process starts again.
    pub(super) async fn mark(&mut self, inputs: Vec<(String, Position)>) -> Result<(), EngineError> {
        if self.job.output.durability() == Durability::Memory {
            return Ok(());
        }
        let mark = StreamBatch {
            kind: RowKind::Append,
            partition: 0,
            first: Offset(0),
            next: Offset(0),
            rows: arrow::array::RecordBatch::new_empty(self.job.output.schema().clone()),
            watermark: self.job.output.watermarks().first().copied().unwrap_or(EventTime::MIN),
            arrival: self.shared.clock.now(),
            idle: false,
            memo: Memo::default(),
        };
        self.output.write(vec![mark], inputs).await
    }

    /// How far the inputs were read by what it reads now, and by what takes its place.
    fn read_by_both(&self, heir: &Heir) -> Vec<(String, Position)> {
        let mut inputs = read_by(&heir.branches, &heir.feed);
        for (name, position) in read_by(&self.branches, &self.feed) {
            if !inputs.iter().any(|(known, _)| *known == name) {
                inputs.push((name, position));
            }
        }
        inputs.extend(Some(heir.until).filter(|until| *until > EventTime::MIN).map(told_until));
        inputs.extend(self.job.skipped_to_record());
        inputs
    }

    /// How far the inputs were read to make a batch that is about to be written.
    pub(super) fn read_so_far(&mut self, rows: &[StreamBatch], places: Vec<Position>) -> Vec<(String, Position)> {
        let names = self.branches.iter().map(|branch| branch.job().display_name());
        let mut inputs: Vec<_> = names.zip(places).collect();
        if !self.feed.is_behind() {
            self.told_until = None;
        }
        if let Some(until) = &mut self.told_until {
            let latest = rows.iter().flat_map(|batch| batch.event_times()).copied().max();
            *until = latest.map_or(*until, |latest| EventTime(latest).plus(1).max(*until));
            inputs.push(told_until(*until));
        }
        if self.keeper.is_none() {
            inputs.extend(self.job.skipped_to_record());
        }
        inputs
    }
}

/// What takes a task's place.
struct Heir {
    branches: Vec<Branch>,
    feed: Feed,
    handed_over: HandedOver,
    /// Results of windows with earlier event times were told; `MIN`: what it reads was not.
    until: EventTime,
}

fn read_by(branches: &[Branch], feed: &Feed) -> Vec<(String, Position)> {
    branches.iter().map(|branch| branch.job().display_name()).zip(feed.positions()).collect()
}

/// Whether a place in a stream of one partition lies before another.
fn behind(place: &Position, other: &Position) -> bool {
    let at = |position: &Position| position.offsets.get(&0).map(|(offset, _)| *offset);
    place.epoch == other.epoch && at(place) < at(other)
}
