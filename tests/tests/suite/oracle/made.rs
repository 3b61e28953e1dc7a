//! Windows that rows make, in both dialects: in batch SQL, gaps and islands.

use super::queries::Pair;

/// Sessions with gaps that make few and many of them, by keys with and without nulls, with conditions after and before.
pub(super) fn sessions() -> Vec<Pair> {
    let aggregates = "count(*) AS n, sum(n) AS total, min(x) AS least, count(DISTINCT k) AS kinds, \
                      string_agg(k, '|' ORDER BY id) AS ks";
    let batch = |gap: i64, parts: &str, before: &str, after: &str| {
        let over = if parts.is_empty() { String::new() } else { format!("PARTITION BY {parts} ") };
        let keys = if parts.is_empty() { String::new() } else { format!(", {parts}") };
        format!(
            "SELECT window_start, window_end{keys}, {aggregates} FROM (SELECT *, min(ts) OVER (PARTITION BY island{keys}) \
             AS window_start, max(ts) OVER (PARTITION BY island{keys}) + {gap} AS window_end FROM (SELECT *, sum(fresh) \
             OVER ({over}ORDER BY ts, id) AS island FROM (SELECT *, CASE WHEN ts - lag(ts) OVER ({over}ORDER BY ts, id) \
             <= {gap} THEN 0 ELSE 1 END AS fresh FROM events WHERE {before}))) WHERE {after} GROUP BY window_start, \
             window_end{keys}"
        )
    };
    let mut pairs = Vec::new();
    for (gap, parts) in [(400, "g"), (900, "k"), (2_000, "g, k"), (30, ""), (1_500, "flag, g")] {
        let keys = if parts.is_empty() { String::new() } else { format!(", {parts}") };
        let by = if parts.is_empty() { String::new() } else { format!(" PARTITION BY {parts}") };
        let names = parts.split(", ").filter(|part| !part.is_empty());
        let pair = |squilla: String, duckdb: String| Pair {
            setup: String::new(),
            squilla,
            duckdb,
            keys: ["window_start"].into_iter().chain(names.clone()).map(str::to_owned).collect(),
            times: vec!["window_start", "window_end"],
        };
        pairs.push(pair(
            format!(
                "SELECT window_start, window_end{keys}, {aggregates} FROM SESSION(TABLE events{by}, DESCRIPTOR(ts), \
                 INTERVAL '{gap} milliseconds') WHERE x > 0 GROUP BY window_start, window_end{keys}"
            ),
            batch(gap, parts, "true", "x > 0"),
        ));
        let and_keys = if parts.is_empty() { String::new() } else { format!("{parts}, ") };
        pairs.push(pair(
            format!(
                "SELECT window_start, window_end{keys}, {aggregates} FROM events WHERE n > -500 GROUP BY \
                 {and_keys}session('{gap}ms')"
            ),
            batch(gap, parts, "n > -500", "true"),
        ));
    }
    pairs
}

/// Cumulating windows: few steps and many, shifted both ways.
pub(super) fn cumulating() -> Vec<Pair> {
    let aggregates = "count(*) AS n, sum(n) AS total, max(x) AS most, avg(x) AS mean, count(DISTINCT k) AS kinds, \
                      string_agg(k, '|' ORDER BY id) AS ks";
    let shapes = [(1_000, 5_000, 0, "g"), (500, 6_000, -250, "flag"), (2_000, 4_000, 700, "k")];
    let pair = |(step, size, offset, key): (i64, i64, i64, &str)| Pair {
        setup: String::new(),
        squilla: format!(
            "SELECT window_start, window_end, {key}, {aggregates} FROM CUMULATE(TABLE events, DESCRIPTOR(ts), INTERVAL \
             '{step} milliseconds', INTERVAL '{size} milliseconds', INTERVAL '{offset} milliseconds') WHERE x > 0 GROUP \
             BY window_start, window_end, {key}"
        ),
        duckdb: format!(
            "SELECT window_start, window_end, {key}, {aggregates} FROM (SELECT *, window_start + (i + 1) * {step} AS \
             window_end FROM (SELECT *, ts - (((ts - ({offset})) % {size} + {size}) % {size}) AS window_start FROM \
             events), range({size} // {step}) r(i)) WHERE window_end > ts AND x > 0 GROUP BY window_start, window_end, \
             {key}"
        ),
        keys: ["window_start", "window_end", key].map(str::to_owned).to_vec(),
        times: vec!["window_start", "window_end"],
    };
    shapes.into_iter().map(pair).collect()
}

/// Several groupings at once.
pub(super) fn grouping_sets() -> Vec<Pair> {
    let sets =
        ["GROUPING SETS ((g, flag), (g), ())", "ROLLUP (k, flag)", "CUBE (flag, k)", "flag, GROUPING SETS ((k), ())"];
    let pair = |sets: &str| {
        let keys: Vec<&str> =
            ["g", "flag", "k"].into_iter().filter(|key| words(sets).any(|word| word == *key)).collect();
        let bits: Vec<String> = keys.iter().map(|key| format!("grouping({key}) AS of_{key}")).collect();
        let columns =
            format!("{}, {}, count(*) AS n, sum(n) AS total, max(x) AS most", keys.join(", "), bits.join(", "));
        let query = |from: &str| {
            format!(
                "SELECT window_start, {columns} FROM {from} GROUP BY window_start, window_end, {sets} HAVING count(*) > 1"
            )
        };
        let batch = "(SELECT *, ts // 4000 * 4000 AS window_start, ts // 4000 * 4000 + 4000 AS window_end FROM events)";
        let of_keys = keys.iter().map(|key| format!("of_{key}"));
        Pair {
            setup: String::new(),
            squilla: query("TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '4' SECOND)"),
            duckdb: query(batch),
            keys: ["window_start"].iter().chain(&keys).map(|key| (*key).to_owned()).chain(of_keys).collect(),
            times: vec!["window_start"],
        }
    };
    sets.into_iter().map(pair).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
}
