//! Look-ups in both dialects. The table is a file in which rows replace each other: batch SQL takes the last of each key.

use std::path::Path;

use serde_json::{Value, json};
use squilla_tests::program::Table;
use squilla_tests::random::Random;

use super::data::write;
use super::queries::Pair;

const ROWS: i64 = 300;

/// Tables over the rows of [`table`], by one column and by two.
pub(super) const TABLES: &str = "
CREATE TABLE by_k (seq BIGINT, k VARCHAR, g BIGINT, n BIGINT, PRIMARY KEY (k))
  WITH (connector = 'file', path = 't.ndjson', format = 'json');
CREATE TABLE by_g_and_k (seq BIGINT, k VARCHAR, g BIGINT, n BIGINT, PRIMARY KEY (g, k))
  WITH (connector = 'file', path = 't.ndjson', format = 'json');";

/// Rows with keys that are null, missing in the streams, and many times the same.
pub(super) fn table(folder: &Path, random: &mut Random) -> Table {
    let row = |random: &mut Random, seq: i64| {
        let key = format!("key {}", random.skewed(50));
        let values = [json!(key), json!(random.between(0, 6)), json!(random.between(0, 100))];
        let [k, g, n] = values.map(|value| if random.percent(8) { Value::Null } else { value });
        json!({ "seq": seq, "k": k, "g": g, "n": n })
    };
    let rows = (0..ROWS).map(|seq| row(random, seq)).collect();
    let files = vec![write(folder.join("t.ndjson"), rows)];
    Table { name: "t", files, columns: vec![("seq", "BIGINT"), ("k", "VARCHAR"), ("g", "BIGINT"), ("n", "BIGINT")] }
}

/// Further conditions that read the same in both.
const CONDITIONS: [&str; 4] = ["", "AND l.n <= t.n", "AND t.n % 4 > 0", "AND (t.n % 5 > 0 OR l.id % 2 = 0)"];
/// What WHERE says of the stream.
const WHERES: [&str; 3] = ["l.id >= 0", "l.n IS NOT NULL", "l.id % 3 <> 1 AND l.k <> 'key 1'"];
const KINDS: [&str; 4] = ["JOIN", "LEFT JOIN", "EXISTS", "NOT EXISTS"];

/// A look-up of each row of `l`, or windows over what was found.
pub(super) fn look_up(random: &mut Random) -> Pair {
    let (name, keys, on) = *random.pick(&[
        ("by_k", "k", "l.k = t.k"),
        ("by_g_and_k", "g, k", "l.k = t.k AND t.g = l.g"),
        ("by_g_and_k", "g, k", "l.g % 3 = t.g AND t.k = 'key ' || (l.n % 7)"),
    ]);
    let latest =
        format!("(SELECT * FROM t QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY seq DESC) = 1) AS t");
    let tables = [format!("{name} AS t"), latest];
    let (kind, condition, filter) = (*random.pick(&KINDS), *random.pick(&CONDITIONS), *random.pick(&WHERES));
    let windowed = random.percent(40) && !kind.ends_with("EXISTS");
    let query = |table: &String, windows: [&str; 2]| {
        if kind.ends_with("EXISTS") {
            return format!(
                "SELECT l.id, l.n, 0 AS seq FROM l WHERE {filter} AND {kind} (SELECT 1 FROM {table} WHERE {on} {condition})"
            );
        }
        let joined = format!("FROM l {kind} {table} ON {on} {condition} WHERE {filter}");
        if windowed {
            let [start, group] = windows;
            return format!(
                "SELECT t.n AS tn, {start}, count(*) AS rows, count(DISTINCT l.id) AS ids {joined} GROUP BY t.n, {group}"
            );
        }
        format!("SELECT l.id, l.n, t.seq, t.n AS tn {joined}")
    };
    let [squilla, duckdb] = [
        query(&tables[0], ["window_start", "tumble('5 seconds')"]),
        query(&tables[1], ["l.ts // 5000 * 5000 AS window_start", "l.ts // 5000"]),
    ];
    let keys: &[&str] = if windowed { &["tn", "window_start"] } else { &["id"] };
    Pair {
        setup: String::new(),
        squilla,
        duckdb,
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        times: if windowed { vec!["window_start"] } else { Vec::new() },
    }
}
