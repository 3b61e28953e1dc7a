//! A task of which snapshots are taken, and that goes on from one.
//!
//! Every record of its log says how far the inputs had been read for it. A snapshot is older than the log's end: what was
//! told since is told again when the inputs are read again from where the snapshot stands, and left out up to what the last
//! record says. So no row that a reader has seen is ever taken back, and none comes twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use futures::FutureExt;
use tokio::task::JoinHandle;

use super::{Task, Work, nanoseconds};
use crate::batch::{Memo, StreamBatch};
use crate::clock::EventTime;
use crate::counters::Counters;
use crate::error::EngineError;
use crate::job::feed::{Begin, Feed, reached_by, unmarked};
use crate::job::snapshot::{Begins, Point, Snapshot, Snapshots};
use crate::job::{Branch, Status};
use crate::operator::{Output, State};
use crate::stream::{MemoryStream, Offset, Position, Stream};

/// How often a snapshot is taken of a job that has read something since the last one.
const INTERVAL: Duration = Duration::from_secs(1);
/// Taking one may cost one part in so many of a job's time: of large states they are taken less often.
const SHARE: u32 = 20;

/// What snapshots of a job are of, and where they are kept.
#[derive(Debug, Clone)]
pub(crate) struct Keeping {
    pub(crate) snapshots: Arc<Snapshots>,
    /// Text that is equal for jobs whose states fit.
    pub(crate) plan: Arc<str>,
    pub(crate) begins: Begins,
    /// Rows go by their arrival somewhere.
    pub(crate) by_arrival: bool,
    /// The job has a log, which says how far it has told.
    pub(crate) logged: bool,
}

/// Where a job goes on.
#[derive(Debug)]
pub(crate) struct Onward {
    snapshot: Snapshot,
    /// For each partition of its log how far the inputs had been read for the last record.
    told: Vec<Vec<Position>>,
    /// The places that it came to since the snapshot, in their order.
    script: Vec<Vec<Position>>,
}

impl Keeping {
    /// Where the job goes on: the newest snapshot first that is whole and fits what there is, if `skip` others are not to
    /// be used. `None`: there is none.
    pub(crate) async fn onward(
        &self,
        branches: &[Branch],
        output: Option<&Arc<MemoryStream>>,
        skip: usize,
    ) -> Result<Option<Onward>, EngineError> {
        let (mut skipped, mut undecided) = (0, Vec::new());
        for generation in self.snapshots.generations() {
            let snapshots = self.snapshots.clone();
            let Ok(mut snapshot) = blocking(move || snapshots.read(generation)).await? else { continue };
            for (branch, at) in branches.iter().zip(&mut snapshot.point.inputs) {
                *at = branch.stream().carry(at);
            }
            if *snapshot.point.plan != *self.plan {
                // Of a query that the stream was to go over to, or of the one before.
                undecided.push(generation);
                continue;
            }
            if !self.fits(&snapshot.point, branches, output) {
                tracing::warn!(generation, "a snapshot is of other inputs: it is not used");
                continue;
            }
            if skipped < skip {
                skipped += 1;
                continue;
            }
            let snapshots = self.snapshots.clone();
            blocking(move || snapshots.forget(|other| undecided.contains(&other))).await??;
            return self.since(snapshot, branches, output).await.map(Some);
        }
        Ok(None)
    }

    fn fits(&self, point: &Point, branches: &[Branch], output: Option<&Arc<MemoryStream>>) -> bool {
        let known = |(branch, at): (&Branch, &Position)| branch.stream().knows(&unmarked(at));
        point.inputs.len() == branches.len()
            && branches.iter().zip(&point.inputs).all(known)
            && point.end.is_some() == output.is_some()
            && point.end.iter().zip(output).all(|(end, output)| output.knows(end))
    }

    /// What was told since a snapshot.
    async fn since(
        &self,
        snapshot: Snapshot,
        branches: &[Branch],
        output: Option<&Arc<MemoryStream>>,
    ) -> Result<Onward, EngineError> {
        let names: Vec<String> = branches.iter().map(|branch| branch.job().display_name()).collect();
        // Those of a query before have others, or come before the snapshot.
        let own = |inputs: &Vec<(String, Position)>| inputs.iter().map(|(name, _)| name).eq(&names);
        let places = |inputs: Vec<(String, Position)>| inputs.into_iter().map(|(_, at)| at).collect::<Vec<_>>();
        let told = output.map_or_else(Vec::new, |output| {
            let since = |partition| reach(&output.end_position(), partition) > reach_of(&snapshot.point, partition);
            let told = (0..).zip(output.inputs());
            told.map(|(at, inputs)| if since(at) && own(&inputs) { places(inputs) } else { Vec::new() }).collect()
        });
        let mut script = Vec::new();
        if branches.len() > 1
            && let (Some(end), Some(disk)) = (snapshot.point.end.clone(), output.and_then(|output| output.disk()))
        {
            let log = disk.log.clone();
            let found = blocking(move || log.inputs_since(&end)).await?;
            let found = found.map_err(|error| EngineError::Disk(Arc::new(error)))?;
            script = found.into_iter().filter(own).map(places).collect();
            script.dedup();
        }
        Ok(Onward { snapshot, told, script })
    }

    /// The moment at which a job begins: there is a snapshot of it before it runs.
    pub(crate) fn first(&self, inputs: Vec<Position>, output: Option<&MemoryStream>) -> Snapshot {
        let point = Point {
            plan: self.plan.to_string(),
            inputs,
            end: output.map(MemoryStream::end_position),
            begins: self.begins.clone(),
            counters: crate::CountersSnapshot::default(),
            fresh: true,
        };
        Snapshot { point, state: State::default() }
    }
}

impl Onward {
    /// Of a job that has told nothing.
    pub(crate) fn anew(snapshot: Snapshot) -> Self {
        Self { snapshot, told: Vec::new(), script: Vec::new() }
    }

    /// Where the steps began.
    pub(crate) fn begins(&self) -> &Begins {
        &self.snapshot.point.begins
    }

    /// Where to read on.
    pub(crate) fn begin(&self) -> Begin {
        Begin::Each(self.snapshot.point.inputs.iter().map(unmarked).collect())
    }

    /// Puts a feed and what works on it where the snapshot stands. The places up to which what is told was told before.
    pub(super) fn enter(
        self,
        keeping: &Keeping,
        (feed, work, branches): (&mut Feed, &mut Work, &[Branch]),
        counters: &Counters,
    ) -> Result<Option<Vec<Vec<Position>>>, EngineError> {
        let Snapshot { point, mut state } = self.snapshot;
        if let (Work::Operator(operator), false) = (work, point.fresh) {
            feed.restore(&mut state)?;
            operator.restore(&mut state)?;
            if !state.is_empty() {
                return Err(EngineError::State("it has more parts than were taken".into()));
            }
        }
        counters.resume(&point.counters);
        for (branch, at) in branches.iter().zip(&point.inputs) {
            let lost = branch.stream().lost_rows(&unmarked(at));
            if lost > 0 {
                let (input, rows) = (branch.job().display_name(), lost);
                tracing::warn!(input, rows, "rows that a stream had not read when it stopped are no longer kept");
                // They are counted as they are passed over.
                feed.complete_from = feed.complete_from.max(branch.stream().facts().evicted_event_time.plus(1));
            }
        }
        feed.be_exact(keeping.by_arrival, &point.inputs, self.script);
        feed.complete_from = feed.complete_from.max(point.begins.complete_from.unwrap_or(EventTime::MIN));
        feed.missing_before = feed.missing_before.max(point.begins.untold.unwrap_or(EventTime::MIN));
        let left_out = self.told.iter().any(|told| !told.is_empty() && !reached_by(told, &point.inputs));
        Ok(left_out.then_some(self.told))
    }
}

/// The snapshots of a task.
pub(super) struct Keeper {
    keeping: Keeping,
    /// For each partition of the output the places up to which it was told before; `None`: nothing is left out.
    told: Option<Vec<Vec<Position>>>,
    /// Something was read since the last snapshot.
    dirty: bool,
    /// No batch is half processed.
    pub(super) steady: bool,
    due: EventTime,
    /// It is written; whether it was.
    writing: Option<JoinHandle<bool>>,
}

impl Keeper {
    pub(super) fn new(keeping: Keeping, told: Option<Vec<Vec<Position>>>) -> Self {
        Self { keeping, told, dirty: false, steady: true, due: EventTime::MIN, writing: None }
    }

    /// Leaves out what was told before. `places`: how far the inputs were read for it.
    fn untold(&mut self, rows: &mut Vec<StreamBatch>, places: &[Position]) -> Result<(), EngineError> {
        if let Some(until) = self.keeping.begins.told {
            rows.iter_mut().try_for_each(|batch| cut_before(batch, until))?;
        }
        self.settle(places);
        let Some(told) = &self.told else { return Ok(()) };
        let before = |partition: u32| told.get(partition as usize).is_some_and(|told| reached_by(places, told));
        rows.retain(|batch| !before(batch.partition));
        Ok(())
    }

    /// Leaves nothing out any more once the inputs are read beyond what was told.
    fn settle(&mut self, places: &[Position]) {
        self.told.take_if(|told| !told.iter().any(|told| reached_by(places, told)));
    }
}

impl Task {
    /// How far the inputs were read, as records say it.
    pub(super) fn places(&self) -> Vec<Position> {
        if self.keeper.is_some() { self.feed.places() } else { self.feed.positions() }
    }

    /// Leaves out what was told before: by another query, or by the task until it went on from a snapshot.
    pub(super) fn leave_out(&mut self, output: &mut Output, places: &[Position]) -> Result<(), EngineError> {
        if let Some(keeper) = self.keeper.as_mut().filter(|_| !output.rows.is_empty()) {
            if keeper.keeping.begins.goes_on {
                let marks = self.job.output.watermarks();
                for batch in &mut output.rows {
                    let told = marks.get(batch.partition as usize).copied().unwrap_or(EventTime::MIN);
                    batch.watermark = batch.watermark.max(told);
                }
            }
            keeper.untold(&mut output.rows, places)?;
        }
        self.leave_out_told(output)
    }

    /// When the next snapshot is due; `None`: nothing was read since the last one.
    pub(super) fn snapshot_due(&self) -> Option<EventTime> {
        self.keeper.as_ref().filter(|keeper| keeper.dirty).map(|keeper| keeper.due)
    }

    /// A batch is to be processed, or was.
    pub(super) fn set_steady(&mut self, steady: bool) {
        if let Some(keeper) = &mut self.keeper {
            keeper.steady = steady;
            keeper.dirty |= !steady;
        }
    }

    /// Takes a snapshot when it is time, and has it written while the task goes on.
    pub(super) fn keep(&mut self) {
        let now = self.shared.clock.now();
        let Some(keeper) = &mut self.keeper else { return };
        if let Some(writing) = keeper.writing.take_if(|writing| writing.is_finished()) {
            keeper.dirty |= writing.now_or_never().is_none_or(|written| !written.unwrap_or(false));
        }
        if !keeper.dirty || now < keeper.due {
            return;
        }
        if keeper.writing.is_some() || !self.is_ready() {
            if let Some(keeper) = &mut self.keeper {
                keeper.due = now.plus(nanoseconds(INTERVAL));
            }
            return;
        }
        let started = Instant::now();
        let taken = self.take_snapshot();
        let pause = INTERVAL.max(started.elapsed().saturating_mul(SHARE));
        let Some(keeper) = &mut self.keeper else { return };
        keeper.due = now.plus(nanoseconds(pause));
        keeper.dirty = false;
        if let Some(snapshot) = taken {
            let snapshots = keeper.keeping.snapshots.clone();
            keeper.writing = Some(self.shared.handle.spawn_blocking(move || written(&snapshots, snapshot)));
        }
    }

    /// Whether this is a moment of which a snapshot can be taken: nothing is half done, and what was told is behind it.
    pub(super) fn is_ready(&mut self) -> bool {
        if !self.feed.is_at_rest() {
            return false;
        }
        let Some(keeper) = &mut self.keeper else { return false };
        if keeper.told.is_some() {
            keeper.settle(&self.feed.places());
        }
        keeper.told.is_none()
    }

    /// Waits until the last snapshot is written, and has no other written: those that are kept, and what they are of.
    pub(super) async fn rest_keeping(&mut self) -> Option<Keeping> {
        let keeper = self.keeper.as_mut()?;
        if let Some(writing) = keeper.writing.take() {
            keeper.dirty |= !writing.await.unwrap_or(false);
        }
        Some(keeper.keeping.clone())
    }

    /// Takes a snapshot now if something was read since the last, and waits until it is written.
    pub(super) async fn keep_now(&mut self) {
        let Some(keeper) = &mut self.keeper else { return };
        if let Some(writing) = keeper.writing.take() {
            keeper.dirty |= !writing.await.unwrap_or(false);
        }
        if keeper.dirty
            && keeper.steady
            && self.is_ready()
            && let Some(snapshot) = self.take_snapshot()
        {
            let Some(keeper) = &mut self.keeper else { return };
            let snapshots = keeper.keeping.snapshots.clone();
            let done = self.shared.handle.spawn_blocking(move || written(&snapshots, snapshot)).await;
            keeper.dirty = !done.unwrap_or(false);
        }
    }

    /// Snapshots are of a query of this text from now on.
    pub(super) fn set_plan(&mut self, plan: Arc<str>) {
        if let Some(keeper) = &mut self.keeper {
            keeper.keeping.plan = plan;
        }
    }

    /// Something that is no row has changed: a snapshot is wanted though nothing was read.
    pub(super) fn want_snapshot(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.dirty = true;
        }
    }

    pub(super) fn take_snapshot(&mut self) -> Option<Snapshot> {
        let Keeping { plan, begins, logged, .. } = &self.keeper.as_ref()?.keeping;
        let point = Point {
            plan: plan.to_string(),
            inputs: self.feed.places(),
            end: logged.then(|| self.job.output.end_position()),
            begins: begins.clone(),
            counters: self.job.counters.snapshot(),
            fresh: false,
        };
        let mut state = State::default();
        let Work::Operator(operator) = &mut self.work else { return None };
        let saved = self.feed.save(&mut state).and_then(|()| operator.save(&mut state));
        match saved {
            Ok(()) => Some(Snapshot { point, state }),
            Err(error) => {
                tracing::error!(job = self.job.id, %error, "no snapshot can be taken of a job");
                None
            }
        }
    }

    /// Makes the task anew where its last snapshot stands.
    pub(super) async fn go_back(&mut self) -> Result<(), EngineError> {
        let Some(mut keeper) = self.keeper.take() else { return Ok(()) };
        if let Some(writing) = keeper.writing.take() {
            // Whether it was written, the folder says.
            let _ = writing.await;
        }
        let keeping = keeper.keeping;
        for skip in 0.. {
            let output = keeping.logged.then_some(&self.job.output);
            let onward = keeping.onward(&self.branches, output, skip).await?;
            let onward = onward.ok_or_else(|| EngineError::State("there is no snapshot that is whole".into()))?;
            let begin = onward.begin();
            let begin = (&begin, EventTime::MAX, self.shared.clock.now());
            self.feed = Feed::open(&self.branches, &self.stage, begin, self.feed.holding(), &self.job.counters)?;
            self.work = Work::new(&self.shared, &self.stage, &self.feed, &self.job.counters)?;
            let parts = (&mut self.feed, &mut self.work, self.branches.as_slice());
            match onward.enter(&keeping, parts, &self.job.counters) {
                Ok(told) => {
                    self.keeper = Some(Keeper::new(keeping, told));
                    break;
                }
                Err(error @ EngineError::State(_)) => {
                    tracing::error!(job = self.job.id, %error, "a snapshot does not fit: the one before it is used");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes a record without rows, so that it is known how far the inputs were read, in which order.
    pub(super) fn mark_read(&self, output: &mut Output, arrival: EventTime) {
        let several = self.branches.len() > 1 && self.keeper.as_ref().is_some_and(|keeper| keeper.keeping.logged);
        if !several || !output.rows.is_empty() {
            return;
        }
        let watermark = self.job.output.watermarks().first().copied().unwrap_or(EventTime::MIN);
        let rows = arrow::array::RecordBatch::new_empty(self.job.output.schema().clone());
        output.rows.push(StreamBatch {
            kind: crate::batch::RowKind::Append,
            partition: 0,
            first: self.output.next(0),
            next: self.output.next(0),
            rows,
            watermark,
            arrival,
            idle: self.job.output.is_idle(0),
            memo: crate::batch::Memo::default(),
        });
    }

    /// Takes a last snapshot when the engine stops.
    pub(super) async fn keep_at_end(&mut self) {
        if self.shared.stops() && matches!(self.job.status(), Status::Running) {
            self.keep_now().await;
        }
    }
}

/// The end of a partition at a position.
fn reach(position: &Position, partition: u32) -> Offset {
    position.offsets.get(&partition).map_or(Offset(0), |(offset, _)| *offset)
}

/// The same of a snapshot.
fn reach_of(point: &Point, partition: u32) -> Offset {
    point.end.as_ref().map_or(Offset(0), |end| reach(end, partition))
}

/// Leaves rows with earlier event times out.
pub(super) fn cut_before(batch: &mut StreamBatch, until: EventTime) -> Result<(), EngineError> {
    if batch.event_times().iter().all(|time| *time >= until.0) {
        return Ok(());
    }
    let keep: BooleanArray = batch.event_times().iter().map(|time| Some(*time >= until.0)).collect();
    batch.rows = filter_record_batch(&batch.rows, &keep)?;
    batch.memo = Memo::default();
    Ok(())
}

/// Whether it was.
fn written(snapshots: &Snapshots, snapshot: Snapshot) -> bool {
    let result = snapshots.write(snapshot);
    if let Err(error) = &result {
        tracing::error!(%error, "a snapshot could not be written");
    }
    result.is_ok()
}

/// Runs what blocks.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, EngineError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| EngineError::Internal(Box::new(error)))
}
