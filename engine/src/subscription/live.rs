//! Live queries, for `SHOW QUERIES` and `KILL QUERY`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;

use futures::task::AtomicWaker;
use squilla_query::{Emit, Query};

use crate::clock::EventTime;
use crate::error::EngineError;
use crate::info::QueryInfo;
use crate::job::Job;
use crate::ledger::{GapCounts, Ledger};
use crate::relation::base_name;
use crate::shared::Shared;

/// A query that somebody reads.
pub(crate) struct LiveQuery {
    /// `q` and a number; a sink's name for its query.
    pub(crate) id: String,
    pub(crate) sql: String,
    /// It feeds a sink.
    pub(crate) sink: bool,
    /// Relations that it reads.
    pub(crate) reads: Vec<String>,
    pub(crate) started: EventTime,
    pub(crate) jobs: Mutex<Vec<String>>,
    pub(crate) rows: AtomicU64,
    killed: AtomicBool,
    /// What its reader was told that it does not get.
    pub(crate) gaps: GapCounts,
    ledger: Arc<Ledger>,
    /// Its rows replace each other.
    pub(crate) changing: bool,
    /// It reads a piece of history, or at a pace.
    pub(crate) replay: AtomicBool,
    paused: AtomicBool,
    /// How often it was paused, told to go on, or ended: one look tells its reader that nothing is new.
    stirs: AtomicU64,
    reader: AtomicWaker,
    /// How often it was told to go on.
    resumes: AtomicU64,
    /// It goes on with the rows that come then.
    skips: AtomicBool,
    /// Why it was ended; nothing: somebody wished it.
    why: OnceLock<Arc<EngineError>>,
}

impl LiveQuery {
    pub(crate) fn new(number: u64, query: &Query, sink: Option<&str>, shared: &Shared) -> Self {
        Self {
            id: sink.map_or_else(|| format!("q{number}"), str::to_owned),
            sql: query.sql.clone(),
            sink: sink.is_some(),
            reads: query.plan.relations().iter().map(|read| base_name(read).to_owned()).collect(),
            started: shared.clock.now(),
            jobs: Mutex::default(),
            rows: AtomicU64::new(0),
            killed: AtomicBool::new(false),
            gaps: GapCounts::default(),
            ledger: shared.ledger.clone(),
            changing: query.told(false) != Emit::OnWindowClose,
            replay: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            stirs: AtomicU64::new(0),
            reader: AtomicWaker::new(),
            resumes: AtomicU64::new(0),
            skips: AtomicBool::new(false),
            why: OnceLock::new(),
        }
    }

    /// It reads these jobs from now on.
    pub(crate) fn set_jobs(&self, chain: &[Arc<Job>]) {
        *self.jobs.lock().expect("no holder of this lock panics") = chain.iter().map(|job| job.id.clone()).collect();
    }

    /// Lets it rest; false: it does already.
    pub(crate) fn pause(&self) -> bool {
        let was = self.paused.swap(true, Ordering::AcqRel);
        self.stir();
        !was
    }

    /// Lets it go on, `skip`: with the rows that come then; false: it did not rest.
    pub(crate) fn resume(&self, skip: bool) -> bool {
        if !self.is_paused() {
            return false;
        }
        self.skips.store(skip, Ordering::Release);
        self.resumes.fetch_add(1, Ordering::Release);
        let was = self.paused.swap(false, Ordering::AcqRel);
        self.stir();
        was
    }

    /// How often it was told to go on: its reader may not have looked in between.
    pub(crate) fn resumes(&self) -> u64 {
        self.resumes.load(Ordering::Acquire)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// How often it was paused, told to go on, or ended.
    pub(crate) fn stirs(&self) -> u64 {
        self.stirs.load(Ordering::Acquire)
    }

    fn stir(&self) {
        self.stirs.fetch_add(1, Ordering::AcqRel);
        self.reader.wake();
    }

    /// Its reader is woken when it is paused, told to go on, or ended from now on.
    pub(crate) fn listen(&self, reader: &Waker) {
        self.reader.register(reader);
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// Ends it at somebody's wish.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.stir();
    }

    /// Whether it goes on with the rows that come now; asked once.
    pub(crate) fn take_skip(&self) -> bool {
        self.skips.swap(false, Ordering::AcqRel)
    }

    /// Ends it. Its reader is told why; the first reason counts.
    pub(crate) fn end(&self, why: EngineError) {
        self.why.get_or_init(|| Arc::new(why));
        self.kill();
    }

    /// Why it was ended.
    pub(crate) fn ended(&self) -> Arc<EngineError> {
        self.why.get().cloned().unwrap_or_else(|| Arc::new(EngineError::Stopped))
    }

    pub(crate) fn info(&self) -> QueryInfo {
        QueryInfo {
            id: self.id.clone(),
            sql: self.sql.clone(),
            started: self.started,
            jobs: self.jobs.lock().expect("no holder of this lock panics").clone(),
            subscriptions: 1,
            rows: self.rows.load(Ordering::Relaxed),
            paused: self.is_paused(),
        }
    }
}

impl Drop for LiveQuery {
    fn drop(&mut self) {
        self.ledger.end(self.gaps.losses());
    }
}

/// All live queries of an engine.
pub(crate) type LiveQueries = Arc<Mutex<BTreeMap<u64, Arc<LiveQuery>>>>;

/// A query's place among the live ones. Dropping it gives it up.
pub(crate) struct Admission {
    pub(crate) live: Arc<LiveQuery>,
    number: u64,
    queries: LiveQueries,
}

impl Admission {
    pub(crate) fn new(live: Arc<LiveQuery>, number: u64, queries: &LiveQueries) -> Self {
        Self { live, number, queries: queries.clone() }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.queries.lock().expect("no holder of this lock panics").remove(&self.number);
    }
}
