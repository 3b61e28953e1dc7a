//! Tests of [`Aggregate`](super::Aggregate).
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::datatypes::DataType;
use datafusion_expr::{cast, col, lit};
use datafusion_functions_aggregate::expr_fn::{avg, count, first_value, last_value, sum};

use super::check::Checked;
use super::testing::{Feed, MS, Row, aggregate, hop, lines, named, run, sorted_lines, spec, tumble};
use super::{Aggregate, Operator, Output};
use crate::batch::{RowKind, StreamBatch};
use crate::clock::EventTime;
use crate::counters::Counters;
use crate::error::EngineError;

#[test]
fn a_window_is_told_when_the_watermark_has_passed_it() {
    let (mut operator, counters) = aggregate(tumble(10), &[], vec![count(col("v")), sum(col("v"))], 0, 1);
    let mut feed = Feed::new(2, 1);
    let mut output = Output::default();
    operator.process(feed.batch(0, &[(1, None, Some(5)), (4, None, None)]), &mut output).unwrap();
    assert!(lines(&output.rows).is_empty());
    operator.process(feed.batch(0, &[(12, None, Some(7))]), &mut output).unwrap();
    assert_eq!(lines(&output.rows), ["0|10|1|5"]);
    assert_eq!(output.rows.last().unwrap().watermark.0, 19_000_000);
    operator.end_partition(0, &mut output).unwrap();
    assert_eq!(lines(&output.rows), ["0|10|1|5", "10|20|1|7"]);
    assert_eq!(output.rows.last().unwrap().watermark.0, i64::MAX);
    assert_eq!(counters.snapshot().absorbed, 3);
    assert_eq!(counters.snapshot().rows_out, 2);
}

#[test]
fn hopping_windows_share_panes() {
    let key = [named(col("k"), "k")];
    let (mut operator, counters) = aggregate(hop(10, 5, 0), &key, vec![sum(col("v"))], 0, 1);
    let rows = [(1, Some(1), Some(1)), (6, Some(1), Some(2)), (7, None, Some(4)), (11, Some(1), Some(8))];
    let batch = Feed::new(0, 1).batch(0, &rows);
    let output = run(&mut operator, &counters, vec![batch], 1);
    let expected = ["-5|5|1|1", "0|10|1|3", "0|10||4", "10|20|1|8", "5|15|1|10", "5|15||4"];
    assert_eq!(sorted_lines(&output.rows), expected);
    assert_eq!(counters.snapshot().unaccounted(), 0);
}

#[test]
fn first_and_last_go_by_event_time_then_by_arrival() {
    let calls = vec![first_value(col("v"), vec![]), last_value(col("v"), vec![]), last_value(col("b"), vec![])];
    let rows = [(3, None, Some(1)), (2, None, Some(2)), (2, None, Some(3)), (5, None, Some(4)), (5, None, Some(5))];
    for window in [tumble(10), hop(10, 1, 0)] {
        let (mut operator, counters) = aggregate(window, &[], calls.clone(), 0, 1);
        let mut feed = Feed::new(100, 1);
        let batches = rows.chunks(2).map(|rows| feed.batch(0, rows)).collect();
        let output = run(&mut operator, &counters, batches, 1);
        assert!(lines(&output.rows).contains(&"0|10|2|5|false".to_owned()), "{:?}", lines(&output.rows));
    }
}

#[test]
fn a_row_late_for_one_hopping_window_counts_in_another() {
    let (mut operator, counters) = aggregate(hop(10, 5, 0), &[], vec![sum(col("v"))], 0, 1);
    // At 11, 0–10 is closed; 7 is late for it, not for 5–15. 3 is late for all its windows.
    let rows = [(1, None, Some(1)), (11, None, Some(2)), (7, None, Some(4)), (3, None, Some(8))];
    let batch = Feed::new(0, 1).batch(0, &rows);
    let output = run(&mut operator, &counters, vec![batch], 1);
    assert_eq!(lines(&output.rows), ["-5|5|1", "0|10|1", "5|15|6", "10|20|2"]);
    let counted = counters.snapshot();
    assert_eq!((counted.absorbed, counted.late, counted.late_assignments), (3, 1, 1));
}

#[test]
fn grace_keeps_a_window_open() {
    let calls = vec![sum(col("v"))];
    for (grace, late, expected) in [(0, 1, "0|10|1"), (5, 0, "0|10|5")] {
        let (mut operator, counters) = aggregate(tumble(10), &[], calls.clone(), grace, 1);
        let mut feed = Feed::new(0, 1);
        let batches =
            [(1, 1), (14, 2), (2, 4), (15, 8), (3, 16)].map(|(time, v)| feed.batch(0, &[(time, None, Some(v))]));
        let output = run(&mut operator, &counters, batches.into(), 1);
        assert_eq!(lines(&output.rows)[0], expected);
        assert_eq!(counters.snapshot().late, late + 1);
        assert_eq!(counters.snapshot().unaccounted(), 0);
    }
}

#[test]
fn an_idle_partition_does_not_hold_back_and_is_late_by_reason_of_it() {
    let (mut operator, counters) = aggregate(tumble(10), &[], vec![sum(col("v"))], 0, 2);
    let mut feed = Feed::new(0, 2);
    let mut output = Output::default();
    let mut step = |batch: StreamBatch| {
        counters.rows_in.fetch_add(batch.rows.num_rows() as u64, Relaxed);
        operator.process(batch, &mut output).unwrap();
        (lines(&output.rows).len(), output.rows.last().map(|batch| (batch.watermark.0, batch.idle)))
    };
    assert_eq!(step(feed.batch(0, &[(25, None, Some(1))])), (0, None));
    assert_eq!(step(feed.batch(1, &[(5, None, Some(2))])), (0, Some((9_000_000, false))));
    // Without partition 1 the watermark is 25: 0–10 is told.
    assert_eq!(step(feed.idle(1)), (1, Some((29_000_000, false))));
    assert_eq!(step(feed.idle(0)), (1, Some((29_000_000, true))));
    assert_eq!(step(feed.batch(1, &[(7, None, Some(4)), (22, None, Some(8))])), (1, Some((29_000_000, false))));
    let counted = counters.snapshot();
    assert_eq!((counted.late, counted.late_idle, counted.absorbed, counted.unaccounted()), (0, 1, 3, 0));
    operator.end_partition(0, &mut output).unwrap();
    assert!(!operator.operator().ended());
    operator.end_partition(1, &mut output).unwrap();
    assert!(operator.operator().ended());
    assert_eq!(lines(&output.rows), ["0|10|2", "20|30|9"]);
}

#[test]
fn windows_that_begin_before_the_start_are_not_told() {
    let mut spec = spec(hop(10, 5, 0), &[], vec![sum(col("v"))], 0, 1);
    spec.start = EventTime(3 * MS);
    let counters = Arc::new(Counters::default());
    let mut operator = Checked::new(Aggregate::new(spec, Arc::clone(&counters)).unwrap(), 1);
    let rows = [(1, None, Some(1)), (4, None, Some(2)), (6, None, Some(4)), (11, None, Some(8))];
    let batch = Feed::new(0, 1).batch(0, &rows);
    let output = run(&mut operator, &counters, vec![batch], 1);
    assert_eq!(lines(&output.rows), ["5|15|12", "10|20|8"]);
    let counted = counters.snapshot();
    assert_eq!((counted.before_start, counted.late_assignments, counted.unaccounted()), (2, 0, 0));
}

#[test]
fn rows_on_which_an_expression_fails_are_set_aside() {
    let key = [named(lit(12i64) / col("k"), "q")];
    for size in [1, 3, 10] {
        let (mut operator, counters) = aggregate(hop(10, 5, 0), &key, vec![sum(lit(6i64) / col("v"))], 0, 1);
        let mut feed = Feed::new(0, 1);
        let rows = [
            (1, Some(3), Some(2)),
            (2, Some(0), Some(1)),
            (3, Some(4), Some(0)),
            (4, Some(3), None),
            (11, Some(3), Some(1)),
            (7, Some(6), Some(3)),
            (6, Some(0), Some(0)),
        ];
        let batches = rows.chunks(size).map(|rows| feed.batch(0, rows)).collect();
        let output = run(&mut operator, &counters, batches, 1);
        let expected = ["-5|5|4|3", "0|10|4|3", "10|20|4|6", "5|15|2|2", "5|15|4|6"];
        assert_eq!(sorted_lines(&output.rows), expected);
        let counted = counters.snapshot();
        assert_eq!((counted.failed, counted.absorbed, counted.unaccounted()), (3, 4, 0));
        let samples = counters.samples();
        assert_eq!(samples.len(), 3);
        assert!(samples[0].reason.to_lowercase().contains("divide by zero"), "{samples:?}");
        assert!(samples.iter().any(|sample| sample.row.contains("k: 4, v: 0")), "{samples:?}");
    }
}

#[test]
fn state_has_a_budget() {
    let mut spec = spec(tumble(1000), &[named(col("k"), "k")], vec![count(col("v"))], 0, 1);
    spec.state_limit_bytes = 1 << 20;
    let mut operator = Aggregate::new(spec, Arc::new(Counters::default())).unwrap();
    let (mut feed, mut output) = (Feed::new(0, 1), Output::default());
    let mut result = Ok(());
    let mut keys = 0;
    while result.is_ok() {
        assert!(keys < 200_000, "{} bytes of {keys} keys", operator.state_bytes());
        let rows: Vec<Row> = (keys..keys + 1000).map(|key| (1, Some(key), Some(1))).collect();
        keys += 1000;
        result = operator.process(feed.batch(0, &rows), &mut output);
    }
    let Err(EngineError::StateBudget { used_bytes, limit_bytes, .. }) = result else { panic!("{result:?}") };
    assert!(used_bytes > limit_bytes && limit_bytes == 1 << 20);
    assert!(keys > 5_000, "a key does not take {} bytes", used_bytes / 5000);
}

#[test]
fn a_failing_aggregate_is_told_as_such() {
    // An average has four digits more than its input: there is no room for them.
    let wide = cast(lit("90000000000000000000000000000000000000"), DataType::Decimal128(38, 0));
    let (mut operator, _) = aggregate(tumble(10), &[], vec![avg(wide)], 0, 1);
    let mut feed = Feed::new(0, 1);
    let mut output = Output::default();
    operator.process(feed.batch(0, &[(1, None, None)]), &mut output).unwrap();
    let result = operator.end_partition(0, &mut output);
    assert!(matches!(result, Err(EngineError::Aggregate(_))), "{result:?}");
}

#[test]
fn the_results_of_a_few_groups_take_little() {
    let key = [named(cast(col("k"), DataType::Utf8), "k")];
    let (mut operator, counters) = aggregate(tumble(10), &key, vec![sum(col("v"))], 0, 1);
    let batch = Feed::new(0, 1).batch(0, &[(1, Some(1), Some(1)), (2, Some(2), Some(2))]);
    let output = run(&mut operator, &counters, vec![batch], 1);
    let bytes: usize = output.rows.iter().map(|batch| batch.rows.get_array_memory_size()).sum();
    assert_eq!(sorted_lines(&output.rows), ["0|10|1|1", "0|10|2|2"]);
    assert!(bytes < 2_048, "two groups take {bytes} bytes");
}

#[test]
fn keys_group_as_sql_says() {
    let zero = cast(col("v"), DataType::Float64) * lit(0.0);
    let nan = cast(col("v"), DataType::Float64) * lit(f64::NAN);
    for (key, groups) in [(zero, 2), (nan, 2), (col("b"), 3), (col("s"), 4)] {
        let (mut operator, counters) = aggregate(hop(20, 5, 0), &[named(key, "key")], vec![count(lit(1))], 0, 1);
        let rows = [(1, None, Some(-1)), (6, None, Some(1)), (12, None, None), (14, None, Some(2))];
        let mut feed = Feed::new(0, 1);
        let batches = rows.chunks(1).map(|rows| feed.batch(0, rows)).collect();
        let output = run(&mut operator, &counters, batches, 1);
        let whole: Vec<_> = lines(&output.rows).into_iter().filter(|line| line.starts_with("0|20|")).collect();
        assert_eq!(whole.len(), groups, "{whole:?}");
    }
}

#[test]
fn keys_alone_are_distinct_rows() {
    let key = [named(col("k"), "k"), named(col("b"), "b")];
    let (mut operator, counters) = aggregate(tumble(10), &key, vec![], 0, 1);
    let rows = [(1, Some(1), Some(2)), (2, Some(1), Some(4)), (3, Some(1), None), (4, None, None), (5, None, None)];
    let batch = Feed::new(0, 1).batch(0, &rows);
    let output = run(&mut operator, &counters, vec![batch], 1);
    assert_eq!(sorted_lines(&output.rows), ["0|10|1|", "0|10|1|true", "0|10||"]);
}

#[test]
fn many_results_come_in_batches_with_dense_offsets() {
    let (mut operator, counters) = aggregate(tumble(10), &[named(col("k"), "k")], vec![count(lit(1))], 0, 1);
    operator.operator().track_updates(true);
    let mut feed = Feed::new(0, 1);
    let rows: Vec<Row> = (0..20_000).map(|key| (1, Some(key), None)).collect();
    let batches = vec![feed.batch(0, &rows), feed.batch(0, &[(15, Some(1), None)])];
    let output = run(&mut operator, &counters, batches, 1);
    let shape = |batch: &StreamBatch| (batch.rows.num_rows(), batch.first.0, batch.watermark.0 / MS);
    let told: Vec<_> = output.rows.iter().map(shape).collect();
    let end = i64::MAX / MS;
    assert_eq!(told, [(0, 0, 9), (8192, 0, 9), (8192, 8192, 9), (3616, 16384, 19), (1, 20_000, end)]);
    assert!(output.rows[3].event_times().iter().all(|time| *time == 9 * MS));
    assert_eq!(output.updates.iter().map(|batch| batch.rows.num_rows()).sum::<usize>(), 20_001);
    assert!(output.updates.iter().all(|batch| batch.kind == RowKind::Final));
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let refused = |spec| match Aggregate::new(spec, Arc::new(Counters::default())) {
        Err(EngineError::Plan(message)) => message,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was accepted"),
    };
    refused(spec(tumble(0), &[], vec![], 0, 1));
    let mut missing = spec(tumble(10), &[named(col("k"), "k")], vec![], 0, 1);
    missing.keys[0].expr = col("gone");
    assert!(refused(missing).contains("gone"));
}
