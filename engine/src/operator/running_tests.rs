//! Tests of aggregates without windows.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::{Expr, col, lit};
use datafusion_functions_aggregate::expr_fn::{count, count_distinct, sum};
use squilla_query::AggregateCall;

use super::check::Checked;
use super::testing::{Feed, MS, Row, named, sorted_lines, visible};
use super::{AggregateRunning, Operator, Output, RunningSpec};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::counters::Counters;
use crate::error::EngineError;

pub(super) fn spec(ttl_ms: Option<i64>, limit: usize) -> RunningSpec {
    let calls: Vec<Expr> = vec![count(lit(1i64)), sum(col("v")), count_distinct(col("s"))];
    let mut fields = vec![Field::new("k", DataType::Int64, true)];
    fields.extend((0..calls.len()).map(|idx| Field::new(format!("a{idx}"), DataType::Int64, true)));
    let aggregates =
        calls.into_iter().enumerate().map(|(idx, expr)| AggregateCall { expr, name: format!("a{idx}") }).collect();
    RunningSpec {
        input: physical_schema(&visible()),
        keys: vec![named(col("k"), "k")],
        aggregates,
        ttl_ns: ttl_ms.map(|ttl| ttl * MS),
        schema: Arc::new(Schema::new(fields)),
        partitions: 1,
        state_limit_bytes: limit,
    }
}

fn running(ttl_ms: Option<i64>, limit: usize) -> (Checked<AggregateRunning>, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (Checked::new(AggregateRunning::new(spec(ttl_ms, limit), Arc::clone(&counters)).unwrap(), 1), counters)
}

fn feed(operator: &mut impl Operator, counters: &Counters, batch: StreamBatch, output: &mut Output) {
    counters.rows_in.fetch_add(batch.rows.num_rows() as u64, Relaxed);
    operator.process(batch, output).unwrap();
}

fn of(kind: RowKind, output: Output) -> Vec<String> {
    let batches: Vec<StreamBatch> = output.updates.into_iter().filter(|batch| batch.kind == kind).collect();
    sorted_lines(&batches)
}

fn rows(count: i64, keys: i64) -> Vec<Row> {
    (0..count).map(|at| (at, Some(at * 7 % keys), Some(at % 5))).collect()
}

#[test]
fn telling_in_between_changes_no_result() {
    let rows = rows(500, 23);
    let mut finals = Vec::new();
    for (size, tick_every) in [(500, 0), (1, 1), (7, 2), (3, 40), (100, 1)] {
        let (mut operator, counters) = running(None, 1 << 30);
        operator.operator().track_updates(true);
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
        assert_eq!(finals[0], of(RowKind::Final, output));
    }
    assert_eq!(finals[0].len(), 23);
    assert!(finals.iter().all(|told| *told == finals[0]), "{finals:?}");
    assert!(finals[0].contains(&"0|22|40|5".to_owned()) || finals[0][0].starts_with("0|22|"), "{:?}", finals[0]);
}

#[test]
fn a_snapshot_holds_all_groups_and_takes_no_change_from_others() {
    let (mut operator, counters) = running(None, 1 << 30);
    operator.operator().track_updates(true);
    let (mut source, mut output) = (Feed::new(2, 1), Output::default());
    feed(&mut operator, &counters, source.batch(0, &[(1, Some(1), Some(1)), (2, Some(2), None)]), &mut output);
    operator.tick(&mut output).unwrap();
    feed(&mut operator, &counters, source.batch(0, &[(3, Some(1), Some(3))]), &mut output);
    let all = ["1|2|4|2", "2|1||0"];
    assert_eq!(sorted_lines(&operator.snapshot().unwrap()), all);
    assert_eq!(sorted_lines(&operator.snapshot().unwrap()), all);
    let mut after = Output::default();
    operator.tick(&mut after).unwrap();
    assert_eq!(of(RowKind::Update, after), ["1|2|4|2"]);
}

#[test]
fn a_group_without_rows_is_forgotten_and_begins_anew() {
    for size in [1, 8] {
        let (mut operator, counters) = running(Some(800), 1 << 30);
        operator.operator().track_updates(true);
        let (mut source, mut output) = (Feed::new(0, 1), Output::default());
        let rows = [(0, Some(1), Some(1)), (500, Some(2), Some(1)), (1000, Some(2), Some(1))];
        for rows in rows.chunks(size) {
            feed(&mut operator, &counters, source.batch(0, rows), &mut output);
        }
        assert_eq!(counters.snapshot().forgotten, 1);
        assert_eq!(of(RowKind::Delete, output), ["1|1|1|1"]);
        let mut output = Output::default();
        feed(&mut operator, &counters, source.batch(0, &[(1001, Some(1), Some(5))]), &mut output);
        operator.tick(&mut output).unwrap();
        assert!(of(RowKind::Update, output).contains(&"1|1|5|1".to_owned()));
    }
}

#[test]
fn too_many_groups_end_the_query() {
    let (mut operator, _) = running(None, 40_000);
    let mut source = Feed::new(2, 1);
    let many: Vec<Row> = (0..5_000).map(|at| (at, Some(at), Some(1))).collect();
    let refused = operator.process(source.batch(0, &many), &mut Output::default());
    assert!(matches!(refused, Err(EngineError::StateBudget { .. })), "{refused:?}");
}
