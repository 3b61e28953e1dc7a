//! Publishers that number their requests, and send again what was not acknowledged.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::random::Random;
use super::server::PATIENCE;

/// The event time of row 0, in milliseconds.
pub(crate) const START_MS: i64 = 1_704_067_200_000;
/// Event time between two rows.
const STEP_MS: i64 = 20;
/// How far a row's event time lies back at most: farther than the watermark waits, so that some rows are late.
const DISORDER_MS: u64 = 3_000;
/// Event time by which the last row lies behind all others.
const LAST_MS: i64 = 3_600_000;

/// An event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: i64,
    pub(crate) at_ms: i64,
    /// Null for some.
    pub(crate) part: Option<i64>,
}

impl Event {
    /// The event of a number: always the same.
    pub(crate) fn new(id: i64) -> Self {
        let mut random = Random::new(id.cast_unsigned());
        let back = random.within(0..DISORDER_MS).cast_signed();
        let part = random.within(0..6).cast_signed();
        Self { id, at_ms: START_MS + id * STEP_MS - back, part: (part < 5).then_some(part) }
    }

    /// The last event, which `kept` keeps: it closes all windows before it.
    pub(crate) fn last(next: i64) -> Self {
        let id = if next % 3 == 0 { next + 1 } else { next };
        Self { at_ms: Self::new(id).at_ms + LAST_MS, ..Self::new(id) }
    }

    fn json(self) -> Value {
        json!({"id": self.id, "ts": self.at_ms, "part": self.part})
    }
}

/// What all publishers have sent.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// The next event's number.
    pub(crate) next: i64,
    /// Rows that were sent, again and again where they were.
    pub(crate) sent: u64,
    /// Rows that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Requests that had been taken when they were sent again.
    pub(crate) duplicates: u64,
}

/// The server has gone.
#[derive(Debug)]
pub(crate) struct Gone;

/// One that publishes to a source.
pub(crate) struct Publisher {
    stream: &'static str,
    name: String,
    sequence: u64,
    /// What was not acknowledged: its rows and the request's body.
    pending: Option<(u64, String)>,
    book: Arc<Mutex<Book>>,
    random: Random,
    client: reqwest::Client,
}

impl Publisher {
    pub(crate) fn new(stream: &'static str, name: &str, seed: u64, book: Arc<Mutex<Book>>) -> Self {
        let client = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
        let random = Random::new(seed);
        Self { stream, name: name.to_owned(), sequence: 0, pending: None, book, random, client }
    }

    /// So many requests of new rows, after what is pending.
    pub(crate) async fn requests(&mut self, address: SocketAddr, requests: usize) -> Result<(), Gone> {
        self.flush(address).await?;
        for _ in 0..requests {
            let rows = self.random.within(1..120);
            let first = {
                let mut book = self.book.lock().expect("no holder panics");
                let first = book.next;
                book.next += rows.cast_signed();
                first
            };
            self.rows(address, (first..first + rows.cast_signed()).map(Event::new)).await?;
        }
        Ok(())
    }

    /// A request of these rows.
    pub(crate) async fn rows(&mut self, address: SocketAddr, events: impl Iterator<Item = Event>) -> Result<(), Gone> {
        assert!(self.pending.is_none(), "what is pending goes first");
        let lines: Vec<String> = events.map(|event| event.json().to_string()).collect();
        self.pending = Some((lines.len() as u64, lines.join("\n")));
        self.flush(address).await
    }

    /// Sends what is pending until it is acknowledged.
    pub(crate) async fn flush(&mut self, address: SocketAddr) -> Result<(), Gone> {
        let Some((rows, body)) = self.pending.clone() else { return Ok(()) };
        let (stream, name, sequence) = (self.stream, &self.name, self.sequence);
        let url = format!("http://{address}/api/v1/streams/{stream}/events?producer_id={name}&sequence={sequence}");
        loop {
            self.book.lock().expect("no holder panics").sent += rows;
            let answer = self.client.post(&url).body(body.clone()).send().await.map_err(|_| Gone)?;
            let status = answer.status();
            let told = answer.text().await.map_err(|_| Gone)?;
            match status {
                StatusCode::OK => {
                    let told: Value = serde_json::from_str(&told).expect("answers are JSON");
                    assert_eq!(told["accepted"], rows, "{told}");
                    let mut book = self.book.lock().expect("no holder panics");
                    book.acknowledged += rows;
                    book.duplicates += u64::from(told["duplicate"] == true);
                    break;
                }
                // Nothing was taken.
                StatusCode::TOO_MANY_REQUESTS => {}
                // It drains.
                StatusCode::SERVICE_UNAVAILABLE => return Err(Gone),
                _ => panic!("{status}: {told}"),
            }
        }
        self.sequence += 1;
        self.pending = None;
        Ok(())
    }
}
