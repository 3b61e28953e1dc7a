//! Tests of the operators that keep no state.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, TimestampNanosecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::{col, lit};
use squilla_query::timestamp_type;

use super::check::Checked;
use super::testing::{Feed, MS, Row, hop, lines, named, run, tumble, visible};
use super::{AssignWindow, Filter, Operator, Output, Project, Sample, Unnest};
use crate::batch::physical_schema;
use crate::counters::Counters;
use crate::error::EngineError;

const ROWS: [Row; 6] = [
    (1, Some(2), Some(1)),
    (5, Some(0), Some(2)),
    (3, None, Some(3)),
    (9, Some(1), Some(4)),
    (7, Some(4), None),
    (8, Some(3), Some(6)),
];

fn column(output: &Output, idx: usize) -> Vec<String> {
    lines(&output.rows).iter().map(|line| line.split('|').nth(idx).unwrap().to_owned()).collect()
}

#[test]
fn a_filter_keeps_what_is_true_whatever_the_batches() {
    let input = physical_schema(&visible());
    // 12 / k fails for k = 0; a null is not true.
    let predicate = (lit(12i64) / col("k")).gt(lit(4i64));
    for size in [1, 2, 6] {
        let counters = Arc::new(Counters::default());
        let mut operator = Checked::new(Filter::new(&input, &predicate, Arc::clone(&counters)).unwrap(), 1);
        let mut feed = Feed::new(2, 1);
        let output = run(&mut operator, &counters, ROWS.chunks(size).map(|rows| feed.batch(0, rows)).collect(), 1);
        assert_eq!(column(&output, 2), ["1", "4"]);
        let counted = counters.snapshot();
        assert_eq!((counted.filtered, counted.failed), (3, 1));
        let last = output.rows.last().unwrap();
        assert_eq!((last.watermark.0, last.next.0), (7 * MS, 6));
        // The watermark of a row counts the rows that were dropped.
        let watermarks: Vec<i64> = output.rows.iter().flat_map(|batch| batch.watermarks().to_vec()).collect();
        assert_eq!(watermarks, [i64::MIN, 3 * MS]);
    }
    assert!(matches!(Filter::new(&input, &col("v"), Arc::default()), Err(EngineError::Plan(_))));
}

#[test]
fn short_circuits_do_not_depend_on_neighbours() {
    let input = physical_schema(&visible());
    let predicate = col("k").not_eq(lit(0i64)).and((lit(12i64) / col("k")).gt(lit(4i64)));
    for size in [1, 2, 6] {
        let counters = Arc::new(Counters::default());
        let mut operator = Filter::new(&input, &predicate, Arc::clone(&counters)).unwrap();
        let mut feed = Feed::new(2, 1);
        let output = run(&mut operator, &counters, ROWS.chunks(size).map(|rows| feed.batch(0, rows)).collect(), 1);
        assert_eq!(column(&output, 2), ["1", "4"]);
        assert_eq!((counters.snapshot().filtered, counters.snapshot().failed), (4, 0));
    }
}

#[test]
fn a_projection_computes_columns() {
    let input = physical_schema(&visible());
    let output_schema =
        Arc::new(Schema::new(vec![Field::new("q", DataType::Int64, true), Field::new("s", DataType::Utf8, true)]));
    let exprs = [named(lit(12i64) / col("k"), "q"), named(col("s"), "s")];
    for size in [1, 2, 6] {
        let counters = Arc::new(Counters::default());
        let project = Project::new(&input, &exprs, &output_schema, Arc::clone(&counters)).unwrap();
        let mut operator = Checked::new(project, 1);
        let mut feed = Feed::new(2, 1);
        let output = run(&mut operator, &counters, ROWS.chunks(size).map(|rows| feed.batch(0, rows)).collect(), 1);
        assert_eq!(column(&output, 1), ["s1", "s3", "s4", "", "s6"]);
        assert_eq!(counters.snapshot().failed, 1);
        let times: Vec<i64> = output.rows.iter().flat_map(|batch| batch.event_times().to_vec()).collect();
        assert_eq!(times, [1, 3, 9, 7, 8].map(|time| time * MS));
    }
    let wrong = [named(col("s"), "q"), named(col("s"), "s")];
    assert!(matches!(Project::new(&input, &wrong, &output_schema, Arc::default()), Err(EngineError::Plan(_))));
}

#[test]
fn windows_are_assigned_row_by_row() {
    let input = physical_schema(&visible());
    let mut fields: Vec<_> = visible().fields().iter().cloned().collect();
    for name in ["window_start", "window_end", "window_time"] {
        fields.push(Arc::new(Field::new(name, timestamp_type(), false)));
    }
    let output_schema = Arc::new(Schema::new(fields));
    let assign = |window, rows: &[Row]| {
        let counters = Arc::new(Counters::default());
        let assign = AssignWindow::new(&input, window, &output_schema, Arc::clone(&counters)).unwrap();
        let mut operator = Checked::new(assign, 1);
        let output = run(&mut operator, &counters, vec![Feed::new(0, 1).batch(0, rows)], 1);
        counters.passed.store(lines(&output.rows).len() as u64, std::sync::atomic::Ordering::Relaxed);
        (column(&output, 2), column(&output, 6), counters.snapshot())
    };
    let (values, starts, counted) = assign(tumble(4), &ROWS[..3]);
    assert_eq!(values, ["1", "2", "3"]);
    assert_eq!(starts, ["1970-01-01T00:00:00", "1970-01-01T00:00:00.004", "1970-01-01T00:00:00"]);
    assert_eq!((counted.rows_in, counted.unaccounted()), (3, 0));
    let (values, starts, counted) = assign(hop(4, 2, 0), &[ROWS[1], (i64::MAX, None, Some(9))]);
    assert_eq!(values, ["2", "2"]);
    assert_eq!(starts, ["1970-01-01T00:00:00.002", "1970-01-01T00:00:00.004"]);
    assert_eq!((counted.failed, counted.unaccounted()), (1, 0));
    let (values, _, counted) = assign(hop(2, 5, 0), &ROWS);
    assert_eq!(values, ["1", "2"]);
    assert_eq!((counted.filtered, counted.unaccounted()), (4, 0));
    assert!(matches!(
        AssignWindow::new(&input, hop(1000, 1, 0), &output_schema, Arc::default()),
        Err(EngineError::Plan(_))
    ));
}

#[test]
fn a_list_that_is_too_long_sets_its_row_aside() {
    let item = Arc::new(Field::new_list_field(DataType::Int64, true));
    let fields = vec![Field::new("id", DataType::Int64, true), Field::new("list", DataType::List(item.clone()), true)];
    let input = physical_schema(&Schema::new(fields));
    let output =
        Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("element", DataType::Int64, true)]);
    let counters = Arc::new(Counters::default());
    let mut operator = Unnest::new(&input, (false, false), &Arc::new(output), Arc::clone(&counters)).unwrap();
    let lists = ListArray::new(
        item,
        OffsetBuffer::from_lengths([2, 10_001, 0]),
        Arc::new(Int64Array::from_iter_values(0..10_003)),
        None,
    );
    let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1, 2, 3]));
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let rows = RecordBatch::try_new(input, vec![ids, Arc::new(lists), times.clone(), times]).unwrap();
    let mut out = Output::default();
    operator.process(Feed::new(0, 1).batch(0, &[]).with_rows(rows), &mut out).unwrap();
    assert_eq!(column(&out, 1), ["0", "1"]);
    let counted = counters.snapshot();
    // One row became two; the others were set aside.
    assert_eq!((counted.rows_in, counted.failed, counted.filtered), (1, 1, 1));
}

#[test]
fn a_sample_keeps_its_share_of_keys_wherever_they_come() {
    let input = physical_schema(&visible());
    let sample = squilla_query::SampleSpec { fraction: 0.25, seed: 7, keys: vec![col("k")] };
    let rows: Vec<Row> = (0..4_000).map(|at| (at, Some(at % 1_000), Some(at))).collect();
    let kept_of = |size: usize| {
        let counters = Arc::new(Counters::default());
        let mut operator = Checked::new(Sample::new(&input, &sample, Arc::clone(&counters)).unwrap(), 1);
        let mut feed = Feed::new(0, 1);
        let output = run(&mut operator, &counters, rows.chunks(size).map(|rows| feed.batch(0, rows)).collect(), 1);
        column(&output, 1)
    };
    let kept = kept_of(1_000);
    assert_eq!(kept, kept_of(333));
    let keys: std::collections::BTreeSet<_> = kept.iter().collect();
    assert_eq!(kept.len(), 4 * keys.len());
    // Six standard errors around 250.
    assert!((168..=332).contains(&keys.len()), "{} of 1,000", keys.len());
}
