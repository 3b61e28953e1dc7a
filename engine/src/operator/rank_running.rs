//! Ranks rows over all time: a result that changes.

mod saved;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::compute::{interleave_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;
use squilla_query::{RankFunction, RankSpec};

use super::deduplicate::RankingInput;
use super::emit::Series;
use super::forgetting::Forgetting;
use super::progress::Progress;
use super::ranking::{Columns, order_columns};
use super::{Operator, Output, State};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Bytes that a ranked row takes beside its values and its place in the order.
const ROW_BYTES: usize = size_of::<Ranked>() + 2 * size_of::<u32>();
/// Bytes that a part takes beside its key.
const PART_BYTES: usize = 2 * size_of::<Box<[u8]>>() + size_of::<Part>();
/// Rows that have left the ranks and are still held, beyond as many as are ranked, at the most.
const STALE_ROWS: usize = 1 << 14;
/// Pieces that rows lie in at the most.
const MAX_PIECES: usize = 256;

/// Keeps the first rows of each part by an order, over all time, and tells the ranks that change.
///
/// - Schema: the columns of the parts, the row's place where ranks may be equal ([`RankSpec::place`]), the number when it
///   is asked for, the input's other columns; one partition. The event time of a row is its own. Changes are told as
///   updates by part and place, which is the number of ROW_NUMBER; a place that no row has any more is deleted, with the
///   values of the part's last row. Appended rows come once, when bounded input has ended. Rows that are equal by the
///   order go by event time, then by arrival.
/// - Watermark: passed on, the least of the partitions; no row is late.
/// - State: as many rows a part as are kept, and of RANK and DENSE_RANK all of a rank that is kept. A part to which no
///   row has come for its time to live is forgotten, within an eighth of that time, and told as deletes. Beyond the
///   budget the query ends with [`EngineError::StateBudget`].
/// - Errors: none.
/// - Example: the first 2 by price, descending, of prices 5, 9, 7 tell 1: 5; then 1: 9, 2: 5; then 2: 7.
///
/// As the top-k operators of Mouratidis et al., "Continuous monitoring of top-k queries over sliding windows"
/// (SIGMOD 2006), section 3, without a window.
pub struct RankRunning {
    input: SchemaRef,
    schema: SchemaRef,
    columns: Vec<Source>,
    keys: Option<Columns>,
    order: Columns,
    function: RankFunction,
    limit: usize,
    index: HashMap<Box<[u8]>, usize>,
    parts: Vec<Part>,
    changed: BTreeSet<usize>,
    pieces: Vec<RecordBatch>,
    piece_bytes: usize,
    held_rows: usize,
    ranked_rows: usize,
    other_bytes: usize,
    forgetting: Forgetting,
    progress: Progress,
    told: Series,
    updates: Series,
    watermark: i64,
    idle: bool,
    arrival: EventTime,
    tracking: bool,
    limit_bytes: usize,
    counters: Arc<Counters>,
}

struct Part {
    rows: Vec<Ranked>,
    /// Values by the order that different rows have.
    different: usize,
    latest: i64,
    /// The first place, from zero, that has changed since changes were told last.
    changed_from: usize,
    /// Places that readers of changes know.
    told: usize,
}

/// Where a column of the output comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// The input's column.
    Input(usize),
    /// A row's place among those of its part.
    Place,
    /// Its number by the ranking function.
    Number,
}

/// What is told of a row.
struct Entry {
    piece: usize,
    row: usize,
    place: i64,
    number: i64,
}

/// A row and its place in the order.
struct Ranked {
    order: Box<[u8]>,
    time: i64,
    piece: u32,
    row: u32,
}

impl RankRunning {
    /// A ranking that counts in `counters` whatever becomes of a row, but not the rows in.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it goes by anything but columns that can be compared, or has no limit.
    pub fn new(rank: &RankSpec, setting: RankingInput, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let limit = rank.limit.and_then(|limit| usize::try_from(limit).ok());
        let keys: Vec<_> = rank.partition_by.iter().map(|expr| (expr, Default::default())).collect();
        let schema = physical_schema(&setting.schema);
        Ok(Self {
            columns: sources(rank, &setting)?,
            function: rank.function,
            keys: if keys.is_empty() { None } else { Some(Columns::new(&setting.input, keys)?) },
            order: order_columns(&setting.input, rank)?,
            limit: limit.ok_or_else(|| EngineError::Plan("a rank over all time without a limit".into()))?,
            index: HashMap::new(),
            parts: Vec::new(),
            changed: BTreeSet::new(),
            pieces: Vec::new(),
            piece_bytes: 0,
            held_rows: 0,
            ranked_rows: 0,
            other_bytes: 0,
            forgetting: Forgetting::new(setting.ttl_ns),
            progress: Progress::new(setting.partitions),
            told: Series::new(Arc::clone(&schema)),
            updates: Series::new(Arc::clone(&schema)),
            schema,
            watermark: i64::MIN,
            idle: false,
            arrival: EventTime::MIN,
            tracking: false,
            limit_bytes: setting.state_limit_bytes,
            counters,
            input: setting.input,
        })
    }

    fn absorb(&mut self, batch: &StreamBatch) -> Result<(), EngineError> {
        let count = batch.rows.num_rows();
        if count == 0 {
            return Ok(());
        }
        let keys = self.keys.as_mut().map(|keys| keys.rows(&batch.rows)).transpose()?;
        let order = self.order.rows(&batch.rows)?;
        let piece = u32::try_from(self.pieces.len()).expect("there are at most a few hundred pieces");
        let mut kept: Vec<u32> = Vec::new();
        for (row, &time) in (0u32..).zip(batch.event_times()) {
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row as usize).data());
            let part = self.part(key);
            self.parts[part].latest = self.parts[part].latest.max(time);
            let order = order.row(row as usize);
            let place = u32::try_from(kept.len()).expect("a batch has fewer rows than 2^32");
            if self.insert(part, order.data(), time, piece, place) {
                kept.push(row);
            }
        }
        add(&self.counters.absorbed, count);
        if !kept.is_empty() {
            let rows = take_record_batch(&batch.rows, &UInt32Array::from(kept))?;
            self.held_rows += rows.num_rows();
            self.piece_bytes += batch.with_rows(rows.clone()).bytes();
            self.pieces.push(rows);
            self.compact()?;
        }
        Ok(())
    }

    /// The number of a part, which is made when there is none.
    fn part(&mut self, key: &[u8]) -> usize {
        if let Some(part) = self.index.get(key) {
            return *part;
        }
        self.other_bytes += key.len() + PART_BYTES;
        self.index.insert(key.into(), self.parts.len());
        let latest = i64::MIN;
        self.parts.push(Part { rows: Vec::new(), different: 0, latest, changed_from: usize::MAX, told: 0 });
        self.parts.len() - 1
    }

    /// Puts a row in its place; false when it is not among the first.
    fn insert(&mut self, number: usize, order: &[u8], time: i64, piece: u32, row: u32) -> bool {
        let (part, limit) = (&mut self.parts[number], self.limit);
        let before = |ranked: &Ranked| (&*ranked.order, ranked.time) <= (order, time);
        // Nearly all rows of a part that is full end here.
        let last = part.rows.last();
        let behind = match self.function {
            RankFunction::RowNumber => part.rows.len() >= limit && last.is_none_or(before),
            RankFunction::Rank => part.rows.len() >= limit && last.is_none_or(|last| &*last.order < order),
            RankFunction::DenseRank => part.different >= limit && last.is_none_or(|last| &*last.order < order),
        };
        if behind {
            return false;
        }
        let at = part.rows.partition_point(before);
        let equal = |row: Option<&Ranked>| row.is_some_and(|row| &*row.order == order);
        let is_new = !equal(at.checked_sub(1).and_then(|at| part.rows.get(at))) && !equal(part.rows.get(at));
        part.different += usize::from(is_new);
        part.rows.insert(at, Ranked { order: order.into(), time, piece, row });
        self.ranked_rows += 1;
        self.other_bytes += order.len() + ROW_BYTES;
        for gone in part.cut(self.function, limit) {
            self.ranked_rows -= 1;
            self.other_bytes -= gone.order.len() + ROW_BYTES;
        }
        part.changed_from = part.changed_from.min(at);
        if self.tracking {
            self.changed.insert(number);
        }
        true
    }

    /// Holds the ranked rows only, in one piece, when too many others are held or they lie in too many pieces.
    fn compact(&mut self) -> Result<(), EngineError> {
        if self.held_rows <= 2 * self.ranked_rows + STALE_ROWS && self.pieces.len() <= MAX_PIECES {
            return Ok(());
        }
        let ranked = self.parts.iter().flat_map(|part| &part.rows);
        let places: Vec<_> = ranked.map(|ranked| (ranked.piece as usize, ranked.row as usize)).collect();
        let pieces: Vec<&RecordBatch> = self.pieces.iter().collect();
        let rows = interleave_record_batch(&pieces, &places)?;
        for (row, ranked) in (0u32..).zip(self.parts.iter_mut().flat_map(|part| &mut part.rows)) {
            (ranked.piece, ranked.row) = (0, row);
        }
        self.held_rows = rows.num_rows();
        self.piece_bytes = rows.get_array_memory_size();
        self.pieces = vec![rows];
        Ok(())
    }

    /// Rows of parts, from a place on.
    fn rows(&self, parts: impl Iterator<Item = (usize, usize)>) -> Result<Option<RecordBatch>, EngineError> {
        let mut entries = Vec::new();
        for (part, from) in parts {
            self.parts[part].entries(self.function, from, &mut entries);
        }
        self.told_rows(&entries)
    }

    fn told_rows(&self, entries: &[Entry]) -> Result<Option<RecordBatch>, EngineError> {
        if entries.is_empty() {
            return Ok(None);
        }
        let places: Vec<(usize, usize)> = entries.iter().map(|entry| (entry.piece, entry.row)).collect();
        let pieces: Vec<&RecordBatch> = self.pieces.iter().collect();
        let rows = interleave_record_batch(&pieces, &places)?;
        let numbers =
            |of: fn(&Entry) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(entries.iter().map(of))) };
        let pick = |column: &Source| match column {
            Source::Input(at) => rows.column(*at).clone(),
            Source::Place => numbers(|entry| entry.place),
            Source::Number => numbers(|entry| entry.number),
        };
        let mut columns: Vec<ArrayRef> = self.columns.iter().map(pick).collect();
        columns.push(rows.column(rows.num_columns() - 2).clone());
        columns.push(Arc::new(TimestampNanosecondArray::from_value(self.watermark, rows.num_rows())));
        Ok(Some(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }

    fn all(&self) -> Result<Option<RecordBatch>, EngineError> {
        self.rows((0..self.parts.len()).map(|part| (part, 0)))
    }

    fn say(&mut self, kind: RowKind, rows: Option<RecordBatch>, output: &mut Output) {
        let Some(rows) = rows else { return };
        if kind == RowKind::Append {
            add(&self.counters.rows_out, rows.num_rows());
            self.told.batches(kind, &rows, self.watermark, self.arrival, &mut output.rows);
        } else {
            self.updates.batches(kind, &rows, self.watermark, self.arrival, &mut output.updates);
        }
    }

    /// Forgets parts whose time has passed.
    fn forget(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let Some(until) = self.forgetting.due(self.progress.watermark()) else { return Ok(()) };
        let gone: Vec<usize> = (0..self.parts.len()).filter(|part| self.parts[*part].latest <= until).collect();
        if gone.is_empty() {
            return Ok(());
        }
        if self.tracking {
            self.tick(output)?;
            let rows = self.rows(gone.iter().map(|part| (*part, 0)))?;
            self.say(RowKind::Delete, rows, output);
        }
        add(&self.counters.forgotten, gone.len());
        let mut numbers: Vec<Option<usize>> = vec![None; self.parts.len()];
        let mut left = Vec::with_capacity(self.parts.len() - gone.len());
        for (number, part) in std::mem::take(&mut self.parts).into_iter().enumerate() {
            if part.latest <= until {
                self.ranked_rows -= part.rows.len();
                self.other_bytes -= part.rows.iter().map(|ranked| ranked.order.len() + ROW_BYTES).sum::<usize>();
            } else {
                numbers[number] = Some(left.len());
                left.push(part);
            }
        }
        self.parts = left;
        let mut key_bytes = 0;
        self.index.retain(|key, number| match numbers[*number] {
            Some(now) => {
                *number = now;
                true
            }
            None => {
                key_bytes += key.len() + PART_BYTES;
                false
            }
        });
        self.other_bytes -= key_bytes;
        self.changed.clear();
        self.compact()
    }

    fn advance(&mut self, output: &mut Output) -> Result<(), EngineError> {
        self.forget(output)?;
        if self.progress.has_ended() {
            let all = self.all()?;
            if self.tracking {
                self.say(RowKind::Final, all.clone(), output);
            }
            self.say(RowKind::Append, all, output);
        }
        let (watermark, idle) = (self.progress.watermark().max(self.watermark), self.progress.is_idle());
        if watermark > self.watermark || idle != self.idle {
            output.rows.push(self.told.progress(watermark, self.arrival, idle));
        }
        (self.watermark, self.idle) = (watermark, idle);
        Ok(())
    }
}

impl Part {
    /// Takes out the rows whose rank is beyond the limit, since one has come.
    fn cut(&mut self, function: RankFunction, limit: usize) -> Vec<Ranked> {
        let Some(last) = self.rows.last() else { return Vec::new() };
        let equals_from = || self.rows.partition_point(|row| row.order < last.order);
        let from = match function {
            RankFunction::RowNumber => limit.min(self.rows.len()),
            RankFunction::Rank if self.rows.len() <= limit => return Vec::new(),
            RankFunction::Rank => equals_from(),
            RankFunction::DenseRank if self.different <= limit => return Vec::new(),
            RankFunction::DenseRank => equals_from(),
        };
        if function == RankFunction::Rank && from < limit {
            return Vec::new();
        }
        self.different -= usize::from(function != RankFunction::RowNumber);
        self.rows.split_off(from)
    }

    /// The rows from a place on, with their numbers.
    fn entries(&self, function: RankFunction, from: usize, entries: &mut Vec<Entry>) {
        let mut number = 0;
        let mut before: Option<&[u8]> = None;
        for (at, (place, ranked)) in (1i64..).zip(&self.rows).enumerate() {
            let same = before == Some(&*ranked.order);
            number = match function {
                RankFunction::RowNumber => place,
                RankFunction::Rank if same => number,
                RankFunction::Rank => place,
                RankFunction::DenseRank => number + i64::from(!same),
            };
            before = Some(&*ranked.order);
            if at >= from {
                entries.push(Entry { piece: ranked.piece as usize, row: ranked.row as usize, place, number });
            }
        }
    }

    /// The places that readers of changes know and no row has any more, as the last row.
    fn left(&self, function: RankFunction, entries: &mut Vec<Entry>) {
        if self.told <= self.rows.len() {
            return;
        }
        let mut last = Vec::new();
        self.entries(function, self.rows.len() - 1, &mut last);
        let places = (1i64..).take(self.told).skip(self.rows.len());
        let stand_in = |place| last.first().map(|last| Entry { place, ..*last });
        entries.extend(places.filter_map(stand_in));
    }
}

/// Where the columns of the output come from.
fn sources(rank: &RankSpec, setting: &RankingInput) -> Result<Vec<Source>, EngineError> {
    let place = rank.place();
    let source = |name: &String| {
        if place.as_ref() == Some(name) {
            Ok(Source::Place)
        } else if rank.column.as_ref() == Some(name) {
            Ok(Source::Number)
        } else {
            Ok(Source::Input(setting.input.index_of(name)?))
        }
    };
    setting.schema.fields().iter().map(|field| source(field.name())).collect()
}

impl Operator for RankRunning {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        self.arrival = batch.arrival;
        self.absorb(&batch)?;
        self.progress.advance(batch.partition, batch.watermark.0, batch.idle)?;
        self.advance(output)?;
        let (used_bytes, limit_bytes) = (self.state_bytes(), self.limit_bytes);
        if used_bytes > limit_bytes {
            return Err(EngineError::StateBudget { scope: "query", used_bytes, limit_bytes });
        }
        Ok(())
    }

    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        if self.progress.has_ended() {
            // All was told, and then restored.
            return Ok(());
        }
        self.progress.end(partition)?;
        self.advance(output)
    }

    fn track_updates(&mut self, on: bool) {
        if on && !self.tracking {
            // Nobody was told so far: whoever comes is shown all that there is, and then what changes.
            for part in &mut self.parts {
                (part.changed_from, part.told) = (usize::MAX, part.rows.len());
            }
        }
        self.tracking = on;
        if !on {
            self.changed.clear();
        }
    }

    fn tick(&mut self, output: &mut Output) -> Result<(), EngineError> {
        if !self.tracking {
            return Ok(());
        }
        let changed: Vec<usize> = std::mem::take(&mut self.changed).into_iter().collect();
        let rows = self.rows(changed.iter().map(|part| (*part, self.parts[*part].changed_from)))?;
        let mut left = Vec::new();
        for part in changed {
            let part = &mut self.parts[part];
            part.left(self.function, &mut left);
            (part.changed_from, part.told) = (usize::MAX, part.rows.len());
        }
        let left = self.told_rows(&left)?;
        self.say(RowKind::Delete, left, output);
        self.say(RowKind::Update, rows, output);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Vec<StreamBatch>, EngineError> {
        // A snapshot is for one reader: it has no place in the series.
        let mut series = self.updates.clone();
        let mut batches = Vec::new();
        if let Some(rows) = self.all()? {
            series.batches(RowKind::Update, &rows, self.watermark, self.arrival, &mut batches);
        }
        Ok(batches)
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.save_parts(state)
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.restore_parts(state)
    }

    fn state_bytes(&self) -> usize {
        self.piece_bytes + self.other_bytes
    }
}
