//! Groups of open sessions while running results are read: by session and keys, so that telling some of them costs
//! those.

use arrow::array::BooleanArray;

use super::grouping::{Grouping, Results, Sealed};
use super::keyed_states::KeyedStates;
use super::session_groups::{of_roots, sessions};
use super::session_table::SessionTable;
use crate::error::EngineError;

/// No group.
const NONE: u32 = u32::MAX;
/// Sealed parts that were not told after which they are merged into one.
const MAX_PARTS: usize = 8;
/// Groups that have gone, beyond as many as there are, after which those that are left are numbered anew.
const GONE_GROUPS: usize = 1024;

/// What running results have told of, by session and keys, and what has come since.
pub(super) struct Kept {
    told: KeyedStates,
    /// For each slot the last group that was told under it.
    last: Vec<u32>,
    /// For each group the one before it of the same slot.
    before: Vec<u32>,
    gone: usize,
    fresh: Vec<Sealed>,
    fresh_bytes: usize,
}

impl Kept {
    /// Nothing was told yet.
    ///
    /// # Errors
    /// [`EngineError::Aggregate`] when the keys cannot be grouped by.
    pub(super) fn new(grouping: &Grouping) -> Result<Self, EngineError> {
        let told = KeyedStates::new(grouping)?;
        Ok(Self { told, last: Vec::new(), before: Vec::new(), gone: 0, fresh: Vec::new(), fresh_bytes: 0 })
    }

    /// Takes in what has come.
    ///
    /// # Errors
    /// As [`Grouping::merge`].
    pub(super) fn add(
        &mut self,
        parts: Vec<Sealed>,
        grouping: &Grouping,
        table: &SessionTable,
        ids: &mut Vec<usize>,
    ) -> Result<(), EngineError> {
        self.fresh.extend(parts.into_iter().filter(|part| part.len > 0));
        if self.fresh.len() > MAX_PARTS {
            let all: Vec<Sealed> =
                std::mem::take(&mut self.fresh).into_iter().map(|part| of_roots(part, table)).collect();
            self.fresh = vec![grouping.merge(&all, ids)?.seal()?];
        }
        self.measure();
        Ok(())
    }

    /// What was told of sessions whose bounds are others now, by the slot that it was told under.
    ///
    /// # Errors
    /// As [`Grouping::merge`].
    pub(super) fn moved(
        &self,
        grouping: &Grouping,
        table: &SessionTable,
        sessions: &[u32],
        ids: &mut Vec<usize>,
    ) -> Result<Results, EngineError> {
        let mut groups = Vec::new();
        for session in sessions {
            let bounds = table.bounds(*session);
            let moved = |slot: &u32| table.told(*slot).is_some_and(|told| told != bounds);
            table.slots(*session).filter(moved).for_each(|slot| groups.extend(self.groups(slot)));
        }
        if groups.is_empty() {
            return Ok(Results { columns: Vec::new(), len: 0 });
        }
        grouping.merge([&self.told.pick(&groups)?], ids)?.results()
    }

    /// What sessions, all that have changed, have come to; it counts as told from now on.
    ///
    /// # Errors
    /// As [`Grouping::merge`].
    pub(super) fn tell(
        &mut self,
        grouping: &Grouping,
        table: &SessionTable,
        sessions: &[u32],
        ids: &mut Vec<usize>,
    ) -> Result<Results, EngineError> {
        let mut parts = vec![of_roots(self.take(grouping, table, sessions)?, table)];
        parts.extend(std::mem::take(&mut self.fresh).into_iter().map(|part| of_roots(part, table)));
        self.measure();
        if parts.iter().all(|part| part.len == 0) {
            return Ok(Results { columns: Vec::new(), len: 0 });
        }
        let now = grouping.merge(&parts, ids)?.seal()?;
        let results = grouping.merge([&now], ids)?.results()?;
        self.put(now)?;
        Ok(results)
    }

    /// Takes out the groups of sessions that have ended.
    ///
    /// # Errors
    /// As [`Grouping::merge`].
    pub(super) fn close(
        &mut self,
        grouping: &Grouping,
        table: &SessionTable,
        sessions: &[u32],
        closed: i64,
    ) -> Result<Vec<Sealed>, EngineError> {
        let mut ended = vec![of_roots(self.take(grouping, table, sessions)?, table)];
        for part in std::mem::take(&mut self.fresh) {
            let part = of_roots(part, table);
            let ends = self::sessions(&part).iter().map(|session| table.bounds(*session).1 <= closed);
            let closes: BooleanArray = ends.map(Some).collect();
            match closes.true_count() {
                0 => self.fresh.push(part),
                all if all == part.len => ended.push(part),
                _ => {
                    ended.push(part.filter(&closes)?);
                    self.fresh.push(part.filter(&arrow::compute::not(&closes)?)?);
                }
            }
        }
        self.measure();
        Ok(ended)
    }

    /// All groups, by their sessions.
    ///
    /// # Errors
    /// As [`Grouping::merge`].
    pub(super) fn all(&self, table: &SessionTable) -> Result<Vec<Sealed>, EngineError> {
        let told = self.told.states()?;
        Ok(std::iter::once(told).chain(self.fresh.iter().cloned()).map(|part| of_roots(part, table)).collect())
    }

    /// Takes out what was told under the slots of sessions.
    fn take(&mut self, grouping: &Grouping, table: &SessionTable, sessions: &[u32]) -> Result<Sealed, EngineError> {
        let mut groups = Vec::new();
        for slot in sessions.iter().flat_map(|session| table.slots(*session)) {
            groups.extend(self.groups(slot));
            if let Some(last) = self.last.get_mut(slot as usize) {
                *last = NONE;
            }
        }
        if groups.is_empty() {
            return Ok(Sealed::none());
        }
        let taken = self.told.pick(&groups)?;
        self.told.clear(&groups);
        self.gone += groups.len();
        if self.gone > self.told.len() / 2 + GONE_GROUPS {
            let left = self.told.states()?;
            (self.told, self.gone) = (KeyedStates::new(grouping)?, 0);
            self.last.clear();
            self.before.clear();
            if left.len > 0 {
                self.put(left)?;
            }
        }
        Ok(taken)
    }

    fn put(&mut self, states: Sealed) -> Result<(), EngineError> {
        let slots: Vec<u32> = sessions(&states).to_vec();
        let known = self.told.len();
        let groups = self.told.put(states)?;
        self.before.resize(self.told.len(), NONE);
        // A group that comes again was among the gone ones.
        self.gone = self.gone.saturating_sub(groups.iter().filter(|group| **group < known).count());
        for (slot, group) in slots.iter().zip(groups) {
            let at = *slot as usize;
            if at >= self.last.len() {
                self.last.resize(at + 1, NONE);
            }
            self.before[group] = self.last[at];
            self.last[at] = u32::try_from(group).map_err(|_| EngineError::Plan("there are 2^32 groups".into()))?;
        }
        Ok(())
    }

    /// The groups that were told under a slot.
    fn groups(&self, slot: u32) -> impl Iterator<Item = usize> {
        let first = self.last.get(slot as usize).copied().filter(|group| *group != NONE);
        let before = |group: &u32| Some(self.before[*group as usize]).filter(|group| *group != NONE);
        std::iter::successors(first, before).map(|group| group as usize)
    }

    fn measure(&mut self) {
        self.fresh_bytes = self.fresh.iter().map(Sealed::bytes).sum();
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.told.bytes() + (self.last.len() + self.before.len()) * size_of::<u32>() + self.fresh_bytes
    }
}
