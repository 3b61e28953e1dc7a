//! Jobs that rest: what they keep stays, and what comes waits in the logs that they read.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::Job;
use crate::stream::{MemoryStream, Position};

/// Whether a job is to rest, and where it does.
pub(crate) struct Hold {
    paused: watch::Sender<bool>,
    /// Where it rests in each input; empty while it runs.
    places: Mutex<Vec<Place>>,
}

/// Where a job rests in an input.
pub(crate) struct Place {
    pub(crate) stream: Arc<MemoryStream>,
    pub(crate) position: Position,
    /// Rows that it had not read then.
    pub(crate) behind_rows: u64,
    /// Rows of the stream by then.
    pub(crate) rows_total: u64,
    /// The stream keeps what it has, and its offsets are those of rows.
    pub(crate) logged: bool,
}

/// Rows that came while a job rested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rested {
    /// Rows that are still there to be read.
    pub waiting_rows: u64,
    /// Rows that retention has removed, or that were skipped: the job counts them as dropped.
    pub lost_rows: u64,
}

impl std::ops::AddAssign for Rested {
    fn add_assign(&mut self, other: Self) {
        self.waiting_rows += other.waiting_rows;
        self.lost_rows += other.lost_rows;
    }
}

impl Hold {
    pub(crate) fn new(paused: bool) -> Self {
        Self { paused: watch::Sender::new(paused), places: Mutex::default() }
    }

    /// Tells the job to rest once it is through with the batch that it has.
    pub(crate) fn pause(&self) {
        self.paused.send_replace(true);
    }

    pub(crate) fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }

    /// It rests at these places.
    pub(crate) fn rest(&self, places: Vec<Place>) {
        *self.places.lock().expect("no holder of this lock panics") = places;
    }

    /// It goes on.
    pub(crate) fn wake(&self) {
        self.places.lock().expect("no holder of this lock panics").clear();
        self.paused.send_replace(false);
    }

    /// What has come since it rests.
    pub(crate) fn rested(&self) -> Rested {
        let mut rested = Rested::default();
        for place in self.places.lock().expect("no holder of this lock panics").iter() {
            rested += place.rested();
        }
        rested
    }
}

impl Place {
    fn rested(&self) -> Rested {
        let came = self.behind_rows + self.stream.facts().rows_total.saturating_sub(self.rows_total);
        let lost_rows = if self.logged { self.stream.lost_rows(&self.position).min(came) } else { 0 };
        Rested { waiting_rows: came - lost_rows, lost_rows }
    }
}

/// The jobs that work for a named stream alone, its own first: those whose users are among them. Late rows of the
/// stream are gathered by `late`.
pub(crate) fn own_jobs(job: &Arc<Job>, late: Option<&Arc<Job>>) -> Vec<Arc<Job>> {
    let mut own: Vec<Arc<Job>> = [job].into_iter().chain(late).cloned().collect();
    let stream = job.stream.clone().unwrap_or_default();
    let mut at = 0;
    while let Some(user) = own.get(at).cloned() {
        for branch in &user.inputs().branches {
            let below = branch.job();
            let known = |name: &String| *name == stream || own.iter().any(|job| job.id == *name);
            let alone = below.stream.is_none() && below.users().iter().all(known);
            if alone && !own.iter().any(|job| Arc::ptr_eq(job, below)) {
                own.push(below.clone());
            }
        }
        at += 1;
    }
    own
}

/// A job and those of no name that it reads, through others of no name.
pub(crate) fn unnamed(job: &Arc<Job>) -> Vec<Arc<Job>> {
    let mut found = vec![job.clone()];
    let mut at = 0;
    while let Some(user) = found.get(at).cloned() {
        for below in user.inputs().branches.iter().map(|branch| branch.job()).filter(|below| below.stream.is_none()) {
            if !found.iter().any(|job| Arc::ptr_eq(job, below)) {
                found.push(below.clone());
            }
        }
        at += 1;
    }
    found
}
