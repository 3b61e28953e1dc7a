//! What is told of sessions: final results, and running ones, which are withdrawn when their session's bounds change.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampNanosecondArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{SchemaRef, UInt32Type};

use super::emit::{Moments, Series};
use super::grouping::Results;
use super::session_groups::SessionGroups;
use super::session_table::SessionTable;
use super::{Output, RESULT_LAG_NS};
use crate::batch::{RowKind, StreamBatch};
use crate::clock::EventTime;
use crate::error::EngineError;

/// The watermark behind what is told, and when its last rows arrived.
type At = (i64, EventTime);

/// Series of final and of running results.
pub(super) struct Telling {
    told: Series,
    updates: Series,
    tracking: bool,
    /// Running results that a snapshot has told, and the other readers are to be told next.
    pending: Vec<StreamBatch>,
}

impl Telling {
    /// Nothing was told yet.
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self {
            told: Series::new(Arc::clone(&schema)),
            updates: Series::new(schema),
            tracking: false,
            pending: Vec::new(),
        }
    }

    /// Whether running results are read.
    pub(super) fn track(&mut self, on: bool) {
        self.tracking = on;
        if !on {
            self.pending.clear();
        }
    }

    /// The offset of the next final row, which may be set.
    pub(super) fn next(&mut self) -> &mut u64 {
        self.told.next()
    }

    /// A batch without rows.
    pub(super) fn progress(&mut self, watermark: i64, arrival: EventTime, idle: bool) -> StreamBatch {
        self.told.progress(watermark, arrival, idle)
    }

    /// Tells the results of sessions that have ended; `moved`: what was told of them under other bounds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn close(
        &mut self,
        moved: Results,
        results: Results,
        table: &SessionTable,
        at: At,
        output: &mut Output,
    ) -> Result<(), EngineError> {
        let rows = Rows::new(results, &|session| table.bounds(session))?;
        if self.tracking {
            output.updates.append(&mut self.pending);
            self.withdraw(moved, table, at, output)?;
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
        let changed = table.take_changed();
        if changed.is_empty() {
            return Ok(());
        }
        let moved = groups.moved(table, &changed)?;
        self.withdraw(moved, table, at, output)?;
        let results = groups.changes(table, &changed)?;
        if results.len > 0 {
            let (columns, moments) = Rows::new(results, &|session| table.bounds(session))?.parts();
            let moments = Moments { before: vec![at.0; moments.times.len()], ..moments };
            self.updates.spread(RowKind::Update, columns, moments, at.0, at.1, &mut output.updates)?;
        }
        table.mark_told(&changed);
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
        let results = groups.all(table)?;
        let (columns, moments) = Rows::new(results, &|session| table.bounds(session))?.parts();
        let moments = Moments { before: vec![at.0; moments.times.len()], ..moments };
        let mut batches = Vec::new();
        self.updates.clone().spread(RowKind::Update, columns, moments, at.0, at.1, &mut batches)?;
        Ok(batches)
    }

    /// Withdraws what was told of sessions under bounds that are others now.
    fn withdraw(
        &mut self,
        moved: Results,
        table: &SessionTable,
        at: At,
        output: &mut Output,
    ) -> Result<(), EngineError> {
        if moved.len == 0 {
            return Ok(());
        }
        let rows = Rows::new(moved, &|slot| table.told(slot).unwrap_or_else(|| table.bounds(slot)))?;
        let (columns, moments) = rows.parts();
        let moments = Moments { before: vec![at.0; moments.times.len()], ..moments };
        self.updates.spread(RowKind::Delete, columns, moments, at.0, at.1, &mut output.updates)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.pending.iter().map(StreamBatch::bytes).sum()
    }
}

/// Results of sessions, in order of their ends.
#[derive(Clone)]
struct Rows {
    /// The visible ones.
    columns: Vec<ArrayRef>,
    ends: Vec<i64>,
}

impl Rows {
    fn new(results: Results, bounds_of: &dyn Fn(u32) -> (i64, i64)) -> Result<Self, EngineError> {
        let Results { columns, len } = results;
        if len == 0 {
            let columns = columns.iter().skip(1).cloned().collect();
            return Ok(Self { columns, ends: Vec::new() });
        }
        let sessions = columns[0].as_primitive::<UInt32Type>();
        let bounds: Vec<(i64, i64)> = sessions.values().iter().map(|session| bounds_of(*session)).collect();
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
        Ok(Self { columns: visible, ends })
    }

    fn parts(self) -> (Vec<ArrayRef>, Moments) {
        let times: Vec<i64> = self.ends.iter().map(|end| end.saturating_sub(RESULT_LAG_NS)).collect();
        (self.columns, Moments { before: times.clone(), times })
    }
}
