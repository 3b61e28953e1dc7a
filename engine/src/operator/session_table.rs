//! Which sessions there are: arithmetic on event times, a few numbers a session.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::datatypes::{DataType, Int64Type, UInt32Type};

use super::state::{State, values};
use crate::error::EngineError;

/// No session.
const NONE: u32 = u32::MAX;
/// Bytes of an entry of the queue of ends.
const QUEUED_BYTES: usize = size_of::<Reverse<(i64, u32, u32)>>();

/// Open sessions of each key.
pub(super) struct SessionTable {
    gap: i64,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The first session of each key.
    heads: Vec<u32>,
    /// Keys that have a session.
    used: usize,
    /// An end that each session has had, its slot and which of the slot's sessions it is. A session's real end may be
    /// later.
    ends: BinaryHeap<Reverse<(i64, u32, u32)>>,
    open: usize,
    /// Sessions, or what is a part of one by now, to which rows have come since running results were told; `None`: none
    /// are read.
    changed: Option<Vec<u32>>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    start: i64,
    last: i64,
    key: u32,
    /// The next session of the key, or the next slot that was merged into the same session.
    next: u32,
    /// The first slot that was merged into this one.
    merged: u32,
    /// The session that it was merged into; its own number: it is a session.
    root: u32,
    /// How often the slot was used.
    uses: u32,
    /// It is among those that have changed.
    changed: bool,
    /// The bounds under which running results have told it, as a session.
    told: Option<(i64, i64)>,
}

/// Where a row belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// In a session.
    In(u32),
    /// It is late by its own watermark.
    Late,
    /// It is in time by its own watermark, and what it belongs to was told while its partition was idle.
    LateIdle,
}

/// What a row is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Sessions that end here or before are closed for the row, by its own watermark.
    pub(super) own: i64,
    /// Sessions that end here or before have been told.
    pub(super) told: i64,
}

impl SessionTable {
    /// No sessions yet; rows no more than `gap` nanoseconds apart are in one.
    pub(super) fn new(gap: i64) -> Self {
        Self {
            gap,
            slots: Vec::new(),
            free: Vec::new(),
            heads: Vec::new(),
            used: 0,
            ends: BinaryHeap::new(),
            open: 0,
            changed: None,
        }
    }

    /// Puts the sessions behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn save(&self, state: &mut State) -> Result<(), EngineError> {
        let times =
            |of: fn(&Slot) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(self.slots.iter().map(of))) };
        let numbers =
            |of: fn(&Slot) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(self.slots.iter().map(of))) };
        let slots = vec![
            times(|slot| slot.start),
            times(|slot| slot.last),
            numbers(|slot| slot.key),
            numbers(|slot| slot.next),
            numbers(|slot| slot.merged),
            numbers(|slot| slot.root),
            numbers(|slot| slot.uses),
        ];
        state.put(&(self.used, self.open))?;
        state.put_columns(slots, self.slots.len())?;
        state.put_columns(vec![Arc::new(UInt32Array::from(self.free.clone()))], self.free.len())?;
        state.put_columns(vec![Arc::new(UInt32Array::from(self.heads.clone()))], self.heads.len())?;
        let ends: Vec<(i64, u32, u32)> = self.ends.iter().map(|Reverse(end)| *end).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(ends.iter().map(|end| end.0))),
            Arc::new(UInt32Array::from_iter_values(ends.iter().map(|end| end.1))),
            Arc::new(UInt32Array::from_iter_values(ends.iter().map(|end| end.2))),
        ];
        state.put_columns(columns, ends.len())
    }

    /// Takes sessions from the front of a state. None of them counts as told.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        (self.used, self.open) = state.take()?;
        let number = || DataType::UInt32;
        let kinds = [DataType::Int64, DataType::Int64, number(), number(), number(), number(), number()];
        let (columns, count) = state.take_columns(&kinds)?;
        let times = [0, 1].map(|at: usize| values::<Int64Type>(&columns[at]));
        let numbers = [2, 3, 4, 5, 6].map(|at: usize| values::<UInt32Type>(&columns[at]));
        let slot = |at: usize| {
            let [start, last] = [0, 1].map(|of: usize| times[of][at]);
            let [key, next, merged, root, uses] = [0, 1, 2, 3, 4].map(|of: usize| numbers[of][at]);
            Slot { start, last, key, next, merged, root, uses, changed: false, told: None }
        };
        self.slots = (0..count).map(slot).collect();
        self.free = values::<UInt32Type>(&state.take_columns(&[number()])?.0[0]);
        self.heads = values::<UInt32Type>(&state.take_columns(&[number()])?.0[0]);
        let (ends, _) = state.take_columns(&[DataType::Int64, number(), number()])?;
        let (slots, uses) = (values::<UInt32Type>(&ends[1]), values::<UInt32Type>(&ends[2]));
        let ends = values::<Int64Type>(&ends[0]).into_iter().zip(slots).zip(uses);
        self.ends = ends.map(|((end, slot), uses)| Reverse((end, slot, uses))).collect();
        self.check()
    }

    /// Whether all numbers of slots and keys are of some that there are.
    fn check(&self) -> Result<(), EngineError> {
        let slot = |number: &u32| (*number as usize) < self.slots.len();
        let or_none = |number: &u32| *number == NONE || slot(number);
        let of_slot = |own: &Slot| or_none(&own.next) && or_none(&own.merged) && slot(&own.root);
        let ends = self.ends.iter().all(|Reverse((_, number, _))| slot(number));
        if self.slots.iter().all(of_slot) && self.free.iter().all(slot) && self.heads.iter().all(or_none) && ends {
            return Ok(());
        }
        Err(EngineError::State("sessions that are not there".into()))
    }

    /// Whether running results are read: then all open sessions count as changed first.
    pub(super) fn track(&mut self, on: bool) {
        if on == self.changed.is_some() {
            return;
        }
        self.changed = on.then(Vec::new);
        for slot in &mut self.slots {
            (slot.changed, slot.told) = (false, None);
        }
        for key in 0..self.heads.len() {
            let mut at = self.heads[key];
            while at != NONE {
                self.touch(at);
                at = self.slots[at as usize].next;
            }
        }
    }

    /// Rows have come to a session.
    fn touch(&mut self, session: u32) {
        let Some(changed) = &mut self.changed else { return };
        let slot = &mut self.slots[session as usize];
        if !std::mem::replace(&mut slot.changed, true) {
            changed.push(session);
        }
    }

    /// Puts a row of a key in a session, which it may start, lengthen, or make of several. `time` plus the gap fits.
    pub(super) fn place(&mut self, key: usize, time: i64, moment: Moment) -> Placed {
        if key >= self.heads.len() {
            self.heads.resize(key + 1, NONE);
        }
        let closed = moment.own.max(moment.told);
        let (mut found, mut before, mut at) = (NONE, NONE, self.heads[key]);
        while at != NONE {
            let slot = self.slots[at as usize];
            let reaches = time <= slot.last + self.gap && slot.start <= time + self.gap;
            let joins = reaches && slot.last + self.gap > closed;
            if joins && found == NONE {
                found = at;
                let own = &mut self.slots[at as usize];
                (own.start, own.last) = (slot.start.min(time), slot.last.max(time));
                self.touch(at);
            } else if joins {
                self.unlink(key, before, slot.next);
                self.merge(found, at);
                at = slot.next;
                continue;
            }
            (before, at) = (at, slot.next);
        }
        if found != NONE {
            return Placed::In(found);
        }
        let end = time + self.gap;
        if end > closed {
            Placed::In(self.add(key, time))
        } else if end <= moment.own {
            Placed::Late
        } else {
            Placed::LateIdle
        }
    }

    fn add(&mut self, key: usize, time: i64) -> u32 {
        let next = self.heads[key];
        self.used += usize::from(next == NONE);
        let number = self.free.pop().unwrap_or_else(|| {
            let number = u32::try_from(self.slots.len()).expect("the budget ends a query long before");
            let (changed, told) = (false, None);
            let slot = Slot { start: 0, last: 0, key: 0, next, merged: NONE, root: number, uses: 0, changed, told };
            self.slots.push(slot);
            number
        });
        let slot = &mut self.slots[number as usize];
        let key_number = u32::try_from(key).expect("the budget ends a query long before");
        let uses = slot.uses.wrapping_add(1);
        let (changed, told) = (slot.changed, None);
        *slot =
            Slot { start: time, last: time, key: key_number, next, merged: NONE, root: number, uses, changed, told };
        self.heads[key] = number;
        self.touch(number);
        self.ends.push(Reverse((time + self.gap, number, uses)));
        self.open += 1;
        number
    }

    /// Takes a session out of its key's list.
    fn unlink(&mut self, key: usize, before: u32, next: u32) {
        if before == NONE {
            self.heads[key] = next;
        } else {
            self.slots[before as usize].next = next;
        }
    }

    /// Makes `gone`, which is in no list any more, a part of `kept`.
    fn merge(&mut self, kept: u32, gone: u32) {
        let other = self.slots[gone as usize];
        // What was merged into the other comes along, at the end of the list.
        let mut tail = gone;
        let mut part = other.merged;
        let mut parts = vec![gone];
        while part != NONE {
            parts.push(part);
            (tail, part) = (part, self.slots[part as usize].next);
        }
        let first = self.slots[kept as usize].merged;
        for part in parts {
            let slot = &mut self.slots[part as usize];
            (slot.root, slot.changed) = (kept, false);
        }
        self.slots[gone as usize].next = other.merged;
        self.slots[tail as usize].next = first;
        let own = &mut self.slots[kept as usize];
        (own.start, own.last, own.merged) = (own.start.min(other.start), own.last.max(other.last), gone);
        self.open -= 1;
    }

    /// The session that a slot belongs to.
    pub(super) fn root(&self, slot: u32) -> u32 {
        self.slots[slot as usize].root
    }

    /// First row and end of a session.
    pub(super) fn bounds(&self, session: u32) -> (i64, i64) {
        let slot = &self.slots[session as usize];
        (slot.start, slot.last + self.gap)
    }

    /// A session's slots: its own, and those of what was merged into it.
    pub(super) fn slots(&self, session: u32) -> impl Iterator<Item = u32> {
        let first = Some(self.slots[session as usize].merged);
        let merged = std::iter::successors(first, |slot| (*slot != NONE).then(|| self.slots[*slot as usize].next));
        std::iter::once(session).chain(merged.take_while(|slot| *slot != NONE))
    }

    /// The bounds under which running results have told a slot, as a session of its own.
    pub(super) fn told(&self, slot: u32) -> Option<(i64, i64)> {
        self.slots[slot as usize].told
    }

    /// The open sessions that have changed since the last call.
    pub(super) fn take_changed(&mut self) -> Vec<u32> {
        let Some(changed) = &mut self.changed else { return Vec::new() };
        let mut sessions: Vec<u32> = Vec::with_capacity(changed.len());
        for slot in std::mem::take(changed) {
            // Sessions that have been told for good are not marked any more, nor are those that were merged away.
            if std::mem::take(&mut self.slots[slot as usize].changed) {
                sessions.push(slot);
            }
        }
        sessions
    }

    /// Running results have told these sessions as they are.
    pub(super) fn mark_told(&mut self, sessions: &[u32]) {
        for session in sessions {
            let slots: Vec<u32> = self.slots(*session).collect();
            slots.into_iter().for_each(|slot| self.slots[slot as usize].told = None);
            self.slots[*session as usize].told = Some(self.bounds(*session));
        }
    }

    /// The sessions that end at `closed` or before. They stay until [`SessionTable::forget`].
    pub(super) fn due(&mut self, closed: i64) -> Vec<u32> {
        let mut due = Vec::new();
        while let Some(Reverse((end, number, uses))) = self.ends.peek().copied() {
            if end > closed {
                break;
            }
            self.ends.pop();
            let slot = self.slots[number as usize];
            if slot.uses != uses || slot.root != number {
                continue;
            }
            let end = slot.last + self.gap;
            if end > closed {
                self.ends.push(Reverse((end, number, uses)));
            } else {
                due.push(number);
            }
        }
        due
    }

    /// Forgets sessions that [`SessionTable::due`] gave.
    pub(super) fn forget(&mut self, sessions: &[u32]) {
        for session in sessions {
            let slot = self.slots[*session as usize];
            let key = slot.key as usize;
            let (mut before, mut at) = (NONE, self.heads[key]);
            while at != *session {
                (before, at) = (at, self.slots[at as usize].next);
            }
            self.unlink(key, before, slot.next);
            self.used -= usize::from(self.heads[key] == NONE);
            self.open -= 1;
            let mut part = slot.merged;
            self.release(*session);
            while part != NONE {
                let next = self.slots[part as usize].next;
                self.release(part);
                part = next;
            }
        }
        if self.open == 0 {
            let changed = self.changed.as_ref().map(|_| Vec::new());
            *self = Self { changed, ..Self::new(self.gap) };
        }
        self.forget_changed();
    }

    /// Forgets sessions that have changed and are no more, once they are the most.
    fn forget_changed(&mut self) {
        if let Some(changed) = self.changed.as_mut().filter(|changed| changed.len() > 2 * self.slots.len()) {
            changed.sort_unstable();
            changed.dedup();
        }
    }

    fn release(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        (slot.root, slot.merged, slot.uses) = (number, NONE, slot.uses.wrapping_add(1));
        (slot.changed, slot.told) = (false, None);
        self.free.push(number);
    }

    /// Keys that have a session.
    pub(super) fn used_keys(&self) -> usize {
        self.used
    }

    /// For each of `keys` keys whether it has a session. Then only those are numbered, in the same order.
    pub(super) fn renumber_keys(&mut self, keys: usize) -> BooleanArray {
        self.heads.resize(keys, NONE);
        let used: BooleanArray = self.heads.iter().map(|head| Some(*head != NONE)).collect();
        self.heads.retain(|head| *head != NONE);
        for (key, head) in (0..).zip(&self.heads) {
            let mut at = *head;
            while at != NONE {
                let slot = &mut self.slots[at as usize];
                slot.key = key;
                at = slot.next;
            }
        }
        used
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot>()
            + (self.free.len() + self.heads.len()) * size_of::<u32>()
            + self.ends.len() * QUEUED_BYTES
            + self.changed.as_ref().map_or(0, |changed| changed.len() * size_of::<u32>())
    }
}
