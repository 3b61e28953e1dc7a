//! Jobs that share a task with others, and how they come to have one of their own.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::again::Reached;
use super::{JobSpec, Task, Work, spawn};
use crate::error::EngineError;
use crate::job::feed::{Begin, Feed};
use crate::job::route::{join, predicate_of};
use crate::job::stage::Stage;
use crate::job::{Command, Job, Lease};
use crate::shared::Shared;

/// Opens the inputs of the last job of a live query, whose reader does not wait for each watermark, and starts it: its
/// task may be one that it shares.
pub(crate) fn spawn_last(shared: &Arc<Shared>, spec: JobSpec, user: &str) -> Result<Lease, EngineError> {
    let (begin, holding) = beginning(shared, &spec);
    match predicate_of(&spec, &begin) {
        Some(predicate) => join(shared, spec, predicate, (&begin, holding), user),
        None => spawn(shared, spec, user, super::Before::Nothing),
    }
}

/// A job goes on as a task of its own that shared one with others until now.
pub(in crate::job) fn go_apart(
    shared: &Arc<Shared>,
    job: Arc<Job>,
    feed: Feed,
    inbox: mpsc::Receiver<Command>,
    command: Option<Command>,
) -> Result<(), EngineError> {
    let mut task = Task::new(shared.clone(), job, Stage::Stateless, feed, Work::HandOn, inbox)?;
    task.reached = Reached::with_others(task.feed.done(), task.job.counters.snapshot());
    if let Some(command) = command {
        task.answer(command);
    }
    shared.handle.spawn(task.run());
    Ok(())
}

/// Where a job begins, and whether its inputs wait for it.
pub(super) fn beginning(shared: &Shared, spec: &JobSpec) -> (Begin, bool) {
    let can_wait = spec.branches.iter().all(|branch| branch.job().can_wait);
    let rereadable = spec.branches.iter().all(|branch| branch.job().rereadable);
    let lossless = shared.config.lossless;
    let holding = lossless || spec.holding || (can_wait && (spec.stream.is_some() || rereadable));
    let whole = lossless || rereadable && spec.begin == Begin::Fresh;
    (if whole { Begin::Earliest } else { spec.begin.clone() }, holding)
}
