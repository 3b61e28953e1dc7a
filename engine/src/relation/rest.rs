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
        let rest = resting.lock().expect("no holder of this lock panics").take();
        let mut jobs = rest.map(|rest| rest.jobs).unwrap_or_default();
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
            let foreign = |below: &Arc<Job>| !jobs.iter().any(|own| Arc::ptr_eq(own, below));
            let skip = job.inputs().branches.iter().map(|branch| skip && foreign(branch.job())).collect();
            let (reply, answer) = oneshot::channel();
            if job.commands.send(Command::Resume { skip, reply }).await.is_ok() {
                rested += answer.await.unwrap_or_default();
            }
        }
        Some(rested)
    }

    /// How it rests; `None`: it does not.
    pub(super) fn paused(&self) -> Option<PausedInfo> {
        let Definition::Stream { resting, .. } = &self.definition else { return None };
        let resting = resting.lock().expect("no holder of this lock panics");
        let rest = resting.as_ref()?;
        let mut rested = Rested::default();
        rest.jobs.iter().for_each(|job| rested += job.hold.rested());
        Some(PausedInfo { since: rest.since, waiting_rows: rested.waiting_rows, lost_rows: rested.lost_rows })
    }
}
