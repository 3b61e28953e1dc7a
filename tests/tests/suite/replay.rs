//! A replay gives what the live run gave: the same rows, whatever was late then, from the log with its watermarks.

use std::sync::Arc;

use squilla_engine::{
    EngineConfig, EventTime, ManualClock, Policy, Start, SubscribeOptions, Subscription, SubscriptionEvent,
};
use squilla_tests::case::replay::{Feeder, Live, deliveries};
use squilla_tests::case::{parse_time, render_value};
use squilla_tests::lab::Lab;
use squilla_tests::random::Random;

const PARTITIONS: usize = 2;
const ROWS: i64 = 1_200;
const BATCH_ROWS: usize = 37;
/// Rows are up to this far behind; the watermark allows for two seconds: some are late.
const DISORDER_MS: i64 = 4_000;
const BIDS: &str = "CREATE SOURCE bids (auction BIGINT, price BIGINT, ts TIMESTAMP,
                    WATERMARK FOR ts AS ts - INTERVAL '2 seconds') WITH (connector = 'replay')";

/// Queries whose rows depend on lateness, on order, or on a job below.
const QUERIES: [&str; 6] = [
    "SELECT auction, price * 2 AS twice, ts FROM bids WHERE price % 3 = 0",
    "SELECT window_start, auction, count(*) AS n, max(price) AS most FROM bids GROUP BY auction, tumble('3s')",
    "SELECT window_start, count(*) AS n, first_value(price) AS first FROM bids GROUP BY hop('1s', '4s')",
    "SELECT window_start, sum(n) AS n FROM (SELECT window_start, window_time, auction, count(*) AS n FROM bids \
     GROUP BY auction, tumble('1s')) GROUP BY tumble('5s')",
    "SELECT auction, price FROM bids WHERE price < 100 UNION ALL SELECT auction, -price FROM bids WHERE price > 900",
    "SELECT window_start, now() AS arrived, count(*) AS n FROM bids GROUP BY now(), tumble('2s')",
];

async fn lab() -> (Lab, Vec<Feeder>) {
    let now = EventTime(parse_time("00:01:00").expect("a time"));
    let lab = Lab::new(EngineConfig::default(), Arc::new(ManualClock::new(now))).expect("an engine starts");
    let mut feeders = Vec::new();
    lab.execute(BIDS, &mut |_, _| {
        let (live, fed) = Live::new(PARTITIONS);
        feeders = fed;
        Ok(Arc::new(live))
    })
    .await
    .expect("the source is created");
    (lab, feeders)
}

/// Feeds all partitions in turn, and ends them.
async fn feed(lab: &Lab, feeders: &mut [Feeder], random: &mut Random) {
    let schema = lab.query("SELECT auction, price, ts FROM bids").plan.schema().clone();
    let mut pieces = Vec::new();
    for _ in feeders.iter() {
        let line = |row: i64| {
            let ms = (row * 25 + DISORDER_MS - random.between(0, DISORDER_MS + 1)).max(0);
            let time = format!("00:00:{:02}.{:03}", ms / 1_000, ms % 1_000);
            format!("{}, {}, {time}", random.below(5), random.below(1_000))
        };
        let lines: Vec<String> = (0..ROWS).map(line).collect();
        pieces.push(deliveries(&schema, &lines, BATCH_ROWS).expect("the rows fit").into_iter());
    }
    loop {
        let mut fed = false;
        for (feeder, piece) in feeders.iter_mut().zip(&mut pieces) {
            if let Some(delivery) = piece.next() {
                feeder.rows(delivery).await;
                fed = true;
            }
        }
        if !fed {
            break;
        }
    }
    for feeder in feeders {
        feeder.end().await;
    }
}

async fn rows(subscription: &mut Subscription) -> Vec<String> {
    let mut rows = Vec::new();
    loop {
        match subscription.next().await {
            SubscriptionEvent::Rows { batch, skip, .. } => {
                let visible = batch.visible();
                rows.extend((skip..visible.num_rows()).map(|row| {
                    let values = visible.columns().iter().map(|column| render_value(column, row));
                    values.collect::<Vec<String>>().join(", ")
                }));
            }
            SubscriptionEvent::Progress(_) => {}
            SubscriptionEvent::Complete(_) => {
                rows.sort();
                return rows;
            }
            other => panic!("neither rows nor the end: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_gives_the_rows_of_the_live_run() {
    let (lab, mut feeders) = lab().await;
    let options = |from| SubscribeOptions { from, policy: Some(Policy::Block), ..SubscribeOptions::default() };
    let mut live = Vec::new();
    for sql in QUERIES {
        live.push(lab.engine.subscribe(&lab.query(sql), options(None)).await.expect("it starts"));
    }
    feed(&lab, &mut feeders, &mut Random::new(11)).await;
    let mut gathered = Vec::new();
    for subscription in &mut live {
        gathered.push(rows(subscription).await);
    }
    let late: u64 = lab.engine.jobs().iter().map(|job| job.counters.late).sum();
    assert!(late > 0, "rows were late in the live run");
    for (sql, gathered) in QUERIES.iter().zip(gathered) {
        let mut replay =
            lab.engine.subscribe(&lab.query(sql), options(Some(Start::Earliest))).await.expect("it starts");
        assert!(!gathered.is_empty(), "{sql}");
        assert_eq!(rows(&mut replay).await, gathered, "{sql}");
    }
    lab.engine.shutdown().await;
}
