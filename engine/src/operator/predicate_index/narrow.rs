//! Who, of those that wait for one value, also waits for a range of another column.

use std::hint::select_unpredictable;
use std::ops::Range;

use super::Entry;
use super::predicate::Atom;
use super::texts::{is_told_by_ends, only_text};
use super::values::Columns;

/// So few who wait are tried one by one.
pub(super) const FEW: usize = 4;
/// Entries of the lists of all segments, for each who waits, at the most: of wide ranges that lie within each other the
/// lists would take much more, and tell little.
const LISTED_EACH: usize = 64;
/// Columns whose numbers are compared without a look at what is asked of them.
const TESTED: usize = 4;

/// The ranges of one column, cut into segments within which the same wait.
#[derive(Debug)]
pub(super) struct Narrow {
    column: usize,
    /// Where segments begin, ascending; the first is zero.
    begins: Vec<u64>,
    /// Where the list of each segment begins, and the end of the last.
    lists: Vec<u32>,
    /// Places in `waiting`.
    listed: Vec<u32>,
    waiting: Vec<Waiting>,
    /// So many for each who waits, so that nothing depends on how many somebody needs: a range of all numbers holds any.
    tests: Vec<Test>,
    tests_each: usize,
    /// Those who wait for no range of the column.
    pub(super) rest: Vec<u32>,
    /// The columns that the others are judged by, and whether as numbers.
    pub(super) columns: Vec<(usize, bool)>,
}

/// Who waits for a range.
#[derive(Debug)]
struct Waiting {
    slot: u32,
    /// It asks for more than ranges that are tested, and texts that are told by their ends.
    more: bool,
}

/// A range of a column, which is a place among `columns`.
#[derive(Debug, Clone, Copy)]
struct Test {
    place: u32,
    low: u64,
    /// From the least to the greatest.
    span: u64,
}

/// The numbers that candidates have in the first columns.
type Tested<'c> = [&'c [u64]; TESTED];

/// Rows, each above who waits for it.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// What is left to ask are texts, by their ends.
    pub(super) sifted: Vec<u64>,
    /// All is to be asked.
    pub(super) judged: Vec<u64>,
    held: Vec<u32>,
    tested: Vec<u64>,
}

impl Pairs {
    pub(super) fn clear(&mut self) {
        self.sifted.clear();
        self.judged.clear();
    }
}

impl Narrow {
    /// Of those who wait for one value; `None`: trying each is as good.
    pub(super) fn new(slots: &[u32], entries: &[Option<Entry>]) -> Option<Box<Self>> {
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
        let place = |atom: &Atom| columns.iter().position(|(of, _)| *of == atom.column()).filter(|at| *at < TESTED);
        let test = |atom: &Atom| match (atom, place(atom)) {
            (Atom::Within { low, high, .. }, Some(place)) if low <= high => {
                Some(Test { place: place as u32, low: *low, span: high - low })
            }
            _ => None,
        };
        // A row's segment tells all of the column by which they are told apart.
        let is_told = |atom: &&Atom| matches!(atom, Atom::Within { column: of, .. } if *of == column);
        let asked = |slot: &u32| atoms(slot).into_iter().flatten().filter(move |atom| !is_told(atom));
        let tests_each =
            known.iter().map(|(_, _, slot)| asked(slot).filter_map(test).count()).max().unwrap_or_default();
        let (mut tests, mut waiting) = (Vec::new(), Vec::new());
        for (_, _, slot) in &known {
            tests.extend(asked(slot).filter_map(test));
            let all = atoms(slot).map_or(&[][..], |atoms| atoms);
            let text = |atom: &Atom| only_text(atom, all).is_some_and(|(_, text)| is_told_by_ends(text));
            let more = asked(slot).any(|atom| test(atom).is_none() && !text(atom));
            waiting.push(Waiting { slot: *slot, more });
            tests.resize(waiting.len() * tests_each, Test { place: 0, low: 0, span: u64::MAX });
        }
        Some(Box::new(Self { column, begins, lists, listed, waiting, tests, tests_each, rest, columns }))
    }

    /// The numbers of the columns that are tested; `None`: some are null, which meets no test.
    fn tested<'c>(&self, columns: &'c Columns) -> Option<Tested<'c>> {
        let any = columns.picked(self.column);
        let mut numbers: Tested = [any; TESTED];
        for ((column, compared), numbers) in self.columns.iter().zip(&mut numbers) {
            if columns.valid(*column).is_some() {
                return None;
            }
            if *compared {
                *numbers = columns.picked(*column);
            }
        }
        Some(numbers)
    }

    /// Finds the segment of each of the candidates from one to another, and each who waits there for all that is tested.
    /// `rows`: of all candidates. What is compared is loaded.
    pub(super) fn pair(&self, columns: &Columns, rows: &[u32], candidates: Range<usize>, pairs: &mut Pairs) {
        let numbers = columns.picked(self.column);
        let Pairs { sifted, judged, held, tested: found } = pairs;
        held.clear();
        held.resize(2 * candidates.len(), 0);
        let mut count = 0;
        for at in candidates {
            let segment = self.segment(numbers[at]);
            // Written in any case, and kept if it is of use: whether it is cannot be foreseen.
            (held[count], held[count + 1]) = (segment as u32, at as u32);
            count += usize::from(self.lists[segment] < self.lists[segment + 1]) * 2;
        }
        found.clear();
        for pair in held[..count].chunks_exact(2) {
            let (segment, at) = (pair[0] as usize, pair[1]);
            let waiting = self.lists[segment] as usize..self.lists[segment + 1] as usize;
            found.extend(self.listed[waiting].iter().map(|place| u64::from(*place) << 32 | u64::from(at)));
        }
        let tested = self.tested(columns);
        if let Some(tested) = tested.as_ref().filter(|_| self.tests_each > 0) {
            let mut kept = 0;
            for pair in 0..found.len() {
                let pair = found[pair];
                let (waiting, at) = ((pair >> 32) as usize, pair as u32 as usize);
                let tests = &self.tests[waiting * self.tests_each..][..self.tests_each];
                // What lies below wraps around.
                let holds = |test: &Test| tested[test.place as usize][at].wrapping_sub(test.low) <= test.span;
                found[kept] = pair;
                kept += usize::from(tests.iter().fold(true, |all, test| all & holds(test)));
            }
            found.truncate(kept);
        }
        for pair in found {
            let (waiting, row) = (&self.waiting[(*pair >> 32) as usize], rows[*pair as u32 as usize]);
            let pairs = if waiting.more || tested.is_none() { &mut *judged } else { &mut *sifted };
            pairs.push(u64::from(row) << 32 | u64::from(waiting.slot));
        }
    }

    /// The segment of a value: the last that begins before or at it. Without a branch that depends on it.
    fn segment(&self, number: u64) -> usize {
        let (mut first, mut left) = (0, self.begins.len());
        while left > 1 {
            let half = left / 2;
            first = select_unpredictable(self.begins[first + half] <= number, first + half, first);
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
    for (at, (low, high, _)) in (0..).zip(known) {
        for segment in segments(*low, *high) {
            listed[next[segment] as usize] = at;
            next[segment] += 1;
        }
    }
    Some((lists, listed))
}
