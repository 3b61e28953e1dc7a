//! From a logical plan to jobs: where to cut it, so that queries share what is equal.
//!
//! A plan is cut behind the filters of each stream, behind each aggregate, and at the end. So queries with the same
//! filter share it whatever they compute from it, and queries with the same windows share those whatever they show
//! of them. A live query that does no more than filter a stream is one job: there the stream's index finds its rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use squilla_query::{JoinTime, Plan, RankTime, ranks_groups, running_key};

use super::branch::OpSpec;
use super::feed::{Begin, leading_filters};
use super::history::from_logs;
use super::route::conditions_of;
use super::run::{JobSpec, fingerprint, spawn_job, spawn_last};
use super::stage::{
    AggregateJob, FillJob, GatherJob, JoinJob, LookupJob, RankJob, RankRunningJob, RunningJob, Stage, Stateful,
    TrackJob,
};
use super::{Branch, Lease};
use crate::batch::physical_schema;
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::operator::FillSpec;
use crate::shared::Shared;
use crate::stream::Start;

/// A job to be: what it reads and does, nothing started.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// A source or a named stream.
    Relation(String),
    /// A table to look up in: what it holds, and then what comes.
    Table(String),
    /// A job of the query's own, or one that it shares.
    Job { inputs: Vec<Limb>, stage: Stage },
}

/// One input of a [`Node::Job`].
#[derive(Debug, Clone)]
pub(crate) struct Limb {
    pub(super) input: Arc<Node>,
    pub(super) updates: bool,
    /// It is of the right input of a join.
    pub(super) right: bool,
    pub(super) ops: Vec<OpSpec>,
    /// Columns to take at the end if nothing else takes fewer: the scan's.
    pub(super) narrow: Option<SchemaRef>,
}

/// How a plan uses a relation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Use {
    /// It reads its rows.
    Rows(String),
    /// It looks up in it.
    Table(String),
}

/// The named stream that a job is to write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) stream: &'a str,
    /// It rests from its start.
    pub(crate) paused: bool,
}

/// Leases on the relations that a plan uses.
pub(crate) type Relations = BTreeMap<Use, Arc<Lease>>;

/// The last job of a query.
pub(crate) struct Built {
    pub(crate) lease: Arc<Lease>,
    /// Its running results are read.
    pub(crate) updates: bool,
    /// It was started just now, for this reader: all that it has written is new to it.
    pub(crate) fresh: bool,
}

/// The columns, by name, that a plan reads of a relation.
pub(crate) fn wanted_columns(plan: &Plan, relation: &str) -> BTreeSet<String> {
    match plan {
        Plan::Scan { relation: name, schema } if name == relation => {
            schema.fields().iter().map(|field| field.name().clone()).collect()
        }
        other => other.inputs().into_iter().flat_map(|input| wanted_columns(input, relation)).collect(),
    }
}

/// Cuts a plan into jobs. `fields`: the visible fields of a relation. `updates`: the reader wants running results.
pub(crate) fn plan_jobs(
    plan: &Plan,
    updates: bool,
    fields: &dyn Fn(&str) -> Option<SchemaRef>,
) -> Result<Node, EngineError> {
    let mut limbs = limbs(plan, updates, fields)?;
    limbs.iter_mut().for_each(Limb::settle);
    Ok(last_of(limbs))
}

/// The same for a live query: filters that a stream's index finds the rows of are not made jobs of their own.
pub(crate) fn plan_last(
    plan: &Plan,
    updates: bool,
    fields: &dyn Fn(&str) -> Option<SchemaRef>,
) -> Result<Node, EngineError> {
    let mut limbs = limbs(plan, updates, fields)?;
    limbs.iter_mut().for_each(Limb::settle);
    if let [only] = limbs.as_slice()
        && !only.updates
        && let Node::Relation(name) = only.input.as_ref()
        && let Some(known) = fields(name)
        && conditions_of(&only.ops, &physical_schema(&known)).is_some()
    {
        return Ok(Node::Job { inputs: limbs, stage: Stage::Stateless });
    }
    Ok(last_of(limbs))
}

fn last_of(limbs: Vec<Limb>) -> Node {
    if let [only] = limbs.as_slice()
        && only.ops.is_empty()
        && !only.updates
    {
        return only.input.as_ref().clone();
    }
    Node::Job { inputs: limbs.into_iter().map(Limb::cut).collect(), stage: Stage::Stateless }
}

fn limbs(plan: &Plan, updates: bool, fields: &dyn Fn(&str) -> Option<SchemaRef>) -> Result<Vec<Limb>, EngineError> {
    match plan {
        Plan::Scan { relation, schema } => {
            let known = fields(relation).ok_or_else(|| EngineError::UnknownRelation(relation.clone()))?;
            let narrow = (known.fields() != schema.fields()).then(|| schema.clone());
            let input = Arc::new(Node::Relation(relation.clone()));
            Ok(vec![Limb { input, updates: false, right: false, ops: Vec::new(), narrow }])
        }
        Plan::Filter { input, predicate } => push(input, updates, fields, OpSpec::Filter(predicate.clone())),
        Plan::Project { input, exprs, schema } => {
            push(input, updates, fields, OpSpec::Project { exprs: exprs.clone(), schema: schema.clone() })
        }
        Plan::AssignWindow { input, window, schema } => {
            push(input, updates, fields, OpSpec::AssignWindow { window: *window, schema: schema.clone() })
        }
        Plan::ByArrival { input } => push(input, updates, fields, OpSpec::ByArrival),
        Plan::Sample { input, sample } => push(input, updates, fields, OpSpec::Sample(sample.as_ref().clone())),
        Plan::Unnest { input, outer, ordinality, schema } => {
            let (outer, ordinality, schema) = (*outer, *ordinality, schema.clone());
            push(input, updates, fields, OpSpec::Unnest { outer, ordinality, schema })
        }
        Plan::Union { inputs, schema } => {
            let mut all = Vec::new();
            for input in inputs {
                let mut these = limbs(input, updates, fields)?;
                if input.schema() != schema {
                    these.iter_mut().for_each(|limb| limb.push(OpSpec::Rename(schema.clone())));
                }
                all.append(&mut these);
            }
            all.iter_mut().for_each(Limb::settle);
            Ok(all)
        }
        Plan::Rank { input, rank, schema } if updates && ranks_groups(plan) => {
            let key = running_key(input).unwrap_or_default();
            push(input, true, fields, OpSpec::RankUpdates { rank: rank.clone(), key, schema: schema.clone() })
        }
        Plan::Aggregate { .. }
        | Plan::AggregateRunning { .. }
        | Plan::Gather { .. }
        | Plan::Fill { .. }
        | Plan::Rank { .. }
        | Plan::Track { .. }
        | Plan::Join { .. } => {
            let (inputs, job) = stateful(plan, fields)?;
            let input = Arc::new(Node::Job { inputs, stage: Stage::Stateful(job) });
            // Joins, filled windows and what follows from windows before have no running results.
            let updates = updates && !matches!(plan, Plan::Join { .. } | Plan::Fill { .. } | Plan::Track { .. });
            Ok(vec![Limb { input, updates, right: false, ops: Vec::new(), narrow: None }])
        }
    }
}

/// A job that keeps state, and its inputs.
fn stateful(
    plan: &Plan,
    fields: &dyn Fn(&str) -> Option<SchemaRef>,
) -> Result<(Vec<Limb>, Arc<dyn Stateful>), EngineError> {
    let cut = |input: &Plan| -> Result<Vec<Limb>, EngineError> {
        Ok(limbs(input, false, fields)?.into_iter().map(Limb::cut).collect())
    };
    match plan {
        Plan::Aggregate { input, window, keys, aggregates, grace_ns, schema } => {
            let (keys, aggregates, schema) = (keys.clone(), aggregates.clone(), schema.clone());
            let job = AggregateJob { window: *window, keys, aggregates, grace_ns: *grace_ns, schema };
            Ok((cut(input)?, Arc::new(job)))
        }
        Plan::AggregateRunning { input, keys, aggregates, ttl_ns, schema } => {
            let (keys, aggregates, schema) = (keys.clone(), aggregates.clone(), schema.clone());
            Ok((cut(input)?, Arc::new(RunningJob { keys, aggregates, ttl_ns: *ttl_ns, schema })))
        }
        Plan::Gather { input, gather, schema } => {
            let job = GatherJob { gather: gather.as_ref().clone(), schema: schema.clone() };
            Ok((cut(input)?, Arc::new(job)))
        }
        Plan::Fill { input, window, keys, value, empty_windows, schema } => {
            let fill = FillSpec { window: *window, keys: *keys, value: *value, empty_windows: *empty_windows };
            Ok((cut(input)?, Arc::new(FillJob { fill, schema: schema.clone() })))
        }
        Plan::Rank { input, rank, schema } => {
            let mut inputs = limbs(input, false, fields)?;
            inputs.iter_mut().for_each(Limb::settle);
            let inputs = inputs.into_iter().map(Limb::cut).collect();
            let (rank, schema) = (rank.as_ref().clone(), schema.clone());
            Ok(match rank.time {
                RankTime::Window { .. } => (inputs, Arc::new(RankJob { rank, schema })),
                RankTime::Running { .. } => (inputs, Arc::new(RankRunningJob { rank, schema })),
            })
        }
        Plan::Track { input, track, schema } => {
            let mut inputs = limbs(input, false, fields)?;
            inputs.iter_mut().for_each(Limb::settle);
            let inputs = inputs.into_iter().map(Limb::cut).collect();
            Ok((inputs, Arc::new(TrackJob { track: track.as_ref().clone(), schema: schema.clone() })))
        }
        Plan::Join { left, right, join, schema } => {
            let mut inputs = cut(left)?;
            let lefts = inputs.len();
            let looks_up = matches!(join.time, JoinTime::Table { .. });
            inputs.extend(cut(right)?.into_iter().map(|limb| limb.of_right(looks_up)));
            let fields = [left.schema().clone(), right.schema().clone()];
            if let JoinTime::Table { table, .. } = &join.time {
                let (join, table, schema) = (join.as_ref().clone(), table.clone(), schema.clone());
                return Ok((inputs, Arc::new(LookupJob { join, table, fields, schema })));
            }
            let job = JoinJob { join: join.as_ref().clone(), lefts, fields, schema: schema.clone() };
            Ok((inputs, Arc::new(job)))
        }
        other => Err(EngineError::Plan(format!("no state is kept for {other}"))),
    }
}

fn push(
    input: &Plan,
    updates: bool,
    fields: &dyn Fn(&str) -> Option<SchemaRef>,
    op: OpSpec,
) -> Result<Vec<Limb>, EngineError> {
    let mut limbs = limbs(input, updates, fields)?;
    limbs.iter_mut().for_each(|limb| limb.push(op.clone()));
    Ok(limbs)
}

impl Limb {
    /// The same as one of the right input of a join, or of a look-up.
    fn of_right(self, looks_up: bool) -> Self {
        let input = match self.input.as_ref() {
            Node::Relation(name) if looks_up => Arc::new(Node::Table(name.clone())),
            _ => self.input,
        };
        Self { input, right: true, ..self }
    }

    fn push(&mut self, op: OpSpec) {
        match &op {
            OpSpec::Filter(_) | OpSpec::Sample(_) | OpSpec::ByArrival | OpSpec::RankUpdates { .. } => {}
            OpSpec::Project { .. } | OpSpec::Select(_) => self.narrow = None,
            OpSpec::AssignWindow { .. } | OpSpec::Unnest { .. } | OpSpec::Rename(_) | OpSpec::Conform(_) => {
                self.settle()
            }
        }
        self.ops.push(op);
    }

    /// Takes the scan's columns only.
    fn settle(&mut self) {
        if let Some(schema) = self.narrow.take() {
            self.ops.push(OpSpec::Select(schema));
        }
    }

    /// Makes a job of its own of the filters that come first, so that other queries can share it.
    fn cut(mut self) -> Self {
        let filters = leading_filters(&self.ops);
        if filters == 0 || self.updates {
            return self;
        }
        let rest = self.ops.split_off(filters);
        let below = Self { input: self.input, updates: false, right: false, ops: self.ops, narrow: None };
        let input = Arc::new(Node::Job { inputs: vec![below], stage: Stage::Stateless });
        Self { input, updates: false, right: self.right, ops: rest, narrow: None }
    }
}

impl Node {
    fn is_stateful(&self) -> bool {
        matches!(self, Self::Job { stage: Stage::Stateful(_), .. })
    }

    /// Whether it is a source or named stream, and no job of the query's own.
    pub(crate) fn is_relation(&self) -> bool {
        matches!(self, Self::Relation(_))
    }

    /// The least watermark of the relations that it reads, of those that have one; `MAX`: none has. Tables have none.
    fn watermark(&self, relations: &Relations) -> EventTime {
        match self {
            Self::Table(_) => EventTime::MAX,
            Self::Relation(name) => {
                let watermark =
                    relations.get(&Use::Rows(name.clone())).map(|lease| lease.job().output.facts().watermark);
                watermark.filter(|watermark| *watermark > EventTime::MIN).unwrap_or(EventTime::MAX)
            }
            Self::Job { inputs, .. } => {
                inputs.iter().map(|limb| limb.input.watermark(relations)).min().unwrap_or(EventTime::MAX)
            }
        }
    }

    /// Puts a named stream behind this job.
    pub(crate) fn named(self) -> Self {
        let (inputs, stage) = match self {
            Self::Job { inputs, stage: Stage::Stateless } => (inputs, Stage::Named),
            other => {
                let limb = Limb { input: Arc::new(other), updates: false, right: false, ops: Vec::new(), narrow: None };
                (vec![limb], Stage::Named)
            }
        };
        Self::Job { inputs, stage }
    }

    /// How it uses a relation; `None`: it is a job of the query's own.
    pub(super) fn used(&self) -> Option<Use> {
        match self {
            Self::Relation(name) => Some(Use::Rows(name.clone())),
            Self::Table(name) => Some(Use::Table(name.clone())),
            Self::Job { .. } => None,
        }
    }

    pub(super) fn fingerprint(&self, stream: Option<&str>, relation: &dyn Fn(&Use) -> String) -> String {
        match self {
            Self::Relation(_) | Self::Table(_) => self.used().map(|used| relation(&used)).unwrap_or_default(),
            Self::Job { inputs, stage } => {
                let inputs: Vec<_> = inputs
                    .iter()
                    .map(|limb| (limb.input.fingerprint(None, relation), limb.updates, limb.ops.as_slice()))
                    .collect();
                fingerprint(&inputs, stage, stream)
            }
        }
    }
}

/// Starts the jobs of a node that do not run yet. `from`: where the reader wants to begin, when not afresh: then
/// the last job is private and reads straight from the logs.
pub(crate) fn build(
    shared: &Arc<Shared>,
    node: &Node,
    relations: &Relations,
    user: &str,
    stream: Option<Named<'_>>,
    from: Option<&Start>,
) -> Result<Built, EngineError> {
    build_at(shared, node, relations, user, stream, (from, EventTime::MAX))
}

/// The same for a live query that begins afresh: what its last job filters, it may filter together with others.
pub(crate) fn build_last(
    shared: &Arc<Shared>,
    node: &Node,
    relations: &Relations,
    user: &str,
) -> Result<Built, EngineError> {
    build_in(shared, node, relations, user, None, (None, EventTime::MAX), true)
}

/// The same for who needs results from an event time on: windows that end later are told, if the logs still have them.
pub(super) fn build_at(
    shared: &Arc<Shared>,
    node: &Node,
    relations: &Relations,
    user: &str,
    stream: Option<Named<'_>>,
    asked: (Option<&Start>, EventTime),
) -> Result<Built, EngineError> {
    build_in(shared, node, relations, user, stream, asked, false)
}

fn build_in(
    shared: &Arc<Shared>,
    node: &Node,
    relations: &Relations,
    user: &str,
    stream: Option<Named<'_>>,
    (from, needed): (Option<&Start>, EventTime),
    last: bool,
) -> Result<Built, EngineError> {
    let (inputs, stage) = match node {
        Node::Job { inputs, stage } => (inputs, stage),
        Node::Relation(name) | Node::Table(name) => {
            let lease = node.used().and_then(|used| relations.get(&used));
            let lease = lease.ok_or_else(|| EngineError::UnknownRelation(name.clone()))?;
            return Ok(Built { lease: lease.clone(), updates: false, fresh: false });
        }
    };
    if let [only] = inputs.as_slice()
        && only.updates
        && only.ops.is_empty()
        && stage.is_stateless()
    {
        let below = build_at(shared, &only.input, relations, user, None, (from, needed))?;
        return Ok(Built { updates: true, ..below });
    }
    let text = node.fingerprint(stream.map(|named| named.stream), &|used| {
        relations.get(used).map_or_else(String::new, |lease| lease.job().fingerprint.clone())
    });
    let private = from.is_some() || is_random(inputs, stage);
    if !private && let Some(lease) = shared.registry.attach(&text, user) {
        return Ok(Built { lease: Arc::new(lease), updates: false, fresh: false });
    }
    let number = shared.next_id();
    let id = format!("j{number}");
    // A place in the past, other than a position in the results themselves, is one in what the windows are made of.
    let deep = from.filter(|start| !matches!(start, Start::Position(_)));
    let reached = node.watermark(relations).min(needed);
    let of_inputs = stage.stateful().and_then(|step| step.begin(reached)).unwrap_or(needed);
    let mut branches = Vec::new();
    let mut begin = from.map_or(Begin::Fresh, |start| Begin::At(start.clone()));
    for limb in inputs {
        let windowed = limb.input.is_stateful();
        let below_from = deep.filter(|_| windowed);
        let below = build_at(shared, &limb.input, relations, &id, None, (below_from, of_inputs))?;
        if windowed && deep.is_some() {
            begin = Begin::At(Start::Earliest);
        }
        let ops = limb.ops.clone();
        let (input, fresh) = (below.lease, below.fresh);
        branches.push(Branch { input, updates: limb.updates, late: false, fresh, right: limb.right, ops });
    }
    if from.is_some() {
        branches = from_logs(&branches);
    }
    let paused = stream.is_some_and(|named| named.paused);
    let (stage, stream) = (stage.clone(), stream.map(|named| named.stream.to_owned()));
    let (holding, output) = (false, None);
    let spec = JobSpec { number, branches, stage, begin, needed, stream, private, holding, output, paused };
    let spawn = if last { spawn_last } else { spawn_job };
    Ok(Built { lease: Arc::new(spawn(shared, spec, user)?), updates: false, fresh: true })
}

/// Whether a job's rows differ from those of an equal job: each reader then has its own.
pub(super) fn is_random(inputs: &[Limb], stage: &Stage) -> bool {
    inputs.iter().flat_map(|limb| &limb.ops).any(OpSpec::is_random) || stage.is_random()
}
