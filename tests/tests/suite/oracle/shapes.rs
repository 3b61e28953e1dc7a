//! Queries of many shapes, drawn by lot, in both dialects.

use squilla_tests::random::Random;

use super::queries::Pair;

/// Aggregates that read the same in both dialects, over rows called `e`.
const VALUES: [&str; 8] = [
    "count(*)",
    "count(e.n)",
    "min(e.n)",
    "max(e.x)",
    "avg(e.x)",
    "count(DISTINCT e.g)",
    "count(*) FILTER (WHERE e.n > 0)",
    "max(e.k)",
];
const KEYS: [&str; 4] = ["k", "g", "flag", "n % 3"];
const SIZES_MS: [i64; 4] = [1_000, 2_500, 7_000, 20_000];
const JOINS: [&str; 4] = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];

/// Draws a query of one shape.
type Shape = fn(&mut Random) -> Pair;

/// All shapes, for a test that wants each.
pub(super) const SHAPES: [(&str, Shape); 12] = [
    ("session", session),
    ("cumulate", cumulate),
    ("top n of windows", window_top),
    ("order and limit", order_limit),
    ("first windows", first_windows),
    ("windows on windows", nested),
    ("grouping sets", grouping_sets),
    ("window join", window_join),
    ("interval join", interval_join),
    ("semi and anti join", semi_join),
    ("without windows", unwindowed),
    ("running top n", running_top),
];

fn interval(ms: i64) -> String {
    format!("INTERVAL '{ms} milliseconds'")
}

fn pair(squilla: String, duckdb: String, keys: &[&str], times: &[&'static str]) -> Pair {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    Pair { setup: String::new(), squilla, duckdb, keys, times: times.to_vec() }
}

fn values(random: &mut Random) -> String {
    let count = 1 + random.below(3);
    let mut list = Vec::new();
    for at in 0..count {
        list.push(format!("{} AS a{at}", random.pick(&VALUES)));
    }
    list.join(", ")
}

/// Rows of DuckDB in tumbling windows.
fn tumbled(ms: i64) -> String {
    format!("(SELECT *, ts - ts % {ms} AS window_start, ts - ts % {ms} + {ms} AS window_end FROM events)")
}

fn tumble(ms: i64) -> String {
    format!("TUMBLE(TABLE events, DESCRIPTOR(ts), {})", interval(ms))
}

fn session(random: &mut Random) -> Pair {
    let (key, gap, values) = (*random.pick(&["k", "g", "n"]), *random.pick(&[120, 400, 1_500]), values(random));
    let squilla = format!(
        "SELECT window_start, window_end, {key} AS key, {values} \
         FROM SESSION(TABLE events PARTITION BY {key}, DESCRIPTOR(ts), {}) AS e GROUP BY window_start, window_end, {key}",
        interval(gap)
    );
    let duckdb = format!(
        "WITH steps AS (SELECT *, coalesce(ts - lag(ts) OVER (PARTITION BY {key} ORDER BY ts) > {gap}, false) AS opens \
         FROM events), e AS (SELECT *, count(*) FILTER (opens) OVER (PARTITION BY {key} ORDER BY ts) AS session FROM steps) \
         SELECT min(ts) AS window_start, max(ts) + {gap} AS window_end, {key} AS key, {values} FROM e GROUP BY {key}, session"
    );
    pair(squilla, duckdb, &["window_start", "window_end", "key"], &["window_start", "window_end"])
}

/// Windows come in order, so that the first ones are known.
fn first_windows(random: &mut Random) -> Pair {
    let (ms, values, limit) = (*random.pick(&SIZES_MS), values(random), 1 + random.below(12));
    let squilla = format!(
        "SELECT window_start, {values} FROM {} AS e GROUP BY window_start, window_end LIMIT {limit}",
        tumble(ms)
    );
    let duckdb = format!(
        "SELECT window_start, {values} FROM {} AS e GROUP BY window_start ORDER BY window_start LIMIT {limit}",
        tumbled(ms)
    );
    pair(squilla, duckdb, &["window_start"], &["window_start"])
}

fn cumulate(random: &mut Random) -> Pair {
    let step = *random.pick(&[500, 1_000, 3_000]);
    let steps = 2 + i64::try_from(random.below(4)).expect("small");
    let (size, key, values) = (step * steps, *random.pick(&KEYS), values(random));
    let squilla = format!(
        "SELECT window_start, window_end, {key} AS key, {values} FROM CUMULATE(TABLE events, DESCRIPTOR(ts), {}, {}) AS e \
         GROUP BY window_start, window_end, {key}",
        interval(step),
        interval(size)
    );
    let duckdb = format!(
        "WITH e AS (SELECT *, ts - ts % {size} AS window_start, ts - ts % {size} + (i + 1) * {step} AS window_end \
         FROM events, range({steps}) AS r(i) WHERE ts < ts - ts % {size} + (i + 1) * {step}) \
         SELECT window_start, window_end, {key} AS key, {values} FROM e GROUP BY window_start, window_end, {key}"
    );
    pair(squilla, duckdb, &["window_start", "window_end", "key"], &["window_start", "window_end"])
}

fn window_top(random: &mut Random) -> Pair {
    let (ms, limit) = (*random.pick(&SIZES_MS), 1 + random.below(4));
    let function = *random.pick(&["ROW_NUMBER", "RANK", "DENSE_RANK"]);
    let part = *random.pick(&["", ", g", ", k, flag"]);
    let order = *random.pick(&["n DESC NULLS LAST", "x NULLS FIRST", "k NULLS LAST, d DESC NULLS LAST"]);
    // A number of rows needs a total order.
    let order = if function == "ROW_NUMBER" { format!("{order}, id") } else { order.to_owned() };
    let query = |from: String| {
        format!(
            "SELECT window_start, id, n, place FROM (SELECT *, {function}() OVER (PARTITION BY window_start, \
             window_end{part} ORDER BY {order}) AS place FROM {from}) WHERE place <= {limit}"
        )
    };
    pair(query(tumble(ms)), query(tumbled(ms)), &["window_start", "id"], &["window_start"])
}

fn order_limit(random: &mut Random) -> Pair {
    let (ms, limit, key) = (*random.pick(&SIZES_MS), 1 + random.below(3), *random.pick(&["k", "g"]));
    let grouped = |from: String| {
        format!("SELECT window_start, {key} AS key, count(*) AS n FROM {from} GROUP BY window_start, window_end, {key}")
    };
    pair(
        format!("{} ORDER BY n DESC, key NULLS LAST LIMIT {limit}", grouped(tumble(ms))),
        format!(
            "SELECT * FROM ({}) QUALIFY ROW_NUMBER() OVER (PARTITION BY window_start ORDER BY n DESC, key NULLS LAST) <= \
             {limit}",
            grouped(tumbled(ms))
        ),
        &["window_start", "key"],
        &["window_start"],
    )
}

fn nested(random: &mut Random) -> Pair {
    let ms = *random.pick(&[1_000, 2_500]);
    let outer = ms * (2 + i64::try_from(random.below(4)).expect("small"));
    let key = *random.pick(&["k", "g"]);
    let squilla = format!(
        "SELECT window_start, max(n) AS most, sum(n) AS n FROM TUMBLE(TABLE counts, DESCRIPTOR(window_time), {}) \
         GROUP BY window_start, window_end",
        interval(outer)
    );
    let setup = format!(
        "CREATE STREAM counts AS SELECT window_start, window_end, window_time, {key}, count(*) AS n FROM {} \
         GROUP BY window_start, window_end, window_time, {key};",
        tumble(ms)
    );
    let duckdb = format!(
        "WITH counts AS (SELECT window_end - 1 AS ts, count(*) AS n FROM {} GROUP BY window_end, {key}) \
         SELECT ts - ts % {outer} AS window_start, max(n) AS most, CAST(sum(n) AS BIGINT) AS n FROM counts GROUP BY 1",
        tumbled(ms)
    );
    Pair { setup, ..pair(squilla, duckdb, &["window_start"], &["window_start"]) }
}

fn grouping_sets(random: &mut Random) -> Pair {
    let ms = *random.pick(&[7_000, 20_000]);
    let sets = *random.pick(&[
        "ROLLUP (g, flag)",
        "CUBE (g, flag)",
        "GROUPING SETS ((g, flag), (g), ())",
        "GROUPING SETS ((flag), (g))",
    ]);
    let values = values(random);
    let query = |from: String| {
        format!(
            "SELECT window_start, g, flag, grouping(g) AS of_g, grouping(flag) AS of_flag, {values} FROM {from} AS e \
             GROUP BY window_start, window_end, {sets}"
        )
    };
    let keys = ["window_start", "g", "flag", "of_g", "of_flag"];
    pair(query(tumble(ms)), query(tumbled(ms)), &keys, &["window_start"])
}

fn window_join(random: &mut Random) -> Pair {
    let (ms, join) = (*random.pick(&SIZES_MS), *random.pick(&JOINS));
    let limit = *random.pick(&["", " AND l.n >= r.n"]);
    let side = |from: String, aggregate: &str, predicate: &str| {
        format!(
            "(SELECT window_start, window_end, g, {aggregate} AS n FROM {from} WHERE {predicate} \
             GROUP BY window_start, window_end, g)"
        )
    };
    let query = |from: &dyn Fn() -> String| {
        format!(
            "SELECT l.window_start AS l_start, r.window_start AS r_start, l.g AS l_g, r.g AS r_g, l.n AS l_n, r.n AS r_n \
             FROM {} AS l {join} {} AS r ON l.window_start = r.window_start AND l.window_end = r.window_end AND l.g = r.g{limit}",
            side(from(), "count(*)", "n > -300"),
            side(from(), "max(n)", "flag OR n < 200"),
        )
    };
    let keys = ["l_start", "r_start", "l_g", "r_g", "l_n", "r_n"];
    pair(query(&|| tumble(ms)), query(&|| tumbled(ms)), &keys, &["l_start", "r_start"])
}

fn interval_join(random: &mut Random) -> Pair {
    let join = *random.pick(&["JOIN", "LEFT JOIN", "FULL JOIN"]);
    let (before, after) = (*random.pick(&[0, 150, 900]), *random.pick(&[0, 300, 1_000]));
    let filter = *random.pick(&["", " AND l.x > r.x"]);
    let query = |before: String, after: String| {
        format!(
            "SELECT l.id AS l_id, r.id AS r_id, l.n AS l_n FROM (SELECT * FROM events WHERE n > 500) AS l {join} \
             (SELECT * FROM events WHERE n < -500) AS r ON l.k = r.k AND l.ts BETWEEN r.ts - {before} AND r.ts + {after}{filter}"
        )
    };
    pair(query(interval(before), interval(after)), query(before.to_string(), after.to_string()), &["l_id", "r_id"], &[])
}

fn semi_join(random: &mut Random) -> Pair {
    let (ms, not) = (*random.pick(&SIZES_MS), *random.pick(&["", "NOT "]));
    let query = |from: &dyn Fn() -> String| {
        format!(
            "SELECT e.window_start, e.id FROM (SELECT * FROM {} WHERE n > 0) AS e WHERE {not}EXISTS (SELECT 1 FROM \
             (SELECT * FROM {} WHERE x < -500) AS o WHERE o.window_start = e.window_start AND o.window_end = e.window_end \
             AND o.g = e.g)",
            from(),
            from()
        )
    };
    pair(query(&|| tumble(ms)), query(&|| tumbled(ms)), &["window_start", "id"], &["window_start"])
}

fn unwindowed(random: &mut Random) -> Pair {
    let (key, values) = (*random.pick(&KEYS), values(random));
    let having = *random.pick(&["", " HAVING count(*) > 900"]);
    let query = format!("SELECT {key} AS key, {values} FROM events AS e GROUP BY {key}{having}");
    pair(query.clone(), query, &["key"], &[])
}

fn running_top(random: &mut Random) -> Pair {
    let (part, limit) = (*random.pick(&["g", "k"]), 1 + random.below(3));
    let order = *random.pick(&["n DESC NULLS LAST, id", "ts, id", "x NULLS LAST, id DESC"]);
    let function = *random.pick(&["ROW_NUMBER", "RANK", "DENSE_RANK"]);
    if function != "ROW_NUMBER" {
        let order = *random.pick(&["n DESC NULLS LAST", "n NULLS LAST"]);
        return running_ranks(function, part, order, limit);
    }
    let query = format!(
        "SELECT id, {part} AS part, n, place FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY {part} ORDER BY {order}) AS place \
         FROM events) WHERE place <= {limit}"
    );
    pair(query.clone(), query, &["id"], &[])
}

/// Ranks that rows share: their places among those go by event time.
fn running_ranks(function: &str, part: &str, order: &str, limit: u64) -> Pair {
    let query = |place: String| {
        format!(
            "SELECT id, {part} AS part, n, place, place_row FROM (SELECT *, {function}() OVER (PARTITION BY {part} \
             ORDER BY {order}) AS place{place} FROM events) WHERE place <= {limit}"
        )
    };
    let place = format!(", ROW_NUMBER() OVER (PARTITION BY {part} ORDER BY {order}, ts) AS place_row");
    pair(query(String::new()), query(place), &["id"], &[])
}
