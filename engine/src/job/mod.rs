//! Jobs: the smallest steps that queries share. A job reads one or more streams, applies its operators and writes
//! one stream. One job runs per fingerprint, counted by its users; it is released some time after the last one left.

mod alter;
mod branch;
mod build;
mod demand;
mod explain;
mod feed;
mod fused;
mod harm;
mod history;
mod hold;
mod lasting;
mod late;
mod pipeline;
mod registry;
mod route;
mod run;
mod skipped;
mod snapshot;
mod source;
mod stage;
mod stamp;
mod ticks;
mod users;
mod writer;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::counters::Counters;
use crate::error::EngineError;
use crate::ledger::{Ledger, LossReason, losses_of};
use crate::stream::{MemoryStream, Offset};

use alter::carry;
pub(crate) use alter::carry::{Plans, Reader};
pub(crate) use alter::{Altered, Anew, Before, HandedOver, Replaced, Successor, Told, Whereabouts, alter, replace};
pub(crate) use branch::{Branch, OpSpec};
pub(crate) use build::{Built, Node, Relations, Use, build, build_last, plan_jobs, plan_last, wanted_columns};
pub(crate) use demand::{Demand, DemandLease};
pub(crate) use explain::explain;
pub(crate) use feed::{Begin, Fed};
pub use harm::Quarantine;
pub(crate) use history::split_position;
pub use hold::Rested;
pub(crate) use hold::{own_jobs, unnamed};
pub use lasting::Recovery;
pub(crate) use lasting::{Lasts, build_stream, snapshot_plan};
pub(crate) use late::{Late, start_late};
pub(crate) use pipeline::Pipeline;
pub(crate) use registry::Registry;
pub(crate) use route::Routers;
pub(crate) use snapshot::Snapshots;
pub(crate) use source::{ClockLease, SourceJob, make_source, start_source};
pub(crate) use stage::{Stage, keep_table};
use users::Users;

/// Commands that wait for a job's attention.
pub(crate) const COMMANDS: usize = 64;

/// How the fingerprint of a job begins that nobody else can use.
const PRIVATE: &str = "private-";

/// A running job, or one that has ended and is still held.
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) fingerprint: String,
    pub(crate) kind: &'static str,
    inputs: RwLock<Arc<Inputs>>,
    /// Whether its output's log is what fresh queries read history from.
    pub(crate) logged: bool,
    /// Every source that it comes from can wait.
    pub(crate) can_wait: bool,
    /// Every source that it comes from can be read again from its start.
    pub(crate) rereadable: bool,
    /// How many of the first columns are the key of its running results.
    pub(crate) key_columns: usize,
    pub(crate) labels: Vec<String>,
    pub(crate) output: Arc<MemoryStream>,
    /// Running results; only an aggregate has them.
    pub(crate) updates: Option<Arc<MemoryStream>>,
    /// Rows that come too late; `None`: none can.
    pub(crate) late: Option<Late>,
    pub(crate) demand: Demand,
    pub(crate) hold: hold::Hold,
    /// Rows that it has skipped, and would read again.
    pub(crate) skips: skipped::Skips,
    /// One task filters its input for it and others: see `route`.
    pub(crate) routed: AtomicBool,
    pub(crate) harm: harm::Harm,
    pub(crate) counters: Arc<Counters>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) cancel: CancellationToken,
    pub(crate) started: EventTime,
    pub(crate) state_bytes: AtomicUsize,
    pub(crate) state: String,
    /// Windows that start before it may be partial; `MIN`: none is.
    lost_before: AtomicI64,
    /// Results with earlier event times are not told, since the job began amid them; `MIN`: all are.
    pub(crate) missing_before: EventTime,
    /// Name of the source or named stream that it writes.
    pub(crate) stream: Option<String>,
    pub(crate) source: Option<SourceJob>,
    /// Where what it has lost is kept when it has ended.
    pub(crate) ledger: Arc<Ledger>,
    status: Mutex<Status>,
    users: Mutex<Users>,
}

impl Drop for Job {
    fn drop(&mut self) {
        let mut losses = losses_of(self);
        // Found when the log was opened, and again when it is opened again.
        losses.remove(&LossReason::Damaged);
        self.ledger.end(losses);
    }
}

/// What a job reads. That of a named stream changes with its definition.
pub(crate) struct Inputs {
    pub(crate) branches: Vec<Branch>,
    /// What the job does with it, in words.
    pub(crate) description: String,
    /// It goes by the arrival of rows: what keeps its sources telling the clock.
    _clock: Vec<ClockLease>,
}

impl Inputs {
    pub(crate) fn new(branches: Vec<Branch>, description: String) -> Self {
        let _clock = source::clock_of(&branches);
        Self { branches, description, _clock }
    }
}

/// What a job is asked to do between batches.
pub(crate) enum Command {
    /// All open windows as they stand, and the offset in `updates` from which changes follow.
    Snapshot(oneshot::Sender<Result<(Vec<StreamBatch>, Offset), EngineError>>),
    /// To go on after a rest; `skip`: with the rows that come from now on, but for those that these jobs tell. The
    /// answer: what came meanwhile.
    Resume { skip: Option<Vec<String>>, reply: oneshot::Sender<Rested> },
    /// Where it is.
    Where(oneshot::Sender<Whereabouts>),
    /// A named stream's job goes over to another definition.
    Alter(Box<Successor>),
    /// To go on as a task of its own.
    Apart,
    /// To go on with the stream of another job.
    Switch(Box<carry::Switch>),
    /// To write down what was skipped; told once it is written.
    Note(oneshot::Sender<()>),
}

/// How a job stands.
#[derive(Debug, Clone)]
pub(crate) enum Status {
    Running,
    Ended,
    Failed(Arc<EngineError>),
}

impl Job {
    /// What it reads now.
    pub(crate) fn inputs(&self) -> Arc<Inputs> {
        self.inputs.read().expect("no holder of this lock panics").clone()
    }

    /// It reads something else from now on; what it read until now, to be let go of.
    pub(crate) fn set_inputs(&self, inputs: Inputs) -> Arc<Inputs> {
        std::mem::replace(&mut *self.inputs.write().expect("no holder of this lock panics"), Arc::new(inputs))
    }

    pub(crate) fn status(&self) -> Status {
        self.status.lock().expect("no holder of this lock panics").clone()
    }

    pub(crate) fn set_status(&self, status: Status) {
        *self.status.lock().expect("no holder of this lock panics") = status;
    }

    pub(crate) fn users(&self) -> Vec<String> {
        self.lock_users().all()
    }

    /// How many different names the users of some jobs have, apart from some.
    pub(crate) fn count_names(jobs: &[Arc<Self>], but: &HashSet<&str>) -> usize {
        // Most often only what is at the bottom has others, and thousands: those are not looked at.
        let Some(most) = jobs.iter().max_by_key(|job| job.lock_users().count()) else { return 0 };
        let mut beside: HashSet<Arc<str>> = HashSet::new();
        for job in jobs.iter().filter(|job| !Arc::ptr_eq(job, most)) {
            beside.extend(job.lock_users().names().filter(|name| !but.contains(&***name)).cloned());
        }
        most.lock_users().count_with(&beside, but)
    }

    pub(crate) fn user_count(&self) -> usize {
        self.lock_users().len()
    }

    fn lock_users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().expect("no holder of this lock panics")
    }

    /// This job and all that it reads, itself last, each once.
    pub(crate) fn chain(self: &Arc<Self>) -> Vec<Arc<Self>> {
        fn collect(job: &Arc<Job>, chain: &mut Vec<Arc<Job>>) {
            for branch in &job.inputs().branches {
                collect(branch.input.job(), chain);
            }
            if !chain.iter().any(|known| Arc::ptr_eq(known, job)) {
                chain.push(job.clone());
            }
        }
        let mut chain = Vec::new();
        collect(self, &mut chain);
        chain
    }

    /// Windows that start before it may be partial; `MIN`: none is.
    pub(crate) fn complete_from(&self) -> EventTime {
        EventTime(self.lost_before.load(Ordering::Relaxed))
    }

    /// Windows that start before this moment may be partial, too.
    pub(crate) fn lose_before(&self, moment: EventTime) {
        self.lost_before.fetch_max(moment.0, Ordering::Relaxed);
    }

    /// In words, for `SHOW JOBS`.
    pub(crate) fn status_text(&self) -> String {
        let status = self.status();
        if matches!(status, Status::Running)
            && let Some(text) = self.harm.text()
        {
            return text;
        }
        match status {
            Status::Running if self.hold.is_paused() => "paused".into(),
            Status::Running if self.user_count() == 0 => "lingering".into(),
            Status::Running => "running".into(),
            Status::Ended => "ended".into(),
            Status::Failed(error) => format!("failed: {error}"),
        }
    }

    /// It gets a task of its own, if it has none: whoever reads it is not to wait for its watermarks.
    pub(crate) fn stand_apart(&self) {
        if self.routed.load(Ordering::Acquire) {
            // Whatever is asked of it makes it so: it need not be asked again when it is asked much.
            let _ = self.commands.try_send(Command::Apart);
        }
    }

    /// Nobody else can use it.
    pub(crate) fn is_private(&self) -> bool {
        self.fingerprint.starts_with(PRIVATE)
    }

    /// The name of its stream, else its id.
    pub(crate) fn display_name(&self) -> String {
        self.stream.clone().unwrap_or_else(|| self.id.clone())
    }

    pub(crate) fn watermark(&self) -> Option<EventTime> {
        let watermark = self.output.facts().watermark;
        (watermark > EventTime::MIN && watermark < EventTime::MAX).then_some(watermark)
    }
}

/// The use of a job by a query, a named stream, a sink or another job. Dropping it may release the job.
pub(crate) struct Lease {
    job: Arc<Job>,
    id: u64,
    registry: Weak<Registry>,
    /// The user left of its own will: the job lingers for less long.
    unsubscribed: AtomicBool,
}

static NEXT_LEASE: AtomicU64 = AtomicU64::new(1);

impl Lease {
    pub(crate) fn new(job: Arc<Job>, user: &str, registry: &Arc<Registry>) -> Self {
        let id = NEXT_LEASE.fetch_add(1, Ordering::Relaxed);
        job.lock_users().insert(id, user);
        Self { job, id, registry: Arc::downgrade(registry), unsubscribed: AtomicBool::new(false) }
    }

    pub(crate) fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Says that the user leaves of its own will.
    pub(crate) fn unsubscribe(&self) {
        self.unsubscribed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut users = self.job.lock_users();
        users.remove(self.id);
        let unused = users.len() == 0;
        drop(users);
        if unused && let Some(registry) = self.registry.upgrade() {
            registry.release_later(&self.job, self.unsubscribed.load(Ordering::Relaxed));
        }
    }
}

/// How long jobs without users run on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Linger {
    pub(crate) disconnected: Duration,
    pub(crate) unsubscribed: Duration,
}
