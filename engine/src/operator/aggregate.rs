//! Aggregates by window and keys.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampNanosecondType};
use squilla_query::{AggregateCall, NamedExpr, WindowSpec};

use super::aggregate_call::ARRIVAL;
use super::carried::Carried;
use super::emit::{Saying, Series};
use super::expression::{Expressions, filter_columns, text};
use super::grid::Grid;
use super::grouping::Grouping;
use super::placement::{Judge, Rows, Verdicts, closed_until, place};
use super::progress::Progress;
use super::windows::Windows;
use super::{LateRows, Operator, Output, RESULT_LAG_NS, State};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// What an [`Aggregate`] computes.
#[derive(Debug, Clone)]
pub struct AggregateSpec {
    /// The physical fields of the batches that come in.
    pub input: SchemaRef,
    /// The windows.
    pub window: WindowSpec,
    /// The keys beside the window.
    pub keys: Vec<NamedExpr>,
    /// The aggregates.
    pub aggregates: Vec<AggregateCall>,
    /// How long after its end a window still takes rows, in nanoseconds of event time.
    pub grace_ns: i64,
    /// The visible fields that come out: `window_start`, `window_end`, the keys, the aggregates.
    pub schema: SchemaRef,
    /// Partitions of the input.
    pub partitions: u32,
    /// Windows that start before it are not told; [`EventTime::MIN`]: all are.
    pub start: EventTime,
    /// Bytes of state that are too many.
    pub state_limit_bytes: usize,
}

/// Groups rows by window and keys, and tells each window once, when it closes.
///
/// - Schema: physical batches in; out come `window_start`, `window_end`, the keys, the aggregates and the hidden
///   columns, in one partition, in order of window end; the event time of a result is the window's end less a
///   millisecond. Within a window the order is not specified.
/// - Watermark: a window closes once the least watermark of the partitions that are neither idle nor ended has
///   reached its end and the grace. Whether a row is late is decided by the watermark that the rows before it in its
///   partition imply. The output's watermark is the least end still possible less a millisecond.
/// - State: for each pane of an open window its groups. Hopping windows share panes. Bounded by the number of groups
///   and by the budget, beyond which the query ends with [`EngineError::StateBudget`].
/// - Errors: a row on which an expression fails is set aside and counted; an aggregate that fails (a decimal that
///   overflows) ends the job with [`EngineError::Aggregate`].
/// - Example: `count(*)` by windows of 10 s over rows at 00:01, 00:04 and 00:12 with a delay of 2 s tells 2 for
///   00:00–00:10 at the third row, and 1 for 00:10–00:20 at the end.
///
/// Panes follow Li et al., "No pane, no gain" (SIGMOD Record 2005); watermarks Akidau et al., "The dataflow model"
/// (VLDB 2015).
pub struct Aggregate {
    schema: SchemaRef,
    grace: i64,
    earliest: i64,
    windows: Windows,
    exprs: Expressions,
    /// Whether an aggregate needs each row's arrival number behind the input's columns.
    numbered: bool,
    /// Rows numbered so far.
    arrivals: i64,
    progress: Progress,
    told: Series,
    updates: Series,
    /// The output's watermark, and whether the output was marked idle.
    watermark: i64,
    idle: bool,
    arrival: EventTime,
    tracking: bool,
    keeps_late: bool,
    limit_bytes: usize,
    counters: Arc<Counters>,
}

impl Aggregate {
    /// An aggregate that counts in `counters` whatever becomes of a row, but not the rows in.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it cannot be computed.
    pub fn new(spec: AggregateSpec, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let grid = Grid::new(spec.window)?;
        let needs_number = Grouping::needs_arrival(&spec.aggregates);
        let input = if needs_number { numbered(&spec.input) } else { Arc::clone(&spec.input) };
        let (grouping, exprs) = Grouping::new(&input, &spec.keys, &spec.aggregates)?;
        let columns = 2 + spec.keys.len() + spec.aggregates.len();
        if spec.schema.fields().len() != columns {
            return Err(EngineError::Plan(format!("{} columns, not {columns}", spec.schema.fields().len())));
        }
        let schema = physical_schema(&spec.schema);
        let earliest = if spec.start == EventTime::MIN { grid.earliest() } else { grid.first_from(spec.start.0) };
        Ok(Self {
            grace: spec.grace_ns.max(0),
            earliest,
            windows: Windows::new(grid, grouping, earliest),
            exprs,
            numbered: needs_number,
            arrivals: 0,
            progress: Progress::new(spec.partitions),
            told: Series::new(Arc::clone(&schema)),
            updates: Series::new(Arc::clone(&schema)),
            schema,
            watermark: i64::MIN,
            idle: false,
            arrival: EventTime::MIN,
            tracking: false,
            keeps_late: false,
            limit_bytes: spec.state_limit_bytes,
            counters,
        })
    }

    /// True once all partitions have ended: everything has been told.
    pub fn ended(&self) -> bool {
        self.progress.has_ended()
    }

    /// Takes the rows that are in time into their panes.
    fn absorb(&mut self, batch: &StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let judge = Judge {
            grid: self.windows.grid(),
            grace: self.grace,
            earliest: self.earliest,
            open_from: self.windows.open_from(),
        };
        let mut verdicts = judge.judge(batch.event_times(), batch.watermarks());
        self.count(&verdicts, &batch.rows);
        if self.keeps_late {
            let told_at = self.progress.watermark();
            output.late.extend(LateRows::pick(&batch.rows, batch.partition, &verdicts.tardy, told_at)?);
        }
        let rows = match verdicts.keep.take() {
            Some(keep) => filter_record_batch(&batch.rows, &BooleanArray::from(keep))?,
            None => batch.rows.clone(),
        };
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = self.number(rows)?;
        let mut evaluated = self.exprs.evaluate(&rows, batch.arrival)?;
        let hidden = rows.num_columns() - 2 - usize::from(self.numbered);
        let mut times = Arc::clone(rows.column(hidden));
        let mut from = verdicts.from;
        if let Some(left) = evaluated.survivors(rows.num_rows()) {
            add(&self.counters.failed, evaluated.failures.len());
            evaluated.sample(&rows, &self.counters);
            times = filter_columns(&[times], &left)?.remove(0);
            if let Some(from) = &mut from {
                let mut left = left.values().iter();
                from.retain(|_| left.next().unwrap_or(false));
            }
        }
        let times = times.as_primitive::<TimestampNanosecondType>().values();
        if !times.is_empty() {
            self.update(&std::mem::take(&mut evaluated.columns), times, from.as_deref())?;
        }
        Ok(())
    }

    fn update(&mut self, columns: &[ArrayRef], times: &[i64], from: Option<&[i64]>) -> Result<(), EngineError> {
        for (key, rows) in place(self.windows.grid(), times, from) {
            match rows {
                Rows::All => self.windows.update(key, columns, times.len())?,
                Rows::Slice(range) => {
                    let slices: Vec<_> = columns.iter().map(|column| column.slice(range.start, range.len())).collect();
                    self.windows.update(key, &slices, range.len())?;
                }
                Rows::Picked(picked) => {
                    let picked = UInt32Array::from(picked);
                    let taken =
                        columns.iter().map(|column| take(column, &picked, None)).collect::<Result<Vec<_>, _>>()?;
                    self.windows.update(key, &taken, picked.len())?;
                }
            }
        }
        add(&self.counters.absorbed, times.len());
        Ok(())
    }

    fn count(&self, verdicts: &Verdicts, rows: &RecordBatch) {
        add(&self.counters.failed, verdicts.failed.len());
        add(&self.counters.filtered, verdicts.between);
        add(&self.counters.before_start, verdicts.before_start);
        add(&self.counters.late, verdicts.late);
        add(&self.counters.late_idle, verdicts.late_idle);
        add(&self.counters.late_assignments, verdicts.late_assignments);
        if let Some(row) = verdicts.failed.last() {
            self.counters.sample("its windows do not fit in 64 bits", &text(rows, *row));
        }
    }

    /// Adds the arrival number, when it is needed.
    fn number(&mut self, rows: RecordBatch) -> Result<RecordBatch, EngineError> {
        if !self.numbered {
            return Ok(rows);
        }
        let count = i64::try_from(rows.num_rows()).expect("a batch has fewer rows than 2^63");
        let numbers = Int64Array::from_iter_values(self.arrivals..self.arrivals + count);
        self.arrivals += count;
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(numbers));
        // Columns that nobody reads may have come without their type.
        Ok(RecordBatch::try_new(numbered(&rows.schema()), columns)?)
    }

    /// Tells the windows that the watermark closes, and carries the watermark on.
    fn advance(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let closed = closed_until(self.progress.watermark(), self.grace);
        let told = output.rows.len();
        while let Some(start) = self.windows.next_start() {
            let end = self.windows.grid().end(start);
            if end > closed {
                break;
            }
            let results = self.windows.close(start)?;
            add(&self.counters.rows_out, results.len);
            let before = self.watermark.max(end.saturating_sub(RESULT_LAG_NS));
            let after = self.open_watermark();
            let start = self.windows.grid().start(start);
            let mut saying = Saying { kind: RowKind::Append, start, end, before, after, arrival: self.arrival };
            if self.tracking {
                let again = results.clone();
                saying.kind = RowKind::Final;
                self.updates.results(again, &saying, &mut output.updates)?;
                saying.kind = RowKind::Append;
            }
            self.told.results(results, &saying, &mut output.rows)?;
            self.watermark = after;
        }
        self.windows.skip_to(self.windows.grid().first_open(closed));
        let watermark = if self.progress.watermark() == i64::MIN { i64::MIN } else { self.open_watermark() };
        let idle = self.progress.is_idle();
        match output.rows[told..].last_mut() {
            Some(last) => (last.watermark, last.idle) = (EventTime(watermark), idle),
            None if watermark > self.watermark || idle != self.idle => {
                output.rows.push(self.told.progress(watermark.max(self.watermark), self.arrival, idle));
            }
            None => {}
        }
        self.watermark = self.watermark.max(watermark);
        self.idle = idle;
        Ok(())
    }

    /// The least end still possible less a millisecond.
    fn open_watermark(&self) -> i64 {
        match self.windows.open_from() {
            i64::MAX => i64::MAX,
            start => self.windows.grid().end(start).saturating_sub(RESULT_LAG_NS),
        }
    }

    fn carried(&mut self) -> Carried<'_> {
        let Self { progress, told, watermark, idle, arrival, .. } = self;
        Carried { progress, next: told.next(), watermark, idle, arrival }
    }

    fn check_budget(&self) -> Result<(), EngineError> {
        let used_bytes = self.windows.bytes();
        if used_bytes <= self.limit_bytes {
            return Ok(());
        }
        Err(EngineError::StateBudget { scope: "query", used_bytes, limit_bytes: self.limit_bytes })
    }

    fn saying(&self, start: i64) -> Saying {
        let end = self.windows.grid().end(start);
        let (before, after) = (self.watermark, self.watermark);
        let start = self.windows.grid().start(start);
        Saying { kind: RowKind::Update, start, end, before, after, arrival: self.arrival }
    }
}

/// The fields with the arrival number behind.
fn numbered(input: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<_> = input.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(ARRIVAL, DataType::Int64, false)));
    Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()))
}

impl Operator for Aggregate {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        self.absorb(&batch, output)?;
        self.arrival = batch.arrival;
        self.progress.advance(batch.partition, batch.watermark.0, batch.idle)?;
        self.advance(output)?;
        self.check_budget()
    }

    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        self.progress.end(partition)?;
        self.advance(output)
    }

    fn track_updates(&mut self, on: bool) {
        self.tracking = on;
    }

    fn track_late(&mut self, on: bool) {
        self.keeps_late = on;
    }

    fn tick(&mut self, output: &mut Output) -> Result<(), EngineError> {
        if !self.tracking {
            return Ok(());
        }
        for (start, results) in self.windows.changes()? {
            let saying = self.saying(start);
            self.updates.results(results, &saying, &mut output.updates)?;
        }
        self.check_budget()
    }

    fn snapshot(&mut self) -> Result<Vec<StreamBatch>, EngineError> {
        // A snapshot is for one reader: it has no place in the series.
        let mut series = self.updates.clone();
        let mut batches = Vec::new();
        for (start, results) in self.windows.snapshot()? {
            let saying = self.saying(start);
            series.results(results, &saying, &mut batches)?;
        }
        Ok(batches)
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        state.put(&(self.earliest, self.arrivals))?;
        self.carried().save(state)?;
        self.windows.save(state)
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        (self.earliest, self.arrivals) = state.take()?;
        self.carried().restore(state)?;
        self.windows.restore(state)
    }

    fn state_bytes(&self) -> usize {
        self.windows.bytes()
    }
}
