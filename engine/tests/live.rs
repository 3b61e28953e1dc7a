//! Live streams: where fresh queries begin, what is shared, how clients come back, what running results say.

mod fed;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use datafusion_expr::{col, lit};
use futures::FutureExt;
use squilla_engine::{
    Clock, Engine, EngineConfig, ManualClock, Policy, Position, RowKind, Start, StreamOptions, SubscribeOptions,
    Subscription, SubscriptionEvent,
};
use squilla_query::{Emit, Query};

use fed::{Fed, SECOND, aggregate, count, filter, query, scan};

struct Bench {
    engine: Engine,
    clock: Arc<ManualClock>,
    source: Fed,
}

async fn bench() -> Bench {
    bench_with(EngineConfig::default()).await
}

async fn bench_with(config: EngineConfig) -> Bench {
    let clock = Arc::new(ManualClock::new(squilla_engine::EventTime(1_000 * SECOND)));
    let engine = Engine::new(config, clock.clone()).expect("threads start");
    let (source, definition) = fed::source("events");
    engine.create_source(definition).await.expect("the name is free");
    Bench { engine, clock, source }
}

impl Bench {
    async fn subscribe(&self, asked: &Query) -> Subscription {
        self.subscribe_with(asked, SubscribeOptions::default()).await
    }

    async fn subscribe_with(&self, asked: &Query, options: SubscribeOptions) -> Subscription {
        self.engine.subscribe(asked, options).await.expect("it runs")
    }

    /// Sends rows `(second, key, n)` and waits until the source's stream holds them.
    async fn send(&self, rows: &[(i64, &str, i64)]) {
        let taken = || self.engine.streams().iter().find(|stream| stream.name == "events").map_or(0, |s| s.rows);
        let before = taken();
        self.source.send(rows).await;
        while taken() < before + rows.len() as u64 {
            tokio::task::yield_now().await;
        }
    }
}

/// The next rows of a windowed count, as (window start in seconds, key, count).
async fn windows(subscription: &mut Subscription) -> (RowKind, Vec<(i64, String, i64)>, Position) {
    loop {
        match subscription.next().await {
            SubscriptionEvent::Rows { batch, skip, position, .. } => {
                let rows = batch.visible();
                let starts =
                    rows.column_by_name("window_start").expect("selected").as_primitive::<TimestampNanosecondType>();
                let keys = rows.column_by_name("key").expect("selected").as_string::<i32>();
                let counts = rows.column_by_name("n").expect("selected").as_primitive::<Int64Type>();
                let mut told: Vec<_> = (skip..rows.num_rows())
                    .map(|row| (starts.value(row) / SECOND, keys.value(row).to_owned(), counts.value(row)))
                    .collect();
                told.sort();
                return (batch.kind, told, position);
            }
            SubscriptionEvent::Progress(_) => {}
            other => panic!("rows were expected, not {other:?}"),
        }
    }
}

/// As `windows`, while the clock goes on: deliveries keep to the reader's interval.
async fn windows_in_time(
    bench: &Bench,
    subscription: &mut Subscription,
) -> (RowKind, Vec<(i64, String, i64)>, Position) {
    loop {
        bench.clock.set(bench.clock.now().plus(SECOND / 4));
        tokio::task::yield_now().await;
        if let Some(told) = windows(subscription).now_or_never() {
            return told;
        }
    }
}

/// The next `n` values of column `n` of plain rows.
async fn values(subscription: &mut Subscription, rows: usize) -> Vec<i64> {
    let mut told = Vec::new();
    while told.len() < rows {
        match subscription.next().await {
            SubscriptionEvent::Rows { batch, skip, .. } => {
                let column = batch.visible().column_by_name("n").expect("selected").clone();
                told.extend(&column.as_primitive::<Int64Type>().values()[skip..]);
            }
            SubscriptionEvent::Progress(_) => {}
            other => panic!("rows were expected, not {other:?}"),
        }
    }
    told
}

fn row(start: i64, key: &str, n: i64) -> (i64, String, i64) {
    (start, key.to_owned(), n)
}

#[tokio::test]
async fn a_fresh_windowed_query_begins_with_the_open_windows_whoever_asked_before() {
    let bench = bench().await;
    bench.send(&[(1, "a", 1), (11, "a", 1), (12, "b", 1)]).await;
    let asked = query(aggregate(scan(), &[count("n")]));
    let mut first = bench.subscribe(&asked).await;
    bench.send(&[(13, "a", 1)]).await;
    let mut second = bench.subscribe(&asked).await;
    assert_eq!(first.info().channel, second.info().channel);
    assert_eq!(second.info().shared_with, 1);
    bench.send(&[(30, "a", 1)]).await;
    let expected = vec![row(10, "a", 2), row(10, "b", 1)];
    assert_eq!(windows(&mut first).await.1, expected);
    assert_eq!(windows(&mut second).await.1, expected);
}

#[tokio::test]
async fn queries_with_the_same_filter_evaluate_it_once() {
    let bench = bench().await;
    let mut subscriptions = Vec::new();
    for name in ["n", "m", "k"] {
        let plan = aggregate(filter(scan(), col("n").gt(lit(10_i64))), &[count(name)]);
        let mut call = plan.clone();
        if let squilla_query::Plan::Aggregate { aggregates, .. } = &mut call {
            aggregates[0] = fed::sum(name, lit(subscriptions.len() as i64));
        }
        subscriptions.push(bench.subscribe(&query(call)).await);
    }
    bench.send(&[(1, "a", 5), (2, "a", 11), (3, "b", 12)]).await;
    let jobs = bench.engine.jobs();
    let filters: Vec<_> = jobs.iter().filter(|job| job.kind == "filter").collect();
    assert_eq!(filters.len(), 1, "{jobs:#?}");
    assert_eq!(filters[0].users.len(), 3);
    let id = filters[0].id.clone();
    let counts = || bench.engine.jobs().into_iter().find(|job| job.id == id).expect("it runs").counters;
    let counted = loop {
        let counted = counts();
        if counted.unaccounted() == 0 && counted.rows_in == 3 {
            break counted;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((counted.filtered, counted.passed), (1, 2));
}

#[tokio::test]
async fn a_client_comes_back_at_the_next_row() {
    let bench = bench().await;
    let asked = query(filter(scan(), col("n").gt(lit(0_i64))));
    let mut client = bench.subscribe(&asked).await;
    bench.send(&[(1, "a", 1), (2, "a", -1), (3, "a", 2)]).await;
    assert_eq!(values(&mut client, 2).await, [1, 2]);
    let mut at = client.info().position.clone();
    bench.send(&[(4, "a", 3)]).await;
    if let SubscriptionEvent::Rows { position, .. } = client.next().await {
        at = position;
    }
    drop(client);
    bench.send(&[(5, "a", 4), (6, "a", -4), (7, "a", 5)]).await;
    let options = SubscribeOptions { from: Some(Start::Position(at.clone())), ..SubscribeOptions::default() };
    let mut back = bench.subscribe_with(&asked, options.clone()).await;
    assert_eq!(back.info().recovered, Some(true));
    assert_eq!(values(&mut back, 2).await, [4, 5]);
    // A place inside a batch: its first row was told.
    let inside = Position {
        offsets: at.offsets.iter().map(|(partition, (offset, _))| (*partition, (*offset, 1))).collect(),
        ..at.clone()
    };
    let options = SubscribeOptions { from: Some(Start::Position(inside)), ..SubscribeOptions::default() };
    let mut back = bench.subscribe_with(&asked, options).await;
    assert_eq!(values(&mut back, 1).await, [5]);
    let stranger = Position { epoch: at.epoch ^ 1, ..at };
    let options = SubscribeOptions { from: Some(Start::Position(stranger)), ..SubscribeOptions::default() };
    let back = bench.subscribe_with(&asked, options).await;
    assert_eq!(back.info().recovered, Some(false));
}

#[tokio::test]
async fn history_passes_into_live_rows() {
    let bench = bench().await;
    bench.send(&[(1, "a", 1), (2, "a", 2)]).await;
    let asked = query(filter(scan(), col("n").gt(lit(0_i64))));
    let options = SubscribeOptions { from: Some(Start::Earliest), ..SubscribeOptions::default() };
    let mut client = bench.subscribe_with(&asked, options).await;
    bench.send(&[(3, "a", 3)]).await;
    assert_eq!(values(&mut client, 3).await, [1, 2, 3]);
}

#[tokio::test]
async fn running_results_begin_with_a_snapshot_and_end_with_finals() {
    let bench = bench().await;
    bench.send(&[(1, "a", 1), (2, "b", 1), (3, "a", 1)]).await;
    let mut asked = query(aggregate(scan(), &[count("n")]));
    asked.emit = Emit::Every(Duration::from_secs(1));
    asked.key = vec!["window_start".into(), "key".into()];
    let mut first = bench.subscribe(&asked).await;
    // The clock stands still: these rows can only come with the snapshot.
    let mut told = windows(&mut first).await;
    assert_eq!((told.0, &told.1), (RowKind::Update, &vec![row(0, "a", 2), row(0, "b", 1)]));
    bench.send(&[(4, "b", 1)]).await;
    while !told.1.contains(&row(0, "b", 2)) {
        told = windows_in_time(&bench, &mut first).await;
        assert_eq!(told.0, RowKind::Update);
    }
    let mut second = bench.subscribe(&asked).await;
    assert_eq!(windows(&mut second).await.1, vec![row(0, "a", 2), row(0, "b", 2)]);
    bench.send(&[(20, "a", 1)]).await;
    while told.0 != RowKind::Final {
        told = windows_in_time(&bench, &mut second).await;
    }
    assert_eq!(told.1, vec![row(0, "a", 2), row(0, "b", 2)]);
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_missed() {
    let bench = bench_with(EngineConfig { subscription_lag_bytes: 64 << 10, ..EngineConfig::default() }).await;
    let asked = query(scan());
    let mut slow = bench.subscribe(&asked).await;
    let options = SubscribeOptions { policy: Some(Policy::Disconnect), ..SubscribeOptions::default() };
    let mut cut = bench.subscribe_with(&asked, options).await;
    let rows: Vec<(i64, &str, i64)> = (0..1_000).map(|n| (n / 100, "a", n)).collect();
    for _ in 0..20 {
        bench.send(&rows).await;
    }
    let (mut got, mut missed) = (0, 0);
    while got + missed < 20_000 {
        match slow.next().await {
            SubscriptionEvent::Rows { batch, skip, .. } => got += batch.rows.num_rows() - skip,
            SubscriptionEvent::Gap(gap) => missed += usize::try_from(gap.rows.expect("known")).expect("few"),
            SubscriptionEvent::Progress(_) => {}
            other => panic!("not {other:?}"),
        }
    }
    assert_eq!(got + missed, 20_000);
    assert!(missed > 0);
    let SubscriptionEvent::Failed(error) = cut.next().await else { panic!("it was too slow") };
    assert_eq!(error.code(), "too_slow");
}

#[tokio::test]
async fn chained_streams_read_finals_and_a_dropped_stream_is_refused_while_used() {
    let bench = bench().await;
    let counts = query(aggregate(scan(), &[count("n")]));
    bench.engine.create_stream("counts", &counts, StreamOptions::default()).await.expect("the name is free");
    let mut reader = bench.subscribe(&query(fed::scan_of("counts", counts.plan.schema()))).await;
    bench.send(&[(1, "a", 1), (2, "a", 1), (20, "a", 1)]).await;
    assert_eq!(windows(&mut reader).await.1, vec![row(0, "a", 2)]);
    let refused = bench.engine.drop_relation("events").expect_err("it is read");
    assert_eq!(refused.to_string(), "\"events\" is used by counts");
    bench.engine.drop_relation("counts").expect("only a query reads it");
    assert!(matches!(reader.next().await, SubscriptionEvent::Failed(_)));
    bench.engine.drop_relation("events").expect("nobody reads it now");
    bench.engine.shutdown().await;
}

#[tokio::test]
async fn who_rested_longer_than_a_hand_off_keeps_rows_takes_them_from_the_log() {
    let bench = bench().await;
    let even = query(filter(scan(), (col("n") % lit(2_i64)).eq(lit(0_i64))));
    bench.engine.create_stream("even", &even, StreamOptions::default()).await.expect("the name is free");
    let mut running = bench.subscribe(&even).await;
    let mut resting = bench.subscribe(&even).await;
    let mut named = bench.subscribe(&query(fed::scan_of("even", even.plan.schema()))).await;
    assert!(bench.engine.pause_stream("even").expect("it runs"));
    assert!(!bench.engine.pause_stream("even").expect("it runs"));
    assert!(bench.engine.pause_query(&resting.info().query).expect("it runs"));
    for n in 0..5 {
        bench.send(&[(1, "a", 2 * n), (1, "a", 1)]).await;
        assert_eq!(values(&mut running, 1).await, [2 * n]);
        bench.clock.set(bench.clock.now().plus(20 * SECOND));
    }
    let rested = bench.engine.resume_stream("even", false).await.expect("it is there").expect("it rested");
    assert_eq!((rested.waiting_rows, rested.lost_rows), (5, 0));
    assert!(bench.engine.resume_query(&resting.info().query, false).expect("it runs"));
    let all: Vec<i64> = (0..5).map(|n| 2 * n).collect();
    assert_eq!(values(&mut named, 5).await, all);
    assert_eq!(values(&mut resting, 5).await, all);
    bench.send(&[(2, "a", 10)]).await;
    for reader in [&mut named, &mut resting, &mut running] {
        assert_eq!(values(reader, 1).await, [10]);
    }
    assert!(bench.engine.jobs().iter().all(|job| job.counters.unaccounted() == 0));
    bench.engine.shutdown().await;
}
