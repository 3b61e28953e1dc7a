//! A client that stops reading holds nobody up, and what it missed is told to the row.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use squilla_engine::{
    EngineConfig, EventTime, GapReason, ManualClock, Policy, SubscribeOptions, Subscription, SubscriptionEvent,
};
use squilla_tests::case::parse_time;
use squilla_tests::case::replay::{Feeder, Live, deliveries};
use squilla_tests::lab::Lab;

const ROWS: i64 = 60_000;
const BATCH_ROWS: usize = 500;
/// What a reader may be behind: a small part of all rows.
const LAG_BYTES: u64 = 64 << 10;

async fn lab() -> (Lab, Vec<Feeder>) {
    let now = EventTime(parse_time("00:00:00").expect("a time"));
    let config = EngineConfig { subscription_lag_bytes: LAG_BYTES, ..EngineConfig::default() };
    let lab = Lab::new(config, Arc::new(ManualClock::new(now))).expect("an engine starts");
    let mut feeders = Vec::new();
    lab.execute("CREATE SOURCE events (id BIGINT, ts TIMESTAMP) WITH (connector = 'replay')", &mut |_, _| {
        let (live, fed) = Live::new(1);
        feeders = fed;
        Ok(Arc::new(live))
    })
    .await
    .expect("the source is created");
    (lab, feeders)
}

async fn subscribe(lab: &Lab, policy: Policy) -> Subscription {
    let query = lab.query("SELECT id FROM events WHERE id % 3 <> 0");
    let options = SubscribeOptions { policy: Some(policy), ..SubscribeOptions::default() };
    lab.engine.subscribe(&query, options).await.expect("it starts")
}

async fn feed(lab: &Lab, feeders: &mut [Feeder]) {
    let schema = lab.query("SELECT id, ts FROM events").plan.schema().clone();
    let lines: Vec<String> = (0..ROWS).map(|id| format!("{id}, 00:00:01")).collect();
    for delivery in deliveries(&schema, &lines, BATCH_ROWS).expect("the rows fit") {
        feeders[0].rows(delivery).await;
    }
    feeders[0].handled().await;
    feeders[0].end().await;
}

/// Ids that the filter keeps in a range of ids.
fn kept(ids: Range<i64>) -> u64 {
    ids.filter(|id| id % 3 != 0).count() as u64
}

/// What a subscription got, up to its end.
#[derive(Debug, Default, PartialEq)]
struct Got {
    ids: Vec<i64>,
    /// For each gap: the last id before it, and its rows.
    gaps: Vec<(Option<i64>, Option<u64>)>,
    failed: Option<String>,
}

async fn read(mut subscription: Subscription) -> Got {
    let mut got = Got::default();
    loop {
        match subscription.next().await {
            SubscriptionEvent::Rows { batch, skip, .. } => {
                got.ids.extend(&batch.rows.column(0).as_primitive::<Int64Type>().values()[skip..]);
            }
            SubscriptionEvent::Gap(gap) => {
                assert_eq!(gap.reason, GapReason::Slow);
                got.gaps.push((got.ids.last().copied(), gap.rows));
            }
            SubscriptionEvent::Progress(_) => {}
            SubscriptionEvent::Complete(_) => return got,
            SubscriptionEvent::Failed(error) => {
                got.failed = Some(error.code().to_owned());
                return got;
            }
        }
    }
}

fn all() -> Got {
    Got { ids: (0..ROWS).filter(|id| id % 3 != 0).collect(), ..Got::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_gets_a_gap_that_is_exact_to_the_row() {
    let (lab, mut feeders) = lab().await;
    let slow = subscribe(&lab, Policy::DropOldest).await;
    let fast = tokio::spawn(read(subscribe(&lab, Policy::Block).await));
    feed(&lab, &mut feeders).await;
    assert!(fast.await.expect("the fast reader ends") == all(), "the fast reader gets every row, in order");

    let slow = read(slow).await;
    assert!(!slow.gaps.is_empty(), "{} rows were read without a gap", slow.ids.len());
    let mut missed = 0;
    for (before, rows) in &slow.gaps {
        let rows = rows.expect("the rows of the gap are known");
        let after = before.map_or(0, |id| id + 1);
        let next = *slow.ids.iter().find(|id| **id >= after).expect("rows come behind the gap");
        assert_eq!(rows, kept(after..next), "between {before:?} and {next}");
        missed += rows;
    }
    assert_eq!(slow.ids.len() as u64 + missed, kept(0..ROWS));
    assert_eq!(slow.ids.last(), Some(&(ROWS - 1)), "the latest rows come");
    lab.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lossless_reader_that_stops_gets_all_that_the_log_holds() {
    let (lab, mut feeders) = lab().await;
    let slow = subscribe(&lab, Policy::Block).await;
    feed(&lab, &mut feeders).await;
    assert!(read(slow).await == all());
    lab.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_wants_to_be_told_is_disconnected() {
    let (lab, mut feeders) = lab().await;
    let slow = subscribe(&lab, Policy::Disconnect).await;
    let fast = tokio::spawn(read(subscribe(&lab, Policy::Block).await));
    feed(&lab, &mut feeders).await;
    assert!(fast.await.expect("the fast reader ends") == all());
    let slow = read(slow).await;
    assert!(slow.failed.is_some(), "it got {} rows and {:?}", slow.ids.len(), slow.gaps);
    lab.engine.shutdown().await;
}
