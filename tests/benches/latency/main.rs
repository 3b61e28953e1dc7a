//! How long answers take, with a real server and real sockets on this machine.
//!
//! Three figures, each with its goal; the exit code is 1 when one is missed:
//! - from a statement to its first row on a stream that runs: under 50 ms;
//! - from an event's arrival to its row in each of 100 WebSocket clients of a filter that passes 1 %, while
//!   100 requests a second post 100 events each: median under 5 ms, 99th percentile under 25 ms. The load is
//!   open-loop: a request that is sent late counts from the moment at which it was due;
//! - the same once more while another client reads an hour of a durable stream's history, over and over: its 99th
//!   percentile under 25 ms as well, and how much that is of what it was before.
//!
//! `cargo run --release -p squilla-tests --bin latency`

mod client;
mod load;
mod replay;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use squilla_engine::{EngineConfig, SystemClock};
use squilla_gateway::{ServeConfig, Service, ServiceConfig, serve};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// Statements timed for the first figure.
const STATEMENTS: usize = 50;
/// Goal from statement to first row.
const FIRST_ROW_GOAL: Duration = Duration::from_millis(50);
/// Goals from event to row.
const MEDIAN_GOAL: Duration = Duration::from_millis(5);
const P99_GOAL: Duration = Duration::from_millis(25);

fn main() -> ExitCode {
    let server = runtime("server");
    let (clients, replayer) = (runtime("clients"), runtime("replayer"));
    let (ready, address) = oneshot::channel();
    server.spawn(run_server(ready));
    let met = clients.block_on(async {
        let address = address.await.expect("the server starts");
        let first_rows = client::statements_to_first_rows(address, STATEMENTS).await;
        let first_row = report("statement to first row, 99 %", quantile(&first_rows, 0.99), FIRST_ROW_GOAL);
        let alone = load::events_to_rows(address, 0).await;
        tell(&alone);
        let median = report("event to row, median", quantile(&alone.latencies, 0.5), MEDIAN_GOAL);
        let p99 = report("event to row, 99 %", quantile(&alone.latencies, 0.99), P99_GOAL);
        let replays = Arc::new(Mutex::new(Vec::new()));
        let read = {
            let replays = replays.clone();
            move |took| replays.lock().expect("no holder of this lock panics").push(took)
        };
        // Not among the clients that are measured.
        let reading = replayer.spawn(replay::read_over_and_over(address, read));
        let beside = load::events_to_rows(address, 1).await;
        reading.abort();
        tell(&beside);
        let replays = replays.lock().expect("no holder of this lock panics");
        let rows = replays.len() as u64 * replay::ROWS;
        let rate = rows as f64 / replays.iter().sum::<Duration>().as_secs_f64();
        println!("{} replays of {} rows meanwhile, {rate:.0} rows/s", replays.len(), replay::ROWS);
        report("beside a replay, median", quantile(&beside.latencies, 0.5), MEDIAN_GOAL);
        let beside_p99 = report("beside a replay, 99 %", quantile(&beside.latencies, 0.99), P99_GOAL);
        let missing = alone.missing + beside.missing;
        first_row && median && p99 && beside_p99 && missing == 0 && !replays.is_empty()
    });
    clients.shutdown_background();
    replayer.shutdown_background();
    server.shutdown_background();
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(delivery: &load::Delivery) {
    println!(
        "{} rows to {} clients, {} missing, {} requests late by over 5 ms",
        delivery.latencies.len(),
        load::CLIENTS,
        delivery.missing,
        delivery.late_requests
    );
}

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread().enable_all().thread_name(name).build().expect("threads start")
}

/// Serves on a free port, as `squilla serve` does, with an hour of history.
async fn run_server(ready: oneshot::Sender<SocketAddr>) {
    let folder = tempfile::tempdir_in(".").expect("a folder below this one");
    let config = ServiceConfig {
        engine: EngineConfig::default(),
        data_dir: Some(folder.path().to_owned()),
        roots: Vec::new(),
        clock: Arc::new(SystemClock),
    };
    let service = Service::open(config).await.expect("the folder can be used");
    for statement in [client::CREATE_STREAM, load::CREATE_STREAM, replay::CREATE_STREAM] {
        service.execute(statement).await.expect("the statement is right");
    }
    replay::fill(&service).await;
    let listen = ServeConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..ServeConfig::default() };
    let tell = move |address| ready.send(address).expect("main waits for it");
    serve(Arc::new(service), listen, tell, std::future::pending()).await.expect("a free port");
}

/// The value below which a share of all lies.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().checked_sub(1).expect("something was measured");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let at = (last as f64 * share).round() as usize;
    sorted[at]
}

/// Prints a figure beside its goal; whether it was met.
fn report(what: &str, value: Duration, goal: Duration) -> bool {
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    let met = value < goal;
    println!(
        "{what:<32} {:>9.3} ms  goal {:>6.1} ms  ratio {:>5.2}  {}",
        milliseconds(value),
        milliseconds(goal),
        value.as_secs_f64() / goal.as_secs_f64(),
        if met { "met" } else { "MISSED" }
    );
    met
}
