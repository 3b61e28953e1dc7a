//! Aggregates by window and keys.

use std::collections::VecDeque;
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
use super::yard::{Delivery, Promise, Yard};
use super::{LateRows, Operator, Output, RESULT_LAG_NS, State};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Rows below which it is not worth a helper's coming: so many lie ready when this is what others wait for.
const SHARED_ROWS: usize = 40_000;
/// Groups of a pane below which it is not worth dealing out its rows.
const SHARED_GROUPS: usize = 64;
/// Times that rows are dealt out before panes are lent again, to see whether they have become shorter.
const DEALS: u32 = 64;

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
    /// Who helps; `None`: nobody.
    crew: Option<Arc<Crew>>,
    /// How rows are dealt out then; `None`: they cannot be.
    dealer: Option<Arc<Dealer>>,
    /// Times to come that rows are dealt out rather than panes lent, since a helper was at all panes alone.
    deals: u32,
    /// Whether an aggregate needs each row's arrival number behind the input's columns.
    numbered: bool,
    /// Rows numbered so far.
    arrivals: i64,
    progress: Progress,
    /// Windows that are closed and not told yet, in their order.
    closings: VecDeque<Closing>,
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

/// A window that is closed.
struct Closing {
    results: Promise,
    saying: Saying,
    /// The watermark behind it, and whether all are idle then; `None`: another window follows.
    last: Option<(i64, bool)>,
}

/// What a batch says of its partition.
struct Mark {
    partition: u32,
    watermark: EventTime,
    idle: bool,
    arrival: EventTime,
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
            dealer: None,
            deals: 0,
            numbered: needs_number,
            arrivals: 0,
            progress: Progress::new(spec.partitions),
            closings: VecDeque::new(),
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

    /// The same with helpers for [`Operator::process_all`].
    pub(crate) fn with_crew(mut self, crew: Option<Arc<Crew>>) -> Self {
        let (keys, exprs) = (self.windows.keys(), &self.admission.exprs);
        let can_deal = keys > 0 && !self.numbered && exprs.types()[..keys].iter().all(can_deal);
        let dealer = |crew: &Arc<Crew>| Dealer { keys, shards: crew.threads(), constant: exprs.constants() };
        self.dealer = crew.as_ref().filter(|_| can_deal).map(|crew| Arc::new(dealer(crew)));
        self.windows.set_crew(crew.clone().zip(self.dealer.clone()));
        let grouping = Arc::clone(self.windows.grouping());
        self.windows.set_yard(crew.clone().map(|crew| Yard::new(crew, grouping, self.dealer.clone())));
        self.crew = crew;
        self
    }

    /// The same with so many rows in line for helpers at the most.
    #[cfg(test)]
    pub(super) fn set_ahead_rows(&mut self, rows: usize) {
        self.windows.set_ahead_rows(rows);
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
    fn may_gather(&self, batches: &[StreamBatch]) -> bool {
        let rows: usize = batches.iter().map(|batch| batch.rows.num_rows()).sum();
        let idle = self.progress.has_idle() || batches.iter().any(|batch| batch.idle);
        let watched = self.tracking || self.keeps_late;
        (rows >= SHARED_ROWS || self.windows.is_busy()) && !idle && !watched
    }

    /// Takes several batches in at once: each is judged and computed by itself, then each shard of the groups takes its
    /// rows.
    fn share(
        &mut self,
        batches: Vec<StreamBatch>,
        (crew, dealer): (&Arc<Crew>, Arc<Dealer>),
        output: &mut Output,
    ) -> Result<(), EngineError> {
        self.windows.settle()?;
        let open = self.open();
        let marks = marks(&batches);
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
        self.follow(marks, output)
    }

    /// Takes several batches in at once: each is judged and computed by itself, then each pane takes its rows, while
    /// further ones are read.
    fn lend(&mut self, batches: Vec<StreamBatch>, crew: &Arc<Crew>, output: &mut Output) -> Result<(), EngineError> {
        let open = self.open();
        let marks = marks(&batches);
        let delivered: Vec<Vec<Delivery>> = if self.numbered {
            let arrivals = &mut self.arrivals;
            let deliver = |batch: &StreamBatch| self.admission.deliver(batch, open, Some(arrivals));
            batches.iter().map(deliver).collect::<Result<_, _>>()?
        } else {
            let parts = batches.into_iter().map(|batch| -> Part<Result<Vec<Delivery>, EngineError>> {
                let admission = Arc::clone(&self.admission);
                Box::new(move || admission.deliver(&batch, open, None))
            });
            crew.all(parts.collect()).into_iter().collect::<Result<_, _>>()?
        };
        let starved = self.windows.deliver(delivered.into_iter().flatten().collect())?;
        if starved && self.dealer.is_some() && self.windows.most_groups() >= SHARED_GROUPS {
            self.deals = DEALS;
        }
        self.follow(marks, output)
    }

    /// Batches with these marks have been taken in.
    fn follow(&mut self, marks: Vec<Mark>, output: &mut Output) -> Result<(), EngineError> {
        for Mark { partition, watermark, idle, arrival } in marks {
            self.arrival = arrival;
            self.progress.advance(partition, watermark.0, idle)?;
        }
        self.advance(output)?;
        self.check_budget()
    }

    /// Closes the windows that the watermark has passed, tells those that are evaluated, and carries the watermark on.
    fn advance(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let closed = closed_until(self.progress.watermark(), self.admission.grace);
        let waiting = self.closings.len();
        while let Some(start) = self.windows.next_start() {
            let end = self.windows.grid().end(start);
            if end > closed {
                break;
            }
            let results = self.windows.close(start)?;
            let before = self.watermark.max(end.saturating_sub(RESULT_LAG_NS));
            let after = self.open_watermark();
            let start = self.windows.grid().start(start);
            let saying = Saying { kind: RowKind::Append, start, end, before, after, arrival: self.arrival };
            self.closings.push_back(Closing { results, saying, last: None });
            self.watermark = after;
        }
        self.windows.skip_to(self.windows.grid().first_open(closed));
        let watermark = if self.progress.watermark() == i64::MIN { i64::MIN } else { self.open_watermark() };
        let idle = self.progress.is_idle();
        let moved = watermark > self.watermark || idle != self.idle;
        let closes = self.closings.len() > waiting;
        if !closes && moved {
            let after = watermark.max(self.watermark);
            let (results, arrival) = (Promise::kept(Vec::new()), self.arrival);
            let (kind, start, end) = (RowKind::Append, i64::MIN, i64::MIN);
            let saying = Saying { kind, start, end, before: after, after, arrival };
            self.closings.push_back(Closing { results, saying, last: Some((after, idle)) });
        } else if let Some(last) = self.closings.back_mut().filter(|_| closes) {
            last.last = Some((watermark, idle));
        }
        self.watermark = self.watermark.max(watermark);
        self.idle = idle;
        self.tell(output)
    }

    /// Tells the windows that are evaluated, in their order.
    fn tell(&mut self, output: &mut Output) -> Result<(), EngineError> {
        while let Some(results) = self.closings.front().and_then(|closing| closing.results.take()) {
            let Some(Closing { saying, last, .. }) = self.closings.pop_front() else { break };
            let told = output.rows.len();
            add(&self.counters.rows_out, results.iter().map(|part| part.len).sum());
            let mut results: Vec<_> = results.into_iter().filter(|part| part.len > 0).collect();
            let behind = results.pop();
            let parts = results.into_iter().map(|part| (part, saying.before));
            for (part, after) in parts.chain(behind.map(|part| (part, saying.after))) {
                let saying = Saying { after, ..saying };
                if self.tracking {
                    let again = Saying { kind: RowKind::Final, ..saying };
                    self.updates.results(part.clone(), &again, &mut output.updates)?;
                }
                self.told.results(part, &saying, &mut output.rows)?;
            }
            match (last, output.rows[told..].last_mut()) {
                (Some((watermark, idle)), Some(batch)) => (batch.watermark, batch.idle) = (EventTime(watermark), idle),
                (Some((watermark, idle)), None) => {
                    output.rows.push(self.told.progress(watermark, saying.arrival, idle));
                }
                (None, _) => {}
            }
        }
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

/// The marks of batches.
fn marks(batches: &[StreamBatch]) -> Vec<Mark> {
    let mark = |batch: &StreamBatch| {
        let StreamBatch { partition, watermark, idle, arrival, .. } = *batch;
        Mark { partition, watermark, idle, arrival }
    };
    batches.iter().map(mark).collect()
}

impl Operator for Aggregate {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        self.windows.settle()?;
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
        let crew = self.crew.clone().filter(|_| self.may_gather(&batches));
        let deals = self.deals > 0 || !self.windows.may_lend();
        match (crew, self.dealer.clone()) {
            (Some(crew), _) if !deals => self.lend(batches, &crew, output),
            (Some(crew), Some(dealer)) if self.windows.most_groups() >= SHARED_GROUPS => {
                self.deals = self.deals.saturating_sub(1);
                self.share(batches, (&crew, dealer), output)
            }
            _ => batches.into_iter().try_for_each(|batch| self.process(batch, output)),
        }
    }

    fn catch_up(&mut self, output: &mut Output) -> Result<bool, EngineError> {
        let helped = self.windows.help()?;
        if !helped {
            self.windows.settle()?;
        }
        self.tell(output)?;
        Ok(helped)
    }

    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        self.windows.settle()?;
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
        self.windows.settle()?;
        self.tell(output)?;
        for (start, results) in self.windows.changes()? {
            let saying = self.saying(start);
            self.updates.results(results, &saying, &mut output.updates)?;
        }
        self.check_budget()
    }

    fn snapshot(&mut self) -> Result<Vec<StreamBatch>, EngineError> {
        // A snapshot is for one reader: it has no place in the series.
        self.windows.settle()?;
        let mut series = self.updates.clone();
        let mut batches = Vec::new();
        for (start, results) in self.windows.snapshot()? {
            let saying = self.saying(start);
            series.results(results, &saying, &mut batches)?;
        }
        Ok(batches)
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.windows.settle()?;
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
