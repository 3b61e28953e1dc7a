//! Open-loop posts to one stream, and when their rows reach many clients of a filter.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::client::Client;

/// WebSocket clients, each with the query.
pub(crate) const CLIENTS: usize = 100;
/// The stream that is posted to. `due` is the moment at which the request was due, in nanoseconds of the benchmark.
pub(crate) const CREATE_STREAM: &str = "CREATE SOURCE readings (number BIGINT, due BIGINT) WITH (connector = 'http')";
/// The filter: it passes one event of a hundred.
const QUERY: &str = "SELECT number, due FROM readings WHERE number % 100 = 42";
/// Events in a request: one of them passes the filter.
const EVENTS: u64 = 100;
/// From request to request: 10,000 events a second.
const EVERY: Duration = Duration::from_millis(10);
/// Requests before those that count: connections open, code is warm.
const WARM_UP: u64 = 200;
/// Requests that count: 20 seconds.
const REQUESTS: u64 = 2000;
/// How long rows may take before they are missing.
const PATIENCE: Duration = Duration::from_secs(5);
/// A request sent later than this after it was due is told: the machine is too busy to measure.
const LATE: Duration = Duration::from_millis(5);

/// What was seen.
pub(crate) struct Delivery {
    /// From due to received, a row and client, sorted.
    pub(crate) latencies: Vec<Duration>,
    /// Rows that did not come.
    pub(crate) missing: usize,
    /// Requests that were sent late.
    pub(crate) late_requests: usize,
}

/// Posts, and waits for all rows in all clients. `round`: how often that was done before.
pub(crate) async fn events_to_rows(address: SocketAddr, round: u64) -> Delivery {
    let first = round * (WARM_UP + REQUESTS);
    let start = Instant::now();
    let mut readers = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(address).await;
        client.subscribe("1", QUERY).await;
        readers.spawn(read(client, start, first));
    }
    let late_requests = post_all(address, start, first).await;
    let mut latencies = Vec::new();
    while let Some(read) = readers.join_next().await {
        latencies.extend(read.expect("a reader does not fail"));
    }
    latencies.sort();
    let expected = CLIENTS * usize::try_from(REQUESTS).expect("it is small");
    Delivery { missing: expected - latencies.len(), latencies, late_requests }
}

/// Reads until the rows of all requests that count have come, in whatever order, or none came for too long.
async fn read(mut client: Client, start: Instant, first: u64) -> Vec<Duration> {
    let expected = usize::try_from(REQUESTS).expect("it is small");
    let mut latencies = Vec::with_capacity(expected);
    while latencies.len() < expected {
        let Ok(message) = tokio::time::timeout(PATIENCE, client.until("rows")).await else { return latencies };
        let now = start.elapsed();
        for row in message["rows"].as_array().expect("rows are an array") {
            let request = row[0].as_u64().expect("a number") / EVENTS;
            let due = Duration::from_nanos(row[1].as_u64().expect("a number"));
            if request >= first + WARM_UP {
                latencies.push(now.saturating_sub(due));
            }
        }
    }
    latencies
}

/// Sends each request when it is due, whether earlier ones were answered or not; how many were sent late.
async fn post_all(address: SocketAddr, start: Instant, first: u64) -> usize {
    let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().expect("a client");
    let url = format!("http://{address}/api/v1/streams/readings/events");
    let late = Arc::new(AtomicUsize::new(0));
    let begin = start.elapsed() + EVERY;
    let mut posts = JoinSet::new();
    for request in 0..WARM_UP + REQUESTS {
        let due = begin + EVERY * u32::try_from(request).expect("it is small");
        tokio::time::sleep_until((start + due).into()).await;
        if request >= WARM_UP && start.elapsed().saturating_sub(due) > LATE {
            late.fetch_add(1, Relaxed);
        }
        let post = http.post(&url).body(events(first + request, due));
        posts.spawn(async move {
            let answer = post.send().await.expect("the server answers");
            assert!(answer.status().is_success(), "{}", answer.status());
        });
    }
    while let Some(post) = posts.join_next().await {
        post.expect("a post does not fail");
    }
    late.load(Relaxed)
}

/// The events of a request, as NDJSON.
fn events(request: u64, due: Duration) -> String {
    let mut body = String::new();
    for number in request * EVENTS..(request + 1) * EVENTS {
        writeln!(body, "{{\"number\":{number},\"due\":{}}}", due.as_nanos()).expect("text grows");
    }
    body
}
