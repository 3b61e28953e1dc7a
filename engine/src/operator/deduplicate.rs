//! Keeps the first row of each key.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, TimestampNanosecondArray, UInt32Array, UInt64Array};
use arrow::compute::{interleave_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, UInt32Type, UInt64Type};
use arrow::row::Rows;
use squilla_query::RankSpec;

use super::carried::Carried;
use super::emit::Series;
use super::forgetting::Forgetting;
use super::progress::Progress;
use super::ranking::{Columns, project_named};
use super::state::{check_count, values};
use super::{Operator, Output, State};
use crate::batch::{RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Bytes that a key takes beside its own.
const KEY_BYTES: usize = 2 * size_of::<Box<[u8]>>() + size_of::<Seen>();

/// What a [`Deduplicate`] works on; a [`super::RankRunning`] likewise.
#[derive(Debug, Clone)]
pub struct RankingInput {
    /// The physical fields of the batches that come in.
    pub input: SchemaRef,
    /// The visible fields that come out, by name those of the input; the number's besides, when it is asked for.
    pub schema: SchemaRef,
    /// Partitions of the input.
    pub partitions: u32,
    /// A key is forgotten when so much event time, in nanoseconds, has passed since its latest row; `None`: never.
    pub ttl_ns: Option<i64>,
    /// Bytes of state that are too many.
    pub state_limit_bytes: usize,
}

/// Keeps the first row of each key: by arrival, at once; or by event time, when no earlier one can come.
///
/// - Schema: the input's columns, one partition; by arrival in that order, by event time in order of that. Rows of one
///   event time go by partition, then by arrival. A row keeps its event time.
/// - Watermark: passed on, the least of the partitions. By event time a row comes once the watermark has reached it;
///   whether a row can still be the first is decided by the watermark that the rows before it in its partition imply.
/// - State: the keys, and by event time the rows that wait for the watermark. A key to which no row has come for its
///   time to live is forgotten, within an eighth of that time. Beyond the budget the query ends with
///   [`EngineError::StateBudget`].
/// - Errors: none. By arrival, rows that are not the first are counted filtered.
/// - Example: by event time with a delay of 2 s, of a at 00:03, b at 00:01, a at 00:02 and b at 00:09 come b at 00:01
///   and a at 00:02, with the last row.
///
/// As the deduplication of Akidau et al., "MillWheel" (VLDB 2013), section 5.1.2, but by columns of the row.
pub struct Deduplicate {
    input: SchemaRef,
    schema: SchemaRef,
    columns: Vec<Option<usize>>,
    keys: Option<Columns>,
    at_once: bool,
    seen: HashMap<Box<[u8]>, Seen>,
    key_bytes: usize,
    /// First rows that wait, by event time, partition and number of their piece and place in it.
    waiting: BTreeMap<Place, Box<[u8]>>,
    pieces: BTreeMap<u64, Piece>,
    next_piece: u64,
    piece_bytes: usize,
    forgetting: Forgetting,
    progress: Progress,
    told: Series,
    watermark: i64,
    idle: bool,
    arrival: EventTime,
    limit_bytes: usize,
    counters: Arc<Counters>,
}

/// Event time, partition, piece, row.
type Place = (i64, u32, u64, u32);

/// What is known of a key.
struct Seen {
    /// Its first row, while it waits.
    first: Option<Place>,
    /// Event time of its latest row.
    latest: i64,
}

/// Rows of a batch of which some wait.
struct Piece {
    rows: RecordBatch,
    waiting: usize,
    bytes: usize,
}

impl Deduplicate {
    /// A deduplication that counts in `counters` whatever becomes of a row, but not the rows in.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when its keys are not columns that can be compared.
    pub fn new(rank: &RankSpec, setting: RankingInput, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let keys: Vec<_> = rank.partition_by.iter().map(|expr| (expr, Default::default())).collect();
        let schema = physical_schema(&setting.schema);
        Ok(Self {
            columns: project_named(&setting.input, &setting.schema, rank.column.as_deref())?,
            keys: if keys.is_empty() { None } else { Some(Columns::new(&setting.input, keys)?) },
            at_once: rank.order_by.is_empty(),
            seen: HashMap::new(),
            key_bytes: 0,
            waiting: BTreeMap::new(),
            pieces: BTreeMap::new(),
            next_piece: 0,
            piece_bytes: 0,
            forgetting: Forgetting::new(setting.ttl_ns),
            progress: Progress::new(setting.partitions),
            told: Series::new(Arc::clone(&schema)),
            schema,
            watermark: i64::MIN,
            idle: false,
            arrival: EventTime::MIN,
            limit_bytes: setting.state_limit_bytes,
            counters,
            input: setting.input,
        })
    }

    /// The rows that are the first of their key so far, ascending.
    fn first(&mut self, batch: &StreamBatch) -> Result<Vec<u32>, EngineError> {
        let keys = self.keys.as_mut().map(|keys| keys.rows(&batch.rows)).transpose()?;
        let (times, watermarks) = (batch.event_times(), batch.watermarks());
        let mut first = Vec::new();
        for (row, (&time, &watermark)) in (0u32..).zip(times.iter().zip(watermarks)) {
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row as usize).data());
            let place = (time, batch.partition, self.next_piece, row);
            let Some(seen) = self.seen.get_mut(key) else {
                let waits = (!self.at_once).then_some(place);
                self.key_bytes += key.len() + KEY_BYTES;
                self.seen.insert(key.into(), Seen { first: waits, latest: time });
                if waits.is_some() {
                    self.waiting.insert(place, key.into());
                }
                first.push(row);
                continue;
            };
            seen.latest = seen.latest.max(time);
            let Some(waits) = seen.first.filter(|waits| waits.0 > watermark) else { continue };
            if (time, batch.partition) < (waits.0, waits.1) {
                seen.first = Some(place);
                let key = self.waiting.remove(&waits).expect("what waits is listed");
                self.waiting.insert(place, key);
                first.push(row);
                self.leave(waits.2);
            }
        }
        // By event time a row may be replaced later: which ones are, depends on how partitions are read in turn.
        let repeated = if self.at_once { batch.rows.num_rows() - first.len() } else { 0 };
        add(&self.counters.absorbed, batch.rows.num_rows() - repeated);
        add(&self.counters.filtered, repeated);
        Ok(first)
    }

    /// A row of a piece waits no more.
    fn leave(&mut self, piece: u64) {
        let Some(kept) = self.pieces.get_mut(&piece) else { return };
        kept.waiting -= 1;
        if kept.waiting == 0 {
            self.piece_bytes -= kept.bytes;
            self.pieces.remove(&piece);
        }
    }

    fn absorb(&mut self, batch: &StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        if batch.rows.num_rows() == 0 {
            return Ok(());
        }
        let first = self.first(batch)?;
        if self.at_once {
            let rows = take_record_batch(&batch.rows, &UInt32Array::from(first))?;
            return self.tell(&rows, output);
        }
        let piece = self.next_piece;
        let waiting = self.count_waiting(piece, &first, batch);
        if waiting > 0 {
            let rows = batch.rows.clone();
            let bytes = batch.bytes();
            self.piece_bytes += bytes;
            self.pieces.insert(piece, Piece { rows, waiting, bytes });
        }
        self.next_piece += 1;
        Ok(())
    }

    /// How many of the rows of a batch wait: some may have been replaced by later ones of it.
    fn count_waiting(&self, piece: u64, first: &[u32], batch: &StreamBatch) -> usize {
        let times = batch.event_times();
        let waits = |row: &&u32| self.waiting.contains_key(&(times[**row as usize], batch.partition, piece, **row));
        first.iter().filter(waits).count()
    }

    /// Tells the rows that the watermark has reached.
    fn release(&mut self, watermark: i64, output: &mut Output) -> Result<(), EngineError> {
        let mut ready = Vec::new();
        while let Some(next) = self.waiting.first_entry() {
            if next.key().0 > watermark {
                break;
            }
            let (place, key) = next.remove_entry();
            if let Some(seen) = self.seen.get_mut(&key) {
                seen.first = None;
            }
            ready.push((place.2, place.3));
        }
        if ready.is_empty() {
            return Ok(());
        }
        let numbers: BTreeMap<u64, usize> = ready
            .iter()
            .map(|(piece, _)| *piece)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .zip(0..)
            .collect();
        let pieces: Vec<&RecordBatch> = numbers.keys().map(|piece| &self.pieces[piece].rows).collect();
        let places: Vec<(usize, usize)> = ready.iter().map(|(piece, row)| (numbers[piece], *row as usize)).collect();
        let rows = interleave_record_batch(&pieces, &places)?;
        for (piece, _) in ready {
            self.leave(piece);
        }
        self.tell(&rows, output)
    }

    fn tell(&mut self, rows: &RecordBatch, output: &mut Output) -> Result<(), EngineError> {
        let count = rows.num_rows();
        if count == 0 {
            return Ok(());
        }
        add(&self.counters.rows_out, count);
        let number: ArrayRef = Arc::new(Int64Array::from_value(1, count));
        let pick = |column: &Option<usize>| column.map_or_else(|| Arc::clone(&number), |at| rows.column(at).clone());
        let mut columns: Vec<ArrayRef> = self.columns.iter().map(pick).collect();
        columns.push(rows.column(rows.num_columns() - 2).clone());
        columns.push(Arc::new(TimestampNanosecondArray::from_value(self.watermark, count)));
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.told.batches(RowKind::Append, &rows, self.watermark, self.arrival, &mut output.rows);
        Ok(())
    }

    fn carried(&mut self) -> Carried<'_> {
        let Self { progress, told, watermark, idle, arrival, .. } = self;
        Carried { progress, next: told.next(), watermark, idle, arrival }
    }

    /// Puts what is known of keys behind what a state holds.
    fn save_seen(&self, state: &mut State) -> Result<(), EngineError> {
        let firsts = || self.seen.values().map(|seen| seen.first);
        let latest = Int64Array::from_iter_values(self.seen.values().map(|seen| seen.latest));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(latest),
            Arc::new(firsts().map(|first| first.map(|place| place.0)).collect::<Int64Array>()),
            Arc::new(firsts().map(|first| first.map(|place| place.1)).collect::<UInt32Array>()),
            Arc::new(firsts().map(|first| first.map(|place| place.2)).collect::<UInt64Array>()),
            Arc::new(firsts().map(|first| first.map(|place| place.3)).collect::<UInt32Array>()),
        ];
        state.put_columns(columns, self.seen.len())?;
        self.keys.as_ref().map_or(Ok(()), |keys| keys.save(self.seen.keys().map(AsRef::as_ref), state))
    }

    /// Takes it from the front of a state.
    fn restore_seen(&mut self, state: &mut State) -> Result<(), EngineError> {
        let (time, number) = (DataType::Int64, DataType::UInt32);
        let kinds = [time.clone(), time, number.clone(), DataType::UInt64, number];
        let (columns, count) = state.take_columns(&kinds)?;
        let keys = self.keys.as_mut().map(|keys| keys.restore(state)).transpose()?;
        check_count("keys", keys.as_ref().map_or(count, Rows::num_rows), count)?;
        let [latest, times] = [0, 1].map(|at: usize| values::<Int64Type>(&columns[at]));
        let [partitions, rows] = [2, 4].map(|at: usize| values::<UInt32Type>(&columns[at]));
        let pieces = values::<UInt64Type>(&columns[3]);
        for (at, latest) in latest.into_iter().enumerate() {
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(at).data());
            let first = columns[1].is_valid(at).then(|| (times[at], partitions[at], pieces[at], rows[at]));
            if let Some(place) = first {
                let piece = self.pieces.get_mut(&place.2).filter(|piece| (place.3 as usize) < piece.rows.num_rows());
                piece.ok_or_else(|| EngineError::State("a row that is not there".into()))?.waiting += 1;
                self.waiting.insert(place, key.into());
            }
            self.key_bytes += key.len() + KEY_BYTES;
            self.seen.insert(key.into(), Seen { first, latest });
        }
        Ok(())
    }

    fn forget(&mut self) {
        let Some(until) = self.forgetting.due(self.progress.watermark()) else { return };
        let (before, mut bytes) = (self.seen.len(), 0);
        self.seen.retain(|key, seen| {
            let stays = seen.latest > until || seen.first.is_some();
            bytes += if stays { 0 } else { key.len() + KEY_BYTES };
            stays
        });
        self.key_bytes -= bytes;
        add(&self.counters.forgotten, before - self.seen.len());
    }

    fn advance(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let (watermark, idle) = (self.progress.watermark(), self.progress.is_idle());
        self.release(watermark, output)?;
        self.forget();
        let carried = watermark.max(self.watermark);
        if carried > self.watermark || idle != self.idle {
            output.rows.push(self.told.progress(carried, self.arrival, idle));
        }
        (self.watermark, self.idle) = (carried, idle);
        Ok(())
    }
}

impl Operator for Deduplicate {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        self.arrival = batch.arrival;
        self.absorb(&batch, output)?;
        self.progress.advance(batch.partition, batch.watermark.0, batch.idle)?;
        self.advance(output)?;
        let (used_bytes, limit_bytes) = (self.state_bytes(), self.limit_bytes);
        if used_bytes > limit_bytes {
            return Err(EngineError::StateBudget { scope: "query", used_bytes, limit_bytes });
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
        state.put(&(self.next_piece, self.pieces.keys().collect::<Vec<_>>()))?;
        self.pieces.values().for_each(|piece| state.put_rows(piece.rows.clone()));
        self.save_seen(state)
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.carried().restore(state)?;
        self.forgetting.restore(state)?;
        let pieces: Vec<u64>;
        (self.next_piece, pieces) = state.take()?;
        for piece in pieces {
            let rows = state.take_rows_of(&self.input)?;
            let bytes = rows.get_array_memory_size();
            self.piece_bytes += bytes;
            self.pieces.insert(piece, Piece { rows, waiting: 0, bytes });
        }
        self.restore_seen(state)
    }

    fn state_bytes(&self) -> usize {
        self.key_bytes + self.piece_bytes
    }
}
