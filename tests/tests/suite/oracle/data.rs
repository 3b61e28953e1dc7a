//! Data to ask about: newline JSON in several files, out of order within what the watermark allows.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use squilla_tests::program::Table;
use squilla_tests::random::Random;

/// Start of the event times, in milliseconds since 1970: 2023-11-14T22:13:20Z, aligned to nothing.
pub(super) const START_MS: i64 = 1_700_000_000_000;
const EVENT_FILES: usize = 3;
const EVENT_ROWS: i64 = 4_000;
const EVENT_STEP_MS: i64 = 25;
const BID_FILES: usize = 4;
const BID_ROWS: i64 = 5_000;
/// Over this time bids, auctions and persons of the Nexmark data are spread.
const NEXMARK_MS: i64 = 50_000;
const AUCTIONS: i64 = 3_000;
const PERSONS: i64 = 500;

/// The source of [`events`]; no row is more than three seconds behind.
pub(super) const EVENTS: &str = "
CREATE SOURCE events (id BIGINT, k VARCHAR, g INT, n BIGINT, x DOUBLE, d DECIMAL(12, 2), flag BOOLEAN, ts TIMESTAMP,
                      WATERMARK FOR ts AS ts - INTERVAL '3 seconds')
  WITH (connector = 'file', path = 'events-*.ndjson', format = 'json');";
const EVENT_DISORDER_MS: i64 = 3_000;

/// How far behind the rows of [`nexmark`] are at most, in seconds.
pub(super) const NEXMARK_DELAY_S: u32 = 2;

const TITLES: [&str; 8] = ["Dune", "Heat", "Alien", "été", "日本", "a \"quoted\" one", "back\\slash", ""];

/// Events with nulls in every column but the number, which is unique, and the time.
pub(super) fn events(folder: &Path, random: &mut Random) -> Table {
    let event = |random: &mut Random, file: usize, row: i64| {
        let values = [
            json!(*random.pick(&TITLES)),
            json!(random.skewed(12)),
            json!(random.between(-1_000, 1_000)),
            json!(random.between(-1_000_000, 1_000_000) as f64 / 1024.0),
            json!(random.between(-100_000, 100_000) as f64 / 100.0),
            json!(random.percent(50)),
        ];
        let [k, g, n, x, d, flag] = values.map(|value| if random.percent(10) { Value::Null } else { value });
        let id = row * EVENT_FILES as i64 + file as i64;
        let ts = START_MS + row * EVENT_STEP_MS - random.between(0, EVENT_DISORDER_MS + 1);
        json!({ "id": id, "k": k, "g": g, "n": n, "x": x, "d": d, "flag": flag, "ts": ts })
    };
    let files: Vec<PathBuf> = (0..EVENT_FILES)
        .map(|file| {
            let rows = (0..EVENT_ROWS).map(|row| event(random, file, row)).collect();
            write(folder.join(format!("events-{file}.ndjson")), rows)
        })
        .collect();
    let columns = vec![
        ("id", "BIGINT"),
        ("k", "VARCHAR"),
        ("g", "INT"),
        ("n", "BIGINT"),
        ("x", "DOUBLE"),
        ("d", "DECIMAL(12, 2)"),
        ("flag", "BOOLEAN"),
        ("ts", "BIGINT"),
    ];
    Table { name: "events", files, columns }
}

/// Bids, auctions and persons as the Nexmark benchmark has them: few auctions get most bids, sellers have registered
/// shortly before they sell, and every line has text that no query reads.
pub(super) fn nexmark(folder: &Path, random: &mut Random) {
    let channels = ["Google", "Facebook", "Baidu", "apple", "channel-7", "channel-12"];
    let at = |random: &mut Random, row: i64, rows: i64| {
        START_MS + row * NEXMARK_MS / rows - random.between(0, i64::from(NEXMARK_DELAY_S) * 1_000 + 1)
    };
    for file in 0..BID_FILES {
        let bid = |random: &mut Random, row: i64| {
            let auction = 1_000 + random.skewed(AUCTIONS.unsigned_abs());
            let query = if auction.is_multiple_of(3) { format!("&channel_id={auction}") } else { String::new() };
            json!({
                "auction": auction,
                "bidder": 1_000 + random.skewed(PERSONS.unsigned_abs()),
                "price": 100 + random.skewed(100_000_000),
                "channel": random.pick(&channels),
                "url": format!("https://www.nexmark.com/{}/b/{row}/item.htm?query=1{query}", auction % 97),
                "date_time": at(random, row, BID_ROWS),
                "extra": "abc".repeat(usize::try_from(random.below(20)).expect("small")),
            })
        };
        write(folder.join(format!("bid-{file}.jsonl")), (0..BID_ROWS).map(|row| bid(random, row)).collect());
    }
    let auction = |random: &mut Random, row: i64| {
        let opened = at(random, row, AUCTIONS);
        json!({
            "id": 1_000 + row,
            "item_name": format!("item {row}"),
            "description": "text that nobody reads",
            "expires": opened + random.between(1_000, 20_000),
            "seller": 1_000 + (row * PERSONS / AUCTIONS - random.between(0, 100)).max(0),
            "category": 10 + random.below(5),
            "date_time": opened,
            "extra": "",
        })
    };
    let states = ["az", "ca", "id", "or", "wa", "wy"];
    let person = |random: &mut Random, row: i64| {
        json!({
            "id": 1_000 + row,
            "name": format!("person {row}"),
            "city": format!("city {}", row % 10),
            "state": random.pick(&states),
            "date_time": at(random, row, PERSONS),
            "extra": "",
        })
    };
    for (name, rows) in [("auction", AUCTIONS), ("person", PERSONS)] {
        let row =
            |at: i64, random: &mut Random| if name == "auction" { auction(random, at) } else { person(random, at) };
        let all: Vec<Value> = (0..rows).map(|at| row(at, random)).collect();
        let (even, odd): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
        for (file, part) in [even, odd].into_iter().enumerate() {
            write(folder.join(format!("{name}-{file}.jsonl")), part.into_iter().map(|(_, row)| row).collect());
        }
    }
}

/// Writes a file of a row a line.
pub(super) fn write(path: PathBuf, rows: Vec<Value>) -> PathBuf {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(&path, text).expect("the data can be written");
    path
}
