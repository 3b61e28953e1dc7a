//! Joins in both dialects: rows near in time, rows of one window, with and without partners.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use squilla_tests::program::Table;
use squilla_tests::random::Random;

use super::data::{START_MS, write};
use super::queries::Pair;

const FILES: usize = 2;
const ROWS: i64 = 600;
const STEP_MS: i64 = 150;
const DISORDER_MS: i64 = 3_000;

/// The sources of [`sides`]; no row is more than three seconds behind.
pub(super) const SIDES: &str = "
CREATE SOURCE l (id BIGINT, k VARCHAR, g INT, n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '3 seconds')
  WITH (connector = 'file', path = 'l-*.ndjson', format = 'json');
CREATE SOURCE r (id BIGINT, k VARCHAR, g BIGINT, n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '3 seconds')
  WITH (connector = 'file', path = 'r-*.ndjson', format = 'json');";

/// Two tables with keys that are null, missing on the other side, and many times the same.
pub(super) fn sides(folder: &Path, random: &mut Random) -> Vec<Table> {
    ["l", "r"].map(|name| side(name, folder, random)).into()
}

fn side(name: &'static str, folder: &Path, random: &mut Random) -> Table {
    let row = |random: &mut Random, file: usize, row: i64| {
        let key = random.skewed(40);
        // Each side has keys of its own.
        let key = if key % 7 == 3 { format!("{name}{key}") } else { format!("key {key}") };
        let values = [json!(key), json!(random.between(0, 6)), json!(random.between(0, 100))];
        let [k, g, n] = values.map(|value| if random.percent(10) { Value::Null } else { value });
        let ts = START_MS + row * STEP_MS - random.between(0, DISORDER_MS + 1);
        json!({ "id": row * FILES as i64 + file as i64, "k": k, "g": g, "n": n, "ts": ts })
    };
    let files: Vec<PathBuf> = (0..FILES)
        .map(|file| {
            let rows = (0..ROWS).map(|at| row(random, file, at)).collect();
            write(folder.join(format!("{name}-{file}.ndjson")), rows)
        })
        .collect();
    let columns = vec![("id", "BIGINT"), ("k", "VARCHAR"), ("g", "BIGINT"), ("n", "BIGINT"), ("ts", "BIGINT")];
    Table { name, files, columns }
}

/// Further conditions that read the same in both.
const CONDITIONS: [&str; 5] =
    ["", "AND l.n <= r.n", "AND l.n % 4 > 0", "AND (r.n % 5 > 0 OR l.g = 2)", "AND l.g = r.g"];

/// What WHERE says of the left side.
const WHERES: [&str; 3] = ["", "WHERE l.n IS NOT NULL", "WHERE l.id % 3 <> 1 AND l.k <> 'key 1'"];

const KINDS: [&str; 6] = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "EXISTS", "NOT EXISTS"];

/// A join by keys and event times.
pub(super) fn interval(random: &mut Random) -> Pair {
    let (before, after) = (random.between(-5_000, 20_000), random.between(5_000, 20_000));
    let key = *random.pick(&["l.k = r.k", "l.k = r.k AND l.g = r.g", "l.k IS NOT DISTINCT FROM r.k AND l.g = r.g + 1"]);
    let condition = *random.pick(&CONDITIONS);
    let bounds =
        format!("l.ts BETWEEN r.ts - INTERVAL '{before} milliseconds' AND r.ts + INTERVAL '{after} milliseconds'");
    let batch = format!("l.ts BETWEEN r.ts - ({before}) AND r.ts + {after}");
    let (l, r) = ("l".to_owned(), "r".to_owned());
    pair(random, [&l, &r], [&l, &r], &format!("{key} {condition}"), [&bounds, &batch], &[])
}

/// A join whose rows are kept for an hour each way: longer than all the data.
pub(super) fn unbounded(random: &mut Random) -> Pair {
    let (l, r) = ("l".to_owned(), "r".to_owned());
    let condition = *random.pick(&CONDITIONS);
    pair(random, [&l, &r], [&l, &r], &format!("l.k = r.k AND l.g = r.g {condition}"), ["true", "true"], &[])
}

/// A join of rows of one window, or of their counts.
pub(super) fn window(random: &mut Random) -> Pair {
    let size = *random.pick(&[1_000, 5_000, 20_000]);
    let (grouped, by_end) = (random.percent(50), random.percent(50));
    let windowed = |table: &str| {
        let from = format!("TUMBLE(TABLE {table}, DESCRIPTOR(ts), INTERVAL '{size} milliseconds')");
        let batch = format!(
            "(SELECT *, ts // {size} * {size} AS window_start, ts // {size} * {size} + {size} AS window_end FROM {table})"
        );
        [from, batch].map(|from| {
            if grouped {
                let groups = "window_start, window_end, k, g";
                format!("(SELECT {groups}, min(id) AS id, count(*) AS n FROM {from} GROUP BY {groups}) AS {table}")
            } else {
                format!("(SELECT * FROM {from}) AS {table}")
            }
        })
    };
    let ([l, batch_l], [r, batch_r]) = (windowed("l"), windowed("r"));
    let same = if by_end {
        "l.window_end = r.window_end"
    } else {
        "l.window_start = r.window_start AND l.window_end = r.window_end"
    };
    let condition = *random.pick(&CONDITIONS);
    let on = format!("l.k = r.k {condition} AND {same}");
    // Rows of one window that are near in time besides.
    let half = size / 2;
    let near = [format!("INTERVAL '{half} milliseconds'"), half.to_string()];
    let near = near.map(|half| format!("l.ts BETWEEN r.ts AND r.ts + {half}"));
    let bounds = if grouped || random.percent(50) { ["true", "true"] } else { [near[0].as_str(), near[1].as_str()] };
    pair(random, [&l, &r], [&batch_l, &batch_r], &on, bounds, &["window_start"])
}

fn pair(
    random: &mut Random,
    from: [&String; 2],
    batch: [&String; 2],
    on: &str,
    bounds: [&str; 2],
    times: &[&'static str],
) -> Pair {
    let kind = *random.pick(&KINDS);
    let filter = *random.pick(&WHERES);
    let windows: String = times.iter().map(|time| format!(", l.{time}")).collect();
    let query = |[l, r]: [&String; 2], bounds: &str| {
        let bounds = if bounds == "true" { String::new() } else { format!("AND {bounds}") };
        if kind.ends_with("EXISTS") {
            let more = if filter.is_empty() { "WHERE" } else { "AND" };
            format!(
                "SELECT l.id, l.n, 0 AS rid {windows} FROM {l} {filter} {more} {kind} (SELECT 1 FROM {r} WHERE {on} {bounds})"
            )
        } else {
            // A row without a partner has no window of the left.
            let windows = if matches!(kind, "RIGHT JOIN" | "FULL JOIN") { "" } else { windows.as_str() };
            format!("SELECT l.id, l.n, r.id AS rid, r.n AS rn {windows} FROM {l} {kind} {r} ON {on} {bounds} {filter}")
        }
    };
    let shown = kind.ends_with("EXISTS") || !matches!(kind, "RIGHT JOIN" | "FULL JOIN");
    Pair {
        setup: String::new(),
        squilla: query(from, bounds[0]),
        duckdb: query(batch, bounds[1]),
        keys: ["id", "rid"].map(str::to_owned).into(),
        times: if shown { times.to_vec() } else { Vec::new() },
    }
}
