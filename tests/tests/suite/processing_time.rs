//! Processing time, and where queries start: what is told depends on the clock and on what was there before.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use squilla_engine::{Clock, EngineConfig, EventTime, ManualClock, SubscribeOptions, Subscription, SubscriptionEvent};
use squilla_tests::case::replay::{Feeder, Live, deliveries};
use squilla_tests::case::{parse_time, render_value};
use squilla_tests::lab::Lab;

const PER_TEN_SECONDS: &str = "SELECT window_start, count(*) AS n FROM events GROUP BY tumble(PROCTIME(), '10s')";

struct Bench {
    lab: Lab,
    clock: Arc<ManualClock>,
    schema: SchemaRef,
    feeder: Feeder,
    fed: u64,
}

fn moment(text: &str) -> EventTime {
    EventTime(parse_time(text).expect("a time"))
}

/// A live source whose watermark follows at once.
async fn bench() -> Bench {
    let clock = Arc::new(ManualClock::new(moment("00:00:00")));
    let lab = Lab::new(EngineConfig::default(), clock.clone()).expect("an engine starts");
    let mut fed = None;
    let create = "CREATE SOURCE events (id BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'replay')";
    let mut connect = |_: &str, schema: &SchemaRef| -> Result<Arc<dyn squilla_engine::Connector>, String> {
        let (live, mut feeders) = Live::new(1);
        fed = Some((schema.clone(), feeders.remove(0)));
        Ok(Arc::new(live))
    };
    lab.execute(create, &mut connect).await.expect("the source is created");
    let (schema, feeder) = fed.expect("it was connected");
    Bench { lab, clock, schema, feeder, fed: 0 }
}

impl Bench {
    /// Feeds rows, a batch each, and waits until the source's stream holds them.
    async fn feed(&mut self, lines: &[&str]) {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        for delivery in deliveries(&self.schema, &lines, 1).expect("the rows fit") {
            self.feeder.rows(delivery).await;
            self.fed += 1;
        }
        let held = || self.lab.engine.streams()[0].rows;
        while held() < self.fed {
            tokio::task::yield_now().await;
        }
    }

    /// Moves the clock, and polls the source, which has nothing.
    async fn clock(&mut self, time: &str) {
        self.clock.set(moment(time));
        for _ in 0..8 {
            self.feeder.empty().await;
            self.feeder.handled().await;
        }
    }

    async fn subscribe(&self, sql: &str) -> Subscription {
        let asked = self.lab.query(sql);
        self.lab.engine.subscribe(&asked, SubscribeOptions::default()).await.expect("it runs")
    }
}

/// The next `count` rows.
async fn rows(subscription: &mut Subscription, count: usize) -> Vec<String> {
    let mut rows = Vec::new();
    while rows.len() < count {
        match subscription.next().await {
            SubscriptionEvent::Rows { batch, skip, .. } => {
                let visible = batch.visible();
                rows.extend((skip..visible.num_rows()).map(|row| {
                    let values = visible.columns().iter().map(|column| render_value(column, row));
                    values.collect::<Vec<_>>().join(", ")
                }));
            }
            SubscriptionEvent::Progress(_) => {}
            other => panic!("rows were expected, not {other:?}"),
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_close_by_the_clock_when_no_row_comes() {
    let mut bench = bench().await;
    let mut subscription = bench.subscribe(PER_TEN_SECONDS).await;
    bench.feed(&["1, 00:00:50", "2, 00:00:01"]).await;
    bench.clock("00:00:10.3").await;
    assert_eq!(rows(&mut subscription, 1).await, ["00:00:00, 2"]);
    bench.feed(&["3, 00:00:50"]).await;
    bench.clock("00:00:31").await;
    assert_eq!(rows(&mut subscription, 1).await, ["00:00:10, 1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_query_begins_with_the_window_that_is_open_by_the_clock() {
    let mut bench = bench().await;
    bench.feed(&["1, 00:00:50"]).await;
    bench.clock("00:00:12").await;
    bench.feed(&["2, 00:00:01"]).await;
    let mut subscription = bench.subscribe(PER_TEN_SECONDS).await;
    bench.feed(&["3, 00:00:01"]).await;
    bench.clock("00:00:21").await;
    assert_eq!(rows(&mut subscription, 1).await, ["00:00:10, 2"]);
    assert_eq!(subscription.info().complete_from, None);
    assert_eq!(bench.clock.now(), moment("00:00:21"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn since_an_interval_what_was_kept_comes_first_and_then_what_comes() {
    let mut bench = bench().await;
    bench.feed(&["1, 00:00:01", "2, 00:00:50"]).await;
    bench.clock("00:01:00").await;
    bench.feed(&["3, 00:00:55"]).await;
    for since in ["INTERVAL '20 seconds'", "'20s'", "TIMESTAMP '2026-01-01T00:00:40Z'"] {
        let mut subscription = bench.subscribe(&format!("SELECT id FROM events SINCE {since} WHERE id > 0")).await;
        assert_eq!(rows(&mut subscription, 2).await, ["2", "3"], "{since}");
    }
    let mut all = bench.subscribe("SELECT id FROM events SINCE EARLIEST").await;
    let mut none = bench.subscribe("SELECT id FROM events SINCE LATEST").await;
    let mut some = bench.subscribe("SELECT id FROM events SINCE INTERVAL '20' SECOND").await;
    bench.feed(&["4, 00:00:56"]).await;
    assert_eq!(rows(&mut all, 4).await, ["1", "2", "3", "4"]);
    assert_eq!(rows(&mut some, 3).await, ["2", "3", "4"]);
    assert_eq!(rows(&mut none, 1).await, ["4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_that_began_before_the_start_are_told_and_marked() {
    let mut bench = bench().await;
    bench.feed(&["1, 00:00:01", "2, 00:00:05", "3, 00:00:06", "4, 00:00:15"]).await;
    bench.clock("00:00:20").await;
    let sql = "SELECT window_start, count(*) AS n FROM events SINCE INTERVAL '15 seconds' GROUP BY tumble('10s')";
    let mut subscription = bench.subscribe(sql).await;
    assert_eq!(subscription.info().complete_from, Some(moment("00:00:05")));
    bench.feed(&["5, 00:00:31"]).await;
    assert_eq!(rows(&mut subscription, 2).await, ["00:00:00, 2", "00:00:10, 1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_is_told_at_the_pace_at_which_it_came() {
    let mut bench = bench().await;
    bench.feed(&["1, 00:00:01"]).await;
    for (at, row) in [("00:00:10", "2, 00:00:02"), ("00:00:30", "3, 00:00:03"), ("00:00:30", "4, 00:00:04")] {
        bench.clock.set(moment(at));
        bench.feed(&[row]).await;
    }
    bench.clock.set(moment("00:01:00"));
    for sql in ["SELECT id FROM events SINCE EARLIEST", "SELECT id FROM events SINCE EARLIEST WHERE id > 0"] {
        let asked = bench.lab.query(sql);
        let options = SubscribeOptions { speed: Some(2.0), ..SubscribeOptions::default() };
        let mut subscription = bench.lab.engine.subscribe(&asked, options).await.expect("it runs");
        let began = bench.clock.now();
        assert_eq!(rows(&mut subscription, 1).await, ["1"]);
        // Ten seconds at twice the speed.
        for (after_ms, wanted) in [(4_999, None), (5_000, Some("2")), (14_999, None), (15_000, Some("3"))] {
            bench.clock.set(began.plus(after_ms * 1_000_000));
            match wanted {
                Some(row) => assert_eq!(rows(&mut subscription, 1).await, [row], "{sql}"),
                None => while_nothing(&mut subscription).await,
            }
        }
        assert_eq!(rows(&mut subscription, 1).await, ["4"], "what came at once comes at once");
    }
    let changing = bench.lab.query("SELECT count(*) AS n FROM events");
    let options = SubscribeOptions { speed: Some(1.0), ..SubscribeOptions::default() };
    assert!(bench.lab.engine.subscribe(&changing, options).await.is_err(), "what changes has no pace");
}

/// Takes what is there, which must be no row.
async fn while_nothing(subscription: &mut Subscription) {
    for _ in 0..100 {
        match subscription.try_next() {
            None | Some(SubscriptionEvent::Progress(_)) => tokio::task::yield_now().await,
            Some(other) => panic!("nothing was expected yet, not {other:?}"),
        }
    }
}
