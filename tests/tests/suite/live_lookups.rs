//! Look-ups that begin amid live streams: what is made of them is whole, or marked.

use squilla_engine::EventTime;
use squilla_tests::case::parse_time;

use super::live::{Bench, bench};

const JOINED: &str = "FROM sent AS s JOIN hosts AS h ON s.host = h.host";

/// A table that holds host a, and a stream with rows of it.
async fn begun() -> Bench {
    let mut bench = bench().await;
    bench
        .create("CREATE TABLE hosts (host VARCHAR, since TIMESTAMP, PRIMARY KEY (host)) WITH (connector = 'replay')")
        .await;
    bench.feed("hosts", &[1]).await;
    while !bench.lab.engine.jobs().iter().any(|job| job.kind == "table" && job.counters.absorbed == 1) {
        tokio::task::yield_now().await;
    }
    bench.feed("sent", &[1, 12, 14]).await;
    bench
}

fn windows() -> String {
    format!("SELECT window_end, h.host, count(*) AS n {JOINED} GROUP BY h.host, tumble('10s')")
}

#[tokio::test]
async fn windows_over_a_look_up_begin_with_those_that_are_open() {
    let mut bench = begun().await;
    let mut windows = bench.subscribe(&windows()).await;
    assert_eq!(windows.info().complete_from, None);
    bench.feed("sent", &[16]).await;
    assert_eq!(bench.rest(&mut windows).await, ["00:00:20, a, 3"]);
}

#[tokio::test]
async fn windows_over_a_look_up_that_runs_since_later_are_marked() {
    let mut bench = begun().await;
    let _other = bench.subscribe(&format!("SELECT h.host {JOINED}")).await;
    let mut windows = bench.subscribe(&windows()).await;
    let last = parse_time("00:00:14").expect("a time");
    assert_eq!(windows.info().complete_from, Some(EventTime(last + 1)));
    bench.feed("sent", &[16]).await;
    assert_eq!(bench.rest(&mut windows).await, ["00:00:20, a, 1"]);
}
