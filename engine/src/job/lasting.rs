//! Named streams whose log is on disk: where they go on when the process starts again.
//!
//! A stream's own log says where: each record tells how far the inputs had been read when it was made, and the
//! watermark behind it. Rows that are handed on or computed one by one go on at the inputs' positions of the last
//! record. Windows go on with the first that was not told as a whole: what lies of it is cut, and the rows that it is
//! made of are read again from the input's log. So neither a snapshot nor a second log is needed (cf. the state that
//! Kafka Streams rebuilds from change logs), as long as the input's log reaches back to the oldest open window. Of all
//! others snapshots are taken: see `kept`.

mod kept;
mod windows;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::datatypes::SchemaRef;
use serde::Serialize;

use self::kept::Kept;
pub(crate) use self::kept::snapshot_plan;
pub(super) use self::kept::{fused_whole, is_kept, leaves, plan_of};
use super::alter::carry::{Carry, carry_in_memory, tell};
use super::alter::{Told, begins, recorded, recorded_until};
use super::branch::OpSpec;
use super::build::{Limb, Named, Node, Relations, Use, build, is_random};
use super::feed::Begin;
use super::history::{Base, bases, from_logs};
use super::run::{JobSpec, spawn_job};
use super::stage::{Stage, Stateful};
use super::writer::Writer;
use super::{Branch, Job, Lease, Snapshots};
use crate::batch::{Memo, RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::engine::StreamOptions;
use crate::error::EngineError;
use crate::failpoint::Failpoint;
use crate::relation::base_name;
use crate::shared::{Lasting, Shared};
use crate::stream::{Durability, LogLimits, MemoryStream, Offset, Position, Resumed, Stream};

/// How a named stream goes on after the process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// With the rows that come then, a windowed query with the windows that are open then: what happened in between
    /// is missing.
    Live,
    /// Where it ended: every row of its inputs counts once.
    ExactlyOnce,
}

/// How a named stream lasts.
#[derive(Debug, Clone)]
pub(crate) struct Lasts {
    pub(crate) recovery: Recovery,
    /// Why it does not go on where it ended, in words; `None`: it does, or nothing of it is to last.
    pub(crate) why: Option<String>,
    /// Its snapshots; `None`: its own log tells enough.
    pub(crate) snapshots: Option<Arc<Snapshots>>,
    /// Which of its logs on disk it writes.
    pub(crate) generation: u32,
}

/// Where a stream takes over from what it was.
pub(crate) struct Onset<'a> {
    /// Where each log had been read to; those that are not there are read from their end on.
    pub(crate) read: &'a [(Arc<Job>, Position)],
    /// Results of windows with earlier event times were told; `MIN`: none was.
    pub(crate) told: EventTime,
    /// It tells results of windows.
    pub(crate) windowed: bool,
    /// It keeps rows in one step, from the place on at which it takes over.
    pub(crate) at_place: bool,
    /// Who reads the stream goes on; `None`: nobody does.
    pub(crate) carry: Option<&'a Carry>,
    /// What it reads if it does not go on where it ended when the process does; `None`: what comes.
    pub(crate) live: &'a (dyn Fn() -> Result<Option<Beginning>, EngineError> + Send + Sync),
}

/// What a job reads, and where it begins.
pub(crate) type Beginning = (Vec<Branch>, Begin);

impl Lasts {
    /// Of what is in memory.
    pub(crate) fn none() -> Self {
        Self { recovery: Recovery::Live, why: None, snapshots: None, generation: 0 }
    }

    /// Once the stream has gone over to another query.
    pub(crate) fn altered(&self, told: Told, inputs_last: bool) -> Self {
        if !inputs_last && self.recovery == Recovery::ExactlyOnce {
            let why = Some("it was altered, and what it reads does not last".to_owned());
            return Self { recovery: Recovery::Live, why, snapshots: None, generation: self.generation };
        }
        if told != Told::State || self.recovery == Recovery::Live || self.snapshots.is_some() {
            return self.clone();
        }
        let why = Some("it was altered: what it keeps is stored from the next start on".to_owned());
        Self { recovery: Recovery::Live, why, snapshots: None, generation: self.generation }
    }
}

/// What a stream's rows are made of, where that can be read again.
pub(super) enum Shape {
    /// Rows of relations, one by one.
    Rows,
    /// One windowed aggregate of such rows, and the steps behind it.
    Windows { inputs: Vec<Limb>, step: Arc<dyn Stateful>, ops: Vec<OpSpec> },
    /// Anything else.
    Other,
}

/// Starts a named stream. `schema`: its visible fields. `onset`: where it takes over from what it was; `None`: it is new.
pub(crate) async fn build_stream(
    shared: &Arc<Shared>,
    (node, relations): (&Node, &Relations),
    name: &str,
    schema: &SchemaRef,
    options: &StreamOptions,
    onset: Option<&Onset<'_>>,
) -> Result<(Arc<Lease>, Lasts), EngineError> {
    let (Node::Job { inputs, stage }, true) = (node, options.durability != Durability::Memory) else {
        if let Some((branches, begin)) = onset.map(|onset| (onset.live)()).transpose()?.flatten() {
            let (number, needed, stream) = (shared.next_id(), EventTime::MAX, Some(name.to_owned()));
            let (private, holding, paused) = (false, false, options.paused);
            let stage = Stage::Named;
            let output = match onset.and_then(|onset| onset.carry) {
                Some(carry) => Some(carry_in_memory(shared, name, schema, &branches, carry).await?),
                None => None,
            };
            let spec = JobSpec { number, branches, stage, begin, needed, stream, private, holding, output, paused };
            return Ok((Arc::new(spawn_job(shared, spec, name)?), Lasts::none()));
        }
        let named = Named { stream: name, paused: options.paused };
        let built = build(shared, node, relations, name, Some(named), None)?;
        return Ok((built.lease, Lasts::none()));
    };
    let stream = NewStream { shared, relations, name, schema, options, node, stage, onset };
    let lasts = |relation: &String| {
        let lease = relations.get(&Use::Rows(relation.clone())).filter(|_| base_name(relation) == relation);
        lease.is_some_and(|lease| lease.job().output.durability() == Durability::Durable)
    };
    let fleeting = node.relations().into_iter().find(|relation| !lasts(relation));
    let why = match fleeting {
        _ if options.durability != Durability::Durable => Some("its own rows are not durable".to_owned()),
        Some(relation) => Some(format!("\"{relation}\" is not durable")),
        None => None,
    };
    let generation = options.generation;
    let exactly =
        |(lease, snapshots)| (lease, Lasts { recovery: Recovery::ExactlyOnce, why: None, snapshots, generation });
    let plain = |lease| exactly((lease, None));
    let why = match (why, Shape::of(inputs)) {
        (None, Shape::Rows) => return stream.rows(inputs).await.map(plain),
        (None, Shape::Windows { inputs, step, ops }) => return stream.windows(&inputs, step, ops).await.map(plain),
        (None, Shape::Other) => match Kept::of(node) {
            Ok(kept) => {
                return stream.kept(kept).await.map(|(lease, snapshots)| exactly((lease, Some(snapshots))));
            }
            Err(why) => why,
        },
        (Some(why), _) => why,
    };
    let lease = stream.other(inputs).await?;
    Ok((lease, Lasts { recovery: Recovery::Live, why: Some(why), snapshots: None, generation }))
}

impl Shape {
    pub(super) fn of(inputs: &[Limb]) -> Self {
        if inputs.iter().all(Limb::is_rows) {
            return Self::Rows;
        }
        let [only] = inputs else { return Self::Other };
        let (mut ops, mut input) = (only.ops.clone(), &only.input);
        loop {
            match input.as_ref() {
                Node::Job { inputs, stage: Stage::Stateless } if inputs.len() == 1 && !inputs[0].updates => {
                    ops.splice(0..0, inputs[0].ops.iter().cloned());
                    input = &inputs[0].input;
                }
                Node::Job { inputs, stage: Stage::Stateful(step) } => {
                    let again =
                        step.resume(EventTime::MIN).is_some() && !is_random(inputs, &Stage::Stateful(step.clone()));
                    let by_arrival = inputs.iter().any(|limb| limb.ops.contains(&OpSpec::ByArrival));
                    if !again || by_arrival || !inputs.iter().all(Limb::is_rows) || ops.iter().any(OpSpec::is_random) {
                        return Self::Other;
                    }
                    return Self::Windows { inputs: inputs.clone(), step: step.clone(), ops };
                }
                _ => return Self::Other,
            }
        }
    }
}

impl Limb {
    /// Whether its rows are made of a relation's one by one.
    pub(super) fn is_rows(&self) -> bool {
        !self.updates
            && match self.input.as_ref() {
                Node::Relation(_) => true,
                Node::Job { inputs, stage: Stage::Stateless } => inputs.iter().all(Self::is_rows),
                Node::Table(_) | Node::Job { .. } => false,
            }
    }
}

impl Node {
    /// The relations that it reads.
    fn relations(&self) -> Vec<String> {
        match self {
            Self::Relation(name) | Self::Table(name) => vec![name.clone()],
            Self::Job { inputs, .. } => inputs.iter().flat_map(|limb| limb.input.relations()).collect(),
        }
    }
}

/// A stream that is being made.
struct NewStream<'a> {
    shared: &'a Arc<Shared>,
    relations: &'a Relations,
    name: &'a str,
    schema: &'a SchemaRef,
    options: &'a StreamOptions,
    node: &'a Node,
    stage: &'a Stage,
    onset: Option<&'a Onset<'a>>,
}

impl NewStream<'_> {
    /// Goes on at the inputs' positions of the last record.
    async fn rows(&self, inputs: &[Limb]) -> Result<Arc<Lease>, EngineError> {
        let branches = from_logs(&self.branches(inputs, self.name)?);
        let (output, resumed) = self.open(&branches).await?;
        let known = match self.onset {
            Some(onset) => begins(&branches, onset.read).into_iter().map(Some).collect(),
            None => recorded(&branches, &resumed.inputs),
        };
        let all = known.iter().all(Option::is_some);
        if self.options.resumes && !all {
            tracing::warn!(stream = self.name, "its inputs are not what they were: it goes on with their next rows");
        }
        let end = |branch: &Branch| branch.job().output.end_position();
        let begin: Vec<Position> =
            known.into_iter().zip(&branches).map(|(known, branch)| known.unwrap_or_else(|| end(branch))).collect();
        if !all || self.onset.is_some() {
            let names = branches.iter().map(|branch| branch.job().display_name());
            self.mark(&output, EventTime::MIN, names.zip(begin.clone()).collect()).await?;
        }
        let lease = self.spawn(branches, self.stage.clone(), Begin::Each(begin), Some(output))?;
        Failpoint::ResumeEnds.pass();
        Ok(lease)
    }

    /// Goes on with what comes.
    async fn other(&self, inputs: &[Limb]) -> Result<Arc<Lease>, EngineError> {
        let onset = self.onset.map(|onset| (onset.live)()).transpose()?.flatten();
        let (branches, begin) = match onset {
            Some(begun) => begun,
            None => (self.branches(inputs, self.name)?, Begin::Fresh),
        };
        let (output, resumed) = self.open(&branches).await?;
        let missed = if inputs.iter().all(Limb::is_rows) { self.missed(&branches, &resumed) } else { Vec::new() };
        let (number, needed) = (self.shared.next_id(), EventTime::MAX);
        let (stage, stream) = (self.stage.clone(), Some(self.name.to_owned()));
        let output = Some(output);
        let (private, holding, paused) = (false, false, self.options.paused);
        let spec = JobSpec { number, branches, stage, begin, needed, stream, private, holding, output, paused };
        let lease = spawn_job(self.shared, spec, self.name)?;
        let counters = &lease.job().counters;
        for rows in missed {
            counters.gaps.fetch_add(u64::from(rows.is_none()), Relaxed);
            counters.rows_in.fetch_add(rows.unwrap_or(0), Relaxed);
            counters.missed.fetch_add(rows.unwrap_or(0), Relaxed);
        }
        Ok(Arc::new(lease))
    }

    /// Rows of each input that came since the last record, as their offsets tell; `None`: nobody knows how many.
    fn missed(&self, branches: &[Branch], resumed: &Resumed) -> Vec<Option<u64>> {
        if !self.options.resumes || resumed.inputs.len() != branches.len() {
            return Vec::new();
        }
        let since = |(branch, (_, at)): (&Branch, &(String, Position))| {
            let [base] = bases(branch).try_into().ok()?;
            let base: Base = base;
            base.job.output.rows_since(at)
        };
        branches.iter().zip(&resumed.inputs).map(since).collect()
    }

    fn branches(&self, inputs: &[Limb], user: &str) -> Result<Vec<Branch>, EngineError> {
        let branch = |limb: &Limb| {
            let below = build(self.shared, &limb.input, self.relations, user, None, None)?;
            let (input, ops) = (below.lease, limb.ops.clone());
            Ok(Branch { input, updates: limb.updates, fresh: below.fresh, late: false, right: limb.right, ops })
        };
        inputs.iter().map(branch).collect()
    }

    async fn open(&self, branches: &[Branch]) -> Result<(Arc<MemoryStream>, Resumed), EngineError> {
        let partitions = branches.iter().map(|branch| branch.job().output.partitions()).sum();
        let replay = branches.iter().any(|branch| branch.job().output.replay());
        self.open_with(partitions, replay, false).await
    }

    async fn open_with(
        &self,
        partitions: u32,
        replay: bool,
        whole_windows: bool,
    ) -> Result<(Arc<MemoryStream>, Resumed), EngineError> {
        let logs = self.shared.logs.as_ref().ok_or_else(|| EngineError::NoLogFolder(self.name.to_owned()))?;
        let carry = self.onset.and_then(|onset| onset.carry);
        carry.map_or(Ok(()), |carry| carry.check(self.name, partitions, replay))?;
        let stream = Lasting {
            name: self.name,
            generation: self.options.generation,
            durability: self.options.durability,
            schema: physical_schema(self.schema),
            partitions,
            replay,
            retention: LogLimits { bytes: self.options.retention_bytes, age: self.options.retention },
            resumes: self.options.resumes,
            whole_windows,
            carried: carry.map(|carry| carry.carried.clone()),
            waits: true,
        };
        let (mut output, resumed) = logs.open(self.shared, stream).await?;
        if let Some(carry) = carry {
            output = output.taking_over(&carry.carried, carry.until);
            tell(&output, carry, self.shared.clock.now()).await?;
        }
        Failpoint::ResumeBegins.pass();
        Ok((output, resumed))
    }

    /// Writes a record without rows, so that there is one from the start.
    async fn mark(
        &self,
        output: &Arc<MemoryStream>,
        watermark: EventTime,
        inputs: Vec<(String, Position)>,
    ) -> Result<(), EngineError> {
        let told = output.watermarks().first().copied().unwrap_or(EventTime::MIN);
        let batch = StreamBatch {
            kind: RowKind::Append,
            partition: 0,
            first: Offset(0),
            next: Offset(0),
            rows: arrow::array::RecordBatch::new_empty(output.schema().clone()),
            watermark: watermark.max(told),
            arrival: self.shared.clock.now(),
            idle: false,
            memo: Memo::default(),
        };
        Writer::new(output.clone(), true)?.write(vec![batch], inputs).await?;
        Failpoint::ResumeMarked.pass();
        Ok(())
    }

    /// Starts a job that its inputs do not overtake.
    fn spawn(
        &self,
        branches: Vec<Branch>,
        stage: Stage,
        begin: Begin,
        output: Option<Arc<MemoryStream>>,
    ) -> Result<Arc<Lease>, EngineError> {
        let stream = output.as_ref().map(|_| self.name.to_owned());
        let (number, needed) = (self.shared.next_id(), EventTime::MAX);
        let (private, holding, paused) = (true, true, self.options.paused);
        let spec = JobSpec { number, branches, stage, begin, needed, stream, private, holding, output, paused };
        Ok(Arc::new(spawn_job(self.shared, spec, self.name)?))
    }
}
