//! Who, of those that wait for one value, also waits for a range of another column.

use std::sync::Arc;

use super::Entry;
use super::predicate::Atom;

/// So few who wait are tried one by one.
pub(super) const FEW: usize = 4;
/// Entries of the lists of all segments, for each who waits, at the most: of wide ranges that lie within each other the
/// lists would take much more, and tell little.
const LISTED_EACH: usize = 64;

/// The ranges of one column, cut into segments within which the same wait.
#[derive(Debug)]
pub(super) struct Narrow {
    pub(super) column: usize,
    /// Where segments begin, ascending; the first is zero.
    begins: Vec<u64>,
    /// Where the list of each segment begins, and the end of the last.
    lists: Vec<u32>,
    listed: Vec<u32>,
    /// Those who wait for no range of the column.
    pub(super) rest: Vec<u32>,
    /// The columns that the others are judged by, and whether as numbers.
    pub(super) columns: Vec<(usize, bool)>,
}

impl Narrow {
    /// Of those who wait for one value; `None`: trying each is as good.
    pub(super) fn new(slots: &[u32], entries: &[Option<Entry>]) -> Option<Arc<Self>> {
        let ranges = |slot: u32| {
            let atoms = entries.get(slot as usize).and_then(Option::as_ref).map_or(&[][..], |entry| &entry.atoms);
            atoms.iter().filter_map(|atom| {
                if let Atom::Within { column, low, high } = atom { Some((*column, *low, *high)) } else { None }
            })
        };
        let mut columns: Vec<usize> = slots.iter().flat_map(|slot| ranges(*slot).map(|(column, ..)| column)).collect();
        columns.sort_unstable();
        let column = columns.chunk_by(|a, b| a == b).max_by_key(|alike| alike.len()).filter(|it| it.len() > FEW)?[0];
        let range = |slot: u32| ranges(slot).find(|(of, ..)| *of == column).map(|(_, low, high)| (low, high, slot));
        let known: Vec<(u64, u64, u32)> = slots.iter().filter_map(|slot| range(*slot)).collect();
        let rest = slots.iter().copied().filter(|slot| range(*slot).is_none()).collect();
        let mut begins = vec![0];
        for (low, high, _) in known.iter().filter(|(low, high, _)| low <= high) {
            begins.push(*low);
            begins.extend(high.checked_add(1));
        }
        begins.sort_unstable();
        begins.dedup();
        let (lists, listed) = lists(&begins, &known, LISTED_EACH * slots.len())?;
        let atoms = |slot: &u32| entries.get(*slot as usize).and_then(Option::as_ref).map(|entry| &entry.atoms);
        let judged = known.iter().filter_map(|(_, _, slot)| atoms(slot)).flatten();
        let mut columns: Vec<(usize, bool)> = judged.map(|atom| (atom.column(), atom.compares())).collect();
        columns.sort_unstable();
        columns.dedup();
        Some(Arc::new(Self { column, begins, lists, listed, rest, columns }))
    }

    /// Finds each row's segment, and each who waits there. `held`: room for rows in whose segments somebody waits.
    pub(super) fn pair(&self, numbers: &[u64], rows: &[u32], held: &mut Vec<u32>, mut may: impl FnMut(u32, u32)) {
        held.clear();
        held.resize(2 * rows.len(), 0);
        let mut count = 0;
        for row in rows {
            let segment = self.segment(numbers[*row as usize]);
            // Written in any case, and kept if it is of use: whether it is cannot be foreseen.
            (held[count], held[count + 1]) = (segment as u32, *row);
            count += usize::from(self.lists[segment] < self.lists[segment + 1]) * 2;
        }
        for pair in held[..count].chunks_exact(2) {
            let (segment, row) = (pair[0] as usize, pair[1]);
            let waiting = self.lists[segment] as usize..self.lists[segment + 1] as usize;
            self.listed[waiting].iter().for_each(|slot| may(*slot, row));
        }
    }

    /// The segment of a value: the last that begins before or at it. Without a branch that depends on it.
    fn segment(&self, number: u64) -> usize {
        let (mut first, mut left) = (0, self.begins.len());
        while left > 1 {
            let half = left / 2;
            first += if self.begins[first + half] <= number { half } else { 0 };
            left -= half;
        }
        first
    }
}

/// Who waits in each segment: where the list of each begins, with the end of the last, and all lists behind each other;
/// `None`: they have more than so many entries.
fn lists(begins: &[u64], known: &[(u64, u64, u32)], most: usize) -> Option<(Vec<u32>, Vec<u32>)> {
    let segments = |low: u64, high: u64| {
        let from = begins.partition_point(|begin| *begin < low);
        from..begins.partition_point(|begin| *begin <= high).max(from)
    };
    // How many more wait in a segment than in the one before, then how many do in all before it.
    let mut changes = vec![0_i64; begins.len() + 1];
    for (low, high, _) in known {
        let held = segments(*low, *high);
        changes[held.start] += 1;
        changes[held.end] -= 1;
    }
    let (mut waiting, mut total) = (0_i64, 0_i64);
    let mut lists = Vec::with_capacity(begins.len() + 1);
    for change in changes {
        lists.push(u32::try_from(total).ok()?);
        waiting += change;
        total += waiting;
    }
    if total.unsigned_abs() > most as u64 {
        return None;
    }
    let mut listed = vec![0; usize::try_from(total).ok()?];
    let mut next = lists.clone();
    for (low, high, slot) in known {
        for segment in segments(*low, *high) {
            listed[next[segment] as usize] = *slot;
            next[segment] += 1;
        }
    }
    Some((lists, listed))
}
