//! What the rows of windows by count have gathered: groups by numbered piece and keys, in sealed parts.
//!
//! Pieces are numbered as they begin, and every part is in order of them, so that the groups of a piece are found by
//! halving. Parts are merged as in a log-structured tree (O'Neil et al., Acta Informatica 1996): each is at least twice
//! as long as the next, which keeps their number at the logarithm of the groups.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array, UInt64Array};
use arrow::compute::sort_to_indices;
use arrow::datatypes::UInt64Type;

use super::grouping::{Grouping, Results, Sealed};
use super::pane::Pane;
use super::state::State;
use crate::error::EngineError;

/// Groups up to which those of told windows are not cleared away.
const MIN_GROUPS: usize = 1024;

/// Groups of pieces.
pub(super) struct CountParts {
    grouping: Grouping,
    live: Pane,
    /// From the longest to the shortest.
    parts: Vec<Sealed>,
    bytes: usize,
    /// Groups of pieces that no window needs any more.
    dead: usize,
    ids: Vec<usize>,
}

/// Windows to be told: their pieces, one window's behind the other's.
#[derive(Debug, Default)]
pub(super) struct Complete {
    pieces: Vec<u64>,
    /// Where each window's pieces end.
    ends: Vec<usize>,
}

impl Complete {
    /// Adds a window.
    pub(super) fn push(&mut self, pieces: impl Iterator<Item = u64>) {
        self.pieces.extend(pieces);
        self.ends.push(self.pieces.len());
    }

    /// How many windows there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// For each piece of each window: the window's number and the piece.
    fn each(&self) -> impl Iterator<Item = (u64, u64)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let windows = (0u64..).zip(starts.zip(&self.ends));
        windows.flat_map(|(window, (start, end))| self.pieces[start..*end].iter().map(move |piece| (window, *piece)))
    }
}

impl CountParts {
    /// No groups yet.
    pub(super) fn new(grouping: Grouping) -> Self {
        Self { grouping, live: Pane::default(), parts: Vec::new(), bytes: 0, dead: 0, ids: Vec::new() }
    }

    /// Takes rows in. `evaluated` holds `outer` columns that are no keys, the keys, and what aggregates need.
    ///
    /// # Errors
    /// [`EngineError::Aggregate`] when an aggregate cannot go on.
    pub(super) fn update(
        &mut self,
        pieces: UInt64Array,
        evaluated: &[ArrayRef],
        outer: usize,
    ) -> Result<(), EngineError> {
        let rows = pieces.len();
        let columns = self.grouping.columns_within(Arc::new(pieces), evaluated, outer);
        self.live.update(&self.grouping, &columns, rows, &mut self.ids)
    }

    /// The groups of windows: the number of the window of each, its keys and results. `needed` tells of a piece whether a
    /// later window needs it.
    ///
    /// # Errors
    /// As [`CountParts::update`].
    pub(super) fn tell(&mut self, windows: &Complete, needed: &dyn Fn(u64) -> bool) -> Result<Results, EngineError> {
        for part in self.live.take(&self.grouping, &mut self.ids)? {
            self.parts.push(in_order(part)?);
        }
        let mut found = Vec::new();
        for part in &self.parts {
            let known = pieces(part);
            let (mut rows, mut numbers) = (Vec::new(), Vec::new());
            for (window, piece) in windows.each() {
                let first = known.partition_point(|other| *other < piece);
                let of_piece = known[first..].iter().take_while(|other| **other == piece).count();
                for row in first..first + of_piece {
                    rows.push(u32::try_from(row).expect("the budget ends a query long before"));
                    numbers.push(window);
                }
                self.dead += if needed(piece) { 0 } else { of_piece };
            }
            if !rows.is_empty() {
                let mut part = part.pick(&UInt32Array::from(rows))?;
                part.keys[0] = Arc::new(UInt64Array::from(numbers));
                found.push(part);
            }
        }
        self.compact(needed)?;
        if found.is_empty() {
            return Ok(Results { columns: Vec::new(), len: 0 });
        }
        self.grouping.merge(&found, &mut self.ids)?.results()
    }

    fn compact(&mut self, needed: &dyn Fn(u64) -> bool) -> Result<(), EngineError> {
        let total: usize = self.parts.iter().map(|part| part.len).sum();
        let clears = total > MIN_GROUPS && self.dead * 2 > total;
        let mut from = if clears { 0 } else { self.parts.len() };
        let mut length: usize = self.parts[from..].iter().map(|part| part.len).sum();
        while from > 0 && (from == self.parts.len() || self.parts[from - 1].len < 2 * length) {
            from -= 1;
            length += self.parts[from].len;
        }
        if clears || from + 1 < self.parts.len() {
            let mut kept = Vec::new();
            for part in self.parts.drain(from..) {
                let keep: BooleanArray = pieces(&part).iter().map(|piece| Some(needed(*piece))).collect();
                self.dead = self.dead.saturating_sub(part.len - keep.true_count());
                kept.push(part.filter(&keep)?);
            }
            if kept.iter().any(|part| part.len > 0) {
                let merged = self.grouping.merge(&kept, &mut self.ids)?.seal()?;
                self.parts.push(in_order(merged)?);
            }
        }
        self.bytes = self.parts.iter().map(Sealed::bytes).sum();
        Ok(())
    }

    /// Puts the groups behind what a state holds.
    ///
    /// # Errors
    /// As [`CountParts::update`].
    pub(super) fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.live.save(state)?;
        state.put(&(self.dead, self.parts.len()))?;
        self.parts.iter().try_for_each(|part| part.save(state))
    }

    /// Takes groups from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.live = Pane::restored(&self.grouping, state)?;
        let parts: usize;
        (self.dead, parts) = state.take()?;
        self.parts = (0..parts).map(|_| self.grouping.take_sealed(state)).collect::<Result<_, _>>()?;
        self.bytes = self.parts.iter().map(Sealed::bytes).sum();
        Ok(())
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.parts.clear();
        (self.bytes, self.dead, self.live) = (0, 0, Pane::default());
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.live.bytes() - size_of::<Pane>() + self.bytes
    }
}

/// The part in order of its pieces.
fn in_order(part: Sealed) -> Result<Sealed, EngineError> {
    if part.len == 0 || pieces(&part).is_sorted() {
        return Ok(part);
    }
    part.pick(&sort_to_indices(&part.keys[0], None, None)?)
}

/// The piece of each group.
fn pieces(part: &Sealed) -> &[u64] {
    match part.keys.first() {
        Some(column) => column.as_primitive::<UInt64Type>().values(),
        None => &[],
    }
}
