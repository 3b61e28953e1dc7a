//! Rows that are picked and put together, column by column. The event time of most streams is a column of theirs: then both
//! are the same values, which are gone through once.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use arrow::error::ArrowError;

/// These rows of a physical batch.
///
/// # Errors
/// Of types that rows cannot be picked of.
pub(super) fn pick(rows: &RecordBatch, picked: &UInt32Array) -> Result<RecordBatch, ArrowError> {
    each(&rows.schema(), twin(rows), |at| take(rows.column(at), picked, None))
}

/// All rows of physical batches behind each other.
///
/// # Errors
/// Of types that cannot be put together.
pub(super) fn join<'b>(
    schema: &SchemaRef,
    batches: impl Iterator<Item = &'b RecordBatch> + Clone,
) -> Result<RecordBatch, ArrowError> {
    let mut twins = batches.clone().map(twin);
    let first = twins.next().flatten();
    let same = twins.all(|twin| twin == first);
    each(schema, first.filter(|_| same), |at| {
        let columns: Vec<&dyn Array> = batches.clone().map(|batch| batch.column(at).as_ref()).collect();
        concat(&columns)
    })
}

/// A batch of columns, each made from its place but for an event time that has a twin.
fn each(
    schema: &SchemaRef,
    twin: Option<usize>,
    make: impl Fn(usize) -> Result<ArrayRef, ArrowError>,
) -> Result<RecordBatch, ArrowError> {
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for at in 0..schema.fields().len() {
        columns.push(match twin.filter(|_| at == time_of(schema.fields().len())) {
            Some(twin) => columns[twin].clone(),
            None => make(at)?,
        });
    }
    RecordBatch::try_new(schema.clone(), columns)
}

/// The column of the same values as the event time; `None`: there is none.
fn twin(rows: &RecordBatch) -> Option<usize> {
    let event_time = time_of(rows.num_columns());
    let times = rows.column(event_time).as_primitive::<TimestampNanosecondType>();
    (0..event_time).find(|at| {
        rows.column(*at).as_primitive_opt::<TimestampNanosecondType>().is_some_and(|column| {
            column.nulls().is_none()
                && column.data_type() == times.data_type()
                && column.values().inner().ptr_eq(times.values().inner())
        })
    })
}

/// The place of the event time among so many columns of a physical batch.
fn time_of(columns: usize) -> usize {
    columns - 2
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, TimestampNanosecondArray};
    use arrow::compute::{concat_batches, take_record_batch};
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

    use super::*;
    use crate::batch::physical_schema;

    /// Rows whose column `at` is the event time, or another of the same type.
    fn rows(first: i64, same: bool) -> RecordBatch {
        let time = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let visible = Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("at", time, true)]);
        let times = TimestampNanosecondArray::from_iter_values(first..first + 10);
        let at: ArrayRef =
            if same { Arc::new(times.clone()) } else { Arc::new(TimestampNanosecondArray::from_value(7, 10)) };
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from_iter_values(0..10)), at, Arc::new(times.clone()), Arc::new(times)];
        RecordBatch::try_new(physical_schema(&visible), columns).expect("the columns fit")
    }

    #[test]
    fn an_event_time_that_is_a_column_is_gone_through_once() {
        let picked = UInt32Array::from(vec![7, 7, 1]);
        for same in [true, false] {
            let whole = rows(100, same);
            let few = pick(&whole, &picked).expect("rows can be picked");
            assert_eq!(few, take_record_batch(&whole, &picked).expect("rows can be picked"));
            assert_eq!(Arc::ptr_eq(few.column(1), few.column(2)), same);
            let other = pick(&rows(200, same), &picked).expect("rows can be picked");
            let both = join(&whole.schema(), [&few, &other].into_iter()).expect("they can be put together");
            assert_eq!(both, concat_batches(&whole.schema(), [&few, &other]).expect("they can be put together"));
            assert_eq!(Arc::ptr_eq(both.column(1), both.column(2)), same);
        }
        // Of some batches only.
        let (same, other) = (rows(0, true), rows(0, false));
        let both = join(&same.schema(), [&same, &other].into_iter()).expect("they can be put together");
        assert_eq!(both, concat_batches(&same.schema(), [&same, &other]).expect("they can be put together"));
    }
}
