//! Aggregates by window and keys.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use squilla_query::{AggregateCall, NamedExpr, WindowSpec};

use super::admit::{Admission, Open, numbered};
use super::carried::Carried;
use super::crew::{Crew, Part};
use super::emit::{Saying, Series};
use super::grid::Grid;
use super::grouping::Grouping;
use super::placement::{closed_until, place};
use super::progress::Progress;
use super::shards::{Dealer, Dealt, can_deal, columns_of};
use super::windows::Windows;
use super::{LateRows, Operator, Output, RESULT_LAG_NS, State};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Rows below which it is not worth a helper's coming: so many lie ready when this is what others wait for.
const SHARED_ROWS: usize = 40_000;
/// Groups of a pane below which it is not worth dealing out its rows.
const SHARED_GROUPS: usize = 64;

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
    earliest: i64,
    admission: Arc<Admission>,
    windows: Windows,
    /// Who helps, and how rows are dealt out then; `None`: nobody, or they cannot be.
    crew: Option<(Arc<Crew>, Arc<Dealer>)>,
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
        let grace = spec.grace_ns.max(0);
        let admission = Admission { grid: grid.clone(), grace, exprs, counters: Arc::clone(&counters) };
        Ok(Self {
            earliest,
            admission: Arc::new(admission),
            windows: Windows::new(grid, grouping, earliest),
            crew: None,
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

    /// The same with helpers for [`Operator::process_all`], where the groups can be dealt out.
    pub(crate) fn with_crew(mut self, crew: Option<Arc<Crew>>) -> Self {
        let (keys, exprs) = (self.windows.keys(), &self.admission.exprs);
        let can_deal = keys > 0 && !self.numbered && exprs.types()[..keys].iter().all(can_deal);
        self.crew = crew.filter(|_| can_deal).map(|crew| {
            let dealer = Dealer { keys, shards: crew.threads(), constant: exprs.constants() };
            (crew, Arc::new(dealer))
        });
        self.windows.set_crew(self.crew.clone());
        self
    }

    /// True once all partitions have ended: everything has been told.
    pub fn ended(&self) -> bool {
        self.progress.has_ended()
    }

    /// Takes the rows that are in time into their panes.
    fn absorb(&mut self, batch: &StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let open = self.open();
        let number = if self.numbered { Some(&mut self.arrivals) } else { None };
        let admitted = self.admission.admit(batch, open, number)?;
        if self.keeps_late {
            let told_at = self.progress.watermark();
            output.late.extend(LateRows::pick(&batch.rows, batch.partition, &admitted.tardy, told_at)?);
        }
        let times = admitted.times();
        if times.is_empty() {
            return Ok(());
        }
        for (key, rows) in place(self.windows.grid(), times, admitted.from.as_deref()) {
            let (columns, count) = columns_of(&admitted.columns, times.len(), rows)?;
            self.windows.update(key, &columns, count)?;
        }
        add(&self.counters.absorbed, times.len());
        Ok(())
    }

    fn open(&self) -> Open {
        Open { earliest: self.earliest, from: self.windows.open_from() }
    }

    /// Whether these batches may be taken in before the windows are told that the first of them close. A row is late by
    /// its own watermark, whatever has been told, unless its partition was idle: then what was told counts.
    fn may_share(&self, batches: &[StreamBatch]) -> bool {
        let rows: usize = batches.iter().map(|batch| batch.rows.num_rows()).sum();
        let idle = self.progress.has_idle() || batches.iter().any(|batch| batch.idle);
        let watched = self.tracking || self.keeps_late;
        rows >= SHARED_ROWS && !idle && !watched && self.windows.most_groups() >= SHARED_GROUPS
    }

    /// Takes several batches in at once: each is judged and computed by itself, then each shard of the groups takes its
    /// rows.
    fn share(
        &mut self,
        batches: Vec<StreamBatch>,
        (crew, dealer): (Arc<Crew>, Arc<Dealer>),
        output: &mut Output,
    ) -> Result<(), EngineError> {
        let open = self.open();
        let marks: Vec<_> =
            batches.iter().map(|batch| (batch.partition, batch.watermark.0, batch.idle, batch.arrival)).collect();
        let parts = batches.into_iter().map(|batch| -> Part<Result<Vec<Dealt>, EngineError>> {
            let (admission, dealer) = (Arc::clone(&self.admission), Arc::clone(&dealer));
            Box::new(move || {
                let admitted = admission.admit(&batch, open, None)?;
                add(&admission.counters.absorbed, admitted.times().len());
                dealer.deal_all(&admission.grid, &admitted)
            })
        });
        let dealt = crew.all(parts.collect()).into_iter().collect::<Result<Vec<_>, _>>()?;
        self.windows.update_all(dealt.into_iter().flatten().collect())?;
        for (partition, watermark, idle, arrival) in marks {
            self.arrival = arrival;
            self.progress.advance(partition, watermark, idle)?;
        }
        self.advance(output)?;
        self.check_budget()
    }

    /// Tells the windows that the watermark closes, and carries the watermark on.
    fn advance(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let closed = closed_until(self.progress.watermark(), self.admission.grace);
        let told = output.rows.len();
        while let Some(start) = self.windows.next_start() {
            let end = self.windows.grid().end(start);
            if end > closed {
                break;
            }
            let mut results = self.windows.close(start)?;
            add(&self.counters.rows_out, results.iter().map(|part| part.len).sum());
            let before = self.watermark.max(end.saturating_sub(RESULT_LAG_NS));
            let after = self.open_watermark();
            let start = self.windows.grid().start(start);
            let whole = Saying { kind: RowKind::Append, start, end, before, after, arrival: self.arrival };
            results.retain(|part| part.len > 0);
            let last = results.pop();
            let parts = results.into_iter().map(|part| (part, before)).chain(last.map(|part| (part, after)));
            for (part, after) in parts {
                let saying = Saying { after, ..whole };
                if self.tracking {
                    let again = Saying { kind: RowKind::Final, ..saying };
                    self.updates.results(part.clone(), &again, &mut output.updates)?;
                }
                self.told.results(part, &saying, &mut output.rows)?;
            }
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

    fn gathers(&self) -> bool {
        self.crew.is_some()
    }

    fn process_all(&mut self, batches: Vec<StreamBatch>, output: &mut Output) -> Result<(), EngineError> {
        match self.crew.clone() {
            Some(crew) if self.may_share(&batches) => self.share(batches, crew, output),
            _ => batches.into_iter().try_for_each(|batch| self.process(batch, output)),
        }
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
