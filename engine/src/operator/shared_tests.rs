//! An aggregate with helpers tells what it tells without.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use datafusion_expr::{Expr, ExprFunctionExt, col};
use datafusion_functions_aggregate::expr_fn::{
    array_agg, avg, count, count_distinct, first_value, last_value, max, sum,
};
use squilla_query::WindowSpec;

use super::aggregate::Aggregate;
use super::crew::Crew;
use super::testing::{Feed, MS, Row, hop, named, sorted_lines, spec, tumble};
use super::{Operator, Output, State};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::counters::{Counters, CountersSnapshot};
use crate::error::EngineError;

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

/// Who helps, and how many rows they let lie in line.
type Help<'a> = Option<(&'a Arc<Crew>, usize)>;

fn operator(window: WindowSpec, calls: Vec<Expr>, help: Help) -> (Aggregate, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let keys = [named(col("k"), "k"), named(col("b"), "b")];
    let made = Aggregate::new(spec(window, &keys, calls, 20, PARTITIONS), Arc::clone(&counters));
    let mut made = made.expect("an aggregate").with_crew(help.map(|(crew, _)| Arc::clone(crew)));
    made.set_ahead_rows(help.map_or(0, |(_, rows)| rows));
    (made, counters)
}

/// What an aggregate tells; `renewed`: from the middle on another goes on with its state, without helpers.
fn tell(window: WindowSpec, calls: &[Expr], help: Help, renewed: bool) -> (Vec<String>, CountersSnapshot) {
    let (mut operator, counters) = operator(window, calls.to_vec(), help);
    let mut output = Output::default();
    let groups = groups();
    let middle = groups.len() - 1;
    for (at, group) in groups.into_iter().enumerate() {
        if renewed && at == middle {
            let mut state = State::default();
            while operator.catch_up(&mut output).expect("it does what it has put off") {}
            operator.save(&mut state).expect("it saves");
            let made = self::operator(window, calls.to_vec(), None);
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

/// With as many rows in line as there are, a few panes', and hardly any, where panes that one helper is at alone are dealt
/// out.
fn compare(window: WindowSpec, calls: &[Expr], helps: &[(usize, usize)]) {
    let (lines, counted) = tell(window, calls, None, false);
    for ((threads, ahead_rows), renewed) in helps.iter().zip([false, true, false]) {
        let crew = Arc::new(Crew::apart(*threads));
        let (shared, shared_counted) = tell(window, calls, Some((&crew, *ahead_rows)), renewed);
        assert!(lines == shared, "the same groups, with the same results");
        if renewed {
            continue;
        }
        assert_eq!(shared_counted.unaccounted(), 0, "{shared_counted:?}");
        assert!(shared_counted.late > 0 && shared_counted.late_assignments + shared_counted.late > 0, "some are late");
        assert_eq!(
            (shared_counted.absorbed, shared_counted.late, shared_counted.late_idle, shared_counted.rows_out),
            (counted.absorbed, counted.late, counted.late_idle, counted.rows_out)
        );
        assert_eq!(shared_counted.late_assignments, counted.late_assignments);
    }
}

/// Threads, and rows in line.
const HELPS: [(usize, usize); 3] = [(2, 1 << 20), (4, 20_000), (3, 1)];

#[test]
fn helpers_change_nothing_of_tumbling_windows() {
    compare(tumble(100), &calls(), &HELPS);
}

#[test]
fn helpers_change_nothing_of_hopping_windows() {
    compare(hop(150, 50, 10), &calls(), &HELPS);
}

#[test]
fn helpers_change_nothing_of_hopping_windows_of_many_panes() {
    // Windows of many panes merge them by how many groups these have, those of a shard: sums of fractions then differ in
    // their last digits.
    let exact = [count(col("v")), max(col("s")), count_distinct(col("s"))];
    compare(hop(80, 10, 0), &exact, &HELPS[..2]);
}

#[test]
fn helpers_change_nothing_of_what_goes_by_the_order_of_rows() {
    let positional = [first_value(col("v"), Vec::new()), last_value(col("v"), Vec::new()), array_agg(col("v"))];
    compare(tumble(100), &positional, &HELPS);
    compare(hop(150, 50, 0), &positional, &HELPS[..1]);
}

#[test]
fn windows_that_nobody_is_at_are_told_at_the_end_though_no_pane_is_lent_any_more() {
    // With a crew of one nothing is done but what the owner waits for.
    let alone = Arc::new(Crew::apart(1));
    let tell = |help: Help| {
        let (mut operator, counters) = operator(tumble(100), calls(), help);
        let mut output = Output::default();
        let mut batches: Vec<StreamBatch> = groups().swap_remove(1);
        let rows: usize = batches.iter().map(|batch| batch.rows.num_rows()).sum();
        counters.rows_in.fetch_add(rows as u64, Relaxed);
        // The last of each partition pass all windows.
        batches.iter_mut().rev().take(2).for_each(|batch| batch.watermark = EventTime(1_000_000 * MS));
        operator.process_all(batches, &mut output).expect("it takes batches");
        let at_once = output.rows.iter().map(|batch| batch.rows.num_rows()).sum::<usize>();
        (0..PARTITIONS).for_each(|partition| operator.end_partition(partition, &mut output).expect("it takes an end"));
        assert_eq!((operator.state_bytes(), counters.snapshot().unaccounted()), (0, 0));
        (sorted_lines(&output.rows), at_once)
    };
    let (lines, _) = tell(None);
    let (lent, at_once) = tell(Some((&alone, usize::MAX)));
    assert_eq!(at_once, 0, "all of it was put off");
    assert!(!lines.is_empty() && lent == lines, "{} and {} lines", lent.len(), lines.len());
}

#[test]
fn what_fails_while_rows_are_read_on_fails_all_the_same() {
    let crew = Arc::new(Crew::apart(2));
    let counters = Arc::new(Counters::default());
    let mut limited = spec(tumble(100), &[named(col("k"), "k")], calls(), 20, PARTITIONS);
    limited.state_limit_bytes = 10_000;
    let mut operator = Aggregate::new(limited, counters).expect("an aggregate").with_crew(Some(crew));
    let mut output = Output::default();
    let told = groups().into_iter().try_for_each(|group| {
        operator.process_all(group, &mut output)?;
        while operator.catch_up(&mut output)? {}
        Ok(())
    });
    assert!(matches!(told, Err(EngineError::StateBudget { .. })), "{told:?}");
}

#[test]
fn state_is_counted_while_helpers_are_at_it() {
    let crew = Arc::new(Crew::apart(2));
    for ahead_rows in [1 << 20, 1] {
        let (mut operator, _) = operator(tumble(1_000_000), calls(), Some((&crew, ahead_rows)));
        let mut output = Output::default();
        let mut groups = groups().into_iter();
        let mut next = |operator: &mut Aggregate| {
            let group = groups.next().expect("there are more");
            operator.process_all(group, &mut output).expect("it takes batches");
            assert!(operator.state_bytes() > 0, "rows in line count");
            while operator.catch_up(&mut output).expect("it does what it has put off") {}
            operator.state_bytes()
        };
        // One by one, at once, and one by one again.
        let measured: Vec<usize> = (0..5).map(|_| next(&mut operator)).collect();
        assert!(measured.iter().all(|bytes| *bytes >= measured[0] && measured[0] > 0), "{measured:?}");
    }
}
