//! What the streams must hold, computed from the source's rows alone.

use std::collections::BTreeMap;

use serde_json::Value;

use super::publish::Event;

/// How long the source's watermark waits for rows.
const PATIENCE_MS: i64 = 2_000;
const WINDOW_MS: i64 = 10_000;

/// A row of `counts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Count {
    pub(crate) start_s: i64,
    part: Option<i64>,
    rows: i64,
    sum: i64,
    least: i64,
    greatest: i64,
}

impl Count {
    pub(crate) fn of_row(row: &[Value]) -> Self {
        let number = |at: usize| row[at].as_i64().expect("a number");
        Self {
            start_s: number(0),
            part: row[1].as_i64(),
            rows: number(2),
            sum: number(3),
            least: number(4),
            greatest: number(5),
        }
    }
}

/// The named streams' rows.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Ids, in order.
    pub(crate) kept: Vec<i64>,
    /// In order of their windows' ends; those of a window in any order.
    pub(crate) counts: Vec<Count>,
}

/// The streams that a server without crashes makes of the source's rows.
pub(crate) fn wanted(events: &[Event]) -> Wanted {
    let mut kept = Vec::new();
    let mut windows: BTreeMap<(i64, Option<i64>), Count> = BTreeMap::new();
    let mut watermark = i64::MIN;
    for event in events {
        if event.id % 3 != 0 {
            kept.push(event.id);
            let start = event.at_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
            if watermark < start + WINDOW_MS {
                let start_s = start / 1000;
                let none = Count { start_s, part: event.part, rows: 0, sum: 0, least: event.id, greatest: event.id };
                let count = windows.entry((start_s, event.part)).or_insert(none);
                count.rows += 1;
                count.sum += event.id;
                count.least = count.least.min(event.id);
                count.greatest = count.greatest.max(event.id);
            }
        }
        watermark = watermark.max(event.at_ms - PATIENCE_MS);
    }
    let closed = |count: &Count| count.start_s * 1000 + WINDOW_MS <= watermark;
    Wanted { kept, counts: windows.into_values().filter(closed).collect() }
}
