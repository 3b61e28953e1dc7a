//! A named stream that goes over to another query while it runs.
//!
//! Its job stays, with its log, its offsets and its readers: only what it reads becomes another. Where the old query
//! ends and the new one begins depends on what they keep. Rows that are handed on or computed one by one: at a place in
//! each input, the new one begins where the old one has come to. Windows: at the watermark that readers were told, the
//! new query tells the windows that end later, from rows that it has read in the inputs' logs beforehand, beside the old
//! one. Other state (of joins, of ranks without windows): at a place in each input, with nothing kept.

pub(super) mod carry;
mod kept;
mod record;
mod replace;
mod shape;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use squilla_query::{WindowKind, WindowSpec};
use tokio::sync::oneshot;

pub(super) use kept::NextKept;
pub(super) use record::{recorded, recorded_until, told_until};
pub(crate) use replace::{Anew, Replaced, replace};

use shape::Kept;

use super::branch::OpSpec;
use super::build::{Limb, Node, Relations, build, build_at};
use super::feed::Begin;
use super::history::bases;
use super::lasting::{Shape, is_kept};
use super::run::{JobSpec, spawn_job};
use super::stage::{Stage, Stateful};
use super::{Branch, Command, Job, Lease};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::failpoint::Failpoint;
use crate::operator::RESULT_LAG_NS;
use crate::shared::Shared;
use crate::stream::{Durability, Position, Stream};

/// What a named stream's rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Rows of what it reads, one by one.
    Rows,
    /// Results of windows, in the order of these.
    Windows,
    /// Made with what is kept of other rows.
    State,
}

/// What a job goes over to.
pub(crate) struct Successor {
    pub(crate) before: Before,
    /// What they are from then on.
    pub(crate) told: Told,
    /// `None`: the job ends, another takes its place.
    pub(crate) next: Option<Next>,
    /// Told when it can go over, at the place where it then is.
    pub(crate) ready: oneshot::Sender<Result<Ready, EngineError>>,
    /// Whether it shall.
    pub(crate) decided: oneshot::Receiver<bool>,
    /// Told once it has.
    pub(crate) done: oneshot::Sender<()>,
}

/// What a stream's rows were until then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    pub(crate) told: Told,
    /// They are results of windows, at first hand or through others.
    pub(crate) windowed: bool,
    /// The grid that the ends of these lie on; `None`: they lie on none.
    pub(crate) windows: Option<WindowSpec>,
    /// Snapshots are taken of what it keeps.
    pub(crate) kept: bool,
}

/// What a job reads from then on.
pub(crate) enum Next {
    /// Logs, straight.
    Rows(Vec<Branch>),
    /// Results of jobs that run already.
    Windows(Vec<Branch>),
    /// Results of a job that begins then, straight from the logs, with the steps behind it.
    State { below: Vec<Branch>, step: Arc<dyn Stateful>, ops: Vec<OpSpec> },
    /// Logs, straight, with steps of which snapshots are taken.
    Kept(Box<NextKept>),
}

/// Where a job is.
pub(crate) struct Whereabouts {
    /// What it reads, and where in it all is done.
    pub(crate) inputs: Vec<(Branch, Position)>,
    /// The end of what it has written by then.
    pub(crate) output: Position,
}

/// Where a stream went over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HandedOver {
    /// What readers were told by then.
    pub(crate) watermark: EventTime,
    /// Windows that start before it may lack rows that the inputs' logs no longer hold; `MIN`: none does.
    pub(crate) complete_from: EventTime,
}

/// Where a job stands that can go over.
pub(crate) struct Ready {
    pub(crate) at: HandedOver,
    /// Where it has read each log to; empty where windows take over.
    pub(crate) read: Vec<(Arc<Job>, Position)>,
}

/// A stream that has gone over, or why it cannot.
pub(crate) enum Altered {
    /// It told the first, and tells the second.
    Done(HandedOver, Told, Told),
    /// Its readers would have to be told other rows than they read: what is other, in words.
    Other(String),
}

/// Has a named stream's job go over to the query `node`; `schema`: its visible fields; `windowed`: its rows are results of
/// windows. `decide` is awaited
/// when nothing stands in the way any more.
pub(crate) async fn alter(
    shared: &Arc<Shared>,
    job: &Arc<Job>,
    node: &Node,
    relations: &Relations,
    schema: &SchemaRef,
    (before, windowed): (Before, bool),
    decide: impl Future<Output = Result<(), EngineError>> + Send,
) -> Result<Altered, EngineError> {
    let making = Making { shared, job, relations, before };
    let (inputs, told, one_step) = making.inputs(node, windowed)?;
    if !one_step {
        return Ok(Altered::Other("what it keeps without windows takes more than one step".into()));
    }
    let next = match (before.kept, making.stores_state(node, inputs)) {
        (false, false) => making.next(inputs, told, making.told_until())?,
        (true, true) if let Some(next) = making.kept(node, schema, told)? => Next::Kept(Box::new(next)),
        _ => return Ok(Altered::Other("what it keeps is stored in snapshots".into())),
    };
    if let Some(other) = making.other(&next, told) {
        return Ok(Altered::Other(other));
    }
    making.caught_up(&next).await;
    let (ready, handle) = making.ready(told, Some(next)).await?;
    Failpoint::HandOverBegins.pass();
    let decision = decide.await;
    Failpoint::HandOverDecided.pass();
    // It waits for this alone.
    let _ = handle.decided.send(decision.is_ok());
    decision?;
    handle.done.await.map_err(|_| making.gone())?;
    Failpoint::HandOverEnds.pass();
    Ok(Altered::Done(ready.at, before.told, told))
}

/// What becomes of a job that is ready.
struct Handle {
    decided: oneshot::Sender<bool>,
    done: oneshot::Receiver<()>,
}

/// A successor that is being made.
struct Making<'a> {
    shared: &'a Arc<Shared>,
    job: &'a Arc<Job>,
    relations: &'a Relations,
    before: Before,
}

impl Making<'_> {
    fn name(&self) -> String {
        self.job.display_name()
    }

    fn gone(&self) -> EngineError {
        EngineError::NotAltered { name: self.name(), status: self.job.status_text() }
    }

    /// Asks the job to go over, and waits until it can.
    async fn ready(&self, told: Told, next: Option<Next>) -> Result<(Ready, Handle), EngineError> {
        let ((ready, is_ready), (decided, decision), (done, is_done)) =
            (oneshot::channel(), oneshot::channel(), oneshot::channel());
        let successor = Box::new(Successor { before: self.before, told, next, ready, decided: decision, done });
        self.job.commands.send(Command::Alter(successor)).await.map_err(|_| self.gone())?;
        let ready = is_ready.await.map_err(|_| self.gone())??;
        Ok((ready, Handle { decided, done: is_done }))
    }

    /// What the query's last job reads, what its rows are, and whether that takes one step that keeps rows at the most.
    fn inputs<'n>(&self, node: &'n Node, windowed: bool) -> Result<(&'n [Limb], Told, bool), EngineError> {
        let Node::Job { inputs, .. } = node else {
            return Err(EngineError::Plan("a stream is made by a job".into()));
        };
        let told = if inputs.iter().all(Limb::is_rows) {
            Told::Rows
        } else if windowed {
            Told::Windows
        } else {
            Told::State
        };
        let one_step = told != Told::State || matches!(inputs.as_slice(), [only] if only.state().is_some());
        Ok((inputs, told, one_step))
    }

    /// Whether snapshots are taken of what a query keeps.
    fn stores_state(&self, node: &Node, inputs: &[Limb]) -> bool {
        let lasts = |lease: &Arc<Lease>| lease.job().output.durability() == Durability::Durable;
        let all_last = self.job.output.durability() == Durability::Durable && self.relations.values().all(lasts);
        all_last && matches!(Shape::of(inputs), Shape::Other) && is_kept(node)
    }

    fn next(&self, inputs: &[Limb], told: Told, until: EventTime) -> Result<Next, EngineError> {
        if let (Told::State, [only]) = (told, inputs)
            && let Some(Kept { inputs, step, ops }) = only.state()
        {
            return Ok(Next::State { below: self.straight(&inputs)?, step, ops });
        }
        match told {
            Told::Windows => Ok(Next::Windows(self.windows(inputs, until)?)),
            Told::Rows | Told::State => Ok(Next::Rows(self.straight(inputs)?)),
        }
    }

    /// The event time of the first results of windows that readers have not been told.
    fn told_until(&self) -> EventTime {
        let output = &self.job.output;
        let told = self.before.told_until(output.facts().watermark, output.last_event_time());
        told.max(self.job.missing_before)
    }

    /// Branches straight from the logs of relations.
    fn straight(&self, limbs: &[Limb]) -> Result<Vec<Branch>, EngineError> {
        let mut branches = Vec::new();
        for limb in limbs.iter().flat_map(Limb::straight) {
            let built = build(self.shared, &limb.input, self.relations, &self.name(), None, None)?;
            let (input, updates, right) = (built.lease, limb.updates, limb.right);
            branches.push(Branch { input, updates, late: false, fresh: false, right, ops: limb.ops });
        }
        Ok(branches)
    }

    /// Results of windows that end behind what readers were told, of jobs that begin now.
    fn windows(&self, inputs: &[Limb], told: EventTime) -> Result<Vec<Branch>, EngineError> {
        // Nothing was told: with the windows that are open now.
        let needed = if told == EventTime::MIN { EventTime::MAX } else { told };
        if self.job.output.durability() == Durability::Durable
            && let Shape::Windows { inputs, step, ops } = Shape::of(inputs)
        {
            return Ok(vec![self.resumed(&inputs, step, ops, told)?]);
        }
        let mut branches = Vec::new();
        for limb in inputs {
            let from = (None, needed);
            let mut built = build_at(self.shared, &limb.input, self.relations, &self.name(), None, from)?;
            let job = built.lease.job();
            let gone = job.output.facts().evicted_event_time;
            if !built.fresh && (gone >= told && gone > EventTime::MIN || job.missing_before > told) {
                // A job that others have begun no longer has all that is needed.
                if let Shape::Windows { inputs, step, ops } = Shape::of(std::slice::from_ref(limb)) {
                    branches.push(self.resumed(&inputs, step, ops, told)?);
                    continue;
                }
                let start = crate::stream::Start::Timestamp(told);
                built = build_at(self.shared, &limb.input, self.relations, &self.name(), None, (Some(&start), needed))?;
            }
            let (input, ops) = (built.lease, limb.ops.clone());
            branches.push(Branch { input, updates: limb.updates, late: false, fresh: true, right: limb.right, ops });
        }
        Ok(branches)
    }

    /// A job of the stream's own, straight from the logs, that tells all windows behind what was told.
    fn resumed(
        &self,
        inputs: &[Limb],
        step: Arc<dyn Stateful>,
        ops: Vec<OpSpec>,
        told: EventTime,
    ) -> Result<Branch, EngineError> {
        let branches = self.straight(inputs)?;
        let start = step.resume(told).unwrap_or(told);
        let lasts = self.job.output.durability() != Durability::Memory;
        let spec = JobSpec {
            number: self.shared.next_id(),
            branches,
            stage: Stage::Stateful(step),
            begin: Begin::After(start, self.job.skipped_below()),
            needed: EventTime::MAX,
            stream: None,
            private: true,
            holding: lasts,
            output: None,
            paused: false,
        };
        let input = Arc::new(spawn_job(self.shared, spec, &self.name())?);
        Ok(Branch { input, updates: false, fresh: true, late: false, right: false, ops })
    }

    /// What readers of the stream would find to be other than it was; `None`: nothing.
    fn other(&self, next: &Next, told: Told) -> Option<String> {
        let (branches, partitions): (&[Branch], u32) = match next {
            Next::Rows(branches) | Next::Windows(branches) => (branches, count(branches.iter())),
            Next::State { below, step, .. } if step.reads_table() => (below, count(below.iter().filter(|b| !b.right))),
            Next::State { below, .. } => (below, 1),
            Next::Kept(next) => (&next.branches, next.partitions()),
        };
        let own = self.job.output.partitions();
        if partitions != own {
            return Some(format!("its rows come in {partitions} partitions, no longer in {own}"));
        }
        let replay = branches.iter().any(|branch| branch.job().output.replay());
        if replay != self.job.output.replay() {
            return Some("its clock is another: one of a replay is not that of live sources".into());
        }
        let all = |what: fn(&Job) -> bool| branches.iter().all(|branch| what(branch.job()));
        if all(|job| job.can_wait) != self.job.can_wait || all(|job| job.rereadable) != self.job.rereadable {
            return Some(
                "what it reads waits for its readers, or can be read again from its start, as the other does not"
                    .into(),
            );
        }
        let lasts = self.job.output.durability() != Durability::Memory;
        if lasts && self.before.told != told && !matches!(next, Next::Kept(_)) {
            return Some("its log on disk is cut in another way when the process starts again".into());
        }
        None
    }

    /// Waits until the jobs that begin now have read the history of their inputs.
    async fn caught_up(&self, next: &Next) {
        let Next::Windows(branches) = next else { return };
        let jobs: Vec<Arc<Job>> = branches.iter().flat_map(|branch| branch.job().chain()).collect();
        for job in jobs.iter().filter(|job| job.stream.is_none() && job.source.is_none()) {
            let (reply, answer) = oneshot::channel();
            if job.commands.send(Command::Where(reply)).await.is_ok() {
                // One that has ended is behind its history, too.
                let _ = answer.await;
            }
        }
    }
}

impl Before {
    /// The event time of the first results of windows that the old query has not told, at a watermark: the old one's
    /// windows that are open then are told by nobody, so that they begin behind the last that has closed.
    pub(super) fn told_until(&self, watermark: EventTime, last: Option<EventTime>) -> EventTime {
        if !self.windowed || watermark == EventTime::MIN {
            return watermark;
        }
        let after_last = last.map_or(EventTime::MIN, |last| last.plus(1));
        let Some(spec) = self.windows else {
            return if after_last == EventTime::MIN { watermark } else { after_last };
        };
        let closed = watermark.plus(RESULT_LAG_NS - 1);
        let end = match spec.kind {
            WindowKind::Calendar(calendar) => {
                let (first, last) = calendar.range();
                calendar.floor(closed.0.clamp(first, last))
            }
            WindowKind::Cumulate { step_ns, .. } => last_on_grid(closed.0, step_ns, spec.offset_ns),
            _ => last_on_grid(closed.0, spec.slide_ns(), spec.offset_ns.saturating_add(spec.size_ns())),
        };
        EventTime(end).plus(1 - RESULT_LAG_NS).max(after_last).min(watermark.max(after_last))
    }
}

/// The last moment of a grid by `moment`.
fn last_on_grid(moment: i64, step: i64, offset: i64) -> i64 {
    let (moment, step, offset) = (i128::from(moment), i128::from(step.max(1)), i128::from(offset));
    i64::try_from((moment - offset).div_euclid(step) * step + offset).unwrap_or(i64::MIN)
}

fn count<'b>(branches: impl Iterator<Item = &'b Branch>) -> u32 {
    branches.map(|branch| branch.stream().partitions()).sum()
}

/// Where each log was read to. `None`: a log that is read in several places is not at one place in all of them.
pub(super) fn places(inputs: &[(Branch, Position)]) -> Option<Vec<(Arc<Job>, Position)>> {
    let mut places: Vec<(Arc<Job>, Position)> = Vec::new();
    for (branch, position) in inputs.iter().filter(|(branch, _)| !branch.updates && !branch.late) {
        for (base, place) in bases(branch).into_iter().zip(super::history::positions_below(branch, position)) {
            match places.iter().find(|(job, _)| Arc::ptr_eq(job, &base.job)) {
                Some((_, known)) if *known != place => return None,
                Some(_) => {}
                None => places.push((base.job, place)),
            }
        }
    }
    Some(places)
}

/// Where each branch begins: where its log was read to, and a log that was not read with the rows that come.
pub(super) fn begins(branches: &[Branch], read: &[(Arc<Job>, Position)]) -> Vec<Position> {
    let begin = |branch: &Branch| {
        let known = read.iter().find(|(job, _)| Arc::ptr_eq(job, branch.job()));
        known.map_or_else(|| branch.stream().end_position(), |(_, position)| position.clone())
    };
    branches.iter().map(begin).collect()
}

/// Starts a job that keeps state of the rows behind those that were read; what reads it, with the steps behind it.
pub(super) fn begin_state(
    shared: &Arc<Shared>,
    stream: &str,
    (below, step, ops): (Vec<Branch>, Arc<dyn Stateful>, Vec<OpSpec>),
    read: &[(Arc<Job>, Position)],
    holding: bool,
) -> Result<Branch, EngineError> {
    let begin = Begin::Each(begins(&below, read));
    let spec = JobSpec {
        number: shared.next_id(),
        branches: below,
        stage: Stage::Stateful(step),
        begin,
        needed: EventTime::MAX,
        stream: None,
        private: true,
        holding,
        output: None,
        paused: false,
    };
    let input = Arc::new(spawn_job(shared, spec, stream)?);
    Ok(Branch { input, updates: false, fresh: true, late: false, right: false, ops })
}

/// Lets go of what a job read: nobody comes back for it.
pub(super) fn let_go(branches: &[Branch]) {
    branches.iter().map(|branch| &branch.input).for_each(|lease: &Arc<Lease>| lease.unsubscribe());
}
