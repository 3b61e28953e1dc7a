//! What it costs that rows last: publishing to a stream of each durability, beside what the disk itself can do, and
//! reading back what was published.
//!
//! Eight publishers post bodies of a thousand rows, each waiting for its answer, so that syncs are shared. The disk's
//! own figures are writes of as many bytes as such a body takes in a log, each synced before the next, and of as many
//! bytes as all of them take, synced at their end.
//!
//! `cargo run --release -p squilla-tests --bin logs`

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use squilla_engine::{EngineConfig, Policy, Start, SubscribeOptions, SubscriptionEvent, SystemClock};
use squilla_gateway::{Service, ServiceConfig};
use squilla_query::Params;

/// Rows of a body.
const BODY_ROWS: usize = 1_000;
/// Bodies that each publisher posts.
const BODIES: usize = 250;
const PUBLISHERS: usize = 8;
const ROWS: usize = BODY_ROWS * BODIES * PUBLISHERS;
/// Bodies that are written to the disk itself.
const WRITES: usize = 400;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads start");
    let folder = tempfile::tempdir_in(".").expect("a folder below this one");
    runtime.block_on(async {
        let service = Arc::new(open(folder.path()).await);
        let mut memory = None;
        let mut times = Vec::new();
        for durability in ["memory", "buffered", "durable"] {
            let name = format!("bids_{durability}");
            let create = format!(
                "CREATE SOURCE {name} (ts TIMESTAMP, auction BIGINT, price DOUBLE, channel VARCHAR, \
                 WATERMARK FOR ts AS ts) WITH (connector = 'http', durability = '{durability}', retention_size = '4GiB')"
            );
            service.execute(&create).await.expect("the statement is right");
            let took = publish(&service, &name).await;
            let memory = *memory.get_or_insert(took);
            println!(
                "publish {ROWS} rows, {durability:9} {:10.0} rows/s  {:5.2} of memory's",
                ROWS as f64 / took.as_secs_f64(),
                memory.as_secs_f64() / took.as_secs_f64()
            );
            times.push((durability, took));
        }
        let log_bytes = log_bytes(&service);
        let body_bytes = usize::try_from(log_bytes).expect("it fits") / (BODIES * PUBLISHERS);
        println!("a row takes {:.0} bytes on disk", log_bytes as f64 / ROWS as f64);
        let (synced, whole) = (raw_writes(folder.path(), body_bytes, 1), raw_writes(folder.path(), body_bytes, WRITES));
        println!("the disk syncs {synced:.0} writes/s of {body_bytes} bytes: {:.0} rows/s one by one", synced * 1e3);
        let megabytes = |a_second: f64| a_second * body_bytes as f64 / 1e6;
        println!("the disk takes {:.1} MB/s so, {:.1} MB/s synced at the end", megabytes(synced), megabytes(whole));
        for (durability, took) in &times[1..] {
            let written = megabytes((BODIES * PUBLISHERS) as f64 / took.as_secs_f64());
            println!(
                "{durability:9} writes {written:.1} MB/s: {:.2} of one by one, {:.2} of synced at the end",
                written / megabytes(synced),
                written / megabytes(whole)
            );
        }
        for name in ["bids_memory", "bids_durable"] {
            let (rows, took) = read_back(&service, name).await;
            println!("read back {rows} rows of {name:13} {:10.0} rows/s", rows as f64 / took.as_secs_f64());
        }
        service.engine().shutdown().await;
    });
    let started = Instant::now();
    let service = runtime.block_on(open(folder.path()));
    println!("open {ROWS} rows of each log again in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
    runtime.block_on(service.engine().shutdown());
}

async fn open(folder: &Path) -> Service {
    let config = ServiceConfig {
        engine: EngineConfig::default(),
        data_dir: Some(folder.join("data")),
        roots: Vec::new(),
        clock: Arc::new(SystemClock),
    };
    Service::open(config).await.expect("the folder can be used")
}

/// Posts all bodies; how long it took until the last was answered.
async fn publish(service: &Arc<Service>, name: &str) -> Duration {
    let mut body = String::new();
    for row in 0..BODY_ROWS {
        let (second, milli) = (row / 100, row % 100 * 10);
        writeln!(
            body,
            "{{\"ts\":\"2026-01-01T00:00:{second:02}.{milli:03}Z\",\"auction\":{},\"price\":{row}.5,\"channel\":\"Google\"}}",
            row * 7 % 1000
        )
        .expect("a string takes it");
    }
    let body = Bytes::from(body);
    let started = Instant::now();
    let taken = Arc::new(AtomicU64::new(0));
    let publishers = (0..PUBLISHERS).map(|_| {
        let (service, name, body, taken) = (service.clone(), name.to_owned(), body.clone(), taken.clone());
        tokio::spawn(async move {
            for _ in 0..BODIES {
                while service.publish(&name, body.clone()).await.is_err() {
                    // The queue is full.
                    tokio::task::yield_now().await;
                }
                taken.fetch_add(BODY_ROWS as u64, Ordering::Relaxed);
            }
        })
    });
    for publisher in join_all(publishers).await {
        publisher.expect("a publisher does not panic");
    }
    assert_eq!(taken.load(Ordering::Relaxed), ROWS as u64);
    started.elapsed()
}

fn log_bytes(service: &Service) -> u64 {
    let streams = service.engine().streams();
    streams.iter().find(|stream| stream.name == "bids_durable").map_or(0, |stream| stream.log_bytes)
}

/// Writes a second, of which so many are synced together.
fn raw_writes(folder: &Path, bytes: usize, at_once: usize) -> f64 {
    let mut file = File::create(folder.join("raw")).expect("a file");
    let block = vec![7; bytes];
    let started = Instant::now();
    for write in 1..=WRITES {
        file.write_all(&block).expect("the disk has room");
        if write % at_once == 0 {
            file.sync_data().expect("the disk syncs");
        }
    }
    WRITES as f64 / started.elapsed().as_secs_f64()
}

/// Reads a stream from its first row that is kept to its last.
async fn read_back(service: &Service, name: &str) -> (usize, Duration) {
    let query = service.query(&format!("SELECT * FROM {name}"), &Params::new()).await.expect("the query is right");
    let options =
        SubscribeOptions { from: Some(Start::Earliest), policy: Some(Policy::Block), ..SubscribeOptions::default() };
    let kept = service.engine().streams().into_iter().find(|stream| stream.name == name).map_or(0, |it| it.log_rows);
    let kept = usize::try_from(kept).expect("it fits");
    let started = Instant::now();
    let mut subscription = service.engine().subscribe(&query, options).await.expect("the query runs");
    let mut rows = 0;
    while rows < kept {
        match subscription.next().await {
            SubscriptionEvent::Rows { batch, skip, .. } => rows += batch.rows.num_rows() - skip,
            SubscriptionEvent::Progress(_) => {}
            other => panic!("{other:?}"),
        }
    }
    (rows, started.elapsed())
}
