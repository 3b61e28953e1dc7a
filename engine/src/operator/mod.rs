//! Rules that a job applies to batches. One operator a file.
//!
//! Every operator keeps this contract, which `check.rs` asserts in tests: output batches have the operator's schema;
//! a partition's watermark never goes back; a batch without rows still carries its watermark on; nothing comes
//! after the end; and the job's [`Counters`](crate::Counters) account for every row.

mod accumulators;
mod admit;
mod aggregate;
mod aggregate_call;
mod aggregate_running;
mod align;
mod arrival;
mod assign_window;
mod by_arrival;
mod carried;
mod conform;
mod count_parts;
mod count_window;
mod crew;
mod deduplicate;
mod distinct;
mod emit;
mod expression;
mod fill;
mod filter;
mod filter_updates;
mod forgetting;
mod grid;
mod grouping;
mod join;
mod key_table;
mod keyed_states;
mod late;
mod nth_value;
mod numbered_keys;
mod numbering;
mod pane;
mod placement;
mod predicate_index;
mod progress;
mod project;
mod rank;
mod rank_running;
mod rank_updates;
mod ranking;
mod sample;
mod session;
mod session_groups;
mod session_kept;
mod session_table;
mod session_told;
mod shards;
mod slices;
mod spares;
mod state;
mod track;
mod track_memory;
mod unnest;
mod window_rows;
mod windows;
mod yard;

#[cfg(test)]
mod aggregate_tests;
#[cfg(test)]
pub(crate) mod check;
#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod count_window_tests;
#[cfg(test)]
mod cumulate_tests;
#[cfg(test)]
mod functions_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod rank_tests;
#[cfg(test)]
mod restore_tests;
#[cfg(test)]
mod running_tests;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod stateless_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod track_tests;

pub use aggregate::{Aggregate, AggregateSpec};
pub use aggregate_running::{AggregateRunning, RunningSpec};
pub use assign_window::AssignWindow;
pub use by_arrival::ByArrival;
pub use conform::Conform;
pub use count_window::{CountWindow, CountWindowSpec};
pub(crate) use crew::{Crew, Part as CrewPart};
pub use deduplicate::{Deduplicate, RankingInput};
pub use fill::{Fill, FillInput, FillSpec};
pub use filter::Filter;
pub use filter_updates::FilterUpdates;
pub use join::{
    IntervalJoin, IntervalJoinSpec, JoinInputs, KeepLatest, LookupJoin, LookupSpec, WindowJoin, WindowJoinSpec,
};
pub use late::LateRows;
pub(crate) use predicate_index::{Matches, Predicate, PredicateIndex, Scratch};
pub(crate) use progress::Progress;
pub use project::Project;
pub use rank::{Rank, RankInput};
pub use rank_running::RankRunning;
pub use rank_updates::RankUpdates;
pub use sample::Sample;
pub use session::{Session, SessionSpec};
pub use state::{Part, State};
pub use track::{Track, TrackInput};
pub use unnest::Unnest;

use arrow::datatypes::SchemaRef;

use crate::batch::StreamBatch;
use crate::error::EngineError;

/// How long before its window's end a result happened, by event time: it is in the window.
pub(crate) const RESULT_LAG_NS: i64 = 1_000_000;

/// One rule, applied to batches in the order in which they come.
pub trait Operator: Send {
    /// Fields of the batches that come out, with the hidden ones.
    fn schema(&self) -> &SchemaRef;

    /// Takes one batch in.
    ///
    /// # Errors
    /// Only what ends the job: a budget overrun or our own mistake. A row on which an expression fails is set aside
    /// and counted.
    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError>;

    /// Whether [`Operator::process_all`] does better than one batch after the other.
    fn gathers(&self) -> bool {
        false
    }

    /// Takes in several batches that have come by now, as one by one, or at once where that changes nothing but the order
    /// of results for which there is none.
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn process_all(&mut self, batches: Vec<StreamBatch>, output: &mut Output) -> Result<(), EngineError> {
        batches.into_iter().try_for_each(|batch| self.process(batch, output))
    }

    /// Does a part of what [`Operator::process_all`] has put off while it went on reading, and tells what there is to tell.
    /// False: nothing is put off any more. What is put off is done before anything else that has to know of it; whoever
    /// saves sees to it that nothing is.
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn catch_up(&mut self, output: &mut Output) -> Result<bool, EngineError> {
        let _ = output;
        Ok(false)
    }

    /// A partition has ended. The last one's end closes everything: all windows are flushed.
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        let _ = (partition, output);
        Ok(())
    }

    /// Whether [`Output::updates`] is filled. The first [`Operator::tick`] after it was switched on tells at least
    /// what changed since. Operators without running results need not care.
    fn track_updates(&mut self, on: bool) {
        let _ = on;
    }

    /// Whether [`Output::late`] is filled. Operators for which no row is late need not care.
    fn track_late(&mut self, on: bool) {
        let _ = on;
    }

    /// Tells running results: for each open window the groups that changed since the last call, as
    /// [`RowKind::Update`](crate::RowKind::Update) in `output.updates`. Stateless operators have none.
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn tick(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let _ = output;
        Ok(())
    }

    /// All groups of all open windows as they stand, as updates, without marking anything as told.
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn snapshot(&mut self) -> Result<Vec<StreamBatch>, EngineError> {
        Ok(Vec::new())
    }

    /// Puts all that later appended rows depend on behind what a state holds, between two batches: a new operator of the
    /// same description that restores it goes on as this one would. This one goes on too; nothing that it tells depends on
    /// whether it was saved, but for the last digit of variances, which are rounded once more.
    ///
    /// What readers of running results were told is no part of it: they are shown a snapshot again. Nor are counters: the
    /// job stores its own with the state and goes on with them, so that rows that wait in the state, counted when they
    /// came in, are accounted for when they leave it.
    ///
    /// # Errors
    /// As [`Operator::process`].
    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        let _ = state;
        Ok(())
    }

    /// Takes its parts from the front of a state that [`Operator::save`] has filled, before anything else is asked of it.
    /// Its form is checked; that it is of the same description the job knows. The state says where the operator began,
    /// whatever its description says of that. The end of a partition that had ended may be told again, and changes
    /// nothing. After an error the operator is of no use.
    ///
    /// # Errors
    /// [`EngineError::State`] when it is not of such an operator.
    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        let _ = state;
        Ok(())
    }

    /// Bytes of state held.
    fn state_bytes(&self) -> usize {
        0
    }
}

/// What an operator hands on.
#[derive(Debug, Default)]
pub struct Output {
    /// Appended rows (final results among them), in order: what queries read.
    pub rows: Vec<StreamBatch>,
    /// Running results and the final ones again ([`RowKind::Final`](crate::RowKind::Final)), in order: what readers
    /// with `EMIT EVERY` get. Filled only while there is such a reader.
    pub updates: Vec<StreamBatch>,
    /// Rows that came too late, as the counters have them. Filled only while somebody wants them.
    pub late: Vec<LateRows>,
}
