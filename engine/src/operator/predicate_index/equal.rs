//! Who waits for a value of a column.

use std::hash::Hash;
use std::ops::{Range, RangeInclusive};
use std::sync::OnceLock;

use arrow::buffer::NullBuffer;
use datafusion_common::HashMap;

use super::Entry;
use super::cells::{Bits, Cells};
use super::narrow::Narrow;
use super::values::{Picked, place};
use super::waits::May;

/// Bits of the least and the largest sieve, as powers of two: 1 KiB and 512 KiB.
const SIEVE_BITS: RangeInclusive<u32> = 13..=22;
/// Bits for each value: one value in sixteen that nobody waits for passes.
const BITS_EACH: usize = 16;
/// Bits for each value where the values lie so near to each other that each has a bit of its own.
const NEAR_BITS_EACH: u64 = 64;
/// Values that lie so near to each other are looked up by a table, of at most 256 KiB.
const TABLE_VALUES: u64 = 1 << 16;
/// A table of so few is looked at for each row, without a sieve before it: 16 KiB, which stay near.
const DIRECT_VALUES: usize = 1 << 12;

/// So many rows of a batch are asked whether their value is one of those that lie near to each other.
const ASKED_ROWS: usize = 64;
/// Where it is of fewer than one in so many, a sieve lets go of most rows without a look at the table.
const RARE: usize = 16;

/// Rows that are looked up at a time: each of several short loops over them is as fast as can be.
const LOOKED_UP: usize = 512;
/// Rows that are let go together where none has a value among those that lie near to each other.
const ROWS_AT_ONCE: usize = 8;

/// By value, who waits for it. A sieve of bits before the table lets go of nearly all others without a look at it.
#[derive(Debug, Default)]
pub(super) struct Equal<K> {
    places: HashMap<K, u32>,
    buckets: Vec<Bucket>,
    free: Vec<u32>,
    sieve: Sieve,
    /// One past the bucket of each value, from the least that the sieve has on, and zero for all others at the end; empty:
    /// they lie too far apart.
    table: Vec<u32>,
    cells: Cells,
}

/// Who waits for one value.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) slots: Vec<u32>,
    /// The only one, if it asks for nothing else: its rows are known without a look at it.
    pub(super) alone: Option<u32>,
    /// How they are told apart further; `None`: they are not. Empty: nobody has looked since they changed.
    pub(super) narrow: OnceLock<Option<Box<Narrow>>>,
}

#[derive(Debug, Default)]
struct Sieve {
    words: Vec<u64>,
    bits: u32,
    /// The least value that has a bit of its own and how many do, of values that lie near to each other.
    near: Option<(u64, u64)>,
    /// Values that were put in; some may be gone.
    values: usize,
}

/// Rows by the value that they have.
#[derive(Debug, Default)]
pub(super) struct Found {
    candidates: Vec<u32>,
    /// How many of the candidates there are.
    count: usize,
    /// Buckets and rows.
    pairs: Vec<(u32, u32)>,
    /// Buckets that have rows, and the end of each one's.
    told: Vec<(u32, u32)>,
    /// Of each bucket how many rows have the value, then where the next of them is put; all zero between batches.
    counts: Vec<u32>,
    /// Rows, those of one value behind each other and ascending.
    pub(super) rows: Vec<u32>,
    /// Where the row of each pair is among them.
    places: Vec<u32>,
}

impl Sieve {
    fn put(&mut self, number: u64) {
        let at = match self.near {
            Some((least, _)) => (number - least) as usize,
            None => place(number, self.bits),
        };
        self.words[at / 64] |= 1 << (at % 64);
    }

    /// Whether it has room for a value as it is.
    fn takes(&self, number: u64) -> bool {
        self.near.is_none_or(|(least, count)| number.wrapping_sub(least) < count)
    }
}

/// A value of a column as the sieve takes it.
pub(super) trait Value: Hash + Eq + Clone {
    /// Whether it is its number, and not one of several that share it.
    const IS_NUMBER: bool;

    fn number(&self) -> u64;
}

impl Value for u64 {
    const IS_NUMBER: bool = true;

    fn number(&self) -> u64 {
        *self
    }
}

impl Value for Box<str> {
    const IS_NUMBER: bool = false;

    fn number(&self) -> u64 {
        super::values::mark(self)
    }
}

impl<K: Value> Equal<K> {
    /// How many wait for a value.
    pub(super) fn waiting(&self, value: &K) -> usize {
        self.places.get(value).map_or(0, |at| self.buckets[*at as usize].slots.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// `more`: it asks for more than the value.
    pub(super) fn add(&mut self, value: &K, slot: u32, more: bool) {
        if let Some(at) = self.places.get(value) {
            let bucket = &mut self.buckets[*at as usize];
            bucket.slots.push(slot);
            (bucket.alone, bucket.narrow) = (None, OnceLock::new());
            self.cells.come(*at as usize, slot);
            return;
        }
        let bucket = Bucket { slots: vec![slot], alone: (!more).then_some(slot), narrow: OnceLock::new() };
        let at = match self.free.pop() {
            Some(at) => {
                self.buckets[at as usize] = bucket;
                at
            }
            None => {
                self.buckets.push(bucket);
                u32::try_from(self.buckets.len() - 1).expect("queries are counted in 32 bits")
            }
        };
        self.places.insert(value.clone(), at);
        self.cells.come(at as usize, slot);
        let room = self.sieve.words.len() * 64 / BITS_EACH;
        self.sieve.values += 1;
        let full = self.sieve.near.is_none() && self.sieve.values > room && self.sieve.bits < *SIEVE_BITS.end();
        if self.sieve.words.is_empty() || full || !self.sieve.takes(value.number()) {
            self.build_sieve();
        } else {
            self.sieve.put(value.number());
            self.note(value.number(), at + 1);
        }
    }

    /// Notes in the table where a value is; zero: nowhere.
    fn note(&mut self, number: u64, at: u32) {
        if let (Some((least, _)), false) = (self.sieve.near, self.table.is_empty()) {
            self.table[(number - least) as usize] = at;
        }
    }

    pub(super) fn remove(&mut self, value: &K, slot: u32) {
        let Some(at) = self.places.get(value).copied() else { return };
        let Bucket { slots, alone, narrow } = &mut self.buckets[at as usize];
        slots.retain(|other| *other != slot);
        (*alone, *narrow) = (None, OnceLock::new());
        self.cells.go(at as usize, slots.is_empty());
        if slots.is_empty() {
            *slots = Vec::new();
            self.places.remove(value);
            self.free.push(at);
            self.note(value.number(), 0);
            // Bits stay behind until half of them are of no use.
            if self.sieve.values > 2 * self.places.len() + 64 {
                self.build_sieve();
            }
        }
    }

    fn build_sieve(&mut self) {
        let values = self.places.len();
        let near = self.near();
        let (words, bits) = match near {
            // Whoever is not among them has the bit behind the last.
            Some((_, count)) => (count as usize / 64 + 1, 0),
            None => {
                let wanted = (values.max(1) * BITS_EACH * 2).next_power_of_two().trailing_zeros();
                let bits = wanted.clamp(*SIEVE_BITS.start(), *SIEVE_BITS.end());
                (1 << (bits - 6), bits)
            }
        };
        self.sieve = Sieve { words: vec![0; words], bits, near, values };
        let sieve = &mut self.sieve;
        self.places.keys().for_each(|value| sieve.put(value.number()));
        let table = near.filter(|(_, count)| K::IS_NUMBER && *count <= TABLE_VALUES);
        self.table = vec![0; table.map_or(0, |(_, count)| count as usize + 1)];
        if let Some((least, _)) = table {
            let table = &mut self.table;
            self.places.iter().for_each(|(value, at)| table[(value.number() - least) as usize] = at + 1);
        }
    }

    /// The least value that is to have a bit of its own and how many are, with room on both sides; `None`: they lie too
    /// far apart.
    fn near(&self) -> Option<(u64, u64)> {
        let numbers = || self.places.keys().map(Value::number);
        let (least, last) = (numbers().min()?, numbers().max()?);
        let room = (last - least) / 4 + 64;
        let (least, last) = (least.saturating_sub(room), last.saturating_add(room));
        let count = (last - least).checked_add(1)?;
        let most = (self.places.len() as u64 + 16) * NEAR_BITS_EACH;
        (count <= most.min(1 << *SIEVE_BITS.end())).then_some((least, count))
    }

    /// Looks whether a second column tells apart those who wait, as they are now. See [`Cells::settle`].
    pub(super) fn settle_cells(&mut self, entries: &[Option<Entry>], is_real: impl Fn(usize) -> bool) {
        self.cells.settle(self.buckets.iter().map(|bucket| bucket.slots.as_slice()), entries, is_real);
    }

    /// What tells rows apart by a second column; `None`: nothing does.
    pub(super) fn cells(&self) -> Option<&Bits> {
        self.cells.bits()
    }

    /// Finds the rows for which somebody waits, of so many, those whose value is null apart. `number`: of each; `place`: the
    /// bucket of a row by its value; `may`: whether a row may be for somebody who waits there.
    pub(super) fn find(
        &self,
        (rows, valid): (usize, Option<&NullBuffer>),
        number: impl Fn(usize) -> u64,
        place_of: impl Fn(&HashMap<K, u32>, u32) -> Option<u32>,
        may: &impl May,
        found: &mut Found,
    ) {
        if (1..=DIRECT_VALUES).contains(&self.table.len()) && !self.is_rare(rows, &number) {
            self.look_up(rows, &number, may, found);
        } else {
            self.sift(rows, &number, found);
            found.pairs.clear();
            let least = self.sieve.near.map_or(0, |(least, _)| least);
            for row in &found.candidates[..found.count] {
                let at = match self.table.as_slice() {
                    [] => place_of(&self.places, *row).map_or(0, |at| at + 1),
                    table => table[(number(*row as usize) - least) as usize],
                };
                if may.be(at, may.cell(*row as usize)) {
                    found.pairs.push((at - 1, *row));
                }
            }
        }
        if let Some(valid) = valid {
            found.pairs.retain(|(_, row)| valid.is_valid(*row as usize));
        }
        found.gather(self.buckets.len());
    }

    /// Whether few rows seem to have values like those that somebody waits for.
    fn is_rare(&self, rows: usize, number: &impl Fn(usize) -> u64) -> bool {
        let Some((least, near)) = self.sieve.near else { return false };
        let asked = (0..rows).step_by((rows / ASKED_ROWS).max(1));
        let held = asked.clone().filter(|row| number(*row).wrapping_sub(least) < near).count();
        RARE * held < asked.len()
    }

    /// Looks up each row's place at once: of few values, that costs less than a sieve before it.
    fn look_up(&self, rows: usize, number: &impl Fn(usize) -> u64, may: &impl May, found: &mut Found) {
        let Some((least, _)) = self.sieve.near else { return };
        found.pairs.clear();
        // Whoever is not among them has the place behind the last.
        let last = self.table.len() - 1;
        let table = &self.table[..=last];
        let (mut places, mut cells) = ([0_u32; LOOKED_UP], [0_u32; LOOKED_UP]);
        let mut pairs = [(0, 0); LOOKED_UP];
        for first in (0..rows).step_by(LOOKED_UP) {
            let some = LOOKED_UP.min(rows - first);
            for (at, place) in places[..some].iter_mut().enumerate() {
                *place = table[number(first + at).wrapping_sub(least).min(last as u64) as usize];
            }
            may.cells(first, &mut cells[..some]);
            let mut count = 0;
            for (at, (place, cell)) in places.iter().zip(&cells).take(some).enumerate() {
                // It is never as many: nothing has to be looked at to know so.
                pairs[count % LOOKED_UP] = (place.wrapping_sub(1), (first + at) as u32);
                count += usize::from(may.be(*place, *cell));
            }
            found.pairs.extend_from_slice(&pairs[..count]);
        }
    }

    /// Lets go of rows for whose values nobody waits.
    fn sift(&self, rows: usize, number: &impl Fn(usize) -> u64, found: &mut Found) {
        let candidates = &mut found.candidates;
        candidates.clear();
        candidates.resize(rows, 0);
        let (bits, words) = (self.sieve.bits, self.sieve.words.as_slice());
        let mut count = 0;
        let mut pass = |row: usize, at: usize| {
            candidates[count] = row as u32;
            count += (words[at / 64] >> (at % 64) & 1) as usize;
        };
        match self.sieve.near {
            Some((least, near)) => {
                let offset = |row: usize| number(row).wrapping_sub(least);
                for first in (0..rows).step_by(ROWS_AT_ONCE) {
                    let rows = first..rows.min(first + ROWS_AT_ONCE);
                    if rows.clone().fold(false, |any, row| any | (offset(row) < near)) {
                        rows.for_each(|row| pass(row, offset(row).min(near) as usize));
                    }
                }
            }
            None => (0..rows).for_each(|row| pass(row, place(number(row), bits))),
        }
        found.count = count;
    }

    /// Those who wait for the values that were found, with where among [`Found::rows`] those that have each are.
    pub(super) fn tell<E>(
        &self,
        found: &Found,
        mut told: impl FnMut(&Bucket, Range<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut first, mut result) = (0, Ok(()));
        for (at, next) in &found.told {
            let next = *next as usize;
            if result.is_ok() {
                result = told(&self.buckets[*at as usize], first..next);
            }
            first = next;
        }
        result
    }
}

impl Found {
    /// The rows as they lie in the batch.
    pub(super) fn picked(&self) -> Picked<'_> {
        Picked { rows: &self.pairs, places: &self.places[..self.pairs.len()] }
    }

    /// Puts the rows of each bucket behind each other.
    fn gather(&mut self, buckets: usize) {
        let Self { pairs, counts, told, rows, places, .. } = self;
        counts.resize(counts.len().max(buckets), 0);
        told.clear();
        for (at, _) in pairs.iter() {
            let count = &mut counts[*at as usize];
            if *count == 0 {
                told.push((*at, 0));
            }
            *count += 1;
        }
        let mut first = 0;
        for (at, _) in told.iter() {
            first += std::mem::replace(&mut counts[*at as usize], first);
        }
        rows.clear();
        rows.resize(pairs.len(), 0);
        places.resize(pairs.len(), 0);
        for ((at, row), place) in pairs.iter().zip(places) {
            let next = &mut counts[*at as usize];
            (rows[*next as usize], *place) = (*row, *next);
            *next += 1;
        }
        for (at, next) in told.iter_mut() {
            *next = std::mem::take(&mut counts[*at as usize]);
        }
    }
}
