//! What is posted.

use std::fmt::Write;
use std::time::Duration;

use crate::load::Load;

/// Events in a request.
const EVENTS: u64 = 100;

/// Streams that are posted to.
pub(crate) const CREATE_STREAMS: [&str; 2] = [
    "CREATE SOURCE readings (number BIGINT, due BIGINT) WITH (connector = 'http')",
    // Its rows come in order: its watermark is the event time of the last one.
    "CREATE SOURCE ticks (ts TIMESTAMP, due BIGINT, WATERMARK FOR ts AS ts) WITH (connector = 'http')",
];

/// A filter that passes one event of a hundred, one of each request.
pub(crate) const fn filtered(events_per_second: u64) -> Load {
    Load {
        stream: "readings",
        clients: 100,
        query: "SELECT number, due FROM readings WHERE number % 100 = 42",
        every: Duration::from_nanos(1_000_000_000 / (events_per_second / EVENTS)),
        events: readings,
        requests_a_row: 1,
        behind: 0,
    }
}

/// Windows of a second, of an event time that passes ten times as fast: each request moves it by a tenth of a second,
/// and the one behind a window's last one moves the watermark to the window's end.
pub(crate) const WINDOWS: Load = Load {
    stream: "ticks",
    clients: 100,
    query: "SELECT count(*) AS events, max(due) AS due FROM ticks GROUP BY tumble(ts, INTERVAL '1 second')",
    every: Duration::from_millis(10),
    events: ticks,
    requests_a_row: 10,
    behind: 1,
};

/// The events of a request, as NDJSON.
fn readings(request: u64, due: Duration) -> String {
    let mut body = String::new();
    for number in request * EVENTS..(request + 1) * EVENTS {
        writeln!(body, "{{\"number\":{number},\"due\":{}}}", due.as_nanos()).expect("text grows");
    }
    body
}

fn ticks(request: u64, due: Duration) -> String {
    let (minute, second, tenth) = (request / 600, request / 10 % 60, request % 10);
    let line = format!("{{\"ts\":\"2026-01-01T00:{minute:02}:{second:02}.{tenth}Z\",\"due\":{}}}\n", due.as_nanos());
    line.repeat(usize::try_from(EVENTS).expect("it is small"))
}
