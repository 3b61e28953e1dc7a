//! A stream of several partitions, one for each source that it unites, and what is computed of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::compare::{compare, difference};
use super::oracle::{Count, united};
use super::publish::{Book, Event, Publisher};
use super::read::Reader;
use super::statement::{alter, counts, source, stream, totals};
use super::suite::{id_of_row, pair_of_row, published};

/// Ids tell which source a row comes from.
const SIDES: i64 = 2;

/// After those that make the other source.
pub(crate) const STATEMENTS: [&str; 5] = [
    source!("west", "2 seconds"),
    stream!("both_sides", "SELECT id * 2 AS id, ts, part FROM events UNION ALL SELECT id * 2 + 1, ts, part FROM west"),
    // Of each partition's rows in time by its own watermark, told at the least of both.
    stream!("side_counts", counts!("count(*)", "both_sides", "tumble('10s')")),
    stream!("side_totals", totals!("count(*)", "both_sides")),
    // A row with that before it of its side.
    stream!(
        "side_pairs",
        "SELECT k.id AS id, e.id AS before FROM both_sides k LEFT JOIN both_sides e \
         ON e.id + 2 = k.id AND e.ts BETWEEN k.ts - INTERVAL '4 seconds' AND k.ts + INTERVAL '4 seconds'"
    ),
];

/// Streams go on that rested when the process died.
pub(crate) const RESUMED: [&str; 2] = ["RESUME STREAM both_sides", "RESUME STREAM side_counts"];

/// What is done with them while rows come, as with the other streams.
pub(crate) const CHANGES: [[&str; 4]; 2] = [
    [
        "ALTER STREAM both_sides AS
         SELECT id + id AS id, ts, part FROM events UNION ALL SELECT id + id + 1, ts, part FROM west",
        "PAUSE STREAM side_counts",
        "RESUME STREAM side_counts",
        alter!("side_totals", totals!("count(id)", "both_sides")),
    ],
    [
        "PAUSE STREAM both_sides",
        alter!("side_counts", counts!("count(id)", "both_sides WHERE id >= 0", "tumble('10s')")),
        "RESUME STREAM both_sides",
        "ALTER STREAM both_sides AS
         SELECT id * 2 AS id, ts, part FROM events UNION ALL SELECT id * 2 + 1, ts, part FROM west",
    ],
];

const TOTALS: &str = "SELECT part, n, total, least, greatest FROM side_totals";

/// The other source, and who reads what is made of both.
pub(crate) struct Several {
    book: Arc<Mutex<Book>>,
    pub(crate) west: Publisher,
    pub(crate) rows: Reader<i64>,
    pub(crate) counts: Reader<Count>,
}

impl Several {
    pub(crate) fn new(seed: u64) -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        Self {
            west: Publisher::new("west", "w", seed, book.clone()),
            book,
            rows: Reader::new("both_sides", id_of_row),
            counts: Reader::new("side_counts", Count::of_row),
        }
    }

    /// Sends what is pending, and a row that closes all windows before it in its partition.
    pub(crate) async fn last_row(&mut self, address: SocketAddr) -> Event {
        self.west.flush(address).await.expect("the server stays");
        let last = Event::last(self.book.lock().expect("no holder panics").next);
        self.west.rows(address, [last].into_iter()).await.expect("the server stays");
        last
    }

    /// Compares what the streams hold with what they must hold. `events`: those of the first source, as its log has them.
    pub(crate) async fn verify(
        &mut self,
        client: &reqwest::Client,
        address: SocketAddr,
        events: &[Event],
        last: Event,
    ) {
        let west = published("west", address, &self.book, last).await;
        let side = |event: Event, side: i64| Event { id: event.id * SIDES + side, ..event };
        let sides: [Vec<Event>; SIDES as usize] =
            [events.iter().map(|event| side(*event, 0)).collect(), west.iter().map(|event| side(*event, 1)).collect()];
        let wanted = united(&sides);
        compare(client, address, &mut self.rows, &wanted.rows).await;
        assert_eq!(self.rows.partitions(), sides.len(), "both_sides has a partition for each of its inputs");
        for (number, side) in (0..SIDES).zip(&sides) {
            let told = self.rows.rows.iter().filter(|id| **id % SIDES == number);
            assert!(told.eq(side.iter().map(|event| &event.id)), "both_sides: partition {number} is out of order");
        }
        compare(client, address, &mut self.counts, &wanted.counts).await;
        assert!(self.counts.rows.is_sorted_by_key(|count| count.start_s), "windows come in the order of their ends");
        compare(client, address, &mut Reader::new("side_pairs", pair_of_row), &wanted.pairs).await;
        let mut totals = Reader::changing(TOTALS, Count::of_total);
        totals.read_rest(address, |rows| Count::latest(rows) == wanted.totals).await;
        assert_eq!(difference(&Count::latest(&totals.rows), &wanted.totals), None, "side_totals");
    }
}
