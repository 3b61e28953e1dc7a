//! Whether anybody who waits for a value also waits for what a row has in a second column: a bit for each cell of that
//! column's range, looked at before rows are put behind each other. What it lets through is looked at closely.

use super::Entry;
use super::predicate::Atom;

/// Changes from which on it is worth building again, beside half of those that were there.
const CHANGES: usize = 32;
/// Bits of all values together that stay near: 16 KiB.
const NEAR_BITS: usize = 1 << 17;
/// Bits of a value at the least and at the most, as powers of two.
const BITS: std::ops::RangeInclusive<u32> = 6..=10;

/// What is known of the column by which most are told apart, if that lets go of rows.
#[derive(Debug, Default)]
pub(super) struct Cells {
    built: Option<Bits>,
    /// Buckets and who came to wait there since somebody looked.
    fresh: Vec<(u32, u32)>,
    /// Who waited when it was built, and how often somebody came or went since.
    waiting: usize,
    changes: usize,
}

/// A bit for each cell of each bucket.
#[derive(Debug)]
pub(super) struct Bits {
    pub(super) column: usize,
    pub(super) scale: Scale,
    /// Cells of a bucket, as a power of two.
    bits: u32,
    /// Those of no bucket, all zero, then those of each.
    words: Vec<u64>,
}

/// Which cell a value is in. A greater value is never in a lesser cell.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale {
    Whole(Whole),
    Real(Real),
}

/// By numbers as they are compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whole {
    base: u64,
    shift: u32,
    last: u64,
}

/// By the values of a column of floats, whose numbers lie close together where the values are great.
#[derive(Debug, Clone, Copy)]
pub(super) struct Real {
    base: f64,
    scale: f64,
    last: f64,
}

impl Cells {
    /// Somebody came to wait at a bucket.
    pub(super) fn come(&mut self, bucket: usize, slot: u32) {
        self.changes += 1;
        if self.is_stale() {
            // Built again when somebody looks: nothing is noted until then, however many come and go.
            (self.built, self.fresh) = (None, Vec::new());
        } else if self.built.is_some() {
            self.fresh.push((bucket as u32, slot));
        }
    }

    /// Somebody has gone; `emptied`: the last of that bucket.
    pub(super) fn go(&mut self, bucket: usize, emptied: bool) {
        self.changes += 1;
        // Bits stay behind until half of those who waited have gone.
        if let Some(built) = self.built.as_mut().filter(|_| emptied) {
            built.of(bucket).fill(0);
        }
    }

    /// Brings the bits up to who waits now. `buckets`: at each; `is_real`: whether a column is one of floats.
    pub(super) fn settle<'b>(
        &mut self,
        buckets: impl ExactSizeIterator<Item = &'b [u32]> + Clone,
        entries: &[Option<Entry>],
        is_real: impl Fn(usize) -> bool,
    ) {
        if self.is_stale() {
            self.waiting = buckets.clone().map(<[u32]>::len).sum();
            self.changes = 0;
            self.fresh.clear();
            self.built = Bits::new(buckets, entries, is_real);
        }
        if let Some(built) = &mut self.built {
            for (bucket, slot) in self.fresh.drain(..) {
                built.put(bucket as usize, range(entries, slot, built.column));
            }
        }
    }

    /// Whether it is worth building again.
    fn is_stale(&self) -> bool {
        self.changes > CHANGES + self.waiting / 2
    }

    pub(super) fn bits(&self) -> Option<&Bits> {
        self.built.as_ref()
    }
}

impl Bits {
    fn new<'b>(
        buckets: impl ExactSizeIterator<Item = &'b [u32]> + Clone,
        entries: &[Option<Entry>],
        is_real: impl Fn(usize) -> bool,
    ) -> Option<Self> {
        let slots = || buckets.clone().flatten().copied();
        let mut columns: Vec<usize> = slots().flat_map(|slot| ranges(entries, slot).map(|(of, ..)| of)).collect();
        columns.sort_unstable();
        let alike = columns.chunk_by(|a, b| a == b).max_by_key(|alike| alike.len())?;
        let column = alike[0];
        if 2 * alike.len() < slots().count() {
            return None;
        }
        let bits = (NEAR_BITS / (buckets.len() + 1)).max(1).ilog2().clamp(*BITS.start(), *BITS.end());
        let bounds = slots().filter_map(|slot| range(entries, slot, column)).flat_map(|(low, high)| {
            // What has no bound on a side.
            [Some(low).filter(|low| *low > 0), Some(high).filter(|high| *high < u64::MAX)]
        });
        let scale = Scale::new(bounds.flatten(), bits, is_real(column))?;
        let blocks = buckets.len() + 1;
        let mut made = Self { column, scale, bits, words: vec![0; blocks << (bits - 6)] };
        for (at, bucket) in buckets.enumerate() {
            bucket.iter().for_each(|slot| made.put(at, range(entries, *slot, column)));
        }
        let held: usize = made.words.iter().map(|word| word.count_ones() as usize).sum();
        // Where most cells hold somebody, looking is of no use.
        (4 * held <= 3 * (blocks << bits)).then_some(made)
    }

    /// The words of a bucket.
    fn of(&mut self, bucket: usize) -> &mut [u64] {
        let words = 1 << (self.bits - 6);
        let from = (bucket + 1) * words;
        if self.words.len() < from + words {
            self.words.resize(from + words, 0);
        }
        &mut self.words[from..from + words]
    }

    /// Who waits at a bucket for values between two; `None`: for any.
    fn put(&mut self, bucket: usize, range: Option<(u64, u64)>) {
        let scale = self.scale;
        let words = self.of(bucket);
        let Some((low, high)) = range else { return words.fill(u64::MAX) };
        let mut hold = |cell: u32| words[cell as usize / 64] |= 1 << (cell % 64);
        let (cells, nan) = scale.cells(low, high);
        cells.for_each(&mut hold);
        if nan {
            hold(0);
        }
    }

    /// Whether somebody may wait at a bucket, counted from one, for values of a cell. At bucket zero nobody does.
    #[inline(always)]
    pub(super) fn holds(&self, bucket: u32, cell: u32) -> bool {
        let at = ((bucket as usize) << (self.bits - 6)) + cell as usize / 64;
        self.words[at] >> (cell % 64) & 1 == 1
    }
}

impl Scale {
    /// Between the least and the greatest of these; `None`: there are none, or they cannot be told apart.
    fn new(bounds: impl Iterator<Item = u64> + Clone, bits: u32, real: bool) -> Option<Self> {
        let last = (1_u32 << bits) - 1;
        if !real {
            let (base, top) = (bounds.clone().min()?, bounds.max()?);
            let shift = (u64::BITS - (top - base).leading_zeros()).saturating_sub(bits);
            return Some(Self::Whole(Whole { base, shift, last: last.into() }));
        }
        let values = bounds.map(float).filter(|value| value.is_finite());
        let (base, top) = (values.clone().reduce(f64::min)?, values.reduce(f64::max)?);
        let last = f64::from(last);
        let scale = last / (top - base);
        scale.is_normal().then_some(Self::Real(Real { base, scale, last }))
    }

    /// The cells of numbers between two, both included; and whether NaN is among them, which is in the first cell.
    fn cells(&self, low: u64, high: u64) -> (std::ops::RangeInclusive<u32>, bool) {
        match self {
            Self::Whole(whole) => (whole.cell(low)..=whole.cell(high), false),
            Self::Real(real) => {
                let nan = float(high).is_nan();
                let until = if nan { real.cell(f64::INFINITY) } else { real.cell(float(high)) };
                (real.cell(float(low))..=until, nan)
            }
        }
    }
}

impl Whole {
    /// Of a number: what is below all is in the first.
    #[inline(always)]
    pub(super) fn cell(&self, number: u64) -> u32 {
        (number.saturating_sub(self.base) >> self.shift).min(self.last) as u32
    }
}

impl Real {
    /// Of a value: what is below all and NaN are in the first.
    #[inline(always)]
    pub(super) fn cell(&self, value: f64) -> u32 {
        let at = (value - self.base) * self.scale;
        let at = if at > 0.0 { at } else { 0.0 };
        let at = if at < self.last { at } else { self.last };
        // Behind 2^52 there are only whole numbers: their last bits are the nearest one. A conversion takes twice as long.
        (at + (1_u64 << 52) as f64).to_bits() as u32
    }
}

/// The float whose number this is.
fn float(number: u64) -> f64 {
    let bits = number.cast_signed();
    f64::from_bits((bits ^ (!bits >> 63 | i64::MIN)).cast_unsigned())
}

fn ranges(entries: &[Option<Entry>], slot: u32) -> impl Iterator<Item = (usize, u64, u64)> {
    let entry = entries.get(slot as usize).and_then(Option::as_ref);
    entry.map_or(&[][..], |entry| &entry.atoms).iter().filter_map(|atom| match atom {
        Atom::Within { column, low, high } => Some((*column, *low, *high)),
        _ => None,
    })
}

/// The range of a column that somebody waits for; `None`: any value will do.
fn range(entries: &[Option<Entry>], slot: u32, column: usize) -> Option<(u64, u64)> {
    ranges(entries, slot).find(|(of, ..)| *of == column).map(|(_, low, high)| (low, high))
}
