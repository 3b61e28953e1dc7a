//! Who wants running results, and how often.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

/// The intervals wanted by a job's readers; the job ticks at the least.
#[derive(Clone)]
pub(crate) struct Demand {
    wanted: Arc<Mutex<Wanted>>,
    least: watch::Sender<Option<Duration>>,
}

#[derive(Default)]
struct Wanted {
    next: u64,
    intervals: BTreeMap<u64, Duration>,
}

impl Demand {
    pub(crate) fn new() -> Self {
        Self { wanted: Arc::default(), least: watch::Sender::new(None) }
    }

    /// Adds a reader.
    pub(crate) fn add(&self, interval: Duration) -> DemandLease {
        let mut wanted = self.wanted.lock().expect("no holder of this lock panics");
        wanted.next += 1;
        let id = wanted.next;
        wanted.intervals.insert(id, interval);
        self.least.send_replace(wanted.least());
        DemandLease { demand: self.clone(), id }
    }

    /// Shows the least interval as it changes; `None`: nobody wants running results.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<Duration>> {
        self.least.subscribe()
    }
}

impl Wanted {
    fn least(&self) -> Option<Duration> {
        self.intervals.values().min().copied()
    }
}

/// One reader's wish. Dropping it withdraws it.
pub(crate) struct DemandLease {
    demand: Demand,
    id: u64,
}

impl Drop for DemandLease {
    fn drop(&mut self) {
        let mut wanted = self.demand.wanted.lock().expect("no holder of this lock panics");
        wanted.intervals.remove(&self.id);
        self.demand.least.send_replace(wanted.least());
    }
}
