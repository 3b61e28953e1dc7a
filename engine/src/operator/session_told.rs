//! What is told of sessions: final results, and running ones, which are withdrawn when their session's bounds change.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::compute::{filter, filter_record_batch, take};
use arrow::datatypes::{SchemaRef, TimestampNanosecondType, UInt32Type};

use super::emit::{Moments, Series};
use super::grouping::Results;
use super::session_groups::SessionGroups;
use super::session_table::SessionTable;
use super::{Output, RESULT_LAG_NS};
use crate::batch::{RowKind, StreamBatch, visible_schema};
use crate::clock::EventTime;
use crate::error::EngineError;

/// The watermark behind what is told, and when its last rows arrived.
type At = (i64, EventTime);

/// Series of final and of running results.
pub(super) struct Telling {
    visible: SchemaRef,
    told: Series,
    updates: Series,
    tracking: bool,
    running: Vec<Running>,
    /// Running results that a snapshot has told, and the other readers are to be told next.
    pending: Vec<StreamBatch>,
}

/// Running results that stand.
struct Running {
    /// The session of each, or what has become a part of it since.
    sessions: UInt32Array,
    rows: RecordBatch,
}

impl Telling {
    /// Nothing was told yet.
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self {
            visible: visible_schema(&schema),
            told: Series::new(Arc::clone(&schema)),
            updates: Series::new(schema),
            tracking: false,
            running: Vec::new(),
            pending: Vec::new(),
        }
    }

    /// Whether running results are read.
    pub(super) fn track(&mut self, on: bool) {
        self.tracking = on;
        if !on {
            self.running.clear();
            self.pending.clear();
        }
    }

    /// A batch without rows.
    pub(super) fn progress(&mut self, watermark: i64, arrival: EventTime, idle: bool) -> StreamBatch {
        self.told.progress(watermark, arrival, idle)
    }

    /// Tells the results of sessions that end at `closed` or before.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn close(
        &mut self,
        results: Results,
        table: &SessionTable,
        closed: i64,
        at: At,
        output: &mut Output,
    ) -> Result<(), EngineError> {
        let rows = Rows::new(results, table)?;
        if self.tracking {
            output.updates.append(&mut self.pending);
            let ended = |session: u32| table.bounds(session).1 <= closed;
            self.withdraw(table, &ended, at, output)?;
            let (columns, moments) = rows.clone().parts();
            self.updates.spread(RowKind::Final, columns, moments, at.0, at.1, &mut output.updates)?;
        }
        let (columns, moments) = rows.parts();
        self.told.spread(RowKind::Append, columns, moments, at.0, at.1, &mut output.rows)
    }

    /// Tells sessions that have changed.
    ///
    /// # Errors
    /// As [`SessionGroups::update`].
    pub(super) fn tick(
        &mut self,
        groups: &mut SessionGroups,
        table: &mut SessionTable,
        at: At,
        output: &mut Output,
    ) -> Result<(), EngineError> {
        if !self.tracking {
            return Ok(());
        }
        output.updates.append(&mut self.pending);
        let changed = |session: u32| table.is_changed(session);
        self.withdraw(table, &changed, at, output)?;
        let results = groups.results(table, &changed)?;
        if results.len > 0 {
            let rows = Rows::new(results, table)?;
            let sessions = rows.sessions.clone();
            let (columns, moments) = rows.parts();
            let told = RecordBatch::try_new(Arc::clone(&self.visible), exact(&columns, &self.visible)?)?;
            self.running.push(Running { sessions, rows: told });
            let moments = Moments { before: vec![at.0; moments.times.len()], ..moments };
            self.updates.spread(RowKind::Update, columns, moments, at.0, at.1, &mut output.updates)?;
        }
        table.mark_told();
        Ok(())
    }

    /// All open sessions, for one reader. The others are told soon what it is told now, so that what is withdrawn later
    /// is the same for all.
    ///
    /// # Errors
    /// As [`SessionGroups::update`].
    pub(super) fn snapshot(
        &mut self,
        groups: &mut SessionGroups,
        table: &mut SessionTable,
        at: At,
    ) -> Result<Vec<StreamBatch>, EngineError> {
        let mut output = Output::default();
        self.tick(groups, table, at, &mut output)?;
        self.pending = output.updates;
        let results = groups.results(table, &|_| true)?;
        let (columns, moments) = Rows::new(results, table)?.parts();
        let moments = Moments { before: vec![at.0; moments.times.len()], ..moments };
        let mut batches = Vec::new();
        self.updates.clone().spread(RowKind::Update, columns, moments, at.0, at.1, &mut batches)?;
        Ok(batches)
    }

    /// Forgets what stands of the sessions that are `touched`, and withdraws it where their bounds are others now.
    fn withdraw(
        &mut self,
        table: &SessionTable,
        touched: &dyn Fn(u32) -> bool,
        at: At,
        output: &mut Output,
    ) -> Result<(), EngineError> {
        for part in std::mem::take(&mut self.running) {
            let roots: Vec<u32> = part.sessions.values().iter().map(|slot| table.root(*slot)).collect();
            let stays: BooleanArray = roots.iter().map(|root| Some(!touched(*root))).collect();
            let times = |column: usize| part.rows.column(column).as_primitive::<TimestampNanosecondType>().values();
            let (starts, ends) = (times(0), times(1));
            let moved = |row: usize| table.bounds(roots[row]) != (starts[row], ends[row]);
            let goes: BooleanArray = (0..roots.len()).map(|row| Some(!stays.value(row) && moved(row))).collect();
            if goes.true_count() > 0 {
                let gone = filter_record_batch(&part.rows, &goes)?;
                let len = gone.num_rows();
                let ends = gone.column(1).as_primitive::<TimestampNanosecondType>().values();
                let times = ends.iter().map(|end| end.saturating_sub(RESULT_LAG_NS)).collect();
                let moments = Moments { times, before: vec![at.0; len] };
                let columns = gone.columns().to_vec();
                self.updates.spread(RowKind::Delete, columns, moments, at.0, at.1, &mut output.updates)?;
            }
            if stays.true_count() > 0 {
                let sessions = filter(&part.sessions, &stays)?.as_primitive::<UInt32Type>().clone();
                self.running.push(Running { sessions, rows: filter_record_batch(&part.rows, &stays)? });
            }
        }
        Ok(())
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let running = self.running.iter().map(|part| part.rows.get_array_memory_size() + part.sessions.len() * 4);
        running.sum::<usize>() + self.pending.iter().map(StreamBatch::bytes).sum::<usize>()
    }
}

/// Results of sessions, in order of their ends.
#[derive(Clone)]
struct Rows {
    sessions: UInt32Array,
    /// The visible columns.
    columns: Vec<ArrayRef>,
    ends: Vec<i64>,
}

impl Rows {
    fn new(results: Results, table: &SessionTable) -> Result<Self, EngineError> {
        let Results { columns, len } = results;
        if len == 0 {
            let columns = columns.iter().skip(1).cloned().collect();
            return Ok(Self { sessions: Vec::<u32>::new().into(), columns, ends: Vec::new() });
        }
        let sessions = columns[0].as_primitive::<UInt32Type>();
        let bounds: Vec<(i64, i64)> = sessions.values().iter().map(|session| table.bounds(*session)).collect();
        let mut order: Vec<u32> = (0..).take(len).collect();
        order.sort_by_key(|row| (bounds[*row as usize].1, bounds[*row as usize].0));
        let (starts, ends): (Vec<i64>, Vec<i64>) = order.iter().map(|row| bounds[*row as usize]).unzip();
        let order = UInt32Array::from(order);
        let mut visible: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from(starts)),
            Arc::new(TimestampNanosecondArray::from(ends.clone())),
        ];
        for column in &columns[1..] {
            visible.push(take(column, &order, None)?);
        }
        let sessions = take(sessions, &order, None)?.as_primitive::<UInt32Type>().clone();
        Ok(Self { sessions, columns: visible, ends })
    }

    fn parts(self) -> (Vec<ArrayRef>, Moments) {
        let times: Vec<i64> = self.ends.iter().map(|end| end.saturating_sub(RESULT_LAG_NS)).collect();
        (self.columns, Moments { before: times.clone(), times })
    }
}

/// The columns as the schema has them.
fn exact(columns: &[ArrayRef], schema: &SchemaRef) -> Result<Vec<ArrayRef>, EngineError> {
    let cast = |(column, field): (&ArrayRef, &Arc<arrow::datatypes::Field>)| {
        Ok(arrow::compute::cast(column, field.data_type())?)
    };
    columns.iter().zip(schema.fields()).map(cast).collect()
}
