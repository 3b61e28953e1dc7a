//! Functions over the windows of a key, in both dialects: in batch SQL, window functions over groups.

use squilla_tests::random::Random;

use super::queries::Pair;

/// Lags, steps and scores of tumbling windows by keys with nulls, in both forms; infinite scores are told as 1000.
pub(super) fn generate(random: &mut Random) -> Pair {
    let size = *random.pick(&[500, 1_000, 2_000]);
    let key = *random.pick(&["g", "k", "flag"]);
    let value = *random.pick(&["count(*)", "sum(n)", "avg(x)", "coalesce(sum(d), 0)"]);
    let (windows, least) = (3 + random.below(8), 3);
    let alpha = *random.pick(&["0.1", "0.25", "0.5", "1"]);
    let lag = 1 + random.below(3);
    let having = *random.pick(&["", "HAVING count(*) > 1 "]);
    let over = format!("OVER (PARTITION BY {key} ORDER BY window_end)");
    let implied = if random.percent(50) { "" } else { over.as_str() };
    let tell =
        |score: &str| format!("CASE WHEN {score} > 1e12 THEN 1000 WHEN {score} < -1e12 THEN -1000 ELSE {score} END");
    let squilla = format!(
        "SELECT window_end, key, v, w, before, step, {} AS z, average FROM (SELECT window_end, {key} AS key, {value} AS v, \
         {value} - lag({value}) {over} AS w, lag({value}, {lag}) {over} AS before, rate_of_change({value}) {implied} AS step, \
         robust_zscore({value}, {windows}, {least}) {implied} AS z, ewma({value}, {alpha}) {implied} AS average FROM events \
         GROUP BY {key}, tumble('{size}ms') {having})",
        tell("z")
    );
    // Nulls do not count: neighbours, and what is listed, are those of rows with a value.
    let part = "OVER (PARTITION BY key, v IS NULL ORDER BY window_end";
    let batch = format!(
        "SELECT ts - ts % {size} + {size} AS window_end, {key} AS key, CAST({value} AS DOUBLE) AS v FROM events \
         GROUP BY 1, 2 {having}"
    );
    let duckdb = format!(
        "SELECT window_end, key, v, v - lag(v) {all} AS w, lag(v, {lag}) {all} AS before, \
         (v - lag(v) {part})) * 1000.0 / (window_end - lag(window_end) {part})) AS step, \
         CASE WHEN v IS NULL OR coalesce(len(earlier), 0) < {least} THEN NULL WHEN mad > 0 THEN (v - middle) / (1.4826 * mad) \
         WHEN v = middle THEN 0 WHEN mean_away > 0 THEN (v - middle) / (1.253314 * mean_away) \
         WHEN v > middle THEN 1000 ELSE -1000 END AS z, \
         CASE WHEN v IS NOT NULL THEN list_reduce(past, lambda a, b: a + {alpha} * (b - a)) END AS average \
         FROM (SELECT *, list_aggregate(earlier, 'median') AS middle, list_aggregate(earlier, 'mad') AS mad, \
         list_avg(list_transform(earlier, lambda e: abs(e - list_aggregate(earlier, 'median')))) AS mean_away \
         FROM (SELECT *, list(v) {part} ROWS BETWEEN {windows} PRECEDING AND 1 PRECEDING) AS earlier, list(v) {part}) AS past \
         FROM ({batch})))",
        all = "OVER (PARTITION BY key ORDER BY window_end)",
    );
    Pair {
        setup: String::new(),
        squilla,
        duckdb,
        keys: vec!["window_end".to_owned(), "key".to_owned()],
        times: vec!["window_end"],
    }
}
