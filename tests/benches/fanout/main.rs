//! One query, many WebSocket clients: what reaches them, how late, and what each of them takes while nothing happens;
//! beside a bare broadcast over the same WebSocket library.
//!
//! Three figures, each with its goal; the exit code is 1 when one is missed by more than 15 %:
//! - rows delivered a second to 10,000 clients, messages following as fast as the clients have them: 0.6 of what the
//!   bare broadcast delivers in the same run, of messages that are as long. All rows come, which is looked at;
//! - how long a row takes to each of them, 99th percentile, at half that rate: under 200 ms;
//! - 15,000 clients that have subscribed and get nothing: under 16 KiB each of the server's memory.
//!
//! The clients are a process of their own: this program, started by itself. Both need a file for each client; where
//! the limit of files is in the way, there are fewer clients, which is told.
//!
//! `cargo run --release -p squilla-tests --bin fanout [-- CLIENTS]`

mod bare;
mod clients;
mod crowd;
mod rows;
mod squilla;

use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use crowd::Crowd;
use rows::{MESSAGE_ROWS, Target};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Clients that rows are delivered to, unless the command line says otherwise.
const CLIENTS: usize = 10_000;
/// Clients that get nothing, for so many that get something.
const IDLE_SHARE: f64 = 1.5;
/// Files that a process has open beside those of its clients.
const OTHER_FILES: usize = 500;
/// Messages on their way to the clients, so that a server never waits for the next one.
const AHEAD: u64 = 4;
/// How long rows are delivered before they count, and while they do.
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(8);
/// Goals; and what they may be missed by.
const SHARE_GOAL: f64 = 0.6;
const P99_GOAL_MS: f64 = 200.0;
const IDLE_GOAL_KIB: f64 = 16.0;
const MARGIN: f64 = 1.15;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads start");
    if let [word, address, count, kind] = arguments.as_slice()
        && word == "clients"
    {
        let target = if kind == "bare" { Target::Bare } else { Target::Squilla { idle: kind == "idle" } };
        runtime.block_on(clients::run(address, count.parse().expect("a number"), target));
        return ExitCode::SUCCESS;
    }
    let wanted = arguments.first().map_or(CLIENTS, |count| count.parse().expect("a number of clients"));
    let met = runtime.block_on(measure(wanted));
    runtime.shutdown_background();
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(wanted: usize) -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine {}", load.split(' ').next().unwrap_or("?"));
    let limit = raise_files();
    let room = limit.saturating_sub(OTHER_FILES);
    let idle_wanted = (wanted as f64 * IDLE_SHARE) as usize;
    let (clients, idle) = (wanted.min(room), idle_wanted.min(room));
    if clients < wanted || idle < idle_wanted {
        println!("the limit of {limit} files allows {clients} clients, and {idle} that are idle");
    }
    let served = squilla::start().await;
    let before = resident_kib();
    let crowd = Crowd::gather(served.address, idle, Target::Squilla { idle: true }).await;
    // What they were told is read, and buffers that were needed for it are free again.
    crowd.rest().await;
    let each = (resident_kib() - before) / idle as f64;
    drop(crowd);
    let rested = report(&format!("memory of each of {idle} idle clients"), each, IDLE_GOAL_KIB, "KiB");

    let bare = bare::start().await;
    let first = deliver(&bare, clients, Target::Bare).await;
    let (rate, p99) = both(&served, clients).await;
    let second = deliver(&bare, clients, Target::Bare).await;
    let bare = f64::midpoint(first, second);
    println!("a bare broadcast delivered {first:.0} and {second:.0} rows/s to {clients} clients, squilla {rate:.0}");
    // Upside down: less is better, as in the others.
    let shared = report("bare broadcast's rows/s to ours", bare / rate, 1.0 / SHARE_GOAL, "");
    let soon = report("event to row at half that rate, 99 %", p99, P99_GOAL_MS, "ms");
    rested && shared && soon
}

/// What squilla delivers to clients, and how late at half the rate.
async fn both(served: &squilla::Served, clients: usize) -> (f64, f64) {
    let mut crowd = Crowd::gather(served.address, clients, Target::Squilla { idle: false }).await;
    let rate = saturate(&mut crowd, served).await;
    crowd.settle().await;
    let p99 = pace(&mut crowd, served, rate / 2.0).await;
    let seen = crowd.leave().await;
    assert_eq!(seen.missing, 0, "all rows come");
    println!("at half that rate: median {:.1} ms, 99 % {p99:.1} ms", seen.median_ms);
    (rate, p99)
}

async fn deliver(bare: &bare::Served, clients: usize, target: Target) -> f64 {
    let mut crowd = Crowd::gather(bare.address, clients, target).await;
    let rate = saturate(&mut crowd, bare).await;
    crowd.settle().await;
    assert_eq!(crowd.leave().await.missing, 0, "all rows come");
    rate
}

/// Takes rows for all clients.
pub(crate) trait Publish {
    /// The rows of one message, as they stand in it.
    async fn publish(&self, first: u64, due: u64);
}

/// Rows a second to all clients together, while messages follow as fast as they are read.
async fn saturate(crowd: &mut Crowd, server: &impl Publish) -> f64 {
    let began = tokio::time::Instant::now();
    let mut counted = None;
    loop {
        let passed = began.elapsed();
        if counted.is_none() && passed >= WARM_UP {
            counted = Some((passed, crowd.delivered()));
        }
        if let Some((since, rows)) = counted
            && passed >= WARM_UP + MEASURED
        {
            return (crowd.delivered() - rows) as f64 / (passed - since).as_secs_f64();
        }
        if crowd.waiting() < AHEAD * MESSAGE_ROWS * crowd.clients() {
            crowd.publish(server, now()).await;
        } else {
            crowd.progress().await;
        }
    }
}

/// The 99th percentile of what a row takes at a rate of rows to all clients together, in milliseconds. A message that is
/// sent late counts from the moment at which it was due.
async fn pace(crowd: &mut Crowd, server: &impl Publish, rate: f64) -> f64 {
    let every = Duration::from_secs_f64((MESSAGE_ROWS * crowd.clients()) as f64 / rate);
    let (begin, clock) = (tokio::time::Instant::now(), now());
    let messages = (MEASURED.as_secs_f64() / every.as_secs_f64()) as u32;
    crowd.forget().await;
    for message in 1..=messages {
        let due = every * message;
        tokio::time::sleep_until(begin + due).await;
        crowd.publish(server, clock + u64::try_from(due.as_micros()).expect("some seconds")).await;
    }
    crowd.settle().await;
    crowd.p99_ms().await
}

/// The time of day, which both processes know, in microseconds: JSON's numbers are exact for those.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_micros()).expect("it is small")
}

/// Memory of this process that is in use, in KiB.
fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("of all processes");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Lets this process have as many files as it may, and those that it starts; how many that is.
fn raise_files() -> usize {
    let limits = || {
        let text = std::fs::read_to_string("/proc/self/limits").expect("the kernel tells");
        let line = text.lines().find(|line| line.starts_with("Max open files")).expect("of all processes").to_owned();
        let mut words = line.split_whitespace().skip(3).map(|word| word.parse().unwrap_or(usize::MAX));
        (words.next().expect("a soft limit"), words.next().expect("a hard limit"))
    };
    let (_, hard) = limits();
    // Without this command the limit stays, and is told.
    let _ = Command::new("prlimit")
        .args([format!("--pid={}", std::process::id()), format!("--nofile={hard}:{hard}")])
        .status();
    limits().0
}

/// Prints a figure beside its goal; whether it was met.
fn report(what: &str, value: f64, goal: f64, unit: &str) -> bool {
    let ratio = value / goal;
    let verdict = if ratio < 1.0 {
        "met"
    } else if ratio < MARGIN {
        "nearly met"
    } else {
        "MISSED"
    };
    println!("{what:<40} {value:>8.2} {unit:<3}  goal {goal:>7.2}  ratio {ratio:>5.2}  {verdict}");
    ratio < MARGIN
}
