//! What a job does behind its branches. One kind of stateful job a file.

mod aggregate;
mod aggregate_running;
mod fill;
mod gather;
mod join;
mod lookup;
mod rank;
mod rank_running;
mod table;
mod track;

use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;

pub(crate) use aggregate::AggregateJob;
pub(crate) use aggregate_running::RunningJob;
pub(crate) use fill::FillJob;
pub(crate) use gather::GatherJob;
pub(crate) use join::JoinJob;
pub(crate) use lookup::LookupJob;
pub(crate) use rank::RankJob;
pub(crate) use rank_running::RankRunningJob;
pub(crate) use table::{TABLE, keep_table};
pub(crate) use track::TrackJob;

use crate::clock::EventTime;
use crate::counters::Counters;
use crate::error::EngineError;
use crate::operator::{Crew, Operator};

/// What a job does behind its branches.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    /// Hands on.
    Stateless,
    /// Hands on to a named stream's log, with offsets of its own.
    Named,
    /// Hands on rows that came too late for other jobs to a log, with offsets of its own.
    Late,
    /// Keeps state.
    Stateful(Arc<dyn Stateful>),
}

/// A description of a job that keeps state, from which its operator is made. Its output is one partition, unless it reads
/// a table.
pub(crate) trait Stateful: Debug + Send + Sync {
    /// In a word, for `SHOW JOBS`.
    fn kind(&self) -> &'static str;

    /// Text that is equal for jobs that give equal rows of equal inputs.
    fn canonical(&self) -> String;

    /// What it does, in words.
    fn describe(&self) -> String;

    /// What it keeps, in words.
    fn describe_state(&self) -> String;

    /// When it tells its rows, in words.
    fn describe_emission(&self) -> String {
        "rows as they come".into()
    }

    /// Visible fields of what comes out.
    fn schema(&self) -> &SchemaRef;

    /// All expressions that it computes.
    fn exprs(&self) -> Vec<&Expr>;

    /// How many of the first columns are the key of its running results; `None`: it has none.
    fn key_columns(&self) -> Option<usize>;

    /// Whether its right input is a table: read from its first row on, to its end before anything else where it has one.
    /// The job's output then has the partitions of its left input.
    fn reads_table(&self) -> bool {
        false
    }

    /// The event time of the first row that a fresh query needs of inputs that have come to `watermark`: results of
    /// what happened before are not told. [`EventTime::MIN`]: from the first row there is. `None`: the rows that come
    /// from now on.
    fn begin(&self, watermark: EventTime) -> Option<EventTime>;

    /// The moment from which on windows are whole for a fresh query that needs rows from `start` on, of inputs that lack
    /// those before `missing_before`; [`EventTime::MIN`]: all that it tells are.
    fn whole_from(&self, start: EventTime, missing_before: EventTime) -> EventTime {
        if start < missing_before { missing_before } else { EventTime::MIN }
    }

    /// Results with earlier event times are not told by a fresh query that needs rows from `start` on.
    fn missing_before(&self, start: EventTime) -> EventTime {
        start
    }

    /// Whether rows can come too late for it.
    fn judges_lateness(&self) -> bool {
        false
    }

    /// The event time of the first row that it needs to go on behind results whose watermark is `told`, so that it
    /// tells all that follow and none of those again. `None`: what it would tell depends on more.
    fn resume(&self, told: EventTime) -> Option<EventTime> {
        let _ = told;
        None
    }

    /// The watermark of its results once the inputs have come to `watermark`: of a job that can [`Stateful::resume`].
    fn told(&self, watermark: EventTime) -> EventTime {
        watermark
    }

    /// The fingerprint of the job, where that is not made of what it reads and does: other queries find it by that.
    fn shared_as(&self) -> Option<&str> {
        None
    }

    /// Whether its rows replace each other, so that final ones come at the end of bounded input only.
    fn changes(&self) -> bool {
        false
    }

    /// What runs.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it cannot be computed.
    fn operator(&self, setting: Setting) -> Result<Box<dyn Operator>, EngineError>;
}

/// What an operator finds when its job starts.
pub(crate) struct Setting {
    /// For each branch the physical fields of its batches and its partitions, which are numbered through.
    pub(crate) inputs: Vec<(SchemaRef, u32)>,
    /// For each branch whether it is of the right input of a join.
    pub(crate) sides: Vec<bool>,
    /// Results of what happened before it are not told; [`EventTime::MIN`]: all are.
    pub(crate) start: EventTime,
    /// Results of inputs that have earlier event times were not told; [`EventTime::MIN`]: all were.
    pub(crate) missing_before: EventTime,
    /// What has no window is forgotten after its time to live: the input may never end.
    pub(crate) forgets: bool,
    /// Bytes of state that are too many.
    pub(crate) state_limit_bytes: usize,
    pub(crate) counters: Arc<Counters>,
    /// Who helps; `None`: nobody.
    pub(crate) crew: Option<Arc<Crew>>,
}

impl Setting {
    /// Partitions of all branches.
    pub(crate) fn partitions(&self) -> u32 {
        self.inputs.iter().map(|(_, partitions)| partitions).sum()
    }
}

impl Stage {
    pub(crate) fn is_stateless(&self) -> bool {
        matches!(self, Self::Stateless)
    }

    /// The description, of a job that keeps state.
    pub(crate) fn stateful(&self) -> Option<&dyn Stateful> {
        match self {
            Self::Stateful(step) => Some(step.as_ref()),
            Self::Stateless | Self::Named | Self::Late => None,
        }
    }

    /// Whether its right input is a table.
    pub(crate) fn reads_table(&self) -> bool {
        self.stateful().is_some_and(Stateful::reads_table)
    }

    /// Whether it computes with random values.
    pub(crate) fn is_random(&self) -> bool {
        self.stateful().is_some_and(|step| step.exprs().into_iter().any(squilla_query::is_random))
    }

    pub(crate) fn canonical(&self) -> String {
        match self {
            Self::Stateless => String::new(),
            Self::Named => "|named".into(),
            Self::Late => "|late".into(),
            Self::Stateful(step) => format!("|{}", step.canonical()),
        }
    }

    /// What it keeps, in words.
    pub(crate) fn describe_state(&self) -> String {
        match self {
            Self::Stateless => "nothing".into(),
            Self::Named => "its rows, for readers that come later".into(),
            Self::Late => "late rows of the last 15 minutes, 4 MiB at the most".into(),
            Self::Stateful(step) => step.describe_state(),
        }
    }
}
