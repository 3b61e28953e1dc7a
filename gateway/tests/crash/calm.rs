//! Sessions of several partitions. None of their rows is late: how long a session stays open for a row that is late depends
//! on how the rows of the partitions meet.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::compare::compare;
use super::oracle::{Count, calm_sessions};
use super::publish::{Book, Event, Publisher};
use super::read::Reader;
use super::statement::{counts, source, stream};
use super::suite::published;

/// The source has one publisher, whose rows lie back less far than the watermark waits. What reads it has two partitions,
/// each of every second row.
pub(crate) const STATEMENTS: [&str; 3] = [
    source!("calm", "5 seconds"),
    stream!(
        "calm_sides",
        "SELECT id, ts, part FROM calm WHERE id % 2 = 0 UNION ALL SELECT id, ts, part FROM calm WHERE id % 2 <> 0"
    ),
    stream!("calm_sessions", counts!("count(*)", "calm_sides", "session('300ms')")),
];

/// The source, and who reads the sessions.
pub(crate) struct Calm {
    book: Arc<Mutex<Book>>,
    pub(crate) publisher: Publisher,
    pub(crate) sessions: Reader<Count>,
}

impl Calm {
    pub(crate) fn new(seed: u64) -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        let publisher = Publisher::new("calm", "c", seed, book.clone());
        Self { book, publisher, sessions: Reader::new("calm_sessions", Count::of_row) }
    }

    /// Compares the sessions with those of the source's rows, behind which comes one that closes them.
    pub(crate) async fn verify(&mut self, client: &reqwest::Client, address: SocketAddr) {
        self.publisher.flush(address).await.expect("the server stays");
        let last = Event::last(self.book.lock().expect("no holder panics").next);
        self.publisher.rows(address, [last].into_iter()).await.expect("the server stays");
        let events = published("calm", address, &self.book, last).await;
        compare(client, address, &mut self.sessions, &calm_sessions(&events)).await;
    }
}
