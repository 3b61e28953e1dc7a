//! The values of columns in a form that is compared fast: numbers of all kinds as whole numbers whose order is that of
//! the values, and texts as they are.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

/// Odd, with bits everywhere: the golden ratio's.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// How values of a type are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As whole numbers.
    Number,
    /// As texts.
    Text,
}

impl Form {
    /// Of a type; `None`: its values are not looked up.
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        use DataType::{
            Boolean, Date32, Date64, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp, UInt8, UInt16, UInt32,
            UInt64, Utf8,
        };
        match data_type {
            Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float32 | Float64 | Date32
            | Date64 | Timestamp(..) => Some(Self::Number),
            Utf8 => Some(Self::Text),
            _ => None,
        }
    }
}

/// Rows that are looked at alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picked<'a> {
    /// Ascending, behind something else.
    pub(super) rows: &'a [(u32, u32)],
    /// Where each comes to lie.
    pub(super) places: &'a [u32],
}

/// One number a row, ordered as the values are; that of a null is any. `picked`: of these rows alone. False: the type has
/// none.
pub(super) fn numbers(array: &ArrayRef, picked: Option<Picked>, into: &mut Vec<u64>) -> bool {
    into.clear();
    match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean().values();
            match picked {
                None => into.extend(values.iter().map(u64::from)),
                Some(picked) => picked.put(into, |row| u64::from(values.value(row))),
            }
        }
        DataType::Int8 => of::<Int8Type>(array, picked, into, |value| signed(value.into())),
        DataType::Int16 => of::<Int16Type>(array, picked, into, |value| signed(value.into())),
        DataType::Int32 => of::<Int32Type>(array, picked, into, |value| signed(value.into())),
        DataType::Int64 => of::<Int64Type>(array, picked, into, signed),
        DataType::UInt8 => of::<UInt8Type>(array, picked, into, u64::from),
        DataType::UInt16 => of::<UInt16Type>(array, picked, into, u64::from),
        DataType::UInt32 => of::<UInt32Type>(array, picked, into, u64::from),
        DataType::UInt64 => of::<UInt64Type>(array, picked, into, |value| value),
        DataType::Float32 => of::<Float32Type>(array, picked, into, |value| {
            // As `total_cmp` has it, but for the zeros, which are equal: so DataFusion compares.
            let bits = if value == 0.0 { 0 } else { value.to_bits().cast_signed() };
            u64::from((bits ^ ((bits >> 31) | i32::MIN)).cast_unsigned())
        }),
        DataType::Float64 => of::<Float64Type>(array, picked, into, |value| {
            let bits = if value == 0.0 { 0 } else { value.to_bits().cast_signed() };
            (bits ^ ((bits >> 63) | i64::MIN)).cast_unsigned()
        }),
        DataType::Date32 => of::<Date32Type>(array, picked, into, |value| signed(value.into())),
        DataType::Date64 => of::<Date64Type>(array, picked, into, signed),
        DataType::Timestamp(TimeUnit::Second, _) => of::<TimestampSecondType>(array, picked, into, signed),
        DataType::Timestamp(TimeUnit::Millisecond, _) => of::<TimestampMillisecondType>(array, picked, into, signed),
        DataType::Timestamp(TimeUnit::Microsecond, _) => of::<TimestampMicrosecondType>(array, picked, into, signed),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => of::<TimestampNanosecondType>(array, picked, into, signed),
        _ => return false,
    }
    true
}

fn of<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    picked: Option<Picked>,
    into: &mut Vec<u64>,
    key: impl Fn(T::Native) -> u64,
) {
    let values = array.as_primitive::<T>().values();
    match picked {
        None => into.extend(values.iter().map(|value| key(*value))),
        Some(picked) => picked.put(into, |row| key(values[row])),
    }
}

impl Picked<'_> {
    /// The rows are read as they lie, which is much faster than as they come to lie.
    fn put(self, into: &mut Vec<u64>, number: impl Fn(usize) -> u64) {
        into.resize(self.rows.len(), 0);
        for ((_, row), place) in self.rows.iter().zip(self.places) {
            into[*place as usize] = number(*row as usize);
        }
    }
}

/// A whole number as it is compared.
pub(super) fn signed(value: i64) -> u64 {
    value.cast_unsigned() ^ (1 << 63)
}

/// A number that equal texts share, and few others: of the length and the bytes at both ends.
pub(super) fn mark(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let (first, last) = match bytes.len() {
        0..8 => {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            (u64::from_le_bytes(padded), 0)
        }
        length => {
            let (mut head, mut tail) = ([0; 8], [0; 8]);
            head.copy_from_slice(&bytes[..8]);
            tail.copy_from_slice(&bytes[length - 8..]);
            (u64::from_le_bytes(head), u64::from_le_bytes(tail))
        }
    };
    (first ^ last.rotate_left(29).wrapping_mul(SPREAD)).wrapping_add(bytes.len() as u64)
}

/// The place of a number among `1 << bits`.
pub(super) fn place(number: u64, bits: u32) -> usize {
    let mixed = (number ^ (number >> 32)).wrapping_mul(SPREAD);
    (mixed >> (64 - bits)) as usize
}

/// The columns of a batch, those that are looked at in their form.
#[derive(Debug, Default)]
pub(super) struct Columns {
    numbers: Vec<Vec<u64>>,
    loaded: Vec<bool>,
    /// The same of candidates alone, in their order.
    picked: Vec<Vec<u64>>,
    picked_loaded: Vec<bool>,
    /// Which rows are not null, of columns that were looked at; `None` within: all are.
    valid: Vec<Option<Option<NullBuffer>>>,
}

/// A column of texts.
pub(super) type Texts<'b> = &'b StringArray;

impl Columns {
    /// Forgets the batch before.
    pub(super) fn begin(&mut self, rows: &RecordBatch) {
        self.loaded.clear();
        self.loaded.resize(rows.num_columns(), false);
        self.numbers.resize_with(rows.num_columns(), Vec::new);
        self.picked.resize_with(rows.num_columns(), Vec::new);
        self.forget_picked();
        self.valid.clear();
        self.valid.resize(rows.num_columns(), None);
    }

    /// Finds the nulls of a column.
    pub(super) fn see(&mut self, rows: &RecordBatch, column: usize) {
        self.valid[column].get_or_insert_with(|| valid(rows, column));
    }

    /// Which rows of a column that was seen are not null; `None`: all are.
    pub(super) fn valid(&self, column: usize) -> Option<&NullBuffer> {
        self.valid[column].as_ref().and_then(Option::as_ref)
    }

    /// Brings a column into its form. False: it has none.
    pub(super) fn load(&mut self, rows: &RecordBatch, column: usize) -> bool {
        if !self.loaded[column] {
            self.loaded[column] = numbers(rows.column(column), None, &mut self.numbers[column]);
        }
        self.loaded[column]
    }

    /// Others are candidates now.
    pub(super) fn forget_picked(&mut self) {
        self.picked_loaded.clear();
        self.picked_loaded.resize(self.picked.len(), false);
    }

    /// Brings the values of candidates into their form: much less than all. False: the column has none.
    pub(super) fn load_picked(&mut self, rows: &RecordBatch, column: usize, candidates: Picked) -> bool {
        if !self.picked_loaded[column] {
            self.picked_loaded[column] = numbers(rows.column(column), Some(candidates), &mut self.picked[column]);
        }
        self.picked_loaded[column]
    }

    /// The numbers of candidates, in their order, which were loaded.
    pub(super) fn picked(&self, column: usize) -> &[u64] {
        &self.picked[column]
    }

    /// A column of numbers that was loaded.
    pub(super) fn numbers(&self, column: usize) -> &[u64] {
        &self.numbers[column]
    }
}

/// A column of texts; `None`: it is another.
pub(super) fn texts(rows: &RecordBatch, column: usize) -> Option<Texts<'_>> {
    rows.column(column).as_string_opt::<i32>()
}

/// Which rows are not null; `None`: all are.
pub(super) fn valid(rows: &RecordBatch, column: usize) -> Option<NullBuffer> {
    rows.column(column).logical_nulls().filter(|nulls| nulls.null_count() > 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float32Array, Float64Array, Int8Array, Int64Array};

    use super::*;

    fn keys(array: ArrayRef) -> Vec<u64> {
        let mut found = Vec::new();
        assert!(numbers(&array, None, &mut found));
        let rows: Vec<(u32, u32)> = (0..array.len() as u32).map(|row| (7, row)).collect();
        let places: Vec<u32> = (0..array.len() as u32).rev().collect();
        let mut picked = Vec::new();
        assert!(numbers(&array, Some(Picked { rows: &rows, places: &places }), &mut picked));
        assert!(picked.iter().rev().eq(&found));
        found
    }

    #[test]
    fn numbers_are_ordered_as_their_values() {
        let floats = [-f64::NAN, f64::NEG_INFINITY, -2.5, 0.0, 1e-300, 2.5, f64::INFINITY, f64::NAN];
        let ascending = |keys: Vec<u64>| keys.is_sorted_by(|a, b| a < b);
        assert!(ascending(keys(Arc::new(Float64Array::from(floats.to_vec())))));
        let narrow: Vec<f32> = vec![-f32::NAN, f32::NEG_INFINITY, -1.5, 0.0, 1.5, f32::INFINITY, f32::NAN];
        assert!(ascending(keys(Arc::new(Float32Array::from(narrow)))));
        assert!(ascending(keys(Arc::new(Int64Array::from(vec![i64::MIN, -1, 0, 1, i64::MAX])))));
        assert!(ascending(keys(Arc::new(Int8Array::from(vec![i8::MIN, -1, 0, i8::MAX])))));
        assert!(ascending(keys(Arc::new(BooleanArray::from(vec![false, true])))));
        let zeros = keys(Arc::new(Float64Array::from(vec![0.0, -0.0])));
        assert_eq!(zeros[0], zeros[1]);
    }

    #[test]
    fn texts_of_all_lengths_have_marks_of_their_own() {
        let texts: Vec<String> = (0..40).map(|length| "x".repeat(length)).collect();
        let marks: std::collections::BTreeSet<u64> = texts.iter().map(|text| mark(text)).collect();
        assert_eq!(marks.len(), texts.len());
        assert_eq!(mark("abcdefgh"), mark(&String::from("abcdefgh")));
    }
}
