//! Joins of rows that happened near in time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, TimestampNanosecondArray, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use squilla_query::JoinKind;

use super::pairs::{Keyed, LEFT, MatchSpec, Matcher, Pairs, RIGHT};
use super::progress::Sides;
use super::rows::Rows;
use super::told::Told;
use super::{JoinInputs, check_budget, is_left_only, later, padded, waits};
use crate::batch::{StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;
use crate::operator::{LateRows, Operator, Output, State};

/// Rows that wait are kept by time, in so many parts: a part goes as a whole.
const PARTS: i64 = 12;
/// Shortest part, in nanoseconds of event time: a second.
const MIN_PART_NS: i64 = 1_000_000_000;

/// What an [`IntervalJoin`] computes.
#[derive(Debug, Clone)]
pub struct IntervalJoinSpec {
    /// The inputs and what makes pairs.
    pub join: JoinInputs,
    /// Left event time less right event time is no less.
    pub least_ns: i64,
    /// And no more.
    pub most_ns: i64,
    /// Whether left rows, and right rows, go by a time to live: they are counted as forgotten.
    pub kept: [bool; 2],
    /// Rows before it are not wanted, and what happened less than [`IntervalJoinSpec::back_ns`] behind it is not told;
    /// [`EventTime::MIN`]: all is.
    pub start: EventTime,
}

impl IntervalJoinSpec {
    /// How far before a moment the rows lie that what happens then can need.
    pub fn back_ns(least_ns: i64, most_ns: i64) -> i64 {
        least_ns.saturating_neg().max(most_ns).max(0)
    }
}

/// Pairs rows of two inputs whose keys are equal and whose event times are near each other.
///
/// - Schema: physical batches of both inputs in; out come the left's fields, the right's (neither of semi and anti
///   joins) and the hidden columns, in one partition. A pair's event time is the later of its rows', that of a row
///   without a partner its own. Pairs come at once, in no order of event time.
/// - Watermark: rows are late by their own stream's watermark. A row waits until the other input's watermark says that
///   no partner can come; if none came it is told then, where the kind of join wants it. The output's watermark is the
///   least of both inputs', and of the event times of rows that wait to be told.
/// - State: the rows that wait, columns with a hash index, by event time; bounded by the interval and by the budget,
///   beyond which the query ends with [`EngineError::StateBudget`]. So it does when one batch makes more pairs than that.
/// - Errors: a row whose key fails is set aside and counted `failed`. A pair on which the condition fails is none: both
///   rows go on looking, an outer join tells one that finds no other with nulls, an anti join tells it. Each such pair is
///   counted once in `pairs_failed`, apart from the rows.
/// - Example: `a.ts BETWEEN b.ts AND b.ts + INTERVAL '5' SECOND` pairs a at 00:07 with b at 00:02 and 00:05.
///
/// The symmetric hash join of Wilschut and Apers, "Dataflow query execution in a parallel main-memory environment"
/// (PDIS 1991), with the eviction of Kang, Naughton and Viglas, "Evaluating window joins over unbounded streams"
/// (ICDE 2003).
pub struct IntervalJoin {
    kind: JoinKind,
    reach: Reach,
    matcher: Matcher,
    sides: Sides,
    stores: [Store; 2],
    told: Told,
    /// Rows before it are not wanted.
    start: i64,
    /// What happened before it is not told.
    told_from: i64,
    kept: [bool; 2],
    limit_bytes: usize,
    arrival: EventTime,
    keeps_late: bool,
    counters: Arc<Counters>,
}

/// How far the event times of partners may be apart.
#[derive(Clone, Copy)]
struct Reach {
    least: i64,
    most: i64,
}

/// The rows of one side that wait, by the part of event time that they are in.
struct Store {
    width: i64,
    parts: BTreeMap<i64, Rows>,
}

impl IntervalJoin {
    /// A join that counts in `counters` whatever becomes of a row, but not the rows in.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it cannot be computed.
    pub fn new(spec: IntervalJoinSpec, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let IntervalJoinSpec { join, least_ns: least, most_ns: most, kept, start } = spec;
        let matcher = Matcher::new(&MatchSpec {
            inputs: [&join.inputs[LEFT], &join.inputs[RIGHT]],
            fields: [&join.fields[LEFT], &join.fields[RIGHT]],
            on: &join.on,
            filter: join.filter.as_ref(),
            more: [&[], &[]],
        })?;
        let width = (most.saturating_sub(least) / PARTS).max(MIN_PART_NS);
        let store = || Store { width, parts: BTreeMap::new() };
        let back = IntervalJoinSpec::back_ns(least, most);
        Ok(Self {
            kind: join.kind,
            reach: Reach { least, most },
            matcher,
            sides: Sides::new(&join.right),
            stores: [store(), store()],
            told: Told::new(physical_schema(&join.schema), Arc::clone(&counters)),
            start: start.0,
            kept,
            told_from: if start == EventTime::MIN { i64::MIN } else { start.plus(back).0 },
            limit_bytes: join.state_limit_bytes,
            arrival: EventTime::MIN,
            keeps_late: false,
            counters,
        })
    }

    /// Takes rows of a side in: tells their pairs, and keeps those that wait for more.
    fn absorb(&mut self, side: usize, batch: &StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let mut tardy = Vec::new();
        let kept = self.sides.judge(side, batch, self.start, &mut tardy, &self.counters);
        if self.keeps_late {
            let told_at = self.sides.watermark(side);
            output.late.extend(LateRows::pick(&batch.rows, batch.partition, &tardy, told_at)?);
        }
        let rows = match kept {
            Some(keep) => filter_record_batch(&batch.rows, &keep)?,
            None => batch.rows.clone(),
        };
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let keyed = self.matcher.read(side, &rows, batch.arrival, &self.counters)?;
        add(&self.counters.absorbed, keyed.rows.num_rows());
        let keyed = self.without_strangers(side, keyed, output)?;
        let mut matched = vec![false; keyed.rows.num_rows()];
        self.pair(side, &keyed, &mut matched, output)?;
        if self.kind == JoinKind::Semi && side == LEFT {
            self.tell_probes(&keyed, &BooleanArray::from(matched.clone()), output)?;
        }
        self.keep(side, keyed, matched, output)
    }

    /// The rows that can have partners; the others are told now, where rows without a partner are.
    fn without_strangers(&mut self, side: usize, keyed: Keyed, output: &mut Output) -> Result<Keyed, EngineError> {
        if waits(self.kind, side)
            && self.kind != JoinKind::Semi
            && let Some(strangers) = keyed.strangers()?
        {
            let own = strangers.fields(self.matcher.width(side));
            self.tell_alone(side, own, strangers.times(), output)?;
        }
        keyed.friends()
    }

    /// Tells the pairs that rows make with those that wait on the other side.
    fn pair(
        &mut self,
        side: usize,
        keyed: &Keyed,
        matched: &mut [bool],
        output: &mut Output,
    ) -> Result<(), EngineError> {
        let Self { matcher, stores, told, counters, kind, reach, told_from, limit_bytes, .. } = self;
        let (kind, reach, told_from) = (*kind, *reach, *told_from);
        let within = |own: i64, other: i64| reach.holds(side, own, other);
        let times = keyed.times();
        let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else { return Ok(()) };
        let arrival = self.arrival;
        for rows in stores[1 - side].around(reach.partners(side, *first, *last)) {
            let mut settled: Vec<u32> = Vec::new();
            let looks_for = (arrival, counters.as_ref());
            matcher.find(side, keyed, rows, within, looks_for, &mut |pairs: Pairs| {
                pairs.probe.iter().for_each(|row| matched[*row as usize] = true);
                if waits(kind, 1 - side) {
                    settled.extend(&pairs.found);
                }
                if is_left_only(kind) {
                    return Ok(());
                }
                let own: Vec<i64> = pairs.probe.iter().map(|row| times[*row as usize]).collect();
                let other: Vec<i64> = pairs.found.iter().map(|row| rows.time(*row)).collect();
                let columns = matcher.columns(side, keyed, rows, &pairs)?;
                tell(told, columns, later(&own, &other), told_from, arrival, output)?;
                check_budget(told.step_bytes(), *limit_bytes)
            })?;
            settled.retain(|row| rows.settle(*row));
            if kind == JoinKind::Semi && !settled.is_empty() {
                let times = settled.iter().map(|row| rows.time(*row));
                let times: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter_values(times));
                tell(told, rows.take(0..matcher.width(LEFT), &settled)?, times, told_from, arrival, output)?;
            }
        }
        Ok(())
    }

    /// Keeps rows that may still find a partner.
    fn keep(&mut self, side: usize, keyed: Keyed, matched: Vec<bool>, output: &mut Output) -> Result<(), EngineError> {
        let gone = self.reach.cut(side, self.sides.watermark(1 - side));
        // Rows that need no more partners go, unless a condition may fail on those to come: each such pair is counted,
        // whichever side came first.
        let enough = is_left_only(self.kind) && side == LEFT && !self.matcher.has_condition();
        let done = |time: &i64, matched: &bool| *time < gone || gone == i64::MAX || enough && *matched;
        if self.kept[side] {
            let before = self.reach.cut(side, self.sides.last_watermark(1 - side));
            let paired = |matched: &bool| is_left_only(self.kind) && side == LEFT && *matched;
            let passed =
                keyed.times().iter().zip(&matched).filter(|(time, matched)| **time < before && !paired(matched));
            add(&self.counters.forgotten, passed.count());
        }
        let stay: Vec<bool> = keyed.times().iter().zip(&matched).map(|(time, matched)| !done(time, matched)).collect();
        let waits = waits(self.kind, side);
        if stay.contains(&false) {
            if waits && self.kind != JoinKind::Semi {
                let alone: BooleanArray =
                    stay.iter().zip(&matched).map(|(stay, matched)| Some(!stay && !matched)).collect();
                let alone = keyed.filter(&alone)?;
                self.tell_alone(side, alone.fields(self.matcher.width(side)), alone.times(), output)?;
            }
            let mut left = stay.iter();
            let matched: Vec<bool> = matched.into_iter().filter(|_| *left.next().unwrap_or(&false)).collect();
            let keyed = keyed.filter(&BooleanArray::from(stay))?;
            return self.stores[side].push(&keyed, &settled(waits, matched));
        }
        self.stores[side].push(&keyed, &settled(waits, matched))
    }

    /// Tells rows that looked for partners by themselves.
    fn tell_probes(&mut self, keyed: &Keyed, which: &BooleanArray, output: &mut Output) -> Result<(), EngineError> {
        let keyed = keyed.filter(which)?;
        let columns = keyed.fields(self.matcher.width(LEFT));
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(keyed.times().to_vec()));
        tell(&mut self.told, columns, times, self.told_from, self.arrival, output)
    }

    /// Tells rows of a side without a partner.
    fn tell_alone(
        &mut self,
        side: usize,
        own: Vec<ArrayRef>,
        times: &[i64],
        output: &mut Output,
    ) -> Result<(), EngineError> {
        let columns = padded(&self.matcher, self.kind, side, own, times.len());
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(times.to_vec()));
        tell(&mut self.told, columns, times, self.told_from, self.arrival, output)
    }

    /// Lets rows go that no partner can come for any more.
    fn give_up(&mut self, side: usize, output: &mut Output) -> Result<(), EngineError> {
        let cut = self.reach.cut(side, self.sides.watermark(1 - side));
        let tells = waits(self.kind, side) && self.kind != JoinKind::Semi;
        let passed = self.reach.cut(side, self.sides.last_watermark(1 - side));
        let parts: Vec<i64> = self.stores[side].parts.keys().copied().collect();
        for part in parts {
            if part.saturating_mul(self.stores[side].width) >= cut && cut != i64::MAX {
                break;
            }
            let Some(rows) = self.stores[side].parts.get_mut(&part) else { continue };
            let goes = rows.latest() < cut || cut == i64::MAX;
            if goes && self.kept[side] {
                add(&self.counters.forgotten, rows.count_before(passed, is_left_only(self.kind) && side == LEFT));
            }
            let alone = rows.give_up(cut);
            let own = if tells { rows.take(0..self.matcher.width(side), &alone)? } else { Vec::new() };
            let times: Vec<i64> = alone.iter().map(|row| rows.time(*row)).collect();
            if goes {
                self.stores[side].parts.remove(&part);
            }
            if tells && !times.is_empty() {
                self.tell_alone(side, own, &times, output)?;
            }
        }
        Ok(())
    }

    fn advance(&mut self, from: usize, output: &mut Output) -> Result<(), EngineError> {
        self.give_up(LEFT, output)?;
        self.give_up(RIGHT, output)?;
        let reached = if is_left_only(self.kind) { self.sides.watermark(LEFT) } else { self.sides.least() };
        let waiting = |side: usize| if waits(self.kind, side) { self.stores[side].pending_from() } else { i64::MAX };
        let watermark = reached.min(waiting(LEFT)).min(waiting(RIGHT));
        self.told.advance(watermark, self.sides.is_idle(), self.arrival, from, output);
        check_budget(self.state_bytes(), self.limit_bytes)
    }
}

impl Reach {
    /// Whether rows of these times, one of `side` and one of the other, can be partners.
    fn holds(self, side: usize, own: i64, other: i64) -> bool {
        let difference = if side == LEFT { own.saturating_sub(other) } else { other.saturating_sub(own) };
        (self.least..=self.most).contains(&difference)
    }

    /// The times of the partners of rows of a side from `first` to `last`.
    fn partners(self, side: usize, first: i64, last: i64) -> (i64, i64) {
        if side == LEFT {
            (first.saturating_sub(self.most), last.saturating_sub(self.least))
        } else {
            (first.saturating_add(self.least), last.saturating_add(self.most))
        }
    }

    /// The time before which rows of a side find no partner any more, once the other side is at `watermark`.
    fn cut(self, side: usize, watermark: i64) -> i64 {
        if watermark == i64::MIN || watermark == i64::MAX {
            return watermark;
        }
        if side == LEFT { watermark.saturating_add(self.least) } else { watermark.saturating_sub(self.most) }
    }
}

impl Store {
    fn push(&mut self, keyed: &Keyed, settled: &[bool]) -> Result<(), EngineError> {
        let mut parts: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, time) in (0u32..).zip(keyed.times()) {
            parts.entry(time.div_euclid(self.width)).or_default().push(row);
        }
        let all = parts.len() == 1;
        for (part, picked) in parts {
            let rows = self.parts.entry(part).or_insert_with(Rows::new);
            if all {
                rows.push(keyed.rows.clone(), &keyed.hashes, keyed.times(), settled)?;
                continue;
            }
            let pick = |row: &u32| *row as usize;
            let hashes: Vec<u64> = picked.iter().map(|row| keyed.hashes[pick(row)]).collect();
            let times: Vec<i64> = picked.iter().map(|row| keyed.times()[pick(row)]).collect();
            let settled: Vec<bool> = picked.iter().map(|row| settled[pick(row)]).collect();
            rows.push(take_record_batch(&keyed.rows, &UInt32Array::from(picked))?, &hashes, &times, &settled)?;
        }
        Ok(())
    }

    /// The parts that hold times of this range.
    fn around(&mut self, (first, last): (i64, i64)) -> impl Iterator<Item = &mut Rows> {
        let range = first.div_euclid(self.width)..=last.div_euclid(self.width).max(first.div_euclid(self.width));
        self.parts.range_mut(range).map(|(_, rows)| rows)
    }

    fn pending_from(&self) -> i64 {
        self.parts.values().map(Rows::pending_from).min().unwrap_or(i64::MAX)
    }

    fn bytes(&self) -> usize {
        self.parts.values().map(Rows::bytes).sum()
    }
}

/// Which of the rows of a side wait for nothing but further partners.
fn settled(waits: bool, matched: Vec<bool>) -> Vec<bool> {
    if waits { matched } else { vec![true; matched.len()] }
}

/// Tells rows that did not happen before `from`.
fn tell(
    told: &mut Told,
    columns: Vec<ArrayRef>,
    times: ArrayRef,
    from: i64,
    arrival: EventTime,
    output: &mut Output,
) -> Result<(), EngineError> {
    use arrow::array::AsArray;
    let values = times.as_primitive::<arrow::datatypes::TimestampNanosecondType>().values();
    if values.iter().all(|time| *time >= from) {
        return told.rows(columns, times, arrival, output);
    }
    let keep: BooleanArray = values.iter().map(|time| Some(*time >= from)).collect();
    let columns = super::super::expression::filter_columns(&columns, &keep)?;
    told.rows(columns, arrow::compute::filter(&times, &keep)?, arrival, output)
}

impl Operator for IntervalJoin {
    fn schema(&self) -> &SchemaRef {
        self.told.schema()
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let (side, from) = (self.sides.side(batch.partition)?, output.rows.len());
        self.arrival = batch.arrival;
        self.absorb(side, &batch, output)?;
        self.sides.advance(&batch)?;
        self.advance(from, output)
    }

    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        let from = output.rows.len();
        self.sides.end(partition)?;
        self.advance(from, output)
    }

    fn track_late(&mut self, on: bool) {
        self.keeps_late = on;
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        state.put(&(self.start, self.told_from, self.arrival))?;
        self.sides.save(state)?;
        self.told.save(state)?;
        for store in &self.stores {
            state.put(&store.parts.keys().collect::<Vec<_>>())?;
            store.parts.values().try_for_each(|rows| rows.save(state))?;
        }
        Ok(())
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        (self.start, self.told_from, self.arrival) = state.take()?;
        self.sides.restore(state)?;
        self.told.restore(state)?;
        for (side, store) in self.stores.iter_mut().enumerate() {
            for part in state.take::<Vec<i64>>()? {
                store.parts.insert(part, Rows::restored(side, &self.matcher, state)?);
            }
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.stores.iter().map(Store::bytes).sum()
    }
}
