//! Tests of ranks and deduplication: the contract, and what is forgotten.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_expr::{SortExpr, col};
use squilla_query::{RankFunction, RankSpec, RankTime};

use super::check::Checked;
use super::testing::{Feed, MS, Row, lines, sorted_lines, visible};
use super::{Deduplicate, Operator, Output, RankRunning, RankingInput};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::counters::Counters;
use crate::error::EngineError;

pub(super) fn spec(limit: u64, order_by: Vec<SortExpr>, by_time: bool) -> RankSpec {
    RankSpec {
        function: RankFunction::RowNumber,
        partition_by: vec![col("k")],
        order_by,
        limit: Some(limit),
        column: Some("rn".into()),
        ordered: false,
        time: RankTime::Running { ttl_ns: 800 * MS, by_time },
    }
}

pub(super) fn input(ttl: bool, partitions: u32, state_limit_bytes: usize) -> RankingInput {
    let number: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("rn", DataType::Int64, false),
        Field::new("v", DataType::Int64, true),
    ]));
    let ttl_ns = ttl.then_some(800 * MS);
    RankingInput { input: physical_schema(&visible()), schema: number, partitions, ttl_ns, state_limit_bytes }
}

fn top(limit: u64, ttl: bool) -> (Checked<RankRunning>, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let spec = spec(limit, vec![col("v").sort(false, false)], false);
    let operator = RankRunning::new(&spec, input(ttl, 1, 1 << 30), Arc::clone(&counters)).unwrap();
    let mut checked = Checked::new(operator, 1);
    checked.operator().track_updates(true);
    (checked, counters)
}

fn first(order_by: Vec<SortExpr>, partitions: u32) -> (Checked<Deduplicate>, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let spec = spec(1, order_by, true);
    let operator = Deduplicate::new(&spec, input(true, partitions, 1 << 30), Arc::clone(&counters)).unwrap();
    (Checked::new(operator, partitions as usize), counters)
}

fn feed(operator: &mut impl Operator, counters: &Counters, batch: StreamBatch, output: &mut Output) {
    counters.rows_in.fetch_add(batch.rows.num_rows() as u64, Relaxed);
    operator.process(batch, output).unwrap();
}

fn of(kind: RowKind, output: &mut Output) -> Vec<String> {
    let updates = std::mem::take(&mut output.updates);
    sorted_lines(&updates.into_iter().filter(|batch| batch.kind == kind).collect::<Vec<_>>())
}

#[test]
fn the_first_rows_are_those_of_a_sort_whatever_is_told_in_between() {
    let rows: Vec<Row> = (0..3000).map(|at| (at, Some(at % 7), Some(at * 37 % 1009))).collect();
    let mut finals = Vec::new();
    for (size, tick_every) in [(3000, 0), (1, 1), (11, 3), (500, 1)] {
        let (mut operator, counters) = top(3, false);
        let (mut source, mut output) = (Feed::new(2, 1), Output::default());
        for (at, rows) in rows.chunks(size).enumerate() {
            feed(&mut operator, &counters, source.batch(0, rows), &mut output);
            if tick_every > 0 && at % tick_every == 0 {
                operator.tick(&mut output).unwrap();
            }
        }
        operator.end_partition(0, &mut output).unwrap();
        assert_eq!(counters.snapshot().unaccounted(), 0);
        finals.push(sorted_lines(&output.rows));
    }
    let mut expected = Vec::new();
    for key in 0..7 {
        let mut values: Vec<i64> = rows.iter().filter(|row| row.1 == Some(key)).filter_map(|row| row.2).collect();
        values.sort_unstable_by(|left, right| right.cmp(left));
        expected.extend(values.iter().take(3).zip(1..).map(|(value, number)| format!("{key}|{number}|{value}")));
    }
    assert!(finals.iter().all(|told| *told == expected), "{finals:?}");
}

/// What rows of a part make of ranks: place, number and value, whatever the order in which they came.
fn ranked(function: RankFunction, limit: i64, mut values: Vec<i64>) -> Vec<(i64, i64, i64)> {
    values.sort_unstable_by(|left, right| right.cmp(left));
    let mut rows: Vec<(i64, i64, i64)> = Vec::new();
    for (place, value) in (1..).zip(values) {
        let number = match (function, rows.last()) {
            (RankFunction::RowNumber, _) | (_, None) => place,
            (_, Some((_, number, last))) if *last == value => *number,
            (RankFunction::Rank, _) => place,
            (RankFunction::DenseRank, Some((_, number, _))) => number + 1,
        };
        rows.push((place, number, value));
    }
    rows.retain(|(_, number, _)| *number <= limit);
    rows
}

#[test]
fn changes_of_ranks_come_to_those_of_all_rows() {
    let functions = [RankFunction::RowNumber, RankFunction::Rank, RankFunction::DenseRank];
    for (function, limit, size) in functions.into_iter().flat_map(|f| [(f, 1, 1), (f, 2, 3), (f, 3, 1), (f, 5, 50)]) {
        let spec = RankSpec { function, ..spec(limit, vec![col("v").sort(false, false)], false) };
        let fields = ["rn_row", "rn"].map(|name| Field::new(name, DataType::Int64, false));
        let shown = fields.into_iter().skip(usize::from(function == RankFunction::RowNumber));
        let mut fields = vec![Field::new("k", DataType::Int64, true)];
        fields.extend(shown.chain([Field::new("v", DataType::Int64, true)]));
        let input = RankingInput { schema: Arc::new(Schema::new(fields)), ..input(false, 1, 1 << 30) };
        let counters = Arc::new(Counters::default());
        let mut operator = Checked::new(RankRunning::new(&spec, input, Arc::clone(&counters)).unwrap(), 1);
        operator.operator().track_updates(true);
        let rows: Vec<Row> = (0..300).map(|at| (at, Some(at % 2), Some(at * 7919 % 23))).collect();
        let (mut source, mut told, mut output) = (Feed::new(2, 1), BTreeMap::new(), Output::default());
        for (at, rows) in rows.chunks(size).enumerate() {
            feed(&mut operator, &counters, source.batch(0, rows), &mut output);
            if at % 3 == 0 {
                operator.tick(&mut output).unwrap();
            }
        }
        operator.tick(&mut output).unwrap();
        for batch in std::mem::take(&mut output.updates) {
            let kind = batch.kind;
            for line in lines(&[batch]) {
                let key = line.split('|').take(2).collect::<Vec<_>>().join("|");
                if kind == RowKind::Delete {
                    told.remove(&key)
                } else {
                    told.insert(key, line)
                };
            }
        }
        let mut expected = Vec::new();
        for key in 0..2 {
            let values = rows.iter().filter(|row| row.1 == Some(key)).filter_map(|row| row.2).collect();
            for (place, number, value) in ranked(function, i64::try_from(limit).unwrap(), values) {
                let place = if function == RankFunction::RowNumber { String::new() } else { format!("{place}|") };
                expected.push(format!("{key}|{place}{number}|{value}"));
            }
        }
        let told: Vec<String> = told.into_values().collect();
        expected.sort();
        let mut sorted = told.clone();
        sorted.sort();
        assert_eq!(sorted, expected, "{function:?} up to {limit}");
        operator.end_partition(0, &mut output).unwrap();
        assert_eq!(sorted_lines(&output.rows), expected);
    }
}

#[test]
fn a_part_without_rows_is_forgotten_and_withdrawn() {
    let (mut operator, counters) = top(2, true);
    let (mut source, mut output) = (Feed::new(0, 1), Output::default());
    let rows = [(0, Some(1), Some(5)), (10, Some(1), Some(9)), (500, Some(2), Some(1)), (1000, Some(2), Some(2))];
    for rows in rows.chunks(1) {
        feed(&mut operator, &counters, source.batch(0, rows), &mut output);
    }
    assert_eq!(counters.snapshot().forgotten, 1);
    assert_eq!(of(RowKind::Delete, &mut output), ["1|1|9", "1|2|5"]);
    assert_eq!(sorted_lines(&operator.snapshot().unwrap()), ["2|1|2", "2|2|1"]);
}

#[test]
fn the_first_row_by_event_time_waits_for_the_watermark() {
    for size in [1, 6] {
        let (mut operator, counters) = first(vec![col("ts").sort(true, false)], 1);
        let (mut source, mut output) = (Feed::new(5, 1), Output::default());
        let rows = [
            (10, Some(1), Some(1)),
            (8, Some(1), Some(2)),
            (12, Some(2), Some(3)),
            (20, Some(3), Some(4)),
            (11, Some(2), Some(5)),
            (30, Some(1), Some(6)),
        ];
        for rows in rows.chunks(size) {
            feed(&mut operator, &counters, source.batch(0, rows), &mut output);
        }
        operator.end_partition(0, &mut output).unwrap();
        assert_eq!(lines(&output.rows), ["1|1|2", "2|1|3", "3|1|4"]);
        assert_eq!(counters.snapshot().unaccounted(), 0);
    }
}

#[test]
fn the_first_row_by_arrival_comes_at_once_and_again_when_its_key_was_forgotten() {
    let (mut operator, counters) = first(Vec::new(), 1);
    let (mut source, mut output) = (Feed::new(0, 1), Output::default());
    for row in [(0, Some(1), Some(1)), (1, Some(1), Some(2)), (1000, Some(2), Some(3)), (1001, Some(1), Some(4))] {
        feed(&mut operator, &counters, source.batch(0, &[row]), &mut output);
    }
    assert_eq!(lines(&output.rows), ["1|1|1", "2|1|3", "1|1|4"]);
    let counted = counters.snapshot();
    assert_eq!((counted.forgotten, counted.filtered, counted.unaccounted()), (1, 1, 0));
}

#[test]
fn too_many_parts_end_the_query() {
    let spec = spec(1, vec![col("v").sort(true, false)], false);
    let mut operator = RankRunning::new(&spec, input(true, 1, 40_000), Arc::default()).unwrap();
    let many: Vec<Row> = (0..5_000).map(|at| (at, Some(at), Some(1))).collect();
    let refused = operator.process(Feed::new(2, 1).batch(0, &many), &mut Output::default());
    assert!(matches!(refused, Err(EngineError::StateBudget { .. })), "{refused:?}");
}
