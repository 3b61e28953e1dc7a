//! How long answers take, with a real server and real sockets on this machine.
//!
//! Figures, each with its goal; the exit code is 1 when one is missed by more than 15 %:
//! - from a statement's text to its first row on a stream that runs, in the engine's process: 99th percentile under 10 ms;
//! - from an event's arrival to its row in each of 100 WebSocket clients of a filter that passes 1 %, while requests post
//!   100 events each: of 10,000 events a second median under 2 ms, 99th percentile under 10 ms; of 100,000 events a
//!   second 99th percentile under 50 ms. The load is open-loop: a request that is sent late counts from the moment at
//!   which it was due;
//! - from the watermark's arrival at the end of a window of a second to its result in each of 100 clients: median under
//!   5 ms;
//! - the filter's rows of 10,000 events a second once more while another client reads an hour of a durable stream's
//!   history, over and over: 99th percentile under 25 ms.
//!
//! `cargo run --release -p squilla-tests --bin latency`

mod client;
mod first;
mod load;
mod loads;
mod replay;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use squilla_engine::{EngineConfig, SystemClock};
use squilla_gateway::{ServeConfig, Service, ServiceConfig, serve};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use load::{Delivery, Load};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a goal may be missed by.
const MARGIN: f64 = 1.15;

fn main() -> ExitCode {
    tell_load();
    let server = runtime("server");
    let (clients, replayer) = (runtime("clients"), runtime("replayer"));
    let (ready, started) = oneshot::channel();
    server.spawn(run_server(ready));
    let met = clients.block_on(async {
        let (service, address) = started.await.expect("the server starts");
        let first_rows = server.spawn(async move { first::statements_to_first_rows(&service).await });
        let first_rows = first_rows.await.expect("statements do not fail");
        let mut met = report("statement to first row", &first_rows, (None, Some(10.0)));
        met &= deliver("10,000 events/s to row", loads::filtered(10_000), address, (Some(2.0), Some(10.0))).await;
        met &= deliver("100,000 events/s to row", loads::filtered(100_000), address, (None, Some(50.0))).await;
        met &= deliver("watermark to window's result", loads::WINDOWS, address, (Some(5.0), None)).await;
        met & beside_a_replay(address, &replayer).await
    });
    tell_load();
    clients.shutdown_background();
    replayer.shutdown_background();
    server.shutdown_background();
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How many others want the machine.
fn tell_load() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine {}", load.split(' ').next().unwrap_or("?"));
}

/// Posts to a stream, and reports what came of it beside the goals for median and 99th percentile.
async fn deliver(what: &str, load: Load, address: SocketAddr, goals: (Option<f64>, Option<f64>)) -> bool {
    let Delivery { latencies, missing, late_requests } = load.run(address).await;
    let (rows, clients) = (latencies.len(), load.clients);
    println!("{rows} rows to {clients} clients, {missing} missing, {late_requests} requests late by over 5 ms");
    report(what, &latencies, goals) && missing == 0
}

async fn beside_a_replay(address: SocketAddr, replayer: &Runtime) -> bool {
    let replays = Arc::new(Mutex::new(Vec::new()));
    let read = {
        let replays = replays.clone();
        move |took| replays.lock().expect("no holder of this lock panics").push(took)
    };
    // Not among the clients that are measured.
    let reading = replayer.spawn(replay::read_over_and_over(address, read));
    let met = deliver("beside a replay, event to row", loads::filtered(10_000), address, (None, Some(25.0))).await;
    reading.abort();
    // It is in the middle of an answer.
    let _ = reading.await;
    let replays = replays.lock().expect("no holder of this lock panics");
    let rate = (replays.len() as u64 * replay::ROWS) as f64 / replays.iter().sum::<Duration>().as_secs_f64();
    println!("{} replays of {} rows meanwhile, {rate:.0} rows/s", replays.len(), replay::ROWS);
    met && !replays.is_empty()
}

fn runtime(name: &str) -> Runtime {
    Builder::new_multi_thread().enable_all().thread_name(name).build().expect("threads start")
}

/// Serves on a free port, as `squilla serve` does, with an hour of history.
async fn run_server(ready: oneshot::Sender<(Arc<Service>, SocketAddr)>) {
    let folder = tempfile::tempdir_in(".").expect("a folder below this one");
    let config = ServiceConfig {
        engine: EngineConfig::default(),
        data_dir: Some(folder.path().to_owned()),
        roots: Vec::new(),
        clock: Arc::new(SystemClock),
    };
    let service = Arc::new(Service::open(config).await.expect("the folder can be used"));
    for statement in loads::CREATE_STREAMS.into_iter().chain([first::CREATE_STREAM, replay::CREATE_STREAM]) {
        service.execute(statement).await.expect("the statement is right");
    }
    replay::fill(&service).await;
    let listen = ServeConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..ServeConfig::default() };
    let served = service.clone();
    let tell = move |address| drop(ready.send((service, address)));
    serve(served, listen, tell, std::future::pending()).await.expect("a free port");
}

/// The value below which a share of all lies, in milliseconds.
fn quantile_ms(sorted: &[Duration], share: f64) -> f64 {
    let last = sorted.len().checked_sub(1).expect("something was measured");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let at = (last as f64 * share).round() as usize;
    sorted[at].as_secs_f64() * 1e3
}

/// Prints median and 99th percentile beside their goals in milliseconds; whether they were met.
fn report(what: &str, sorted: &[Duration], (median, p99): (Option<f64>, Option<f64>)) -> bool {
    let figures = [("median", 0.5, median), ("99 %", 0.99, p99)];
    figures.into_iter().fold(true, |met, (which, share, goal)| {
        let value = quantile_ms(sorted, share);
        let Some(goal) = goal else {
            println!("{what:<32} {which:<6} {value:>9.3} ms");
            return met;
        };
        let ratio = value / goal;
        let verdict = match ratio {
            ..1.0 => "met",
            ..MARGIN => "nearly met",
            _ => "MISSED",
        };
        println!("{what:<32} {which:<6} {value:>9.3} ms  goal {goal:>5.1} ms  ratio {ratio:>5.2}  {verdict}");
        met && ratio < MARGIN
    })
}
