//! The open windows of an aggregate, as panes.

mod lend;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::ArrayRef;

use super::crew::{Crew, Part};
use super::grid::Grid;
use super::grouping::{Grouping, Groups, Results, Sealed};
use super::pane::{Pane, PaneKey};
use super::shards::{Dealer, Dealt, Hand};
use super::slices::{MIN_PANES, Slices, Wanted};
use super::state::State;
use super::yard::{Promise, Yard};
use crate::error::EngineError;

/// Groups below which results are not worth a helper's coming.
const SHARED_GROUPS: usize = 1_024;

/// Panes that are begun dealt out after others were: joining the groups of one that was not costs as much as gathering
/// them.
const DEALT_PANES: u32 = 16;

/// Panes with rows, and which of the windows over them are still to be told.
pub(super) struct Windows {
    grid: Grid,
    grouping: Arc<Grouping>,
    /// Who helps with panes whose groups are dealt out, and how they are; `None`: nobody.
    crew: Option<(Arc<Crew>, Arc<Dealer>)>,
    /// Where panes are lent to; `None`: nowhere.
    yard: Option<Yard>,
    /// The most groups that a pane had when it was closed.
    most_groups: usize,
    /// Panes to come that are dealt out from their first row, since others were lately.
    deals: u32,
    panes: BTreeMap<PaneKey, Pane>,
    slices: Slices,
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
        grouping.keep_spares();
        let (grouping, panes, slices) = (Arc::new(grouping), BTreeMap::new(), Slices::default());
        let (crew, yard, most_groups, deals, bytes, ids) = (None, None, 0, 0, 0, Vec::new());
        Self { grid, grouping, crew, yard, most_groups, deals, panes, slices, open_from, bytes, ids }
    }

    /// Who helps from now on.
    pub(super) fn set_crew(&mut self, crew: Option<(Arc<Crew>, Arc<Dealer>)>) {
        self.crew = crew;
    }

    /// How rows are grouped.
    pub(super) fn grouping(&self) -> &Arc<Grouping> {
        &self.grouping
    }

    /// How many keys there are.
    pub(super) fn keys(&self) -> usize {
        self.grouping.keys()
    }

    /// The most groups that a pane has had.
    pub(super) fn most_groups(&self) -> usize {
        self.panes.values().map(Pane::len).fold(self.most_groups, usize::max)
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
        self.bytes + self.slices.bytes() + self.yard.as_ref().map_or(0, Yard::bytes) + self.grouping.spare_bytes()
    }

    /// Takes rows into a pane.
    ///
    /// # Errors
    /// [`EngineError::Aggregate`] when an aggregate cannot go on.
    pub(super) fn update(&mut self, key: PaneKey, columns: &[ArrayRef], rows: usize) -> Result<(), EngineError> {
        self.slices.changed(key);
        let pane = self.panes.entry(key).or_default();
        let before = pane.bytes();
        match &self.crew {
            Some((_, dealer)) if pane.is_dealt() || self.deals > 0 && pane.len() == 0 => {
                self.deals -= u32::from(!pane.is_dealt());
                pane.update_shards(&self.grouping, dealer, &dealer.deal(columns, rows)?, &mut self.ids)?;
            }
            _ => pane.update(&self.grouping, columns, rows, &mut self.ids)?,
        }
        self.bytes = (self.bytes + pane.bytes()).saturating_sub(before);
        Ok(())
    }

    /// Takes rows that were dealt out into their panes, each shard of the groups by itself.
    ///
    /// # Errors
    /// As [`Windows::update`].
    pub(super) fn update_all(&mut self, dealt: Vec<Dealt>) -> Result<(), EngineError> {
        let Some((crew, dealer)) = self.crew.clone() else { return Ok(()) };
        self.deals = DEALT_PANES;
        let keys: Vec<PaneKey> = dealt.iter().map(|dealt| dealt.key).collect::<BTreeSet<_>>().into_iter().collect();
        let mut groups: Vec<Vec<Groups>> = (0..dealer.shards).map(|_| Vec::new()).collect();
        for key in &keys {
            self.slices.changed(*key);
            let pane = self.panes.entry(*key).or_default();
            let before = pane.bytes();
            let shards = pane.take_shards(&self.grouping, &dealer, &mut self.ids)?;
            self.bytes = (self.bytes + pane.bytes()).saturating_sub(before);
            groups.iter_mut().zip(shards).for_each(|(own, shard)| own.push(shard));
        }
        let mut hands: Vec<Vec<(usize, Hand)>> = (0..dealer.shards).map(|_| Vec::new()).collect();
        for dealt in dealt {
            let pane = keys.partition_point(|key| *key < dealt.key);
            hands.iter_mut().zip(dealt.hands).for_each(|(own, hand)| own.push((pane, hand)));
        }
        let parts = groups.into_iter().zip(hands).map(|(groups, hands)| {
            let grouping = Arc::clone(&self.grouping);
            let part: Part<Result<Vec<(Groups, usize)>, EngineError>> = Box::new(|| gather(grouping, groups, hands));
            part
        });
        let shards = crew.all(parts.collect()).into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut shards: Vec<_> = shards.into_iter().map(Vec::into_iter).collect();
        for key in keys {
            let (groups, bytes): (Vec<Groups>, Vec<usize>) = shards.iter_mut().filter_map(Iterator::next).unzip();
            let pane = self.panes.entry(key).or_default();
            let before = pane.bytes();
            pane.give_shards(groups, bytes.into_iter().sum());
            self.bytes = (self.bytes + pane.bytes()).saturating_sub(before);
        }
        Ok(())
    }

    /// Does parts of some work on so many groups, by helpers if it is worth it.
    fn all<T: Send + 'static>(&self, parts: Vec<Part<T>>, groups: usize) -> Vec<T> {
        match &self.crew {
            Some((crew, _)) if groups >= SHARED_GROUPS => crew.all(parts),
            _ => parts.into_iter().map(|part| part()).collect(),
        }
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
            pane.join_shards(&self.grouping, &mut self.ids)?;
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

    /// Evaluates the window that [`Windows::next_start`] gave, at once or where its panes are lent, and forgets what no
    /// other window needs. Its results may come in several parts.
    ///
    /// # Errors
    /// As [`Windows::update`].
    pub(super) fn close(&mut self, start: i64) -> Result<Promise, EngineError> {
        let promise = match self.close_lent(start) {
            Some(promise) => promise,
            None => Promise::kept(self.evaluate(start)?),
        };
        self.skip_to(self.grid.next(start));
        Ok(promise)
    }

    fn evaluate(&mut self, start: i64) -> Result<Vec<Results>, EngineError> {
        let own = PaneKey { start, from: i64::MIN };
        let direct = match self.panes.get_mut(&own).filter(|_| self.grid.is_tumbling()) {
            Some(pane) => pane.take_unsealed(&self.grouping, &mut self.ids)?,
            None => None,
        };
        let results = match direct {
            Some(groups) => {
                let len = groups.iter().map(Groups::len).sum();
                self.most_groups = self.most_groups.max(len);
                let parts = groups.into_iter().map(|groups| -> Part<_> { Box::new(move || groups.results()) });
                self.all(parts.collect(), len).into_iter().collect::<Result<_, _>>()?
            }
            None => {
                for key in self.panes_of(start) {
                    self.seal(key)?;
                }
                if self.grid.panes() < MIN_PANES { self.results(start)? } else { self.shared_results(start)? }
            }
        };
        Ok(results)
    }

    /// No window that starts before `start` will be told any more: its rows are forgotten.
    pub(super) fn skip_to(&mut self, start: i64) {
        self.open_from = self.open_from.max(start);
        while let Some(first) = self.panes.first_entry() {
            if self.grid.windows(first.key().start).last >= self.open_from {
                break;
            }
            if let Some(yard) = &mut self.yard {
                yard.forget(*first.key());
            }
            self.bytes = self.bytes.saturating_sub(first.remove().bytes());
        }
        if self.panes.is_empty() {
            (self.bytes, self.slices) = (0, Slices::default());
            self.grouping.clear_spares();
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
        let mut told = Vec::new();
        for start in starts {
            told.extend(self.results(start)?.into_iter().map(|results| (start, results)));
        }
        Ok(told)
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
    fn results(&mut self, start: i64) -> Result<Vec<Results>, EngineError> {
        let mut parts = Vec::new();
        for key in self.panes_of(start) {
            parts.append(&mut self.panes[&key].parts()?);
        }
        self.results_of(&parts)
    }

    fn results_of(&mut self, parts: &[Sealed]) -> Result<Vec<Results>, EngineError> {
        self.most_groups = parts.iter().map(|part| part.len).fold(self.most_groups, usize::max);
        let Some(shards) = by_shard(parts) else {
            return Ok(vec![self.grouping.merge(parts, &mut self.ids)?.results()?]);
        };
        let len = parts.iter().map(|part| part.len).sum();
        let parts = shards.into_iter().map(|shard| {
            let grouping = Arc::clone(&self.grouping);
            let part: Part<_> = Box::new(move || grouping.merge(&shard, &mut Vec::new())?.results());
            part
        });
        self.all(parts.collect(), len).into_iter().collect()
    }

    /// The same, of windows that are told in order: what they have in common is merged once.
    fn shared_results(&mut self, start: i64) -> Result<Vec<Results>, EngineError> {
        let times = self.grid.start(start)..self.grid.end(start);
        let wanted = Wanted { start, boundary: self.grid.boundary(times.start), times };
        let parts = self.slices.parts(&self.panes, &wanted, &self.grouping, &mut self.ids)?;
        self.results_of(&parts)
    }
}

impl Run {
    /// Whether one of the `edges` lies between its last window and the one from `start` on.
    fn ends_before(&self, start: i64, edges: &BTreeSet<i64>) -> bool {
        let last = self.starts.last().copied().unwrap_or(i64::MIN);
        edges.range(last.saturating_add(1)..=start).next().is_some()
    }
}

/// Takes rows into the groups of one shard, by the numbers of their panes; what they then hold in bytes.
fn gather(
    grouping: Arc<Grouping>,
    mut groups: Vec<Groups>,
    hands: Vec<(usize, Hand)>,
) -> Result<Vec<(Groups, usize)>, EngineError> {
    let mut ids = Vec::new();
    for (pane, hand) in hands {
        groups[pane].update(&grouping, &hand.columns, hand.rows, &mut ids)?;
    }
    Ok(groups
        .into_iter()
        .map(|groups| {
            let bytes = groups.bytes();
            (groups, bytes)
        })
        .collect())
}

/// The parts of each shard; `None`: some are of no shard, or of other ones.
pub(super) fn by_shard(parts: &[Sealed]) -> Option<Vec<Vec<Sealed>>> {
    let mut shards: Vec<Vec<Sealed>> = Vec::new();
    for part in parts {
        let (shard, of) = part.shard?;
        if !shards.is_empty() && shards.len() != of {
            return None;
        }
        shards.resize_with(of, Vec::new);
        shards[shard].push(part.clone());
    }
    shards.retain(|shard| !shard.is_empty());
    (!shards.is_empty()).then_some(shards)
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
