//! Joins of rows of one window.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use datafusion_common::Column;
use datafusion_expr::Expr;
use squilla_query::JoinKind;

use super::pairs::{LEFT, MatchSpec, Matcher, RIGHT};
use super::progress::Sides;
use super::rows::{PIECE_ROWS, Rows, bytes};
use super::told::Told;
use super::{JoinInputs, check_budget, is_left_only, padded, waits};
use crate::batch::{StreamBatch, WATERMARK, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;
use crate::operator::placement::closed_until;
use crate::operator::{LateRows, Operator, Output, RESULT_LAG_NS, State};

/// What a [`WindowJoin`] computes.
#[derive(Debug, Clone)]
pub struct WindowJoinSpec {
    /// The inputs and what makes pairs.
    pub join: JoinInputs,
    /// The end of a row's window, of the left and of the right input.
    pub ends: [Expr; 2],
    /// How long after its end a window still takes rows, in nanoseconds of event time.
    pub grace_ns: i64,
    /// Windows that end then or before are not told; [`EventTime::MIN`]: all are.
    pub told_from: EventTime,
}

/// Pairs rows of two inputs that are in windows that end together, when these close.
///
/// - Schema: physical batches of both inputs in; out come the left's fields, the right's (neither of semi and anti
///   joins) and the hidden columns, in one partition, in order of window end. The event time of all is the window's end
///   less a millisecond.
/// - Watermark: a window closes once both inputs' watermarks have reached its end and the grace. A row is late when the watermark
///   that the rows before it in its partition imply has. The output's watermark is the least end still possible less a
///   millisecond.
/// - State: the rows of open windows; bounded by the budget, beyond which the query ends with
///   [`EngineError::StateBudget`]. So it does when one step makes more pairs than that.
/// - Errors: as the interval join's: a row whose key fails is set aside and counted `failed`, a pair on which the
///   condition fails is none and counted in `pairs_failed`.
/// - Example: people who registered and sellers who opened an auction in the same ten seconds.
///
/// Windows as disjoint relations: section 3 of Krämer and Seeger, "Semantics and implementation of continuous sliding
/// window queries over data streams" (TODS 2009); within a window, a hash join.
pub struct WindowJoin {
    kind: JoinKind,
    matcher: Matcher,
    sides: Sides,
    /// By their ends.
    windows: BTreeMap<i64, [Heap; 2]>,
    grace: i64,
    /// Windows that end then or before have been told.
    closed: i64,
    told_from: i64,
    told: Told,
    state_bytes: usize,
    limit_bytes: usize,
    arrival: EventTime,
    keeps_late: bool,
    counters: Arc<Counters>,
}

/// Rows of one side of a window, as they came.
#[derive(Default)]
struct Heap(Vec<RecordBatch>);

impl WindowJoin {
    /// A join that counts in `counters` whatever becomes of a row, but not the rows in.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it cannot be computed.
    pub fn new(spec: WindowJoinSpec, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let WindowJoinSpec { join, ends, grace_ns: grace, told_from } = spec;
        let more = ends.map(|end| [end, Expr::Column(Column::new_unqualified(WATERMARK))]);
        let matcher = Matcher::new(&MatchSpec {
            inputs: [&join.inputs[LEFT], &join.inputs[RIGHT]],
            fields: [&join.fields[LEFT], &join.fields[RIGHT]],
            on: &join.on,
            filter: join.filter.as_ref(),
            more: [&more[LEFT], &more[RIGHT]],
        })?;
        Ok(Self {
            kind: join.kind,
            matcher,
            sides: Sides::new(&join.right),
            windows: BTreeMap::new(),
            grace,
            closed: i64::MIN,
            told_from: told_from.0,
            told: Told::new(physical_schema(&join.schema), Arc::clone(&counters)),
            state_bytes: 0,
            limit_bytes: join.state_limit_bytes,
            arrival: EventTime::MIN,
            keeps_late: false,
            counters,
        })
    }

    /// Takes the rows that are in time into their windows.
    fn absorb(&mut self, side: usize, batch: &StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let keyed = self.matcher.read(side, &batch.rows, batch.arrival, &self.counters)?;
        let count = keyed.rows.num_columns();
        let ends = keyed.rows.column(count - 2).as_primitive::<TimestampNanosecondType>();
        let watermarks = keyed.rows.column(count - 1).as_primitive::<TimestampNanosecondType>();
        let (mut late, mut late_idle, mut before, mut failed) = (0, 0, 0, 0);
        let mut tardy = Vec::new();
        let mut windows: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (row, (end, watermark)) in (0u32..).zip(ends.iter().zip(watermarks.values())) {
            let count = match end {
                None => &mut failed,
                Some(end) if end <= self.told_from => &mut before,
                Some(end) if closed_until(*watermark, self.grace) >= end => {
                    tardy.push((row, false));
                    &mut late
                }
                Some(end) if self.closed >= end => {
                    tardy.push((row, true));
                    &mut late_idle
                }
                Some(end) => {
                    windows.entry(end).or_default().push(row);
                    continue;
                }
            };
            *count += 1;
        }
        add(&self.counters.late, late);
        add(&self.counters.late_idle, late_idle);
        add(&self.counters.before_start, before);
        add(&self.counters.failed, failed);
        if self.keeps_late {
            let width = self.matcher.width(side);
            let columns: Vec<usize> = (0..=width).chain([count - 1]).collect();
            let (rows, told_at) = (keyed.rows.project(&columns)?, self.sides.least());
            output.late.extend(LateRows::pick(&rows, batch.partition, &tardy, told_at)?);
        }
        let all = windows.len() == 1;
        for (end, picked) in windows {
            add(&self.counters.absorbed, picked.len());
            let whole = all && picked.len() == keyed.rows.num_rows();
            let rows =
                if whole { keyed.rows.clone() } else { take_record_batch(&keyed.rows, &UInt32Array::from(picked))? };
            self.state_bytes = self.windows.entry(end).or_default()[side].push(rows, self.state_bytes)?;
        }
        Ok(())
    }

    /// Tells the windows that both inputs have passed.
    fn advance(&mut self, from: usize, output: &mut Output) -> Result<(), EngineError> {
        let reached = closed_until(self.sides.least(), self.grace);
        while let Some(first) = self.windows.first_entry().filter(|first| *first.key() <= reached) {
            let (end, [left, right]) = first.remove_entry();
            self.state_bytes -= left.bytes() + right.bytes();
            self.close(end, &left, &right, output)?;
        }
        self.closed = self.closed.max(reached);
        let watermark = match reached {
            i64::MIN | i64::MAX => reached,
            reached => reached.saturating_add(1).saturating_sub(RESULT_LAG_NS),
        };
        self.told.advance(watermark, self.sides.is_idle(), self.arrival, from, output);
        check_budget(self.state_bytes, self.limit_bytes)
    }

    fn close(&mut self, end: i64, left: &Heap, right: &Heap, output: &mut Output) -> Result<(), EngineError> {
        let Self { matcher, told, kind, counters, arrival, limit_bytes, .. } = self;
        let (kind, arrival) = (*kind, *arrival);
        let mut tell = |columns: Vec<ArrayRef>, rows: usize, output: &mut Output| {
            let times: ArrayRef =
                Arc::new(TimestampNanosecondArray::from_value(end.saturating_sub(RESULT_LAG_NS), rows));
            told.rows(columns, times, arrival, output)?;
            check_budget(told.step_bytes(), *limit_bytes)
        };
        let (mut there, mut strangers) = (Rows::new(), Vec::new());
        for rows in &right.0 {
            let keyed = matcher.keyed(RIGHT, rows.clone())?;
            if waits(kind, RIGHT) {
                strangers.extend(keyed.strangers()?);
            }
            let keyed = keyed.friends()?;
            there.push(keyed.rows.clone(), &keyed.hashes, keyed.times(), &vec![false; keyed.hashes.len()])?;
        }
        for rows in &left.0 {
            let keyed = matcher.keyed(LEFT, rows.clone())?;
            let mut matched = vec![false; keyed.hashes.len()];
            let mut partners: Vec<u32> = Vec::new();
            matcher.find(LEFT, &keyed, &there, |_, _| true, (arrival, counters.as_ref()), &mut |pairs| {
                pairs.probe.iter().for_each(|row| matched[*row as usize] = true);
                if is_left_only(kind) {
                    return Ok(());
                }
                let columns = matcher.columns(LEFT, &keyed, &there, &pairs)?;
                partners.extend(&pairs.found);
                tell(columns, pairs.found.len(), output)
            })?;
            partners.into_iter().for_each(|row| {
                there.settle(row);
            });
            if waits(kind, LEFT) {
                let wanted = kind == JoinKind::Semi;
                let alone: BooleanArray = matched.iter().map(|matched| Some(*matched == wanted)).collect();
                let alone = keyed.filter(&alone)?;
                let (own, rows) = (alone.fields(matcher.width(LEFT)), alone.hashes.len());
                tell(padded(matcher, kind, LEFT, own, rows), rows, output)?;
            }
        }
        if waits(kind, RIGHT) {
            let alone = there.give_up(i64::MAX);
            if !alone.is_empty() {
                let own = there.take(0..matcher.width(RIGHT), &alone)?;
                tell(padded(matcher, kind, RIGHT, own, alone.len()), alone.len(), output)?;
            }
            for stranger in strangers {
                let (own, rows) = (stranger.fields(matcher.width(RIGHT)), stranger.hashes.len());
                tell(padded(matcher, kind, RIGHT, own, rows), rows, output)?;
            }
        }
        Ok(())
    }
}

impl Heap {
    /// Adds rows; small batches become larger ones. Gives the bytes of the state, of which this was `state_bytes`.
    fn push(&mut self, rows: RecordBatch, mut state_bytes: usize) -> Result<usize, EngineError> {
        state_bytes += bytes(&rows);
        self.0.push(rows);
        while let [.., left, right] = self.0.as_slice()
            && left.num_rows() <= 2 * right.num_rows()
            && left.num_rows() + right.num_rows() <= PIECE_ROWS
        {
            let whole = concat_batches(&left.schema(), [left, right])?;
            state_bytes = state_bytes + bytes(&whole) - bytes(left) - bytes(right);
            self.0.truncate(self.0.len() - 2);
            self.0.push(whole);
        }
        Ok(state_bytes)
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(bytes).sum()
    }
}

impl Operator for WindowJoin {
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
        let windows = self.windows.iter().map(|(end, [left, right])| (*end, [left.0.len(), right.0.len()]));
        state.put(&(self.closed, self.told_from, self.arrival, windows.collect::<Vec<_>>()))?;
        self.sides.save(state)?;
        self.told.save(state)?;
        self.windows.values().flatten().flat_map(|heap| &heap.0).for_each(|rows| state.put_rows(rows.clone()));
        Ok(())
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        let windows: Vec<(i64, [usize; 2])>;
        (self.closed, self.told_from, self.arrival, windows) = state.take()?;
        self.sides.restore(state)?;
        self.told.restore(state)?;
        for (end, counts) in windows {
            let mut heaps = <[Heap; 2]>::default();
            for (side, (heap, count)) in heaps.iter_mut().zip(counts).enumerate() {
                let rows = |_| self.matcher.restored(side, state).map(|keyed| keyed.rows);
                heap.0 = (0..count).map(rows).collect::<Result<_, _>>()?;
                self.state_bytes += heap.bytes();
            }
            self.windows.insert(end, heaps);
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.state_bytes
    }
}
