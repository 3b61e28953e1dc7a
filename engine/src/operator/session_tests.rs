//! [`Session`](super::Session) against an oracle that makes sessions row by row.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema, TimestampNanosecondType};
use datafusion_expr::{Expr, col, lit};
use datafusion_functions_aggregate::expr_fn::{count, sum};
use proptest::collection::vec;
use proptest::prelude::*;
use squilla_query::{AggregateCall, GatherKind, GatherSpec, timestamp_type};

use super::check::Checked;
use super::testing::{Feed, MS, Row, lines, named, run, sorted_lines, visible};
use super::{Operator, Output, Session, SessionSpec};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::Counters;
use crate::error::EngineError;

pub(super) fn spec(gap_ms: i64, grace_ms: i64, partitions: u32, filter: Option<Expr>) -> SessionSpec {
    let aggregates = [("n", count(lit(1))), ("total", sum(col("v")))];
    let aggregates = aggregates.map(|(name, expr)| AggregateCall { expr, name: name.into() }).to_vec();
    let mut fields = ["window_start", "window_end"].map(|name| Field::new(name, timestamp_type(), false)).to_vec();
    fields.extend(
        [("k", DataType::Int64), ("n", DataType::Int64), ("total", DataType::Int64)]
            .map(|(name, kind)| Field::new(name, kind, true)),
    );
    SessionSpec {
        input: physical_schema(&visible()),
        gap_ns: gap_ms * MS,
        grace_ns: grace_ms * MS,
        gather: GatherSpec {
            kind: GatherKind::Session { gap_ns: gap_ms * MS, grace_ns: grace_ms * MS },
            partition_by: vec![col("k")],
            filter,
            keys: vec![named(col("k"), "k")],
            aggregates,
        },
        schema: Arc::new(Schema::new(fields)),
        partitions,
        start: EventTime::MIN,
        state_limit_bytes: 1 << 30,
    }
}

fn build(spec: SessionSpec) -> (Checked<Session>, Arc<Counters>) {
    let (partitions, counters) = (spec.partitions as usize, Arc::new(Counters::default()));
    (Checked::new(Session::new(spec, Arc::clone(&counters)).unwrap(), partitions), counters)
}

/// A session of the oracle: its rows' times and values.
type Made = Vec<(i64, Option<i64>)>;

/// Sessions of one partition, row by row: lines and late rows.
fn oracle(gap: i64, grace: i64, delay: i64, rows: &[Row]) -> (Vec<String>, u64) {
    let mut sessions: BTreeMap<Option<i64>, Vec<Made>> = BTreeMap::new();
    let (mut greatest, mut late): (Option<i64>, u64) = (None, 0);
    for (time, key, value) in rows {
        let of_key = sessions.entry(*key).or_default();
        let end = |session: &Made| session.iter().map(|(time, _)| time).max().unwrap() + gap;
        let is_open = |end: i64| greatest.is_none_or(|greatest| end >= greatest - delay - grace);
        let joins =
            |session: &Made| is_open(end(session)) && session.iter().any(|(other, _)| (other - time).abs() <= gap);
        let (joined, others): (Vec<Made>, Vec<Made>) = of_key.drain(..).partition(joins);
        *of_key = others;
        if joined.is_empty() && !is_open(time + gap) {
            late += 1;
        } else {
            let mut made: Made = joined.concat();
            made.push((*time, *value));
            of_key.push(made);
        }
        greatest = greatest.max(Some(*time));
    }
    let text = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
    let mut lines = Vec::new();
    for (key, sessions) in sessions {
        for session in sessions {
            let times = || session.iter().map(|(time, _)| *time);
            let total = session.iter().filter_map(|(_, value)| *value).reduce(|a, b| a + b);
            let (start, end) = (times().min().unwrap(), times().max().unwrap() + gap);
            lines.push(format!("{start}|{end}|{}|{}|{}", text(key), session.len(), text(total)));
        }
    }
    lines.sort();
    (lines, late)
}

fn rows(count: usize) -> impl Strategy<Value = Vec<Row>> {
    vec((-60i64..200, prop::option::of(0i64..4), prop::option::of(-9i64..9)), 1..count)
}

fn in_batches(delay: i64, rows: &[Row], size: usize) -> Vec<StreamBatch> {
    let mut feed = Feed::new(delay, 1);
    rows.chunks(size).map(|rows| feed.batch(0, rows)).collect()
}

proptest! {
    #[test]
    fn sessions_are_the_oracles_in_batches_of_any_size(
        gap in 1i64..20, grace in 0i64..8, delay in 0i64..40, rows in rows(200),
    ) {
        let (expected, late) = oracle(gap, grace, delay, &rows);
        let mut bounds = Vec::new();
        for size in [1, 7, 8192] {
            let (mut operator, counters) = build(spec(gap, grace, 1, None));
            let output = run(&mut operator, &counters, in_batches(delay, &rows, size), 1);
            prop_assert_eq!(sorted_lines(&output.rows), expected.clone());
            let counted = counters.snapshot();
            prop_assert_eq!((counted.late, counted.unaccounted()), (late, 0));
            prop_assert_eq!(operator.state_bytes(), 0, "nothing is kept after the end");
            let marks = |batch: &StreamBatch| batch.event_times().iter().copied().zip(batch.watermarks().iter().copied()).collect::<Vec<_>>();
            bounds.push(output.rows.iter().flat_map(marks).collect::<Vec<_>>());
        }
        prop_assert!(bounds[0].is_sorted());
        prop_assert!(bounds.windows(2).all(|pair| pair[0] == pair[1]), "event times and watermarks depend on batches");
    }

    #[test]
    fn order_within_the_delay_changes_nothing(
        gap in 1i64..20, mut rows in rows(200), jitter in vec(0i64..30, 200), size in 1usize..20,
    ) {
        rows.sort_by_key(|row| row.0);
        let (expected, _) = oracle(gap, 0, 30, &rows);
        let mut shuffled: Vec<(i64, Row)> = rows.iter().zip(jitter).map(|(row, jitter)| (row.0 + jitter, *row)).collect();
        shuffled.sort_by_key(|(at, _)| *at);
        let shuffled: Vec<Row> = shuffled.into_iter().map(|(_, row)| row).collect();
        let (mut operator, counters) = build(spec(gap, 0, 1, None));
        let output = run(&mut operator, &counters, in_batches(30, &shuffled, size), 1);
        prop_assert_eq!(counters.snapshot().late, 0);
        prop_assert_eq!(sorted_lines(&output.rows), expected);
    }

    #[test]
    fn sessions_do_not_depend_on_how_partitions_interleave(
        gap in 1i64..20, delay in 0i64..20, left in rows(80), right in rows(80), orders in vec(vec(any::<bool>(), 60), 3),
    ) {
        let mut told = BTreeSet::new();
        for turns in orders {
            let mut feed = Feed::new(delay, 2);
            let mut pieces = [left.chunks(3), right.chunks(3)];
            let mut batches = Vec::new();
            for turn in turns {
                let partition = usize::from(turn);
                batches.extend(pieces[partition].next().map(|rows| feed.batch(partition, rows)));
            }
            for (partition, pieces) in pieces.into_iter().enumerate() {
                batches.extend(pieces.map(|rows| feed.batch(partition, rows)));
            }
            let (mut operator, counters) = build(spec(gap, 0, 2, None));
            let output = run(&mut operator, &counters, batches, 2);
            let counted = counters.snapshot();
            prop_assert_eq!(counted.unaccounted(), 0);
            told.insert((sorted_lines(&output.rows), counted.late));
        }
        prop_assert_eq!(told.len(), 1, "{:?}", told);
    }

    #[test]
    fn running_results_come_to_what_is_final(
        gap in 1i64..20, delay in 0i64..40, rows in rows(120), ticks in vec(0u8..4, 40),
    ) {
        let (mut operator, _) = build(spec(gap, 0, 1, None));
        operator.operator().track_updates(true);
        let mut output = Output::default();
        for (batch, tick) in in_batches(delay, &rows, 5).into_iter().zip(ticks.into_iter().chain(std::iter::repeat(0))) {
            operator.process(batch, &mut output).unwrap();
            if tick == 1 {
                operator.tick(&mut output).unwrap();
            } else if tick == 2 {
                operator.snapshot().unwrap();
            } else if tick == 3 {
                // The last reader goes, and another one comes.
                operator.operator().track_updates(false);
                operator.operator().track_updates(true);
                output.updates.retain(|batch| batch.kind == RowKind::Final);
            }
        }
        operator.end_partition(0, &mut output).unwrap();
        let mut standing: BTreeMap<String, (RowKind, String)> = BTreeMap::new();
        for batch in &output.updates {
            for line in lines(std::slice::from_ref(batch)) {
                let key = line.splitn(4, '|').take(3).collect::<Vec<_>>().join("|");
                if batch.kind == RowKind::Delete {
                    prop_assert!(standing.remove(&key).is_some(), "{} was not told", key);
                } else {
                    standing.insert(key, (batch.kind, line));
                }
            }
        }
        prop_assert!(standing.values().all(|(kind, _)| *kind == RowKind::Final), "{:?}", standing);
        let mut standing: Vec<String> = standing.into_values().map(|(_, line)| line).collect();
        standing.sort();
        prop_assert_eq!(standing, sorted_lines(&output.rows));
    }
}

#[test]
fn rows_that_are_filtered_away_bridge_all_the_same() {
    let (mut operator, counters) = build(spec(10, 0, 1, Some(col("v").gt(lit(0i64)))));
    let rows = [(1, Some(1), Some(5)), (8, Some(1), Some(-1)), (15, Some(1), None), (22, Some(1), Some(7))];
    let batch = Feed::new(0, 1).batch(0, &rows);
    let output = run(&mut operator, &counters, vec![batch], 1);
    assert_eq!(sorted_lines(&output.rows), ["1|32|1|2|12"]);
    let counted = counters.snapshot();
    assert_eq!((counted.filtered, counted.absorbed, counted.unaccounted()), (2, 2, 0));
}

#[test]
fn a_session_that_goes_on_is_kept_small_and_keys_are_forgotten() {
    let (mut operator, _) = build(spec(10, 0, 1, None));
    let (mut feed, mut output, mut most) = (Feed::new(0, 1), Output::default(), 0);
    for step in 0..400 {
        // One key goes on, the others come once.
        let rows: Vec<Row> =
            (0..50).map(|n| (step * 5, Some(if n == 0 { 0 } else { step * 50 + n }), Some(1))).collect();
        operator.process(feed.batch(0, &rows), &mut output).unwrap();
        if step > 100 {
            most = most.max(operator.state_bytes());
        }
    }
    assert!(most < 1 << 20, "{most} bytes");
    operator.end_partition(0, &mut output).unwrap();
    assert_eq!(lines(&output.rows).len(), 400 * 49 + 1);
    let ends = output
        .rows
        .iter()
        .flat_map(|batch| batch.rows.column(1).as_primitive::<TimestampNanosecondType>().values().to_vec());
    assert!(ends.collect::<Vec<_>>().is_sorted());
}

#[test]
fn what_is_too_much_or_wrong_ends_it() {
    let limited = SessionSpec { state_limit_bytes: 1 << 16, ..spec(10, 0, 1, None) };
    let mut operator = Session::new(limited, Arc::new(Counters::default())).unwrap();
    let rows: Vec<Row> = (0..20_000).map(|key| (1, Some(key), None)).collect();
    let result = operator.process(Feed::new(0, 1).batch(0, &rows), &mut Output::default());
    assert!(matches!(result, Err(EngineError::StateBudget { .. })), "{result:?}");
    assert!(Session::new(spec(0, 0, 1, None), Arc::new(Counters::default())).is_err());
    // A session whose end does not fit is set aside.
    let (mut operator, counters) = build(spec(10, 0, 1, None));
    let batch = Feed::new(0, 1).batch(0, &[(i64::MAX, Some(1), None), (1, Some(1), None)]);
    run(&mut operator, &counters, vec![batch], 1);
    assert_eq!((counters.snapshot().failed, counters.snapshot().unaccounted()), (1, 0));
}
