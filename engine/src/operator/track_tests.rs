//! Tests of what follows from the windows before: the contract, batches and partitions, what is forgotten, the budget.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use squilla_query::{TrackCall, TrackFunction, TrackSpec};

use super::check::Checked;
use super::testing::{Feed, MS, Row, lines, run, visible};
use super::{Operator, Output, Track, TrackInput};
use crate::batch::{StreamBatch, physical_schema};
use crate::counters::Counters;
use crate::error::EngineError;

pub(super) fn spec(ttl_ms: i64, partitions: u32, state_limit_bytes: usize) -> (TrackSpec, TrackInput) {
    let call = |argument: &str, column: &str, function| TrackCall {
        argument: argument.into(),
        column: column.into(),
        function,
    };
    let calls = vec![
        call("v", "before", TrackFunction::Lag { windows: 1 }),
        call("v", "z", TrackFunction::RobustZscore { windows: 3, min_count: 3 }),
        call("s", "text", TrackFunction::Lag { windows: 2 }),
    ];
    let mut fields = visible().fields().to_vec();
    for (name, kind) in [("before", DataType::Int64), ("z", DataType::Float64), ("text", DataType::Utf8)] {
        fields.push(Arc::new(Field::new(name, kind, true)));
    }
    let input = TrackInput {
        input: physical_schema(&visible()),
        schema: Arc::new(Schema::new(fields)),
        partitions,
        state_limit_bytes,
    };
    (TrackSpec { partition_by: vec!["k".into()], calls, ttl_ns: ttl_ms * MS }, input)
}

fn track(ttl_ms: i64, partitions: u32, state_limit_bytes: usize) -> (Checked<Track>, Arc<Counters>) {
    let (spec, input) = spec(ttl_ms, partitions, state_limit_bytes);
    let counters = Arc::new(Counters::default());
    let operator = Track::new(&spec, input, Arc::clone(&counters)).unwrap();
    (Checked::new(operator, partitions as usize), counters)
}

/// Time, key, value, and what was computed.
fn told(batches: &[StreamBatch]) -> Vec<String> {
    let parts = |line: &String| {
        let cells: Vec<&str> = line.split('|').collect();
        [cells[0], cells[1], cells[2], cells[6], cells[7], cells[8]].join(" ").trim_end().to_owned()
    };
    lines(batches).iter().map(parts).collect()
}

const ROWS: [Row; 9] = [
    (10, Some(1), Some(10)),
    (10, None, Some(5)),
    (20, Some(1), Some(11)),
    (30, Some(1), Some(12)),
    (30, Some(2), None),
    (40, Some(1), Some(40)),
    (50, None, Some(6)),
    (50, Some(2), Some(1)),
    (60, Some(1), None),
];

#[test]
fn rows_are_followed_whatever_their_batches() {
    let expected = [
        "10 1 10",
        "10  5",
        "20 1 11 10",
        "30 1 12 11  s10",
        "30 2",
        "40 1 40 12 19.56023202482126 s11",
        "50  6 5",
        "50 2 1",
        "60 1  40  s12",
    ];
    for size in [1, 2, 4, 9] {
        let (mut operator, counters) = track(1_000, 1, 1 << 30);
        let mut feed = Feed::new(0, 1);
        let batches = ROWS.chunks(size).map(|rows| feed.batch(0, rows)).collect();
        let output = run(&mut operator, &counters, batches, 1);
        let normal = |line: &String| line.split(' ').collect::<Vec<_>>().join(" ");
        assert_eq!(told(&output.rows).iter().map(normal).collect::<Vec<_>>(), expected, "batches of {size}");
        assert_eq!(counters.snapshot().unaccounted(), 0);
        assert_eq!(counters.snapshot().rows_out, ROWS.len() as u64);
    }
}

#[test]
fn partitions_wait_for_each_other() {
    let (mut operator, counters) = track(1_000, 2, 1 << 30);
    let mut feed = Feed::new(0, 2);
    let mut output = Output::default();
    operator.process(feed.batch(1, &[(20, Some(1), Some(2)), (40, Some(1), Some(4))]), &mut output).unwrap();
    assert!(told(&output.rows).is_empty());
    operator.process(feed.batch(0, &[(10, Some(1), Some(1)), (30, Some(1), Some(3))]), &mut output).unwrap();
    assert_eq!(told(&output.rows), ["10 1 1", "20 1 2 1"]);
    let end = run(&mut operator, &counters, Vec::new(), 2);
    assert_eq!(told(&end.rows), ["30 1 3 2  s1", "40 1 4 3 1.3489815189531904 s2"]);
}

#[test]
fn a_row_behind_what_was_told_is_late() {
    let (mut operator, counters) = track(1_000, 2, 1 << 30);
    let mut feed = Feed::new(0, 2);
    let batches = vec![feed.idle(1), feed.batch(0, &[(10, Some(1), Some(1)), (30, Some(1), Some(3))])];
    let mut output = Output::default();
    for batch in batches {
        counters.rows_in.fetch_add(batch.rows.num_rows() as u64, std::sync::atomic::Ordering::Relaxed);
        operator.process(batch, &mut output).unwrap();
    }
    let end = run(&mut operator, &counters, vec![feed.batch(1, &[(20, Some(1), Some(2)), (30, Some(1), Some(9))])], 2);
    assert_eq!(told(&output.rows), ["10 1 1"]);
    assert_eq!(told(&end.rows), ["30 1 3 1", "30 1 9 3  s1"]);
    assert_eq!((counters.snapshot().late, counters.snapshot().unaccounted()), (1, 0));
}

#[test]
fn a_key_without_rows_is_forgotten() {
    let (mut operator, counters) = track(100, 1, 1 << 30);
    let mut feed = Feed::new(0, 1);
    let rows = [(10, Some(1), Some(1)), (110, Some(1), Some(2)), (211, Some(1), Some(3)), (900, Some(2), Some(1))];
    let mut output = Output::default();
    for row in rows {
        operator.process(feed.batch(0, &[row]), &mut output).unwrap();
    }
    let (held, many) = (operator.state_bytes(), 10_000);
    for row in 0..many {
        operator.process(feed.batch(0, &[(1_000 + row, Some(row), Some(row))]), &mut output).unwrap();
    }
    assert_eq!(told(&output.rows)[..3], ["10 1 1", "110 1 2 1", "211 1 3"]);
    assert!(operator.state_bytes() < held * 400, "{} bytes after {many} keys, {held} before", operator.state_bytes());
    run(&mut operator, &counters, Vec::new(), 1);
}

#[test]
fn beyond_the_budget_the_query_ends() {
    let (mut operator, _) = track(1_000_000, 1, 64 << 10);
    let mut feed = Feed::new(0, 1);
    let mut process =
        |row: i64| operator.process(feed.batch(0, &[(row, Some(row), Some(row))]), &mut Output::default());
    let error = (0..10_000).find_map(|row| process(row).err()).unwrap();
    assert!(matches!(error, EngineError::StateBudget { .. }), "{error}");
}
