//! The rows of a batch on their way into panes: judged, computed, and those that stay.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampNanosecondType};

use super::aggregate_call::ARRIVAL;
use super::expression::{Expressions, filter_columns, text};
use super::grid::Grid;
use super::late::Tardy;
use super::placement::{Judge, Verdicts, place};
use super::shards::columns_of;
use super::yard::Delivery;
use crate::batch::StreamBatch;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// What decides on a row beside the row itself: the same for a batch wherever it is looked at.
pub(super) struct Admission {
    pub(super) grid: Grid,
    /// How long after its end a window takes rows.
    pub(super) grace: i64,
    pub(super) exprs: Expressions,
    pub(super) counters: Arc<Counters>,
}

/// The windows that take rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    /// Start of the first window that is told at all.
    pub(super) earliest: i64,
    /// Start of the first window that has not been told yet.
    pub(super) from: i64,
}

/// The rows that stay.
pub(super) struct Admitted {
    /// What the expressions gave.
    pub(super) columns: Vec<ArrayRef>,
    times: Option<ArrayRef>,
    /// For each row the first window that counts it, as in [`Verdicts::from`].
    pub(super) from: Option<Vec<i64>>,
    /// Rows that came too late.
    pub(super) tardy: Vec<Tardy>,
}

impl Admission {
    /// Judges the rows of a batch and computes those that are in time. All are counted, but for those that stay.
    /// `number`: what the next row's arrival number is, where the expressions read one.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn admit(
        &self,
        batch: &StreamBatch,
        open: Open,
        number: Option<&mut i64>,
    ) -> Result<Admitted, EngineError> {
        let judge = Judge { grid: &self.grid, grace: self.grace, earliest: open.earliest, open_from: open.from };
        let mut verdicts = judge.judge(batch.event_times(), batch.watermarks());
        self.count(&verdicts, &batch.rows);
        let rows = match verdicts.keep.take() {
            Some(keep) => filter_record_batch(&batch.rows, &BooleanArray::from(keep))?,
            None => batch.rows.clone(),
        };
        let mut admitted = Admitted {
            columns: Vec::new(),
            times: None,
            from: verdicts.from,
            tardy: std::mem::take(&mut verdicts.tardy),
        };
        if rows.num_rows() == 0 {
            return Ok(admitted);
        }
        let hidden = rows.num_columns() - 2;
        let rows = match number {
            Some(next) => with_numbers(rows, next)?,
            None => rows,
        };
        let mut evaluated = self.exprs.evaluate(&rows, batch.arrival)?;
        let mut times = Arc::clone(rows.column(hidden));
        if let Some(left) = evaluated.survivors(rows.num_rows()) {
            add(&self.counters.failed, evaluated.failures.len());
            evaluated.sample(&rows, &self.counters);
            times = filter_columns(&[times], &left)?.remove(0);
            if let Some(from) = &mut admitted.from {
                let mut left = left.values().iter();
                from.retain(|_| left.next().unwrap_or(false));
            }
        }
        admitted.columns = std::mem::take(&mut evaluated.columns);
        admitted.times = Some(times);
        Ok(admitted)
    }

    /// The rows of a batch that stay, for each pane: counted as absorbed.
    ///
    /// # Errors
    /// As [`Admission::admit`].
    pub(super) fn deliver(
        &self,
        batch: &StreamBatch,
        open: Open,
        number: Option<&mut i64>,
    ) -> Result<Vec<Delivery>, EngineError> {
        let admitted = self.admit(batch, open, number)?;
        let all = admitted.times().len();
        add(&self.counters.absorbed, all);
        if all == 0 {
            return Ok(Vec::new());
        }
        let all_bytes: usize = admitted.columns.iter().map(|column| column.get_array_memory_size()).sum();
        let placed = place(&self.grid, admitted.times(), admitted.from.as_deref()).into_iter();
        let delivery = |(key, rows)| {
            let (columns, rows) = columns_of(&admitted.columns, all, rows)?;
            Ok(Delivery { key, columns, rows, bytes: all_bytes * rows / all })
        };
        placed.map(delivery).collect()
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
}

impl Admitted {
    /// The event times of the rows.
    pub(super) fn times(&self) -> &[i64] {
        self.times.as_ref().map_or(&[], |times| times.as_primitive::<TimestampNanosecondType>().values())
    }
}

/// The fields with the arrival number behind.
pub(super) fn numbered(input: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<_> = input.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(ARRIVAL, DataType::Int64, false)));
    Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()))
}

fn with_numbers(rows: RecordBatch, next: &mut i64) -> Result<RecordBatch, EngineError> {
    let count = i64::try_from(rows.num_rows()).expect("a batch has fewer rows than 2^63");
    let numbers = Int64Array::from_iter_values(*next..*next + count);
    *next += count;
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(numbers));
    // Columns that nobody reads may have come without their type.
    Ok(RecordBatch::try_new(numbered(&rows.schema()), columns)?)
}
