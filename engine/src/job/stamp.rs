//! Gives a source's rows their event time and their watermark.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, NullArray, RecordBatch, TimestampNanosecondArray,
};
use arrow::compute::{filter_record_batch, is_not_null};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampNanosecondType};
use datafusion_common::DFSchema;
use datafusion_expr::Expr;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};

use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;
use crate::source::{EventTimeSpec, WatermarkSpec};

/// How far ahead of its arrival a row of a live source may be without being taken for a clock gone wrong.
const AHEAD_NS: i64 = 300 * 1_000_000_000;

/// How the rows of one source are stamped. Columns that are not read have the type `Null`, so that all columns keep
/// their places.
pub(crate) struct Stamp {
    schema: SchemaRef,
    /// For each field of the source: where it is in what the reader gives.
    places: Vec<Option<usize>>,
    rule: Rule,
    /// Rows ahead of their arrival do not move the watermark.
    check_ahead: bool,
}

enum Rule {
    Arrival,
    Delay { column: usize, delay: i64 },
    Expr { column: usize, expr: Arc<dyn PhysicalExpr> },
}

/// The rows of a batch that have an event time, and the watermark behind them.
pub(crate) struct Stamped {
    pub(crate) rows: RecordBatch,
    pub(crate) watermark: EventTime,
}

impl Stamp {
    /// `columns`: the indices that are read, ascending, the event time's among them.
    pub(crate) fn new(
        source: &SchemaRef,
        columns: &[usize],
        event_time: &EventTimeSpec,
        check_ahead: bool,
    ) -> Result<Self, EngineError> {
        let places: Vec<Option<usize>> =
            (0..source.fields().len()).map(|index| columns.iter().position(|read| *read == index)).collect();
        let mut fields: Vec<Field> = Vec::new();
        for (field, place) in source.fields().iter().zip(&places) {
            let unread = || Field::new(field.name(), DataType::Null, true);
            fields.push(if place.is_some() { field.as_ref().clone() } else { unread() });
        }
        let visible = Schema::new(fields);
        let rule = match event_time {
            EventTimeSpec::Arrival => Rule::Arrival,
            EventTimeSpec::Column { index, watermark: WatermarkSpec::Delay(delay) } => {
                Rule::Delay { column: *index, delay: *delay }
            }
            // The event time itself.
            EventTimeSpec::Column { index, watermark: WatermarkSpec::Expr(Expr::Column(column)) }
                if visible.index_of(&column.name).ok() == Some(*index) =>
            {
                Rule::Delay { column: *index, delay: 0 }
            }
            EventTimeSpec::Column { index, watermark: WatermarkSpec::Expr(expr) } => {
                let fields = DFSchema::try_from(visible.clone())?;
                let expr =
                    create_physical_expr(expr, &fields, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
                Rule::Expr { column: *index, expr }
            }
        };
        Ok(Self { schema: crate::batch::physical_schema(&visible), places, rule, check_ahead })
    }

    /// Fields of stamped rows.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Stamps rows of one partition, whose watermark is at `watermark`.
    pub(crate) fn stamp(
        &self,
        read: &RecordBatch,
        watermark: EventTime,
        arrival: EventTime,
        counters: &Counters,
    ) -> Result<Stamped, EngineError> {
        let rows = read.num_rows();
        let column = match &self.rule {
            Rule::Arrival => None,
            Rule::Delay { column, .. } | Rule::Expr { column, .. } => self.places[*column],
        };
        let with_time = column.map(|at| drop_null_times(read, at, counters)).transpose()?;
        let read = with_time.as_ref().unwrap_or(read);
        debug_assert!(read.num_rows() <= rows);
        let times: ArrayRef = match column {
            Some(at) => read.column(at).clone(),
            None => Arc::new(TimestampNanosecondArray::from_value(arrival.0, read.num_rows())),
        };
        let implied = self.implied(read, &times)?;
        let (marks, watermark) = self.running(&times, implied.as_ref(), watermark, arrival, counters);
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.places.len() + 2);
        for place in &self.places {
            columns.push(match place {
                Some(at) => read.column(*at).clone(),
                None => Arc::new(NullArray::new(read.num_rows())),
            });
        }
        columns.push(without_nulls(&times));
        columns.push(Arc::new(marks));
        Ok(Stamped { rows: RecordBatch::try_new(self.schema.clone(), columns)?, watermark })
    }

    /// The watermark that each row implies, when an expression says it.
    fn implied(&self, read: &RecordBatch, times: &ArrayRef) -> Result<Option<TimestampNanosecondArray>, EngineError> {
        let Rule::Expr { expr, .. } = &self.rule else { return Ok(None) };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.places.len());
        for place in &self.places {
            columns.push(match place {
                Some(at) => read.column(*at).clone(),
                None => Arc::new(NullArray::new(read.num_rows())),
            });
        }
        let visible = crate::batch::visible_schema(&self.schema);
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(read.num_rows()));
        let batch = RecordBatch::try_new_with_options(visible, columns, &options)?;
        let value = expr.evaluate(&batch)?.into_array(read.num_rows())?;
        let value = arrow::compute::cast(&value, times.data_type())?;
        Ok(Some(value.as_primitive::<TimestampNanosecondType>().clone()))
    }

    /// Each row's watermark (of the rows before it) and the one behind the last row.
    fn running(
        &self,
        times: &ArrayRef,
        implied: Option<&TimestampNanosecondArray>,
        watermark: EventTime,
        arrival: EventTime,
        counters: &Counters,
    ) -> (TimestampNanosecondArray, EventTime) {
        let times = times.as_primitive::<TimestampNanosecondType>().values();
        let latest = if self.check_ahead { arrival.plus(AHEAD_NS).0 } else { i64::MAX };
        let (marks, mark, ahead) = match (implied, &self.rule) {
            (Some(implied), _) => {
                let (values, nulls) = (implied.values(), implied.nulls());
                let valid = |at: usize| nulls.is_none_or(|nulls| nulls.is_valid(at));
                marks(times, latest, watermark.0, |at, _| if valid(at) { values[at] } else { i64::MIN })
            }
            (None, Rule::Delay { delay, .. }) => {
                marks(times, latest, watermark.0, |_, time| time.saturating_sub(*delay))
            }
            (None, Rule::Arrival | Rule::Expr { .. }) => marks(times, latest, watermark.0, |_, time| time),
        };
        counters.ahead.fetch_add(ahead, Relaxed);
        (Int64Array::from(marks).reinterpret_cast(), EventTime(mark))
    }
}

/// The watermark before each row and behind the last one, and how many rows are ahead, which move none. `implied`: by a row
/// and its event time. The maximum stays in a register, which it does not in an iterator's closure.
fn marks(times: &[i64], latest: i64, mut mark: i64, implied: impl Fn(usize, i64) -> i64) -> (Vec<i64>, i64, u64) {
    let (mut marks, mut ahead) = (vec![0; times.len()], 0);
    for (at, (before, time)) in marks.iter_mut().zip(times).enumerate() {
        *before = mark;
        let is_ahead = *time > latest;
        ahead += u64::from(is_ahead);
        mark = mark.max(if is_ahead { i64::MIN } else { implied(at, *time) });
    }
    (marks, mark, ahead)
}

fn drop_null_times(read: &RecordBatch, column: usize, counters: &Counters) -> Result<RecordBatch, EngineError> {
    let times = read.column(column);
    if times.null_count() == 0 {
        return Ok(read.clone());
    }
    add(&counters.without_event_time, times.null_count());
    let keep: BooleanArray = is_not_null(times)?;
    Ok(filter_record_batch(read, &keep)?)
}

/// The same values as a column that cannot be null.
fn without_nulls(times: &ArrayRef) -> ArrayRef {
    let values = times.as_primitive::<TimestampNanosecondType>().values().clone();
    Arc::new(TimestampNanosecondArray::new(values, None))
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    fn source() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("name", DataType::Utf8, true),
            Field::new("ts", squilla_query::timestamp_type(), true),
            Field::new("n", DataType::Int64, true),
        ]))
    }

    fn read(times: Vec<Option<i64>>) -> RecordBatch {
        let rows = i64::try_from(times.len()).expect("few rows");
        let schema = source().project(&[1, 2]).expect("both are there");
        let columns: Vec<ArrayRef> =
            vec![Arc::new(TimestampNanosecondArray::from(times)), Arc::new(Int64Array::from_iter_values(0..rows))];
        RecordBatch::try_new(Arc::new(schema), columns).expect("the columns fit")
    }

    fn stamp(check_ahead: bool) -> Stamp {
        let event_time = EventTimeSpec::Column { index: 1, watermark: WatermarkSpec::Delay(10) };
        Stamp::new(&source(), &[1, 2], &event_time, check_ahead).expect("the definition holds together")
    }

    #[test]
    fn a_rows_watermark_is_that_of_the_rows_before_it() {
        let counters = Counters::default();
        let stamped = stamp(false)
            .stamp(&read(vec![Some(100), None, Some(80), Some(120), Some(110)]), EventTime(85), EventTime(0), &counters)
            .expect("it stamps");
        let marks = stamped.rows.column(4).as_primitive::<TimestampNanosecondType>().values().to_vec();
        assert_eq!(marks, [85, 90, 90, 110]);
        assert_eq!(stamped.watermark, EventTime(110));
        assert_eq!(counters.snapshot().without_event_time, 1);
        assert_eq!(stamped.rows.column(0).data_type(), &DataType::Null);
    }

    #[test]
    fn rows_far_ahead_of_their_arrival_do_not_move_the_watermark() {
        let counters = Counters::default();
        let rows = read(vec![Some(5), Some(AHEAD_NS + 1), Some(7)]);
        let stamped = stamp(true).stamp(&rows, EventTime::MIN, EventTime(0), &counters).expect("it stamps");
        assert_eq!(stamped.watermark, EventTime(-3));
        assert_eq!((stamped.rows.num_rows(), counters.snapshot().ahead), (3, 1));
    }
}
