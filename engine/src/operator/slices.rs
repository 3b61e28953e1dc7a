//! What windows that share many panes have in common, merged beforehand.

use std::collections::BTreeMap;
use std::ops::Range;

use super::grouping::{Grouping, Sealed};
use super::pane::{Pane, PaneKey};
use super::windows::by_shard;
use crate::error::EngineError;

/// Panes of a window from which on it is worth it: merging fewer costs less than keeping what they come to.
pub(super) const MIN_PANES: i64 = 8;

/// Of one window after the other the groups, in a few parts instead of one a pane.
///
/// Windows that begin within the same stretch of event time, as long as one of them, all reach over its end: the
/// *boundary*. What lies before it they lose pane by pane; that is merged backwards from the boundary. What lies behind it
/// they gain pane by pane; that is merged forwards. So a window costs its groups a few times, however many panes it has.
///
/// Merged is anew only once as many groups have come as are merged: of panes that share no groups few are merged twice, and
/// what is kept holds at most twice the groups of a window's panes. The boundaries are where the grid puts them, and what
/// is merged follows from the panes alone, so a result is the same to the last digit whenever work on it began.
///
/// After B. Gil and M. Werman, "Computing 2-D min, median, and max filters" (PAMI 1993), and K. Tangwongsan et al.,
/// "General incremental sliding-window aggregation" (PVLDB 2015).
#[derive(Default)]
pub(super) struct Slices {
    /// `None`: nothing has been merged.
    boundary: Option<i64>,
    /// Groups from a pane on up to the boundary, the latest pane first.
    tails: Vec<Tail>,
    /// Groups from the boundary up to `merged`.
    head: Vec<Sealed>,
    merged: i64,
    /// Up to there panes were counted, which are to be read from `merged` on.
    counted: i64,
    unmerged_groups: usize,
    bytes: usize,
}

struct Tail {
    from: i64,
    parts: Vec<Sealed>,
}

/// A window.
pub(super) struct Wanted {
    /// Its name.
    pub(super) start: i64,
    /// Its event times.
    pub(super) times: Range<i64>,
    /// The boundary that it reaches over.
    pub(super) boundary: i64,
}

/// Panes, those that all windows count and others.
pub(super) type Panes = BTreeMap<PaneKey, Pane>;

impl Slices {
    /// Rows have come to a pane.
    pub(super) fn changed(&mut self, key: PaneKey) {
        // Rows that come too late for windows that were told, but not for all.
        if self.boundary.is_some() && key.start < self.counted && key.from == i64::MIN {
            *self = Self::default();
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The groups of a window whose panes are sealed; windows come in order.
    ///
    /// # Errors
    /// [`EngineError::Aggregate`] when an aggregate cannot go on.
    pub(super) fn parts(
        &mut self,
        panes: &Panes,
        wanted: &Wanted,
        grouping: &Grouping,
        ids: &mut Vec<usize>,
    ) -> Result<Vec<Sealed>, EngineError> {
        let Wanted { start, times, boundary } = wanted;
        if self.boundary != Some(*boundary) {
            *self = Self { boundary: Some(*boundary), merged: *boundary, counted: *boundary, ..Self::default() };
            self.merge_tails(panes, times.start..*boundary, grouping, ids)?;
        }
        self.extend_head(panes, times.end, grouping, ids)?;
        while self.tails.last().is_some_and(|tail| tail.from < times.start) {
            self.tails.pop();
        }
        self.measure();
        let tail = self.tails.last();
        let alone = times.start..tail.map_or(*boundary, |tail| tail.from);
        let mut parts = of_all(panes, alone)?;
        parts.extend(tail.into_iter().flat_map(|tail| tail.parts.iter().cloned()));
        parts.extend(self.head.iter().cloned());
        parts.extend(of_all(panes, self.merged..times.end)?);
        let counts = |key: &PaneKey| key.from != i64::MIN && key.from <= *start;
        for (_, pane) in panes.range(ends(times)).filter(|(key, _)| counts(key)) {
            parts.append(&mut pane.parts()?);
        }
        Ok(parts)
    }

    fn merge_tails(
        &mut self,
        panes: &Panes,
        times: Range<i64>,
        grouping: &Grouping,
        ids: &mut Vec<usize>,
    ) -> Result<(), EngineError> {
        let mut unmerged = 0;
        for (key, pane) in panes.range(ends(&times)).rev().filter(|(key, _)| key.from == i64::MIN) {
            let until = self.tails.last().map_or(times.end, |tail| tail.from);
            unmerged += groups(&pane.parts()?);
            if unmerged >= self.tails.last().map_or(0, |tail| groups(&tail.parts)) {
                let mut parts = of_all(panes, key.start..until)?;
                parts.extend(self.tails.last().into_iter().flat_map(|tail| tail.parts.iter().cloned()));
                self.tails.push(Tail { from: key.start, parts: merged(grouping, &parts, ids)? });
                unmerged = 0;
            }
        }
        Ok(())
    }

    fn extend_head(
        &mut self,
        panes: &Panes,
        until: i64,
        grouping: &Grouping,
        ids: &mut Vec<usize>,
    ) -> Result<(), EngineError> {
        let counted = self.counted.min(until)..until;
        for (key, pane) in panes.range(ends(&counted)).filter(|(key, _)| key.from == i64::MIN) {
            self.unmerged_groups += groups(&pane.parts()?);
            if self.unmerged_groups >= groups(&self.head) {
                let behind = key.start.saturating_add(1);
                self.head.append(&mut of_all(panes, self.merged..behind)?);
                self.head = merged(grouping, &self.head, ids)?;
                (self.merged, self.unmerged_groups) = (behind, 0);
            }
        }
        self.counted = self.counted.max(until);
        Ok(())
    }

    fn measure(&mut self) {
        let sealed = self.tails.iter().flat_map(|tail| &tail.parts).chain(&self.head);
        self.bytes = sealed.map(Sealed::bytes).sum();
    }
}

fn groups(parts: &[Sealed]) -> usize {
    parts.iter().map(|part| part.len).sum()
}

/// Parts as one, or as one a shard.
fn merged(grouping: &Grouping, parts: &[Sealed], ids: &mut Vec<usize>) -> Result<Vec<Sealed>, EngineError> {
    let Some(shards) = by_shard(parts) else { return Ok(vec![grouping.merge(parts, ids)?.seal()?]) };
    let seal = |own: Vec<Sealed>| Ok(Sealed { shard: own[0].shard, ..grouping.merge(&own, ids)?.seal()? });
    shards.into_iter().map(seal).collect()
}

/// The keys of panes that start within these times.
fn ends(times: &Range<i64>) -> Range<PaneKey> {
    let first = |start| PaneKey { start, from: i64::MIN };
    first(times.start)..first(times.end)
}

/// The groups of panes that all windows over them count.
fn of_all(panes: &Panes, times: Range<i64>) -> Result<Vec<Sealed>, EngineError> {
    let mut parts = Vec::new();
    for (_, pane) in panes.range(ends(&times)).filter(|(key, _)| key.from == i64::MIN) {
        parts.append(&mut pane.parts()?);
    }
    Ok(parts)
}
