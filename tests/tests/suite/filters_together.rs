//! Live queries that filter one stream share a task, and nobody can tell: each gets its rows, counts what it was shown,
//! and tells how far it is.

use std::time::{Duration, Instant};

use squilla_engine::{EngineConfig, JobInfo, Policy, SubscribeOptions, Subscription, SubscriptionEvent};
use squilla_tests::case::replay::{Feeder, deliveries};
use squilla_tests::lab::Lab;

use crate::sharing::{lab, lab_of, rows};

const ROWS: i64 = 2_000;
const BATCH_ROWS: usize = 128;
/// How long something may take that happens at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// Feeds some of the bids, ten milliseconds apart: of auction `row % 7`, at price `row`.
async fn feed(lab: &Lab, feeders: &mut [Feeder], rows: std::ops::Range<i64>) {
    let schema = lab.query("SELECT auction, price, ts FROM bids").plan.schema().clone();
    let line = |row: i64| format!("{}, {row}, 00:00:{:02}.{:02}0", row % 7, row / 100, row % 100);
    let lines: Vec<String> = rows.map(line).collect();
    for delivery in deliveries(&schema, &lines, BATCH_ROWS).expect("the rows fit") {
        feeders[0].rows(delivery).await;
    }
}

async fn subscribe(lab: &Lab, sql: &str) -> Subscription {
    lab.engine.subscribe(&lab.query(sql), SubscribeOptions::default()).await.expect("it starts")
}

/// Waits until the jobs are as wished.
async fn until(lab: &Lab, what: &str, wished: impl Fn(&[JobInfo]) -> bool) {
    let started = Instant::now();
    while !wished(&lab.engine.jobs()) {
        assert!(started.elapsed() < PATIENCE, "{what}: {:#?}", lab.engine.jobs());
        tokio::task::yield_now().await;
    }
}

fn prices(wanted: impl Fn(i64) -> bool) -> Vec<String> {
    (0..ROWS).filter(|row| wanted(*row)).map(|row| row.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_hundreds_gets_its_rows_and_counts_the_others() {
    let (lab, mut feeders) = lab().await;
    let mut readers = Vec::new();
    for number in 0..50_i64 {
        let price = number * 31;
        let value = subscribe(&lab, &format!("SELECT price FROM bids WHERE price = {price}")).await;
        readers.push((value, prices(|row| row == price)));
        let range = format!("SELECT price FROM bids WHERE price > {price} AND price <= {price} + 10");
        readers.push((subscribe(&lab, &range).await, prices(|row| row > price && row <= price + 10)));
        let both = format!("SELECT price FROM bids WHERE auction = {} AND price >= {price}", number % 7);
        readers.push((subscribe(&lab, &both).await, prices(|row| row % 7 == number % 7 && row >= price)));
        let list = format!("SELECT price FROM bids WHERE price IN ({price}, {}, -1) AND auction <> 3", price + 1);
        let listed = prices(|row| (row == price || row == price + 1) && row % 7 != 3);
        readers.push((subscribe(&lab, &list).await, listed));
    }
    feed(&lab, &mut feeders, 0..ROWS).await;
    let at_end = |job: &JobInfo| job.counters.rows_in == ROWS as u64 && job.counters.unaccounted() == 0;
    until(&lab, "all are shown all, whether they get rows or not", |jobs| jobs.iter().all(at_end)).await;
    let watermark = lab.engine.streams()[0].watermark;
    until(&lab, "and told the watermark", |jobs| jobs.iter().all(|job| job.watermark == watermark)).await;
    feeders[0].end().await;
    for (mut reader, expected) in readers {
        let id = reader.jobs().last().map(|job| job.id.clone());
        assert_eq!(rows(&mut reader).await, expected);
        let jobs = lab.engine.jobs();
        let job = jobs.iter().find(|job| Some(&job.id) == id.as_ref()).expect("it is held");
        let counted = &job.counters;
        let (passed, filtered) = (expected.len() as u64, ROWS as u64 - expected.len() as u64);
        assert_eq!((counted.passed, counted.rows_out, counted.filtered), (passed, passed, filtered), "{job:#?}");
    }
    until(&lab, "all have ended", |jobs| jobs.iter().all(|job| job.status == "ended" || job.kind == "source")).await;
    lab.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_on_which_a_column_fails_are_set_aside_for_that_query_alone() {
    let (lab, mut feeders) = lab().await;
    let mut failing = subscribe(&lab, "SELECT 100 / (price % 5) AS share FROM bids WHERE auction = 3").await;
    let mut plain = subscribe(&lab, "SELECT price FROM bids WHERE auction = 3").await;
    feed(&lab, &mut feeders, 0..ROWS).await;
    feeders[0].end().await;
    let (shares, prices) = (rows(&mut failing).await, rows(&mut plain).await);
    let zero = (0..ROWS).filter(|row| row % 7 == 3 && row % 5 == 0).count();
    assert_eq!(shares.len() + zero, prices.len());
    let jobs = lab.engine.jobs();
    let failed: u64 = jobs.iter().map(|job| job.counters.failed).sum();
    assert_eq!(failed, zero as u64, "{jobs:#?}");
    assert!(jobs.iter().all(|job| job.counters.unaccounted() == 0), "{jobs:#?}");
    lab.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn those_that_come_amid_rows_get_what_comes_then_and_those_that_go_are_not_missed() {
    let (lab, mut feeders) = lab().await;
    let mut first = subscribe(&lab, "SELECT price FROM bids WHERE auction = 1").await;
    let gone = subscribe(&lab, "SELECT price FROM bids WHERE auction = 2").await;
    feed(&lab, &mut feeders, 0..1_000).await;
    until(&lab, "the first half is read", |jobs| jobs.iter().all(|job| job.counters.rows_in == 1_000)).await;
    drop(gone);
    let mut second = subscribe(&lab, "SELECT price FROM bids WHERE auction = 1 AND price >= 0").await;
    feed(&lab, &mut feeders, 1_000..ROWS).await;
    feeders[0].end().await;
    assert_eq!(rows(&mut first).await, prices(|row| row % 7 == 1));
    assert_eq!(rows(&mut second).await, prices(|row| row % 7 == 1 && row >= 1_000));
    let jobs = lab.engine.jobs();
    let late = jobs.iter().find(|job| job.counters.rows_in == 1_000).expect("the one that came amid them");
    assert_eq!(late.counters.unaccounted(), 0, "{late:#?}");
    let mut after = subscribe(&lab, "SELECT price FROM bids WHERE auction = 5").await;
    assert!(rows(&mut after).await.is_empty(), "all had come");
    lab.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_windows_come_to_read_goes_on_alone_and_loses_nothing() {
    let (lab, mut feeders) = lab().await;
    let mut plain = subscribe(&lab, "SELECT * FROM bids WHERE auction = 4").await;
    feed(&lab, &mut feeders, 0..700).await;
    let windowed = "SELECT window_start, count(*) AS n FROM bids WHERE auction = 4 GROUP BY tumble('5s')";
    let mut windowed = subscribe(&lab, windowed).await;
    feed(&lab, &mut feeders, 700..ROWS).await;
    // The last window stays open: no later row has come.
    let mut closed = 0;
    while closed < 2 {
        if let SubscriptionEvent::Rows { batch, .. } = windowed.next().await {
            closed += batch.rows.num_rows();
        }
    }
    feeders[0].end().await;
    assert_eq!(rows(&mut plain).await.len(), prices(|row| row % 7 == 4).len());
    rows(&mut windowed).await;
    let jobs = lab.engine.jobs();
    let filters: Vec<_> = jobs.iter().filter(|job| job.kind == "filter").collect();
    assert_eq!(filters.len(), 1, "it is shared: {jobs:#?}");
    assert_eq!((filters[0].counters.rows_in, filters[0].counters.unaccounted()), (ROWS as u64, 0), "{jobs:#?}");
    lab.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_lossless_engine_a_slow_reader_holds_up_nobody_else_and_gets_all_rows() {
    let (lab, mut feeders) = lab_of(EngineConfig { lossless: true, ..EngineConfig::default() }).await;
    let mut readers = Vec::new();
    for auction in 0..7 {
        let query = lab.query(&format!("SELECT repeat('x', 12000) AS big, price FROM bids WHERE auction = {auction}"));
        let options = SubscribeOptions { policy: Some(Policy::Block), ..SubscribeOptions::default() };
        readers.push(lab.engine.subscribe(&query, options).await.expect("it starts"));
    }
    lab.engine.start_sources();
    let mut slow = readers.remove(0);
    let read = |mut reader: Subscription| tokio::spawn(async move { rows(&mut reader).await.len() });
    let readers: Vec<_> = readers.into_iter().map(read).collect();
    for _ in 0..3 {
        feed(&lab, &mut feeders, 0..ROWS).await;
    }
    feeders[0].end().await;
    for (auction, reader) in (1..).zip(readers) {
        assert_eq!(reader.await.expect("a reader does not panic"), 3 * prices(|row| row % 7 == auction).len());
    }
    // More than its output may hold has come by now.
    assert_eq!(rows(&mut slow).await.len(), 3 * prices(|row| row % 7 == 0).len());
    assert!(lab.engine.jobs().iter().all(|job| job.counters.dropped == 0), "{:#?}", lab.engine.jobs());
    lab.engine.shutdown().await;
}
