//! The rows of a table, found by their key.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, interleave, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, Rows as RowKeys, SortField};
use datafusion_common::hash_utils::{RandomState, create_hashes};

use super::super::state::{State, check_count};
use super::rows::{Same, bytes};
use crate::error::EngineError;

/// Rows that were replaced beyond which, and beyond as many as there are keys, the others are copied together.
const MAX_STALE_ROWS: usize = 8192;
/// Rows of a piece beyond which it is not copied into a larger one.
const PIECE_ROWS: usize = 1 << 18;
/// Bytes of two pieces beyond which they stay two: texts of one piece are numbered in 31 bits.
const PIECE_BYTES: usize = 256 << 20;
/// Bytes that a key takes beside its values: its places in the index and in the rows, and where its values end.
const KEY_BYTES: usize = 48;
/// No key, no row.
const NONE: u32 = u32::MAX;

/// The latest row of each key, rows in the order in which they came, and some that were replaced.
pub(super) struct Table {
    converter: RowConverter,
    /// The types of the keys.
    kinds: Vec<DataType>,
    /// The last key of each hash.
    last: HashMap<u64, u32, BuildHasherDefault<Same>>,
    /// For each key the one before it of the same hash.
    before: Vec<u32>,
    /// The keys' values, one behind the other, and where each ends.
    values: Vec<u8>,
    ends: Vec<usize>,
    /// For each key the number of its row.
    places: Vec<u32>,
    schema: SchemaRef,
    pieces: Vec<RecordBatch>,
    /// The number of the first row of each piece.
    starts: Vec<usize>,
    len: usize,
    piece_bytes: usize,
}

/// Keys of rows, ready to be compared.
pub(super) struct Keys {
    rows: RowKeys,
    hashes: Vec<u64>,
    /// Rows whose key is there; `None`: all.
    valid: Option<BooleanArray>,
}

impl Table {
    /// No rows of `schema`, under keys of these types.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when the types cannot be keys.
    pub(super) fn new(schema: SchemaRef, keys: &[DataType]) -> Result<Self, EngineError> {
        let fields = keys.iter().map(|kind| SortField::new(kind.clone())).collect();
        let converter = RowConverter::new(fields).map_err(|error| EngineError::Plan(error.to_string()))?;
        Ok(Self {
            converter,
            kinds: keys.to_vec(),
            last: HashMap::default(),
            before: Vec::new(),
            values: Vec::new(),
            ends: Vec::new(),
            places: Vec::new(),
            schema,
            pieces: Vec::new(),
            starts: Vec::new(),
            len: 0,
            piece_bytes: 0,
        })
    }

    /// Reads keys; a key with a null in it is none.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn keys(&self, columns: &[ArrayRef], rows: usize) -> Result<Keys, EngineError> {
        let mut hashes = vec![0; rows];
        create_hashes(columns, &RandomState::with_seed(0), &mut hashes)?;
        let mut valid: Option<BooleanArray> = None;
        for column in columns.iter().filter(|column| column.null_count() > 0) {
            let own = arrow::compute::is_not_null(column)?;
            valid = Some(match valid {
                Some(before) => arrow::compute::and(&before, &own)?,
                None => own,
            });
        }
        Ok(Keys { rows: self.converter.convert_columns(columns)?, hashes, valid })
    }

    /// Puts rows in the places of those with their keys. Rows without a key are left out.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn put(&mut self, keys: &Keys, rows: RecordBatch) -> Result<(), EngineError> {
        let first = self.len;
        for row in (0..rows.num_rows()).filter(|row| keys.is_valid(*row)) {
            let number = u32::try_from(first + row).ok().filter(|number| *number < NONE);
            let number = number.ok_or_else(|| EngineError::Plan("a table of more than four billion rows".into()))?;
            match self.find(keys, row) {
                NONE => self.add(keys, row, number),
                key => self.places[key as usize] = number,
            }
        }
        self.starts.push(first);
        self.len += rows.num_rows();
        self.piece_bytes += bytes(&rows);
        self.pieces.push(rows);
        if self.len > 2 * self.places.len() + MAX_STALE_ROWS {
            return self.without_stale();
        }
        self.join_pieces()
    }

    /// The numbers of the rows under keys, null where there is none.
    pub(super) fn look_up(&self, keys: &Keys) -> UInt32Array {
        let place = |row: usize| match if keys.is_valid(row) { self.find(keys, row) } else { NONE } {
            NONE => None,
            key => Some(self.places[key as usize]),
        };
        (0..keys.hashes.len()).map(place).collect()
    }

    fn find(&self, keys: &Keys, row: usize) -> u32 {
        let mut key = self.last.get(&keys.hashes[row]).copied().unwrap_or(NONE);
        let wanted = keys.rows.row(row);
        while key != NONE && self.value(key) != wanted.data() {
            key = self.before[key as usize];
        }
        key
    }

    fn value(&self, key: u32) -> &[u8] {
        let key = key as usize;
        let start = if key == 0 { 0 } else { self.ends[key - 1] };
        &self.values[start..self.ends[key]]
    }

    fn add(&mut self, keys: &Keys, row: usize, number: u32) {
        // There are no more keys than rows, whose numbers fit.
        let key = self.places.len() as u32;
        self.before.push(self.last.insert(keys.hashes[row], key).unwrap_or(NONE));
        self.values.extend_from_slice(keys.rows.row(row).data());
        self.ends.push(self.values.len());
        self.places.push(number);
    }

    /// Some columns of the rows with these numbers; null where there is no number.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn take(
        &self,
        columns: std::ops::Range<usize>,
        numbers: &UInt32Array,
    ) -> Result<Vec<ArrayRef>, EngineError> {
        if numbers.null_count() == numbers.len() {
            let kinds = columns.map(|column| self.schema.field(column).data_type());
            return Ok(kinds.map(|kind| new_null_array(kind, numbers.len())).collect());
        }
        if let [only] = self.pieces.as_slice() {
            return Ok(columns.map(|column| take(only.column(column), numbers, None)).collect::<Result<_, _>>()?);
        }
        let found: Vec<(usize, usize)> = numbers.iter().flatten().map(|number| self.place(number as usize)).collect();
        // Where no row was found, none is taken.
        let mut next = 0;
        let places: UInt32Array = numbers
            .iter()
            .map(|number| {
                number.map(|_| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let gather = |column: usize| {
            let all: Vec<&dyn Array> = self.pieces.iter().map(|piece| piece.column(column).as_ref()).collect();
            let there = interleave(&all, &found)?;
            if places.null_count() == 0 { Ok(there) } else { take(&there, &places, None) }
        };
        Ok(columns.map(gather).collect::<Result<_, _>>()?)
    }

    fn place(&self, number: usize) -> (usize, usize) {
        let piece = self.starts.partition_point(|start| *start <= number) - 1;
        (piece, number - self.starts[piece])
    }

    /// Joins small pieces, so that batches of one row do not make a piece each.
    fn join_pieces(&mut self) -> Result<(), EngineError> {
        while let [.., left, right] = self.pieces.as_slice()
            && left.num_rows() <= 2 * right.num_rows()
            && left.num_rows() + right.num_rows() <= PIECE_ROWS
            && bytes(left) + bytes(right) <= PIECE_BYTES
        {
            let whole = concat_batches(&self.schema, [left, right])?;
            self.piece_bytes -= bytes(left) + bytes(right);
            self.piece_bytes += bytes(&whole);
            self.pieces.truncate(self.pieces.len() - 2);
            self.starts.pop();
            self.pieces.push(whole);
        }
        Ok(())
    }

    /// The latest row of each key, in the order in which they came, in batches of so many.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn rows(&self, batch_rows: usize) -> Result<Vec<RecordBatch>, EngineError> {
        let mut places = self.places.clone();
        places.sort_unstable();
        let batch = |part: &[u32]| {
            let columns = self.take(0..self.schema.fields().len(), &UInt32Array::from(part.to_vec()))?;
            let options = RecordBatchOptions::new().with_row_count(Some(part.len()));
            Ok(RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), columns, &options)?)
        };
        places.chunks(batch_rows).map(batch).collect()
    }

    /// Puts the latest row of each key behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn save(&self, state: &mut State) -> Result<(), EngineError> {
        let mut keys: Vec<u32> = (0..self.places.len() as u32).collect();
        keys.sort_unstable_by_key(|key| self.places[*key as usize]);
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(keys.iter().map(|key| parser.parse(self.value(*key))))?;
        state.put_columns(columns, keys.len())?;
        let pieces = self.rows(PIECE_ROWS)?;
        state.put(&pieces.len())?;
        pieces.into_iter().for_each(|piece| state.put_rows(piece));
        Ok(())
    }

    /// Takes rows and their keys from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        let (columns, count) = state.take_columns(&self.kinds)?;
        let pieces: usize = state.take()?;
        let mut first = 0;
        for _ in 0..pieces {
            let rows = state.take_rows_of(&self.schema)?;
            let len = rows.num_rows();
            if first + len > count {
                return Err(EngineError::State(format!("{count} keys for more rows")));
            }
            let own: Vec<ArrayRef> = columns.iter().map(|column| column.slice(first, len)).collect();
            self.put(&self.keys(&own, len)?, rows)?;
            first += len;
        }
        check_count("rows", first, count)
    }

    /// Copies the rows that are found together, and forgets the others.
    fn without_stale(&mut self) -> Result<(), EngineError> {
        let mut keys: Vec<u32> = (0..self.places.len() as u32).collect();
        keys.sort_unstable_by_key(|key| self.places[*key as usize]);
        let pieces = self.rows(PIECE_ROWS)?;
        for (number, key) in (0..).zip(&keys) {
            self.places[*key as usize] = number;
        }
        self.len = self.places.len();
        self.starts = (0..pieces.len()).map(|piece| piece * PIECE_ROWS).collect();
        self.piece_bytes = pieces.iter().map(bytes).sum();
        self.pieces = pieces;
        Ok(())
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.piece_bytes + self.values.capacity() + self.places.len() * KEY_BYTES + size_of::<Self>()
    }
}

impl Keys {
    fn is_valid(&self, row: usize) -> bool {
        self.valid.as_ref().is_none_or(|valid| valid.value(row))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{Field, Int64Type, Schema};

    use super::*;

    fn batch(rows: &[(Option<i64>, i64)]) -> RecordBatch {
        let keys: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
        let values: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int64Array>());
        RecordBatch::try_new(schema(), vec![keys, values]).expect("the columns fit")
    }

    fn schema() -> SchemaRef {
        let field = |name| Field::new(name, DataType::Int64, true);
        Arc::new(Schema::new(vec![field("k"), field("v")]))
    }

    fn put(table: &mut Table, rows: &[(Option<i64>, i64)]) {
        let rows = batch(rows);
        let keys = table.keys(&rows.columns()[..1], rows.num_rows()).expect("keys");
        table.put(&keys, rows).expect("rows are put");
    }

    fn find(table: &Table, keys: &[Option<i64>]) -> Vec<Option<i64>> {
        let column: ArrayRef = Arc::new(keys.iter().copied().collect::<Int64Array>());
        let keys = table.keys(&[column], keys.len()).expect("keys");
        let found = table.take(1..2, &table.look_up(&keys)).expect("rows");
        found[0].as_primitive::<Int64Type>().iter().collect()
    }

    #[test]
    fn the_latest_row_of_a_key_is_found_within_and_across_batches() {
        let mut table = Table::new(schema(), &[DataType::Int64]).expect("a table");
        assert_eq!(find(&table, &[Some(1)]), [None]);
        put(&mut table, &[(Some(1), 10), (Some(2), 20), (Some(1), 11), (None, 5)]);
        assert_eq!(find(&table, &[Some(2), Some(1), Some(3), None]), [Some(20), Some(11), None, None]);
        put(&mut table, &[(Some(3), 30), (Some(2), 21)]);
        assert_eq!(find(&table, &[Some(3), Some(2), Some(1)]), [Some(30), Some(21), Some(11)]);
    }

    #[test]
    fn rows_that_were_replaced_do_not_pile_up() {
        let mut table = Table::new(schema(), &[DataType::Int64]).expect("a table");
        for round in 0..60 {
            let rows: Vec<_> = (0..1000).map(|key| (Some(key), key * 100 + round)).collect();
            put(&mut table, &rows);
            assert!(table.len <= 2 * 1000 + MAX_STALE_ROWS);
        }
        assert_eq!(find(&table, &[Some(0), Some(999), Some(7)]), [Some(59), Some(99_959), Some(759)]);
        assert!(table.bytes() < 1 << 20, "{}", table.bytes());
    }
}
