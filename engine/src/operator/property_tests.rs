//! Properties of [`Aggregate`](super::Aggregate), against an oracle that counts window by window.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use datafusion_expr::{Expr, col};
use datafusion_functions_aggregate::expr_fn::{count, sum};
use proptest::collection::vec;
use proptest::prelude::*;
use squilla_query::WindowSpec;

use super::testing::{Feed, Row, aggregate, aggregate_over, hop, lines, named, run, sorted_lines};
use super::{Operator, Output};
use crate::batch::StreamBatch;
use crate::counters::CountersSnapshot;

/// Windows, all in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Shape {
    size: i64,
    slide: i64,
    offset: i64,
    grace: i64,
    delay: i64,
}

impl Shape {
    fn window(&self) -> WindowSpec {
        hop(self.size, self.slide, self.offset)
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    (1i64..30, 1i64..30, -20i64..20, 0i64..10, 0i64..30).prop_map(|(size, slide, offset, grace, delay)| Shape {
        size,
        slide,
        offset,
        grace,
        delay,
    })
}

fn rows(count: usize) -> impl Strategy<Value = Vec<Row>> {
    vec((-60i64..120, prop::option::of(0i64..4), prop::option::of(-9i64..9)), 1..count)
}

fn calls() -> Vec<Expr> {
    vec![count(col("v")), sum(col("v"))]
}

/// Counts the rows of one partition window by window, each by its own watermark.
#[derive(Debug, Default, PartialEq, Eq)]
struct Oracle {
    windows: BTreeMap<(i64, Option<i64>), (i64, Option<i64>)>,
    late: u64,
    missed: u64,
    between: u64,
}

impl Oracle {
    fn count(&mut self, shape: &Shape, rows: &[Row]) {
        let mut greatest: Option<i64> = None;
        for (time, key, value) in rows {
            let closed = |start: &i64| {
                greatest.is_some_and(|greatest| greatest - shape.delay >= start + shape.size + shape.grace)
            };
            let starts = (time - shape.size + 1)..=*time;
            let all: Vec<i64> = starts.filter(|s| (s - shape.offset).rem_euclid(shape.slide) == 0).collect();
            let open: Vec<i64> = all.iter().copied().filter(|start| !closed(start)).collect();
            match (all.is_empty(), open.is_empty()) {
                (true, _) => self.between += 1,
                (_, true) => self.late += 1,
                _ => self.missed += (all.len() - open.len()) as u64,
            }
            for start in open {
                let (count, sum) = self.windows.entry((start, *key)).or_default();
                *count += i64::from(value.is_some());
                if let Some(value) = value {
                    *sum = Some(sum.unwrap_or_default() + value);
                }
            }
            greatest = greatest.max(Some(*time));
        }
    }

    fn lines(&self, shape: &Shape) -> Vec<String> {
        let text = |value: &Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
        let line = |start: i64, key: &Option<i64>, count: i64, sum: &Option<i64>| {
            format!("{start}|{}|{}|{count}|{}", start + shape.size, text(key), text(sum))
        };
        let windows = self.windows.iter();
        let mut lines: Vec<String> =
            windows.map(|((start, key), (count, sum))| line(*start, key, *count, sum)).collect();
        lines.sort();
        lines
    }

    fn check(&self, counted: CountersSnapshot) {
        assert_eq!(counted.unaccounted(), 0, "{counted:?}");
        assert_eq!((counted.late, counted.late_assignments), (self.late, self.missed), "{counted:?}");
        assert_eq!((counted.filtered, counted.failed, counted.late_idle), (self.between, 0, 0), "{counted:?}");
        assert_eq!(counted.rows_out, self.windows.len() as u64);
    }
}

fn tell(shape: &Shape, batches: Vec<StreamBatch>, partitions: u32) -> (Output, CountersSnapshot) {
    let key = [named(col("k"), "k")];
    let (mut operator, counters) = aggregate(shape.window(), &key, calls(), shape.grace, partitions);
    let output = run(&mut operator, &counters, batches, partitions);
    assert_eq!(operator.state_bytes(), 0, "nothing is kept after the end");
    (output, counters.snapshot())
}

fn in_batches(shape: &Shape, rows: &[Row], size: usize) -> Vec<StreamBatch> {
    let mut feed = Feed::new(shape.delay, 1);
    rows.chunks(size).map(|rows| feed.batch(0, rows)).collect()
}

proptest! {
    #[test]
    fn windows_count_what_the_oracle_counts_in_batches_of_any_size(shape in shapes(), rows in rows(200)) {
        let mut oracle = Oracle::default();
        oracle.count(&shape, &rows);
        let mut bounds = Vec::new();
        for size in [1, 7, 8192] {
            let (output, counted) = tell(&shape, in_batches(&shape, &rows, size), 1);
            prop_assert_eq!(sorted_lines(&output.rows), oracle.lines(&shape));
            oracle.check(counted);
            let marks = |batch: &StreamBatch| batch.event_times().iter().copied().zip(batch.watermarks().iter().copied()).collect::<Vec<_>>();
            bounds.push(output.rows.iter().flat_map(marks).collect::<Vec<_>>());
        }
        prop_assert!(bounds.windows(2).all(|pair| pair[0] == pair[1]), "event times and watermarks depend on batches");
        prop_assert!(bounds[0].is_sorted());
    }

    #[test]
    fn results_do_not_depend_on_how_partitions_interleave(
        shape in shapes(), left in rows(80), right in rows(80), turns in vec(any::<bool>(), 160),
    ) {
        let mut oracle = Oracle::default();
        oracle.count(&shape, &left);
        oracle.count(&shape, &right);
        let mut feed = Feed::new(shape.delay, 2);
        let mut pieces = [left.chunks(3), right.chunks(3)];
        let mut batches = Vec::new();
        for turn in turns {
            let partition = usize::from(turn);
            if let Some(rows) = pieces[partition].next() {
                batches.push(feed.batch(partition, rows));
            }
        }
        for (partition, pieces) in pieces.into_iter().enumerate() {
            batches.extend(pieces.map(|rows| feed.batch(partition, rows)));
        }
        let (output, counted) = tell(&shape, batches, 2);
        prop_assert_eq!(sorted_lines(&output.rows), oracle.lines(&shape));
        oracle.check(counted);
    }

    #[test]
    fn order_within_the_delay_changes_nothing(
        shape in shapes(), mut rows in rows(200), jitter in vec(0i64..30, 200), size in 1usize..20,
    ) {
        let mut oracle = Oracle::default();
        rows.sort_by_key(|row| row.0);
        oracle.count(&shape, &rows);
        let mut disordered: Vec<_> = rows.iter().zip(jitter).collect();
        disordered.sort_by_key(|((time, ..), jitter)| time + jitter.min(&shape.delay));
        let disordered: Vec<Row> = disordered.into_iter().map(|(row, _)| *row).collect();
        let (output, counted) = tell(&shape, in_batches(&shape, &disordered, size), 1);
        prop_assert_eq!(counted.late + counted.late_assignments, 0);
        prop_assert_eq!(sorted_lines(&output.rows), oracle.lines(&shape));
    }

    #[test]
    fn updates_lead_to_what_is_told_at_the_close(
        shape in shapes(), rows in rows(120), steps in vec(0u8..5, 60), size in 1usize..12,
    ) {
        let key = [named(col("k"), "k")];
        let (mut operator, _) = aggregate(shape.window(), &key, calls(), shape.grace, 1);
        operator.operator().track_updates(true);
        let mut output = Output::default();
        let mut shown: BTreeMap<String, String> = BTreeMap::new();
        let mut steps = steps.into_iter().cycle();
        let split = |line: &str| {
            let cells: Vec<&str> = line.splitn(4, '|').collect();
            (cells[..3].join("|"), cells[3].to_owned())
        };
        for batch in in_batches(&shape, &rows, size) {
            operator.process(batch, &mut output).unwrap();
            match steps.next().unwrap() {
                0 | 1 => {
                    operator.tick(&mut output).unwrap();
                    shown.extend(lines(&std::mem::take(&mut output.updates)).iter().map(|line| split(line)));
                    for line in lines(&operator.snapshot().unwrap()) {
                        let (key, value) = split(&line);
                        prop_assert_eq!(shown.get(&key), Some(&value), "of {}", key);
                    }
                    let mut again = Output::default();
                    operator.tick(&mut again).unwrap();
                    prop_assert!(again.updates.is_empty(), "nothing has changed since");
                }
                2 => drop(operator.snapshot().unwrap()),
                _ => {}
            }
        }
        operator.end_partition(0, &mut output).unwrap();
        shown.extend(lines(&output.updates).iter().map(|line| split(line)));
        let mut oracle = Oracle::default();
        oracle.count(&shape, &rows);
        prop_assert_eq!(sorted_lines(&output.rows), oracle.lines(&shape));
        let mut shown: Vec<String> = shown.iter().map(|(key, value)| format!("{key}|{value}")).collect();
        shown.sort();
        prop_assert_eq!(shown, oracle.lines(&shape));
    }

    #[test]
    fn no_event_time_overflows(
        times in vec(prop_oneof![any::<i64>(), Just(i64::MAX), Just(i64::MIN), -9i64..9], 1..40),
        shape in shapes(),
    ) {
        let (mut operator, counters) = aggregate(shape.window(), &[], calls(), shape.grace, 1);
        let rows: Vec<Row> = times.iter().map(|time| (*time, None, Some(1))).collect();
        run(&mut operator, &counters, in_batches(&shape, &rows, 5), 1);
        prop_assert_eq!(counters.snapshot().unaccounted(), 0);
    }

    #[test]
    fn two_chained_aggregates_equal_one(
        mut rows in rows(150), size in 1i64..8, times in 1i64..5, delay in 0i64..9, batch in 1usize..20,
    ) {
        // In order, so that no row is late for either.
        rows.sort_by_key(|row| row.0);
        let shape = Shape { size, slide: size, offset: 0, grace: 0, delay };
        let key = [named(col("k"), "k")];
        let (mut inner, counters) = aggregate(shape.window(), &key, vec![sum(col("v"))], 0, 1);
        let told = run(&mut inner, &counters, in_batches(&shape, &rows, batch), 1);
        let (mut outer, counters) = aggregate_over(&inner, hop(size * times, size * times, 0), &key, vec![sum(col("a0"))]);
        let chained = run(&mut outer, &counters, told.rows, 1);
        let (mut direct, direct_counters) = aggregate(hop(size * times, size * times, 0), &key, vec![sum(col("v"))], 0, 1);
        let directly = run(&mut direct, &direct_counters, in_batches(&shape, &rows, batch), 1);
        prop_assert_eq!(counters.snapshot().late, 0);
        prop_assert_eq!(sorted_lines(&chained.rows), sorted_lines(&directly.rows));
    }
}
