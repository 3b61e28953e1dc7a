//! Gives groups a row in every window.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, TimestampNanosecondArray, UInt32Array, new_null_array,
};
use arrow::compute::{cast, concat, concat_batches, filter, take};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimestampNanosecondType, UInt32Type};
use datafusion_common::ScalarValue;
use squilla_query::{FillValue, WindowSpec};

use super::carried::Carried;
use super::emit::{Moments, Series};
use super::grid::Grid;
use super::key_table::KeyTable;
use super::progress::Progress;
use super::state::values;
use super::{Operator, Output, RESULT_LAG_NS, State};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Which rows a [`Fill`] adds.
#[derive(Debug, Clone, Copy)]
pub struct FillSpec {
    /// The windows: tumbling or hopping.
    pub window: WindowSpec,
    /// How many columns behind the window are keys; the others are values.
    pub keys: usize,
    /// What values are in windows without a row.
    pub value: FillValue,
    /// Windows without a row after which a group is forgotten.
    pub empty_windows: u32,
}

/// What a [`Fill`] reads and gives.
#[derive(Debug, Clone)]
pub struct FillInput {
    /// The physical fields of the batches that come in.
    pub input: SchemaRef,
    /// The visible fields that come out.
    pub schema: SchemaRef,
    /// Partitions of the input.
    pub partitions: u32,
    /// Bytes of state that are too many.
    pub state_limit_bytes: usize,
}

/// Gives each group a row in every window from the first that it has one in.
///
/// - Schema: final results of windows in, `window_start`, `window_end`, keys and values; out come the same rows, and for
///   each window the groups that it lacks, with the values that are asked for. One partition, in order of window ends.
/// - Watermark: a window is told once the watermark has passed the event time of its results, whether or not it has any.
///   At the end of the input windows are filled up to the last that has a row. The watermark is passed on.
/// - State: the last row of each group, and how many windows it has lacked; it is forgotten after so many. Bounded by the
///   budget, beyond which the query ends with [`EngineError::StateBudget`].
/// - Errors: none of its own.
/// - Example: a group with 2 rows in 00:00–00:10 and 1 in 00:20–00:30 has 2, 0 and 1 with `FILL (0)`.
///
/// Gaps are filled as by InfluxQL's `GROUP BY time(…) fill(…)`, but as time goes on.
pub struct Fill {
    input: SchemaRef,
    schema: SchemaRef,
    spec: FillSpec,
    grid: Grid,
    /// Rows of windows that the watermark has not passed, by their starts.
    waiting: BTreeMap<i64, Vec<RecordBatch>>,
    keys: KeyTable,
    /// Keys and values of each group in its last row.
    known: Vec<ArrayRef>,
    /// Windows that each group has lacked since.
    lacked: Vec<u32>,
    /// The next window to be told; `None`: that of the first row.
    next: Option<i64>,
    progress: Progress,
    told: Series,
    watermark: i64,
    idle: bool,
    arrival: EventTime,
    limit_bytes: usize,
    counters: Arc<Counters>,
}

impl Fill {
    /// An operator that counts in `counters` whatever becomes of a row, but not the rows in.
    ///
    /// # Errors
    /// [`EngineError::Plan`] for windows without length, and columns that do not fit.
    pub fn new(spec: FillSpec, input: FillInput, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let fields = input.schema.fields();
        if input.input.fields().len() != fields.len() + 2 || fields.len() < 2 + spec.keys {
            return Err(EngineError::Plan(format!("{} columns to fill", fields.len())));
        }
        let keys = Arc::new(Schema::new(fields[2..2 + spec.keys].to_vec()));
        let known = fields[2..].iter().map(|field| arrow::array::new_empty_array(field.data_type())).collect();
        let schema = physical_schema(&input.schema);
        Ok(Self {
            grid: Grid::new(spec.window)?,
            spec,
            waiting: BTreeMap::new(),
            keys: KeyTable::new(keys)?,
            known,
            lacked: Vec::new(),
            next: None,
            progress: Progress::new(input.partitions),
            told: Series::new(Arc::clone(&schema)),
            schema,
            watermark: i64::MIN,
            idle: false,
            arrival: EventTime::MIN,
            limit_bytes: input.state_limit_bytes,
            counters,
            input: input.input,
        })
    }

    fn carried(&mut self) -> Carried<'_> {
        let Self { progress, told, watermark, idle, arrival, .. } = self;
        Carried { progress, next: told.next(), watermark, idle, arrival }
    }

    /// Keeps rows until their windows are passed.
    fn wait(&mut self, batch: &StreamBatch) {
        let starts = batch.rows.column(0).as_primitive::<TimestampNanosecondType>().values();
        let mut from = 0;
        while from < starts.len() {
            let count = starts[from..].iter().take_while(|start| **start == starts[from]).count();
            self.waiting.entry(starts[from]).or_default().push(batch.rows.slice(from, count));
            from += count;
        }
    }

    /// Tells the windows that the watermark has passed.
    fn advance(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let after = self.progress.watermark().max(self.watermark);
        let told = output.rows.len();
        loop {
            let filled = self.next.filter(|_| !self.lacked.is_empty() && after != i64::MAX);
            let rows = self.waiting.keys().next().copied();
            let between = self.next.filter(|_| !self.lacked.is_empty());
            let Some(start) = rows.map_or(filled, |rows| Some(between.map_or(rows, |next| next.min(rows)))) else {
                break;
            };
            if self.grid.end(start).saturating_sub(RESULT_LAG_NS) >= after {
                break;
            }
            self.tell(start, output)?;
            self.next = Some(self.grid.next(start)).filter(|next| *next != i64::MAX);
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
        Ok(())
    }

    /// Tells a window: the rows that came, and those of the other groups.
    fn tell(&mut self, start: i64, output: &mut Output) -> Result<(), EngineError> {
        let end = self.grid.end(start);
        let came = self.waiting.remove(&start).unwrap_or_default();
        let present = match came.first() {
            Some(first) => self.learn(&concat_batches(&first.schema(), &came)?)?,
            None => vec![false; self.lacked.len()],
        };
        for (lacked, present) in self.lacked.iter_mut().zip(&present) {
            *lacked = if *present { 0 } else { *lacked + 1 };
        }
        let stays: BooleanArray = self.lacked.iter().map(|lacked| Some(*lacked <= self.spec.empty_windows)).collect();
        if stays.true_count() < stays.len() {
            self.forget(&stays)?;
        }
        let len = self.lacked.len();
        if len == 0 {
            return Ok(());
        }
        let empty: BooleanArray = self.lacked.iter().map(|lacked| Some(*lacked > 0)).collect();
        let bounds = [start, end].map(|time| Arc::new(TimestampNanosecondArray::from_value(time, len)) as ArrayRef);
        let mut columns = bounds.to_vec();
        for (index, column) in self.known.iter().enumerate() {
            columns.push(if index < self.spec.keys { Arc::clone(column) } else { self.value(column, &empty)? });
        }
        let time = end.saturating_sub(RESULT_LAG_NS);
        let moments = Moments { times: vec![time; len], before: vec![time.max(self.watermark); len] };
        add(&self.counters.passed, len - empty.true_count());
        add(&self.counters.rows_out, len);
        // More windows may follow at once: the last batch is given the watermark behind all of them.
        self.told.spread(RowKind::Append, columns, moments, time.max(self.watermark), self.arrival, &mut output.rows)
    }

    /// Takes a window's rows as the last of their groups; gives for each group whether it has one.
    fn learn(&mut self, rows: &RecordBatch) -> Result<Vec<bool>, EngineError> {
        let visible = self.schema.fields().len() - 2;
        let mut columns = Vec::with_capacity(visible);
        for (column, field) in rows.columns()[2..visible].iter().zip(&self.schema.fields()[2..]) {
            columns.push(cast(column, field.data_type())?);
        }
        let before = self.lacked.len();
        let mut ids = Vec::new();
        self.keys.intern(&columns[..self.spec.keys], rows.num_rows(), &mut ids)?;
        self.lacked.resize(if rows.num_rows() > 0 { self.keys.len() } else { before }, 0);
        let place = |row: usize| u32::try_from(row).expect("the budget ends a query long before");
        let mut latest: Vec<u32> = (0..self.lacked.len()).map(place).collect();
        let mut present = vec![false; self.lacked.len()];
        for (row, id) in ids.iter().enumerate() {
            latest[*id] = place(before + row);
            present[*id] = true;
        }
        let latest = UInt32Array::from(latest);
        for (known, column) in self.known.iter_mut().zip(&columns) {
            *known = take(&concat(&[known.as_ref(), column.as_ref()])?, &latest, None)?;
        }
        Ok(present)
    }

    fn forget(&mut self, stays: &BooleanArray) -> Result<(), EngineError> {
        for known in &mut self.known {
            *known = filter(known, stays)?;
        }
        let mut kept = stays.values().iter();
        self.lacked.retain(|_| kept.next().unwrap_or(false));
        self.keys.retain(stays)
    }

    /// The values of a window: what groups have, and what is put where they have nothing.
    fn value(&self, column: &ArrayRef, empty: &BooleanArray) -> Result<ArrayRef, EngineError> {
        let kind = column.data_type();
        let nothing = match self.spec.value {
            FillValue::Previous => return Ok(Arc::clone(column)),
            FillValue::Zero if kind.is_numeric() => {
                let zero = ScalarValue::new_zero(kind).and_then(|zero| zero.to_array_of_size(1));
                zero.map_err(|error| EngineError::Plan(error.strip_backtrace()))?
            }
            FillValue::Zero | FillValue::Null => new_null_array(kind, 1),
        };
        let last = u32::try_from(column.len()).expect("the budget ends a query long before");
        let rows: UInt32Array =
            (0..last).zip(empty.values()).map(|(row, empty)| if empty { last } else { row }).collect();
        Ok(take(&concat(&[column.as_ref(), nothing.as_ref()])?, &rows, None)?)
    }
}

impl Operator for Fill {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        self.wait(&batch);
        self.arrival = batch.arrival;
        self.progress.advance(batch.partition, batch.watermark.0, batch.idle)?;
        self.advance(output)?;
        let used_bytes = self.state_bytes();
        if used_bytes > self.limit_bytes {
            return Err(EngineError::StateBudget { scope: "query", used_bytes, limit_bytes: self.limit_bytes });
        }
        Ok(())
    }

    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        self.progress.end(partition)?;
        self.advance(output)
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.carried().save(state)?;
        state.put(&self.next)?;
        self.keys.save(state)?;
        let lacked: ArrayRef = Arc::new(UInt32Array::from(self.lacked.clone()));
        state.put_columns([&self.known[..], &[lacked]].concat(), self.lacked.len())?;
        state.put(&self.waiting.iter().map(|(start, pieces)| (*start, pieces.len())).collect::<Vec<_>>())?;
        self.waiting.values().flatten().for_each(|piece| state.put_rows(piece.clone()));
        Ok(())
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.carried().restore(state)?;
        self.next = state.take()?;
        self.keys.restore(state)?;
        let known = self.known.iter().map(|column| column.data_type().clone());
        let kinds: Vec<DataType> = known.chain([DataType::UInt32]).collect();
        (self.known, _) = state.take_columns(&kinds)?;
        self.lacked = self.known.pop().map_or_else(Vec::new, |lacked| values::<UInt32Type>(&lacked));
        let waiting: Vec<(i64, usize)> = state.take()?;
        for (start, pieces) in waiting {
            let pieces = (0..pieces).map(|_| state.take_rows_of(&self.input)).collect::<Result<_, _>>()?;
            self.waiting.insert(start, pieces);
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let waiting = self.waiting.values().flatten().map(RecordBatch::get_array_memory_size).sum::<usize>();
        let known = self.known.iter().map(|column| column.get_array_memory_size()).sum::<usize>();
        let keys = if self.lacked.is_empty() { 0 } else { self.keys.bytes() + known + self.lacked.len() * 4 };
        waiting + keys
    }
}
