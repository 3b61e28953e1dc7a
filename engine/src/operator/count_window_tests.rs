//! [`CountWindow`](super::CountWindow) against an oracle that cuts lists of rows.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::{col, lit};
use datafusion_functions_aggregate::expr_fn::{count, sum};
use proptest::collection::vec;
use proptest::prelude::*;
use squilla_query::{AggregateCall, GatherKind, GatherSpec, timestamp_type};

use super::check::Checked;
use super::testing::{Feed, Row, named, run, sorted_lines, visible};
use super::{CountWindow, CountWindowSpec, Operator, Output};
use crate::batch::physical_schema;
use crate::counters::Counters;
use crate::error::EngineError;

pub(super) fn spec(rows: u64, slide: u64, partitions: u32) -> CountWindowSpec {
    let aggregates = [("n", count(lit(1))), ("total", sum(col("v")))];
    let aggregates = aggregates.map(|(name, expr)| AggregateCall { expr, name: name.into() }).to_vec();
    let mut fields = ["window_start", "window_end"].map(|name| Field::new(name, timestamp_type(), false)).to_vec();
    fields.extend(["k", "n", "total"].map(|name| Field::new(name, DataType::Int64, true)));
    CountWindowSpec {
        input: physical_schema(&visible()),
        rows,
        slide,
        gather: GatherSpec {
            kind: GatherKind::Count { rows, slide },
            partition_by: vec![col("k")],
            filter: None,
            keys: vec![named(col("k"), "k")],
            aggregates,
        },
        schema: Arc::new(Schema::new(fields)),
        partitions,
        state_limit_bytes: 1 << 30,
    }
}

fn build(spec: CountWindowSpec) -> (Checked<CountWindow>, Arc<Counters>) {
    let (partitions, counters) = (spec.partitions as usize, Arc::new(Counters::default()));
    (Checked::new(CountWindow::new(spec, Arc::clone(&counters)).unwrap(), partitions), counters)
}

fn oracle(size: usize, slide: usize, rows: &[Row]) -> Vec<String> {
    let mut by_key: BTreeMap<Option<i64>, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| by_key.entry(row.1).or_default().push(row));
    let text = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
    let mut lines = Vec::new();
    for (key, rows) in by_key {
        let (mut start, mut told) = (0, 0);
        while told < rows.len() {
            let window = &rows[start..rows.len().min(start + size)];
            let times = || window.iter().map(|row| row.0);
            let total = window.iter().filter_map(|row| row.2).reduce(|a, b| a + b);
            let (least, most) = (times().min().unwrap(), times().max().unwrap());
            lines.push(format!("{least}|{most}|{}|{}|{}", text(key), window.len(), text(total)));
            told = start + window.len();
            start += slide;
        }
    }
    lines.sort();
    lines
}

fn rows(count: usize) -> impl Strategy<Value = Vec<Row>> {
    vec((-60i64..120, prop::option::of(0i64..4), prop::option::of(-9i64..9)), 1..count)
}

proptest! {
    #[test]
    fn windows_are_the_oracles_in_batches_of_any_size(size in 1usize..9, slide in 1usize..9, rows in rows(200)) {
        let slide = slide.min(size);
        for batch in [1, 7, 8192] {
            let (mut operator, counters) = build(spec(size as u64, slide as u64, 1));
            let mut feed = Feed::new(0, 1);
            let batches = rows.chunks(batch).map(|rows| feed.batch(0, rows)).collect();
            let output = run(&mut operator, &counters, batches, 1);
            prop_assert_eq!(sorted_lines(&output.rows), oracle(size, slide, &rows));
            prop_assert_eq!(counters.snapshot().unaccounted(), 0);
            prop_assert_eq!(operator.state_bytes(), 0, "nothing is kept after the end");
        }
    }

    #[test]
    fn windows_do_not_depend_on_how_partitions_interleave(
        left in rows(60), right in rows(60), orders in vec(vec(any::<bool>(), 40), 3),
    ) {
        let mut told = BTreeSet::new();
        for turns in orders {
            let mut feed = Feed::new(5, 2);
            let mut pieces = [left.chunks(3), right.chunks(3)];
            let mut batches = Vec::new();
            for turn in turns {
                let partition = usize::from(turn);
                batches.extend(pieces[partition].next().map(|rows| feed.batch(partition, rows)));
            }
            for (partition, pieces) in pieces.into_iter().enumerate() {
                batches.extend(pieces.map(|rows| feed.batch(partition, rows)));
            }
            let (mut operator, counters) = build(spec(3, 3, 2));
            let output = run(&mut operator, &counters, batches, 2);
            prop_assert_eq!(counters.snapshot().unaccounted(), 0);
            told.insert(sorted_lines(&output.rows));
        }
        prop_assert_eq!(told.len(), 1, "{:?}", told);
    }
}

#[test]
fn parts_that_filled_their_windows_are_forgotten() {
    let (mut operator, counters) = build(spec(2, 2, 1));
    let (mut feed, mut output, mut most) = (Feed::new(0, 1), Output::default(), 0);
    for step in 0..300 {
        let rows: Vec<Row> = (0..100).map(|n| (step, Some(step * 50 + n / 2), Some(1))).collect();
        counters.rows_in.fetch_add(100, std::sync::atomic::Ordering::Relaxed);
        operator.process(feed.batch(0, &rows), &mut output).unwrap();
        most = most.max(operator.state_bytes());
    }
    assert!(most < 1 << 20, "{most} bytes");
    assert_eq!((counters.snapshot().rows_out, counters.snapshot().unaccounted()), (15_000, 0));
}

#[test]
fn what_is_too_much_or_wrong_ends_it() {
    let limited = CountWindowSpec { state_limit_bytes: 1 << 16, ..spec(10, 10, 1) };
    let mut operator = CountWindow::new(limited, Arc::new(Counters::default())).unwrap();
    let rows: Vec<Row> = (0..20_000).map(|key| (1, Some(key), None)).collect();
    let result = operator.process(Feed::new(0, 1).batch(0, &rows), &mut Output::default());
    assert!(matches!(result, Err(EngineError::StateBudget { .. })), "{result:?}");
    assert!(CountWindow::new(spec(2, 3, 1), Arc::new(Counters::default())).is_err());
}
