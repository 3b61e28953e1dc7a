//! Sketches over windows whose panes are merged stay within their stated error of the exact answer.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;
use squilla_tests::program::run_script;
use squilla_tests::random::Random;

const ROWS: i64 = 40_000;
/// Three standard errors of a HyperLogLog of 2^14 registers.
const DISTINCT_ERROR: f64 = 0.025;
/// By rank, of a t-digest of 100 centroids near the middle; its values are uniform, so it is one of the value too.
const QUANTILE_ERROR: f64 = 0.02;
const RANGE: i64 = 1_000_000;

const SCRIPT: &str = "
CREATE SOURCE events (n BIGINT, x DOUBLE, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 second')
  WITH (connector = 'file', path = 'events.ndjson', format = 'json');
SELECT window_start, count(DISTINCT n) AS n, approx_distinct(n) AS about_n, approx_median(x) AS middle,
       approx_percentile_cont(0.9) WITHIN GROUP (ORDER BY x) AS upper, approx_top_k(n % 1000 * (n % 7 / 6), 1) AS top,
       count(*) FILTER (WHERE n % 1000 * (n % 7 / 6) = 0) AS zeros
  FROM events GROUP BY hop('5s', '20s');";

#[test]
fn sketches_stay_within_their_error() {
    let folder = tempfile::tempdir().expect("a folder for data");
    let mut random = Random::new(11);
    let mut text = String::new();
    for row in 0..ROWS {
        let (n, x, ts) = (random.between(0, 15_000), random.between(0, RANGE), 1_700_000_000_000 + row);
        writeln!(text, "{{\"n\":{n},\"x\":{x},\"ts\":{ts}}}").expect("text can be written");
    }
    fs::write(folder.path().join("events.ndjson"), text).expect("the data can be written");
    let rows = run_script(SCRIPT, folder.path()).expect("it runs");
    assert!(rows.len() >= 8, "{} windows", rows.len());
    for row in rows {
        let number = |value: &Value| value.as_f64().expect("a number");
        let (exact, about) = (number(&row["n"]), number(&row["about_n"]));
        assert!((about - exact).abs() <= exact * DISTINCT_ERROR, "about {about} of {exact}: {row:?}");
        let (middle, upper) = (number(&row["middle"]), number(&row["upper"]));
        // The windows at the ends have few rows.
        if exact > 3_000.0 {
            assert!((middle / RANGE as f64 - 0.5).abs() <= QUANTILE_ERROR, "{row:?}");
            assert!((upper / RANGE as f64 - 0.9).abs() <= QUANTILE_ERROR, "{row:?}");
        }
        let top = &row["top"][0];
        let (count, error, zeros) = (number(&top["count"]), number(&top["error"]), number(&row["zeros"]));
        assert_eq!(number(&top["value"]), 0.0, "{row:?}");
        assert!(zeros <= count && zeros >= count - error, "{zeros} zeros: {row:?}");
    }
}
