//! Aggregates without windows: a result that changes with every row.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampNanosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use squilla_query::{AggregateCall, NamedExpr};

use super::arrival::Arrivals;
use super::carried::Carried;
use super::emit::Series;
use super::expression::Expressions;
use super::forgetting::Forgetting;
use super::grouping::Grouping;
use super::keyed_states::{KeyedStates, Told};
use super::pane::Pane;
use super::progress::Progress;
use super::state::{check_count, values};
use super::{Operator, Output, State};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// What an [`AggregateRunning`] computes.
#[derive(Debug, Clone)]
pub struct RunningSpec {
    /// The physical fields of the batches that come in.
    pub input: SchemaRef,
    /// The keys; may be empty.
    pub keys: Vec<NamedExpr>,
    /// The aggregates; may be empty.
    pub aggregates: Vec<AggregateCall>,
    /// A group is forgotten when so much event time, in nanoseconds, has passed since its latest row; `None`: never.
    pub ttl_ns: Option<i64>,
    /// The visible fields that come out: the keys, the aggregates.
    pub schema: SchemaRef,
    /// Partitions of the input.
    pub partitions: u32,
    /// Bytes of state that are too many.
    pub state_limit_bytes: usize,
}

/// Groups rows by keys over all time: the result of a group replaces the one before.
///
/// - Schema: physical batches in; out come the keys, the aggregates and the hidden columns, in one partition; the
///   event time of a result is that of the group's latest row. Changes are told as updates; appended rows come once,
///   when bounded input has ended.
/// - Watermark: passed on, the least of the partitions; no row is late.
/// - State: one group a key. A group to which no row has come for its time to live is forgotten, within an eighth of
///   that time, and told as a delete; a later row begins it anew. Beyond the budget the query ends with
///   [`EngineError::StateBudget`].
/// - Errors: a row on which an expression fails is set aside and counted; an aggregate that fails (a decimal that
///   overflows) ends the job with [`EngineError::Aggregate`].
/// - Example: `count(*)` by `k` over rows of a, b, a tells a 1, b 1, a 2 when asked after each row.
///
/// Changes are the upserts of Sax et al., "Streams and tables: two sides of the same coin" (BIRTE 2018).
pub struct AggregateRunning {
    schema: SchemaRef,
    grouping: Grouping,
    exprs: Expressions,
    arrivals: Arrivals,
    states: KeyedStates,
    /// What has come since changes were told last, and the event time of each group's latest row.
    changed: Pane,
    changed_times: Vec<i64>,
    forgetting: Forgetting,
    progress: Progress,
    told: Series,
    updates: Series,
    watermark: i64,
    idle: bool,
    arrival: EventTime,
    tracking: bool,
    /// Results that a snapshot has taken and that are still to be told.
    untold: Vec<RecordBatch>,
    ids: Vec<usize>,
    limit_bytes: usize,
    counters: Arc<Counters>,
}

impl AggregateRunning {
    /// An aggregate that counts in `counters` whatever becomes of a row, but not the rows in.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it cannot be computed.
    pub fn new(spec: RunningSpec, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let arrivals = Arrivals::new(&spec.input, &spec.aggregates);
        let (grouping, exprs) = Grouping::new(arrivals.schema(), &spec.keys, &spec.aggregates)?;
        let columns = spec.keys.len() + spec.aggregates.len();
        if spec.schema.fields().len() != columns {
            return Err(EngineError::Plan(format!("{} columns, not {columns}", spec.schema.fields().len())));
        }
        let schema = physical_schema(&spec.schema);
        Ok(Self {
            states: KeyedStates::new(&grouping)?,
            changed: Pane::default(),
            changed_times: Vec::new(),
            grouping,
            exprs,
            arrivals,
            forgetting: Forgetting::new(spec.ttl_ns),
            progress: Progress::new(spec.partitions),
            told: Series::new(Arc::clone(&schema)),
            updates: Series::new(Arc::clone(&schema)),
            schema,
            watermark: i64::MIN,
            idle: false,
            arrival: EventTime::MIN,
            tracking: false,
            untold: Vec::new(),
            ids: Vec::new(),
            limit_bytes: spec.state_limit_bytes,
            counters,
        })
    }

    fn absorb(&mut self, batch: &StreamBatch) -> Result<(), EngineError> {
        if batch.rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = self.arrivals.number(batch.rows.clone())?;
        let evaluated = self.exprs.evaluate(&rows, batch.arrival)?;
        let left = evaluated.survivors(rows.num_rows());
        add(&self.counters.failed, evaluated.failures.len());
        evaluated.sample(&rows, &self.counters);
        let all = batch.event_times();
        let times: Vec<i64> = match &left {
            Some(left) => all.iter().zip(left.values()).filter(|(_, left)| *left).map(|(time, _)| *time).collect(),
            None => all.to_vec(),
        };
        if times.is_empty() {
            return Ok(());
        }
        self.changed.update(&self.grouping, &evaluated.columns, times.len(), &mut self.ids)?;
        for (id, time) in self.ids.iter().zip(&times) {
            if *id >= self.changed_times.len() {
                self.changed_times.resize(*id + 1, i64::MIN);
            }
            self.changed_times[*id] = self.changed_times[*id].max(*time);
        }
        add(&self.counters.absorbed, times.len());
        Ok(())
    }

    /// Without keys there is a group even if no row has come.
    fn begin(&mut self) -> Result<(), EngineError> {
        if self.states.len() + self.changed_times.len() > 0 || self.grouping.keys() > 0 {
            return Ok(());
        }
        let mut only = self.grouping.groups()?;
        only.begin(&self.grouping, self.exprs.types())?;
        self.states.merge(&self.grouping, only.seal()?, &[0], false)?;
        Ok(())
    }

    /// Puts what has changed to the other states; with `tell` gives what the groups have come to.
    fn merge(&mut self, tell: bool) -> Result<Option<Told>, EngineError> {
        let times = std::mem::take(&mut self.changed_times);
        let Some(changed) = self.changed.take(&self.grouping, &mut self.ids)?.pop() else { return Ok(None) };
        self.states.merge(&self.grouping, changed, &times, tell)
    }

    /// Forgets groups whose time has passed.
    fn forget(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let Some(until) = self.forgetting.due(self.progress.watermark()) else { return Ok(()) };
        if self.tracking {
            self.tick(output)?;
        } else {
            self.merge(false)?;
        }
        let Some(gone) = self.states.forget(&self.grouping, until)? else { return Ok(()) };
        add(&self.counters.forgotten, gone.results.len);
        if self.tracking {
            self.say(gone, RowKind::Delete, output)?;
        }
        Ok(())
    }

    /// Carries the watermark on; at the end of bounded input tells the final results.
    fn advance(&mut self, output: &mut Output) -> Result<(), EngineError> {
        self.forget(output)?;
        if self.progress.has_ended() {
            self.begin()?;
            self.merge(false)?;
            if let Some(told) = self.states.results(&self.grouping)? {
                add(&self.counters.rows_out, told.results.len);
                if self.tracking {
                    let again = Told { results: told.results.clone(), times: told.times.clone() };
                    self.say(again, RowKind::Final, output)?;
                }
                self.say(told, RowKind::Append, output)?;
            }
        }
        let (watermark, idle) = (self.progress.watermark().max(self.watermark), self.progress.is_idle());
        if watermark > self.watermark || idle != self.idle {
            output.rows.push(self.told.progress(watermark, self.arrival, idle));
        }
        (self.watermark, self.idle) = (watermark, idle);
        Ok(())
    }

    fn say(&mut self, told: Told, kind: RowKind, output: &mut Output) -> Result<(), EngineError> {
        let rows = self.rows(told)?;
        if kind == RowKind::Append {
            self.told.batches(kind, &rows, self.watermark, self.arrival, &mut output.rows);
        } else {
            self.updates.batches(kind, &rows, self.watermark, self.arrival, &mut output.updates);
        }
        Ok(())
    }

    fn rows(&self, told: Told) -> Result<RecordBatch, EngineError> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(told.results.columns.len() + 2);
        for (column, field) in told.results.columns.into_iter().zip(self.schema.fields()) {
            // Aggregates are not exact about the names of the fields of nested types.
            let exact = column.data_type() == field.data_type();
            columns.push(if exact { column } else { cast(&column, field.data_type())? });
        }
        let count = told.times.len();
        columns.push(Arc::new(TimestampNanosecondArray::from(told.times)));
        columns.push(Arc::new(TimestampNanosecondArray::from_value(self.watermark, count)));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    fn bytes(&self) -> usize {
        let changed = self.changed.bytes() - size_of::<Pane>() + self.changed_times.len() * size_of::<i64>();
        self.states.bytes() + changed
    }

    fn carried(&mut self) -> Carried<'_> {
        let Self { progress, told, watermark, idle, arrival, .. } = self;
        Carried { progress, next: told.next(), watermark, idle, arrival }
    }

    fn check_budget(&self) -> Result<(), EngineError> {
        let (used_bytes, limit_bytes) = (self.bytes(), self.limit_bytes);
        if used_bytes <= limit_bytes {
            return Ok(());
        }
        Err(EngineError::StateBudget { scope: "query", used_bytes, limit_bytes })
    }
}

impl Operator for AggregateRunning {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        self.absorb(&batch)?;
        self.arrival = batch.arrival;
        self.progress.advance(batch.partition, batch.watermark.0, batch.idle)?;
        self.advance(output)?;
        self.check_budget()
    }

    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        if self.progress.has_ended() {
            // All was told, and then restored.
            return Ok(());
        }
        self.progress.end(partition)?;
        self.advance(output)
    }

    fn track_updates(&mut self, on: bool) {
        self.tracking = on;
        if !on {
            self.untold.clear();
        }
    }

    fn tick(&mut self, output: &mut Output) -> Result<(), EngineError> {
        if !self.tracking {
            return Ok(());
        }
        for rows in std::mem::take(&mut self.untold) {
            self.updates.batches(RowKind::Update, &rows, self.watermark, self.arrival, &mut output.updates);
        }
        match self.merge(true)? {
            Some(told) => self.say(told, RowKind::Update, output),
            None => Ok(()),
        }
    }

    fn snapshot(&mut self) -> Result<Vec<StreamBatch>, EngineError> {
        if let Some(told) = self.merge(true)?
            && self.tracking
        {
            // Others wait for what has changed.
            self.untold.push(self.rows(told)?);
        }
        // A snapshot is for one reader: it has no place in the series.
        let mut series = self.updates.clone();
        let mut batches = Vec::new();
        if let Some(told) = self.states.results(&self.grouping)? {
            series.batches(RowKind::Update, &self.rows(told)?, self.watermark, self.arrival, &mut batches);
        }
        Ok(batches)
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        state.put(self.arrivals.next())?;
        self.carried().save(state)?;
        self.forgetting.save(state)?;
        self.states.save(state)?;
        self.changed.save(state)?;
        let times: ArrayRef = Arc::new(Int64Array::from(self.changed_times.clone()));
        state.put_columns(vec![times], self.changed_times.len())
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        *self.arrivals.next() = state.take()?;
        self.carried().restore(state)?;
        self.forgetting.restore(state)?;
        self.states.restore(&self.grouping, state)?;
        self.changed = Pane::restored(&self.grouping, state)?;
        let (times, count) = state.take_columns(&[DataType::Int64])?;
        check_count("times", count, self.changed.len())?;
        self.changed_times = values::<Int64Type>(&times[0]);
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.bytes()
    }
}
