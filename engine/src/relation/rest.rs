//! Named streams that rest.

use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::{Definition, Relation};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::info::PausedInfo;
use crate::job::{Command, Job, Rested, Status, own_jobs, unnamed};
use crate::shared::Shared;

/// Since when a named stream rests, and which jobs with it; `None`: it runs.
pub(super) type Resting = Mutex<Option<Rest>>;

pub(super) struct Rest {
    since: EventTime,
    jobs: Vec<Arc<Job>>,
}

impl Relation {
    /// Lets its jobs rest, those that work for it alone; false: they do already.
    ///
    /// # Errors
    /// [`EngineError::NotRunning`].
    pub(crate) fn pause(&self, shared: &Shared) -> Result<bool, EngineError> {
        let not_running = |status: &str| EngineError::NotRunning { name: self.name.clone(), status: status.to_owned() };
        let Definition::Stream { lease, late, resting, .. } = &self.definition else {
            return Err(not_running("it is no named stream"));
        };
        if !matches!(lease.job().status(), Status::Running) {
            return Err(not_running(&lease.job().status_text()));
        }
        let mut resting = resting.lock().expect("no holder of this lock panics");
        if resting.is_some() {
            return Ok(false);
        }
        let late = late.job.lock().expect("no holder of this lock panics").as_ref().map(|late| late.job().clone());
        let jobs = shared.registry.pause(|| own_jobs(lease.job(), late.as_ref()));
        *resting = Some(Rest { since: shared.clock.now(), jobs });
        Ok(true)
    }

    /// Lets its jobs go on; what came meanwhile, `None` when they did not rest.
    pub(crate) async fn resume(&self, shared: &Shared, skip: bool) -> Option<Rested> {
        let Definition::Stream { resting, lease, .. } = &self.definition else { return None };
        let known = || resting.lock().expect("no holder of this lock panics");
        // It is taken for resting until all of them go on: whoever waits for that may hang up on the way.
        let rests = known().as_ref().map(|rest| rest.jobs.clone());
        let mut jobs = rests.unwrap_or_default();
        // And those that stopped at rows at which they crashed.
        let stopped = unnamed(lease.job()).into_iter().filter(|job| job.harm.quarantined().is_some());
        for job in stopped {
            if !jobs.iter().any(|known| Arc::ptr_eq(known, &job)) {
                jobs.push(job);
            }
        }
        if jobs.is_empty() {
            return None;
        }
        let mut rested = Rested::default();
        for job in &jobs {
            shared.registry.resume(job);
            // What its own jobs have told is not skipped: they skip what they read.
            let skip = skip.then(|| jobs.iter().map(|own| own.id.clone()).collect());
            let (reply, answer) = oneshot::channel();
            if job.commands.send(Command::Resume { skip, reply }).await.is_ok() {
                let what = answer.await.unwrap_or_default();
                rested += if passed_over(job, &jobs) { Rested::default() } else { what };
            }
        }
        if skip {
            let (told, written) = oneshot::channel();
            if lease.job().commands.send(Command::Note(told)).await.is_ok() {
                // One that has ended has nothing to tell.
                let _ = written.await;
            }
        }
        *known() = None;
        Some(rested)
    }

    /// How it rests; `None`: it does not.
    pub(super) fn paused(&self) -> Option<PausedInfo> {
        let Definition::Stream { resting, .. } = &self.definition else { return None };
        let resting = resting.lock().expect("no holder of this lock panics");
        let rest = resting.as_ref()?;
        let mut rested = Rested::default();
        let tell = rest.jobs.iter().filter(|job| !passed_over(job, &rest.jobs));
        tell.for_each(|job| rested += job.hold.rested());
        Some(PausedInfo { since: rest.since, waiting_rows: rested.waiting_rows, lost_rows: rested.lost_rows })
    }
}

/// Whether the jobs that read a job read the logs below it since they have crashed: they tell the same rows.
fn passed_over(job: &Arc<Job>, jobs: &[Arc<Job>]) -> bool {
    let reads = |user: &&Arc<Job>| user.inputs().branches.iter().any(|branch| Arc::ptr_eq(branch.job(), job));
    let mut users = jobs.iter().filter(reads).peekable();
    !job.logged && users.peek().is_some() && users.all(|user| user.harm.restarts().0 > 0)
}
