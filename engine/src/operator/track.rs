//! Follows the windows of keys, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use squilla_query::TrackSpec;

use super::carried::Carried;
use super::emit::{Moments, Series};
use super::forgetting::Forgetting;
use super::key_table::KeyTable;
use super::progress::Progress;
use super::state::{check_count, values};
use super::track_memory::Memory;
use super::{Operator, Output, State};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// What a [`Track`] works on.
#[derive(Debug, Clone)]
pub struct TrackInput {
    /// The physical fields of the batches that come in.
    pub input: SchemaRef,
    /// The visible fields that come out: the input's, and one for each function.
    pub schema: SchemaRef,
    /// Partitions of the input.
    pub partitions: u32,
    /// Bytes of state that are too many.
    pub state_limit_bytes: usize,
}

/// Puts beside each row values that follow from the rows of its key before it.
///
/// - Schema: final results of windows in; out come the same rows, and behind their columns one for each function. One
///   partition, in order of event time; rows of one moment in order of partition and arrival.
/// - Watermark: rows of a moment are followed and told once the watermark has passed it. It is passed on.
/// - State: for each key the last values that its functions look back at, and rows that the watermark has not passed. A
///   key is forgotten when it has had no row for the time to live (event time). Bounded by the budget, beyond which the
///   query ends with [`EngineError::StateBudget`].
/// - Errors: none of its own. A row whose moment has been told already is late.
/// - Example: of a key's windows with 10, 11, 12 and 40 the `lag(n)` is null, 10, 11, 12, and the robust z-score over 3 is
///   null, null, null, 19.6.
///
/// The robust score is that of B. Iglewicz and D. Hoaglin, "How to Detect and Handle Outliers" (1993); the band that of
/// S. Roberts, "Control Chart Tests Based on Geometric Moving Averages" (Technometrics 1959), with the variance of
/// T. Finch, "Incremental calculation of weighted mean and variance" (2009).
pub struct Track {
    input: SchemaRef,
    schema: SchemaRef,
    keys: Vec<usize>,
    arguments: Vec<usize>,
    ttl: i64,
    table: KeyTable,
    /// For each key the time of its last row.
    last: Vec<i64>,
    /// For each function what it remembers of keys.
    memories: Vec<Memory>,
    /// Rows that the watermark has not passed, by time and partition.
    waiting: BTreeMap<(i64, u32), Vec<RecordBatch>>,
    forgetting: Forgetting,
    progress: Progress,
    told: Series,
    watermark: i64,
    idle: bool,
    arrival: EventTime,
    limit_bytes: usize,
    counters: Arc<Counters>,
}

impl Track {
    /// An operator that counts in `counters` whatever becomes of a row, but not the rows in.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when a column is not there, or not of a type that can be followed.
    pub fn new(track: &TrackSpec, input: TrackInput, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let index = |name: &String| Ok::<usize, EngineError>(input.input.index_of(name)?);
        let keys = track.partition_by.iter().map(index).collect::<Result<Vec<_>, _>>()?;
        let arguments = track.calls.iter().map(|call| index(&call.argument)).collect::<Result<Vec<_>, _>>()?;
        let memories = track
            .calls
            .iter()
            .zip(&arguments)
            .map(|(call, column)| Memory::new(&call.function, input.input.field(*column).data_type()));
        let memories = memories.collect::<Result<Vec<_>, _>>()?;
        let fields: Vec<_> = keys.iter().map(|key| Arc::clone(&input.input.fields()[*key])).collect();
        let schema = physical_schema(&input.schema);
        Ok(Self {
            keys,
            arguments,
            ttl: track.ttl_ns,
            table: KeyTable::new(Arc::new(Schema::new(fields)))?,
            last: Vec::new(),
            memories,
            waiting: BTreeMap::new(),
            forgetting: Forgetting::new(Some(track.ttl_ns)),
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

    /// Keeps rows until the watermark has passed them.
    fn wait(&mut self, batch: &StreamBatch) -> Result<(), EngineError> {
        let told = self.watermark;
        let mut rows = batch.rows.clone();
        let in_time: BooleanArray = batch.event_times().iter().map(|time| Some(*time >= told)).collect();
        let late = in_time.len() - in_time.true_count();
        if late > 0 {
            add(&self.counters.late, late);
            rows = filter_record_batch(&rows, &in_time)?;
        }
        let times: Vec<i64> = batch.event_times().iter().copied().filter(|time| *time >= told).collect();
        let mut from = 0;
        for run in times.chunk_by(|left, right| left == right) {
            let piece = rows.slice(from, run.len());
            self.waiting.entry((run[0], batch.partition)).or_default().push(piece);
            from += run.len();
        }
        Ok(())
    }

    /// Follows and tells the rows that the watermark has passed; forgets keys.
    fn advance(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let after = self.progress.watermark().max(self.watermark);
        let told = output.rows.len();
        while let Some(first) = self.waiting.keys().next().copied()
            && (first.0 < after || after == i64::MAX)
        {
            let (time, mut pieces) = (first.0, Vec::new());
            while let Some(entry) = self.waiting.first_entry()
                && entry.key().0 == time
            {
                pieces.append(&mut entry.remove());
            }
            self.tell(time, &pieces, output)?;
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
        match self.forgetting.due(after) {
            Some(until) => self.forget(until),
            None => Ok(()),
        }
    }

    /// Follows the rows of one moment, and tells them.
    fn tell(&mut self, time: i64, pieces: &[RecordBatch], output: &mut Output) -> Result<(), EngineError> {
        let Some(first) = pieces.first() else { return Ok(()) };
        let rows = concat_batches(&first.schema(), pieces)?;
        let len = rows.num_rows();
        let keys: Vec<ArrayRef> = self.keys.iter().map(|key| Arc::clone(rows.column(*key))).collect();
        let mut ids = Vec::new();
        self.table.intern(&keys, len, &mut ids)?;
        self.last.resize(self.table.len(), time);
        for id in &ids {
            if time.saturating_sub(self.last[*id]) > self.ttl {
                self.memories.iter_mut().for_each(|memory| memory.begin_anew(*id));
            }
            self.last[*id] = time;
        }
        let mut columns = rows.columns()[..rows.num_columns() - 2].to_vec();
        for (memory, argument) in self.memories.iter_mut().zip(&self.arguments) {
            columns.push(memory.follow(rows.column(*argument), &ids, self.last.len(), time)?);
        }
        add(&self.counters.passed, len);
        add(&self.counters.rows_out, len);
        let before = time.max(self.watermark);
        let moments = Moments { times: vec![time; len], before: vec![before; len] };
        self.told.spread(RowKind::Append, columns, moments, before, self.arrival, &mut output.rows)
    }

    fn carried(&mut self) -> Carried<'_> {
        let Self { progress, told, watermark, idle, arrival, .. } = self;
        Carried { progress, next: told.next(), watermark, idle, arrival }
    }

    /// Forgets the keys whose last row happened at `until` or before.
    fn forget(&mut self, until: i64) -> Result<(), EngineError> {
        // A row at the watermark would still find its key as it was.
        let stays: BooleanArray = self.last.iter().map(|last| Some(*last >= until)).collect();
        if stays.true_count() == stays.len() || self.keys.is_empty() {
            return Ok(());
        }
        self.table.retain(&stays)?;
        let mut kept = stays.values().iter();
        self.last.retain(|_| kept.next().unwrap_or(false));
        self.memories.iter_mut().for_each(|memory| memory.retain(&stays));
        Ok(())
    }
}

impl Operator for Track {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        self.wait(&batch)?;
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
        self.forgetting.save(state)?;
        self.table.save(state)?;
        let last: ArrayRef = Arc::new(Int64Array::from(self.last.clone()));
        state.put_columns(vec![last], self.last.len())?;
        self.memories.iter().try_for_each(|memory| memory.save(state))?;
        state.put(&self.waiting.iter().map(|(place, pieces)| (*place, pieces.len())).collect::<Vec<_>>())?;
        self.waiting.values().flatten().for_each(|piece| state.put_rows(piece.clone()));
        Ok(())
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.carried().restore(state)?;
        self.forgetting.restore(state)?;
        self.table.restore(state)?;
        let (last, keys) = state.take_columns(&[DataType::Int64])?;
        if !self.keys.is_empty() {
            check_count("keys", keys, self.table.len())?;
        }
        self.last = values::<Int64Type>(&last[0]);
        self.memories.iter_mut().try_for_each(|memory| memory.restore(state))?;
        let waiting: Vec<((i64, u32), usize)> = state.take()?;
        for (place, pieces) in waiting {
            let pieces = (0..pieces).map(|_| state.take_rows_of(&self.input)).collect::<Result<_, _>>()?;
            self.waiting.insert(place, pieces);
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        let waiting = self.waiting.values().flatten().map(RecordBatch::get_array_memory_size).sum::<usize>();
        let memories = self.memories.iter().map(Memory::bytes).sum::<usize>();
        let keys = if self.last.is_empty() { 0 } else { self.table.bytes() + self.last.len() * size_of::<i64>() };
        waiting + memories + keys
    }
}
