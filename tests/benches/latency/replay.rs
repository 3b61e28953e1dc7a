//! An hour of history on disk, and a client that reads all of it, over and over.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use squilla_gateway::Service;

/// The stream of the hour: a thousand events for each of its seconds.
pub(crate) const CREATE_STREAM: &str = "CREATE SOURCE hour (ts TIMESTAMP, number BIGINT, price DOUBLE, \
     WATERMARK FOR ts AS ts) WITH (connector = 'http', durability = 'durable', retention_size = '4GiB')";
const SECONDS: u64 = 3_600;
const SECOND_ROWS: u64 = 1_000;
/// Rows of the hour.
pub(crate) const ROWS: u64 = SECONDS * SECOND_ROWS;
/// Seconds of events in a request.
const BODY_SECONDS: u64 = 10;

/// Publishes the hour.
pub(crate) async fn fill(service: &Service) {
    for first in (0..SECONDS).step_by(usize::try_from(BODY_SECONDS).expect("it is small")) {
        let mut body = String::new();
        for number in first * SECOND_ROWS..(first + BODY_SECONDS) * SECOND_ROWS {
            let (second, milli) = (number / SECOND_ROWS, number % SECOND_ROWS);
            let (minute, second) = (second / 60, second % 60);
            writeln!(
                body,
                "{{\"ts\":\"2026-01-01T00:{minute:02}:{second:02}.{milli:03}Z\",\"number\":{number},\"price\":{milli}.25}}"
            )
            .expect("text grows");
        }
        let body = Bytes::from(body);
        while service.publish("hour", body.clone()).await.is_err() {
            // Its queue is full.
            tokio::task::yield_now().await;
        }
    }
}

/// Reads the hour, as lines of JSON, from its first row to its last, over and over until it is dropped; tells `read`
/// the time that each took.
pub(crate) async fn read_over_and_over(address: SocketAddr, read: impl Fn(Duration) + Send) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("http://{address}/api/v1/query");
    let query = json!({ "stream": "hour", "from": "earliest", "policy": "block", "limit": ROWS });
    loop {
        let started = Instant::now();
        let answer = http.post(&url).header("content-type", "application/json").body(query.to_string());
        let answer = answer.send().await.expect("the server answers");
        assert!(answer.status().is_success(), "{}", answer.status());
        let mut body = answer.bytes_stream();
        let mut lines = 0;
        while let Some(piece) = body.next().await {
            let piece = piece.expect("the server stays");
            lines += piece.iter().filter(|byte| **byte == b'\n').count();
        }
        assert_eq!(u64::try_from(lines).expect("it fits"), ROWS, "all rows of the hour");
        read(started.elapsed());
    }
}
