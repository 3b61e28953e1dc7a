//! An aggregate with helpers tells what it tells without.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use datafusion_expr::{Expr, ExprFunctionExt, col};
use datafusion_functions_aggregate::expr_fn::{array_agg, avg, count, count_distinct, max, sum};
use squilla_query::WindowSpec;

use super::aggregate::Aggregate;
use super::crew::Crew;
use super::testing::{Feed, Row, hop, named, sorted_lines, spec, tumble};
use super::{Operator, Output, State};
use crate::batch::StreamBatch;
use crate::counters::{Counters, CountersSnapshot};

const BATCH_ROWS: usize = 8_192;
const PARTITIONS: u32 = 2;

/// Batches as they come, in the groups in which they lie ready.
fn groups() -> Vec<Vec<StreamBatch>> {
    let mut feed = Feed::new(50, 2);
    let mut seed = 7u64;
    let mut draw = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((seed >> 33) % below).expect("it is small")
    };
    let mut clock = [0i64; 2];
    let sizes = [1, 6, 5, 1, 1, 6];
    let mut groups = Vec::new();
    for (at, size) in sizes.into_iter().enumerate() {
        let mut group: Vec<StreamBatch> = Vec::new();
        for place in 0..size {
            let partition = (at + place) % 2;
            let rows: Vec<Row> = (0..BATCH_ROWS)
                .map(|_| {
                    clock[partition] += i64::from(draw(40) == 0);
                    // Some are late for some of their windows, few for all.
                    let behind = if draw(100) == 0 { draw(400) } else { draw(30) };
                    let (key, value) = (draw(1_000), draw(500));
                    (clock[partition] - behind, (key > 0).then_some(key), (value > 0).then_some(value))
                })
                .collect();
            group.push(feed.batch(partition, &rows));
        }
        if at == 2 {
            // Rows that follow may be late for what was told meanwhile.
            group.push(feed.idle(1));
        }
        groups.push(group);
    }
    groups
}

fn calls() -> Vec<Expr> {
    let few = count(col("v")).filter(col("b")).build().expect("a filter");
    // A sum of fractions and a list depend on the order of rows.
    vec![
        few,
        sum(col("f") * datafusion_expr::lit(0.1)),
        avg(col("f")),
        max(col("s")),
        count_distinct(col("s")),
        array_agg(col("v")),
    ]
}

fn operator(window: WindowSpec, crew: Option<&Arc<Crew>>) -> (Aggregate, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let keys = [named(col("k"), "k"), named(col("b"), "b")];
    let made = Aggregate::new(spec(window, &keys, calls(), 20, PARTITIONS), Arc::clone(&counters));
    (made.expect("an aggregate").with_crew(crew.cloned()), counters)
}

/// What an aggregate tells; `renewed`: from the middle on another goes on with its state, without helpers.
fn tell(window: WindowSpec, crew: Option<&Arc<Crew>>, renewed: bool) -> (Vec<String>, CountersSnapshot) {
    let (mut operator, counters) = operator(window, crew);
    let mut output = Output::default();
    let groups = groups();
    let middle = groups.len() - 1;
    for (at, group) in groups.into_iter().enumerate() {
        if renewed && at == middle {
            let mut state = State::default();
            operator.save(&mut state).expect("it saves");
            let made = self::operator(window, None);
            operator = made.0;
            operator.restore(&mut state).expect("it restores");
        }
        let rows: usize = group.iter().map(|batch| batch.rows.num_rows()).sum();
        counters.rows_in.fetch_add(rows as u64, Relaxed);
        operator.process_all(group, &mut output).expect("it takes batches");
    }
    for partition in 0..PARTITIONS {
        operator.end_partition(partition, &mut output).expect("it takes an end");
    }
    assert_eq!(operator.state_bytes(), 0, "nothing is kept after the end");
    let marks: Vec<i64> = output.rows.iter().flat_map(|batch| batch.watermarks().to_vec()).collect();
    assert!(marks.is_sorted() && output.rows.is_sorted_by_key(|batch| batch.watermark), "watermarks ascend");
    (sorted_lines(&output.rows), counters.snapshot())
}

fn compare(window: WindowSpec) {
    let crew = Arc::new(Crew::new(3));
    let (lines, counted) = tell(window, None, false);
    let (shared, shared_counted) = tell(window, Some(&crew), false);
    assert_eq!(shared_counted.unaccounted(), 0, "{shared_counted:?}");
    assert!(shared_counted.late > 0 && shared_counted.late_assignments + shared_counted.late > 0, "some are late");
    assert_eq!(
        (shared_counted.absorbed, shared_counted.late, shared_counted.late_idle, shared_counted.rows_out),
        (counted.absorbed, counted.late, counted.late_idle, counted.rows_out)
    );
    assert_eq!(shared_counted.late_assignments, counted.late_assignments);
    assert!(lines == shared, "the same groups, with the same results");
    let (renewed, _) = tell(window, Some(&crew), true);
    assert!(renewed == lines, "whoever goes on with the state tells the same");
}

#[test]
fn helpers_change_nothing_of_tumbling_windows() {
    compare(tumble(100));
}

#[test]
fn helpers_change_nothing_of_hopping_windows() {
    compare(hop(150, 50, 10));
}

#[test]
fn groups_go_on_dealt_out_when_they_were() {
    let crew = Arc::new(Crew::new(2));
    let (mut operator, _) = operator(tumble(1_000_000), Some(&crew));
    let mut output = Output::default();
    let mut groups = groups().into_iter();
    let mut next = |operator: &mut Aggregate| {
        let group = groups.next().expect("there are more");
        operator.process_all(group, &mut output).expect("it takes batches");
        operator.state_bytes()
    };
    // One by one, at once, and one by one again.
    let measured: Vec<usize> = (0..5).map(|_| next(&mut operator)).collect();
    assert!(measured.is_sorted(), "{measured:?}");
}
