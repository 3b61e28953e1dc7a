//! What waits is told whole, in order, each to its own.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

use super::*;
use crate::batch::{Memo, RowKind, physical_schema};

/// A batch of rows of one partition that have these numbers.
pub(in crate::job::route) fn batch(partition: u32, first: u64, numbers: &[i64]) -> StreamBatch {
    let visible = Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("text", DataType::Utf8, false)]);
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(numbers.to_vec()));
    let texts = StringArray::from_iter_values(numbers.iter().map(|number| format!("number {number}")));
    let columns = vec![Arc::new(Int64Array::from(numbers.to_vec())) as ArrayRef, Arc::new(texts), times.clone(), times];
    let rows = RecordBatch::try_new(physical_schema(&visible), columns).expect("the columns fit");
    let watermark = EventTime(first.cast_signed());
    let (first, next) = (Offset(first), Offset(first + 100));
    let (kind, arrival, idle, memo) = (RowKind::Append, EventTime(0), false, Memo::default());
    StreamBatch { kind, partition, first, next, rows, watermark, arrival, idle, memo }
}

fn put(gathered: &mut Gathered, batch: StreamBatch, jobs: &[(u32, u32)]) {
    gathered.put(batch, jobs.iter().copied());
}

fn numbers(portion: &Portion) -> (u32, u32, u64, u64, Vec<i64>) {
    let numbers = portion.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
    let texts = portion.rows.column(1).as_string::<i32>().iter().flatten();
    let expected: Vec<String> = numbers.iter().map(|number| format!("number {number}")).collect();
    assert!(texts.eq(expected.iter().map(String::as_str)));
    assert_eq!(portion.met, numbers.len());
    (portion.slot, portion.partition, portion.first.0, portion.next.0, numbers)
}

#[test]
fn rows_of_several_batches_come_together_by_job_and_partition() {
    let mut gathered = Gathered::default();
    put(&mut gathered, batch(0, 0, &[1, 2, 3]), &[(7, 1), (9, 2)]);
    put(&mut gathered, batch(1, 0, &[4]), &[(7, 1)]);
    put(&mut gathered, batch(0, 100, &[5, 6]), &[(3, 1), (7, 1)]);
    let told: Vec<_> = gathered.take(None).iter().map(numbers).collect();
    let expected =
        [(3, 0, 100, 200, vec![5]), (7, 0, 0, 200, vec![1, 6]), (7, 1, 0, 100, vec![4]), (9, 0, 0, 100, vec![2, 3])];
    assert_eq!(told, expected);
    assert!(gathered.is_empty() && gathered.take(None).is_empty());
}

#[test]
fn thousands_of_rows_lie_in_small_buffers_whoever_picks_them() {
    let crew = Crew::apart(3);
    for crew in [None, Some(&crew)] {
        let mut gathered = Gathered::default();
        for first in 0..40 {
            let rows: Vec<i64> = (0..100).map(|row| first * 100 + row).collect();
            let jobs: Vec<(u32, u32)> = (0..50).map(|slot| (slot, 2)).collect();
            put(&mut gathered, batch(0, first.unsigned_abs() * 100, &rows), &jobs);
        }
        let told = gathered.take(crew);
        assert_eq!(told.len(), 50);
        for (slot, portion) in (0..).zip(&told) {
            let own = |first: i64| (0..2).map(move |row| first * 100 + i64::from(slot) * 2 + row);
            assert_eq!(numbers(portion), (slot, 0, 0, 4_000, (0..40).flat_map(own).collect()));
            let kept = portion.rows.column(0).to_data().buffers()[0].capacity();
            assert!(kept <= 4 * TOGETHER_ROWS * size_of::<i64>(), "{kept} bytes are kept by 80 rows");
        }
    }
}

#[test]
fn what_one_is_told_before_others_is_told_once_and_what_is_taken_back_never() {
    let mut gathered = Gathered::default();
    put(&mut gathered, batch(0, 0, &[1, 2]), &[(1, 1), (2, 1)]);
    let mark = gathered.mark();
    put(&mut gathered, batch(0, 100, &[3, 4]), &[(1, 1), (2, 1)]);
    gathered.back_to(mark);
    put(&mut gathered, batch(0, 200, &[5, 6]), &[(1, 1), (2, 1)]);
    let first: Vec<_> = gathered.take_of(1).iter().map(numbers).collect();
    assert_eq!(first, [(1, 0, 0, 100, vec![1]), (1, 0, 200, 300, vec![5])]);
    let rest: Vec<_> = gathered.take(None).iter().map(numbers).collect();
    assert_eq!(rest, [(2, 0, 0, 300, vec![2, 6])]);
}

#[test]
fn what_jobs_have_computed_comes_together_too() {
    let own = |slot, first, rows: &[i64]| {
        let StreamBatch { partition, first, next, watermark, rows, .. } = batch(0, first, rows);
        let met = rows.num_rows();
        Portion { slot, partition, first, next, watermark, rows, met }
    };
    let told = join_own(vec![own(2, 0, &[1]), own(1, 0, &[2]), own(2, 100, &[3, 4])]);
    let told: Vec<_> = told.iter().map(numbers).collect();
    assert_eq!(told, [(1, 0, 0, 100, vec![2]), (2, 0, 0, 200, vec![1, 3, 4])]);
}

#[test]
fn batches_press_on_whoever_tells_when_the_next_comes_before_all_are_told() {
    let each = Duration::from_micros(3);
    assert!(presses(100, each, Duration::from_micros(299)));
    assert!(!presses(100, each, Duration::from_micros(300)));
    assert!(!presses(0, each, Duration::ZERO));
}
