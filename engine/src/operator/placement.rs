//! Which rows are late, and which panes the others are in.
//!
//! A row is judged by its own event time and by the watermark that the rows before it in its partition imply, so the
//! verdict depends neither on how rows were batched nor on other partitions. The common case, a batch in which no
//! row can be late, costs one pass of comparisons.

use std::ops::Range;

use super::grid::{Grid, Starts};
use super::late::Tardy;
use super::pane::PaneKey;

/// Panes of a batch up to which its rows are dealt out to lists; more are sorted.
const MAX_DEALT_PANES: u64 = 64;

/// What rows are judged by.
pub(super) struct Judge<'a> {
    pub(super) grid: &'a Grid,
    /// How long after its end a window takes rows.
    pub(super) grace: i64,
    /// Start of the first window that is told at all.
    pub(super) earliest: i64,
    /// Start of the first window that has not been told yet.
    pub(super) open_from: i64,
}

/// The verdicts on the rows of a batch.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// For each row whether it is kept; `None`: all are.
    pub(super) keep: Option<Vec<bool>>,
    /// For each row that is kept the start of the first window that counts it, or `i64::MIN` when all its windows
    /// that are open do; `None`: that is so for all rows.
    pub(super) from: Option<Vec<i64>>,
    /// Rows whose windows do not fit in 64 bits.
    pub(super) failed: Vec<usize>,
    /// Rows that no window covers.
    pub(super) between: usize,
    /// Rows only of windows before the first that is told.
    pub(super) before_start: usize,
    /// Rows late for all their windows by their own watermark.
    pub(super) late: usize,
    /// Rows in time by their own watermark whose windows have all been told: their partition was idle.
    pub(super) late_idle: usize,
    /// The rows of both kinds.
    pub(super) tardy: Vec<Tardy>,
    /// Windows that a kept row is late for.
    pub(super) late_assignments: usize,
}

/// The end of windows that a watermark closes: those that end here or before take no more rows.
pub(super) fn closed_until(watermark: i64, grace: i64) -> i64 {
    if watermark == i64::MAX { i64::MAX } else { watermark.saturating_sub(grace) }
}

impl Judge<'_> {
    /// Judges rows by their event times and watermarks.
    pub(super) fn judge(&self, times: &[i64], watermarks: &[i64]) -> Verdicts {
        let (least, greatest) = (self.told_until().max(*self.grid.range().start()), *self.grid.range().end());
        let mut doubtful = self.grid.has_gaps() && !times.is_empty();
        for (&time, &watermark) in times.iter().zip(watermarks) {
            let early = time < least.max(watermark.saturating_sub(self.grace));
            doubtful |= early | (time > greatest) | (watermark == i64::MAX);
        }
        if !doubtful {
            return Verdicts::default();
        }
        let mut verdicts = Verdicts::default();
        let (mut keep, mut from) = (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
        for (row, (&time, &watermark)) in times.iter().zip(watermarks).enumerate() {
            let counted = self.judge_row(row, time, watermark, &mut verdicts);
            keep.push(counted.is_some());
            from.extend(counted);
        }
        if keep.contains(&false) {
            verdicts.keep = Some(keep);
        }
        if from.iter().any(|from| *from != i64::MIN) {
            verdicts.from = Some(from);
        }
        verdicts
    }

    /// The end of the last window that has been told, or never will be.
    fn told_until(&self) -> i64 {
        match self.open_from {
            i64::MAX => i64::MAX,
            open if open == self.grid.earliest() => i64::MIN,
            open => self.grid.end_before(open),
        }
    }

    /// From which window on a row counts, or `None` when it counts in none.
    fn judge_row(&self, row: usize, time: i64, watermark: i64, verdicts: &mut Verdicts) -> Option<i64> {
        if !self.grid.range().contains(&time) {
            verdicts.failed.push(row);
            return None;
        }
        let Starts { first, last } = self.grid.windows(time);
        if first > last {
            verdicts.between += 1;
            return None;
        }
        if last < self.earliest {
            verdicts.before_start += 1;
            return None;
        }
        let first = first.max(self.earliest);
        let in_time = self.grid.first_open(closed_until(watermark, self.grace));
        if last < in_time {
            verdicts.late += 1;
            verdicts.tardy.push((place_of(row), false));
            return None;
        }
        if last < self.open_from {
            verdicts.late_idle += 1;
            verdicts.tardy.push((place_of(row), true));
            return None;
        }
        let counted = first.max(in_time).max(self.open_from);
        let missed = (counted - first) / self.grid.slide();
        verdicts.late_assignments += usize::try_from(missed).expect("it is not negative");
        // Windows told already count nothing any more: only one that is still to be told needs to be kept apart.
        Some(if in_time > first.max(self.open_from) { in_time } else { i64::MIN })
    }
}

fn place_of(row: usize) -> u32 {
    u32::try_from(row).expect("a batch has fewer rows than 2^32")
}

/// Rows of a batch that are in one pane.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// All.
    All,
    /// Neighbours.
    Slice(Range<usize>),
    /// Some, ascending.
    Picked(Vec<u32>),
}

/// Deals rows, at least one and all of them in the grid's range, out to panes.
pub(super) fn place(grid: &Grid, times: &[i64], from: Option<&[i64]>) -> Vec<(PaneKey, Rows)> {
    if let Some(from) = from {
        return place_sorted(times.iter().zip(from).map(|(&time, &from)| PaneKey { start: grid.pane(time), from }));
    }
    let key = |start: i64| PaneKey { start, from: i64::MIN };
    if grid.is_uneven() {
        let (low, high) =
            times.iter().fold((i64::MAX, i64::MIN), |(low, high), time| (low.min(*time), high.max(*time)));
        let start = grid.pane(low);
        if high < grid.end(start) {
            return vec![(key(start), Rows::All)];
        }
        return place_sorted(times.iter().map(|&time| key(grid.pane(time))));
    }
    let first = grid.pane(times[0]);
    // Distances below the width are of the same pane; those that are negative wrap to large ones.
    let outside = |time: &i64| time.wrapping_sub(first).cast_unsigned() >= grid.width().unsigned_abs();
    if !times.iter().any(outside) {
        return vec![(key(first), Rows::All)];
    }
    if times.is_sorted() {
        return place_ordered(grid, times);
    }
    let (low, high) = times.iter().fold((i64::MAX, i64::MIN), |(low, high), time| (low.min(*time), high.max(*time)));
    let base = grid.pane(low);
    // Distances are at most 2^64 and not negative, so that they wrap into an unsigned number.
    let width = grid.width().unsigned_abs();
    let index = |time: i64| time.wrapping_sub(base).cast_unsigned() / width;
    let panes = index(high) + 1;
    if panes > MAX_DEALT_PANES {
        return place_sorted(times.iter().map(|&time| key(grid.pane(time))));
    }
    let mut dealt: Vec<Vec<u32>> = vec![Vec::new(); usize::try_from(panes).expect("at most 64")];
    for (row, &time) in (0u32..).zip(times) {
        dealt[usize::try_from(index(time)).expect("at most 64")].push(row);
    }
    let starts = (0..).map(|idx: i64| base.wrapping_add(idx.wrapping_mul(grid.width())));
    starts
        .zip(dealt)
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(start, rows)| (key(start), Rows::Picked(rows)))
        .collect()
}

fn place_ordered(grid: &Grid, times: &[i64]) -> Vec<(PaneKey, Rows)> {
    let (mut placed, mut first) = (Vec::new(), 0);
    while first < times.len() {
        let start = grid.pane(times[first]);
        // The distance, not the pane's end, which may not fit.
        let distance = |time: i64| time.wrapping_sub(start).cast_unsigned();
        let count = times[first..].partition_point(|&time| distance(time) < grid.width().unsigned_abs());
        placed.push((PaneKey { start, from: i64::MIN }, Rows::Slice(first..first + count)));
        first += count;
    }
    placed
}

fn place_sorted(keys: impl Iterator<Item = PaneKey>) -> Vec<(PaneKey, Rows)> {
    let mut keyed: Vec<(PaneKey, u32)> = keys.zip(0u32..).collect();
    keyed.sort_unstable();
    keyed
        .chunk_by(|(left, _), (right, _)| left == right)
        .map(|rows| (rows[0].0, Rows::Picked(rows.iter().map(|(_, row)| *row).collect())))
        .collect()
}
