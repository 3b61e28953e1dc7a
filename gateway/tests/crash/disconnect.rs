//! Clients that hang up at any moment while rows come, and come back with their position.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::oracle::{Count, Wanted, wanted};
use super::publish::{Book, Event, Publisher};
use super::random::Random;
use super::read::Reader;
use super::server::Home;
use super::suite::{STATEMENTS, execute, id_of_row};

/// Messages that a client reads before it hangs up, at the most.
const MESSAGES: u64 = 12;
/// Rows that are left out one by one: positions are those of the source.
const QUERY: &str = "SELECT id FROM events WHERE id % 3 > 0";

/// What there is to read; nothing while it grows.
type Goal = watch::Receiver<Option<Arc<Wanted>>>;

/// What became of it.
pub(crate) struct Report {
    pub(crate) rows: usize,
    pub(crate) disconnects: u64,
}

/// A client that reads until it has all, and hangs up after a few messages each time.
struct Client<T> {
    reader: Reader<T>,
    random: Random,
    disconnects: u64,
}

impl<T> Client<T> {
    fn new(reader: Reader<T>, seed: u64) -> Self {
        Self { reader, random: Random::new(seed), disconnects: 0 }
    }

    /// `all`: how many rows there are.
    async fn read(mut self, address: SocketAddr, goal: Goal, all: impl Fn(&Wanted) -> usize) -> (Vec<T>, u64) {
        let enough = |rows: &[T]| goal.borrow().as_ref().is_some_and(|goal| rows.len() >= all(goal));
        while !enough(&self.reader.rows) {
            // None at all: it has gone before anything came.
            let messages = self.random.within(0..MESSAGES);
            self.reader.read_some(address, messages, enough).await;
            self.disconnects += 1;
        }
        (self.reader.rows, self.disconnects)
    }
}

/// Publishes for so long, in one order, and then tells what must have been read.
async fn publish(address: SocketAddr, seed: u64, lasts: Duration, goal: watch::Sender<Option<Arc<Wanted>>>) {
    let book = Arc::new(Mutex::new(Book::default()));
    let mut publisher = Publisher::new("events", "p", seed, book.clone());
    let began = Instant::now();
    while began.elapsed() < lasts {
        publisher.requests(address, 1).await.expect("the server stays");
    }
    let next = book.lock().expect("no holder panics").next;
    let last = Event::last(next);
    publisher.rows(address, [last].into_iter()).await.expect("the server stays");
    let events: Vec<Event> = (0..next).map(Event::new).chain([last]).collect();
    goal.send_replace(Some(Arc::new(wanted(&events))));
}

/// Four clients that hang up and come back, and what each must have read.
pub(crate) async fn clients_hang_up(seed: u64, lasts: Duration) -> Report {
    let home = Home::new();
    let mut server = home.start(None).expect("it starts");
    let address = server.address;
    let http = reqwest::Client::new();
    for sql in STATEMENTS {
        execute(&http, address, sql).await.expect("the server stays");
    }
    let (told, goal) = watch::channel(None);
    let ids = |name, number: u64| Client::new(Reader::new(name, id_of_row), seed.wrapping_add(number));
    let counts = Client::new(Reader::new("counts", Count::of_row), seed.wrapping_add(4));
    let ((), kept, same, query, counts) = tokio::join!(
        publish(address, seed, lasts, told),
        ids("kept", 1).read(address, goal.clone(), |all| all.kept.len()),
        ids("kept", 2).read(address, goal.clone(), |all| all.kept.len()),
        ids(QUERY, 3).read(address, goal.clone(), |all| all.kept.len()),
        counts.read(address, goal.clone(), |all| all.counts.len()),
    );
    let wanted = goal.borrow().clone().expect("it was told");
    for (name, (rows, _)) in [("kept", &kept), ("kept", &same), (QUERY, &query)] {
        let differs = rows.iter().zip(&wanted.kept).position(|(row, wanted)| row != wanted);
        assert_eq!((differs, rows.len()), (None, wanted.kept.len()), "{name}: the first row that differs");
    }
    let (mut rows, mut all) = (counts.0, wanted.counts.clone());
    rows.sort_unstable();
    all.sort_unstable();
    assert!(rows == all, "counts: {} rows, not {}", rows.len(), all.len());
    server.terminate();
    assert_eq!(server.ended().await.code(), Some(0));
    home.check_log();
    let disconnects = kept.1 + same.1 + query.1 + counts.1;
    Report { rows: wanted.kept.len(), disconnects }
}
