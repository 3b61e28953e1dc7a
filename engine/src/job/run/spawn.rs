//! How the tasks of jobs are started.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::again::Recipe;
use super::anchor::Anchor;
use super::keep::Keeper;
use super::{JobSpec, Keeping, Onward, Task, Work, beginning, make_job};
use crate::clock::EventTime;
use crate::counters::Counters;
use crate::error::EngineError;
use crate::job::feed::{Begin, Feed};
use crate::job::skipped::Skipped;
use crate::job::{COMMANDS, Lease};
use crate::operator::State;
use crate::shared::Shared;

/// Opens the inputs of a job and starts its task.
pub(crate) fn spawn_job(shared: &Arc<Shared>, spec: JobSpec, user: &str) -> Result<Lease, EngineError> {
    spawn(shared, spec, user, Before::Nothing)
}

/// The same for a job of windows that goes on with what one kept. `before`: rows that came before have earlier event
/// times. It tells windows from an event time on, and has skipped stretches.
pub(in crate::job) fn spawn_restored(
    shared: &Arc<Shared>,
    spec: JobSpec,
    user: &str,
    (state, before): (State, EventTime),
    (start, skipped): (EventTime, &[Skipped]),
) -> Result<Lease, EngineError> {
    spawn(shared, spec, user, Before::State { state, before, start, skipped })
}

/// The same for a job of which snapshots are taken, and which goes on where one stands.
///
/// # Errors
/// [`EngineError::State`] when the snapshot does not fit.
pub(in crate::job) fn spawn_kept(
    shared: &Arc<Shared>,
    spec: JobSpec,
    user: &str,
    keeping: Keeping,
    onward: Onward,
) -> Result<Lease, EngineError> {
    spawn(shared, spec, user, Before::Snapshot(Box::new((keeping, onward))))
}

/// What a job goes on from.
pub(super) enum Before<'a> {
    Nothing,
    /// What one kept that told windows from an event time on, and the stretches of its inputs that are not to come.
    State {
        state: State,
        before: EventTime,
        start: EventTime,
        skipped: &'a [Skipped],
    },
    Snapshot(Box<(Keeping, Onward)>),
}

pub(super) fn spawn(shared: &Arc<Shared>, spec: JobSpec, user: &str, before: Before<'_>) -> Result<Lease, EngineError> {
    let counters = Arc::new(Counters::default());
    let (begin, holding) = beginning(shared, &spec);
    let begin = (&begin, spec.needed, shared.clock.now());
    let mut feed = Feed::open(&spec.branches, &spec.stage, begin, holding, &counters)?;
    let mut work = Work::new(shared, &spec.stage, &feed, &counters)?;
    let mut anchor = None;
    let keeper = match before {
        Before::Nothing => None,
        Before::State { mut state, before, start, skipped } => {
            let Begin::Each(at) = begin.0 else { unreachable!("it goes on at a place") };
            feed.restore(&mut state)?;
            anchor = Some(Anchor::of(state.clone(), at.clone(), before));
            work = Work::begun(shared, &spec.stage, &feed, (EventTime::MIN, EventTime::MIN), &counters)?;
            if let Work::Operator(operator) = &mut work {
                operator.restore(&mut state)?;
            }
            feed.go_on_from(start, skipped, &spec.branches);
            None
        }
        Before::Snapshot(kept) => {
            let (keeping, onward) = *kept;
            let told = onward.enter(&keeping, (&mut feed, &mut work, &spec.branches), &counters)?;
            Some(Keeper::new(keeping, told))
        }
    };
    if let Some(output) = spec.output.as_ref().filter(|_| keeper.is_none())
        && let Some(until) = output.takes_over()
    {
        feed.set_behind(&output.watermarks(), until);
    }
    let stage = spec.stage.clone();
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let job = Arc::new(make_job(shared, spec, &feed, counters, commands));
    let lease = shared.registry.add(job.clone(), user);
    let mut task = Task::new(shared.clone(), job, stage, feed, work, inbox)?;
    task.anchor = anchor;
    if keeper.is_some() {
        (task.keeper, task.recipe) = (keeper, Some(Recipe::Kept));
        shared.handle.spawn(shared.kept.track_future(task.run()));
    } else {
        shared.handle.spawn(task.run());
    }
    Ok(lease)
}
