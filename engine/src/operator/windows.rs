//! The open windows of an aggregate, as panes.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::ArrayRef;

use super::grid::Grid;
use super::grouping::{Grouping, Results, Sealed};
use super::pane::{Pane, PaneKey};
use super::state::State;
use crate::error::EngineError;

/// Panes with rows, and which of the windows over them are still to be told.
pub(super) struct Windows {
    grid: Grid,
    grouping: Grouping,
    panes: BTreeMap<PaneKey, Pane>,
    /// Start of the first window still to be told, `i64::MAX` when there is none.
    open_from: i64,
    bytes: usize,
    /// Scratch space for group ids.
    ids: Vec<usize>,
}

/// Open windows, by their starts, that count the same of the panes that have changed.
struct Run {
    starts: Vec<i64>,
    changed: Vec<PaneKey>,
}

/// What a window, by its start, has come to.
pub(super) type Told = (i64, Results);

impl Windows {
    /// No rows yet; windows that start before `open_from` are never told.
    pub(super) fn new(grid: Grid, grouping: Grouping, open_from: i64) -> Self {
        Self { grid, grouping, panes: BTreeMap::new(), open_from, bytes: 0, ids: Vec::new() }
    }

    /// Where windows lie.
    pub(super) fn grid(&self) -> &Grid {
        &self.grid
    }

    /// Start of the first window still to be told.
    pub(super) fn open_from(&self) -> i64 {
        self.open_from
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes rows into a pane.
    ///
    /// # Errors
    /// [`EngineError::Aggregate`] when an aggregate cannot go on.
    pub(super) fn update(&mut self, key: PaneKey, columns: &[ArrayRef], rows: usize) -> Result<(), EngineError> {
        let pane = self.panes.entry(key).or_default();
        let before = pane.bytes();
        pane.update(&self.grouping, columns, rows, &mut self.ids)?;
        self.bytes = (self.bytes + pane.bytes()).saturating_sub(before);
        Ok(())
    }

    /// Puts the panes behind what a state holds.
    ///
    /// # Errors
    /// As [`Windows::update`].
    pub(super) fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        let keys: Vec<(i64, i64)> = self.panes.keys().map(|key| (key.start, key.from)).collect();
        state.put(&(self.open_from, keys))?;
        for pane in self.panes.values_mut() {
            let before = pane.bytes();
            pane.save(state)?;
            self.bytes = (self.bytes + pane.bytes()).saturating_sub(before);
        }
        Ok(())
    }

    /// Takes panes from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        let keys: Vec<(i64, i64)>;
        (self.open_from, keys) = state.take()?;
        for (start, from) in keys {
            let pane = Pane::restored(&self.grouping, state)?;
            self.bytes += pane.bytes();
            self.panes.insert(PaneKey { start, from }, pane);
        }
        Ok(())
    }

    /// Start of the earliest window with rows that is still to be told.
    pub(super) fn next_start(&self) -> Option<i64> {
        let mut least: Option<i64> = None;
        for key in self.panes.keys() {
            let possible = self.grid.windows(key.start).first.max(self.open_from);
            if least.is_some_and(|least| least <= possible) {
                break;
            }
            let first = possible.max(key.from);
            least = Some(least.map_or(first, |least| least.min(first)));
        }
        least
    }

    /// Evaluates the window that [`Windows::next_start`] gave, and forgets what no other window needs.
    ///
    /// # Errors
    /// As [`Windows::update`].
    pub(super) fn close(&mut self, start: i64) -> Result<Results, EngineError> {
        let own = PaneKey { start, from: i64::MIN };
        let direct = match self.panes.get_mut(&own).filter(|_| self.grid.is_tumbling()) {
            Some(pane) => pane.take_unsealed(&self.grouping, &mut self.ids)?,
            None => None,
        };
        let results = match direct {
            Some(groups) => groups.results()?,
            None => {
                for key in self.panes_of(start) {
                    self.seal(key)?;
                }
                self.results(start)?
            }
        };
        self.skip_to(self.grid.next(start));
        Ok(results)
    }

    /// No window that starts before `start` will be told any more: its rows are forgotten.
    pub(super) fn skip_to(&mut self, start: i64) {
        self.open_from = self.open_from.max(start);
        while let Some(first) = self.panes.first_entry() {
            if self.grid.windows(first.key().start).last >= self.open_from {
                break;
            }
            self.bytes = self.bytes.saturating_sub(first.remove().bytes());
        }
        if self.panes.is_empty() {
            self.bytes = 0;
        }
    }

    /// For each open window in order of its end, the results of those groups that changed since the last call.
    ///
    /// # Errors
    /// As [`Windows::update`].
    pub(super) fn changes(&mut self) -> Result<Vec<Told>, EngineError> {
        let changed: Vec<PaneKey> =
            self.panes.iter().filter(|(_, pane)| pane.is_changed()).map(|(key, _)| *key).collect();
        for key in &changed {
            self.seal(*key)?;
        }
        let mut told = Vec::new();
        for run in self.runs(&changed) {
            self.tell(&run, &mut told)?;
        }
        for key in changed {
            let pane = self.panes.get_mut(&key).expect("it was listed");
            let before = pane.bytes();
            pane.mark_told(&self.grouping, &mut self.ids)?;
            self.bytes = (self.bytes + pane.bytes()).saturating_sub(before);
        }
        Ok(told)
    }

    /// The open windows that count panes that have changed, those together that count the same ones.
    fn runs(&self, changed: &[PaneKey]) -> Vec<Run> {
        let starts: BTreeSet<i64> = changed.iter().flat_map(|key| self.starts_of(*key)).collect();
        // Where some rows begin to count, windows before and after do not share what lies between.
        let edges: BTreeSet<i64> = self.panes.keys().map(|key| key.from).filter(|from| *from != i64::MIN).collect();
        let mut runs: Vec<Run> = Vec::new();
        for start in starts {
            let (from, until) = (self.grid.start(start), self.grid.end(start));
            let counts = |key: &&PaneKey| (from..until).contains(&key.start) && key.from <= start;
            let changed: Vec<PaneKey> = changed.iter().filter(counts).copied().collect();
            match runs.last_mut() {
                Some(run) if run.changed == changed && !run.ends_before(start, &edges) => run.starts.push(start),
                _ => runs.push(Run { starts: vec![start], changed }),
            }
        }
        runs
    }

    /// Evaluates the groups of a run's windows that have changed. What all of its windows count is merged once, and what
    /// lies before and behind that is merged step by step: that costs its panes and its windows, not one by the other.
    fn tell(&mut self, run: &Run, told: &mut Vec<Told>) -> Result<(), EngineError> {
        let (first, last) = (run.starts[0], run.starts[run.starts.len() - 1]);
        let fresh: Vec<Sealed> = run.changed.iter().flat_map(|key| self.panes[key].fresh()).cloned().collect();
        let (wanted, len) = self.grouping.keys_of(&fresh, &mut self.ids)?;
        let mut parts: Vec<(i64, Sealed)> = Vec::new();
        let ends = [self.grid.start(first), self.grid.end(last)].map(|start| PaneKey { start, from: i64::MIN });
        for (key, pane) in self.panes.range_mut(ends[0]..ends[1]).filter(|(key, _)| key.from <= first) {
            let before = pane.bytes();
            parts.extend(pane.parts_of(&self.grouping, &wanted, len)?.into_iter().map(|part| (key.start, part)));
            self.bytes = (self.bytes + pane.bytes()).saturating_sub(before);
        }
        let (grid, grouping, ids) = (&self.grid, &self.grouping, &mut self.ids);
        let core = merged(grouping, between(&parts, grid.start(last), grid.end(first)).collect(), ids)?;
        let mut tails = vec![Sealed::none()];
        for pair in run.starts.windows(2).rev() {
            let mut of: Vec<&Sealed> = between(&parts, grid.start(pair[0]), grid.start(pair[1])).collect();
            of.extend(tails.last());
            let tail = merged(grouping, of, ids)?;
            tails.push(tail);
        }
        let (mut head, mut reached) = (Sealed::none(), grid.end(first));
        for (start, tail) in run.starts.iter().zip(tails.iter().rev()) {
            let mut of = vec![&head];
            of.extend(between(&parts, reached, grid.end(*start)));
            head = merged(grouping, of, ids)?;
            reached = grid.end(*start);
            told.push((*start, grouping.merge([tail, &core, &head], ids)?.results()?));
        }
        Ok(())
    }

    /// All results of all open windows as they stand, in order of their ends.
    ///
    /// # Errors
    /// As [`Windows::update`].
    pub(super) fn snapshot(&mut self) -> Result<Vec<Told>, EngineError> {
        let keys: Vec<PaneKey> = self.panes.keys().copied().collect();
        let mut starts = BTreeSet::new();
        for key in keys {
            self.seal(key)?;
            starts.extend(self.starts_of(key));
        }
        starts.into_iter().map(|start| Ok((start, self.results(start)?))).collect()
    }

    /// Starts of the open windows that count the rows of a pane.
    fn starts_of(&self, key: PaneKey) -> impl Iterator<Item = i64> + use<> {
        let windows = self.grid.windows(key.start);
        let first = windows.first.max(self.open_from).max(key.from);
        let slide = self.grid.slide();
        std::iter::successors(Some(first), move |start| start.checked_add(slide))
            .take_while(move |s| *s <= windows.last)
    }

    /// The panes whose rows a window counts.
    fn panes_of(&self, start: i64) -> Vec<PaneKey> {
        let end = PaneKey { start: self.grid.end(start), from: i64::MIN };
        let from = PaneKey { start: self.grid.start(start), from: i64::MIN };
        let within = self.panes.range(from..end);
        within.map(|(key, _)| *key).filter(|key| key.from <= start).collect()
    }

    fn seal(&mut self, key: PaneKey) -> Result<(), EngineError> {
        let pane = self.panes.get_mut(&key).expect("it was listed");
        let before = pane.bytes();
        pane.seal(&self.grouping, &mut self.ids)?;
        self.bytes = (self.bytes + pane.bytes()).saturating_sub(before);
        Ok(())
    }

    /// All results of a window whose panes are sealed.
    fn results(&mut self, start: i64) -> Result<Results, EngineError> {
        let mut parts = Vec::new();
        for key in self.panes_of(start) {
            parts.append(&mut self.panes[&key].parts()?);
        }
        self.grouping.merge(&parts, &mut self.ids)?.results()
    }
}

impl Run {
    /// Whether one of the `edges` lies between its last window and the one from `start` on.
    fn ends_before(&self, start: i64, edges: &BTreeSet<i64>) -> bool {
        let last = self.starts.last().copied().unwrap_or(i64::MIN);
        edges.range(last.saturating_add(1)..=start).next().is_some()
    }
}

/// Parts as one.
fn merged(grouping: &Grouping, mut parts: Vec<&Sealed>, ids: &mut Vec<usize>) -> Result<Sealed, EngineError> {
    parts.retain(|part| part.len > 0);
    match parts.as_slice() {
        [] => Ok(Sealed::none()),
        [only] => Ok(Sealed::clone(only)),
        several => grouping.merge(several.iter().copied(), ids)?.seal(),
    }
}

/// Of parts in order of their panes' starts those whose panes start between two moments.
fn between(parts: &[(i64, Sealed)], from: i64, until: i64) -> impl Iterator<Item = &Sealed> {
    let place = |moment: i64| parts.partition_point(|(start, _)| *start < moment);
    parts[place(from)..place(until).max(place(from))].iter().map(|(_, part)| part)
}
