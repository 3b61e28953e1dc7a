//! Tests of [`Aggregate`](super::Aggregate).
#![expect(clippy::unwrap_used, reason = "a test")]

use datafusion_expr::col;
use datafusion_functions_aggregate::expr_fn::{count, first_value, last_value, sum};

use super::testing::{Feed, aggregate, hop, lines, named, run, sorted_lines, tumble};
use super::{Operator, Output};

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
