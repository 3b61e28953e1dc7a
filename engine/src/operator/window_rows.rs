//! Rows of open windows, as they came.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use serde::{Deserialize, Serialize};

use super::expression::text;
use super::late::Tardy;
use super::placement::closed_until;
use super::progress::Progress;
use super::state::State;
use crate::batch::{EVENT_TIME, StreamBatch};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Rows of a piece beyond which it is not copied into a larger one.
const PIECE_ROWS: usize = 8192;
/// Bytes that a piece takes beside its values: its columns' headers.
const COLUMN_BYTES: usize = 128;

/// What a [`WindowRows`] keeps.
pub(super) struct WindowRowsSpec<'a> {
    /// The physical fields of the batches that come in.
    pub(super) input: SchemaRef,
    /// Name of the field that holds where a row's window starts.
    pub(super) start: &'a str,
    /// Name of the field that holds where it ends.
    pub(super) end: &'a str,
    /// How long after its end a window still takes rows, in nanoseconds of event time.
    pub(super) grace_ns: i64,
    /// Partitions of the input.
    pub(super) partitions: u32,
    /// Which windows are never told.
    pub(super) untold: Untold,
}

/// Which windows are never told, since a query began amid them; [`EventTime::MIN`]: none.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Untold {
    /// Those that start before: rows were put in their windows one by one, so some of theirs may be missing.
    StartBefore(EventTime),
    /// Those that end then or before: rows are those of closed windows, which come at their ends.
    EndUpTo(EventTime),
}

/// Keeps the rows of each open window until it closes.
///
/// - A row is late when its window's end (and the grace) is not after its own watermark, which the rows before it in
///   its partition imply: verdicts depend neither on batches nor on other partitions. A row in time whose window was
///   closed already, since its partition was taken for idle, is late too, and counted apart.
/// - Rows of a closed window are in order of their event times; those of one event time in order of their partitions;
///   those of one partition as they came. That does not depend on how partitions came to be read in turn.
/// - State: the rows of open windows. Counts absorbed, late, late_idle, before_start, and failed (a window without
///   bounds).
pub(super) struct WindowRows {
    schema: SchemaRef,
    bounds: (usize, usize),
    grace: i64,
    untold: Untold,
    progress: Progress,
    /// Open windows by end and start.
    windows: BTreeMap<(i64, i64), Kept>,
    /// Windows that end here or before have been closed.
    closed: i64,
    /// Parts to which the last batch added rows.
    touched: Vec<((i64, i64), u32)>,
    /// Rows of the last batch that were late.
    tardy: Vec<Tardy>,
    bytes: usize,
    counters: Arc<Counters>,
}

/// A window that has closed.
#[derive(Debug)]
pub(super) struct ClosedWindow {
    pub(super) start: i64,
    pub(super) end: i64,
    /// At least one row, with the hidden columns.
    pub(super) rows: RecordBatch,
}

/// End and start of a window.
type Bounds = (i64, i64);

/// Rows of one window, by partition.
#[derive(Default)]
struct Kept {
    parts: BTreeMap<u32, Part>,
}

/// Rows of one window and partition, as they came.
#[derive(Default)]
pub(super) struct Part {
    pieces: Vec<RecordBatch>,
    rows: usize,
    /// Rows that were left when it was last cut short.
    pruned_to: usize,
}

impl WindowRows {
    /// No rows yet.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when there are no such columns.
    pub(super) fn new(spec: WindowRowsSpec<'_>, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let column = |name: &str| {
            let index = spec.input.index_of(name)?;
            match spec.input.field(index).data_type() == &squilla_query::timestamp_type() {
                true => Ok(index),
                false => Err(EngineError::Plan(format!("\"{name}\" does not tell a window"))),
            }
        };
        Ok(Self {
            bounds: (column(spec.start)?, column(spec.end)?),
            schema: spec.input,
            grace: spec.grace_ns.max(0),
            untold: spec.untold,
            progress: Progress::new(spec.partitions),
            windows: BTreeMap::new(),
            closed: i64::MIN,
            touched: Vec::new(),
            tardy: Vec::new(),
            bytes: 0,
            counters,
        })
    }

    /// Judges and keeps the rows of a batch, and notes how far its partition has come.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn absorb(&mut self, batch: &StreamBatch) -> Result<(), EngineError> {
        self.touched.clear();
        self.tardy.clear();
        if batch.rows.num_rows() > 0 {
            for (window, rows) in self.deal(batch) {
                let rows = match rows {
                    None => batch.rows.clone(),
                    Some(rows) => take_record_batch(&batch.rows, &UInt32Array::from(rows))?,
                };
                add(&self.counters.absorbed, rows.num_rows());
                self.touched.push((window, batch.partition));
                let part = self.windows.entry(window).or_default().parts.entry(batch.partition).or_default();
                self.bytes += bytes(&rows);
                let (before, after) = part.push(rows)?;
                self.bytes = (self.bytes + after).saturating_sub(before);
            }
        }
        self.progress.advance(batch.partition, batch.watermark.0, batch.idle)
    }

    /// A partition has ended.
    ///
    /// # Errors
    /// As [`WindowRows::absorb`].
    pub(super) fn end_partition(&mut self, partition: u32) -> Result<(), EngineError> {
        self.progress.end(partition)
    }

    /// How far the partitions have come.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The same, which may be set.
    pub(super) fn progress_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// Puts the rows of open windows, but not how far the partitions have come, behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn save(&self, state: &mut State) -> Result<(), EngineError> {
        let parts = || self.windows.iter().flat_map(|(window, kept)| kept.parts.iter().map(move |part| (window, part)));
        let places =
            parts().map(|(window, (partition, part))| (*window, *partition, part.pieces.len(), part.pruned_to));
        state.put(&(self.untold, self.closed, places.collect::<Vec<_>>()))?;
        parts().flat_map(|(_, (_, part))| &part.pieces).for_each(|piece| state.put_rows(piece.clone()));
        Ok(())
    }

    /// Takes rows from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        let places: Vec<(Bounds, u32, usize, usize)>;
        (self.untold, self.closed, places) = state.take()?;
        for (window, partition, pieces, pruned_to) in places {
            let pieces = (0..pieces).map(|_| state.take_rows_of(&self.schema)).collect::<Result<Vec<_>, _>>()?;
            let rows = pieces.iter().map(RecordBatch::num_rows).sum();
            let part = Part { pieces, rows, pruned_to };
            self.bytes += part.bytes();
            self.windows.entry(window).or_default().parts.insert(partition, part);
        }
        Ok(())
    }

    /// Closes the windows whose end, and the grace, the watermark `until` has reached, in order of their ends. Later
    /// rows of them are late.
    ///
    /// # Errors
    /// As [`WindowRows::absorb`].
    pub(super) fn close(&mut self, until: i64) -> Result<Vec<ClosedWindow>, EngineError> {
        self.closed = self.closed.max(closed_until(until, self.grace));
        let mut told = Vec::new();
        while let Some(first) = self.windows.first_entry() {
            let (end, start) = *first.key();
            if end > self.closed {
                break;
            }
            let kept = first.remove();
            self.bytes = self.bytes.saturating_sub(kept.parts.values().map(Part::bytes).sum());
            told.push(ClosedWindow { start, end, rows: kept.in_order(&self.schema)? });
        }
        Ok(told)
    }

    /// Cuts the rows that the last batch added to short: `keep` gives those of a partition's rows that are still needed, ascending. It
    /// is asked when at least `least` rows, and as many as were left the last time, have come since.
    ///
    /// # Errors
    /// Those of `keep`.
    pub(super) fn prune(
        &mut self,
        least: usize,
        keep: &mut dyn FnMut(&RecordBatch) -> Result<UInt32Array, EngineError>,
    ) -> Result<(), EngineError> {
        for (window, partition) in self.touched.drain(..) {
            let kept = self.windows.get_mut(&window);
            let Some(part) = kept.and_then(|kept| kept.parts.get_mut(&partition)) else { continue };
            if part.rows < part.pruned_to.saturating_mul(2).max(part.pruned_to.saturating_add(least)) {
                continue;
            }
            let before = part.bytes();
            let all = concat_batches(&self.schema, &part.pieces)?;
            let left = take_record_batch(&all, &keep(&all)?)?;
            *part = Part { rows: left.num_rows(), pruned_to: left.num_rows(), pieces: vec![left] };
            self.bytes = (self.bytes + part.bytes()).saturating_sub(before);
        }
        Ok(())
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows of the last batch that were late.
    pub(super) fn tardy(&self) -> &[Tardy] {
        &self.tardy
    }

    /// The rows in time, by window; `None`: all rows of the batch.
    fn deal(&mut self, batch: &StreamBatch) -> Vec<(Bounds, Option<Vec<u32>>)> {
        let column = |index: usize| batch.rows.column(index).as_primitive::<TimestampNanosecondType>();
        let (starts, ends) = (column(self.bounds.0), column(self.bounds.1));
        let watermarks = batch.watermarks();
        let (mut late, mut late_idle, mut before_start, mut failed) = (0, 0, 0, 0);
        let mut dealt: BTreeMap<(i64, i64), Vec<u32>> = BTreeMap::new();
        let mut latest: Option<((i64, i64), Vec<u32>)> = None;
        for (row, &watermark) in watermarks.iter().enumerate() {
            if starts.is_null(row) || ends.is_null(row) {
                failed += 1;
                self.counters.sample("its window has no bounds", &text(&batch.rows, row));
                continue;
            }
            let (start, end) = (starts.value(row), ends.value(row));
            let untold = match self.untold {
                Untold::StartBefore(moment) => start < moment.0,
                Untold::EndUpTo(moment) => moment != EventTime::MIN && end <= moment.0,
            };
            if untold {
                before_start += 1;
            } else if end <= closed_until(watermark, self.grace) {
                late += 1;
                self.tardy.push((place_of(row), false));
            } else if end <= self.closed {
                late_idle += 1;
                self.tardy.push((place_of(row), true));
            } else {
                let at = place_of(row);
                match &mut latest {
                    Some((window, rows)) if *window == (end, start) => rows.push(at),
                    _ => {
                        if let Some((window, rows)) = latest.replace(((end, start), Vec::new())) {
                            dealt.insert(window, rows);
                        }
                        let mut rows = dealt.remove(&(end, start)).unwrap_or_default();
                        rows.push(at);
                        latest = Some(((end, start), rows));
                    }
                }
            }
        }
        add(&self.counters.late, late);
        add(&self.counters.late_idle, late_idle);
        add(&self.counters.before_start, before_start);
        add(&self.counters.failed, failed);
        dealt.extend(latest);
        let all = batch.rows.num_rows();
        dealt.into_iter().map(|(window, rows)| (window, (rows.len() < all).then_some(rows))).collect()
    }
}

impl Kept {
    /// All rows, by event time, partition and arrival.
    fn in_order(&self, schema: &SchemaRef) -> Result<RecordBatch, EngineError> {
        let rows = concat_batches(schema, self.parts.values().flat_map(|part| &part.pieces))?;
        let times = rows.column(schema.index_of(EVENT_TIME)?).as_primitive::<TimestampNanosecondType>().values();
        if times.is_sorted() {
            return Ok(rows);
        }
        let count = u32::try_from(rows.num_rows()).map_err(|_| EngineError::Plan("a window has 2^32 rows".into()))?;
        let mut order: Vec<u32> = (0..count).collect();
        order.sort_by_key(|row| times[*row as usize]);
        Ok(take_record_batch(&rows, &UInt32Array::from(order))?)
    }
}

impl Part {
    /// Adds rows; small pieces are joined, so that batches of one row do not make a piece each. Gives the bytes of the
    /// pieces that were joined, and of what they were joined to.
    fn push(&mut self, rows: RecordBatch) -> Result<(usize, usize), EngineError> {
        self.rows += rows.num_rows();
        self.pieces.push(rows);
        let (mut before, mut after) = (0, 0);
        while let [.., left, right] = self.pieces.as_slice() {
            let (one, other) = (left.num_rows(), right.num_rows());
            if one > 2 * other || one + other > PIECE_ROWS {
                break;
            }
            let joined = concat_batches(&left.schema(), [left, right])?;
            before += bytes(left) + bytes(right);
            after += bytes(&joined);
            self.pieces.truncate(self.pieces.len() - 2);
            self.pieces.push(joined);
        }
        Ok((before, after))
    }

    fn bytes(&self) -> usize {
        self.pieces.iter().map(bytes).sum()
    }
}

fn place_of(row: usize) -> u32 {
    u32::try_from(row).expect("a batch has fewer rows than 2^32")
}

/// Bytes that rows take: of a slice its own part.
fn bytes(rows: &RecordBatch) -> usize {
    let columns = rows.columns().iter().map(|column| {
        let own = column.to_data().get_slice_memory_size();
        own.unwrap_or_else(|_| column.get_array_memory_size()) + COLUMN_BYTES
    });
    columns.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::physical_schema;
    use crate::operator::testing::{Feed, MS, Row, lines, tumble, visible};
    use crate::operator::{AssignWindow, Operator, Output};

    fn assigned() -> (AssignWindow, Arc<Counters>) {
        let counters = Arc::new(Counters::default());
        let mut fields: Vec<_> = visible().fields().iter().cloned().collect();
        for name in [squilla_query::WINDOW_START, squilla_query::WINDOW_END, squilla_query::WINDOW_TIME] {
            fields.push(Arc::new(arrow::datatypes::Field::new(name, squilla_query::timestamp_type(), false)));
        }
        let output = Arc::new(arrow::datatypes::Schema::new(fields));
        let input = physical_schema(&visible());
        (AssignWindow::new(&input, tumble(10), &output, Arc::clone(&counters)).expect("it assigns"), counters)
    }

    /// Values of the rows of each window, and what was counted late, late since idle, and before the start.
    fn windows(batches: Vec<StreamBatch>, untold: Untold, close_early: Option<i64>) -> (Vec<String>, [u64; 3]) {
        let (mut assign, counters) = assigned();
        let spec = WindowRowsSpec {
            input: Arc::clone(assign.schema()),
            start: squilla_query::WINDOW_START,
            end: squilla_query::WINDOW_END,
            grace_ns: 0,
            partitions: 2,
            untold,
        };
        let mut kept = WindowRows::new(spec, Arc::clone(&counters)).expect("the columns are there");
        for (at, batch) in batches.into_iter().enumerate() {
            add(&counters.rows_in, batch.rows.num_rows());
            let mut output = Output::default();
            assign.process(batch, &mut output).expect("it assigns");
            for batch in output.rows {
                kept.absorb(&batch).expect("it takes a batch");
            }
            if at == 0
                && let Some(until) = close_early
            {
                kept.close(until * MS).expect("it closes");
            }
        }
        kept.end_partition(0).expect("known");
        kept.end_partition(1).expect("known");
        let told = kept.close(kept.progress().watermark()).expect("it closes");
        assert_eq!((kept.bytes(), counters.snapshot().unaccounted()), (0, 0));
        let values = told.into_iter().map(|window| {
            let batch = Feed::new(0, 1).batch(0, &[]).with_rows(window.rows);
            let values: Vec<String> =
                lines(&[batch]).iter().map(|line| line.split('|').nth(2).unwrap_or_default().to_owned()).collect();
            format!("{}-{}: {}", window.start / MS, window.end / MS, values.join(" "))
        });
        let counted = counters.snapshot();
        (values.collect(), [counted.late, counted.late_idle, counted.before_start])
    }

    const FIRST: [Row; 5] =
        [(1, None, Some(1)), (3, None, Some(2)), (12, None, Some(3)), (4, None, Some(4)), (2, None, Some(5))];
    const SECOND: [Row; 3] = [(3, None, Some(6)), (1, None, Some(7)), (25, None, Some(8))];

    #[test]
    fn rows_are_in_order_of_event_time_partition_and_arrival_whatever_the_batches() {
        for size in [1, 2, 8] {
            let mut feed = Feed::new(5, 2);
            let mut batches: Vec<StreamBatch> = SECOND.chunks(size).map(|rows| feed.batch(1, rows)).collect();
            batches.extend(FIRST.chunks(size).map(|rows| feed.batch(0, rows)));
            let (told, counted) = windows(batches, Untold::StartBefore(EventTime::MIN), None);
            assert_eq!(told, ["0-10: 1 7 5 2 6 4", "10-20: 3", "20-30: 8"]);
            assert_eq!(counted, [0, 0, 0]);
        }
    }

    #[test]
    fn a_row_is_late_by_its_own_watermark_or_since_its_window_was_closed() {
        for size in [1, 2, 8] {
            let mut feed = Feed::new(1, 2);
            let batches = FIRST.chunks(size).map(|rows| feed.batch(0, rows)).collect();
            let (told, counted) = windows(batches, Untold::StartBefore(EventTime::MIN), None);
            assert_eq!((told, counted), (vec!["0-10: 1 2".into(), "10-20: 3".into()], [2, 0, 0]));
        }
        let mut feed = Feed::new(5, 2);
        let batches = vec![feed.batch(0, &[]), feed.batch(0, &FIRST)];
        let (told, counted) = windows(batches, Untold::StartBefore(EventTime::MIN), Some(10));
        assert_eq!((told, counted), (vec!["10-20: 3".to_owned()], [0, 4, 0]));
    }

    #[test]
    fn windows_that_began_before_the_query_are_not_told() {
        let batches = || vec![Feed::new(5, 2).batch(0, &FIRST)];
        let (told, counted) = windows(batches(), Untold::StartBefore(EventTime(MS)), None);
        assert_eq!((told, counted), (vec!["10-20: 3".to_owned()], [0, 0, 4]));
        let (told, counted) = windows(batches(), Untold::EndUpTo(EventTime(20 * MS)), None);
        assert_eq!((told, counted), (Vec::<String>::new(), [0, 0, 5]));
    }
}
