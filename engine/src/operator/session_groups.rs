//! What the rows of open sessions have gathered: groups by session and keys, in sealed parts by when they may end.
//!
//! Rows go to one set of groups for all sessions. When sessions are to be told it is sealed, and its groups are dealt
//! out to buckets by the ends of their sessions. A session that goes on leaves its groups where they are; they move to
//! a later bucket only once the watermark reaches theirs. So telling some sessions costs what ends about now, not all
//! that is open. While running results are read groups are [`Kept`] by session instead.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::datatypes::UInt32Type;

use super::grouping::{Grouping, Results, Sealed};
use super::pane::Pane;
use super::session_kept::Kept;
use super::session_table::SessionTable;
use super::state::State;
use crate::error::EngineError;

/// Buckets that a gap is parted into.
const BUCKETS_PER_GAP: i64 = 16;
/// Buckets behind the first that are told apart; all that ends later waits in the last of them.
const MAX_BUCKETS: i64 = 32;
/// Sealed parts of a bucket after which they are merged into one.
const MAX_PARTS: usize = 8;

/// Groups of open sessions.
pub(super) struct SessionGroups {
    grouping: Grouping,
    live: Pane,
    buckets: BTreeMap<i64, Vec<Sealed>>,
    sealed_bytes: usize,
    /// Running results are read.
    tracking: bool,
    /// In the place of buckets, from the first running results on.
    kept: Option<Box<Kept>>,
    /// Length of a bucket.
    width: i64,
    ids: Vec<usize>,
}

impl SessionGroups {
    /// No groups yet.
    pub(super) fn new(grouping: Grouping, gap: i64) -> Self {
        let width = (gap / BUCKETS_PER_GAP).max(1);
        Self {
            grouping,
            live: Pane::default(),
            buckets: BTreeMap::new(),
            sealed_bytes: 0,
            tracking: false,
            kept: None,
            width,
            ids: Vec::new(),
        }
    }

    /// Whether running results are read.
    pub(super) fn track(&mut self, on: bool) {
        self.tracking = on;
    }

    /// Puts the groups behind what a state holds.
    ///
    /// # Errors
    /// As [`SessionGroups::update`].
    pub(super) fn save(&mut self, table: &SessionTable, state: &mut State) -> Result<(), EngineError> {
        self.add_live(table)?;
        self.live.save(state)?;
        // Those that are kept by session are dealt out to buckets when the first one is looked for.
        let kept = self.kept.as_ref().map(|kept| kept.all(table)).transpose()?;
        let kept = kept.map(|parts| (i64::MIN, parts));
        let buckets = self.buckets.iter().map(|(number, parts)| (*number, parts));
        let all: Vec<(i64, &Vec<Sealed>)> =
            kept.iter().map(|(number, parts)| (*number, parts)).chain(buckets).collect();
        state.put(&all.iter().map(|(number, parts)| (*number, parts.len())).collect::<Vec<_>>())?;
        all.into_iter().flat_map(|(_, parts)| parts).try_for_each(|part| part.save(state))
    }

    /// Takes groups from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.live = Pane::restored(&self.grouping, state)?;
        let buckets: Vec<(i64, usize)> = state.take()?;
        for (number, parts) in buckets {
            let parts = (0..parts).map(|_| self.grouping.take_sealed(state)).collect::<Result<_, _>>()?;
            self.buckets.insert(number, parts);
        }
        self.sealed_bytes = self.buckets.values().flatten().map(Sealed::bytes).sum();
        Ok(())
    }

    /// Keeps groups as they are needed now.
    fn settle(&mut self, table: &SessionTable) -> Result<(), EngineError> {
        if self.tracking && self.kept.is_none() {
            let mut kept = Box::new(Kept::new(&self.grouping)?);
            let parts = std::mem::take(&mut self.buckets).into_values().flatten().collect();
            kept.add(parts, &self.grouping, table, &mut self.ids)?;
            (self.kept, self.sealed_bytes) = (Some(kept), 0);
        } else if !self.tracking
            && let Some(kept) = self.kept.take()
        {
            self.deal_all(kept.all(table)?, table)?;
        }
        Ok(())
    }

    /// Adds what has come to the groups that are kept by session, if they are.
    fn add_live(&mut self, table: &SessionTable) -> Result<(), EngineError> {
        self.settle(table)?;
        if let Some(kept) = &mut self.kept {
            let parts = self.live.take(&self.grouping, &mut self.ids)?;
            kept.add(parts, &self.grouping, table, &mut self.ids)?;
        }
        Ok(())
    }

    /// What running results have told of these sessions under other bounds than theirs now, by slot.
    ///
    /// # Errors
    /// As [`SessionGroups::update`].
    pub(super) fn moved(&mut self, table: &SessionTable, sessions: &[u32]) -> Result<Results, EngineError> {
        self.settle(table)?;
        match &self.kept {
            Some(kept) => kept.moved(&self.grouping, table, sessions, &mut self.ids),
            None => Ok(Results { columns: Vec::new(), len: 0 }),
        }
    }

    /// What these sessions, all that have changed since the last call, have come to.
    ///
    /// # Errors
    /// As [`SessionGroups::update`].
    pub(super) fn changes(&mut self, table: &SessionTable, sessions: &[u32]) -> Result<Results, EngineError> {
        self.add_live(table)?;
        match &mut self.kept {
            Some(kept) => kept.tell(&self.grouping, table, sessions, &mut self.ids),
            None => Ok(Results { columns: Vec::new(), len: 0 }),
        }
    }

    /// Takes rows in. `evaluated` holds `outer` columns that are no keys, the keys, and what aggregates need.
    ///
    /// # Errors
    /// [`EngineError::Aggregate`] when an aggregate cannot go on.
    pub(super) fn update(
        &mut self,
        sessions: UInt32Array,
        evaluated: &[ArrayRef],
        outer: usize,
    ) -> Result<(), EngineError> {
        let rows = sessions.len();
        let columns = self.grouping.columns_within(Arc::new(sessions), evaluated, outer);
        self.live.update(&self.grouping, &columns, rows, &mut self.ids)
    }

    /// Takes out the groups of `due`, the sessions that end at `closed` or before: the session of each, its keys and
    /// results.
    ///
    /// # Errors
    /// As [`SessionGroups::update`].
    pub(super) fn close(&mut self, table: &SessionTable, due: &[u32], closed: i64) -> Result<Results, EngineError> {
        self.add_live(table)?;
        if let Some(kept) = &mut self.kept {
            let ended = kept.close(&self.grouping, table, due, closed)?;
            return self.evaluate(&ended);
        }
        let mut parts = self.live.take(&self.grouping, &mut self.ids)?;
        let bound = self.bucket(closed);
        while let Some(first) = self.buckets.first_entry() {
            if *first.key() > bound {
                break;
            }
            parts.extend(first.remove());
        }
        let mut ended = Vec::new();
        for part in parts {
            let part = of_roots(part, table);
            let ends: Vec<i64> = sessions(&part).iter().map(|session| table.bounds(*session).1).collect();
            let closes: BooleanArray = ends.iter().map(|end| Some(*end <= closed)).collect();
            if closes.true_count() == part.len {
                ended.push(part);
                continue;
            }
            if closes.true_count() > 0 {
                ended.push(part.filter(&closes)?);
            }
            self.deal(&part, &ends, closed, bound)?;
        }
        self.compact(table)?;
        self.evaluate(&ended)
    }

    /// Puts the groups of a part that end behind `closed` into their buckets.
    fn deal(&mut self, part: &Sealed, ends: &[i64], closed: i64, bound: i64) -> Result<(), EngineError> {
        let bucket = |end: &i64| end.div_euclid(self.width).min(bound.saturating_add(MAX_BUCKETS));
        let mut wanted: Vec<i64> = ends.iter().filter(|end| **end > closed).map(bucket).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for number in wanted {
            let here: BooleanArray = ends.iter().map(|end| Some(*end > closed && bucket(end) == number)).collect();
            self.buckets.entry(number).or_default().push(part.filter(&here)?);
        }
        Ok(())
    }

    /// Merges parts where there are many, and measures what there is.
    fn compact(&mut self, table: &SessionTable) -> Result<(), EngineError> {
        for parts in self.buckets.values_mut().filter(|parts| parts.len() > MAX_PARTS) {
            let all: Vec<Sealed> = std::mem::take(parts).into_iter().map(|part| of_roots(part, table)).collect();
            *parts = vec![self.grouping.merge(&all, &mut self.ids)?.seal()?];
        }
        self.sealed_bytes = self.buckets.values().flatten().map(Sealed::bytes).sum();
        Ok(())
    }

    /// The results so far of all sessions.
    ///
    /// # Errors
    /// As [`SessionGroups::update`].
    pub(super) fn all(&mut self, table: &SessionTable) -> Result<Results, EngineError> {
        self.add_live(table)?;
        let parts = match &self.kept {
            Some(kept) => kept.all(table)?,
            None => {
                let parts = self.live.take(&self.grouping, &mut self.ids)?;
                self.deal_all(parts, table)?;
                self.buckets.values().flatten().map(|part| of_roots(part.clone(), table)).collect()
            }
        };
        self.evaluate(&parts)
    }

    /// Puts all groups of parts into buckets.
    fn deal_all(&mut self, parts: Vec<Sealed>, table: &SessionTable) -> Result<(), EngineError> {
        for part in parts {
            let part = of_roots(part, table);
            let ends: Vec<i64> = sessions(&part).iter().map(|session| table.bounds(*session).1).collect();
            let first = ends.iter().min().map_or(0, |end| self.bucket(*end));
            self.deal(&part, &ends, i64::MIN, first)?;
        }
        self.compact(table)
    }

    fn evaluate(&mut self, parts: &[Sealed]) -> Result<Results, EngineError> {
        // Some aggregates do not like to be asked for nothing.
        if parts.iter().all(|part| part.len == 0) {
            return Ok(Results { columns: Vec::new(), len: 0 });
        }
        self.grouping.merge(parts, &mut self.ids)?.results()
    }

    fn bucket(&self, moment: i64) -> i64 {
        moment.div_euclid(self.width)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let kept = self.kept.as_ref().map_or(0, |kept| kept.bytes());
        self.live.bytes() - size_of::<Pane>() + self.sealed_bytes + kept
    }
}

/// The part with sessions in the place of what was merged into them.
pub(super) fn of_roots(mut part: Sealed, table: &SessionTable) -> Sealed {
    if part.len > 0 {
        let roots: UInt32Array = sessions(&part).iter().map(|slot| table.root(*slot)).collect::<Vec<_>>().into();
        part.keys[0] = Arc::new(roots);
    }
    part
}

/// The session of each group.
pub(super) fn sessions(part: &Sealed) -> &[u32] {
    match part.keys.first() {
        Some(column) => column.as_primitive::<UInt32Type>().values(),
        None => &[],
    }
}
