//! Jobs that crash: they are started again where they were, and stop at rows that crash them again and again.

mod carried;
mod fed;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, col, lit,
};
use futures::FutureExt;
use squilla_engine::{
    Clock, Durability, Engine, EngineConfig, EventTime, ManualClock, NoticeKind, SourceDefinition, StreamInfo,
    StreamOptions, SubscribeOptions, Subscription, SubscriptionEvent,
};
use squilla_query::{NamedExpr, Plan, Query};

use fed::{Fed, SECOND, aggregate, count, filter, query, scan, scan_of, sum};

/// Gives its argument back, and panics at one value so many times.
#[derive(Debug, Clone)]
struct Fragile {
    at: Arc<AtomicI64>,
    left: Arc<AtomicUsize>,
    signature: Signature,
}

impl PartialEq for Fragile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.at, &other.at)
    }
}

impl Eq for Fragile {}

impl std::hash::Hash for Fragile {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl Fragile {
    fn new(at: i64, times: usize) -> Self {
        let signature = Signature::exact(vec![DataType::Int64], Volatility::Immutable);
        Self { at: Arc::new(AtomicI64::new(at)), left: Arc::new(AtomicUsize::new(times)), signature }
    }

    /// Panics at another value.
    fn again(&self, at: i64, times: usize) {
        self.at.store(at, Ordering::SeqCst);
        self.left.store(times, Ordering::SeqCst);
    }

    fn of(&self, argument: Expr) -> Expr {
        ScalarUDF::from(self.clone()).call(vec![argument])
    }
}

impl ScalarUDFImpl for Fragile {
    fn name(&self) -> &str {
        "fragile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let bad = self.at.load(Ordering::SeqCst);
        let hit = match &args.args[0] {
            ColumnarValue::Array(values) => values.as_primitive::<Int64Type>().values().contains(&bad),
            ColumnarValue::Scalar(value) => *value == ScalarValue::Int64(Some(bad)),
        };
        let less = |left: usize| left.checked_sub(1);
        if hit && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            panic!("{bad} breaks it");
        }
        Ok(args.args[0].clone())
    }
}

struct Bench {
    engine: Engine,
    clock: Arc<ManualClock>,
    source: Fed,
}

async fn bench() -> Bench {
    bench_of(EngineConfig::default(), Durability::Memory, false).await
}

/// The same; how its source is kept, and whether it goes on.
async fn bench_of(config: EngineConfig, durability: Durability, resumes: bool) -> Bench {
    let clock = Arc::new(ManualClock::new(EventTime(1_000 * SECOND)));
    let engine = Engine::new(config, clock.clone()).expect("threads start");
    let (source, definition) = fed::source("events");
    let definition = SourceDefinition { durability, resumes, ..definition };
    engine.create_source(definition).await.expect("the name is free");
    Bench { engine, clock, source }
}

impl Bench {
    async fn named(&self, name: &str, asked: &Query) -> Subscription {
        self.engine.create_stream(name, asked, StreamOptions::default()).await.expect("the name is free");
        self.subscribe(&query(scan_of(name, asked.plan.schema()))).await
    }

    async fn subscribe(&self, asked: &Query) -> Subscription {
        self.engine.subscribe(asked, SubscribeOptions::default()).await.expect("it runs")
    }

    /// The next `count` values of column `n`, while the clock goes on.
    async fn values(&self, subscription: &mut Subscription, count: usize) -> Vec<i64> {
        let mut told = Vec::new();
        while told.len() < count {
            match self.next(subscription).await {
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

    async fn next(&self, subscription: &mut Subscription) -> SubscriptionEvent {
        loop {
            if let Some(event) = subscription.try_next() {
                return event;
            }
            self.clock.set(self.clock.now().plus(SECOND / 100));
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a stream says so of itself.
    async fn status(&self, name: &str, wanted: &str) -> String {
        loop {
            let streams = self.engine.streams();
            let status = &streams.iter().find(|stream| stream.name == name).expect("it is there").status;
            if status.starts_with(wanted) {
                return status.clone();
            }
            self.clock.set(self.clock.now().plus(SECOND / 100));
            tokio::task::yield_now().await;
        }
    }

    /// Every row is accounted for once all that was sent was read: soon, since rows are counted behind those who read
    /// them.
    async fn accounted(&self) {
        let settled = async {
            while self.engine.jobs().iter().any(|job| job.counters.unaccounted() != 0) {
                tokio::task::yield_now().await;
            }
        };
        let settled = tokio::time::timeout(Duration::from_secs(10), settled).await;
        assert!(settled.is_ok(), "{:#?}", self.engine.jobs());
    }
}

/// The rows whose value the function lets through.
fn fragile_rows(fragile: &Fragile) -> Query {
    let exprs = vec![NamedExpr { expr: fragile.of(col("n")), name: "n".into() }];
    let field = arrow::datatypes::Field::new("n", DataType::Int64, true);
    let schema = Arc::new(arrow::datatypes::Schema::new(vec![field]));
    let input = Arc::new(filter(scan(), col("n").gt(lit(0_i64))));
    query(Plan::Project { input, exprs, schema })
}

#[tokio::test]
async fn a_stream_that_crashes_goes_on_with_every_row_once() {
    let bench = bench().await;
    let fragile = Fragile::new(3, 2);
    let mut reader = bench.named("copy", &fragile_rows(&fragile)).await;
    bench.source.send(&[(1, "a", 1), (2, "a", 0), (3, "a", 2)]).await;
    assert_eq!(bench.values(&mut reader, 2).await, [1, 2]);
    bench.source.send(&[(4, "a", 4), (5, "a", 3), (6, "a", 5)]).await;
    bench.source.send(&[(7, "a", 6)]).await;
    assert_eq!(bench.values(&mut reader, 4).await, [4, 3, 5, 6]);
    let copy = bench.engine.streams().into_iter().find(|stream| stream.name == "copy").expect("it is there");
    assert_eq!((copy.restarts, copy.status.as_str(), copy.rows), (2, "running", 6));
    let crashed = bench.engine.jobs().into_iter().find(|job| job.restarts == 2).expect("it crashed");
    assert_eq!(crashed.crash.as_deref(), Some("a step has crashed: 3 breaks it"));
    bench.accounted().await;
    bench.engine.shutdown().await;
}

#[tokio::test]
async fn a_windowed_stream_that_crashes_tells_every_window_once_and_whole() {
    let bench = bench().await;
    let fragile = Fragile::new(7, 2);
    let sums = query(aggregate(scan(), &[sum("n", fragile.of(col("n"))), count("c")]));
    let mut reader = bench.named("sums", &sums).await;
    bench.source.send(&[(1, "a", 1), (5, "a", 2), (12, "a", 4), (15, "a", 8)]).await;
    assert_eq!(bench.values(&mut reader, 1).await, [3]);
    bench.source.send(&[(3, "a", 100), (16, "a", 7), (18, "a", 16)]).await;
    bench.source.send(&[(25, "a", 32), (40, "a", 64)]).await;
    assert_eq!(bench.values(&mut reader, 2).await, [35, 32]);
    let job = bench.engine.jobs().into_iter().find(|job| job.kind == "aggregate").expect("it runs");
    assert_eq!(job.restarts, 2, "{job:?}");
    bench.accounted().await;
    bench.engine.shutdown().await;
}

#[tokio::test]
async fn a_durable_stream_that_keeps_state_goes_on_from_its_last_snapshot() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = EngineConfig { log_folder: Some(folder.path().to_owned()), ..EngineConfig::default() };
    let durability = Durability::Durable;
    let bench = bench_of(config, durability, false).await;
    let fragile = Fragile::new(7, 2);
    let sums = || aggregate(scan(), &[sum("n", fragile.of(col("n"))), count("c")]);
    let schema = sums().schema().clone();
    // Two aggregates side by side: more than its log tells.
    let both = query(Plan::Union { inputs: vec![Arc::new(sums()), Arc::new(sums())], schema: schema.clone() });
    let options = StreamOptions { durability, ..StreamOptions::default() };
    bench.engine.create_stream("both", &both, options).await.expect("the name is free");
    let mut reader = bench.subscribe(&query(scan_of("both", &schema))).await;
    bench.source.send(&[(1, "a", 1), (5, "a", 2), (12, "a", 4), (15, "a", 8)]).await;
    assert_eq!(bench.values(&mut reader, 2).await, [3, 3]);
    bench.source.send(&[(3, "a", 100), (16, "a", 7), (18, "a", 16)]).await;
    bench.source.send(&[(25, "a", 32), (40, "a", 64)]).await;
    let mut told = bench.values(&mut reader, 4).await;
    told.sort_unstable();
    assert_eq!(told, [32, 32, 35, 35]);
    let both = bench.engine.streams().into_iter().find(|stream| stream.name == "both").expect("it is there");
    assert_eq!((both.restarts, both.status.as_str(), both.rows), (2, "running", 6));
    bench.accounted().await;
    bench.engine.shutdown().await;
}

#[tokio::test]
async fn rows_that_crash_a_stream_three_times_are_set_apart_and_can_be_read() {
    let bench = bench().await;
    let fragile = Fragile::new(3, usize::MAX);
    let mut reader = bench.named("copy", &fragile_rows(&fragile)).await;
    bench.source.send(&[(1, "a", 1), (4, "b", 2), (5, "c", 3), (6, "d", 5)]).await;
    // Those before it are told.
    assert_eq!(bench.values(&mut reader, 2).await, [1, 2]);
    let status = bench.status("copy", "quarantined").await;
    assert_eq!(status, "quarantined at events, partition 0, offsets 2 to 3: a step has crashed: 3 breaks it");
    let notices = loop {
        if let SubscriptionEvent::Progress(progress) = bench.next(&mut reader).await
            && let Some(notice) = progress.notices.first()
            && notice.kind == NoticeKind::Quarantined
        {
            break progress.notices;
        }
    };
    assert!(notices[0].message.contains("RESUME STREAM copy"), "{notices:?}");
    let found = bench.engine.quarantine("copy").expect("it is there").expect("it has stopped");
    assert_eq!((found.input.as_str(), found.partition, found.first.0, found.next.0), ("events", 0, 2, 3));
    let keys = found.rows.column_by_name("n").expect("read").as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(keys, [3]);
    // It is tried again, and stops again.
    bench.engine.resume_stream("copy", false).await.expect("it is there").expect("it had stopped");
    bench.status("copy", "restarting").await;
    bench.status("copy", "quarantined").await;
    // What has been mended passes.
    fragile.at.store(-1, Ordering::SeqCst);
    bench.engine.resume_stream("copy", false).await.expect("it is there").expect("it had stopped");
    assert_eq!(bench.values(&mut reader, 2).await, [3, 5]);
    assert!(bench.engine.quarantine("copy").expect("it is there").is_none());
    bench.accounted().await;
    bench.engine.shutdown().await;
}

#[tokio::test]
async fn what_came_since_is_skipped_where_nothing_helps() {
    let bench = bench().await;
    let fragile = Fragile::new(3, usize::MAX);
    let mut reader = bench.named("copy", &fragile_rows(&fragile)).await;
    bench.source.send(&[(1, "a", 1), (5, "c", 3), (6, "d", 5)]).await;
    assert_eq!(bench.values(&mut reader, 1).await, [1]);
    bench.status("copy", "quarantined").await;
    let rested = bench.engine.resume_stream("copy", true).await.expect("it is there").expect("it had stopped");
    assert_eq!((rested.waiting_rows, rested.lost_rows), (0, 2));
    bench.source.send(&[(7, "a", 7)]).await;
    assert_eq!(bench.values(&mut reader, 1).await, [7]);
    bench.accounted().await;
    bench.engine.shutdown().await;
}

#[tokio::test]
async fn a_live_query_that_crashes_three_times_at_a_row_ends_with_the_reason() {
    let bench = bench().await;
    let fragile = Fragile::new(3, usize::MAX);
    let mut reader = bench.subscribe(&fragile_rows(&fragile)).await;
    bench.source.send(&[(1, "a", 1), (5, "c", 3)]).await;
    assert_eq!(bench.values(&mut reader, 1).await, [1]);
    let error = loop {
        match bench.next(&mut reader).await {
            SubscriptionEvent::Failed(error) => break error,
            SubscriptionEvent::Progress(_) => {}
            other => panic!("not {other:?}"),
        }
    };
    assert_eq!((error.code(), error.to_string().as_str()), ("crashed", "a step has crashed: 3 breaks it"));
    bench.engine.shutdown().await;
}

#[tokio::test]
async fn a_stream_that_waits_after_a_crash_goes_on_when_it_is_told_to() {
    let bench = bench().await;
    let fragile = Fragile::new(3, 1);
    let mut reader = bench.named("copy", &fragile_rows(&fragile)).await;
    bench.source.send(&[(1, "a", 3)]).await;
    // The clock stands still: it would wait for ever.
    while !bench.engine.streams().iter().any(|stream| stream.status.starts_with("restarting")) {
        tokio::task::yield_now().await;
    }
    assert!(bench.engine.pause_stream("copy").expect("it is there"));
    bench.engine.resume_stream("copy", false).await.expect("it is there").expect("it rested");
    let told = loop {
        if let SubscriptionEvent::Rows { batch, .. } = reader.next().await {
            break batch.rows.num_rows();
        }
    };
    assert_eq!(told, 1);
    bench.accounted().await;
    bench.engine.shutdown().await;
}

#[tokio::test]
async fn a_stream_that_has_crashed_skips_what_came_while_it_rested_once() {
    let bench = bench().await;
    let fragile = Fragile::new(3, 1);
    let mut reader = bench.named("copy", &fragile_rows(&fragile)).await;
    bench.source.send(&[(1, "a", 1), (2, "c", 3)]).await;
    assert_eq!(bench.values(&mut reader, 2).await, [1, 3]);
    assert!(bench.engine.pause_stream("copy").expect("it is there"));
    bench.status("copy", "paused").await;
    bench.source.send(&[(3, "a", 4), (4, "a", 5)]).await;
    let waiting = |stream: &StreamInfo| stream.paused.as_ref().is_some_and(|paused| paused.waiting_rows == 2);
    while !bench.engine.streams().iter().any(waiting) {
        tokio::task::yield_now().await;
    }
    let rested = bench.engine.resume_stream("copy", true).await.expect("it is there").expect("it rested");
    assert_eq!((rested.waiting_rows, rested.lost_rows), (0, 2));
    bench.source.send(&[(7, "a", 7)]).await;
    assert_eq!(bench.values(&mut reader, 1).await, [7]);
    bench.accounted().await;
    bench.engine.shutdown().await;
}

#[tokio::test]
async fn a_stream_is_told_again_to_go_on_when_who_told_it_has_hung_up() {
    let bench = bench().await;
    let sums = query(aggregate(scan(), &[sum("n", col("n")), count("c")]));
    let mut reader = bench.named("sums", &sums).await;
    bench.source.send(&[(1, "a", 1), (5, "a", 2)]).await;
    loop {
        assert!(bench.engine.pause_stream("sums").expect("it is there"));
        bench.status("sums", "paused").await;
        // It hangs up before all of the stream's jobs have answered, unless they were faster.
        if bench.engine.resume_stream("sums", false).now_or_never().is_none() {
            break;
        }
    }
    bench.engine.resume_stream("sums", false).await.expect("it is there").expect("not all of it goes on");
    bench.source.send(&[(15, "a", 8)]).await;
    assert_eq!(bench.values(&mut reader, 1).await, [3]);
    assert!(bench.engine.resume_stream("sums", false).await.expect("it is there").is_none(), "all of it goes on");
    bench.accounted().await;
    bench.engine.shutdown().await;
}
