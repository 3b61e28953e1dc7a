//! A client's bounded view of a query's output.

mod completeness;
mod conflate;
mod limit;
mod live;
mod open;
mod pace;
mod rest;
mod standing;
mod step;
mod until;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::datatypes::SchemaRef;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::batch::StreamBatch;
use crate::clock::{Clock, EventTime};
use crate::error::EngineError;
use crate::info::JobInfo;
use crate::job::{DemandLease, Job, Lease, Relations};
use crate::notice::Notice;
use crate::stream::{Gap, Offset, Position, Read, StreamReader};

use completeness::Completeness;
use conflate::Conflater;
pub(crate) use live::{Admission, LiveQueries, LiveQuery};
pub use open::SubscribeOptions;
pub(crate) use open::ask;
use pace::Pace;
use rest::Rest;
use step::Steps;
pub use step::{Going, Stand};
use until::End;

/// What happens when a client reads more slowly than rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The oldest rows are skipped, and told as a gap. Default for appended rows.
    DropOldest,
    /// Only the latest row of each key is told. Default for keyed updates.
    Conflate,
    /// Nothing is skipped while the log holds it; what retention takes is told as a gap.
    Block,
    /// The subscription ends.
    Disconnect,
}

/// What a subscription is.
#[derive(Debug, Clone)]
pub struct SubscriptionInfo {
    /// Id of the query, as `SHOW QUERIES` prints it.
    pub query: String,
    /// Names the output: subscriptions with the same channel get the same batches (and may share what is encoded
    /// of them in [`StreamBatch::memo`]).
    pub channel: u64,
    /// The visible fields.
    pub schema: SchemaRef,
    /// The fields by which updates replace each other; empty for appended rows.
    pub key: Vec<String>,
    /// Whether rows replace each other by the key; with an empty key there is one row.
    pub changing: bool,
    /// Before the first row that comes.
    pub position: Position,
    /// `Some(true)`: every row since the position asked for will come. `Some(false)`: not, a gap comes first. `None`:
    /// no position was asked for.
    pub recovered: Option<bool>,
    /// Windows that start before this moment may be partial; `None`: none is.
    pub complete_from: Option<EventTime>,
    /// How many other users the query's jobs have.
    pub shared_with: usize,
    /// What must be told wherever the rows are shown: that a source is a replay, or synthetic.
    pub labels: Vec<String>,
    /// The policy in force.
    pub policy: Policy,
    /// Its rows are results of windows.
    pub windowed: bool,
    /// It is complete after so many rows; `None`: they go on.
    pub limit: Option<u64>,
}

/// What a client gets.
#[derive(Debug)]
pub enum SubscriptionEvent {
    /// Rows. They are `batch.rows` less the first `skip` ones.
    Rows {
        /// The batch, shared by all subscriptions of the channel.
        batch: Arc<StreamBatch>,
        /// Rows of the batch that come before the position that the client resumed from; nearly always zero.
        skip: usize,
        /// Behind the batch.
        position: Position,
        /// Part of the snapshot that a joiner of running results gets first.
        snapshot: bool,
    },
    /// Rows that the client does not get.
    Gap(Gap),
    /// How things stand; at most once a second and only when something changed.
    Progress(Progress),
    /// All that was asked for was told; nothing follows.
    Complete(Completion),
    /// The query has failed or was killed; nothing follows.
    Failed(Arc<EngineError>),
}

/// Why a subscription is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// All inputs have ended, or are where the query says that they end.
    Ended,
    /// As many rows were told as the query's `LIMIT`, or its reader, asks for.
    Limit,
}

impl Completion {
    /// In a word, for clients.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Limit => "limit",
        }
    }
}

/// How a query stands. Counts are of the query's whole chain of jobs, since their start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Progress {
    /// The output's watermark; `None` while there is none.
    pub watermark: Option<EventTime>,
    /// Where the subscription is.
    pub position: Position,
    /// Wall clock less the arrival of the last row read from the source, in milliseconds; of a replay as well.
    pub lag_ms: u64,
    /// Rows that came too late for all their windows.
    pub late: u64,
    /// Rows lost on the way, undecodable, without event time or failed.
    pub dropped: u64,
    /// Share of rows seen of those that came, 1.0 when none was lost. Of results of windows: of those that came while the
    /// windows were open that were told last, or are told next.
    pub completeness: f64,
    /// What holds rows back: that a stream rests, say.
    pub notices: Vec<Notice>,
}

/// How often a progress event comes at the most, in nanoseconds.
const PROGRESS_NS: i64 = 1_000_000_000;
/// Batches that one conflated delivery is made of at the most.
const GATHER_BATCHES: usize = 256;

/// A running subscription. Dropping it takes its query's users down by one; its jobs linger and are then released.
pub struct Subscription {
    info: SubscriptionInfo,
    admission: Admission,
    clock: Arc<dyn Clock>,
    lease: Arc<Lease>,
    relations: Relations,
    /// All jobs of the query, sources first.
    chain: Vec<Arc<Job>>,
    reader: Box<dyn StreamReader>,
    /// Rows before these places are not told again: the client resumed, or got them in its snapshot.
    told: BTreeMap<u32, (Offset, u64)>,
    lag_bytes: u64,
    /// It began in the past, and has not come near the end since.
    replays: bool,
    conflater: Option<Conflater>,
    /// Least time between deliveries, in nanoseconds; zero: none.
    period_ns: i64,
    next_delivery: EventTime,
    ready: VecDeque<SubscriptionEvent>,
    next_progress: EventTime,
    last_progress: Option<Progress>,
    last_arrival: EventTime,
    gap_rows: u64,
    completeness: Completeness,
    /// `None`: rows are told as soon as they are read.
    pace: Option<Pace>,
    /// Where it ends; `None`: with its inputs.
    end: Option<End>,
    /// Rows that are still to be queued; `None`: all.
    wanted: Option<u64>,
    /// Further deliveries of the burst that `period_ns` allows.
    burst: usize,
    done: bool,
    rest: Rest,
    /// How often its query had been paused, told to go on, or ended when it looked last; `None`: it has not looked.
    stirs: Option<u64>,
    /// Until when it waits last.
    timer: Option<(EventTime, BoxFuture<'static, ()>)>,
    steps: Steps,
    _demand: Vec<DemandLease>,
}

impl Subscription {
    /// What it is.
    pub fn info(&self) -> &SubscriptionInfo {
        &self.info
    }

    /// The jobs of the query as they are now, sources first.
    pub fn jobs(&self) -> Vec<JobInfo> {
        self.chain.iter().map(|job| JobInfo::of(job)).collect()
    }

    /// The next event; waits for it. Cancel safe. After [`SubscriptionEvent::Complete`] or
    /// [`SubscriptionEvent::Failed`] it waits for ever.
    pub async fn next(&mut self) -> SubscriptionEvent {
        let mut waited = false;
        std::future::poll_fn(|context| self.poll_next(&mut waited, context)).await
    }

    /// `waited`: it has looked, and waits for rows. Those that it is woken for it is told however many they are: it was
    /// not behind.
    fn poll_next(&mut self, waited: &mut bool, context: &mut Context<'_>) -> Poll<SubscriptionEvent> {
        loop {
            if !std::mem::take(waited)
                && let Some(event) = self.try_next()
            {
                return Poll::Ready(event);
            }
            if self.done && self.ready.is_empty() {
                return Poll::Pending;
            }
            self.admission.live.listen(context.waker());
            if Some(self.admission.live.stirs()) != self.stirs {
                continue;
            }
            let stands = self.rest.resting || self.stands();
            let held = self.pace.as_ref().and_then(Pace::due);
            let waits = !stands && (held.is_some() || self.waits());
            if !stands
                && !waits
                && let Poll::Ready(read) = self.reader.poll_next(context)
            {
                self.take(read);
                continue;
            }
            let until = match held {
                Some(due) if waits => due.min(self.next_progress),
                None if waits => self.next_delivery,
                _ => self.next_progress,
            };
            if self.poll_timer(until, context).is_pending() {
                *waited = !stands && !waits;
                return Poll::Pending;
            }
            if !waits {
                self.progress();
            }
        }
    }

    /// Ready at a moment. Most often it is the same as the last time, for which a timer is there.
    fn poll_timer(&mut self, until: EventTime, context: &mut Context<'_>) -> Poll<()> {
        if self.timer.as_ref().is_none_or(|(moment, _)| *moment != until) {
            let clock = self.clock.clone();
            self.timer = Some((until, async move { clock.sleep_until(until).await }.boxed()));
        }
        if let Some((_, timer)) = &mut self.timer {
            ready!(timer.as_mut().poll(context));
        }
        self.timer = None;
        Poll::Ready(())
    }

    /// The next event if it is there: to fill a socket's buffer without waiting.
    pub fn try_next(&mut self) -> Option<SubscriptionEvent> {
        if let Some(event) = self.pop() {
            return Some(event);
        }
        if self.done && self.ready.is_empty() {
            return None;
        }
        let stirs = Some(self.admission.live.stirs());
        if stirs != self.stirs {
            self.stirs = stirs;
            if self.admission.live.is_killed() {
                self.ready.clear();
                return Some(self.fail(self.admission.live.ended()));
            }
            self.see_rest();
        }
        if self.clock.now() >= self.next_progress {
            self.progress();
        }
        if self.rest.resting || self.stands() {
            return self.pop();
        }
        while self.ready.is_empty() && !self.done && !self.waits() {
            if let Some(pace) = self.pace.as_mut().filter(|pace| pace.due().is_some()) {
                let now = if self.steps.counts() { EventTime::MAX } else { self.clock.now() };
                let Some(batch) = pace.release(now) else { break };
                self.read(batch);
                continue;
            }
            self.keep_up();
            let Some(read) = self.reader.try_next() else { break };
            self.take(read);
        }
        self.pop()
    }

    /// Ends the subscription at the client's wish: its jobs linger for two seconds instead of a minute.
    pub fn unsubscribe(self) {
        self.lease.unsubscribe();
        self.relations.values().for_each(|lease| lease.unsubscribe());
    }

    /// Whether the rate limit holds rows back now.
    fn waits(&mut self) -> bool {
        if self.period_ns == 0 || self.burst > 0 {
            return false;
        }
        self.clock.now() < self.next_delivery
    }

    /// Applies the policy to a subscription that is behind.
    fn keep_up(&mut self) {
        // Who reads at a pace, or step by step, is behind by its own will.
        if self.pace.is_some()
            || self.steps.used
            || !matches!(self.info.policy, Policy::DropOldest | Policy::Disconnect)
        {
            return;
        }
        let behind_bytes = self.reader.behind_bytes();
        if behind_bytes <= self.lag_bytes {
            self.replays = false;
        }
        if self.replays || behind_bytes <= self.lag_bytes {
            return;
        }
        if self.info.policy == Policy::Disconnect {
            let event = self.fail(Arc::new(EngineError::TooSlow { behind_bytes, limit_bytes: self.lag_bytes }));
            self.ready.push_back(event);
        } else if let Some(gap) = self.reader.skip_to_latest(self.lag_bytes / 2) {
            self.gap(gap);
        }
    }

    fn fail(&mut self, error: Arc<EngineError>) -> SubscriptionEvent {
        self.done = true;
        SubscriptionEvent::Failed(error)
    }

    fn gap(&mut self, gap: Gap) {
        self.gap_rows += gap.rows.unwrap_or_default();
        self.admission.live.gaps.add(&gap);
        self.ready.push_back(SubscriptionEvent::Gap(gap));
    }

    fn take(&mut self, read: Read) {
        match read {
            Read::Batch(batch) => {
                let batch = match &mut self.pace {
                    Some(pace) if !self.steps.counts() => pace.take(batch, self.clock.now()),
                    _ => Some(batch),
                };
                if let Some(batch) = batch {
                    self.read(batch);
                }
            }
            Read::Gap(gap) => self.gap(gap),
            Read::EndOfPartition(partition) => {
                let passed = self.end.as_mut().map(|end| end.end_partition(partition));
                self.complete_at_end(passed);
            }
            Read::End => {
                self.done = true;
                self.ready.push_back(SubscriptionEvent::Complete(Completion::Ended));
            }
            Read::Failed(error) => {
                let event = self.fail(error);
                self.ready.push_back(event);
            }
        }
    }

    fn read(&mut self, batch: Arc<StreamBatch>) {
        let (partition, watermark, idle) = (batch.partition, batch.watermark, batch.idle);
        self.batch(batch);
        let passed = self.end.as_mut().map(|end| end.pass(partition, watermark, idle));
        self.complete_at_end(passed);
    }

    fn batch(&mut self, batch: Arc<StreamBatch>) {
        self.last_arrival = self.last_arrival.max(batch.arrival);
        if self.period_ns > 0 && self.burst == 0 {
            self.next_delivery = self.clock.now().plus(self.period_ns);
            self.burst = GATHER_BATCHES;
        }
        let Some(conflater) = &mut self.conflater else {
            self.burst = self.burst.saturating_sub(1);
            if self.burst > 0 && self.reader.behind_rows() == 0 {
                self.burst = 0;
            }
            return self.tell(batch, self.reader.position());
        };
        let mut batches = vec![batch];
        let mut behind = None;
        while batches.len() < GATHER_BATCHES && behind.is_none() {
            match self.reader.try_next() {
                Some(Read::Batch(next)) => batches.push(next),
                Some(other) => behind = Some(other),
                None => break,
            }
        }
        self.burst = 0;
        let position = self.reader.position();
        for batch in conflater.conflate(batches) {
            self.tell(batch, position.clone());
        }
        if let Some(read) = behind {
            self.take(read);
        }
    }

    /// Queues the rows of a batch that the client has not been told. `position`: behind it.
    fn tell(&mut self, batch: Arc<StreamBatch>, position: Position) {
        let rows = batch.rows.num_rows();
        let Some(skip) = self.skip(&batch).filter(|skip| *skip < rows) else { return };
        let runs = self.end.as_ref().map(|end| end.runs(&batch, skip));
        if runs.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        self.note_overtaken(&batch);
        self.tell_completeness(&batch);
        let Some(runs) = runs else { return self.queue(batch, skip, position) };
        for run in runs {
            let (batch, position) = step::head(&batch, run.end, &position);
            self.queue(batch, run.start, position);
        }
    }

    /// How many of a batch's rows were told before; `None`: all.
    fn skip(&mut self, batch: &StreamBatch) -> Option<usize> {
        let Some((offset, skip)) = self.told.get(&batch.partition).copied() else { return Some(0) };
        if batch.next <= offset {
            return None;
        }
        self.told.remove(&batch.partition);
        // Where rows were filtered away, offsets do not tell how many lie before: rather twice than never.
        let dense = batch.next.0 - batch.first.0 == batch.rows.num_rows() as u64;
        let before = if dense { offset.0.saturating_sub(batch.first.0) + skip } else { skip };
        Some(usize::try_from(before).unwrap_or(usize::MAX))
    }

    /// Queues a progress event if something has changed.
    fn progress(&mut self) {
        let nothing = |end: &End| end.is_past_without_rows(&self.chain, self.clock.now());
        if !self.done && self.end.as_ref().is_some_and(nothing) {
            self.done = true;
            self.ready.push_back(SubscriptionEvent::Complete(Completion::Ended));
            return;
        }
        self.note_seen();
        self.next_progress = self.clock.now().plus(PROGRESS_NS);
        let progress = self.standing();
        let same = self
            .last_progress
            .as_ref()
            .is_some_and(|last| Progress { lag_ms: progress.lag_ms, ..last.clone() } == progress);
        if !same {
            self.last_progress = Some(progress.clone());
            self.ready.push_back(SubscriptionEvent::Progress(progress));
        }
    }

    /// Completes a subscription that has read all rows before its end.
    fn complete_at_end(&mut self, passed: Option<Result<(), EngineError>>) {
        if let Some(Err(error)) = passed {
            let event = self.fail(Arc::new(error));
            self.ready.push_back(event);
        } else if !self.done && self.end.as_ref().is_some_and(End::is_reached) {
            self.done = true;
            self.ready.push_back(SubscriptionEvent::Complete(Completion::Ended));
        }
    }
}
