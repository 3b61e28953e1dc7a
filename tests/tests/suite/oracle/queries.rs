//! Queries in both dialects.

use squilla_tests::random::Random;

/// The same question as a windowed query and as batch SQL. Times are milliseconds in the latter.
pub(super) struct Pair {
    /// Statements before the query: a named stream, which it reads.
    pub(super) setup: String,
    pub(super) squilla: String,
    pub(super) duckdb: String,
    /// Columns that tell rows apart.
    pub(super) keys: Vec<String>,
    /// Columns that hold times.
    pub(super) times: Vec<&'static str>,
}

/// Aggregates over `events` that have one right answer, in both dialects.
const AGGREGATES: [(&str, &str); 45] = [
    ("count(*)", "count(*)"),
    ("count(n)", "count(n)"),
    ("count(DISTINCT k)", "count(DISTINCT k)"),
    ("count(DISTINCT g)", "count(DISTINCT g)"),
    ("count(DISTINCT x) FILTER (WHERE flag)", "count(DISTINCT x) FILTER (WHERE flag)"),
    ("count(DISTINCT d)", "count(DISTINCT d)"),
    ("count(DISTINCT flag)", "count(DISTINCT flag)"),
    ("avg(DISTINCT n)", "avg(DISTINCT n)"),
    ("sum(n)", "CAST(sum(n) AS BIGINT)"),
    ("sum(g)", "CAST(sum(g) AS BIGINT)"),
    ("sum(x)", "sum(x)"),
    ("sum(d)", "sum(d)"),
    ("sum(DISTINCT n)", "CAST(sum(DISTINCT n) AS BIGINT)"),
    ("min(n)", "min(n)"),
    ("max(n)", "max(n)"),
    ("min(x)", "min(x)"),
    ("max(x)", "max(x)"),
    ("min(k)", "min(k)"),
    ("max(k)", "max(k)"),
    ("min(d)", "min(d)"),
    ("max(flag)", "max(flag)"),
    ("avg(n)", "avg(n)"),
    ("avg(x)", "avg(x)"),
    ("avg(n) FILTER (WHERE flag)", "avg(n) FILTER (WHERE flag)"),
    ("count(*) FILTER (WHERE x > 0)", "count(*) FILTER (WHERE x > 0)"),
    ("stddev_pop(x)", "stddev_pop(x)"),
    ("stddev_samp(x)", "stddev_samp(x)"),
    ("var_pop(n)", "var_pop(n)"),
    ("var_samp(x)", "var_samp(x)"),
    ("covar_pop(x, n)", "covar_pop(x, n)"),
    ("covar_samp(x, n)", "covar_samp(x, n)"),
    ("corr(x, n)", "nullif(corr(x, n), 'nan')"),
    ("regr_count(x, n)", "regr_count(x, n)"),
    ("regr_avgx(x, n)", "regr_avgx(x, n)"),
    ("median(x)", "median(x)"),
    ("bool_and(flag)", "bool_and(flag)"),
    ("bool_or(flag)", "bool_or(flag)"),
    ("bit_and(n)", "bit_and(n)"),
    ("bit_or(n)", "bit_or(n)"),
    ("bit_xor(n)", "bit_xor(n)"),
    ("string_agg(k, '|' ORDER BY id)", "string_agg(k, '|' ORDER BY id)"),
    ("array_agg(id ORDER BY id DESC)", "list(id ORDER BY id DESC)"),
    ("first_value(k ORDER BY id)", "first(k ORDER BY id)"),
    ("last_value(n ORDER BY id)", "last(n ORDER BY id)"),
    ("min(x * x - n)", "min(x * x - n)"),
];

/// Keys beside the window.
const KEYS: [&str; 6] = ["k", "g", "flag", "n % 5", "upper(k)", "n > 0"];

/// Predicates that read the same in both.
const PREDICATES: [&str; 7] = [
    "true",
    "x > 0 OR k IS NULL",
    "n BETWEEN -500 AND 700",
    "k IN ('Dune', 'Heat', 'été') AND NOT flag",
    "k LIKE '%u%'",
    "coalesce(g, 99) % 3 = 0",
    "d >= -250.25",
];

const HAVINGS: [&str; 3] = ["", "HAVING count(*) > 2", "HAVING max(x) > 0 AND count(n) > 1"];

/// Windows in milliseconds.
#[derive(Clone, Copy)]
struct Windows {
    size: i64,
    slide: i64,
    offset: i64,
}

impl Windows {
    fn tumble(size: i64) -> Self {
        Self { size, slide: size, offset: 0 }
    }

    /// The FROM item: a window table function.
    fn table_function(self, table: &str, time: &str) -> String {
        let Self { size, slide, offset } = self;
        let shift = if offset == 0 { String::new() } else { format!(", {}", milliseconds(offset)) };
        let size = milliseconds(size);
        if slide == self.size {
            format!("TUMBLE(TABLE {table}, DESCRIPTOR({time}), {size}{shift})")
        } else {
            format!("HOP(TABLE {table}, DESCRIPTOR({time}), {}, {size}{shift})", milliseconds(slide))
        }
    }

    /// The FROM item: each row once a window that it is in.
    fn batch(self, table: &str, time: &str) -> String {
        let Self { size, slide, offset } = self;
        let windows = (size + slide - 1) / slide;
        format!(
            "(SELECT *, window_start + {size} AS window_end FROM (SELECT t.*, {time} - \
             ((({time} - ({offset})) % {slide} + {slide}) % {slide}) - i * {slide} AS window_start \
             FROM {table} t, range({windows}) r(i)) WHERE window_start + {size} > {time})"
        )
    }
}

fn milliseconds(ms: i64) -> String {
    format!("INTERVAL '{ms} milliseconds'")
}

/// A grouped query in both dialects.
fn grouped(windows: Windows, keys: &[&str], aggregates: &[(&str, &str)], predicate: &str, having: &str) -> Pair {
    let select = |aggregate: &dyn Fn(&(&str, &str)) -> String| {
        let keys = keys.iter().enumerate().map(|(at, key)| format!("{key} AS key{at}"));
        let values = aggregates.iter().enumerate().map(|(at, pair)| format!("{} AS a{at}", aggregate(pair)));
        let columns: Vec<String> =
            ["window_start".to_owned(), "window_end".to_owned()].into_iter().chain(keys).chain(values).collect();
        columns.join(", ")
    };
    let groups = ["window_start", "window_end"].iter().chain(keys).copied().collect::<Vec<_>>().join(", ");
    let query = |columns: String, from: String| {
        format!("SELECT {columns} FROM {from} WHERE {predicate} GROUP BY {groups} {having}").trim_end().to_owned()
    };
    let key_names = (0..keys.len()).map(|at| format!("key{at}"));
    Pair {
        setup: String::new(),
        squilla: query(select(&|pair| pair.0.to_owned()), windows.table_function("events", "ts")),
        duckdb: query(select(&|pair| pair.1.to_owned()), windows.batch("events", "ts")),
        keys: ["window_start".to_owned()].into_iter().chain(key_names).collect(),
        times: vec!["window_start", "window_end"],
    }
}

/// Every aggregate, in tumbling windows and in hopping ones, whose panes are merged.
pub(super) fn every_aggregate() -> Vec<Pair> {
    let hop = Windows { size: 9_000, slide: 3_000, offset: 0 };
    let chunks = AGGREGATES.chunks(11);
    chunks.flat_map(|some| [Windows::tumble(5_000), hop].map(|w| grouped(w, &["g"], some, "true", ""))).collect()
}

/// A query with windows, keys, aggregates and filters drawn by lot.
pub(super) fn generate(random: &mut Random) -> Pair {
    let size = *random.pick(&[700, 1_000, 5_000, 7_000, 10_000, 60_000]);
    let slide = *random.pick(&[size, size, 1_000, 2_500, 3_000, 500]);
    // A minute that hops by half a second is 120 windows a row: too long for a test.
    let slide = slide.max(size / 20);
    let offset = *random.pick(&[0, 0, 0, 250, -1_300]);
    let mut keys: Vec<&str> = KEYS.iter().filter(|_| random.percent(25)).copied().collect();
    keys.truncate(3);
    let count = 1 + random.below(5);
    let aggregates: Vec<_> = (0..count).map(|_| *random.pick(&AGGREGATES)).collect();
    let (predicate, having) = (*random.pick(&PREDICATES), *random.pick(&HAVINGS));
    let mut pair = grouped(Windows { size, slide, offset }, &keys, &aggregates, predicate, having);
    if random.percent(40) {
        // Two chained jobs equal one.
        pair.setup = format!("CREATE STREAM kept AS SELECT * FROM events WHERE {predicate};");
        pair.squilla = pair.squilla.replace("TABLE events", "TABLE kept").replace(&format!("WHERE {predicate}"), "");
    }
    pair
}
