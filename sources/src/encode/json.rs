//! Rows as JSON, written straight from the columns.
//!
//! Timestamps are RFC 3339 in UTC with as many digits as they need; whole numbers beyond ±(2^53−1) are strings, since
//! JavaScript cannot hold them; DECIMAL is a number; NaN and the infinities are strings; binary is hexadecimal;
//! durations and intervals are ISO 8601.

use std::fmt::Write as _;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, DecimalType,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType,
    IntervalUnit, IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::time;
use crate::format::json;

/// Writes JSON as it is, on one line; what is held as JSON but is none, as a string.
fn write_json(text: &str, out: &mut Vec<u8>) {
    match json::check(text.as_bytes()) {
        // Inside of strings there are no control characters.
        Ok(()) => out.extend(text.bytes().filter(|byte| *byte >= 0x20)),
        Err(_) => write_text(text, out),
    }
}

/// The largest whole number that every JSON reader reads exactly.
const MAX_EXACT: i128 = (1 << 53) - 1;

/// Appends rows as an array of arrays, a value a column: `[[1,"a"],[2,"b"]]`.
pub fn write_rows_array(batch: &RecordBatch, rows: Range<usize>, out: &mut Vec<u8>) {
    let columns: Vec<Column<'_>> = batch.columns().iter().map(Column::new).collect();
    out.push(b'[');
    for row in rows.clone() {
        if row > rows.start {
            out.push(b',');
        }
        out.push(b'[');
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            column.write(row, out);
        }
        out.push(b']');
    }
    out.push(b']');
}

/// Appends rows as objects, one a line. With an `op`, each says it first, as `"op"`.
pub fn write_ndjson(batch: &RecordBatch, rows: Range<usize>, op: Option<&str>, out: &mut Vec<u8>) {
    let mut start = vec![b'{'];
    if let Some(op) = op {
        start.extend_from_slice(b"\"op\":");
        write_text(op, &mut start);
    }
    let mut columns: Vec<(Vec<u8>, Column<'_>)> = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        // All that stands before the value.
        let mut before = if columns.is_empty() { std::mem::take(&mut start) } else { Vec::new() };
        if before.len() != 1 {
            before.push(b',');
        }
        write_text(field.name(), &mut before);
        before.push(b':');
        columns.push((before, Column::new(column)));
    }
    for row in rows {
        out.extend_from_slice(&start);
        for (before, column) in &columns {
            out.extend_from_slice(before);
            column.write(row, out);
        }
        out.extend_from_slice(b"}\n");
    }
}

/// A column and how its values are written, found out once a batch.
pub(super) struct Column<'a> {
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    Null,
    Boolean(&'a BooleanArray),
    /// Never beyond ±(2^53−1).
    Small(Box<dyn Fn(usize) -> i64 + 'a>),
    Signed(&'a [i64]),
    Unsigned(&'a [u64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Decimal(Box<dyn Fn(usize) -> i128 + 'a>, i8),
    Timestamp(&'a [i64], TimeUnit),
    Duration(&'a [i64], TimeUnit),
    /// A time of day and its unit.
    Time(Box<dyn Fn(usize) -> i64 + 'a>, TimeUnit),
    /// Months, days and nanoseconds.
    Interval(Box<dyn Fn(usize) -> (i32, i32, i64) + 'a>),
    /// Days.
    Date(Box<dyn Fn(usize) -> i64 + 'a>),
    Text(Box<dyn Fn(usize) -> &'a str + 'a>),
    /// JSON, as it is.
    Json(Box<dyn Fn(usize) -> &'a str + 'a>),
    Binary(Box<dyn Fn(usize) -> &'a [u8] + 'a>),
    List(Box<dyn Fn(usize) -> Range<usize> + 'a>, Box<Column<'a>>),
    Struct(Vec<(Vec<u8>, Column<'a>)>),
    Map(&'a OffsetBuffer<i32>, Box<Column<'a>>, Box<Column<'a>>),
    Dictionary(Box<dyn Fn(usize) -> usize + 'a>, Box<Column<'a>>),
    /// Whatever is rare: as Arrow prints it, in a string.
    Printed(ArrayFormatter<'a>),
    /// What cannot be printed at all: its type.
    Unprintable(String),
}

fn small<'a, T: ArrowPrimitiveType>(column: &'a ArrayRef) -> Box<dyn Fn(usize) -> i64 + 'a>
where
    T::Native: Into<i64>,
{
    let values = column.as_primitive::<T>().values();
    Box::new(|row| values[row].into())
}

fn decimals<'a, T: DecimalType>(column: &'a ArrayRef) -> Box<dyn Fn(usize) -> i128 + 'a>
where
    T::Native: Into<i128>,
{
    let values = column.as_primitive::<T>().values();
    Box::new(|row| values[row].into())
}

fn numbers<T: ArrowPrimitiveType>(column: &ArrayRef) -> &[T::Native] {
    column.as_primitive::<T>().values()
}

impl<'a> Column<'a> {
    pub(super) fn new(column: &'a ArrayRef) -> Self {
        Self { nulls: column.nulls(), values: Values::new(column) }
    }

    #[inline]
    pub(super) fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            out.extend_from_slice(b"null");
        } else {
            self.values.write(row, out);
        }
    }
}

impl<'a> Values<'a> {
    fn new(column: &'a ArrayRef) -> Self {
        match column.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean(column.as_boolean()),
            DataType::Int8 => Self::Small(small::<Int8Type>(column)),
            DataType::Int16 => Self::Small(small::<Int16Type>(column)),
            DataType::Int32 => Self::Small(small::<Int32Type>(column)),
            DataType::UInt8 => Self::Small(small::<UInt8Type>(column)),
            DataType::UInt16 => Self::Small(small::<UInt16Type>(column)),
            DataType::UInt32 => Self::Small(small::<UInt32Type>(column)),
            DataType::Int64 => Self::Signed(numbers::<Int64Type>(column)),
            DataType::UInt64 => Self::Unsigned(numbers::<UInt64Type>(column)),
            DataType::Float32 => Self::Float32(numbers::<Float32Type>(column)),
            DataType::Float64 => Self::Float64(numbers::<Float64Type>(column)),
            DataType::Float16 => Self::printed(column),
            DataType::Decimal32(_, scale) => Self::Decimal(decimals::<Decimal32Type>(column), *scale),
            DataType::Decimal64(_, scale) => Self::Decimal(decimals::<Decimal64Type>(column), *scale),
            DataType::Decimal128(_, scale) => Self::Decimal(decimals::<Decimal128Type>(column), *scale),
            DataType::Date32 => Self::Date(small::<Date32Type>(column)),
            DataType::Date64 => {
                let values = numbers::<Date64Type>(column);
                Self::Timestamp(values, TimeUnit::Millisecond)
            }
            DataType::Timestamp(unit, _) => Self::Timestamp(timestamps(column, *unit), *unit),
            DataType::Duration(unit) => Self::Duration(durations(column, *unit), *unit),
            DataType::Interval(unit) => Self::Interval(intervals(column, *unit)),
            DataType::Time32(TimeUnit::Second) => Self::Time(small::<Time32SecondType>(column), TimeUnit::Second),
            DataType::Time32(unit) => Self::Time(small::<Time32MillisecondType>(column), *unit),
            DataType::Time64(TimeUnit::Microsecond) => {
                Self::Time(small::<Time64MicrosecondType>(column), TimeUnit::Microsecond)
            }
            DataType::Time64(unit) => Self::Time(small::<Time64NanosecondType>(column), *unit),
            DataType::Utf8 => {
                let texts = column.as_string::<i32>();
                Self::Text(Box::new(|row| texts.value(row)))
            }
            DataType::LargeUtf8 => {
                let texts = column.as_string::<i64>();
                Self::Text(Box::new(|row| texts.value(row)))
            }
            DataType::Utf8View => {
                let texts = column.as_string_view();
                Self::Json(Box::new(|row| texts.value(row)))
            }
            _ => Self::composed(column),
        }
    }

    fn composed(column: &'a ArrayRef) -> Self {
        match column.data_type() {
            DataType::Binary => {
                let values = column.as_binary::<i32>();
                Self::Binary(Box::new(|row| values.value(row)))
            }
            DataType::LargeBinary => {
                let values = column.as_binary::<i64>();
                Self::Binary(Box::new(|row| values.value(row)))
            }
            DataType::BinaryView => {
                let values = column.as_binary_view();
                Self::Binary(Box::new(|row| values.value(row)))
            }
            DataType::FixedSizeBinary(_) => {
                let values = column.as_fixed_size_binary();
                Self::Binary(Box::new(|row| values.value(row)))
            }
            DataType::List(_) => {
                let list = column.as_list::<i32>();
                let offsets = list.value_offsets();
                let range = |row| offsets[row] as usize..offsets[row + 1] as usize;
                Self::List(Box::new(range), Box::new(Column::new(list.values())))
            }
            DataType::LargeList(_) => {
                let list = column.as_list::<i64>();
                let offsets = list.value_offsets();
                let range = |row| offsets[row] as usize..offsets[row + 1] as usize;
                Self::List(Box::new(range), Box::new(Column::new(list.values())))
            }
            DataType::FixedSizeList(_, size) => {
                let list = column.as_fixed_size_list();
                let size = *size as usize;
                Self::List(Box::new(move |row| row * size..(row + 1) * size), Box::new(Column::new(list.values())))
            }
            DataType::Struct(fields) => {
                let columns =
                    fields.iter().zip(column.as_struct().columns()).enumerate().map(|(at, (field, column))| {
                        let mut before = vec![if at == 0 { b'{' } else { b',' }];
                        write_text(field.name(), &mut before);
                        before.push(b':');
                        (before, Column::new(column))
                    });
                Self::Struct(columns.collect())
            }
            DataType::Map(_, _) => {
                let map = column.as_map();
                let (keys, values) = (Column::new(map.keys()), Column::new(map.values()));
                Self::Map(map.offsets(), Box::new(keys), Box::new(values))
            }
            DataType::Dictionary(_, _) => {
                let dictionary = column.as_any_dictionary();
                let keys = dictionary.normalized_keys();
                Self::Dictionary(Box::new(move |row| keys[row]), Box::new(Column::new(dictionary.values())))
            }
            _ => Self::printed(column),
        }
    }

    fn printed(column: &'a ArrayRef) -> Self {
        static OPTIONS: FormatOptions<'static> = FormatOptions::new();
        match ArrayFormatter::try_new(column, &OPTIONS) {
            Ok(formatter) => Self::Printed(formatter),
            Err(_) => Self::Unprintable(column.data_type().to_string()),
        }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Boolean(values) => out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }),
            Self::Small(value) => write_plain(&value(row), out),
            Self::Signed(values) => write_integer(values[row].into(), &values[row], out),
            Self::Unsigned(values) => write_integer(values[row].into(), &values[row], out),
            Self::Float32(values) if values[row].is_finite() => write_plain(&values[row], out),
            Self::Float32(values) => write_infinite(values[row].into(), out),
            Self::Float64(values) if values[row].is_finite() => write_plain(&values[row], out),
            Self::Float64(values) => write_infinite(values[row], out),
            Self::Decimal(value, scale) => write_decimal(value(row), *scale, out),
            Self::Timestamp(values, unit) => quoted(out, |out| time::write_timestamp(values[row], *unit, out)),
            Self::Duration(values, unit) => quoted(out, |out| time::write_duration(values[row], *unit, out)),
            Self::Time(value, unit) => {
                let (a_second, digits) = time::scale(*unit);
                let value = value(row);
                quoted(out, |out| time::write_clock(value / a_second, value % a_second, digits, out));
            }
            Self::Interval(value) => {
                let (months, days, nanoseconds) = value(row);
                quoted(out, |out| time::write_interval(months, days, nanoseconds, out));
            }
            Self::Date(value) => quoted(out, |out| time::write_date(value(row), out)),
            Self::Text(value) => write_text(value(row), out),
            Self::Json(value) => write_json(value(row), out),
            Self::Binary(value) => quoted(out, |out| write_hexadecimal(value(row), out)),
            Self::Printed(formatter) => write_text(&formatter.value(row).to_string(), out),
            Self::Unprintable(data_type) => write_text(data_type, out),
            _ => self.write_composed(row, out),
        }
    }

    fn write_composed(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::List(range, values) => {
                out.push(b'[');
                let range = range(row);
                for at in range.clone() {
                    if at > range.start {
                        out.push(b',');
                    }
                    values.write(at, out);
                }
                out.push(b']');
            }
            Self::Struct(columns) if columns.is_empty() => out.extend_from_slice(b"{}"),
            Self::Struct(columns) => {
                for (before, column) in columns {
                    out.extend_from_slice(before);
                    column.write(row, out);
                }
                out.push(b'}');
            }
            Self::Map(offsets, keys, values) => {
                out.push(b'{');
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                for at in range.clone() {
                    if at > range.start {
                        out.push(b',');
                    }
                    keys.write_key(at, out);
                    out.push(b':');
                    values.write(at, out);
                }
                out.push(b'}');
            }
            Self::Dictionary(key, values) => values.write(key(row), out),
            _ => unreachable!("all others hold one value a row"),
        }
    }
}

impl Column<'_> {
    /// The value as the key of an object, which is a string whatever the type.
    fn write_key(&self, row: usize, out: &mut Vec<u8>) {
        let start = out.len();
        self.write(row, out);
        if out[start] != b'"' {
            let key = String::from_utf8_lossy(&out[start..]).into_owned();
            out.truncate(start);
            write_text(&key, out);
        }
    }
}

fn intervals<'a>(column: &'a ArrayRef, unit: IntervalUnit) -> Box<dyn Fn(usize) -> (i32, i32, i64) + 'a> {
    match unit {
        IntervalUnit::YearMonth => {
            let values = numbers::<IntervalYearMonthType>(column);
            Box::new(|row| (values[row], 0, 0))
        }
        IntervalUnit::DayTime => {
            let values = numbers::<IntervalDayTimeType>(column);
            Box::new(|row| (0, values[row].days, i64::from(values[row].milliseconds) * 1_000_000))
        }
        IntervalUnit::MonthDayNano => {
            let values = numbers::<IntervalMonthDayNanoType>(column);
            Box::new(|row| (values[row].months, values[row].days, values[row].nanoseconds))
        }
    }
}

fn timestamps(column: &ArrayRef, unit: TimeUnit) -> &[i64] {
    match unit {
        TimeUnit::Second => numbers::<TimestampSecondType>(column),
        TimeUnit::Millisecond => numbers::<TimestampMillisecondType>(column),
        TimeUnit::Microsecond => numbers::<TimestampMicrosecondType>(column),
        TimeUnit::Nanosecond => numbers::<TimestampNanosecondType>(column),
    }
}

fn durations(column: &ArrayRef, unit: TimeUnit) -> &[i64] {
    match unit {
        TimeUnit::Second => numbers::<DurationSecondType>(column),
        TimeUnit::Millisecond => numbers::<DurationMillisecondType>(column),
        TimeUnit::Microsecond => numbers::<DurationMicrosecondType>(column),
        TimeUnit::Nanosecond => numbers::<DurationNanosecondType>(column),
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

/// A number or text as `serde_json` writes it: the shortest that reads back the same.
fn write_plain<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("memory takes everything");
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_plain(text, out);
}

fn write_integer<T: serde::Serialize>(wide: i128, value: &T, out: &mut Vec<u8>) {
    if wide.abs() <= MAX_EXACT {
        write_plain(value, out);
    } else {
        quoted(out, |out| write_plain(value, out));
    }
}

fn write_infinite(value: f64, out: &mut Vec<u8>) {
    let text: &[u8] = if value.is_nan() {
        b"\"NaN\""
    } else if value > 0.0 {
        b"\"Infinity\""
    } else {
        b"\"-Infinity\""
    };
    out.extend_from_slice(text);
}

fn write_decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    let mut digits = value.unsigned_abs().to_string();
    if scale < 0 {
        if value != 0 {
            digits.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
        }
    } else if scale > 0 {
        let scale = usize::from(scale.unsigned_abs());
        if digits.len() <= scale {
            digits.insert_str(0, &"0".repeat(scale + 1 - digits.len()));
        }
        digits.insert(digits.len() - scale, '.');
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits.as_bytes());
}

fn write_hexadecimal(bytes: &[u8], out: &mut Vec<u8>) {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("memory takes everything");
    }
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests;
