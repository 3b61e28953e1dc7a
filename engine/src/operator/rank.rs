//! Ranks rows within windows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use squilla_query::{RankSpec, RankTime};

use super::carried::Carried;
use super::emit::{Saying, Series};
use super::placement::closed_until;
use super::ranking::Ranking;
use super::window_rows::{ClosedWindow, Untold, WindowRows, WindowRowsSpec};
use super::{LateRows, Operator, Output, RESULT_LAG_NS, State};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Rows of a window and partition after which those that cannot be among the first any more go.
const PRUNE_ROWS: usize = 1024;

/// What a [`Rank`] works on.
#[derive(Debug, Clone)]
pub struct RankInput {
    /// The physical fields of the batches that come in.
    pub input: SchemaRef,
    /// The visible fields that come out: the input's, and the number's behind when it is asked for.
    pub schema: SchemaRef,
    /// Partitions of the input.
    pub partitions: u32,
    /// Windows that began before it are not told; [`EventTime::MIN`]: all are.
    pub start: EventTime,
    /// Bytes of state that are too many.
    pub state_limit_bytes: usize,
}

/// Numbers the rows of each window by an order, within parts, and tells the first of them when the window closes.
///
/// - Schema: the input's columns, and the number's when it is asked for; one partition, in order of window end, and
///   within a window in order of the parts and numbers. The event time of a row is its window's end less a
///   millisecond. Rows that are equal by the order go by their event times, their partitions, their arrival.
/// - Watermark: a window closes once the least watermark of the partitions that are neither idle nor ended has
///   reached its end and the grace. A row is late by the watermark that the rows before it in its partition imply.
///   The output's watermark is the input's less the grace and a millisecond.
/// - State: the rows of open windows that can still be among the first: where there is a limit, about a thousand rows
///   and twice the limit for each part, window and partition. Beyond the budget the query ends with
///   [`EngineError::StateBudget`].
/// - Errors: a row whose window has no bounds is set aside and counted.
/// - Example: the first 2 by price, descending, of windows of 10 s over prices 5 at 00:01, 9 at 00:04, 7 at 00:08 are
///   9 and 7, told when the watermark reaches 00:10.
///
/// The ranks are those of SQL:2003, section 6.10.
pub struct Rank {
    schema: SchemaRef,
    rows: WindowRows,
    ranking: Ranking,
    numbered: bool,
    grace: i64,
    told: Series,
    watermark: i64,
    idle: bool,
    arrival: EventTime,
    keeps_late: bool,
    limit_bytes: usize,
    counters: Arc<Counters>,
}

impl Rank {
    /// A ranking that counts in `counters` whatever becomes of a row, but not the rows in.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it cannot be computed, or is not within windows.
    pub fn new(rank: &RankSpec, setting: RankInput, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let RankTime::Window { start, end, grace_ns, assigned } = &rank.time else {
            return Err(EngineError::Plan("a rank without windows".into()));
        };
        let untold = match assigned {
            Some(_) => Untold::StartBefore(setting.start),
            None => Untold::EndUpTo(setting.start),
        };
        let ranking = Ranking::new(&setting.input, rank)?;
        let rows = WindowRowsSpec {
            input: setting.input,
            start,
            end,
            grace_ns: *grace_ns,
            partitions: setting.partitions,
            untold,
        };
        let schema = physical_schema(&setting.schema);
        Ok(Self {
            rows: WindowRows::new(rows, Arc::clone(&counters))?,
            ranking,
            numbered: rank.column.is_some(),
            grace: (*grace_ns).max(0),
            told: Series::new(Arc::clone(&schema)),
            schema,
            watermark: i64::MIN,
            idle: false,
            arrival: EventTime::MIN,
            keeps_late: false,
            limit_bytes: setting.state_limit_bytes,
            counters,
        })
    }

    fn tell(&mut self, window: &ClosedWindow, output: &mut Output) -> Result<(), EngineError> {
        let ranked = self.ranking.rank(&window.rows)?;
        add(&self.counters.rows_out, ranked.rows.len());
        let len = ranked.rows.len();
        let rows = take_record_batch(&window.rows, &UInt32Array::from(ranked.rows))?;
        let mut columns: Vec<ArrayRef> = rows.columns()[..rows.num_columns() - 2].to_vec();
        if self.numbered {
            columns.push(Arc::new(Int64Array::from(ranked.numbers)));
        }
        self.watermark = self.watermark.max(window.end.saturating_sub(RESULT_LAG_NS));
        let (before, after) = (self.watermark, self.watermark);
        let (start, end, arrival) = (window.start, window.end, self.arrival);
        let saying = Saying { kind: RowKind::Append, start, end, before, after, arrival };
        self.told.rows(columns, len, &saying, &mut output.rows)
    }

    fn carried(&mut self) -> Carried<'_> {
        let Self { rows, told, watermark, idle, arrival, .. } = self;
        Carried { progress: rows.progress_mut(), next: told.next(), watermark, idle, arrival }
    }

    /// Tells the windows that the watermark closes, and carries the watermark on.
    fn advance(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let until = self.rows.progress().watermark();
        let told = output.rows.len();
        for window in self.rows.close(until)? {
            self.tell(&window, output)?;
        }
        let watermark = match until {
            i64::MIN | i64::MAX => until,
            until => closed_until(until, self.grace).saturating_sub(RESULT_LAG_NS),
        };
        let idle = self.rows.progress().is_idle();
        let carried = watermark.max(self.watermark);
        match output.rows[told..].last_mut() {
            Some(last) => (last.watermark, last.idle) = (EventTime(carried), idle),
            None if carried > self.watermark || idle != self.idle => {
                output.rows.push(self.told.progress(carried, self.arrival, idle));
            }
            None => {}
        }
        (self.watermark, self.idle) = (carried, idle);
        Ok(())
    }
}

impl Operator for Rank {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let told_at = self.rows.progress().watermark();
        self.rows.absorb(&batch)?;
        if self.keeps_late {
            output.late.extend(LateRows::pick(&batch.rows, batch.partition, self.rows.tardy(), told_at)?);
        }
        if self.ranking.is_limited() {
            let ranking = &mut self.ranking;
            self.rows.prune(PRUNE_ROWS, &mut |rows| ranking.first(rows))?;
        }
        self.arrival = batch.arrival;
        self.advance(output)?;
        let (used_bytes, limit_bytes) = (self.rows.bytes(), self.limit_bytes);
        if used_bytes > limit_bytes {
            return Err(EngineError::StateBudget { scope: "query", used_bytes, limit_bytes });
        }
        Ok(())
    }

    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        self.rows.end_partition(partition)?;
        self.advance(output)
    }

    fn track_late(&mut self, on: bool) {
        self.keeps_late = on;
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.carried().save(state)?;
        self.rows.save(state)
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.carried().restore(state)?;
        self.rows.restore(state)
    }

    fn state_bytes(&self) -> usize {
        self.rows.bytes()
    }
}
