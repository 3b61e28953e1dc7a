//! What one pane has gathered.

use arrow::array::{Array, ArrayRef};

use super::grouping::{Grouping, Groups, Sealed};
use super::keyed_states::KeyedStates;
use super::shards::{Dealer, Hand};
use super::state::State;
use crate::error::EngineError;

/// Bytes of rows after which a pane is measured anew: what may go unnoticed of a budget, per pane.
const UNMEASURED_BYTES: usize = 1 << 20;
/// A pane is measured anew too when it took in a quarter as many rows as it has groups: measuring costs the groups.
const UNMEASURED_GROUPS: usize = 4;
/// Sealed parts after which they are merged into one, so that a pane told often stays as small as its groups.
const MAX_PARTS: usize = 8;

/// Name of a pane. Ordered by start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PaneKey {
    /// Start of the pane.
    pub(super) start: i64,
    /// Windows that start earlier do not count these rows, which were late for them; `i64::MIN`: all windows do.
    pub(super) from: i64,
}

/// Groups of the rows of one pane: those that still take rows, and those that have been sealed.
#[derive(Default)]
pub(super) struct Pane {
    live: Option<Groups>,
    /// The same, dealt out by their keys, instead; empty: they are not.
    shards: Vec<Groups>,
    /// What they held when the pane was saved, until the next rows come: then they take it back as if nothing had been.
    /// Without `live`: what others held, which was restored.
    frozen: Option<Sealed>,
    /// Sealed since the last running results.
    fresh: Vec<Sealed>,
    /// Sealed before, and told: by key, so that telling again costs what has changed.
    told: Option<Box<KeyedStates>>,
    live_bytes: usize,
    sealed_bytes: usize,
    unmeasured_rows: usize,
    unmeasured_bytes: usize,
}

impl Pane {
    /// Takes in `rows` rows.
    ///
    /// # Errors
    /// [`EngineError::Aggregate`] when an aggregate cannot go on.
    pub(super) fn update(
        &mut self,
        grouping: &Grouping,
        columns: &[ArrayRef],
        rows: usize,
        ids: &mut Vec<usize>,
    ) -> Result<(), EngineError> {
        self.thaw(grouping, ids)?;
        let live = match &mut self.live {
            Some(live) => live,
            None => self.live.insert(grouping.groups()?),
        };
        live.update(grouping, columns, rows, ids)?;
        self.measure(rows, columns.iter().map(|column| column.get_array_memory_size()).sum());
        Ok(())
    }

    /// Measures what takes rows, if enough rows have come since it was measured last.
    fn measure(&mut self, rows: usize, bytes: usize) {
        self.unmeasured_rows += rows;
        self.unmeasured_bytes += bytes;
        if self.unmeasured_bytes >= UNMEASURED_BYTES || self.unmeasured_rows * UNMEASURED_GROUPS >= self.len() {
            self.live_bytes = self.live.iter().chain(&self.shards).map(Groups::bytes).sum();
            (self.unmeasured_rows, self.unmeasured_bytes) = (0, 0);
        }
    }

    /// Takes in rows of each shard.
    ///
    /// # Errors
    /// As [`Pane::update`].
    pub(super) fn update_shards(
        &mut self,
        grouping: &Grouping,
        dealer: &Dealer,
        hands: &[Hand],
        ids: &mut Vec<usize>,
    ) -> Result<(), EngineError> {
        let mut shards = self.take_shards(grouping, dealer, ids)?;
        for (groups, hand) in shards.iter_mut().zip(hands) {
            groups.update(grouping, &hand.columns, hand.rows, ids)?;
        }
        self.shards = shards;
        let columns = hands.iter().flat_map(|hand| &hand.columns);
        self.measure(
            hands.iter().map(|hand| hand.rows).sum(),
            columns.map(|column| column.get_array_memory_size()).sum(),
        );
        Ok(())
    }

    /// Takes the groups of each shard out, which are to be given back before anything else. Those that were not dealt out
    /// so far are now.
    ///
    /// # Errors
    /// As [`Pane::update`].
    pub(super) fn take_shards(
        &mut self,
        grouping: &Grouping,
        dealer: &Dealer,
        ids: &mut Vec<usize>,
    ) -> Result<Vec<Groups>, EngineError> {
        if !self.shards.is_empty() {
            return Ok(std::mem::take(&mut self.shards));
        }
        self.thaw(grouping, ids)?;
        let Some(live) = self.live.take() else {
            return (0..dealer.shards).map(|_| grouping.groups()).collect();
        };
        let sealed = live.seal()?;
        let shards = dealer.pick(&sealed.keys, sealed.len)?;
        shards.iter().map(|rows| grouping.merge([&sealed.pick(rows)?], ids)).collect()
    }

    /// Gives back what was taken out, which now holds so many bytes.
    pub(super) fn give_shards(&mut self, shards: Vec<Groups>, bytes: usize) {
        self.shards = shards;
        self.live_bytes = bytes;
    }

    /// True when its groups are dealt out.
    pub(super) fn is_dealt(&self) -> bool {
        !self.shards.is_empty()
    }

    /// Puts the groups that are dealt out together again.
    ///
    /// # Errors
    /// As [`Pane::update`].
    pub(super) fn join_shards(&mut self, grouping: &Grouping, ids: &mut Vec<usize>) -> Result<(), EngineError> {
        if self.shards.is_empty() {
            return Ok(());
        }
        let shards: Vec<Sealed> = self.shards.drain(..).map(Groups::seal).collect::<Result<_, _>>()?;
        let live = grouping.merge(&shards, ids)?;
        self.live_bytes = live.bytes();
        self.live = Some(live);
        Ok(())
    }

    /// Turns what takes rows into columns that can be merged.
    ///
    /// # Errors
    /// As [`Pane::update`].
    pub(super) fn seal(&mut self, grouping: &Grouping, ids: &mut Vec<usize>) -> Result<(), EngineError> {
        let sealed = match (self.frozen.take(), self.live.take()) {
            (Some(frozen), _) => Some(frozen),
            (None, Some(live)) => Some(live.seal()?),
            (None, None) => None,
        };
        let before = self.fresh.len();
        self.fresh.extend(sealed);
        let shards = self.shards.len();
        for (shard, groups) in self.shards.drain(..).enumerate().filter(|(_, groups)| groups.len() > 0) {
            self.fresh.push(Sealed { shard: Some((shard, shards)), ..groups.seal()? });
        }
        if self.fresh.len() > before {
            self.live_bytes = 0;
            compact(&mut self.fresh, MAX_PARTS * shards.max(1), grouping, ids)?;
            self.measure_sealed();
        }
        Ok(())
    }

    /// Puts what takes rows into columns, until the next ones come.
    fn freeze(&mut self) -> Result<(), EngineError> {
        if let Some(live) = self.live.as_mut().filter(|_| self.frozen.is_none()) {
            let frozen = live.pour_out()?;
            self.live_bytes = live.bytes() + frozen.state_bytes();
            self.frozen = Some(frozen);
        }
        Ok(())
    }

    fn thaw(&mut self, grouping: &Grouping, ids: &mut Vec<usize>) -> Result<(), EngineError> {
        let Some(frozen) = self.frozen.take() else { return Ok(()) };
        let live = match &mut self.live {
            Some(live) => {
                live.refill(grouping, &frozen, ids)?;
                live
            }
            None => self.live.insert(grouping.merge([&frozen], ids)?),
        };
        self.live_bytes = live.bytes();
        Ok(())
    }

    /// Puts the groups behind what a state holds.
    ///
    /// # Errors
    /// As [`Pane::update`].
    pub(super) fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.freeze()?;
        let parts = self.parts()?;
        state.put(&(parts.len(), self.frozen.is_some()))?;
        parts.iter().chain(&self.frozen).try_for_each(|part| part.save(state))
    }

    /// Takes a pane from the front of a state. Nothing of it counts as told.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restored(grouping: &Grouping, state: &mut State) -> Result<Self, EngineError> {
        let (parts, is_open): (usize, bool) = state.take()?;
        let fresh = (0..parts).map(|_| grouping.take_sealed(state)).collect::<Result<_, _>>()?;
        let frozen = if is_open { Some(grouping.take_sealed(state)?) } else { None };
        let live_bytes = frozen.as_ref().map_or(0, Sealed::bytes);
        let mut pane = Self { fresh, frozen, live_bytes, ..Self::default() };
        pane.measure_sealed();
        Ok(pane)
    }

    /// The groups, in one or by shards, when nothing of them has been sealed.
    ///
    /// # Errors
    /// As [`Pane::update`].
    pub(super) fn take_unsealed(
        &mut self,
        grouping: &Grouping,
        ids: &mut Vec<usize>,
    ) -> Result<Option<Vec<Groups>>, EngineError> {
        if !self.fresh.is_empty() || self.told.is_some() {
            return Ok(None);
        }
        self.thaw(grouping, ids)?;
        let groups: Vec<Groups> = self.live.take().into_iter().chain(self.shards.drain(..)).collect();
        Ok((!groups.is_empty()).then_some(groups))
    }

    /// Groups that take rows.
    pub(super) fn len(&self) -> usize {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.len);
        self.live.as_ref().map_or(frozen, Groups::len) + self.shards.iter().map(Groups::len).sum::<usize>()
    }

    /// True when there is something that running results have not told.
    pub(super) fn is_changed(&self) -> bool {
        self.live.is_some() || self.is_dealt() || self.frozen.is_some() || !self.fresh.is_empty()
    }

    /// What was sealed since the last running results.
    pub(super) fn fresh(&self) -> &[Sealed] {
        &self.fresh
    }

    /// All that was sealed, in the order in which it came.
    ///
    /// # Errors
    /// As [`Pane::update`].
    pub(super) fn parts(&self) -> Result<Vec<Sealed>, EngineError> {
        let told = self.told.as_ref().map(|told| told.states()).transpose()?;
        Ok(told.into_iter().chain(self.fresh.iter().cloned()).collect())
    }

    /// The same of the `len` groups only that have these keys, among which all fresh ones are.
    ///
    /// # Errors
    /// As [`Pane::update`].
    pub(super) fn parts_of(
        &mut self,
        grouping: &Grouping,
        keys: &[ArrayRef],
        len: usize,
    ) -> Result<Vec<Sealed>, EngineError> {
        let told = self.told.as_mut().map(|told| told.states_with(grouping, keys, len)).transpose()?;
        self.measure_sealed();
        Ok(told.into_iter().chain(self.fresh.iter().cloned()).collect())
    }

    /// Takes all out, sealed.
    ///
    /// # Errors
    /// As [`Pane::update`].
    pub(super) fn take(&mut self, grouping: &Grouping, ids: &mut Vec<usize>) -> Result<Vec<Sealed>, EngineError> {
        self.seal(grouping, ids)?;
        let all = self.parts()?;
        *self = Self::default();
        Ok(all)
    }

    /// Running results have told all that is sealed.
    ///
    /// # Errors
    /// As [`Pane::update`].
    pub(super) fn mark_told(&mut self, grouping: &Grouping, ids: &mut Vec<usize>) -> Result<(), EngineError> {
        let told = match &mut self.told {
            Some(told) => told,
            None => self.told.insert(Box::new(KeyedStates::new(grouping)?)),
        };
        let fresh = grouping.merge(&self.fresh, ids)?.seal()?;
        self.fresh.clear();
        told.merge(grouping, fresh, &[], false)?;
        self.measure_sealed();
        Ok(())
    }

    fn measure_sealed(&mut self) {
        let told = self.told.as_ref().map_or(0, |told| told.bytes());
        self.sealed_bytes = told + self.fresh.iter().map(Sealed::bytes).sum::<usize>();
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.live_bytes + self.sealed_bytes + size_of::<Self>()
    }
}

/// Merges parts when there are too many.
fn compact(
    parts: &mut Vec<Sealed>,
    max_parts: usize,
    grouping: &Grouping,
    ids: &mut Vec<usize>,
) -> Result<(), EngineError> {
    if parts.len() > max_parts {
        *parts = vec![grouping.merge(parts.iter(), ids)?.seal()?];
    }
    Ok(())
}
