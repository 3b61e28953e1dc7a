//! Equal work is done once: what ten clients ask alike runs as one job, and the counts show it.

use std::collections::BTreeMap;
use std::sync::Arc;

use squilla_engine::{
    EngineConfig, EventTime, JobInfo, ManualClock, SubscribeOptions, Subscription, SubscriptionEvent,
};
use squilla_tests::case::replay::{Feeder, Live, deliveries};
use squilla_tests::case::{parse_time, render_value};
use squilla_tests::lab::Lab;

const CLIENTS: usize = 10;
const ROWS: u64 = 2_000;
const BATCH_ROWS: usize = 128;
const BIDS: &str = "CREATE SOURCE bids (auction BIGINT, price BIGINT, ts TIMESTAMP) WITH (connector = 'replay')";

/// A lab with a live source `bids`, and what feeds it.
pub(crate) async fn lab() -> (Lab, Vec<Feeder>) {
    lab_of(EngineConfig::default()).await
}

pub(crate) async fn lab_of(config: EngineConfig) -> (Lab, Vec<Feeder>) {
    let now = EventTime(parse_time("00:00:00").expect("a time"));
    let lab = Lab::new(config, Arc::new(ManualClock::new(now))).expect("an engine starts");
    let mut feeders = Vec::new();
    lab.execute(BIDS, &mut |_, _| {
        let (live, fed) = Live::new(1);
        feeders = fed;
        Ok(Arc::new(live))
    })
    .await
    .expect("the source is created");
    (lab, feeders)
}

/// Feeds [`ROWS`] bids, ten milliseconds apart, and ends.
async fn feed(lab: &Lab, feeders: &mut [Feeder]) {
    let schema = lab.query("SELECT auction, price, ts FROM bids").plan.schema().clone();
    let lines: Vec<String> =
        (0..ROWS).map(|row| format!("{}, {row}, 00:00:{:02}.{:02}0", row % 7, row / 100, row % 100)).collect();
    for delivery in deliveries(&schema, &lines, BATCH_ROWS).expect("the rows fit") {
        feeders[0].rows(delivery).await;
    }
    feeders[0].end().await;
}

/// All rows until the end.
pub(crate) async fn rows(subscription: &mut Subscription) -> Vec<String> {
    let mut rows = Vec::new();
    loop {
        match subscription.next().await {
            SubscriptionEvent::Rows { batch, skip, .. } => {
                let visible = batch.visible();
                rows.extend((skip..visible.num_rows()).map(|row| {
                    let values: Vec<String> =
                        visible.columns().iter().map(|column| render_value(column, row)).collect();
                    values.join(", ")
                }));
            }
            SubscriptionEvent::Progress(_) => {}
            SubscriptionEvent::Complete(_) => return rows,
            other => panic!("neither rows nor the end: {other:?}"),
        }
    }
}

fn by_kind(jobs: &[JobInfo]) -> BTreeMap<&str, Vec<&JobInfo>> {
    let mut kinds: BTreeMap<&str, Vec<&JobInfo>> = BTreeMap::new();
    for job in jobs {
        kinds.entry(job.kind.as_str()).or_default().push(job);
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_clients_with_the_same_windowed_query_share_all_its_jobs() {
    let (lab, mut feeders) = lab().await;
    let query = lab.query("SELECT window_start, auction, count(*) AS n FROM bids GROUP BY auction, tumble('5s')");
    let mut subscriptions: Vec<Subscription> = Vec::new();
    for _ in 0..CLIENTS {
        subscriptions.push(lab.engine.subscribe(&query, SubscribeOptions::default()).await.expect("it starts"));
    }
    let others: Vec<usize> = subscriptions.iter().map(|subscription| subscription.info().shared_with).collect();
    assert!(others.is_sorted_by(|a, b| a < b), "each sees those before it: {others:?}");
    let channels: Vec<u64> = subscriptions.iter().map(|subscription| subscription.info().channel).collect();
    assert!(channels.iter().all(|channel| *channel == channels[0]), "one frame serves all: {channels:?}");

    feed(&lab, &mut feeders).await;
    let first = rows(&mut subscriptions[0]).await;
    assert_eq!(first.len(), 4 * 7, "four windows of seven auctions");
    for subscription in &mut subscriptions[1..] {
        assert_eq!(rows(subscription).await, first);
    }
    let jobs = lab.engine.jobs();
    let kinds = by_kind(&jobs);
    assert_eq!(kinds["source"].len(), 1, "{jobs:#?}");
    assert_eq!(kinds["aggregate"].len(), 1, "{jobs:#?}");
    for job in &jobs {
        assert!(job.counters.rows_in <= ROWS, "each row is evaluated once: {job:#?}");
    }
    assert_eq!(kinds["aggregate"][0].counters.absorbed, ROWS);
    lab.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_want_more_or_fewer_rows_share_one_job() {
    let (lab, mut feeders) = lab().await;
    let all = "SELECT auction, price + 1 AS next FROM bids WHERE auction % 7 = 3";
    let mut subscriptions: Vec<Subscription> = Vec::new();
    for limit in ["LIMIT 10", "LIMIT 200", "LIMIT 0", "", "LIMIT 10", "FETCH FIRST 9999 ROWS ONLY"] {
        let query = lab.query(&format!("{all} {limit}"));
        subscriptions.push(lab.engine.subscribe(&query, SubscribeOptions::default()).await.expect("it starts"));
    }
    feed(&lab, &mut feeders).await;
    let told = futures::future::join_all(subscriptions.iter_mut().map(rows)).await;
    let counts: Vec<usize> = told.iter().map(Vec::len).collect();
    let passed = (0..ROWS).filter(|row| row % 7 == 3).count();
    assert_eq!(counts, [10, 200, 0, passed, 10, passed]);
    assert!(told.iter().all(|rows| told[3].starts_with(rows)), "the first ones");
    let jobs = lab.engine.jobs();
    let kinds = by_kind(&jobs);
    assert!(kinds.values().all(|jobs| jobs.len() == 1), "one of each kind: {jobs:#?}");
    assert!(kinds.contains_key("filter"), "{jobs:#?}");
    assert!(jobs.iter().all(|job| job.counters.unaccounted() == 0 && job.counters.dropped == 0), "{jobs:#?}");
    lab.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_queries_with_the_same_filter_and_different_aggregates_share_the_filter() {
    let aggregates = [
        "count(*)",
        "sum(price)",
        "min(price)",
        "max(price)",
        "avg(price)",
        "count(DISTINCT auction)",
        "sum(auction)",
        "max(auction)",
        "stddev_pop(price)",
        "min(price) + max(auction)",
    ];
    assert_eq!(aggregates.len(), CLIENTS);
    let (lab, mut feeders) = lab().await;
    let mut subscriptions = Vec::new();
    for aggregate in aggregates {
        let query = lab.query(&format!(
            "SELECT window_start, {aggregate} AS a FROM bids WHERE auction % 7 IN (1, 3) GROUP BY tumble('5s')"
        ));
        subscriptions.push(lab.engine.subscribe(&query, SubscribeOptions::default()).await.expect("it starts"));
    }
    feed(&lab, &mut feeders).await;
    for subscription in &mut subscriptions {
        assert_eq!(rows(subscription).await.len(), 4, "a row a window");
    }
    let jobs = lab.engine.jobs();
    let kinds = by_kind(&jobs);
    let kept = (0..ROWS).filter(|row| [1, 3].contains(&(row % 7))).count() as u64;
    assert_eq!(kinds["source"].len(), 1, "{jobs:#?}");
    assert_eq!(kinds["filter"].len(), 1, "the filter is shared: {jobs:#?}");
    assert_eq!(kinds["aggregate"].len(), CLIENTS, "{jobs:#?}");
    let filter = kinds["filter"][0];
    assert_eq!((filter.counters.rows_in, filter.counters.filtered), (ROWS, ROWS - kept), "{filter:#?}");
    assert!(filter.users.len() >= CLIENTS, "{filter:#?}");
    for aggregate in &kinds["aggregate"] {
        assert_eq!(aggregate.counters.rows_in, kept, "{aggregate:#?}");
    }
    lab.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_chance_decides_is_not_shared_and_what_the_clock_says_is() {
    let (lab, mut feeders) = lab().await;
    let mut subscriptions = Vec::new();
    for condition in ["random() < 0.5", "price < 10 + 5 * random()", "now() > ts - INTERVAL '1' DAY"] {
        let query = lab.query(&format!("SELECT auction FROM bids WHERE {condition}"));
        for _ in 0..2 {
            subscriptions.push(lab.engine.subscribe(&query, SubscribeOptions::default()).await.expect("it starts"));
        }
    }
    feed(&lab, &mut feeders).await;
    for subscription in &mut subscriptions {
        rows(subscription).await;
    }
    let jobs = lab.engine.jobs();
    let mut by_text: BTreeMap<&str, usize> = BTreeMap::new();
    for job in jobs.iter().filter(|job| job.description.contains(" where ")) {
        *by_text.entry(job.description.as_str()).or_default() += 1;
    }
    let mut counts: Vec<usize> = by_text.values().copied().collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 2, 2], "{by_text:#?}");
    lab.engine.shutdown().await;
}
