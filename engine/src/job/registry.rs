//! Which jobs run, by fingerprint.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::runtime::Handle;

use super::{Job, Lease, Linger, PRIVATE, Status};
use crate::clock::Clock;

/// All jobs of an engine. It does not keep them: their users do, and a timer while they linger.
pub(crate) struct Registry {
    jobs: Mutex<HashMap<String, Weak<Job>>>,
    linger: Linger,
    clock: Arc<dyn Clock>,
    handle: Handle,
}

impl Registry {
    pub(crate) fn new(linger: Linger, clock: Arc<dyn Clock>, handle: Handle) -> Arc<Self> {
        Arc::new(Self { jobs: Mutex::default(), linger, clock, handle })
    }

    /// A lease on the job with that fingerprint, if one runs.
    pub(crate) fn attach(self: &Arc<Self>, fingerprint: &str, user: &str) -> Option<Lease> {
        let jobs = self.jobs.lock().expect("no holder of this lock panics");
        let job = jobs.get(fingerprint)?.upgrade()?;
        (usable(&job)).then(|| Lease::new(job, user, self))
    }

    /// The job with that fingerprint, if one runs, without using it.
    pub(crate) fn find(&self, fingerprint: &str) -> Option<Arc<Job>> {
        let jobs = self.jobs.lock().expect("no holder of this lock panics");
        jobs.get(fingerprint)?.upgrade().filter(usable)
    }

    /// Adds a job, with its first user.
    pub(crate) fn add(self: &Arc<Self>, job: Arc<Job>, user: &str) -> Lease {
        let mut jobs = self.jobs.lock().expect("no holder of this lock panics");
        jobs.insert(job.fingerprint.clone(), Arc::downgrade(&job));
        Lease::new(job, user, self)
    }

    /// Whether a named stream is made from what the job gives.
    pub(crate) fn serves_stream(&self, job: &Arc<Job>) -> bool {
        let named = |other: &Arc<Job>| other.stream.is_some() && other.source.is_none();
        let reads = |other: &Arc<Job>| other.chain().iter().any(|below| Arc::ptr_eq(below, job));
        self.jobs().iter().any(|other| named(other) && !other.cancel.is_cancelled() && reads(other))
    }

    /// Those that run or are still held, oldest first.
    pub(crate) fn jobs(&self) -> Vec<Arc<Job>> {
        let jobs = self.jobs.lock().expect("no holder of this lock panics");
        let mut jobs: Vec<Arc<Job>> = jobs.values().filter_map(Weak::upgrade).collect();
        jobs.sort_by(|a, b| a.started.cmp(&b.started).then_with(|| a.id.cmp(&b.id)));
        jobs
    }

    /// Lets jobs rest, chosen while nobody attaches to any. Those of a stream's own are not found by their fingerprints
    /// from then on: whoever wants the same has another.
    pub(crate) fn pause(&self, choose: impl FnOnce() -> Vec<Arc<Job>>) -> Vec<Arc<Job>> {
        let mut jobs = self.jobs.lock().expect("no holder of this lock panics");
        let chosen = choose();
        for job in &chosen {
            job.hold.pause();
            job.stand_apart();
            let found = jobs.get(&job.fingerprint).is_some_and(|known| known.ptr_eq(&Arc::downgrade(job)));
            if found && job.stream.is_none() {
                jobs.remove(&job.fingerprint);
                jobs.insert(resting(job), Arc::downgrade(job));
            }
        }
        chosen
    }

    /// A job that has rested is found again, unless another has taken its place.
    pub(crate) fn resume(&self, job: &Arc<Job>) {
        let mut jobs = self.jobs.lock().expect("no holder of this lock panics");
        let taken = jobs.get(&job.fingerprint).and_then(Weak::upgrade).is_some_and(|other| usable(&other));
        if !taken && jobs.remove(&resting(job)).is_some() {
            jobs.insert(job.fingerprint.clone(), Arc::downgrade(job));
        }
    }

    /// Releases a job unless somebody uses it again in time.
    pub(crate) fn release_later(self: &Arc<Self>, job: &Arc<Job>, unsubscribed: bool) {
        // To one of its user's own nobody comes back.
        let soon = unsubscribed || job.fingerprint.starts_with(PRIVATE);
        let linger = if soon { self.linger.unsubscribed } else { self.linger.disconnected };
        if linger.is_zero() || job.cancel.is_cancelled() {
            self.release(job);
            return;
        }
        let until = self.clock.now().plus(i64::try_from(linger.as_nanos()).unwrap_or(i64::MAX));
        let (registry, job, clock) = (self.clone(), job.clone(), self.clock.clone());
        self.handle.spawn(async move {
            tokio::select! {
                () = clock.sleep_until(until) => registry.release(&job),
                () = job.cancel.cancelled() => {}
            }
        });
    }

    fn release(&self, job: &Arc<Job>) {
        let mut jobs = self.jobs.lock().expect("no holder of this lock panics");
        if job.user_count() > 0 {
            return;
        }
        if jobs.get(&job.fingerprint).is_some_and(|known| known.ptr_eq(&Arc::downgrade(job))) {
            jobs.remove(&job.fingerprint);
        }
        jobs.remove(&resting(job));
        job.cancel.cancel();
    }
}

fn usable(job: &Arc<Job>) -> bool {
    !job.cancel.is_cancelled() && !matches!(job.status(), Status::Failed(_))
}

/// The place of a job that rests, apart from those that run.
fn resting(job: &Job) -> String {
    format!("resting-{}:{}", job.id, job.fingerprint)
}
