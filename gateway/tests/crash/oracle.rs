//! What the streams must hold, computed from the source's rows alone.

use std::collections::BTreeMap;

use serde_json::Value;

use super::publish::Event;

/// How long the source's watermark waits for rows.
const PATIENCE_MS: i64 = 2_000;
const WINDOW_MS: i64 = 10_000;
/// Between two sessions of a part.
const GAP_MS: i64 = 500;
/// The same of sessions of several partitions.
const CALM_GAP_MS: i64 = 300;
/// How far two rows of a pair are apart at most.
const NEAR_MS: i64 = 4_000;

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

    /// Of a row that has no window.
    pub(crate) fn of_total(row: &[Value]) -> Self {
        Self::of_row(&[&[Value::from(0)], row].concat())
    }

    /// The last row of each part.
    pub(crate) fn latest(rows: &[Self]) -> Vec<Self> {
        rows.iter().map(|row| (row.part, *row)).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// An event alone.
    fn of_event(start_s: i64, event: &Event) -> Self {
        Self { start_s, part: event.part, rows: 1, sum: event.id, least: event.id, greatest: event.id }
    }

    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sum += other.sum;
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
    }
}

/// The named streams' rows.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Ids, in order.
    pub(crate) kept: Vec<i64>,
    /// In order of their windows' ends; those of a window in any order.
    pub(crate) counts: Vec<Count>,
    /// In any order.
    pub(crate) sessions: Vec<Count>,
    pub(crate) pairs: Vec<Pair>,
    /// The last row of each part.
    pub(crate) totals: Vec<Count>,
}

/// A row of `pairs`: an id, and that of the row before it, if that is there.
pub(crate) type Pair = (i64, Option<i64>);

/// The streams that a server without crashes makes of the source's rows.
pub(crate) fn wanted(events: &[Event]) -> Wanted {
    let is_kept = |event: &Event| event.id % 3 != 0;
    let mut windows = BTreeMap::new();
    let watermark = count_windows(events, is_kept, &mut windows);
    Wanted {
        kept: events.iter().filter(|event| is_kept(event)).map(|event| event.id).collect(),
        counts: closed(windows, watermark),
        sessions: sessions(events),
        pairs: pairs(&[events], 1).into_iter().filter(|(id, _)| id % 3 != 0).collect(),
        totals: totals(events.iter().filter(|event| is_kept(event))),
    }
}

/// Windows by their start and the part.
type Windows = BTreeMap<(i64, Option<i64>), Count>;

/// Adds the rows that are in time for their windows. The watermark behind them all.
fn count_windows(events: &[Event], is_kept: impl Fn(&Event) -> bool, windows: &mut Windows) -> i64 {
    let mut watermark = i64::MIN;
    for event in events {
        let start = event.at_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
        if is_kept(event) && watermark < start + WINDOW_MS {
            let start_s = start / 1000;
            let alone = Count::of_event(start_s, event);
            windows.entry((start_s, event.part)).and_modify(|count| count.add(&alone)).or_insert(alone);
        }
        watermark = watermark.max(event.at_ms - PATIENCE_MS);
    }
    watermark
}

/// Those that have ended, in the order of their ends.
fn closed(windows: Windows, watermark: i64) -> Vec<Count> {
    windows.into_values().filter(|count| count.start_s * 1000 + WINDOW_MS <= watermark).collect()
}

/// What is made of several partitions: each row is late by its own one's watermark, and windows are told at the least.
#[derive(Debug)]
pub(crate) struct United {
    /// Ids: those of a partition in order.
    pub(crate) rows: Vec<i64>,
    /// In order of their windows' ends; those of a window in any order.
    pub(crate) counts: Vec<Count>,
    /// In any order.
    pub(crate) pairs: Vec<Pair>,
    /// The last row of each part.
    pub(crate) totals: Vec<Count>,
}

/// The streams that a server without crashes makes of several partitions.
pub(crate) fn united(partitions: &[Vec<Event>]) -> United {
    let mut windows = BTreeMap::new();
    let watermarks = partitions.iter().map(|events| count_windows(events, |_| true, &mut windows));
    let watermark = watermarks.min().expect("there is a partition");
    United {
        rows: partitions.iter().flatten().map(|event| event.id).collect(),
        counts: closed(windows, watermark),
        pairs: pairs(&partitions.iter().map(Vec::as_slice).collect::<Vec<_>>(), partitions.len() as i64),
        totals: totals(partitions.iter().flatten()),
    }
}

/// Each row with that before it, whose id is less by `step`: those that are not late in their partition, and not far apart.
fn pairs(partitions: &[&[Event]], step: i64) -> Vec<Pair> {
    let mut in_time = BTreeMap::new();
    let mut reached = i64::MAX;
    for events in partitions {
        let mut watermark = i64::MIN;
        for event in *events {
            if event.at_ms >= watermark {
                in_time.insert(event.id, event.at_ms);
            }
            watermark = watermark.max(event.at_ms - PATIENCE_MS);
        }
        reached = reached.min(watermark);
    }
    let near = |id: i64, at_ms: i64| in_time.get(&id).is_some_and(|before| (at_ms - before).abs() <= NEAR_MS);
    let pair = |(id, at_ms): (&i64, &i64)| {
        let paired = near(id - step, *at_ms);
        let told = paired || at_ms + NEAR_MS < reached;
        told.then_some((*id, paired.then_some(id - step)))
    };
    in_time.iter().filter_map(pair).collect()
}

fn totals<'e>(events: impl Iterator<Item = &'e Event>) -> Vec<Count> {
    let mut totals: BTreeMap<Option<i64>, Count> = BTreeMap::new();
    for event in events {
        let alone = Count::of_event(0, event);
        totals.entry(event.part).and_modify(|total| total.add(&alone)).or_insert(alone);
    }
    totals.into_values().collect()
}

/// A session that is open: its bounds in milliseconds, and what it holds.
type Open = (i64, i64, Count);

/// Rows of a part that are no farther apart than the gap. A row is merged first, and late if the whole is. A session that
/// ends right at the watermark still takes a row that comes there.
fn sessions(events: &[Event]) -> Vec<Count> {
    let mut open: BTreeMap<Option<i64>, Vec<Open>> = BTreeMap::new();
    let mut closed = Vec::new();
    let mut watermark = i64::MIN;
    let mut close = |open: &mut BTreeMap<Option<i64>, Vec<Open>>, watermark: i64| {
        for (_, _, count) in open.values_mut().flat_map(|open| open.extract_if(.., |(_, end, _)| *end < watermark)) {
            closed.push(count);
        }
    };
    for event in events {
        close(&mut open, watermark);
        if event.id % 3 != 0 {
            let own = open.entry(event.part).or_default();
            let (first, last) = (event.at_ms, event.at_ms + GAP_MS);
            let (mut start, mut end) = (first, last);
            let mut count = Count::of_event(0, event);
            for (from, to, other) in own.extract_if(.., |(from, to, _)| *from <= last && *to >= first) {
                (start, end) = (start.min(from), end.max(to));
                count.add(&other);
            }
            count.start_s = start.div_euclid(1000);
            if end >= watermark {
                own.push((start, end, count));
            }
        }
        watermark = watermark.max(event.at_ms - PATIENCE_MS);
    }
    close(&mut open, watermark);
    closed
}

/// Sessions of rows none of which is late, in any order; the last of them, which closes the others, apart.
pub(crate) fn calm_sessions(events: &[Event]) -> Vec<Count> {
    let mut sorted: Vec<&Event> = events.iter().collect();
    sorted.sort_by_key(|event| event.at_ms);
    let last = sorted.pop();
    let mut open: BTreeMap<Option<i64>, (i64, Count)> = BTreeMap::new();
    let mut closed = Vec::new();
    for event in sorted {
        let alone = Count::of_event(event.at_ms.div_euclid(1000), event);
        match open.get_mut(&event.part) {
            Some((until, count)) if event.at_ms <= *until => {
                *until = event.at_ms + CALM_GAP_MS;
                count.add(&alone);
            }
            _ => closed.extend(open.insert(event.part, (event.at_ms + CALM_GAP_MS, alone)).map(|(_, count)| count)),
        }
    }
    assert!(last.is_none_or(|last| open.values().all(|(until, _)| *until < last.at_ms)), "the last one comes later");
    closed.extend(open.into_values().map(|(_, count)| count));
    closed
}
