//! Aggregates by windows of so many rows, and keys.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, TimestampNanosecondArray, UInt64Array};
use arrow::compute::{sort_to_indices, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampNanosecondType, UInt64Type};
use squilla_query::GatherSpec;

use super::align::{Align, Aligned};
use super::carried::Carried;
use super::count_parts::{Complete, CountParts};
use super::emit::{Moments, Series};
use super::expression::{Expressions, filter_columns};
use super::grouping::{Grouping, Results};
use super::key_table::KeyTable;
use super::numbering::Numbering;
use super::progress::Progress;
use super::state::{check_count, values};
use super::{Operator, Output, State};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Bytes that a key takes beside its values.
const KEY_BYTES: usize = size_of::<Key>() + size_of::<[u64; 8]>();
/// Bytes that a piece takes beside its groups.
const PIECE_BYTES: usize = 2 * size_of::<(u64, Span)>();

/// What a [`CountWindow`] computes.
#[derive(Debug, Clone)]
pub struct CountWindowSpec {
    /// The physical fields of the batches that come in.
    pub input: SchemaRef,
    /// Rows of a window, above zero.
    pub rows: u64,
    /// A window starts with every so manieth row, above zero and at most `rows`.
    pub slide: u64,
    /// Parts, filter, keys and aggregates.
    pub gather: GatherSpec,
    /// The visible fields that come out: `window_start`, `window_end`, the keys, the aggregates.
    pub schema: SchemaRef,
    /// Partitions of the input.
    pub partitions: u32,
    /// Bytes of state that are too many.
    pub state_limit_bytes: usize,
}

/// Groups the rows of each part by windows of so many rows in the order of their arrival, and in them by keys.
///
/// - Schema: physical batches in; out come `window_start` and `window_end` (the least and the greatest event time of a
///   window's rows), the keys, the aggregates and the hidden columns, in one partition, in the order in which windows
///   fill; the event time of a result is its window's end. Rows of several partitions are taken in the order of their
///   watermarks: those of a partition that is ahead wait for the others.
/// - Watermark: no row is late. The output's watermark is the input's: a window that only rows behind the watermark have
///   filled is behind it too. A window that is not full is told, short, at the end of all partitions, if it has a row
///   that was told in no other.
/// - State: for each part that has an open window its count and the groups of the pieces that windows share; rows that
///   wait. A part stays until its window is full. Bounded by the budget, beyond which the query ends with
///   [`EngineError::StateBudget`].
/// - Errors: a row on which an expression fails is set aside and counted, and fills no window; an aggregate that fails
///   ends the job with [`EngineError::Aggregate`].
/// - Example: windows of 2 rows over rows at 00:03, 00:01 and 00:07 are 00:01–00:03 and, at the end, 00:07–00:07.
///
/// Pieces follow Li et al., "No pane, no gain" (SIGMOD Record 2005), counted in rows.
pub struct CountWindow {
    schema: SchemaRef,
    rows: u64,
    slide: u64,
    /// Rows of a piece: what windows share.
    piece: u64,
    exprs: Expressions,
    numbering: Numbering,
    parts: usize,
    filtered: bool,
    align: Align,
    keys: KeyTable,
    open: Vec<Key>,
    spans: HashMap<u64, Span>,
    next_piece: u64,
    groups: CountParts,
    progress: Progress,
    told: Series,
    /// Watermark before the last result.
    mark: i64,
    watermark: i64,
    idle: bool,
    arrival: EventTime,
    limit_bytes: usize,
    counters: Arc<Counters>,
    ids: Vec<usize>,
}

/// A part's rows.
#[derive(Debug, Default)]
struct Key {
    seen: u64,
    /// The pieces of windows that are not full, the oldest first.
    pieces: VecDeque<u64>,
}

/// The least and the greatest event time of a piece's rows.
#[derive(Debug, Clone, Copy)]
struct Span {
    least: i64,
    greatest: i64,
}

/// Windows that were filled, and what is told of them.
#[derive(Debug, Default)]
struct Filled {
    windows: Complete,
    spans: Vec<Span>,
    marks: Vec<i64>,
    /// Pieces that no other window needs.
    done: Vec<u64>,
}

impl CountWindow {
    /// Windows whose operator counts in `counters` whatever becomes of a row, but not the rows in.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it cannot be computed.
    pub fn new(spec: CountWindowSpec, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let GatherSpec { partition_by, filter, keys, aggregates, .. } = &spec.gather;
        if spec.slide == 0 || spec.slide > spec.rows {
            return Err(EngineError::Plan(format!("windows of {} rows every {}", spec.rows, spec.slide)));
        }
        let columns = 2 + keys.len() + aggregates.len();
        if spec.schema.fields().len() != columns {
            return Err(EngineError::Plan(format!("{} columns, not {columns}", spec.schema.fields().len())));
        }
        let numbering = Numbering::new(Grouping::needs_arrival(aggregates), spec.partitions);
        let outer: Vec<_> = partition_by.iter().chain(filter).collect();
        let input = numbering.schema(&spec.input);
        let (grouping, exprs) = Grouping::within(&input, DataType::UInt64, &outer, keys, aggregates)?;
        let types = exprs.types().iter().take(partition_by.len()).enumerate();
        let fields: Vec<_> = types.map(|(idx, kind)| Field::new(format!("part{idx}"), kind.clone(), true)).collect();
        let schema = physical_schema(&spec.schema);
        Ok(Self {
            rows: spec.rows,
            slide: spec.slide,
            piece: gcd(spec.rows, spec.slide),
            exprs,
            numbering,
            parts: partition_by.len(),
            filtered: filter.is_some(),
            align: Align::new(spec.partitions),
            keys: KeyTable::new(Arc::new(Schema::new(fields)))?,
            open: Vec::new(),
            spans: HashMap::new(),
            next_piece: 0,
            groups: CountParts::new(grouping),
            progress: Progress::new(spec.partitions),
            told: Series::new(Arc::clone(&schema)),
            schema,
            mark: i64::MIN,
            watermark: i64::MIN,
            idle: false,
            arrival: EventTime::MIN,
            limit_bytes: spec.state_limit_bytes,
            counters,
            ids: Vec::new(),
        })
    }

    /// Puts rows whose turn has come in their pieces; gives the windows that they fill.
    fn absorb(&mut self, rows: &Aligned, filled: &mut Filled) -> Result<(), EngineError> {
        let (times, columns) = rows.columns.split_last().expect("the event time is there");
        let times = times.as_primitive::<TimestampNanosecondType>().values();
        let marks = rows.watermarks.as_primitive::<TimestampNanosecondType>().values();
        self.keys.intern(&columns[..self.parts], times.len(), &mut self.ids)?;
        self.open.resize_with(self.keys.len().max(self.open.len()), Key::default);
        let mut pieces = Vec::with_capacity(times.len());
        for (row, (&time, &mark)) in times.iter().zip(marks).enumerate() {
            pieces.push(self.place(self.ids[row], time, mark, filled));
        }
        let outer = self.parts + usize::from(self.filtered);
        let Some(passes) = self.filtered.then(|| columns[self.parts].as_boolean()) else {
            add(&self.counters.absorbed, pieces.len());
            return self.groups.update(pieces.into(), columns, outer);
        };
        let keep: BooleanArray = (0..passes.len()).map(|row| Some(passes.is_valid(row) && passes.value(row))).collect();
        let kept = keep.true_count();
        add(&self.counters.absorbed, kept);
        add(&self.counters.filtered, pieces.len() - kept);
        if kept == 0 {
            return Ok(());
        }
        let pieces: UInt64Array =
            pieces.into_iter().zip(keep.values()).filter(|(_, kept)| *kept).map(|(p, _)| p).collect();
        self.groups.update(pieces, &filter_columns(columns, &keep)?, outer)
    }

    /// The piece of a row.
    fn place(&mut self, key: usize, time: i64, mark: i64, filled: &mut Filled) -> u64 {
        let own = &mut self.open[key];
        if own.seen.is_multiple_of(self.piece) {
            own.pieces.push_back(self.next_piece);
            self.spans.insert(self.next_piece, Span { least: time, greatest: time });
            self.next_piece += 1;
        }
        own.seen += 1;
        let piece = *own.pieces.back().expect("there is one now");
        if let Some(span) = self.spans.get_mut(&piece) {
            (span.least, span.greatest) = (span.least.min(time), span.greatest.max(time));
        }
        if own.seen >= self.rows && (own.seen - self.rows).is_multiple_of(self.slide) {
            filled.add(own, &self.spans, mark);
            let over = usize::try_from(self.slide / self.piece).unwrap_or(usize::MAX).min(own.pieces.len());
            filled.done.extend(own.pieces.drain(..over));
        }
        piece
    }

    /// Tells windows that were filled.
    fn tell(&mut self, filled: Filled, output: &mut Output) -> Result<(), EngineError> {
        if filled.windows.len() == 0 {
            return Ok(());
        }
        for piece in &filled.done {
            self.spans.remove(piece);
        }
        let needed = |piece: u64| self.spans.contains_key(&piece);
        let Results { columns, len } = self.groups.tell(&filled.windows, &needed)?;
        add(&self.counters.rows_out, len);
        if len == 0 {
            return Ok(());
        }
        let order = sort_to_indices(&columns[0], None, None)?;
        let mut sorted = columns.iter().map(|column| take(column, &order, None)).collect::<Result<Vec<_>, _>>()?;
        let windows = sorted.remove(0);
        let windows = windows.as_primitive::<UInt64Type>().values();
        let window = |number: &u64| usize::try_from(*number).expect("it was a place in a list");
        let span = |number: &u64| filled.spans[window(number)];
        let ends: Vec<i64> = windows.iter().map(|number| span(number).greatest).collect();
        let starts = TimestampNanosecondArray::from_iter_values(windows.iter().map(|number| span(number).least));
        let mut visible: Vec<ArrayRef> = vec![Arc::new(starts), Arc::new(TimestampNanosecondArray::from(ends.clone()))];
        visible.append(&mut sorted);
        let mut before = Vec::with_capacity(len);
        // Where all partitions are idle, rows may be ahead of them all.
        let reached = self.progress.watermark().max(self.watermark);
        for number in windows {
            self.mark = self.mark.max(filled.marks[window(number)].min(reached));
            before.push(self.mark);
        }
        let moments = Moments { times: ends, before };
        // Short windows may follow: the last batch is given the watermark behind all of them.
        let mark = self.mark.max(self.watermark);
        self.told.spread(RowKind::Append, visible, moments, mark, self.arrival, &mut output.rows)
    }

    fn advance(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let after = self.progress.watermark().max(self.watermark);
        let told = output.rows.len();
        let mut filled = Filled::default();
        while let Some(rows) = self.align.release()? {
            self.absorb(&rows, &mut filled)?;
        }
        self.tell(filled, output)?;
        if self.progress.has_ended() {
            self.tell_short(output)?;
        }
        let idle = self.progress.is_idle();
        match output.rows[told..].last_mut() {
            Some(last) => (last.watermark, last.idle) = (EventTime(after), idle),
            None if after > self.watermark || idle != self.idle => {
                output.rows.push(self.told.progress(after, self.arrival, idle));
            }
            None => {}
        }
        (self.watermark, self.idle) = (after, idle);
        self.forget_keys()
    }

    /// Tells the windows that will not be filled any more, and forgets all.
    fn tell_short(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let mut filled = Filled::default();
        for mut own in std::mem::take(&mut self.open) {
            // Rows behind the last window that was told.
            let fresh = if own.seen < self.rows { own.seen } else { (own.seen - self.rows) % self.slide };
            if fresh > 0 {
                filled.add(&own, &self.spans, self.watermark);
            }
            filled.done.extend(own.pieces.drain(..));
        }
        self.tell(filled, output)?;
        self.spans = HashMap::new();
        self.groups.clear();
        Ok(())
    }

    /// Forgets parts that have no open window, once they are the most.
    fn forget_keys(&mut self) -> Result<(), EngineError> {
        let is_open = |key: &Key| !key.pieces.is_empty();
        if self.keys.is_sparse(self.spans.len()) {
            let used: BooleanArray =
                (0..self.keys.len()).map(|key| Some(self.open.get(key).is_some_and(is_open))).collect();
            self.keys.retain(&used)?;
            self.open.retain(is_open);
        }
        Ok(())
    }

    fn carried(&mut self) -> Carried<'_> {
        let Self { progress, told, watermark, idle, arrival, .. } = self;
        Carried { progress, next: told.next(), watermark, idle, arrival }
    }

    /// Puts the open pieces of parts behind what a state holds.
    fn save_open(&self, state: &mut State) -> Result<(), EngineError> {
        let numbers =
            |numbers: &mut dyn Iterator<Item = u64>| -> ArrayRef { Arc::new(numbers.collect::<UInt64Array>()) };
        let of_parts = vec![
            numbers(&mut self.open.iter().map(|own| own.seen)),
            numbers(&mut self.open.iter().map(|own| own.pieces.len() as u64)),
        ];
        state.put_columns(of_parts, self.open.len())?;
        let pieces = numbers(&mut self.open.iter().flat_map(|own| &own.pieces).copied());
        let count = pieces.len();
        state.put_columns(vec![pieces], count)?;
        let times =
            |of: fn(&Span) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(self.spans.values().map(of))) };
        let spans =
            vec![numbers(&mut self.spans.keys().copied()), times(|span| span.least), times(|span| span.greatest)];
        state.put_columns(spans, self.spans.len())
    }

    /// Takes the open pieces of parts from the front of a state.
    fn restore_open(&mut self, state: &mut State) -> Result<(), EngineError> {
        let number = || DataType::UInt64;
        let (of_parts, _) = state.take_columns(&[number(), number()])?;
        let (pieces, count) = state.take_columns(&[number()])?;
        let [seen, counts] = [0, 1].map(|at: usize| values::<UInt64Type>(&of_parts[at]));
        check_count("pieces", count, usize::try_from(counts.iter().sum::<u64>()).unwrap_or(usize::MAX))?;
        let mut pieces = values::<UInt64Type>(&pieces[0]).into_iter();
        let own = |(seen, count): (u64, u64)| {
            let count = usize::try_from(count).expect("it is part of a number that is");
            Key { seen, pieces: pieces.by_ref().take(count).collect() }
        };
        self.open = seen.into_iter().zip(counts).map(own).collect();
        let (spans, _) = state.take_columns(&[number(), DataType::Int64, DataType::Int64])?;
        let [least, greatest] = [1, 2].map(|at: usize| values::<Int64Type>(&spans[at]));
        let spans = values::<UInt64Type>(&spans[0]).into_iter().zip(least.into_iter().zip(greatest));
        self.spans = spans.map(|(piece, (least, greatest))| (piece, Span { least, greatest })).collect();
        Ok(())
    }

    fn check_budget(&self) -> Result<(), EngineError> {
        let used_bytes = self.state_bytes();
        if used_bytes <= self.limit_bytes {
            return Ok(());
        }
        Err(EngineError::StateBudget { scope: "query", used_bytes, limit_bytes: self.limit_bytes })
    }
}

impl Filled {
    /// Adds the window of a part's oldest pieces.
    fn add(&mut self, own: &Key, spans: &HashMap<u64, Span>, mark: i64) {
        let of_pieces = own.pieces.iter().filter_map(|piece| spans.get(piece)).copied();
        let both = |a: Span, b: Span| Span { least: a.least.min(b.least), greatest: a.greatest.max(b.greatest) };
        self.spans.extend(of_pieces.reduce(both));
        self.windows.push(own.pieces.iter().copied());
        self.marks.push(mark);
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl Operator for CountWindow {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        self.numbering.line_up(&batch, &self.exprs, &self.counters, &mut self.align, false)?;
        self.arrival = batch.arrival;
        self.progress.advance(batch.partition, batch.watermark.0, batch.idle)?;
        self.advance(output)?;
        self.check_budget()
    }

    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        self.align.end(partition)?;
        self.progress.end(partition)?;
        self.advance(output)
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        state.put(&(self.next_piece, self.mark))?;
        self.carried().save(state)?;
        self.numbering.save(state)?;
        self.align.save(state)?;
        self.keys.save(state)?;
        self.save_open(state)?;
        self.groups.save(state)
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        (self.next_piece, self.mark) = state.take()?;
        self.carried().restore(state)?;
        self.numbering.restore(state)?;
        let kinds: Vec<_> = self.exprs.types().iter().cloned().chain([squilla_query::timestamp_type()]).collect();
        self.align.restore(&kinds, state)?;
        self.keys.restore(state)?;
        self.restore_open(state)?;
        self.groups.restore(state)
    }

    fn state_bytes(&self) -> usize {
        if self.spans.is_empty() {
            return self.align.bytes();
        }
        let keys = self.keys.bytes() + self.open.len() * KEY_BYTES + self.spans.len() * PIECE_BYTES;
        self.align.bytes() + self.groups.bytes() + keys
    }
}
