//! Who waits for a value of a column.

use std::hash::Hash;

use datafusion_common::HashMap;

use super::values::place;

/// Bits of the least and the largest sieve, as powers of two: 1 KiB and 512 KiB.
const SIEVE_BITS: std::ops::RangeInclusive<u32> = 13..=22;
/// Bits for each value: one value in sixteen that nobody waits for passes.
const BITS_EACH: usize = 16;

/// By value, who waits for it. A sieve of bits before the table lets go of nearly all others without a look at it.
#[derive(Debug, Default)]
pub(super) struct Equal<K> {
    places: HashMap<K, u32>,
    buckets: Vec<Bucket>,
    free: Vec<u32>,
    sieve: Sieve,
}

/// Who waits for one value.
#[derive(Debug)]
struct Bucket {
    slots: Vec<u32>,
    /// While a batch is looked at: how many of its rows have the value, then where its next row is put.
    rows: u32,
}

#[derive(Debug, Default)]
struct Sieve {
    words: Vec<u64>,
    bits: u32,
    /// Values that were put in; some may be gone.
    values: usize,
}

/// Rows by the value that they have.
#[derive(Debug, Default)]
pub(super) struct Found {
    candidates: Vec<u32>,
    pairs: Vec<(u32, u32)>,
    touched: Vec<u32>,
    /// Rows, those of one value behind each other.
    rows: Vec<u32>,
}

impl Sieve {
    fn put(&mut self, number: u64) {
        let at = place(number, self.bits);
        self.words[at / 64] |= 1 << (at % 64);
    }
}

/// A value of a column as the sieve takes it.
pub(super) trait Value: Hash + Eq + Clone {
    fn number(&self) -> u64;
}

impl Value for u64 {
    fn number(&self) -> u64 {
        *self
    }
}

impl Value for Box<str> {
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

    pub(super) fn add(&mut self, value: &K, slot: u32) {
        if let Some(at) = self.places.get(value) {
            self.buckets[*at as usize].slots.push(slot);
            return;
        }
        let bucket = Bucket { slots: vec![slot], rows: 0 };
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
        let room = self.sieve.words.len() * 64 / BITS_EACH;
        self.sieve.values += 1;
        if self.sieve.words.is_empty() || self.sieve.values > room && self.sieve.bits < *SIEVE_BITS.end() {
            self.build_sieve();
        } else {
            self.sieve.put(value.number());
        }
    }

    pub(super) fn remove(&mut self, value: &K, slot: u32) {
        let Some(at) = self.places.get(value).copied() else { return };
        let slots = &mut self.buckets[at as usize].slots;
        slots.retain(|other| *other != slot);
        if slots.is_empty() {
            *slots = Vec::new();
            self.places.remove(value);
            self.free.push(at);
            // Bits stay behind until half of them are of no use.
            if self.sieve.values > 2 * self.places.len() + 64 {
                self.build_sieve();
            }
        }
    }

    fn build_sieve(&mut self) {
        let wanted = (self.places.len().max(1) * BITS_EACH * 2).next_power_of_two().trailing_zeros();
        let bits = wanted.clamp(*SIEVE_BITS.start(), *SIEVE_BITS.end());
        self.sieve = Sieve { words: vec![0; 1 << (bits - 6)], bits, values: self.places.len() };
        let sieve = &mut self.sieve;
        self.places.keys().for_each(|value| sieve.put(value.number()));
    }

    /// Finds the rows for which somebody waits. `numbers`: of each row; `bucket`: that of a row that is not null, by its
    /// value.
    pub(super) fn find(
        &mut self,
        numbers: impl ExactSizeIterator<Item = u64>,
        bucket: impl Fn(&HashMap<K, u32>, u32) -> Option<u32>,
        found: &mut Found,
    ) {
        let Found { candidates, pairs, touched, rows } = found;
        candidates.clear();
        candidates.resize(numbers.len(), 0);
        let (bits, words) = (self.sieve.bits, self.sieve.words.as_slice());
        let mut count = 0;
        for (row, number) in (0_u32..).zip(numbers) {
            let at = place(number, bits);
            candidates[count] = row;
            count += (words[at / 64] >> (at % 64) & 1) as usize;
        }
        pairs.clear();
        touched.clear();
        for row in &candidates[..count] {
            let Some(at) = bucket(&self.places, *row) else { continue };
            let bucket = &mut self.buckets[at as usize];
            if bucket.rows == 0 {
                touched.push(at);
            }
            bucket.rows += 1;
            pairs.push((at, *row));
        }
        let mut first = 0;
        for at in touched.iter() {
            let rows = &mut self.buckets[*at as usize].rows;
            first += std::mem::replace(rows, first);
        }
        rows.clear();
        rows.resize(pairs.len(), 0);
        for (at, row) in pairs.iter() {
            let next = &mut self.buckets[*at as usize].rows;
            rows[*next as usize] = *row;
            *next += 1;
        }
    }

    /// Those who wait for the values that were found, with the rows that have each, ascending.
    pub(super) fn tell<E>(
        &mut self,
        found: &Found,
        mut told: impl FnMut(&[u32], &[u32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut first, mut result) = (0, Ok(()));
        for at in &found.touched {
            let bucket = &mut self.buckets[*at as usize];
            let next = std::mem::take(&mut bucket.rows) as usize;
            if result.is_ok() {
                result = told(&bucket.slots, &found.rows[first..next]);
            }
            first = next;
        }
        result
    }
}
