//! A replay that stands, goes on, and comes by so many rows, as its reader steers it.
//!
//! Rows wait where they are: those that were read here, within the batch that they came in, all others in the logs. So
//! none is lost or told twice, and each position says just what was told. From its first pause on a subscription is
//! lossless: it is behind by its own will. What retention takes meanwhile is told as a gap with its rows counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::SubscribeOptions;
use super::open::{keeps_rows, refuse_pace};
use super::{Subscription, SubscriptionEvent};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::stream::{Gap, GapReason, Offset, Position, Start};

/// How a subscription goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Going {
    /// As rows come.
    On,
    /// Not at all.
    Paused,
    /// By so many rows; then it is paused.
    Steps(u64),
}

/// Where a subscription is that was steered.
#[derive(Debug, Clone, PartialEq)]
pub struct Stand {
    /// Nothing more is told.
    pub paused: bool,
    /// Behind the last row that was told.
    pub position: Position,
    /// Event time of that row; `None`: there was none.
    pub event_time: Option<EventTime>,
}

/// How far a subscription may go.
#[derive(Debug)]
pub(super) struct Steps {
    /// Why it cannot be steered at all.
    refusal: Option<fn() -> EngineError>,
    going: Going,
    /// It was paused before.
    pub(super) used: bool,
    /// Its job serves it alone, and waits for it.
    private: bool,
    /// Behind what was told last.
    at: Position,
    /// Event time of the last row told.
    event_time: Option<EventTime>,
    /// As it was before the rows that were told last.
    event_time_before: Option<EventTime>,
    /// It has come to stand, or goes on, and its reader has not been told.
    untold: bool,
    /// Behind the last batch of each partition that a private job gave.
    read_to: BTreeMap<u32, Offset>,
}

impl Steps {
    /// `private`: its job serves it alone.
    ///
    /// # Errors
    /// [`EngineError::NoReplay`], [`EngineError::NoSteps`]: it is to begin with a pause, and cannot. Or it is to have a
    /// speed, and cannot.
    pub(super) fn new(
        options: &SubscribeOptions,
        (changing, private): (bool, bool),
        at: Position,
    ) -> Result<Self, EngineError> {
        refuse_pace(options, changing)?;
        let refusal: Option<fn() -> EngineError> = match options.from {
            _ if changing => Some(|| EngineError::NoSteps),
            None | Some(Start::Latest) => Some(|| EngineError::NoReplay),
            Some(_) => None,
        };
        if let Some(refusal) = refusal.filter(|_| options.paused) {
            return Err(refusal());
        }
        let going = if options.paused { Going::Paused } else { Going::On };
        let (used, untold) = (options.paused, options.paused);
        let (event_time, event_time_before, read_to) = (None, None, BTreeMap::new());
        Ok(Self { refusal, going, used, private, at, event_time, event_time_before, untold, read_to })
    }

    /// Rows come by number, at no pace of their own.
    pub(super) fn counts(&self) -> bool {
        matches!(self.going, Going::Steps(_))
    }

    /// Whether the job has to wait for this reader.
    pub(super) fn holds(&self) -> bool {
        self.used && self.private
    }
}

impl Subscription {
    /// Lets a replay stand, go on, or come by so many rows. Steps that follow each other before they are done add up.
    ///
    /// # Errors
    /// [`EngineError::NoReplay`] for a subscription without a start in the past; [`EngineError::NoSteps`] for one whose
    /// rows replace each other. It then goes on as it did.
    pub fn steer(&mut self, going: Going) -> Result<(), EngineError> {
        if let Some(refusal) = self.steps.refusal {
            return Err(refusal());
        }
        let before = self.steps.going;
        self.steps.going = match (before, going) {
            (Going::Steps(left), Going::Steps(more)) => Going::Steps(left.saturating_add(more)),
            (_, Going::Steps(0)) => Going::Paused,
            _ => going,
        };
        self.steps.untold = !self.steps.counts();
        if !self.steps.used && going != Going::On {
            self.steps.used = true;
            self.admission.live.replay.store(true, Relaxed);
            if self.steps.private {
                self.reader.hold(true);
            }
        }
        if before == Going::Paused && self.steps.going != Going::Paused {
            self.reach_back()?;
        }
        if going == Going::On
            && before != Going::On
            && let Some(pace) = &mut self.pace
        {
            pace.begin_again(self.clock.now());
        }
        Ok(())
    }

    /// How it goes on.
    pub fn going(&self) -> Going {
        self.steps.going
    }

    /// Where it is, once after it has come to stand or was told to go on.
    pub fn take_stand(&mut self) -> Option<Stand> {
        std::mem::take(&mut self.steps.untold).then(|| self.stand())
    }

    /// Where it is.
    pub fn stand(&self) -> Stand {
        let Steps { at, event_time, .. } = &self.steps;
        Stand { paused: self.stands(), position: at.clone(), event_time: *event_time }
    }

    /// Takes back rows that were given and not passed on: those of `batch` behind the first `skip`. `told`: where the
    /// reader is without them, `position`: where it would be.
    pub fn put_back(&mut self, batch: Arc<StreamBatch>, skip: usize, position: Position, told: Position) {
        let rows = batch.rows.num_rows().saturating_sub(skip) as u64;
        self.admission.live.rows.fetch_sub(rows, Relaxed);
        self.steps.at = told;
        let last = skip.checked_sub(1).and_then(|row| batch.event_times().get(row));
        self.steps.event_time = last.map(|time| EventTime(*time)).or(self.steps.event_time_before);
        self.ready.push_front(SubscriptionEvent::Rows { batch, skip, position, snapshot: false });
    }

    pub(super) fn stands(&self) -> bool {
        self.steps.going == Going::Paused
    }

    /// The next event that may be told now.
    pub(super) fn pop(&mut self) -> Option<SubscriptionEvent> {
        let mut event = match self.steps.going {
            Going::On => self.ready.pop_front()?,
            Going::Steps(left) => self.pop_steps(left)?,
            // How things stand is told all the same.
            Going::Paused => {
                let progress = |event: &SubscriptionEvent| matches!(event, SubscriptionEvent::Progress(_));
                let at = self.ready.iter().position(progress)?;
                self.ready.remove(at)?
            }
        };
        let rows_wait = || self.ready.iter().any(|event| matches!(event, SubscriptionEvent::Rows { .. }));
        let waits = || self.pace.as_ref().is_some_and(|pace| pace.due().is_some()) || rows_wait();
        match &mut event {
            SubscriptionEvent::Rows { batch, skip, position, snapshot } => {
                self.steps.at.go_to(position);
                self.steps.event_time_before = self.steps.event_time;
                self.steps.event_time = batch.event_times().last().map(|time| EventTime(*time));
                if !*snapshot {
                    self.admission.live.rows.fetch_add((batch.rows.num_rows() - *skip) as u64, Relaxed);
                }
            }
            SubscriptionEvent::Gap(gap) => self.steps.at.go_to(&gap.to),
            // Rows that wait lie behind the reader, and have not been told.
            SubscriptionEvent::Progress(progress) if waits() => progress.position.clone_from(&self.steps.at),
            SubscriptionEvent::Progress(progress) => self.steps.at.go_to(&progress.position),
            SubscriptionEvent::Complete(_) | SubscriptionEvent::Failed(_) => {}
        }
        Some(event)
    }

    /// The next event, of rows at most `left`.
    fn pop_steps(&mut self, left: u64) -> Option<SubscriptionEvent> {
        let Some(SubscriptionEvent::Rows { batch, skip, position, snapshot }) = self.ready.front_mut() else {
            return self.ready.pop_front();
        };
        let rows = (batch.rows.num_rows() - *skip) as u64;
        self.steps.going = Going::Steps(left.saturating_sub(rows));
        if rows >= left {
            (self.steps.going, self.steps.untold) = (Going::Paused, true);
        }
        if rows <= left {
            return self.ready.pop_front();
        }
        // Fewer than the batch has rows.
        let end = *skip + left as usize;
        let (head, position) = head(batch, end, position);
        let skip = std::mem::replace(skip, end);
        Some(SubscriptionEvent::Rows { batch: head, skip, position, snapshot: *snapshot })
    }

    /// A shared hand-off may have lost what this reader has not read: it is made again from the logs.
    fn reach_back(&mut self) -> Result<(), EngineError> {
        let job = self.lease.job().clone();
        let position = self.reader.position();
        if self.steps.private || job.logged || self.end.is_some() || self.stream().covers(&position) {
            return Ok(());
        }
        self.make_again(&position, true)?;
        self.steps.private = true;
        Ok(())
    }

    /// A private job that waited for this reader may have been overtaken by what its input keeps: the rows that it has
    /// counted as dropped are told where they would have come.
    pub(super) fn note_overtaken(&mut self, batch: &StreamBatch) {
        if !self.steps.private {
            return;
        }
        let Some(read_to) = self.steps.read_to.insert(batch.partition, batch.next) else { return };
        let job = self.lease.job();
        if batch.first <= read_to || job.counters.dropped.load(Relaxed) == 0 {
            return;
        }
        // What keeps state counts its own rows: there are no holes.
        if !job.inputs().branches.iter().all(keeps_rows) {
            return;
        }
        let (mut from, mut to) = (self.reader.position(), self.reader.position());
        from.offsets.insert(batch.partition, (read_to, 0));
        to.offsets.insert(batch.partition, (batch.first, 0));
        let rows = Some(batch.first.0 - read_to.0);
        // The job has counted it.
        self.ready.push_back(SubscriptionEvent::Gap(Gap { from: Some(from), to, rows, reason: GapReason::Retention }));
    }
}

/// A batch without its rows from `end` on, and where a reader is that has those before. `position`: behind the batch.
pub(super) fn head(batch: &Arc<StreamBatch>, end: usize, position: &Position) -> (Arc<StreamBatch>, Position) {
    let mut position = position.clone();
    if end == batch.rows.num_rows() {
        return (batch.clone(), position);
    }
    position.offsets.insert(batch.partition, (batch.first, end as u64));
    (Arc::new(batch.with_rows(batch.rows.slice(0, end))), position)
}
