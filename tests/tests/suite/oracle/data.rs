//! Data to ask about: newline JSON in several files, out of order within what the watermark allows.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use squilla_tests::program::Table;
use squilla_tests::random::Random;

/// Start of the event times, in milliseconds since 1970: 2023-11-14T22:13:20Z, aligned to nothing.
const START_MS: i64 = 1_700_000_000_000;
const EVENT_FILES: usize = 3;
const EVENT_ROWS: i64 = 4_000;
const EVENT_STEP_MS: i64 = 25;
const BID_FILES: usize = 4;
const BID_ROWS: i64 = 5_000;
const BID_STEP_MS: i64 = 10;

/// The source of [`events`]; no row is more than three seconds behind.
pub(super) const EVENTS: &str = "
CREATE SOURCE events (id BIGINT, k VARCHAR, g INT, n BIGINT, x DOUBLE, d DECIMAL(12, 2), flag BOOLEAN, ts TIMESTAMP,
                      WATERMARK FOR ts AS ts - INTERVAL '3 seconds')
  WITH (connector = 'file', path = 'events-*.ndjson', format = 'json');";
const EVENT_DISORDER_MS: i64 = 3_000;

/// The source of [`bids`]; no row is more than two seconds behind.
pub(super) const BIDS: &str = "
CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP,
                   extra VARCHAR, WATERMARK FOR date_time AS date_time - INTERVAL '2 seconds')
  WITH (connector = 'file', path = 'bid-*.jsonl', format = 'json', timestamp_unit = 'ms');";
const BID_DISORDER_MS: i64 = 2_000;

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

/// Bids as the Nexmark benchmark has them: few auctions get most, and every line has text that no query reads.
pub(super) fn bids(folder: &Path, random: &mut Random) -> Table {
    let channels = ["Google", "Facebook", "Baidu", "Apple"];
    let bid = |random: &mut Random, row: i64| {
        let auction = 1_000 + random.skewed(3_000);
        json!({
            "auction": auction,
            "bidder": 1_000 + random.skewed(500),
            "price": 100 + random.skewed(10_000_000),
            "channel": random.pick(&channels),
            "url": format!("https://www.nexmark.com/{}/item.htm?query=1", auction % 97),
            "date_time": START_MS + row * BID_STEP_MS - random.between(0, BID_DISORDER_MS + 1),
            "extra": "x".repeat(usize::try_from(random.below(40)).expect("small")),
        })
    };
    let files: Vec<PathBuf> = (0..BID_FILES)
        .map(|file| {
            let rows = (0..BID_ROWS).map(|row| bid(random, row)).collect();
            write(folder.join(format!("bid-{file}.jsonl")), rows)
        })
        .collect();
    let columns = vec![
        ("auction", "BIGINT"),
        ("bidder", "BIGINT"),
        ("price", "BIGINT"),
        ("channel", "VARCHAR"),
        ("url", "VARCHAR"),
        ("date_time", "BIGINT"),
        ("extra", "VARCHAR"),
    ];
    Table { name: "bid", files, columns }
}

fn write(path: PathBuf, rows: Vec<Value>) -> PathBuf {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(&path, text).expect("the data can be written");
    path
}
