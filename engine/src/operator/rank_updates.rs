//! Ranks running results of windows: who is among the first changes until the window closes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use datafusion_expr::Expr;
use squilla_query::{RankFunction, RankSpec, RankTime};

use super::ranking::{Columns, order_columns};
use super::{Operator, Output, RESULT_LAG_NS};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::counters::{Counters, add};
use crate::error::EngineError;
use crate::stream::Offset;

/// Bytes that a row takes beside its values, its key and its place in the order.
const ROW_BYTES: usize = 4 * size_of::<Box<[u8]>>() + size_of::<Known>() + size_of::<Place>();
/// Rows that are out of date and still held, beyond as many as are not, at the most.
const STALE_ROWS: usize = 1 << 14;
/// Pieces that rows lie in at the most.
const MAX_PIECES: usize = 256;

/// Keeps the running results that are among the first of their window and part, and withdraws those that no longer are.
///
/// - Schema: running results of windows in, with their key; out come the same columns, and the number behind when it is
///   asked for. They replace each other by the same key. Rows that are equal by the order go by their key.
/// - Watermark: passed on as it is. Once it has passed a window's results, the first of its final rows are told as
///   final, and the others that were told are withdrawn.
/// - State: the latest results of open windows, and which of them were told; bounded by the groups of open windows, and
///   by the budget of the job.
/// - Errors: none; appended rows are our own mistake.
/// - Example: the first 1 by n, of a 1, b 2, a 3 in one window, tells a 1; then b 2 and withdraws a; then a 3 and withdraws
///   b.
///
/// As the top-k operators of Mouratidis et al., "Continuous monitoring of top-k queries over sliding windows"
/// (SIGMOD 2006), section 3, on groups instead of rows.
pub struct RankUpdates {
    schema: SchemaRef,
    function: RankFunction,
    limit: i64,
    numbered: bool,
    end: usize,
    parts: Columns,
    order: Columns,
    key: Columns,
    /// By the windows' ends, then by window and part.
    windows: BTreeMap<i64, BTreeMap<Box<[u8]>, Part>>,
    known: HashMap<Box<[u8]>, Known>,
    pieces: Vec<RecordBatch>,
    piece_bytes: usize,
    held_rows: usize,
    other_bytes: usize,
    counters: Arc<Counters>,
}

/// Values in a form that compares.
type Values = Box<[u8]>;
/// A part, by its window's end and its values.
type Touched = (i64, Values);

/// The latest results of a part.
#[derive(Default)]
struct Part {
    /// By order and key.
    rows: BTreeMap<(Values, Values), Row>,
    /// What was told last, by key, with its number.
    told: BTreeMap<Box<[u8]>, (Place, i64)>,
}

/// Where a row lies.
#[derive(Clone, Copy)]
struct Place {
    piece: u32,
    row: u32,
}

struct Row {
    place: Place,
    /// It has not been looked at since it came.
    fresh: bool,
    is_final: bool,
}

/// Where the latest result of a key is.
struct Known {
    end: i64,
    part: Box<[u8]>,
    order: Box<[u8]>,
}

/// What changes of what was told: rows with their numbers.
#[derive(Default)]
struct Changes {
    told: Vec<(Place, i64)>,
    withdrawn: Vec<(Place, i64)>,
}

impl RankUpdates {
    /// A ranking of physical batches of `input`, which replace each other by the columns `key`, into the visible columns
    /// `output`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it goes by anything but columns that can be compared, has no limit or no windows.
    pub fn new(
        input: &SchemaRef,
        rank: &RankSpec,
        key: &[usize],
        output: &SchemaRef,
        counters: Arc<Counters>,
    ) -> Result<Self, EngineError> {
        let (RankTime::Window { start, end, .. }, Some(limit)) = (&rank.time, rank.limit) else {
            return Err(EngineError::Plan("running ranks without windows, or without a limit".into()));
        };
        let column = |name: &str| Expr::Column(datafusion_common::Column::new_unqualified(name));
        let plain = |exprs: &[Expr]| {
            let all = exprs.iter().map(|expr| (expr, Default::default()));
            Columns::new(input, all.collect())
        };
        let mut parts = vec![column(start), column(end)];
        parts.extend(rank.partition_by.iter().cloned());
        let key: Vec<Expr> = key.iter().map(|at| column(input.field(*at).name())).collect();
        Ok(Self {
            schema: physical_schema(output),
            function: rank.function,
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            numbered: rank.column.is_some(),
            end: input.index_of(end)?,
            parts: plain(&parts)?,
            order: order_columns(input, rank)?,
            key: plain(&key)?,
            windows: BTreeMap::new(),
            known: HashMap::new(),
            pieces: Vec::new(),
            piece_bytes: 0,
            held_rows: 0,
            other_bytes: 0,
            counters,
        })
    }

    /// Takes results in the place of those before them; gives the parts that changed.
    fn absorb(&mut self, batch: &StreamBatch) -> Result<BTreeSet<Touched>, EngineError> {
        let parts = self.parts.rows(&batch.rows)?;
        let order = self.order.rows(&batch.rows)?;
        let keys = self.key.rows(&batch.rows)?;
        let ends = batch.rows.column(self.end).as_primitive::<TimestampNanosecondType>().values();
        let piece = u32::try_from(self.pieces.len()).expect("there are at most a few hundred pieces");
        let mut touched = BTreeSet::new();
        for (row, &end) in (0u32..).zip(ends) {
            let at = row as usize;
            let (part, order, key) = (parts.row(at).data(), order.row(at).data(), keys.row(at).data());
            touched.extend(self.remove(key));
            if batch.kind == RowKind::Delete {
                continue;
            }
            self.other_bytes += ROW_BYTES + 2 * (order.len() + key.len()) + part.len();
            let kept = Row { place: Place { piece, row }, fresh: true, is_final: batch.kind == RowKind::Final };
            let known = self.windows.entry(end).or_default().entry(part.into()).or_default();
            known.rows.insert((order.into(), key.into()), kept);
            self.known.insert(key.into(), Known { end, part: part.into(), order: order.into() });
            touched.insert((end, part.into()));
        }
        add(&self.counters.absorbed, batch.rows.num_rows());
        if batch.kind != RowKind::Delete {
            self.held_rows += batch.rows.num_rows();
            self.piece_bytes += batch.bytes();
            self.pieces.push(batch.rows.clone());
        }
        Ok(touched)
    }

    /// Forgets the latest result of a key; gives its part.
    fn remove(&mut self, key: &[u8]) -> Option<(i64, Box<[u8]>)> {
        let (key, Known { end, part, order }) = self.known.remove_entry(key)?;
        self.other_bytes -= ROW_BYTES + 2 * (order.len() + key.len()) + part.len();
        if let Some(of_part) = self.windows.get_mut(&end).and_then(|parts| parts.get_mut(&part)) {
            of_part.rows.remove(&(order, key));
        }
        Some((end, part))
    }

    /// Closes the windows whose final results have come: gives the first of them.
    fn close(&mut self, watermark: i64) -> Changes {
        let mut changes = Changes::default();
        while let Some(first) = self.windows.first_entry() {
            if first.key().saturating_sub(RESULT_LAG_NS) >= watermark {
                break;
            }
            for (part, mut of_part) in first.remove() {
                for (order, key) in of_part.rows.keys() {
                    self.known.remove(key);
                    self.other_bytes -= ROW_BYTES + 2 * (order.len() + key.len()) + part.len();
                }
                of_part.rows.retain(|_, row| row.is_final);
                of_part.rows.values_mut().for_each(|row| row.fresh = true);
                of_part.tell(self.function, self.limit, self.numbered, &mut changes);
            }
        }
        changes
    }

    /// Rows with their numbers as a batch.
    fn rows(&self, of: &[(Place, i64)]) -> Result<RecordBatch, EngineError> {
        let places: Vec<(usize, usize)> =
            of.iter().map(|(place, _)| (place.piece as usize, place.row as usize)).collect();
        let pieces: Vec<&RecordBatch> = self.pieces.iter().collect();
        let rows = interleave_record_batch(&pieces, &places)?;
        let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
        if self.numbered {
            let numbers = Int64Array::from_iter_values(of.iter().map(|(_, number)| *number));
            columns.insert(columns.len() - 2, Arc::new(numbers));
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// Hands on what changes: what is final, what is not, and what is withdrawn. Together the batches stand for all of the
    /// one that came.
    fn say(
        &self,
        batch: &StreamBatch,
        closing: Changes,
        changes: Changes,
        output: &mut Output,
    ) -> Result<(), EngineError> {
        let withdrawn = [closing.withdrawn, changes.withdrawn].concat();
        let all = [(closing.told, RowKind::Final), (changes.told, RowKind::Update), (withdrawn, RowKind::Delete)];
        let parts: Vec<_> = all.into_iter().filter(|(rows, _)| !rows.is_empty()).collect();
        if parts.is_empty() {
            output.updates.push(batch.with_rows(RecordBatch::new_empty(Arc::clone(&self.schema))));
        }
        let mut first = batch.first;
        for (at, (rows, kind)) in parts.iter().enumerate() {
            add(&self.counters.rows_in, rows.len());
            let mut said = batch.with_rows(self.rows(rows)?);
            let next = if at + 1 == parts.len() { batch.next.0 } else { first.0 + rows.len() as u64 };
            (said.kind, said.first, said.next) = (*kind, first, Offset(next.min(batch.next.0)));
            first = said.next;
            output.updates.push(said);
        }
        Ok(())
    }

    /// Holds the rows only that are ranked or were told, in one piece, when too many others are held.
    fn compact(&mut self) -> Result<(), EngineError> {
        let of_parts = || self.windows.values().flat_map(BTreeMap::values);
        let told: usize = of_parts().map(|part| part.told.len()).sum();
        let needed = self.known.len() + told;
        if self.held_rows <= 2 * needed + STALE_ROWS && self.pieces.len() <= MAX_PIECES {
            return Ok(());
        }
        let places = of_parts().flat_map(|part| {
            let rows = part.rows.values().map(|row| row.place);
            rows.chain(part.told.values().map(|(place, _)| *place))
        });
        let places: Vec<_> = places.map(|place| (place.piece as usize, place.row as usize)).collect();
        let pieces: Vec<&RecordBatch> = self.pieces.iter().collect();
        let rows = if places.is_empty() { Vec::new() } else { vec![interleave_record_batch(&pieces, &places)?] };
        let mut next = 0;
        for part in self.windows.values_mut().flat_map(BTreeMap::values_mut) {
            let rows = part.rows.values_mut().map(|row| &mut row.place);
            for place in rows.chain(part.told.values_mut().map(|(place, _)| place)) {
                *place = Place { piece: 0, row: next };
                next += 1;
            }
        }
        self.held_rows = places.len();
        self.piece_bytes = rows.iter().map(RecordBatch::get_array_memory_size).sum();
        self.pieces = rows;
        Ok(())
    }
}

impl Part {
    /// What changes of the first rows since they were told last.
    fn tell(&mut self, function: RankFunction, limit: i64, numbered: bool, changes: &mut Changes) {
        let mut before = std::mem::take(&mut self.told);
        let (mut row_number, mut number) = (0, 0);
        let mut last: Option<&[u8]> = None;
        for ((order, key), row) in &mut self.rows {
            let same = last == Some(&**order);
            row_number += 1;
            number = match function {
                RankFunction::RowNumber => row_number,
                RankFunction::Rank if same => number,
                RankFunction::Rank => row_number,
                RankFunction::DenseRank => number + i64::from(!same),
            };
            if number > limit {
                break;
            }
            last = Some(&**order);
            let known = before.remove(key);
            let moved = known.is_none_or(|(_, told)| numbered && told != number);
            if std::mem::take(&mut row.fresh) || moved {
                changes.told.push((row.place, number));
            }
            self.told.insert(key.clone(), (row.place, number));
        }
        changes.withdrawn.extend(before.into_values());
    }
}

impl Operator for RankUpdates {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        if batch.kind == RowKind::Append {
            return Err(EngineError::Plan("running ranks of rows that are appended".into()));
        }
        let touched = self.absorb(&batch)?;
        let closing = self.close(batch.watermark.0);
        let mut changes = Changes::default();
        // More of a window's final results may follow: they are told together.
        if batch.kind != RowKind::Final {
            for (end, part) in touched {
                let Some(parts) = self.windows.get_mut(&end) else { continue };
                let Some(of_part) = parts.get_mut(&part) else { continue };
                of_part.tell(self.function, self.limit, self.numbered, &mut changes);
                if of_part.rows.is_empty() {
                    parts.remove(&part);
                }
            }
        }
        self.say(&batch, closing, changes, output)?;
        self.windows.retain(|_, parts| !parts.is_empty());
        self.compact()
    }

    fn state_bytes(&self) -> usize {
        self.piece_bytes + self.other_bytes
    }
}
