//! An index of predicates: which rows of a batch meet which of thousands of conditions, without trying each.
//!
//! Every predicate is a conjunction of atoms: comparisons of a column with constants. One atom is *looked up*: an equality
//! (or a list of values) by a hash table from the column's values to those who wait for them, one probe a row behind a
//! sieve of bits that lets go of most rows (values that lie near to each other have bits and places of their own instead);
//! those who wait for one value are told apart by ranges of a second column: by a bit for each cell of it, which lets
//! go of rows in that same loop, then by segments, so that one search tells whose range holds a row's value; else a
//! range, by two searches in the column's sorted values. The others are judged on the rows found so, column by column;
//! what is no atom by expressions that equal conditions share. All is as if each predicate had been evaluated on each
//! row: comparisons are DataFusion's (NaN equals NaN, and is greater than all else), and a null meets no comparison.
//! Predicates that could fail on a row never come here.
//!
//! It follows F. Fabret et al., "Filtering Algorithms and Implementation for Very Fast Publish/Subscribe Systems" (2001).

mod cells;
mod equal;
mod narrow;
mod predicate;
mod range;
mod texts;
mod values;
mod waits;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Weak};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef};

use crate::clock::EventTime;
use crate::error::EngineError;

use cells::{Bits, Scale};
use equal::{Bucket, Equal, Found};
use narrow::{Narrow, Pairs};
pub(crate) use predicate::Predicate;
use predicate::{Atom, Others};
use range::{Ranges, Sorted};
use texts::{Texts, only_text};
use values::{Columns, mark, signed, texts, valid};
use waits::{Waits, WaitsIn};

/// Candidates that can be tried for what it costs to find a text.
const TEXT_COST: usize = 16;

/// Predicates over rows of one schema, each under a number that its owner gave it.
pub(crate) struct PredicateIndex {
    input: SchemaRef,
    entries: Vec<Option<Entry>>,
    numbers: BTreeMap<usize, Equal<u64>>,
    texts: BTreeMap<usize, Equal<Box<str>>>,
    ranges: BTreeMap<usize, Ranges>,
    /// What candidates are asked of columns of texts.
    asked: BTreeMap<usize, Texts>,
    /// Conditions that are no atoms, by what they say.
    others: HashMap<String, Weak<Others>>,
    /// Nobody came or went since [`PredicateIndex::settle`].
    settled: bool,
}

/// Room for the search of a batch, kept for the next one. Whoever searches has one of its own.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    columns: Columns,
    found: Found,
    sorted: Sorted,
    pairs: Pairs,
    /// Where texts begin.
    begins: Vec<u32>,
}

/// Buckets by numbers.
type Places = datafusion_common::HashMap<u64, u32>;

/// One predicate.
struct Entry {
    /// How its candidates are found; `None`: no row meets it.
    access: Option<Atom>,
    atoms: Box<[Atom]>,
    others: Box<[Arc<Others>]>,
}

/// Which rows meet which predicates.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    rows: Vec<u32>,
    runs: Vec<(u32, Range<usize>)>,
}

impl Matches {
    /// Numbers of predicates, ascending, with the rows that meet each, ascending; those that none meets are left out.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &[u32])> {
        self.runs.iter().map(|(slot, run)| (*slot, &self.rows[run.clone()]))
    }

    /// How many rows meet predicates, each counted for every predicate that it meets, and how many predicates are met.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.runs.iter().map(|(_, run)| run.len()).sum(), self.runs.len())
    }

    /// Rows from several lookups of one predicate come to lie behind each other.
    fn settle(&mut self) {
        self.runs.sort_unstable_by_key(|(slot, run)| (*slot, run.start));
        let several = self.runs.windows(2).any(|pair| pair[0].0 == pair[1].0);
        if !several {
            return;
        }
        let mut settled: Vec<(u32, Range<usize>)> = Vec::with_capacity(self.runs.len());
        for group in std::mem::take(&mut self.runs).chunk_by(|a, b| a.0 == b.0) {
            if let [only] = group {
                settled.push(only.clone());
                continue;
            }
            let from = self.rows.len();
            for (_, run) in group {
                self.rows.extend_from_within(run.clone());
            }
            self.rows[from..].sort_unstable();
            settled.push((group[0].0, from..self.rows.len()));
        }
        self.runs = settled;
    }
}

impl PredicateIndex {
    /// An empty index for physical batches of schema `input`.
    pub(crate) fn new(input: &SchemaRef) -> Self {
        Self {
            input: input.clone(),
            entries: Vec::new(),
            numbers: BTreeMap::new(),
            texts: BTreeMap::new(),
            ranges: BTreeMap::new(),
            asked: BTreeMap::new(),
            others: HashMap::new(),
            settled: true,
        }
    }

    /// Adds a predicate under a number that no other has.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when one of its conditions cannot be computed.
    pub(crate) fn add(&mut self, slot: u32, predicate: Predicate) -> Result<(), EngineError> {
        let others = predicate.others.iter().map(|condition| self.other(condition));
        let others = others.collect::<Result<Box<[_]>, _>>()?;
        self.settled = false;
        let empty = predicate.is_empty();
        let mut atoms = predicate.atoms;
        let best = (0..atoms.len()).min_by_key(|at| self.cost(&atoms[*at]));
        let access = best.filter(|_| !empty).map(|at| atoms.swap_remove(at));
        atoms.sort_by_key(Atom::rank);
        let more = !atoms.is_empty() || !others.is_empty();
        if let Some(access) = &access {
            match access {
                Atom::Within { column, low, high } if low == high => {
                    self.numbers.entry(*column).or_default().add(low, slot, more);
                }
                Atom::Within { column, low, high } => self.ranges.entry(*column).or_default().add(*low, *high, slot),
                Atom::Numbers { column, values } => {
                    let waiting = self.numbers.entry(*column).or_default();
                    values.iter().for_each(|value| waiting.add(value, slot, more));
                }
                Atom::Texts { column, values } => {
                    let waiting = self.texts.entry(*column).or_default();
                    values.iter().for_each(|value| waiting.add(value, slot, more));
                }
                Atom::Null { .. } => {}
            }
        }
        let at = slot as usize;
        if self.entries.len() <= at {
            self.entries.resize_with(at + 1, || None);
        }
        for (column, text) in atoms.iter().filter_map(|atom| only_text(atom, &atoms)) {
            self.asked.entry(column).or_default().set(slot, Some(text));
        }
        self.entries[at] = Some(Entry { access, atoms: atoms.into(), others });
        Ok(())
    }

    /// Takes a predicate out.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(entry) = self.entries.get_mut(slot as usize).and_then(Option::take) else { return };
        self.settled = false;
        for (column, _) in entry.atoms.iter().filter_map(|atom| only_text(atom, &entry.atoms)) {
            self.asked.entry(column).or_default().set(slot, None);
        }
        self.asked.retain(|_, texts| !texts.is_empty());
        match &entry.access {
            Some(Atom::Within { column, low, high }) if low == high => {
                drop_from(&mut self.numbers, *column, std::slice::from_ref(low), slot);
            }
            Some(Atom::Within { column, .. }) => {
                if let Some(ranges) = self.ranges.get_mut(column) {
                    ranges.remove(slot);
                    if ranges.is_empty() {
                        self.ranges.remove(column);
                    }
                }
            }
            Some(Atom::Numbers { column, values }) => drop_from(&mut self.numbers, *column, values, slot),
            Some(Atom::Texts { column, values }) => drop_from(&mut self.texts, *column, values, slot),
            Some(Atom::Null { .. }) | None => {}
        }
        if !entry.others.is_empty() {
            drop(entry);
            self.others.retain(|_, condition| condition.strong_count() > 0);
        }
    }

    /// How many candidates an atom may find, compared with others: those for whose values fewer wait come first.
    fn cost(&self, atom: &Atom) -> usize {
        match atom {
            Atom::Within { column, low, high } if low == high => {
                self.numbers.get(column).map_or(0, |waiting| waiting.waiting(low))
            }
            Atom::Numbers { column, values } => {
                let waiting = self.numbers.get(column);
                values.iter().map(|value| waiting.map_or(0, |waiting| waiting.waiting(value)) + 1).sum()
            }
            Atom::Texts { column, values } => {
                let waiting = self.texts.get(column);
                // Looking at each row's text costs as much as trying some of those who wait for a number.
                values.iter().map(|value| 2 * waiting.map_or(0, |waiting| waiting.waiting(value)) + TEXT_COST).sum()
            }
            // The narrower the better, of what is worse than any equality.
            Atom::Within { low, high, .. } => usize::MAX / 2 + (high.saturating_sub(*low) >> 2) as usize,
            Atom::Null { .. } => usize::MAX,
        }
    }

    fn other(&mut self, condition: &datafusion_expr::Expr) -> Result<Arc<Others>, EngineError> {
        let says = format!("{condition:?}");
        if let Some(known) = self.others.get(&says).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let made = Arc::new(Others::new(&self.input, condition)?);
        self.others.insert(says, Arc::downgrade(&made));
        Ok(made)
    }

    /// Takes in who came and went, before batches are searched.
    pub(crate) fn settle(&mut self) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let Self { input, entries, numbers, texts, .. } = self;
        let is_real = |column: usize| *input.field(column).data_type() == DataType::Float64;
        numbers.values_mut().for_each(|waiting| waiting.settle_cells(entries, is_real));
        texts.values_mut().for_each(|waiting| waiting.settle_cells(entries, is_real));
    }

    /// Finds the rows of a batch that meet each predicate. The index has been settled.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(crate) fn find(
        &self,
        rows: &RecordBatch,
        arrival: EventTime,
        scratch: &mut Scratch,
        matches: &mut Matches,
    ) -> Result<(), EngineError> {
        debug_assert!(self.settled, "somebody may be missed");
        matches.rows.clear();
        matches.runs.clear();
        let Self { entries, numbers, texts: by_text, ranges, asked, .. } = self;
        let Scratch { columns, found, sorted, pairs, begins } = scratch;
        columns.begin(rows);
        pairs.clear();
        let mut judge = Judge { rows, arrival, entries, asked, matches, pairs, begins };
        for (column, waiting) in numbers {
            prepare(waiting, rows, columns)?;
            // The commonest as they lie, without a copy of all.
            if let Some(values) = rows.column(*column).as_primitive_opt::<Int64Type>() {
                let values: &[i64] = values.values();
                let number = |row: usize| signed(values[row]);
                let place = |places: &Places, row: u32| places.get(&number(row as usize)).copied();
                search(waiting, (rows, *column), columns, number, place, found);
            } else {
                load(rows, columns, *column)?;
                let values = columns.numbers(*column);
                let place = |places: &Places, row: u32| places.get(&values[row as usize]).copied();
                search(waiting, (rows, *column), columns, |row| values[row], place, found);
            }
            columns.forget_picked();
            waiting.tell(found, |bucket, candidates| judge.all(bucket, (found, candidates), columns))?;
        }
        for (column, waiting) in by_text {
            prepare(waiting, rows, columns)?;
            let values = texts(rows, *column).ok_or_else(|| unread(rows, *column))?;
            let number = |row: usize| mark(values.value(row));
            let place = |places: &datafusion_common::HashMap<Box<str>, u32>, row: u32| {
                places.get(values.value(row as usize)).copied()
            };
            search(waiting, (rows, *column), columns, number, place, found);
            columns.forget_picked();
            waiting.tell(found, |bucket, candidates| judge.all(bucket, (found, candidates), columns))?;
        }
        for (column, waiting) in ranges {
            load(rows, columns, *column)?;
            waiting.sort(columns.numbers(*column), valid(rows, *column).as_ref(), sorted);
            for (slot, candidates) in waiting.found(sorted) {
                judge.one(slot, &candidates, columns)?;
            }
        }
        judge.rest(columns)?;
        matches.settle();
        Ok(())
    }
}

fn drop_from<K: equal::Value>(waiting: &mut BTreeMap<usize, Equal<K>>, column: usize, values: &[K], slot: u32) {
    let Some(known) = waiting.get_mut(&column) else { return };
    values.iter().for_each(|value| known.remove(value, slot));
    if known.is_empty() {
        waiting.remove(&column);
    }
}

/// Brings the second column by which those who wait are told apart into its form.
fn prepare<K: equal::Value>(waiting: &Equal<K>, rows: &RecordBatch, columns: &mut Columns) -> Result<(), EngineError> {
    match waiting.cells() {
        Some(Bits { scale: Scale::Whole(_), column, .. }) => load(rows, columns, *column),
        _ => Ok(()),
    }
}

/// Finds the rows for which somebody waits by the values of a column, but for those of which a second column tells that
/// nobody does.
fn search<K: equal::Value>(
    waiting: &Equal<K>,
    (rows, column): (&RecordBatch, usize),
    columns: &Columns,
    number: impl Fn(usize) -> u64,
    place: impl Fn(&datafusion_common::HashMap<K, u32>, u32) -> Option<u32>,
    found: &mut Found,
) {
    let valid = valid(rows, column);
    let all = (rows.num_rows(), valid.as_ref());
    let Some(cells) = waiting.cells() else { return waiting.find(all, number, place, &Waits, found) };
    match (cells.scale, rows.column(cells.column).as_primitive_opt::<Float64Type>()) {
        (Scale::Real(scale), Some(values)) => {
            let cell = |value: f64| scale.cell(value);
            let may = WaitsIn { cells, values: values.values(), cell };
            waiting.find(all, number, place, &may, found);
        }
        (Scale::Whole(scale), _) => {
            let cell = |number: u64| scale.cell(number);
            let may = WaitsIn { cells, values: columns.numbers(cells.column), cell };
            waiting.find(all, number, place, &may, found);
        }
        (Scale::Real(_), None) => waiting.find(all, number, place, &Waits, found),
    }
}

fn load(rows: &RecordBatch, columns: &mut Columns, column: usize) -> Result<(), EngineError> {
    if columns.load(rows, column) { Ok(()) } else { Err(unread(rows, column)) }
}

fn unread(rows: &RecordBatch, column: usize) -> EngineError {
    EngineError::Internal(format!("column \"{}\" is not read", rows.schema().field(column).name()).into())
}

/// Judges candidates by what was not looked up.
struct Judge<'a> {
    rows: &'a RecordBatch,
    arrival: EventTime,
    entries: &'a [Option<Entry>],
    asked: &'a BTreeMap<usize, Texts>,
    matches: &'a mut Matches,
    pairs: &'a mut Pairs,
    begins: &'a mut Vec<u32>,
}

impl Judge<'_> {
    /// Judges rows that have a value, which are among candidates. Those who wait for it together with many others come to
    /// be judged by [`Judge::rest`].
    fn all(
        &mut self,
        bucket: &Bucket,
        (found, candidates): (&Found, Range<usize>),
        columns: &mut Columns,
    ) -> Result<(), EngineError> {
        let Bucket { slots, alone, narrow } = bucket;
        let rows = &found.rows[candidates.clone()];
        if let Some(slot) = alone {
            let Matches { rows: met, runs } = &mut *self.matches;
            runs.push((*slot, met.len()..met.len() + rows.len()));
            met.extend_from_slice(rows);
            return Ok(());
        }
        if slots.len() <= narrow::FEW {
            return slots.iter().try_for_each(|slot| self.one(*slot, rows, columns));
        }
        let Some(narrow) = narrow.get_or_init(|| Narrow::new(slots, self.entries)) else {
            return slots.iter().try_for_each(|slot| self.one(*slot, rows, columns));
        };
        for (column, compared) in &narrow.columns {
            columns.see(self.rows, *column);
            if *compared && !columns.load_picked(self.rows, *column, found.picked()) {
                return Err(unread(self.rows, *column));
            }
        }
        narrow.pair(columns, &found.rows, candidates, self.pairs);
        narrow.rest.iter().try_for_each(|slot| self.one(*slot, rows, columns))
    }

    /// Judges those that have been put aside, of all values at once: waiting for what is not near takes most of the time.
    fn rest(&mut self, columns: &mut Columns) -> Result<(), EngineError> {
        let Pairs { sifted, judged, .. } = &mut *self.pairs;
        if !self.asked.is_empty() {
            sifted.sort_unstable();
            judged.sort_unstable();
        }
        for (column, asked) in self.asked {
            if sifted.is_empty() && judged.is_empty() {
                return Ok(());
            }
            let texts = texts(self.rows, *column).ok_or_else(|| unread(self.rows, *column))?;
            columns.see(self.rows, *column);
            asked.sift(texts, sifted, self.begins);
            asked.sift(texts, judged, self.begins);
            if columns.valid(*column).is_some() {
                // A null has the ends of an empty text.
                judged.append(sifted);
            }
        }
        for pair in judged.drain(..) {
            let (row, slot) = ((pair >> 32) as u32, pair as u32 as usize);
            let Some(entry) = self.entries.get(slot).and_then(Option::as_ref) else { continue };
            entry.atoms.iter().try_for_each(|atom| atom.load(self.rows, columns))?;
            // Ranges, which come first, most often are tested.
            if entry.atoms.iter().rev().all(|atom| atom.holds(self.rows, columns, row)) {
                sifted.push(pair);
            }
        }
        sifted.iter_mut().for_each(|pair| *pair = pair.rotate_left(32));
        sifted.sort_unstable();
        let pairs = std::mem::take(sifted);
        for alike in pairs.chunk_by(|a, b| a >> 32 == b >> 32) {
            let from = self.matches.rows.len();
            self.matches.rows.extend(alike.iter().map(|pair| *pair as u32));
            self.meets((alike[0] >> 32) as u32, from)?;
        }
        self.pairs.sifted = pairs;
        Ok(())
    }

    /// Notes the rows from a place on, which meet the atoms of a predicate and come to be judged by the rest of it.
    fn meets(&mut self, slot: u32, from: usize) -> Result<(), EngineError> {
        let Matches { rows: found, runs } = &mut *self.matches;
        let entry = self.entries.get(slot as usize).and_then(Option::as_ref);
        for condition in entry.map_or(&[][..], |entry| &entry.others) {
            if found.len() == from {
                return Ok(());
            }
            condition.retain(self.rows, self.arrival, found, from)?;
        }
        if found.len() > from {
            if !found[from..].is_sorted() {
                found[from..].sort_unstable();
            }
            runs.push((slot, from..found.len()));
        }
        Ok(())
    }

    fn one(&mut self, slot: u32, candidates: &[u32], columns: &mut Columns) -> Result<(), EngineError> {
        let Some(entry) = self.entries.get(slot as usize).and_then(Option::as_ref) else { return Ok(()) };
        let found = &mut self.matches.rows;
        let from = found.len();
        let rest = match entry.atoms.split_first() {
            Some((first, rest)) => {
                first.load(self.rows, columns)?;
                first.pick(self.rows, columns, candidates, found);
                rest
            }
            None => {
                found.extend_from_slice(candidates);
                &[]
            }
        };
        for atom in rest {
            if found.len() == from {
                return Ok(());
            }
            atom.load(self.rows, columns)?;
            atom.retain(self.rows, columns, found, from);
        }
        self.meets(slot, from)
    }
}
