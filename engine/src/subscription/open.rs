//! How a subscription begins: which jobs it reads, from where, and what it is told first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use squilla_query::{Emit, Query};
use tokio::sync::oneshot;

use super::completeness::Completeness;
use super::limit::limit;
use super::pace::Pace;
use super::rest::Rest;
use super::step::Steps;
use super::until::End;
use super::{Admission, Conflater, Policy, Subscription, SubscriptionEvent, SubscriptionInfo};
use crate::batch::{StreamBatch, visible_schema};
use crate::clock::EventTime;
use crate::counters::Counters;
use crate::error::EngineError;
use crate::job::{Branch, Built, Command, Job, Node, OpSpec, Pipeline, Relations, build, build_last, split_position};
use crate::shared::Shared;
use crate::stream::{Gap, GapReason, MemoryStream, Offset, Position, Start, Stream};

/// How a client wants to read a query.
#[derive(Debug, Clone, Default)]
pub struct SubscribeOptions {
    /// Where to start; `None`: where a fresh query of its kind starts (the latest row; a windowed query: the
    /// beginning of the windows now open; a bounded source: its start).
    pub from: Option<Start>,
    /// `None`: `drop_oldest` for appended rows, `conflate` for keyed updates.
    pub policy: Option<Policy>,
    /// At most so many deliveries a second; updates between are conflated, appended rows are gathered.
    pub max_hz: Option<f64>,
    /// What was kept is told at the pace at which it arrived, so many times as fast; `None`: as fast as it can be read.
    /// Above zero. For rows and final results.
    pub speed: Option<f64>,
    /// Nothing is told until [`Subscription::steer`] says so. For a start in the past; for rows and final results.
    pub paused: bool,
    /// It is complete after so many rows, or after the query's own number if that is less; `None`: after that. For rows
    /// and final results.
    pub limit: Option<u64>,
}

impl Subscription {
    pub(crate) async fn open(
        shared: &Arc<Shared>,
        query: &Query,
        options: &SubscribeOptions,
        node: &Node,
        relations: &Relations,
        admission: Admission,
    ) -> Result<Self, EngineError> {
        let user = admission.live.id.clone();
        let chosen = choose(shared, options, node, relations, &user)?;
        let job = chosen.built.lease.job().clone();
        let stream = if chosen.built.updates { job.updates.as_ref().unwrap_or(&job.output) } else { &job.output };
        let told_as = query.told(shared.config.lossless);
        let whole = query.until.is_some() || options.speed.is_some() || options.paused;
        let policy = policy(shared, options, told_as, whole);
        let holds = holds(shared, &job, policy) || whole && chosen.private;
        let reader = stream.clone().reader(&chosen.start, holds);
        let (mut told, mut ready) = (told_before(&chosen.start, stream), VecDeque::new());
        // The job counts it.
        ready.extend(lost(options, &chosen, reader.position()).map(SubscriptionEvent::Gap));
        let changing = told_as != Emit::OnWindowClose;
        let steps = Steps::new(options, (changing, chosen.private), reader.position())?;
        let heads = if changing { update_branches(&chosen.built) } else { Vec::new() };
        let demand = interval(told_as)
            .map_or_else(Vec::new, |wish| heads.iter().map(|branch| branch.job().demand.add(wish)).collect());
        if changing && !shared.config.lossless {
            told = snapshot(&heads, &reader.position(), &mut ready).await?;
        }
        let chain = job.chain();
        let visible = visible_schema(stream.schema());
        let conflater = conflater(query, policy, changing, &visible)?;
        admission.live.set_jobs(&chain);
        let limit = limit(query, options, changing)?;
        let info = info(query, &chosen, (reader.position(), visible, &chain), (policy, changing, limit), user);
        let now = shared.clock.now();
        let end = query.until.map(|until| End::new(until, &chain, now, stream.partitions()));
        let subscription = Self {
            info,
            admission,
            clock: shared.clock.clone(),
            lease: chosen.built.lease,
            relations: relations.clone(),
            chain,
            replays: reader.behind_rows() > 0,
            reader,
            told,
            lag_bytes: shared.config.subscription_lag_bytes,
            conflater,
            period_ns: period(shared, options, told_as),
            next_delivery: now,
            ready,
            next_progress: now.plus(super::PROGRESS_NS),
            last_progress: None,
            last_arrival: EventTime::MIN,
            gap_rows: 0,
            pace: options.speed.map(Pace::new),
            completeness: Completeness::of(query),
            end,
            wanted: limit,
            burst: 0,
            done: false,
            rest: Rest::new(shared, node),
            stirs: None,
            timer: None,
            steps,
            _demand: demand,
        };
        Ok(subscription.begun())
    }

    /// With what is known before the first row.
    fn begun(mut self) -> Self {
        self.note_seen();
        self.complete_at_limit();
        self
    }
}

/// Results that replace each other are gathered, and have no pace of their own.
pub(super) fn refuse_pace(options: &SubscribeOptions, changing: bool) -> Result<(), EngineError> {
    if options.speed.is_none() || !changing {
        return Ok(());
    }
    Err(EngineError::Plan("speed is for rows and for windows that have closed: leave out EMIT, or speed".to_owned()))
}

/// What is told of a subscription.
fn info(
    query: &Query,
    chosen: &Chosen,
    (position, schema, chain): (Position, SchemaRef, &[Arc<Job>]),
    (policy, changing, limit): (Policy, bool, Option<u64>),
    user: String,
) -> SubscriptionInfo {
    let job = chosen.built.lease.job();
    SubscriptionInfo {
        channel: channel(job, chosen.built.updates),
        schema,
        key: if changing { query.key.clone() } else { Vec::new() },
        changing,
        position,
        recovered: chosen.recovered,
        complete_from: chain.iter().map(|job| job.complete_from()).max().filter(|from| *from > EventTime::MIN),
        shared_with: others(chain, &user),
        labels: job.labels.clone(),
        policy,
        query: user,
        windowed: query.plan.is_windowed(),
        limit,
    }
}

/// The jobs to read, and from where.
pub(super) struct Chosen {
    pub(super) built: Built,
    pub(super) start: Start,
    pub(super) recovered: Option<bool>,
    /// The position asked for lies behind the end, or in a partition that there is not.
    foreign: bool,
    /// The job runs for this reader alone, straight from the logs.
    private: bool,
}

fn choose(
    shared: &Arc<Shared>,
    options: &SubscribeOptions,
    node: &Node,
    relations: &Relations,
    user: &str,
) -> Result<Chosen, EngineError> {
    let afresh = || build_last(shared, node, relations, user);
    let private = |from: &Start| build(shared, node, relations, user, None, Some(from));
    let chosen = |built, start| Ok(Chosen { built, start, recovered: None, foreign: false, private: false });
    if shared.config.lossless {
        return chosen(afresh()?, Start::Earliest);
    }
    match &options.from {
        None => {
            let built = afresh()?;
            if !built.lease.job().rereadable {
                let start = if built.fresh { Start::Earliest } else { Start::Latest };
                return chosen(built, start);
            }
            let facts = built.lease.job().output.facts();
            if facts.rows_total == facts.log_rows {
                return chosen(built, Start::Earliest);
            }
            chosen(private(&Start::Earliest)?, Start::Earliest)
        }
        Some(Start::Latest) => chosen(afresh()?, Start::Latest),
        Some(Start::Position(position)) => resume(shared, node, relations, user, position),
        Some(start) => {
            if node.is_relation() {
                return chosen(afresh()?, start.clone());
            }
            Ok(Chosen {
                built: private(start)?,
                start: Start::Earliest,
                recovered: None,
                foreign: false,
                private: true,
            })
        }
    }
}

/// A client comes back with its position.
pub(super) fn resume(
    shared: &Arc<Shared>,
    node: &Node,
    relations: &Relations,
    user: &str,
    position: &Position,
) -> Result<Chosen, EngineError> {
    let start = Start::Position(position.clone());
    let built = build_last(shared, node, relations, user)?;
    let job = built.lease.job().clone();
    let stream = if built.updates { job.updates.as_ref().unwrap_or(&job.output) } else { &job.output };
    let foreign = if job.logged || built.updates { !stream.reaches(position) } else { !is_of(&job, position) };
    // No row has ever had such a place: it is answered as one of a log that is not known.
    let position = &Position { epoch: if foreign { !position.epoch } else { position.epoch }, ..position.clone() };
    let start = if foreign { Start::Position(position.clone()) } else { start };
    if stream.covers(position) || job.logged || built.updates {
        let recovered = Some(stream.covers(position));
        return Ok(Chosen { built, start, recovered, foreign, private: false });
    }
    drop(built);
    let built = build(shared, node, relations, user, None, Some(&start))?;
    let branches = &built.lease.job().inputs().branches;
    let parts = split_position(position, branches);
    let whole = branches.iter().zip(&parts).all(|(branch, part)| branch.job().output.covers(part));
    // The private job begins at the position itself: its first batch holds the rows that the client's last frame
    // may have stopped in.
    let own = Position { epoch: built.lease.job().output.epoch(), offsets: position.offsets.clone() };
    let start = if whole { Start::Position(own) } else { Start::Earliest };
    Ok(Chosen { built, start, recovered: Some(whole), foreign, private: true })
}

/// Whether a position is one that rows of a job that hands rows on can have, by the logs below it.
fn is_of(job: &Job, position: &Position) -> bool {
    if job.logged {
        return job.output.reaches(position);
    }
    let branches = &job.inputs().branches;
    let below = branches.iter().zip(split_position(position, branches));
    position.offsets.keys().all(|partition| *partition < job.output.partitions())
        && below.into_iter().all(|(branch, part)| is_of(branch.job(), &part))
}

/// The places before which rows have been told. Of another incarnation none have: its offsets were of other rows.
pub(super) fn told_before(start: &Start, stream: &MemoryStream) -> BTreeMap<u32, (Offset, u64)> {
    match start {
        Start::Position(position) if stream.gone_since(position).is_some() => position.offsets.clone(),
        _ => BTreeMap::new(),
    }
}

/// How often running results are wanted; zero: after every change.
fn interval(told: Emit) -> Option<Duration> {
    match told {
        Emit::Every(interval) => Some(interval),
        Emit::Changes => Some(Duration::ZERO),
        Emit::OnWindowClose => None,
    }
}

/// What a private job cannot give again of what a client asked for: how many of its rows that would have been, nobody
/// knows where some are left out. A log of the query's own tells its gaps itself.
fn lost(options: &SubscribeOptions, chosen: &Chosen, to: Position) -> Option<Gap> {
    let Some(Start::Position(asked)) = &options.from else { return None };
    if chosen.recovered != Some(false) || chosen.start != Start::Earliest {
        return None;
    }
    let known = asked.epoch == to.epoch && !chosen.foreign;
    let reason = if known { GapReason::Retention } else { GapReason::Epoch };
    let rows = known.then(|| gone(asked, &chosen.built.lease.job().inputs().branches)).flatten();
    Some(Gap { from: known.then(|| asked.clone()), to, rows, reason })
}

/// Rows between a position and the first that the logs keep, as offsets tell; `None`: not each of them gives a row.
fn gone(asked: &Position, branches: &[Branch]) -> Option<u64> {
    if !branches.iter().all(keeps_rows) {
        return None;
    }
    let parts = split_position(asked, branches);
    branches.iter().zip(&parts).map(|(branch, part)| branch.job().output.gone_since(part)).sum()
}

/// Whether each row of the log that a branch reads gives one.
pub(super) fn keeps_rows(branch: &Branch) -> bool {
    branch.job().logged && branch.ops.iter().all(OpSpec::keeps_rows)
}

/// How many others use the jobs of a query.
fn others(chain: &[Arc<Job>], user: &str) -> usize {
    let own = chain.iter().flat_map(|job| [Some(job.id.as_str()), job.stream.as_deref()]).flatten();
    Job::count_names(chain, &own.chain(std::iter::once(user)).collect())
}

/// Whether the sources wait for this reader.
pub(super) fn holds(shared: &Shared, job: &Job, policy: Policy) -> bool {
    shared.config.lossless || (job.can_wait && policy == Policy::Block)
}

/// The branches that give running results.
fn update_branches(built: &Built) -> Vec<Branch> {
    if built.updates {
        let input = built.lease.clone();
        return vec![Branch { input, updates: true, late: false, fresh: false, right: false, ops: Vec::new() }];
    }
    built.lease.job().inputs().branches.iter().filter(|branch| branch.updates).cloned().collect()
}

/// The open windows as they stand, queued; and the places from which changes follow. `position`: of the reader of
/// the changes.
async fn snapshot(
    heads: &[Branch],
    position: &Position,
    ready: &mut VecDeque<SubscriptionEvent>,
) -> Result<BTreeMap<u32, (Offset, u64)>, EngineError> {
    let mut told = BTreeMap::new();
    for (partition, head) in (0..).zip(heads) {
        let job = head.job();
        let Some((batches, next)) = ask(job).await? else { continue };
        told.insert(partition, (next, 0));
        let updates = job.updates.as_ref().unwrap_or(&job.output);
        let key: Vec<usize> = (0..job.key_columns).collect();
        let mut pipeline = Pipeline::new(updates.schema(), &head.ops, Some(&key), &Arc::new(Counters::default()))?;
        for batch in batches {
            for batch in pipeline.process(batch)?.into_iter().filter(|batch| batch.rows.num_rows() > 0) {
                let (batch, position) = (Arc::new(batch), position.clone());
                ready.push_back(SubscriptionEvent::Rows { batch, skip: 0, position, snapshot: true });
            }
        }
    }
    Ok(told)
}

/// A job's snapshot; `None` when the job has ended.
pub(crate) async fn ask(job: &Job) -> Result<Option<(Vec<StreamBatch>, Offset)>, EngineError> {
    let (reply, answer) = oneshot::channel();
    if job.commands.send(Command::Snapshot(reply)).await.is_err() {
        return Ok(None);
    }
    answer.await.ok().transpose()
}

fn policy(shared: &Shared, options: &SubscribeOptions, told: Emit, whole: bool) -> Policy {
    if shared.config.lossless {
        return Policy::Block;
    }
    options.policy.unwrap_or(match told {
        Emit::OnWindowClose if whole => Policy::Block,
        Emit::Every(_) | Emit::Changes => Policy::Conflate,
        Emit::OnWindowClose => Policy::DropOldest,
    })
}

/// `conflate` on rows that are appended would lose them: there it is `drop_oldest`.
fn conflater(
    query: &Query,
    policy: Policy,
    changing: bool,
    schema: &SchemaRef,
) -> Result<Option<Conflater>, EngineError> {
    if policy != Policy::Conflate || !changing {
        return Ok(None);
    }
    let key = query.key.iter().map(|name| schema.index_of(name)).collect::<Result<_, _>>()?;
    Conflater::new(schema, key).map(Some)
}

/// Least time between deliveries.
fn period(shared: &Shared, options: &SubscribeOptions, told: Emit) -> i64 {
    if shared.config.lossless {
        return 0;
    }
    let asked = options.max_hz.filter(|hz| *hz > 0.0).map_or(0, |hz| (1e9 / hz) as i64);
    let every = match told {
        // A little less than the interval: the job's own ticks may come a little early.
        Emit::Every(interval) => i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX) / 10 * 9,
        Emit::OnWindowClose | Emit::Changes => 0,
    };
    asked.max(every)
}

/// Names a job's output.
fn channel(job: &Job, updates: bool) -> u64 {
    let number: u64 = job.id.trim_start_matches('j').parse().unwrap_or_default();
    number * 2 + u64::from(updates)
}
