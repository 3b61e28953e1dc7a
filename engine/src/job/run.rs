//! The tasks of jobs.

mod again;
mod alter;
mod anchor;
mod answer;
mod gather;
mod keep;
mod kept_over;
mod make;
mod renew;
mod rest;
mod spawn;
mod switch;
mod tell;
mod together;

pub(super) use again::text_of;
use again::{Reached, Recipe};
use alter::Altering;
use anchor::{Anchor, Awaited};
use keep::Keeper;
pub(super) use keep::{Keeping, Onward};
pub(super) use make::make_job;
pub(crate) use spawn::spawn_job;
use spawn::{Before, spawn};
pub(super) use spawn::{spawn_kept, spawn_restored};
use together::beginning;
pub(super) use together::go_apart;
pub(crate) use together::spawn_last;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::branch::{canonical_branch, describe_ops};
use super::carry::Switch;
use super::feed::{Begin, Fed, Feed};
use super::harm::Crashes;
use super::late::{Late, LateTap};
use super::stage::{Setting, Stage, TABLE};
use super::ticks::{row_by_row, ticking};
use super::writer::Writer;
use super::{Branch, Command, Job, Status};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;
use crate::operator::{Operator, Output};
use crate::shared::Shared;
use crate::stream::{MemoryStream, Offset, Stream};

/// A job to be started.
pub(crate) struct JobSpec {
    /// What its id is made of.
    pub(crate) number: u64,
    pub(crate) branches: Vec<Branch>,
    pub(crate) stage: Stage,
    pub(crate) begin: Begin,
    /// The event time of the first result that whoever reads it needs; `MAX`: those to come.
    pub(crate) needed: EventTime,
    /// The named stream that it writes.
    pub(crate) stream: Option<String>,
    /// Nobody else may use it.
    pub(crate) private: bool,
    /// Its inputs do not overtake it.
    pub(crate) holding: bool,
    /// The stream that it writes, when that is there already.
    pub(crate) output: Option<Arc<MemoryStream>>,
    /// It rests from its start.
    pub(crate) paused: bool,
}

/// Text that is equal for jobs that write equal streams.
pub(crate) fn fingerprint(inputs: &[(String, bool, &[super::OpSpec])], stage: &Stage, stream: Option<&str>) -> String {
    let branches: Vec<String> =
        inputs.iter().map(|(input, updates, ops)| canonical_branch(input, *updates, ops)).collect();
    let name = stream.map(|name| format!("|name({name})")).unwrap_or_default();
    format!("({}){}{name}", branches.join("+"), stage.canonical())
}

/// In words.
pub(crate) fn describe(branches: &[(String, &[super::OpSpec])], stage: &Stage) -> String {
    let inputs: Vec<String> = branches
        .iter()
        .map(|(input, ops)| {
            let steps = describe_ops(ops);
            if steps.is_empty() { format!("from {input}") } else { format!("from {input}: {steps}") }
        })
        .collect();
    let from = inputs.join("; ");
    stage.stateful().map_or(from.clone(), |step| format!("{} {from}", step.describe()))
}

/// What a task does with a batch.
enum Work {
    HandOn,
    Operator(Box<dyn Operator>),
}

impl Work {
    fn new(shared: &Shared, stage: &Stage, feed: &Feed, counters: &Arc<Counters>) -> Result<Self, EngineError> {
        Self::begun(shared, stage, feed, (feed.start, feed.missing_before), counters)
    }

    /// The same; where it begins, and what its inputs lack.
    fn begun(
        shared: &Shared,
        stage: &Stage,
        feed: &Feed,
        (start, missing_before): (EventTime, EventTime),
        counters: &Arc<Counters>,
    ) -> Result<Self, EngineError> {
        let Some(step) = stage.stateful() else { return Ok(Self::HandOn) };
        let setting = Setting {
            inputs: feed.inputs(),
            sides: feed.sides(),
            start,
            missing_before,
            forgets: !shared.config.lossless,
            state_limit_bytes: shared.config.query_state_bytes,
            counters: counters.clone(),
            crew: shared.crew.clone(),
        };
        step.operator(setting).map(Self::Operator)
    }
}

struct Task {
    shared: Arc<Shared>,
    job: Arc<Job>,
    stage: Stage,
    /// Those that the feed reads: the job's, or the logs below them once it was started again.
    branches: Vec<Branch>,
    feed: Feed,
    work: Work,
    inbox: mpsc::Receiver<Command>,
    ticks: watch::Receiver<Option<Duration>>,
    pauses: watch::Receiver<bool>,
    output: Writer,
    updates: Option<Writer>,
    late: Option<LateTap>,
    /// The next moment for running results: of the wall clock, or of event time over bounded input.
    next_tick: EventTime,
    state_bytes: usize,
    /// Partitions of the input that have not ended.
    running_partitions: u32,
    /// The output has partitions of the input, and they end with them.
    keeps_partitions: bool,
    /// How it is started again when it crashes; `None`: it fails.
    recipe: Option<Recipe>,
    reached: Reached,
    /// Behind what was processed before the last crash, in each partition of the feed.
    repeated: Vec<Offset>,
    crashes: Crashes,
    /// It is to go on once it rests, and skip what came: it was told so before it did.
    wakes: Option<Command>,
    /// It is to go on with the stream of another job, which takes the place of one that it reads.
    switching: Option<Switch>,
    /// A log that is to be replaced, which it reads through others.
    awaited: Option<Awaited>,
    /// Where it goes back to when it crashes; `None`: the logs below it have all that it needs.
    anchor: Option<Anchor>,
    /// Results with earlier event times were told before it went back; `None`: none that come again.
    told_before: Option<EventTime>,
    /// Who waits until what was skipped is written down.
    notes: Vec<oneshot::Sender<()>>,
    /// What it is to go over to; `None`: it stays as it is.
    altering: Option<Altering>,
    /// Results of windows with earlier event times were told by its last query; `None`: that matters no more.
    told_until: Option<EventTime>,
    /// Snapshots are taken of it.
    keeper: Option<Keeper>,
}

impl Task {
    fn new(
        shared: Arc<Shared>,
        job: Arc<Job>,
        stage: Stage,
        feed: Feed,
        work: Work,
        inbox: mpsc::Receiver<Command>,
    ) -> Result<Self, EngineError> {
        let renumber = job.logged;
        let recipe = Recipe::of(&stage, &job.inputs().branches, &feed);
        let reached = Reached::at(feed.positions());
        let late = LateTap::new(&job)?;
        let output = Writer::new(job.output.clone(), renumber)?;
        let updates = job.updates.clone().map(|stream| Writer::new(stream, true)).transpose()?;
        Ok(Self {
            running_partitions: feed.partitions(),
            keeps_partitions: feed.reads_table,
            pauses: job.hold.watch(),
            ticks: job.demand.watch(),
            branches: job.inputs().branches.clone(),
            recipe,
            reached,
            repeated: Vec::new(),
            crashes: Crashes::default(),
            wakes: None,
            notes: Vec::new(),
            switching: None,
            awaited: None,
            anchor: None,
            told_before: None,
            altering: None,
            told_until: None,
            keeper: None,
            shared,
            job,
            stage,
            feed,
            work,
            inbox,
            output,
            updates,
            late,
            next_tick: EventTime::MIN,
            state_bytes: 0,
        })
    }

    async fn run(mut self) {
        let cancel = self.job.cancel.clone();
        let result = tokio::select! {
            result = self.work_on() => result,
            () = cancel.cancelled() => Ok(()),
        };
        self.keep_at_end().await;
        // What was booked is given back; a shrinking booking never fails.
        let _ = self.shared.book_state(self.state_bytes, 0);
        self.job.state_bytes.store(0, Ordering::Relaxed);
        match result {
            Ok(()) => self.job.set_status(Status::Ended),
            Err(error) => {
                tracing::warn!(job = self.job.id, %error, "a job has failed");
                self.fail(error);
            }
        }
    }

    fn fail(&self, error: Arc<EngineError>) {
        self.job.set_status(Status::Failed(error.clone()));
        self.job.output.fail(error.clone());
        if let Some(updates) = &self.job.updates {
            updates.fail(error.clone());
        }
        if let Some(late) = &self.job.late {
            late.stream.fail(error);
        }
    }

    async fn work(&mut self) -> Result<(), Arc<EngineError>> {
        self.feed.seed(&self.job.inputs().branches).await?;
        loop {
            if self.job.hold.is_paused() {
                self.rest().await?;
            }
            if self.feed.lies_before() {
                self.catch_up().await?;
                continue;
            }
            self.hand_over().await?;
            self.note().await?;
            self.switch().await?;
            self.keep();
            let interval = self.wanted();
            let snapshot_due = self.snapshot_due();
            let clock = self.shared.clock.clone();
            let (lossless, due) = (self.shared.config.lossless, self.next_tick);
            let tick = async {
                match interval {
                    Some(interval) if !lossless && interval > Duration::ZERO => clock.sleep_until(due).await,
                    _ => std::future::pending().await,
                }
            };
            let keep = async {
                match snapshot_due {
                    Some(due) => clock.sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(command) = self.inbox.recv() => self.answer(command),
                Ok(()) = self.ticks.changed() => {}
                Ok(()) = self.pauses.changed() => {}
                () = Altering::answered(&mut self.altering) => {}
                () = Awaited::is_decided(&mut self.awaited) => {}
                () = tick => self.tick(interval).await?,
                () = keep, if snapshot_due.is_some_and(|due| due > clock.now()) => {}
                fed = self.feed.next() => match fed? {
                    Fed::Batch(batch) => {
                        // Who came to want running results before these rows came is told them.
                        let interval = self.wanted();
                        self.batch(batch, interval).await?;
                    }
                    Fed::EndOfPartition(partition) => self.end_partition(partition).await?,
                    Fed::End => return self.answer_on().await,
                    Fed::Failed(error) => return Err(error),
                },
            }
            tokio::task::yield_now().await;
        }
    }

    /// A table that gets no more rows is still asked for what it holds.
    async fn answer_on(&mut self) -> Result<(), Arc<EngineError>> {
        if self.job.kind == TABLE {
            self.job.set_status(Status::Ended);
        }
        while self.job.kind == TABLE
            && let Some(command) = self.inbox.recv().await
        {
            self.answer(command);
        }
        Ok(())
    }

    /// Reads the history first: who asks for a snapshot gets a whole one. Stops when the job is to rest.
    async fn catch_up(&mut self) -> Result<(), EngineError> {
        let interval = *self.ticks.borrow();
        self.track(interval);
        while let Some(fed) = self.feed.next_past().await? {
            if let Fed::Batch(batch) = fed {
                self.batch(batch, interval).await?;
            }
            tokio::task::yield_now().await;
            if self.job.hold.is_paused() {
                break;
            }
        }
        Ok(())
    }

    /// How often running results are wanted now.
    fn wanted(&mut self) -> Option<Duration> {
        let interval = *self.ticks.borrow_and_update();
        self.track(interval);
        interval
    }

    /// Begins or stops to keep running results, as they are wanted.
    fn track(&mut self, interval: Option<Duration>) {
        let Work::Operator(operator) = &mut self.work else { return };
        operator.track_updates(interval.is_some());
        if let Some(interval) = interval.filter(|interval| *interval > Duration::ZERO)
            && !self.shared.config.lossless
        {
            let latest = self.shared.clock.now().plus(nanoseconds(interval));
            if self.next_tick == EventTime::MIN || self.next_tick > latest {
                self.next_tick = latest;
            }
        }
    }

    async fn batch(&mut self, batch: StreamBatch, interval: Option<Duration>) -> Result<(), EngineError> {
        let started = Instant::now();
        self.set_steady(false);
        let mut output = Output::default();
        let (arrival, partition, next) = (batch.arrival, batch.partition, batch.next);
        self.late_from(&batch)?;
        match &mut self.work {
            Work::HandOn => {
                output.rows.push(batch);
                // They are committed with the position behind them.
                output.rows.append(&mut self.feed.rest());
                for batch in &output.rows {
                    add(&self.job.counters.passed, batch.rows.num_rows());
                    add(&self.job.counters.rows_out, batch.rows.num_rows());
                }
            }
            Work::Operator(operator) => match (interval, self.shared.config.lossless) {
                (Some(Duration::ZERO), true) => row_by_row(operator.as_mut(), &batch, &mut output)?,
                (Some(Duration::ZERO), false) => {
                    operator.process(batch, &mut output)?;
                    operator.tick(&mut output)?;
                }
                (Some(interval), true) => {
                    ticking(operator.as_mut(), batch, nanoseconds(interval), &mut self.next_tick, &mut output)?;
                }
                (None, true) if operator.gathers() && !self.shared.config.restores => {
                    self.gather(batch, &mut output).await?;
                }
                _ => operator.process(batch, &mut output)?,
            },
        }
        if let (Work::Operator(operator), true) = (&mut self.work, self.keeper.is_some()) {
            // What was read together is told together.
            self.feed.rest().into_iter().try_for_each(|batch| operator.process(batch, &mut output))?;
            self.mark_read(&mut output, arrival);
        }
        if self.shared.config.restores && interval.is_none() {
            self.renew()?;
        }
        self.job.counters.spend(started);
        self.hand_on(output, arrival).await?;
        self.book()?;
        self.reach(partition, next);
        self.set_steady(true);
        Ok(())
    }

    /// Keeps late rows from now on if somebody wants them.
    fn late_from(&mut self, batch: &StreamBatch) -> Result<(), EngineError> {
        let repeats = self.repeats(batch.partition, batch.next);
        let (Some(tap), Work::Operator(operator)) = (&mut self.late, &mut self.work) else { return Ok(()) };
        operator.track_late(!repeats && self.job.late.as_ref().is_some_and(Late::is_wanted));
        tap.advance(batch.partition, batch.watermark, batch.idle)
    }

    fn book(&mut self) -> Result<(), EngineError> {
        let own = match &self.work {
            Work::Operator(operator) => operator.state_bytes(),
            Work::HandOn if self.job.kind == "late" => self.job.output.facts().log_bytes as usize,
            Work::HandOn => 0,
        };
        let (used_bytes, limit_bytes) = (self.feed.state_bytes(), self.shared.config.query_state_bytes);
        if used_bytes > limit_bytes {
            return Err(EngineError::StateBudget { scope: "query", used_bytes, limit_bytes });
        }
        let bytes = own + used_bytes;
        let anchored = self.anchor_bytes(limit_bytes.saturating_sub(bytes));
        let booked = self.book_bytes(bytes + anchored);
        if booked.is_err() && anchored > 0 {
            // Others need the room.
            self.forget_anchor();
            return self.book_bytes(bytes);
        }
        booked
    }

    fn book_bytes(&mut self, bytes: usize) -> Result<(), EngineError> {
        let before = std::mem::replace(&mut self.state_bytes, bytes);
        self.job.state_bytes.store(bytes, Ordering::Relaxed);
        self.shared.book_state(before, bytes)
    }
}

fn nanoseconds(interval: Duration) -> i64 {
    i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX)
}
