//! The job that a task runs, as others see it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};
use std::sync::{Arc, RwLock};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{JobSpec, describe, fingerprint};
use crate::batch::physical_schema;
use crate::clock::EventTime;
use crate::counters::Counters;
use crate::job::feed::{Feed, leading_filters};
use crate::job::harm::Harm;
use crate::job::history::stateless_start;
use crate::job::hold::Hold;
use crate::job::late::Late;
use crate::job::skipped::Skips;
use crate::job::stage::{Stage, Stateful};
use crate::job::{Branch, Command, Demand, Inputs, Job, PRIVATE, Status};
use crate::shared::Shared;
use crate::stream::{LogLimits, MemoryStream, Position};

pub(in crate::job) fn make_job(
    shared: &Shared,
    spec: JobSpec,
    feed: &Feed,
    counters: Arc<Counters>,
    commands: mpsc::Sender<Command>,
) -> Job {
    let inputs: Vec<_> =
        spec.branches.iter().map(|b| (b.job().fingerprint.clone(), b.updates, b.ops.as_slice())).collect();
    let fingerprint = match spec.stage.stateful().and_then(Stateful::shared_as) {
        Some(shared_as) => shared_as.to_owned(),
        None => fingerprint(&inputs, &spec.stage, spec.stream.as_deref()),
    };
    let private = spec.private.then(|| format!("{PRIVATE}{}:{fingerprint}", spec.number));
    let sources: Vec<_> = spec.branches.iter().map(|b| (b.job().display_name(), b.ops.as_slice())).collect();
    let description = describe(&sources, &spec.stage);
    let replay = spec.branches.iter().any(|branch| branch.job().output.replay());
    let (schema, start, partitions, limits) = match &spec.stage {
        Stage::Stateless => {
            (feed.schema().clone(), stateless_start(&spec.branches, feed), feed.partitions(), LogLimits::HAND_OFF)
        }
        Stage::Named => (feed.schema().clone(), fresh_epoch(shared), feed.partitions(), LogLimits::NAMED),
        Stage::Late => (feed.schema().clone(), fresh_epoch(shared), feed.partitions(), LogLimits::LATE),
        Stage::Stateful(step) => {
            let partitions = if step.reads_table() { feed.left_partitions() } else { 1 };
            (physical_schema(step.schema()), fresh_epoch(shared), partitions, LogLimits::RESULTS)
        }
    };
    let told_from = |step: &dyn Stateful| {
        if feed.start == EventTime::MIN { EventTime::MIN } else { step.missing_before(feed.start) }
    };
    let missing_before = spec.stage.stateful().map_or(EventTime::MIN, told_from).max(feed.missing_before);
    let key_columns = spec.stage.stateful().and_then(|step| step.key_columns());
    let updates = key_columns.map(|_| {
        let start = fresh_epoch(shared);
        MemoryStream::new(schema.clone(), &start, 1, replay, LogLimits::HAND_OFF, shared.clock.clone())
    });
    let skips = Skips::of(&spec);
    Job {
        id: format!("j{}", spec.number),
        fingerprint: private.unwrap_or(fingerprint),
        kind: job_kind(&spec),
        logged: !spec.stage.is_stateless(),
        can_wait: spec.branches.iter().all(|branch| branch.job().can_wait),
        rereadable: spec.branches.iter().all(|branch| branch.job().rereadable),
        labels: labels(&spec.branches),
        output: spec.output.unwrap_or_else(|| {
            MemoryStream::new(schema, &start, partitions, replay, shared.limits(limits), shared.clock.clone())
        }),
        updates,
        late: Late::of(shared, &spec.stage, feed.partitions(), replay),
        key_columns: key_columns.unwrap_or_default(),
        demand: Demand::new(),
        hold: Hold::new(spec.paused),
        skips,
        routed: AtomicBool::new(false),
        harm: Harm::default(),
        counters,
        commands,
        cancel: CancellationToken::new(),
        started: shared.clock.now(),
        state_bytes: AtomicUsize::new(0),
        state: spec.stage.describe_state(),
        lost_before: AtomicI64::new(feed.complete_from.0),
        missing_before,
        stream: spec.stream,
        source: None,
        ledger: shared.ledger.clone(),
        inputs: RwLock::new(Arc::new(Inputs::new(spec.branches, description))),
        status: std::sync::Mutex::new(Status::Running),
        users: std::sync::Mutex::default(),
    }
}

/// What must be told of the sources.
fn labels(branches: &[Branch]) -> Vec<String> {
    let mut labels: Vec<String> = branches.iter().flat_map(|branch| branch.job().labels.clone()).collect();
    labels.sort_unstable();
    labels.dedup();
    labels
}

fn job_kind(spec: &JobSpec) -> &'static str {
    match &spec.stage {
        Stage::Stateless if spec.branches.len() > 1 => "union",
        Stage::Stateless => {
            let ops = &spec.branches[0].ops;
            if leading_filters(ops) == ops.len() { "filter" } else { "project" }
        }
        Stage::Named => "stream",
        Stage::Late => "late",
        Stage::Stateful(step) => step.kind(),
    }
}

fn fresh_epoch(shared: &Shared) -> Position {
    Position { epoch: shared.new_epoch(), offsets: std::collections::BTreeMap::new() }
}
