//! What the engine tells of itself.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use serde::Serialize;

use crate::clock::EventTime;
use crate::counters::CountersSnapshot;
use crate::job::{Job, Recovery};
use crate::stream::Durability;

/// A running job, for `SHOW JOBS`.
#[derive(Debug, Clone, Serialize)]
pub struct JobInfo {
    /// Short id.
    pub id: String,
    /// `source`, `filter`, `aggregate`, `union`, `sink` and so on: what it does, in a word.
    pub kind: String,
    /// What it does, in a line a user can read.
    pub description: String,
    /// Ids of the jobs whose output it reads.
    pub inputs: Vec<String>,
    /// The name of its output stream, when it has one.
    pub stream: Option<String>,
    /// Who uses it: queries, named streams, sinks and jobs, by id or name.
    pub users: Vec<String>,
    /// When it started.
    pub started: EventTime,
    /// Its output's watermark; `None` while there is none.
    pub watermark: Option<EventTime>,
    /// Bytes of state.
    pub state_bytes: usize,
    /// Its event time runs on a clock of its own: it has no lag behind ours.
    pub replay: bool,
    /// Bytes of rows that it has written.
    pub bytes_out: u64,
    /// Time spent on batches, in microseconds. Of a source: on giving them their event times.
    pub busy_us: u64,
    /// What it keeps, in words.
    pub state: String,
    /// The ledger.
    pub counters: CountersSnapshot,
    /// How often it was started again after it had crashed.
    pub restarts: u64,
    /// Why it crashed the last time; `None`: it has not.
    pub crash: Option<String>,
    /// It stopped at rows at which it crashed again and again: [`crate::Engine::quarantine`] tells them.
    pub quarantined: bool,
    /// `running`, `paused`, `lingering`, `ended`, `restarting: …`, `quarantined at …` or `failed: …`.
    pub status: String,
}

/// A source or named stream, for `SHOW STREAMS`.
#[derive(Debug, Clone, Serialize)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// `source` or `stream`.
    pub kind: &'static str,
    /// The label of [`crate::ConnectorInfo`], passed on through chains.
    pub labels: Vec<String>,
    /// Its visible fields.
    #[serde(skip)]
    pub schema: SchemaRef,
    /// The connector, for a source.
    pub connector: Option<&'static str>,
    /// Options of the connector, secrets redacted.
    pub options: Vec<(String, String)>,
    /// The event-time column and how the watermark follows, in words.
    pub event_time: String,
    /// How long a partition may be silent before it no longer holds back the others; `None`: it never is idle, or has not
    /// come from outside.
    #[serde(skip)]
    pub idle_timeout: Option<Duration>,
    /// How many partitions; zero while its job does not run.
    pub partitions: u32,
    /// Its watermark; `None` while there is none.
    pub watermark: Option<EventTime>,
    /// Rows committed so far.
    pub rows: u64,
    /// Rows kept in the log.
    pub log_rows: u64,
    /// Bytes kept in the log.
    pub log_bytes: u64,
    /// Whether its rows outlast the process.
    pub durability: Durability,
    /// How a named stream goes on after the process has ended.
    pub recovery: Option<Recovery>,
    /// Why a named stream that lasts does not go on where it ended, in words; `None`: it does, or it does not last.
    pub live_because: Option<String>,
    /// Snapshots of a named stream that were found damaged since the process started: those before them were used.
    pub damaged_snapshots: u64,
    /// Rows that readers saw and the disk did not take.
    pub unstored_rows: u64,
    /// Rows on disk that were found damaged.
    pub damaged_rows: u64,
    /// Who reads it: queries, streams and sinks, by id or name.
    pub users: Vec<String>,
    /// The ledger of the job that writes it.
    pub counters: CountersSnapshot,
    /// Since when it rests, and what has come meanwhile; `None`: it does not.
    pub paused: Option<PausedInfo>,
    /// How often the jobs of a stream were started again after they had crashed.
    pub restarts: u64,
    /// `running`, `paused`, `waiting` (starts with its first reader), `ended`, `restarting: …`, `quarantined at …` or
    /// `failed: …`.
    pub status: String,
}

/// How a named stream rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PausedInfo {
    /// Since when.
    pub since: EventTime,
    /// Rows that have come and wait to be read.
    pub waiting_rows: u64,
    /// Rows that have come and that retention has removed: they will be counted as dropped.
    pub lost_rows: u64,
}

/// A live query, for `SHOW QUERIES`.
#[derive(Debug, Clone, Serialize)]
pub struct QueryInfo {
    /// Its id, for `KILL QUERY`.
    pub id: String,
    /// Its text.
    pub sql: String,
    /// When it was submitted.
    pub started: EventTime,
    /// Its jobs, the source's first.
    pub jobs: Vec<String>,
    /// Subscriptions of this very query.
    pub subscriptions: usize,
    /// Rows handed to subscriptions.
    pub rows: u64,
    /// It rests until it is told to go on.
    pub paused: bool,
}

/// One job of a query that is explained, the source's first.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedJob {
    /// As in [`JobInfo`].
    pub kind: String,
    /// As in [`JobInfo`].
    pub description: String,
    /// The steps that it reads, counted from 1.
    pub inputs: Vec<usize>,
    /// Id of the running job that the query would share; `None`: it would start its own.
    pub shared: Option<String>,
    /// Who uses that job: queries, named streams, sinks and jobs, by id or name.
    pub users: Vec<String>,
    /// When it tells its rows, in words.
    pub emits: String,
    /// What it keeps, in words: `windows of 10 s, shared panes of 2 s`, `nothing`.
    pub state: String,
}

impl JobInfo {
    pub(crate) fn of(job: &Job) -> Self {
        let (restarts, crash) = job.harm.restarts();
        // Before the counters: those of one that has ended are its last.
        let status = job.status_text();
        Self {
            restarts,
            crash,
            quarantined: job.harm.quarantined().is_some(),
            id: job.id.clone(),
            kind: job.kind.to_owned(),
            description: job.inputs().description.clone(),
            inputs: job.inputs().branches.iter().map(|branch| branch.job().id.clone()).collect(),
            stream: job.stream.clone(),
            users: job.users(),
            started: job.started,
            watermark: job.watermark(),
            state_bytes: job.state_bytes.load(std::sync::atomic::Ordering::Relaxed),
            replay: job.output.replay(),
            bytes_out: job.output.facts().bytes_total,
            busy_us: job.counters.busy_us(),
            state: job.state.clone(),
            counters: job.counters.snapshot(),
            status,
        }
    }
}
