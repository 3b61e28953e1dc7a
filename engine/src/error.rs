//! What can go wrong while the engine runs.

use thiserror::Error;

use std::sync::Arc;

use crate::stream::{CommitError, DiskError, PositionError};

/// An error of the engine. `Display` prints this error only; causes are chained by `source()`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// There is no such relation.
    #[error("no stream or source \"{0}\"")]
    UnknownRelation(String),
    /// The name is taken.
    #[error("\"{0}\" exists already")]
    Exists(String),
    /// Others read it; names of the users.
    #[error("\"{name}\" is used by {}", users.join(", "))]
    InUse {
        /// What was to be dropped.
        name: String,
        /// Who uses it.
        users: Vec<String>,
    },
    /// There is no such query.
    #[error("no query \"{0}\"")]
    UnknownQuery(String),
    /// A plan cannot be run. The query's fault.
    #[error("the query cannot be run: {0}")]
    Plan(String),
    /// A query's state, or the process's, has outgrown its budget. The query's fault.
    #[error("state of {used_bytes} bytes is over the {scope} budget of {limit_bytes} bytes")]
    StateBudget {
        /// `query` or `process`.
        scope: &'static str,
        /// Bytes held.
        used_bytes: usize,
        /// Bytes allowed.
        limit_bytes: usize,
    },
    /// A table that a query looks up in has outgrown the query's budget. The query's fault.
    #[error("table \"{table}\" takes {used_bytes} bytes, over the query budget of {limit_bytes} bytes")]
    TableBudget {
        /// Name of the table.
        table: String,
        /// Bytes held.
        used_bytes: usize,
        /// Bytes allowed.
        limit_bytes: usize,
    },
    /// An aggregate cannot go on: a decimal has outgrown its type, say. The query's fault.
    #[error("an aggregate failed: {0}")]
    Aggregate(String),
    /// The outside world failed a source. A retry may help if `retryable`.
    #[error("source \"{name}\" failed: {message}")]
    Source {
        /// Name of the source.
        name: String,
        /// What happened.
        message: String,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
    /// A sink cannot take rows.
    #[error("sink failed: {0}")]
    Sink(String),
    /// A limit on how many things there can be was reached.
    #[error("limit of {limit} {what} reached")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// How many there can be.
        limit: usize,
    },
    /// A subscription with the policy `disconnect` was too slow. It can come back with its position.
    #[error("the reader is {behind_bytes} bytes behind, over its limit of {limit_bytes}")]
    TooSlow {
        /// Bytes of rows between the reader and the stream's end.
        behind_bytes: u64,
        /// Bytes that there may be.
        limit_bytes: u64,
    },
    /// A stream refused a commit.
    #[error("a commit was refused")]
    Commit(#[from] CommitError),
    /// A stream is to last, and there is no folder for its log.
    #[error("\"{0}\" cannot be kept on disk: there is no data folder (start `squilla serve --data-dir DIR`)")]
    NoLogFolder(String),
    /// A log on disk cannot be used. A retry may help when the disk was full.
    #[error("a log on disk cannot be used: {0}")]
    Disk(Arc<DiskError>),
    /// A position cannot be read from.
    #[error("the position cannot be used")]
    Position(#[from] PositionError),
    /// A stored state cannot be used: it is damaged, or of another query.
    #[error("a stored state cannot be used: {0}")]
    State(String),
    /// DataFusion failed where only our own mistake can make it fail.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A step of a job has panicked. Ours.
    #[error("a step has crashed: {0}")]
    Crashed(String),
    /// What is to rest does not run.
    #[error("\"{name}\" cannot be paused: {status}")]
    NotRunning {
        /// What was to rest.
        name: String,
        /// What it does instead, in words.
        status: String,
    },
    /// What is to get another query is no stream that runs.
    #[error("\"{name}\" cannot be altered: {status}")]
    NotAltered {
        /// What was to be altered.
        name: String,
        /// How it stands, in words.
        status: String,
    },
    /// What reads a stream cannot go on with what it is to become.
    #[error("\"{name}\" cannot be altered while \"{user}\" reads it: {why}")]
    NotCarried {
        /// What was to be altered.
        name: String,
        /// Who reads it.
        user: String,
        /// What is in the way, in words.
        why: String,
    },
    /// A query is to rest whose rows replace each other: it would miss changes.
    #[error("query \"{0}\" cannot be paused: its rows change, and changes would be missed")]
    Changing(String),
    /// A query is to rest that reads a piece of history, or at a pace: it would be overtaken by what is kept.
    #[error("query \"{0}\" cannot be paused: it reads history at its own pace")]
    Replay(String),
    /// Rows that come now are to come step by step.
    #[error("what comes now has no steps: the query has no start in the past")]
    NoReplay,
    /// Results that replace each other are to come step by step.
    #[error("results that change have no steps")]
    NoSteps,
    /// A query's state cannot go over to a stream: it began in the past, or computes with random values.
    #[error("the state of query \"{0}\" is its own: it began in the past, or computes with random values")]
    Private(String),
    /// What a query reads was dropped while it ran.
    #[error("\"{0}\" was dropped")]
    Dropped(String),
    /// What a query reads has got another query while it ran.
    #[error("stream \"{name}\" was altered: {what}")]
    Altered {
        /// The stream.
        name: String,
        /// What has become other, in words.
        what: String,
    },
    /// The engine or the query was stopped.
    #[error("stopped")]
    Stopped,
}

impl EngineError {
    /// Whether doing the same again may succeed.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Commit(CommitError::Disk(error)) | Self::Disk(error) => error.retryable(),
            Self::Source { retryable, .. } => *retryable,
            other => matches!(other, Self::Limit { .. } | Self::Stopped | Self::TooSlow { .. } | Self::Altered { .. }),
        }
    }

    /// What a user can do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::UnknownRelation(_) => "SHOW STREAMS lists what can be read",
            Self::Exists(_) => "choose another name, or DROP what has this one",
            Self::InUse { .. } => "drop those that use it first, or say DROP … CASCADE",
            Self::UnknownQuery(_) => "SHOW QUERIES lists the queries that run, with their ids",
            Self::Plan(_) => {
                "EXPLAIN SELECT … tells how a query is run; write it in two steps, the first with CREATE STREAM"
            }
            Self::StateBudget { .. } => {
                "keep less: shorter windows, fewer groups, WHERE before GROUP BY, or STATE TTL for what has no windows"
            }
            Self::TableBudget { .. } => {
                "load fewer columns or rows: CREATE TABLE from a smaller file, or of what the query needs"
            }
            Self::Aggregate(_) => "CAST(… AS DOUBLE) or a wider DECIMAL takes larger numbers",
            Self::Source { retryable: true, .. } => {
                "the source is opened again by itself; DESCRIBE name tells how it fares"
            }
            Self::Source { .. } => "mend what it reads, then DROP the source and CREATE it anew",
            Self::Sink(_) => "see that its file can be written, then DROP the sink and CREATE it anew",
            Self::Limit { .. } => "end queries that are not needed: SHOW QUERIES, then KILL QUERY 'id'",
            Self::TooSlow { .. } => {
                "subscribe again from the last position, read faster, or choose a policy that skips rows"
            }
            Self::NoLogFolder(_) => "start the server with --data-dir, or leave durability out",
            Self::Commit(CommitError::Disk(_)) | Self::Disk(_) => {
                "free space in the data folder, or keep less of streams: retention, retention_size"
            }
            Self::Position(_) => "start from latest or earliest",
            Self::Commit(_) | Self::Internal(_) | Self::State(_) => {
                "this is a mistake of Squilla's: the server's log has the details; please report the statement"
            }
            Self::Crashed(_) => {
                "this is a mistake of Squilla's: the server's log has the details; please report the statement"
            }
            Self::NotRunning { .. } => "SHOW STREAMS says how it stands",
            Self::NotAltered { .. } => {
                "SHOW STREAMS says how it stands; one that is paused is resumed first: RESUME STREAM name"
            }
            Self::NotCarried { .. } => {
                "RESUME what is paused; or DROP what reads the stream first, or CREATE STREAM under another name"
            }
            Self::Changing(_) => {
                "end it and ask again later: it then begins with its rows as they stand; or PAUSE STREAM what it reads"
            }
            Self::Replay(_) => {
                "its client pauses it, in the console or by a message of type pause; or end it and begin again from its position"
            }
            Self::NoReplay => {
                "PAUSE QUERY lets a live query rest; to go step by step begin in the past: from \"earliest\" or \"-5m\", or SINCE in the statement"
            }
            Self::NoSteps => "leave out EMIT, and give an aggregate windows: GROUP BY tumble('10s')",
            Self::Private(_) => "CREATE STREAM name AS SELECT … begins anew, with the windows that are open now",
            Self::Dropped(_) => "CREATE it anew, or read something else",
            Self::Altered { .. } => "ask again: its rows begin anew, and positions of before are not known any more",
            Self::Stopped => "start it again if it is still wanted",
        }
    }

    /// Stable, machine-readable kind, in snake case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownRelation(_) => "unknown_relation",
            Self::Exists(_) => "exists",
            Self::InUse { .. } => "in_use",
            Self::UnknownQuery(_) => "unknown_query",
            Self::Plan(_) | Self::NoLogFolder(_) => "unsupported",
            Self::StateBudget { .. } | Self::TableBudget { .. } => "state_budget",
            Self::Aggregate(_) => "aggregate",
            Self::Source { .. } => "source",
            Self::Sink(_) => "sink",
            Self::Limit { .. } => "limit",
            Self::TooSlow { .. } => "too_slow",
            Self::Commit(CommitError::Disk(_)) | Self::Disk(_) => "disk",
            Self::Commit(_) | Self::Internal(_) | Self::State(_) => "internal",
            Self::Position(_) => "position",
            Self::Crashed(_) => "crashed",
            Self::NotRunning { .. } | Self::NotAltered { .. } => "not_running",
            Self::NotCarried { .. } => "in_use",
            Self::Changing(_) | Self::Replay(_) | Self::Private(_) | Self::NoReplay | Self::NoSteps => "unsupported",
            Self::Dropped(_) => "dropped",
            Self::Altered { .. } => "altered",
            Self::Stopped => "stopped",
        }
    }
}

impl From<datafusion_common::DataFusionError> for EngineError {
    fn from(error: datafusion_common::DataFusionError) -> Self {
        Self::Internal(Box::new(error))
    }
}

impl From<arrow::error::ArrowError> for EngineError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Internal(Box::new(error))
    }
}
