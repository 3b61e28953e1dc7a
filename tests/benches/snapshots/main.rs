//! What snapshots cost: how fast a durable stream that keeps a million keys takes rows, with snapshots and without, and how
//! long it takes until it goes on after a restart and after an end without a word.
//!
//! `cargo run --release -p squilla-tests --bin snapshots -- [KEYS]`

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use squilla_engine::{EngineConfig, SystemClock};
use squilla_gateway::{Service, ServiceConfig};

const KEYS: usize = 1_000_000;
/// How often each key comes, before the process ends.
const ROUNDS: usize = 20;
/// Rows of a body.
const BODY_ROWS: usize = 5_000;

fn main() {
    let keys = std::env::args().nth(1).and_then(|keys| keys.parse().ok()).unwrap_or(KEYS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads start");
    let folder = tempfile::tempdir_in(".").expect("a folder below this one");
    // Rows that are buffered only are not exactly counted, and no snapshots are taken.
    for (name, durability) in [("without", "buffered"), ("with", "durable")] {
        let folder = folder.path().join(name);
        let service = runtime.block_on(open(&folder));
        let took = runtime.block_on(fill(&service, durability, keys));
        println!("{name:7} snapshots: {keys} keys, {:10.0} rows/s", (ROUNDS * keys) as f64 / took.as_secs_f64());
        runtime.block_on(service.engine().shutdown());
        drop(service);
    }
    let kept = folder.path().join("with");
    let bytes = size(&kept.join("streams/totals"));
    println!("the snapshots that are kept take {:.1} bytes a key each", bytes as f64 / 3.0 / keys as f64);
    let started = Instant::now();
    let service = runtime.block_on(open(&kept));
    assert_eq!(counted(&service), (ROUNDS * keys) as u64, "it goes on where it was");
    println!("a restart: counts on after {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let rows = (ROUNDS + 1) * keys;
    runtime.block_on(publish(&service, &round(keys), 1, rows));
    // Its tasks are stopped wherever they are.
    runtime.shutdown_timeout(Duration::ZERO);
    drop(service);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads start");
    let started = Instant::now();
    let service = runtime.block_on(open(&kept));
    let opened = started.elapsed();
    runtime.block_on(until_counted(&service, rows));
    println!(
        "an end without a word: open after {:.0} ms, and all counted after {:.0} ms",
        opened.as_secs_f64() * 1e3,
        started.elapsed().as_secs_f64() * 1e3
    );
    runtime.block_on(service.engine().shutdown());
}

async fn open(folder: &Path) -> Service {
    let config = ServiceConfig {
        engine: EngineConfig::default(),
        data_dir: Some(folder.to_owned()),
        roots: Vec::new(),
        clock: Arc::new(SystemClock),
    };
    Service::open(config).await.expect("the folder can be used")
}

/// Counts rows by key, each key in every round; how long it took until all were counted.
async fn fill(service: &Service, durability: &str, keys: usize) -> Duration {
    let create = "CREATE SOURCE events (ts TIMESTAMP, k BIGINT, WATERMARK FOR ts AS ts)
        WITH (connector = 'http', durability = 'durable', retention_size = '8GiB')";
    service.execute(create).await.expect("the statement is right");
    let create = format!(
        "CREATE STREAM totals WITH (durability = '{durability}') AS SELECT k, count(*) AS n FROM events GROUP BY k"
    );
    service.execute(&create).await.expect("the statement is right");
    publish(service, &round(keys), ROUNDS, ROUNDS * keys).await
}

/// Each key once.
fn round(keys: usize) -> Vec<Bytes> {
    (0..keys).step_by(BODY_ROWS).map(body).collect()
}

/// Publishes the bodies so many times; how long it took until as many rows in all were counted.
async fn publish(service: &Service, bodies: &[Bytes], times: usize, rows: usize) -> Duration {
    let started = Instant::now();
    for body in std::iter::repeat_n(bodies, times).flatten() {
        while service.publish("events", body.clone()).await.is_err() {
            // The queue is full.
            tokio::task::yield_now().await;
        }
    }
    until_counted(service, rows).await;
    started.elapsed()
}

async fn until_counted(service: &Service, rows: usize) {
    while counted(service) < rows as u64 {
        tokio::task::yield_now().await;
    }
}

/// Rows that the stream has counted, those before a restart with them.
fn counted(service: &Service) -> u64 {
    let jobs = service.engine().jobs();
    jobs.iter().find(|job| job.kind == "aggregate").map_or(0, |job| job.counters.rows_in)
}

fn body(from: usize) -> Bytes {
    let mut body = String::new();
    for key in from..from + BODY_ROWS {
        writeln!(body, "{{\"ts\":\"2026-01-01T00:00:00Z\",\"k\":{key}}}").expect("a string takes it");
    }
    body.into()
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path()),
            found => found.map_or(0, |found| found.len()),
        })
        .sum()
}
