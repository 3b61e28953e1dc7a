//! A source and what is computed of it, over many processes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::calm::{self, Calm};
use super::compare::{compare, difference};
use super::oracle::{Count, Pair, Wanted, wanted};
use super::publish::{Book, Event, Gone, Publisher};
use super::random::Random;
use super::read::{Reader, Stopped};
use super::server::{Home, PATIENCE, Server};
use super::several::{self, Several};
use super::statement::{alter, counts, source, stream, totals};

/// Publishers of the source, which publish at the same time.
const PUBLISHERS: usize = 3;

pub(crate) const STATEMENTS: [&str; 13] = [
    source!("events", "2 seconds"),
    stream!("kept", "SELECT id, ts, part FROM events WHERE id % 3 <> 0"),
    stream!("counts", counts!("count(*)", "kept", "tumble('10s')")),
    stream!("sessions", counts!("count(*)", "kept", "session('500ms')")),
    stream!(
        "pairs",
        "SELECT k.id AS id, e.id AS before FROM kept k LEFT JOIN events e \
         ON e.id + 1 = k.id AND e.ts BETWEEN k.ts - INTERVAL '4 seconds' AND k.ts + INTERVAL '4 seconds'"
    ),
    stream!("totals", totals!("count(*)", "kept")),
    // They begin anew when they are altered.
    stream!("grown", "SELECT id, ts, part FROM events WHERE id % 3 <> 0"),
    // They go on when what they read begins anew.
    stream!("grown_rows", "SELECT id FROM grown"),
    stream!("grown_counts", counts!("count(*)", "grown", "tumble('10s')")),
    stream!("grown_sessions", counts!("count(*)", "grown", "session('500ms')")),
    stream!("spans", counts!("count(*)", "events WHERE id % 3 <> 0", "session('500ms')")),
    "CREATE STREAM IF NOT EXISTS quick WITH (durability = 'buffered') AS SELECT id FROM events",
    // Its segments are so small that they are sealed, and removed, all the time.
    "CREATE SOURCE IF NOT EXISTS small (id BIGINT, ts TIMESTAMP, part BIGINT)
     WITH (connector = 'http', durability = 'durable', retention_size = '16KiB', idle_timeout = '10h')",
];

/// Longer than a session and the disorder of rows, in seconds.
const SPAN_S: i64 = 30;

/// What stands in a stream whose rows replace each other.
const TOTALS: &str = "SELECT part, n, total, least, greatest FROM totals";

/// Streams go on that rested when the process died.
const RESUMED: [&str; 3] = ["RESUME STREAM kept", "RESUME STREAM counts", "RESUME STREAM sessions"];

/// Streams that are made and dropped.
const SCRATCH: [&str; 4] = [
    stream!("scratch", "SELECT id FROM events WHERE id % 7 = 0"),
    "DROP STREAM IF EXISTS scratch",
    stream!("scratch", "SELECT part, count(*) AS n FROM events GROUP BY session('100ms'), part"),
    "DROP STREAM IF EXISTS scratch",
];

/// What is done with streams while rows come: the queries that they go over to tell the same rows, those of `grown` with
/// more columns or less.
const CHANGES: [[&str; 13]; 2] = [
    [
        "ALTER STREAM grown AS SELECT id, id % 2 AS more, part, ts FROM events WHERE id % 3 <> 0",
        alter!("totals", totals!("count(id)", "kept")),
        alter!("spans", counts!("count(id)", "events WHERE id % 3 > 0", "session('500ms')")),
        "PAUSE STREAM kept",
        alter!("counts", counts!("count(id)", "kept WHERE id >= 0", "tumble('10s')")),
        "RESUME STREAM kept",
        "ALTER STREAM kept AS SELECT id, ts, part FROM events WHERE id % 3 > 0",
        SCRATCH[0],
        SCRATCH[1],
        SCRATCH[2],
        "PAUSE STREAM sessions",
        SCRATCH[3],
        "RESUME STREAM sessions",
    ],
    [
        SCRATCH[2],
        alter!("spans", counts!("count(*)", "events WHERE id % 3 <> 0", "session('500ms')")),
        "ALTER STREAM grown AS SELECT id, ts, part FROM events WHERE id % 3 > 0",
        "PAUSE STREAM sessions",
        "ALTER STREAM kept AS SELECT id, ts, part FROM events WHERE id % 3 <> 0",
        "PAUSE STREAM counts",
        "RESUME STREAM counts",
        SCRATCH[3],
        SCRATCH[0],
        "RESUME STREAM sessions",
        alter!("totals", totals!("count(*)", "kept")),
        SCRATCH[1],
        alter!("counts", counts!("count(*)", "kept", "tumble('10s')")),
    ],
];

pub(crate) fn pair_of_row(row: &[Value]) -> Pair {
    (id_of_row(row), row[1].as_i64())
}

/// See the module.
pub(crate) struct Suite {
    home: Home,
    book: Arc<Mutex<Book>>,
    publishers: Vec<Publisher>,
    small_book: Arc<Mutex<Book>>,
    small: Publisher,
    several: Several,
    calm: Calm,
    kept: Reader<i64>,
    counts: Reader<Count>,
    sessions: Reader<Count>,
    pairs: Reader<Pair>,
    quick: Reader<i64>,
    client: reqwest::Client,
    /// Failpoints that were passed.
    pub(crate) passed: BTreeSet<String>,
    /// Processes that were killed, and that have begun to work.
    kills: u64,
    processes: usize,
}

/// How a process ends that does not end at a failpoint.
pub(crate) enum End {
    /// It is asked to, when all requests are acknowledged.
    Asked,
    /// It is killed, after so long.
    Killed(Duration),
}

/// What was done and compared.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Processes that were killed.
    pub(crate) kills: u64,
    /// Rows.
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    /// Requests that had been taken when they were sent again.
    pub(crate) duplicates: u64,
    pub(crate) windows: usize,
    /// Rows of windows.
    pub(crate) counts: usize,
    /// Of the stream of which a crash may lose rows.
    pub(crate) gaps: usize,
    pub(crate) epochs: usize,
}

impl Figures {
    pub(crate) fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.duplicates += other.duplicates;
        self.windows += other.windows;
        self.counts += other.counts;
        self.gaps += other.gaps;
        self.epochs += other.epochs;
    }
}

pub(crate) fn id_of_row(row: &[Value]) -> i64 {
    row[0].as_i64().expect("an id")
}

impl Suite {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let book = Arc::new(Mutex::new(Book::default()));
        let publisher = |at| Publisher::new("events", &format!("p{at}"), random.number(), book.clone());
        let publishers = (0..PUBLISHERS).map(publisher).collect();
        let small_book = Arc::new(Mutex::new(Book::default()));
        Self {
            home: Home::new(),
            publishers,
            book,
            small: Publisher::new("small", "p", seed, small_book.clone()),
            small_book,
            several: Several::new(random.number()),
            calm: Calm::new(random.number()),
            kept: Reader::new("kept", id_of_row),
            counts: Reader::new("counts", Count::of_row),
            sessions: Reader::new("sessions", Count::of_row),
            pairs: Reader::new("pairs", pair_of_row),
            quick: Reader::lossy("quick", id_of_row),
            client: reqwest::Client::builder().timeout(PATIENCE).build().expect("a client"),
            passed: BTreeSet::new(),
            kills: 0,
            processes: 0,
        }
    }

    /// Starts a process, which may end at an armed failpoint, and has it take so many requests of each publisher. The
    /// failpoint that ended it.
    pub(crate) async fn process(&mut self, armed: Option<&str>, requests: usize, end: End) -> Option<String> {
        if let Some(server) = self.home.start(armed) {
            self.serve(server, requests, end).await;
        }
        let (passed, end) = self.home.passed();
        self.passed.extend(passed);
        self.home.check_log();
        self.kills += u64::from(end.is_some());
        end
    }

    async fn serve(&mut self, mut server: Server, requests: usize, end: End) {
        let address = server.address;
        let killed = match end {
            End::Asked => None,
            End::Killed(after) => Some(after),
        };
        let work = self.work(address, requests);
        let done = match killed {
            None => work.await.is_ok(),
            // The processor is elsewhere when the time is up: at any of its instructions.
            Some(after) => tokio::time::timeout(after, work).await.is_ok_and(|worked| worked.is_ok()),
        };
        match killed {
            Some(_) => server.kill(),
            None if done => server.terminate(),
            None => {}
        }
        let status = server.ended().await;
        self.kills += u64::from(killed.is_some());
        assert!(status.code() == Some(0) || status.signal().is_some(), "the server ended with {status}");
    }

    /// Statements, then requests of all publishers at the same time, while clients read.
    async fn work(&mut self, address: SocketAddr, requests: usize) -> Result<(), Gone> {
        for sql in statements() {
            execute(&self.client, address, sql).await?;
        }
        let round = self.processes % CHANGES.len();
        self.processes += 1;
        let change = async {
            // In their order, those of one beside those of the other.
            let change = async |changes: &[&str]| {
                for sql in changes {
                    execute(&self.client, address, sql).await?;
                }
                Ok(())
            };
            let (own, of_several) = tokio::join!(change(&CHANGES[round]), change(&several::CHANGES[round]));
            own.and(of_several)
        };
        let publish = async {
            let events = self.publishers.iter_mut().map(|publisher| publisher.requests(address, requests));
            let (events, small, west, calm, changed) = tokio::join!(
                futures::future::join_all(events),
                self.small.requests(address, requests),
                self.several.west.requests(address, requests),
                self.calm.publisher.requests(address, requests),
                change
            );
            events.into_iter().chain([small, west, calm, changed]).collect::<Result<(), Gone>>()
        };
        let read = async {
            tokio::join!(
                self.kept.read(address, |_| false),
                self.counts.read(address, |_| false),
                self.sessions.read(address, |_| false),
                self.pairs.read(address, |_| false),
                self.quick.read(address, |_| false),
                self.several.rows.read(address, |_| false),
                self.several.counts.read(address, |_| false),
                self.calm.sessions.read(address, |_| false)
            )
        };
        tokio::pin!(publish, read);
        tokio::select! {
            published = &mut publish => published,
            // The server has gone: publishers notice it too.
            _ = &mut read => publish.await,
        }
    }

    /// Compares what the streams hold with what they must hold.
    pub(crate) async fn verify(&mut self) -> Figures {
        let mut server = self.home.start(None).expect("it starts");
        let address = server.address;
        let last = self.last_rows(address).await;
        let last_of_west = self.several.last_row(address).await;
        let events = published("events", address, &self.book, last).await;
        let wanted = wanted(&events);
        compare(&self.client, address, &mut self.kept, &wanted.kept).await;
        assert!(self.kept.rows == wanted.kept, "kept: its rows are in the order of the source's");
        compare(&self.client, address, &mut self.counts, &wanted.counts).await;
        assert!(self.counts.rows.is_sorted_by_key(|count| count.start_s), "windows come in the order of their ends");
        compare(&self.client, address, &mut self.sessions, &wanted.sessions).await;
        compare(&self.client, address, &mut self.pairs, &wanted.pairs).await;
        compare(&self.client, address, &mut Reader::new("grown_rows", id_of_row), &wanted.kept).await;
        compare(&self.client, address, &mut Reader::new("grown_counts", Count::of_row), &wanted.counts).await;
        compare(&self.client, address, &mut Reader::new("grown_sessions", Count::of_row), &wanted.sessions).await;
        let mut totals = Reader::changing(TOTALS, Count::of_total);
        totals.read_rest(address, |rows| Count::latest(rows) == wanted.totals).await;
        assert_eq!(difference(&Count::latest(&totals.rows), &wanted.totals), None, "totals");
        self.several.verify(&self.client, address, &events, last_of_west).await;
        self.calm.verify(&self.client, address).await;
        check_anew(address, &wanted).await;
        self.check_quick(address, &events).await;
        self.check_small(address).await;
        server.terminate();
        assert_eq!(server.ended().await.code(), Some(0));
        self.home.check_log();
        let book = self.book.lock().expect("no holder panics");
        let windows: BTreeSet<i64> = wanted.counts.iter().map(|count| count.start_s).collect();
        Figures {
            kills: self.kills,
            gaps: self.quick.gaps,
            epochs: self.quick.epochs,
            sent: book.sent,
            acknowledged: book.acknowledged,
            duplicates: book.duplicates,
            windows: windows.len(),
            counts: wanted.counts.len(),
        }
    }

    /// Sends what is pending, and a row that closes all windows before it.
    async fn last_rows(&mut self, address: SocketAddr) -> Event {
        for sql in statements() {
            execute(&self.client, address, sql).await.expect("the server stays");
        }
        for publisher in self.publishers.iter_mut().chain([&mut self.small]) {
            publisher.flush(address).await.expect("the server stays");
        }
        let next = self.book.lock().expect("no holder panics").next;
        let last = Event::last(next);
        self.publishers[0].rows(address, [last].into_iter()).await.expect("the server stays");
        last
    }

    /// What is acknowledged before it lasts may be lost, and is never doubled or out of order: neither for who has read
    /// all the time, nor in the log.
    async fn check_quick(&mut self, address: SocketAddr, events: &[Event]) {
        let last = events.last().expect("there is one").id;
        let mut log = self.quick.anew();
        for reader in [&mut self.quick, &mut log] {
            assert_eq!(reader.read_rest(address, |rows| rows.last() == Some(&last)).await, Stopped::Enough);
            let mut events = events.iter();
            for id in &reader.rows {
                assert!(events.any(|event| event.id == *id), "quick: row {id} is doubled or out of order");
            }
        }
    }

    /// What retention has left are the last rows, without a gap.
    async fn check_small(&mut self, address: SocketAddr) {
        let sent = self.small_book.lock().expect("no holder panics").next;
        let mut now = Reader::new("small", id_of_row);
        assert_eq!(now.read_rest(address, |rows| rows.last() == Some(&(sent - 1))).await, Stopped::Enough);
        let kept = sent - now.rows.len() as i64..sent;
        assert!(now.rows.iter().copied().eq(kept.clone()), "small: not {kept:?}");
    }
}

/// The events of a source as its log has them: those that were sent, each once. `last`: the last of them.
pub(crate) async fn published(
    source: &'static str,
    address: SocketAddr,
    book: &Mutex<Book>,
    last: Event,
) -> Vec<Event> {
    let mut events = Reader::new(source, id_of_row);
    let stopped = events.read_rest(address, |rows| rows.last() == Some(&last.id)).await;
    let sent: Vec<i64> = (0..book.lock().expect("no holder panics").next).chain([last.id]).collect();
    assert_eq!(difference(&events.rows, &sent), None, "{source}: what was sent");
    assert_eq!(stopped, Stopped::Enough);
    events.rows.iter().map(|id| if *id == last.id { last } else { Event::new(*id) }).collect()
}

/// What makes all streams, and has them run.
fn statements() -> impl Iterator<Item = &'static str> {
    let made = STATEMENTS.into_iter().chain(several::STATEMENTS).chain(calm::STATEMENTS);
    made.chain(RESUMED).chain(several::RESUMED)
}

/// Streams that began anew hold what came since, each row once and none missing.
async fn check_anew(address: SocketAddr, wanted: &Wanted) {
    let mut grown = Reader::new("grown", id_of_row);
    let stopped = grown.read_rest(address, |rows| rows.last() == wanted.kept.last()).await;
    assert_eq!(stopped, Stopped::Enough, "grown: its last rows");
    assert!(wanted.kept.ends_with(&grown.rows), "grown: rows are missing, doubled or out of order: {:?}", grown.rows);
    let mut spans = Reader::new("spans", Count::of_row);
    let of = |rows: &[Count], from: i64| {
        let mut rows: Vec<Count> = rows.iter().filter(|count| count.start_s >= from).copied().collect();
        rows.sort();
        rows
    };
    // Sessions that began while those were open that it tells first had been told.
    let whole = |rows: &[Count]| rows.iter().map(|count| count.start_s).min().unwrap_or(i64::MAX - SPAN_S) + SPAN_S;
    spans.read_rest(address, |rows| of(rows, whole(rows)) == of(&wanted.sessions, whole(rows))).await;
    let from = whole(&spans.rows);
    assert_eq!(difference(&of(&spans.rows, from), &of(&wanted.sessions, from)), None, "spans from {from}");
    let surplus = spans.rows.iter().find(|count| !wanted.sessions.contains(count));
    assert!(surplus.is_none(), "spans: {surplus:?} must not be there");
}

/// Carries out a statement that must succeed.
pub(crate) async fn execute(client: &reqwest::Client, address: SocketAddr, sql: &str) -> Result<(), Gone> {
    let url = format!("http://{address}/api/v1/statements");
    let answer = client.post(url).json(&json!({"sql": sql})).send().await.map_err(|_| Gone)?;
    let status = answer.status();
    let told = answer.text().await.map_err(|_| Gone)?;
    assert!(status.is_success(), "{sql}: {told}");
    Ok(())
}
