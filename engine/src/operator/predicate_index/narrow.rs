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
        let (mut lists, mut listed) = (vec![0], Vec::new());
        for begin in &begins {
            let waits = known.iter().filter(|(low, high, _)| (low..=high).contains(&begin));
            listed.extend(waits.map(|(_, _, slot)| *slot));
            if listed.len() > LISTED_EACH * slots.len() {
                return None;
            }
            lists.push(u32::try_from(listed.len()).ok()?);
        }
        Some(Arc::new(Self { column, begins, lists, listed, rest }))
    }

    /// Puts each row with each who may wait for its value, as pairs (who waits, then the row).
    pub(super) fn pair(&self, numbers: &[u64], rows: &[u32], pairs: &mut Vec<u64>) {
        for row in rows {
            let number = numbers[*row as usize];
            let segment = self.begins.partition_point(|begin| *begin <= number) - 1;
            let (from, until) = (self.lists[segment] as usize, self.lists[segment + 1] as usize);
            pairs.extend(self.listed[from..until].iter().map(|slot| u64::from(*slot) << 32 | u64::from(*row)));
        }
    }
}
