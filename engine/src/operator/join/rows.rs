//! Rows of one side of a join, found by the hash of their keys.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, interleave, take};
use arrow::datatypes::DataType;

use super::super::state::{State, check_count};
use super::pairs::Matcher;
use crate::error::EngineError;

/// Rows of a piece beyond which it is not copied into a larger one.
pub(super) const PIECE_ROWS: usize = 8192;
/// Bytes that a row takes beside its values: its place in the index, its time, its mark.
const ROW_BYTES: usize = 40;
/// Bytes that a column of a piece takes beside its values.
const COLUMN_BYTES: usize = 128;
/// No row.
const NONE: u32 = u32::MAX;

/// A hash is its own hash.
#[derive(Default)]
pub(super) struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Rows in the order in which they came, numbered from zero.
pub(super) struct Rows {
    pieces: Vec<RecordBatch>,
    /// The number of the first row of each piece.
    starts: Vec<usize>,
    times: Vec<i64>,
    /// Rows that have told all that they have to tell: they have a partner, or were given up.
    settled: Vec<bool>,
    /// The last row of each hash.
    last: HashMap<u64, u32, BuildHasherDefault<Same>>,
    /// For each row the one before it of the same hash.
    before: Vec<u32>,
    /// No row that is not settled has an earlier time; `i64::MAX` when all are.
    pending_from: i64,
    latest: i64,
    piece_bytes: usize,
}

impl Rows {
    /// No rows.
    pub(super) fn new() -> Self {
        Self {
            pieces: Vec::new(),
            starts: Vec::new(),
            times: Vec::new(),
            settled: Vec::new(),
            last: HashMap::default(),
            before: Vec::new(),
            pending_from: i64::MAX,
            latest: i64::MIN,
            piece_bytes: 0,
        }
    }

    /// Puts the rows behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn save(&self, state: &mut State) -> Result<(), EngineError> {
        state.put(&(self.pieces.len(), self.pending_from))?;
        state.put_columns(vec![Arc::new(BooleanArray::from(self.settled.clone()))], self.settled.len())?;
        self.pieces.iter().for_each(|piece| state.put_rows(piece.clone()));
        Ok(())
    }

    /// Takes rows of a side from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restored(side: usize, matcher: &Matcher, state: &mut State) -> Result<Self, EngineError> {
        let (pieces, pending_from): (usize, i64) = state.take()?;
        let (settled, count) = state.take_columns(&[DataType::Boolean])?;
        let settled: Vec<bool> = settled[0].as_boolean().values().iter().collect();
        let mut rows = Self::new();
        for _ in 0..pieces {
            let keyed = matcher.restored(side, state)?;
            let own = settled.get(rows.times.len()..).unwrap_or_default();
            rows.push(keyed.rows.clone(), &keyed.hashes, keyed.times(), own)?;
        }
        check_count("rows", rows.times.len(), count)?;
        rows.pending_from = pending_from;
        Ok(rows)
    }

    /// Adds rows with the hashes of their keys and their times; `settled`: those that wait for nothing.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn push(
        &mut self,
        rows: RecordBatch,
        hashes: &[u64],
        times: &[i64],
        settled: &[bool],
    ) -> Result<(), EngineError> {
        for ((hash, time), settled) in hashes.iter().zip(times).zip(settled) {
            let id = u32::try_from(self.times.len()).ok().filter(|id| *id < NONE);
            let id = id.ok_or_else(|| EngineError::Plan("more than four billion rows wait for partners".into()))?;
            self.before.push(self.last.insert(*hash, id).unwrap_or(NONE));
            self.times.push(*time);
            self.settled.push(*settled);
            self.latest = self.latest.max(*time);
            if !settled {
                self.pending_from = self.pending_from.min(*time);
            }
        }
        self.starts.push(self.times.len() - rows.num_rows());
        self.piece_bytes += bytes(&rows);
        self.pieces.push(rows);
        self.compact()
    }

    /// Joins small pieces, so that batches of one row do not make a piece each.
    fn compact(&mut self) -> Result<(), EngineError> {
        while let [.., left, right] = self.pieces.as_slice()
            && left.num_rows() <= 2 * right.num_rows()
            && left.num_rows() + right.num_rows() <= PIECE_ROWS
        {
            let whole = concat_batches(&left.schema(), [left, right])?;
            self.piece_bytes -= bytes(left) + bytes(right);
            self.piece_bytes += bytes(&whole);
            self.pieces.truncate(self.pieces.len() - 2);
            self.starts.pop();
            self.pieces.push(whole);
        }
        Ok(())
    }

    /// The latest time.
    pub(super) fn latest(&self) -> i64 {
        self.latest
    }

    /// A row's time.
    pub(super) fn time(&self, id: u32) -> i64 {
        self.times[id as usize]
    }

    /// The rows with this hash, the last first.
    pub(super) fn with_hash(&self, hash: u64) -> impl Iterator<Item = u32> {
        let first = self.last.get(&hash).copied().filter(|id| *id != NONE);
        std::iter::successors(first, |id| Some(self.before[*id as usize]).filter(|id| *id != NONE))
    }

    /// Settles a row; false when it was settled before.
    pub(super) fn settle(&mut self, id: u32) -> bool {
        !std::mem::replace(&mut self.settled[id as usize], true)
    }

    /// A time before which all rows are settled.
    pub(super) fn pending_from(&self) -> i64 {
        self.pending_from
    }

    /// Settles the rows before a time, and gives those that were not settled.
    pub(super) fn give_up(&mut self, before: i64) -> Vec<u32> {
        let mut given_up = Vec::new();
        if self.pending_from >= before {
            return given_up;
        }
        self.pending_from = i64::MAX;
        for (id, (time, settled)) in (0u32..).zip(self.times.iter().zip(&mut self.settled)) {
            if *settled {
                continue;
            }
            if *time < before || before == i64::MAX {
                *settled = true;
                given_up.push(id);
            } else {
                self.pending_from = self.pending_from.min(*time);
            }
        }
        given_up
    }

    /// Rows before a time; of those that are settled none with `unsettled`.
    pub(super) fn count_before(&self, before: i64, unsettled: bool) -> usize {
        let counts = |(time, settled): &(&i64, &bool)| **time < before && !(unsettled && **settled);
        self.times.iter().zip(&self.settled).filter(counts).count()
    }

    /// Some columns of some rows.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn take(&self, columns: std::ops::Range<usize>, ids: &[u32]) -> Result<Vec<ArrayRef>, EngineError> {
        if let [only] = self.pieces.as_slice() {
            let ids = UInt32Array::from(ids.to_vec());
            return Ok(columns.map(|column| take(only.column(column), &ids, None)).collect::<Result<_, _>>()?);
        }
        let places: Vec<(usize, usize)> = ids
            .iter()
            .map(|id| {
                let piece = self.starts.partition_point(|start| start <= &(*id as usize)) - 1;
                (piece, *id as usize - self.starts[piece])
            })
            .collect();
        let gather = |column: usize| {
            let arrays: Vec<&dyn Array> = self.pieces.iter().map(|piece| piece.column(column).as_ref()).collect();
            interleave(&arrays, &places)
        };
        Ok(columns.map(gather).collect::<Result<_, _>>()?)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.piece_bytes + self.times.len() * ROW_BYTES + size_of::<Self>()
    }
}

/// Bytes of rows.
pub(super) fn bytes(rows: &RecordBatch) -> usize {
    let of = |column: &ArrayRef| {
        let own = column.to_data().get_slice_memory_size();
        own.unwrap_or_else(|_| column.get_array_memory_size()) + COLUMN_BYTES
    };
    rows.columns().iter().map(of).sum()
}
