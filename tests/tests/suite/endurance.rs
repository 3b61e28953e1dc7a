//! The demo runs on: rows keep coming, and memory stays flat.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::json;
use squilla_tests::program::squilla;
use tokio::time::Instant;

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(8);
/// The same with `tests/run --long`.
const WATCHED_LONG: Duration = Duration::from_secs(600);
/// What memory may grow by from the second quarter of the time to its last, in kilobytes: logs fill up to their bounds,
/// which are larger than this, in the first minutes of a long watch.
const GROWTH_KB: u64 = 96 << 10;
/// How long rows may stay away.
const PATIENCE: Duration = Duration::from_secs(60);

const DEPARTURES: &str = "CREATE STREAM departures AS SELECT window_start, origin, carrier, count(*) AS flights \
                          FROM flights WHERE event = 'departed' GROUP BY origin, carrier, tumble('30m')";
const QUERIES: [&str; 3] = [
    "SELECT * FROM departures",
    "SELECT window_start, origin, sum(flights) AS flights FROM departures GROUP BY origin, tumble('2h')",
    "SELECT window_start, cpu, avg(usage_percent) AS busy FROM host_cpu GROUP BY cpu, hop('1s', '5s')",
];

/// The demo in a process of its own, ended with the test.
struct Demo {
    child: Child,
    url: String,
}

impl Demo {
    fn start() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = free.local_addr().expect("it is bound").to_string();
        drop(free);
        let mut child = Command::new(squilla())
            .args(["demo", "--listen", &address])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut url = String::new();
        let output = child.stdout.take().expect("standard output is piped");
        BufReader::new(output).read_line(&mut url).expect("it prints its URL");
        Self { child, url: url.trim().to_owned() }
    }

    /// Kilobytes of memory that the process has.
    fn memory_kb(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended; then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines that a live query gives until the deadline; `each` is called for every piece of the answer.
async fn watch(url: &str, sql: &str, deadline: Instant, mut each: impl FnMut()) -> usize {
    let answer = reqwest::Client::new().post(format!("{url}/api/v1/query")).json(&json!({ "sql": sql })).send().await;
    let answer = answer.expect("the server answers");
    if !answer.status().is_success() {
        panic!("{sql}: {}", answer.text().await.unwrap_or_default());
    }
    let mut pieces = answer.bytes_stream();
    let mut lines = 0;
    loop {
        // Whatever the deadline, the first rows are waited for.
        let until = if lines == 0 { deadline.max(Instant::now() + PATIENCE) } else { deadline };
        match tokio::time::timeout_at(until, pieces.next()).await {
            Ok(Some(piece)) => {
                lines += piece.expect("the answer goes on").iter().filter(|byte| **byte == b'\n').count()
            }
            Ok(None) => panic!("{sql} has ended"),
            Err(_) => return lines,
        }
        each();
        if Instant::now() >= deadline {
            return lines;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chained_pair_and_a_query_over_the_host_run_on_in_flat_memory() {
    let long = std::env::var("SQUILLA_LONG").is_ok_and(|long| long == "1");
    let watched = if long { WATCHED_LONG } else { WATCHED };
    let demo = Demo::start();
    let created = reqwest::Client::new()
        .post(format!("{}/api/v1/statements", demo.url))
        .json(&json!({ "sql": DEPARTURES }))
        .send()
        .await
        .expect("the server answers");
    assert!(created.status().is_success(), "{}", created.text().await.unwrap_or_default());

    let (start, deadline) = (Instant::now(), Instant::now() + watched);
    let mut quarters = [0_u64; 4];
    let sample = || {
        let quarter = (start.elapsed().as_secs_f64() / watched.as_secs_f64() * 4.0) as usize;
        let most = &mut quarters[quarter.min(3)];
        *most = (*most).max(demo.memory_kb());
    };
    let (named, chained, host) = tokio::join!(
        watch(&demo.url, QUERIES[0], deadline, || {}),
        watch(&demo.url, QUERIES[1], deadline, || {}),
        watch(&demo.url, QUERIES[2], deadline, sample),
    );
    println!("rows: {named}, {chained}, {host}; most memory of each quarter, in KB: {quarters:?}");
    assert!(named > 0 && chained > 0 && host > 0, "{named}, {chained}, {host}");
    assert!(quarters[3] <= quarters[1] + GROWTH_KB, "memory grows: {quarters:?} KB");
}
