//! Cumulating windows against an oracle that counts window by window.

use std::collections::BTreeMap;

use datafusion_expr::{col, lit};
use datafusion_functions_aggregate::expr_fn::{count, sum};
use proptest::collection::vec;
use proptest::prelude::*;
use squilla_query::{WindowKind, WindowSpec};

use super::testing::{Feed, MS, Row, aggregate, named, run, sorted_lines};

proptest! {
    #[test]
    fn every_step_tells_all_since_the_start(
        step in 1i64..12, steps in 2i64..6, offset in -20i64..20, grace in 0i64..6, delay in 0i64..20,
        rows in vec((-60i64..120, prop::option::of(0i64..3), 0i64..9), 1..150),
    ) {
        let size = step * steps;
        let kind = WindowKind::Cumulate { size_ns: size * MS, step_ns: step * MS };
        let window = WindowSpec { kind, offset_ns: offset * MS };
        let mut expected: BTreeMap<(i64, i64, Option<i64>), (i64, i64)> = BTreeMap::new();
        let (mut greatest, mut late, mut missed): (Option<i64>, u64, u64) = (None, 0, 0);
        for (time, key, value) in &rows {
            let start = (time - offset).div_euclid(size) * size + offset;
            let ends: Vec<i64> = (1..=steps).map(|n| start + n * step).filter(|end| end > time).collect();
            let open = |end: &&i64| greatest.is_none_or(|greatest: i64| greatest - delay < **end + grace);
            let told: Vec<i64> = ends.iter().filter(open).copied().collect();
            match told.len() {
                0 => late += 1,
                some => missed += (ends.len() - some) as u64,
            }
            for end in told {
                let group = expected.entry((start, end, *key)).or_default();
                (group.0, group.1) = (group.0 + 1, group.1 + value);
            }
            greatest = greatest.max(Some(*time));
        }
        let text = |key: &Option<i64>| key.map(|key| key.to_string()).unwrap_or_default();
        let mut expected: Vec<String> =
            expected.iter().map(|((start, end, key), (n, total))| format!("{start}|{end}|{}|{n}|{total}", text(key))).collect();
        expected.sort();
        let rows: Vec<Row> = rows.into_iter().map(|(time, key, value)| (time, key, Some(value))).collect();
        for batch in [1, 7, 8192] {
            let calls = vec![count(lit(1)), sum(col("v"))];
            let (mut operator, counters) = aggregate(window, &[named(col("k"), "k")], calls, grace, 1);
            let mut feed = Feed::new(delay, 1);
            let batches = rows.chunks(batch).map(|rows| feed.batch(0, rows)).collect();
            let output = run(&mut operator, &counters, batches, 1);
            prop_assert_eq!(sorted_lines(&output.rows), expected.clone());
            let counted = counters.snapshot();
            prop_assert_eq!((counted.late, counted.late_assignments, counted.unaccounted()), (late, missed, 0));
        }
    }
}
