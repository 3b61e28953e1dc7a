//! Groups that live on: states by key, of which a few change at a time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Int64Type};
use datafusion_common::DataFusionError;
use datafusion_physical_plan::aggregates::group_values::GroupValues;

use super::grouping::{Grouping, Results, Sealed};
use super::state::{State, check_count, values};
use crate::error::EngineError;

/// Rows of a piece beyond which it is not joined with an older one, unless most of it is out of date.
const PIECE_ROWS: usize = 1 << 16;
/// Keys that have no state, beyond four times as many as have one, after which they are forgotten.
const STRANGERS: usize = 4096;
/// No piece: the group has no state yet.
const NOWHERE: (u32, u32) = (u32::MAX, u32::MAX);

/// The states of groups, in pieces of which each holds the groups that changed at one time. Taking in changes costs
/// what changed, not what there is: a group's state is written anew behind the others, and its old one forgotten when
/// pieces are joined.
pub(super) struct KeyedStates {
    index: Option<Box<dyn GroupValues>>,
    pieces: Vec<Piece>,
    /// For each group its piece and its row in it.
    places: Vec<(u32, u32)>,
    /// Groups that have a state.
    live: usize,
    /// For each group the event time of its latest row.
    times: Vec<i64>,
    bytes: usize,
    ids: Vec<usize>,
}

struct Piece {
    states: Sealed,
    /// For each row its group.
    groups: Vec<u32>,
}

/// Results of groups, and the event time of each one's latest row.
pub(super) struct Told {
    pub(super) results: Results,
    pub(super) times: Vec<i64>,
}

impl KeyedStates {
    /// No groups yet.
    ///
    /// # Errors
    /// [`EngineError::Aggregate`] when the keys cannot be grouped by.
    pub(super) fn new(grouping: &Grouping) -> Result<Self, EngineError> {
        let index = grouping.index()?;
        let (pieces, places, times, ids) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { index, pieces, places, live: 0, times, bytes: 0, ids })
    }

    /// Groups there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| index.size());
        self.bytes + index + self.places.len() * (size_of::<(u32, u32)>() + size_of::<i64>())
    }

    /// Takes in groups with the event times of their latest rows. With `tell` gives what they have come to.
    ///
    /// # Errors
    /// [`EngineError::Aggregate`] when an aggregate cannot go on.
    pub(super) fn merge(
        &mut self,
        grouping: &Grouping,
        changed: Sealed,
        times: &[i64],
        tell: bool,
    ) -> Result<Option<Told>, EngineError> {
        if changed.len == 0 {
            return Ok(None);
        }
        let ids = self.intern(&changed.keys, changed.len)?;
        for (id, time) in ids.iter().zip(times) {
            self.times[*id] = self.times[*id].max(*time);
        }
        let known: Vec<usize> = ids.iter().copied().filter(|id| self.places[*id] != NOWHERE).collect();
        let sealed = if known.is_empty() {
            changed
        } else {
            let old = self.states_of(&known)?;
            grouping.merge([&old, &changed], &mut self.ids)?.seal()?
        };
        let told = if tell { Some(grouping.merge([&sealed], &mut self.ids)?.results()?) } else { None };
        let ids = self.intern(&sealed.keys, sealed.len)?;
        let times = ids.iter().map(|id| self.times[*id]).collect();
        self.add(sealed, &ids)?;
        Ok(told.map(|results| Told { results, times }))
    }

    /// The states of all groups.
    ///
    /// # Errors
    /// As [`KeyedStates::merge`].
    pub(super) fn states(&self) -> Result<Sealed, EngineError> {
        let all: Vec<usize> = (0..self.places.len()).filter(|id| self.places[*id] != NOWHERE).collect();
        self.states_of(&all)
    }

    /// Puts the states, and the times of their latest rows, behind what a state holds.
    ///
    /// # Errors
    /// As [`KeyedStates::merge`].
    pub(super) fn save(&self, state: &mut State) -> Result<(), EngineError> {
        let states = self.states()?;
        states.save(state)?;
        let live = self.places.iter().zip(&self.times).filter(|(place, _)| **place != NOWHERE);
        let times: ArrayRef = Arc::new(Int64Array::from_iter_values(live.map(|(_, time)| *time)));
        state.put_columns(vec![times], states.len)
    }

    /// Takes states from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, grouping: &Grouping, state: &mut State) -> Result<(), EngineError> {
        let states = grouping.take_sealed(state)?;
        let (times, count) = state.take_columns(&[DataType::Int64])?;
        check_count("times", count, states.len)?;
        if count > 0 {
            for (id, time) in self.put(states)?.into_iter().zip(values::<Int64Type>(&times[0])) {
                self.times[id] = time;
            }
        }
        Ok(())
    }

    /// The states of those of the `len` groups with these keys that have one.
    ///
    /// # Errors
    /// As [`KeyedStates::merge`].
    pub(super) fn states_with(
        &mut self,
        grouping: &Grouping,
        keys: &[ArrayRef],
        len: usize,
    ) -> Result<Sealed, EngineError> {
        let mut ids = self.intern(keys, len)?;
        ids.retain(|id| self.places[*id] != NOWHERE);
        let states = self.states_of(&ids)?;
        // The index cannot be asked for a key without taking it in.
        if self.places.len() > 4 * self.live + STRANGERS {
            let kept: Vec<usize> = (0..self.places.len()).filter(|id| self.places[*id] != NOWHERE).collect();
            self.keep(grouping, &kept)?;
        }
        Ok(states)
    }

    /// Takes in groups whose states are in the place of what they had; gives their numbers.
    ///
    /// # Errors
    /// As [`KeyedStates::merge`].
    pub(super) fn put(&mut self, states: Sealed) -> Result<Vec<usize>, EngineError> {
        let ids = self.intern(&states.keys, states.len)?;
        self.add(states, &ids)?;
        Ok(ids)
    }

    /// The states of groups by number, each of which has one.
    ///
    /// # Errors
    /// As [`KeyedStates::merge`].
    pub(super) fn pick(&self, ids: &[usize]) -> Result<Sealed, EngineError> {
        self.states_of(ids)
    }

    /// Groups by number have no state any more. Their numbers stay theirs.
    pub(super) fn clear(&mut self, ids: &[usize]) {
        ids.iter().for_each(|id| self.places[*id] = NOWHERE);
        self.live -= ids.len();
    }

    /// What all groups have come to.
    ///
    /// # Errors
    /// As [`KeyedStates::merge`].
    pub(super) fn results(&mut self, grouping: &Grouping) -> Result<Option<Told>, EngineError> {
        let all: Vec<usize> = (0..self.places.len()).collect();
        self.results_of(grouping, &all)
    }

    /// Forgets the groups whose latest row happened at `until` or before; gives what they had come to.
    ///
    /// # Errors
    /// As [`KeyedStates::merge`].
    pub(super) fn forget(&mut self, grouping: &Grouping, until: i64) -> Result<Option<Told>, EngineError> {
        let (gone, kept): (Vec<usize>, Vec<usize>) = (0..self.places.len()).partition(|id| self.times[*id] <= until);
        if gone.is_empty() {
            return Ok(None);
        }
        let told = self.results_of(grouping, &gone)?;
        self.keep(grouping, &kept)?;
        Ok(told)
    }

    /// Keeps some groups only, which are numbered anew.
    fn keep(&mut self, grouping: &Grouping, kept: &[usize]) -> Result<(), EngineError> {
        let left = if kept.is_empty() { None } else { Some(self.states_of(kept)?) };
        let times: Vec<i64> = kept.iter().map(|id| self.times[*id]).collect();
        *self = Self::new(grouping)?;
        if let Some(left) = left {
            let ids = self.intern(&left.keys, left.len)?;
            for (id, time) in ids.iter().zip(times) {
                self.times[*id] = time;
            }
            self.add(left, &ids)?;
        }
        Ok(())
    }

    fn results_of(&mut self, grouping: &Grouping, ids: &[usize]) -> Result<Option<Told>, EngineError> {
        if ids.is_empty() {
            return Ok(None);
        }
        let states = self.states_of(ids)?;
        let results = grouping.merge([&states], &mut self.ids)?.results()?;
        Ok(Some(Told { results, times: ids.iter().map(|id| self.times[*id]).collect() }))
    }

    fn intern(&mut self, keys: &[ArrayRef], len: usize) -> Result<Vec<usize>, EngineError> {
        let mut ids = Vec::with_capacity(len);
        let count = match &mut self.index {
            Some(index) => {
                index.intern(keys, &mut ids).map_err(failed)?;
                index.len()
            }
            None => {
                ids.resize(len, 0);
                1
            }
        };
        self.places.resize(count, NOWHERE);
        self.times.resize(count, i64::MIN);
        Ok(ids)
    }

    /// The states of groups that have one, in this order.
    fn states_of(&self, ids: &[usize]) -> Result<Sealed, EngineError> {
        let places = ids.iter().map(|id| {
            let (piece, row) = self.places[*id];
            (piece as usize, row as usize)
        });
        let places: Vec<(usize, usize)> = places.collect();
        gather(&self.pieces, &places)
    }

    /// Puts states behind the others.
    fn add(&mut self, states: Sealed, ids: &[usize]) -> Result<(), EngineError> {
        let groups = ids.iter().map(|id| u32::try_from(*id).map_err(|_| too_many())).collect::<Result<_, _>>()?;
        self.push(Piece { states, groups })?;
        while let [.., older, newer] = self.pieces.as_slice() {
            let (one, other) = (older.states.len, newer.states.len);
            let live = self.live;
            let stale = self.pieces.iter().map(|piece| piece.states.len).sum::<usize>() > 2 * live + PIECE_ROWS;
            if !stale && (one > 2 * other || one + other > PIECE_ROWS) {
                break;
            }
            self.join_last_two()?;
        }
        Ok(())
    }

    fn push(&mut self, piece: Piece) -> Result<(), EngineError> {
        let at = u32::try_from(self.pieces.len()).map_err(|_| too_many())?;
        for (row, group) in (0u32..).zip(&piece.groups) {
            let place = &mut self.places[*group as usize];
            self.live += usize::from(*place == NOWHERE);
            *place = (at, row);
        }
        self.bytes += piece.bytes();
        self.pieces.push(piece);
        Ok(())
    }

    fn join_last_two(&mut self) -> Result<(), EngineError> {
        let first = self.pieces.len() - 2;
        let mut places = Vec::new();
        let mut groups = Vec::new();
        for (at, piece) in self.pieces[first..].iter().enumerate() {
            for (row, group) in piece.groups.iter().enumerate() {
                let (place, place_row) = self.places[*group as usize];
                if place as usize == first + at && place_row as usize == row {
                    places.push((at, row));
                    groups.push(*group);
                }
            }
        }
        let states = gather(&self.pieces[first..], &places)?;
        for piece in self.pieces.drain(first..) {
            self.bytes = self.bytes.saturating_sub(piece.bytes());
        }
        self.push(Piece { states, groups })
    }
}

impl Piece {
    fn bytes(&self) -> usize {
        self.states.bytes() + self.groups.len() * size_of::<u32>()
    }
}

/// Rows of pieces, by piece and row.
fn gather(pieces: &[Piece], places: &[(usize, usize)]) -> Result<Sealed, EngineError> {
    let pick = |column: &dyn Fn(&Sealed) -> ArrayRef| -> Result<ArrayRef, EngineError> {
        let columns: Vec<ArrayRef> = pieces.iter().map(|piece| column(&piece.states)).collect();
        let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
        Ok(interleave(&columns, places)?)
    };
    let Some(first) = pieces.first() else { return Ok(Sealed::none()) };
    let keys = (0..first.states.keys.len()).map(|at| pick(&|states| states.keys[at].clone()));
    let states = (0..first.states.states.len()).map(|at| pick(&|states| states.states[at].clone()));
    let (keys, states) = (keys.collect::<Result<_, _>>()?, states.collect::<Result<_, _>>()?);
    Ok(Sealed { keys, states, len: places.len(), shard: None })
}

fn too_many() -> EngineError {
    EngineError::Plan("there are more than 2^32 groups".into())
}

fn failed(error: DataFusionError) -> EngineError {
    EngineError::Aggregate(error.strip_backtrace())
}
