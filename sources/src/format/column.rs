//! Places of values in a block of text to Arrow columns, one column at a time.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::NullBufferBuilder;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanArray, Decimal128Array, GenericListArray, NullArray, PrimitiveArray,
    StringArray, StringViewBuilder, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Date32Type, Field, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::scalar::{TimestampUnit, Unfit};

/// Where a value stands in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The record has no such value.
    pub(crate) const MISSING: Self = Self { start: u32::MAX, end: u32::MAX };

    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Self {
        debug_assert!(end < u32::MAX as usize, "blocks are far smaller");
        Self { start: start as u32, end: end as u32 }
    }

    #[inline]
    fn range(self) -> Option<Range<usize>> {
        (self != Self::MISSING).then_some(self.start as usize..self.end as usize)
    }
}

/// The places of one column's values: each `stride`-th span.
#[derive(Clone, Copy)]
pub(crate) struct Spans<'a> {
    all: &'a [Span],
    first: usize,
    stride: usize,
    /// For values inside of lists: the record that each belongs to. `None`: the value's own index.
    owners: Option<&'a [u32]>,
}

impl<'a> Spans<'a> {
    pub(crate) fn column(all: &'a [Span], column: usize, columns: usize) -> Self {
        Self { all, first: column, stride: columns, owners: None }
    }

    fn len(&self) -> usize {
        self.all.len() / self.stride
    }

    #[inline]
    fn get(&self, at: usize) -> Span {
        self.all[self.first + at * self.stride]
    }

    fn owner(&self, at: usize) -> usize {
        self.owners.map_or(at, |owners| owners[at] as usize)
    }
}

/// Why a value does not become one of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// Another kind of value is expected.
    Expected(&'static str),
    /// Out of the type's range.
    Range,
    /// A fraction where a whole number is expected.
    Fraction,
    /// Malformed.
    Invalid(&'static str),
}

impl From<Unfit> for Misfit {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::NotANumber => Self::Expected("a number"),
            Unfit::Fraction => Self::Fraction,
            Unfit::Range => Self::Range,
        }
    }
}

/// How a format's values are read.
pub(crate) trait Cells {
    fn is_null(raw: &[u8]) -> bool;
    /// The value in words, for a message.
    fn found(raw: &[u8]) -> String;
    /// A value that is a whole number in digits alone. `None`: another value, or a null.
    fn plain_integer(raw: &[u8]) -> Option<i64>;
    fn integer(raw: &[u8]) -> Result<i128, Misfit>;
    fn float(raw: &[u8]) -> Result<f64, Misfit>;
    fn boolean(raw: &[u8]) -> Result<bool, Misfit>;
    /// The number times ten to the scale.
    fn decimal(raw: &[u8], scale: i8) -> Result<i128, Misfit>;
    /// Days since 1970.
    fn date(raw: &[u8]) -> Result<i32, Misfit>;
    /// Nanoseconds since 1970.
    fn timestamp(raw: &[u8], unit: TimestampUnit) -> Result<i64, Misfit>;
    /// Appends the text, in UTF-8 if `raw` is.
    fn text(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit>;
    /// Checks that it is a JSON value, and gives its text.
    fn json(raw: &[u8]) -> Result<Cow<'_, [u8]>, Misfit>;
    /// Shows the fields of an object with the places of their values in `raw`.
    fn object(raw: &[u8], field: impl FnMut(&[u8], Range<usize>)) -> Result<(), Misfit>;
    /// Shows the places of an array's elements in `raw`.
    fn array(raw: &[u8], element: impl FnMut(Range<usize>)) -> Result<(), Misfit>;
}

/// Turns places into columns, and keeps what went wrong on the way.
pub(crate) struct Conversion<'a> {
    pub(crate) block: &'a [u8],
    pub(crate) unit: TimestampUnit,
    /// Records that do not decode and why, in no order; a record may be there more than once.
    pub(crate) faults: Vec<(usize, String)>,
}

/// Whether [`Conversion::column`] makes columns of a type, for columns that users declare.
pub(crate) fn is_decodable(data_type: &DataType, nested: bool) -> bool {
    match data_type {
        DataType::Null
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(_, _)
        | DataType::Date32
        | DataType::Timestamp(_, _)
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View => true,
        DataType::List(element) => nested && is_decodable(element.data_type(), true),
        DataType::Struct(fields) => nested && fields.iter().all(|field| is_decodable(field.data_type(), true)),
        _ => false,
    }
}

impl Conversion<'_> {
    /// The column of a field. Records whose value does not fit have any value, and are named in `faults`.
    pub(crate) fn column<C: Cells>(&mut self, field: &Field, spans: Spans<'_>) -> ArrayRef {
        let column = self.nullable::<C>(field.data_type(), field.name(), spans);
        if !field.is_nullable() {
            for at in (0..column.len()).filter(|at| column.is_null(*at)) {
                self.faults.push((spans.owner(at), format!("column \"{}\": must not be null", field.name())));
            }
        }
        column
    }

    fn nullable<C: Cells>(&mut self, data_type: &DataType, name: &str, spans: Spans<'_>) -> ArrayRef {
        let unit = self.unit;
        match data_type {
            DataType::Null => Arc::new(NullArray::new(spans.len())),
            DataType::Boolean => self.booleans::<C>(name, spans),
            DataType::Int8 => self.integers::<C, Int8Type>(name, spans),
            DataType::Int16 => self.integers::<C, Int16Type>(name, spans),
            DataType::Int32 => self.integers::<C, Int32Type>(name, spans),
            DataType::Int64 => self.integers::<C, Int64Type>(name, spans),
            DataType::UInt8 => self.integers::<C, UInt8Type>(name, spans),
            DataType::UInt16 => self.integers::<C, UInt16Type>(name, spans),
            DataType::UInt32 => self.integers::<C, UInt32Type>(name, spans),
            DataType::UInt64 => self.integers::<C, UInt64Type>(name, spans),
            DataType::Float32 => Arc::new(self.primitives::<C, Float32Type>(name, spans, |raw| {
                let value = C::float(raw)? as f32;
                if value.is_infinite() && C::float(raw)?.is_finite() { Err(Misfit::Range) } else { Ok(value) }
            })),
            DataType::Float64 => Arc::new(self.primitives::<C, Float64Type>(name, spans, C::float)),
            DataType::Decimal128(precision, scale) => self.decimals::<C>(name, spans, *precision, *scale),
            DataType::Date32 => Arc::new(self.primitives::<C, Date32Type>(name, spans, C::date)),
            DataType::Timestamp(of, zone) => {
                let zone = zone.clone();
                let read = |raw: &[u8]| C::timestamp(raw, unit);
                let plain = |number: i64| number.checked_mul(unit.nanoseconds());
                match of {
                    TimeUnit::Nanosecond if let Some(times) = self.plain::<C, _>(spans, plain) => {
                        let times = PrimitiveArray::<TimestampNanosecondType>::new(times.into(), None);
                        Arc::new(times.with_timezone_opt(zone))
                    }
                    TimeUnit::Nanosecond => Arc::new(
                        self.primitives::<C, TimestampNanosecondType>(name, spans, read).with_timezone_opt(zone),
                    ),
                    TimeUnit::Microsecond => Arc::new(
                        self.primitives::<C, TimestampMicrosecondType>(name, spans, |raw| {
                            Ok(read(raw)?.div_euclid(1_000))
                        })
                        .with_timezone_opt(zone),
                    ),
                    TimeUnit::Millisecond => Arc::new(
                        self.primitives::<C, TimestampMillisecondType>(name, spans, |raw| {
                            Ok(read(raw)?.div_euclid(1_000_000))
                        })
                        .with_timezone_opt(zone),
                    ),
                    TimeUnit::Second => Arc::new(
                        self.primitives::<C, TimestampSecondType>(name, spans, |raw| {
                            Ok(read(raw)?.div_euclid(1_000_000_000))
                        })
                        .with_timezone_opt(zone),
                    ),
                }
            }
            DataType::Utf8 => self.texts::<C>(name, spans),
            DataType::Utf8View => self.jsons::<C>(name, spans),
            DataType::LargeUtf8 => {
                let texts = self.texts::<C>(name, spans);
                arrow::compute::cast(&texts, data_type).expect("text casts to every kind of text")
            }
            DataType::List(element) => self.lists::<C>(name, spans, element),
            DataType::Struct(fields) => self.structs::<C>(name, spans, fields),
            other => unreachable!("definitions with columns of type {other} are refused"),
        }
    }

    fn fault<C: Cells>(&mut self, record: usize, name: &str, misfit: Misfit, raw: &[u8]) {
        let reason = match misfit {
            Misfit::Expected(what) => format!("column \"{name}\": expected {what}, found {}", C::found(raw)),
            Misfit::Range => format!("column \"{name}\": {} is out of range", C::found(raw)),
            Misfit::Fraction => format!("column \"{name}\": expected a whole number, found {}", C::found(raw)),
            Misfit::Invalid(what) => format!("column \"{name}\": {what}"),
        };
        self.faults.push((record, reason));
    }

    /// Calls `read` with each value and `None` for nulls and misfits; `read` appends one value each time.
    #[inline]
    fn each<C: Cells>(
        &mut self,
        name: &str,
        spans: Spans<'_>,
        mut read: impl FnMut(Option<&[u8]>) -> Result<(), Misfit>,
    ) -> Option<NullBuffer> {
        let mut nulls = NullBufferBuilder::new(spans.len());
        let block = self.block;
        for at in 0..spans.len() {
            let raw = spans.get(at).range().map(|range| &block[range]).filter(|raw| !C::is_null(raw));
            match read(raw) {
                Ok(()) => nulls.append(raw.is_some()),
                Err(misfit) => {
                    nulls.append_null();
                    read(None).expect("a null is read always");
                    self.fault::<C>(spans.owner(at), name, misfit, raw.expect("a null is read always"));
                }
            }
        }
        nulls.finish()
    }

    /// The values of a column of plain whole numbers, which most are: without a thought of nulls and misfits. `None`: one
    /// is something else.
    #[inline]
    fn plain<C: Cells, V>(&self, spans: Spans<'_>, value: impl Fn(i64) -> Option<V>) -> Option<Vec<V>> {
        let mut values = Vec::with_capacity(spans.len());
        for at in 0..spans.len() {
            let raw = &self.block[spans.get(at).range()?];
            values.push(value(C::plain_integer(raw)?)?);
        }
        Some(values)
    }

    #[inline]
    fn primitives<C: Cells, T: ArrowPrimitiveType>(
        &mut self,
        name: &str,
        spans: Spans<'_>,
        read: impl Fn(&[u8]) -> Result<T::Native, Misfit>,
    ) -> PrimitiveArray<T> {
        let mut values: Vec<T::Native> = Vec::with_capacity(spans.len());
        let nulls = self.each::<C>(name, spans, |raw| {
            values.push(raw.map_or(Ok(T::Native::default()), &read)?);
            Ok(())
        });
        PrimitiveArray::new(ScalarBuffer::from(values), nulls)
    }

    fn integers<C: Cells, T: ArrowPrimitiveType>(&mut self, name: &str, spans: Spans<'_>) -> ArrayRef
    where
        T::Native: TryFrom<i128>,
    {
        if let Some(values) = self.plain::<C, _>(spans, |number| i128::from(number).try_into().ok()) {
            return Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), None));
        }
        Arc::new(self.primitives::<C, T>(name, spans, |raw| C::integer(raw)?.try_into().map_err(|_| Misfit::Range)))
    }

    fn decimals<C: Cells>(&mut self, name: &str, spans: Spans<'_>, precision: u8, scale: i8) -> ArrayRef {
        let limit = 10i128.pow(precision.into());
        let read = |raw: &[u8]| match C::decimal(raw, scale) {
            Ok(value) if value.abs() >= limit => Err(Misfit::Range),
            other => other,
        };
        let values: Decimal128Array = self.primitives::<C, arrow::datatypes::Decimal128Type>(name, spans, read);
        Arc::new(values.with_precision_and_scale(precision, scale).expect("the type was declared so"))
    }

    fn booleans<C: Cells>(&mut self, name: &str, spans: Spans<'_>) -> ArrayRef {
        let mut values = Vec::with_capacity(spans.len());
        let nulls = self.each::<C>(name, spans, |raw| {
            values.push(raw.map_or(Ok(false), C::boolean)?);
            Ok(())
        });
        Arc::new(BooleanArray::new(values.into(), nulls))
    }

    fn texts<C: Cells>(&mut self, name: &str, spans: Spans<'_>) -> ArrayRef {
        let mut offsets: Vec<i32> = Vec::with_capacity(spans.len() + 1);
        offsets.push(0);
        let mut values = Vec::new();
        let nulls = self.each::<C>(name, spans, |raw| {
            if let Some(raw) = raw {
                let before = values.len();
                C::text(raw, &mut values).inspect_err(|_| values.truncate(before))?;
            }
            offsets.push(i32::try_from(values.len()).expect("blocks are far smaller"));
            Ok(())
        });
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Arc::new(StringArray::new(offsets, values.into(), nulls))
    }

    /// JSON values, as their text.
    fn jsons<C: Cells>(&mut self, name: &str, spans: Spans<'_>) -> ArrayRef {
        let mut out = StringViewBuilder::with_capacity(spans.len());
        self.each::<C>(name, spans, |raw| {
            let json = raw.map(C::json).transpose()?;
            match json.as_deref().map(std::str::from_utf8) {
                // A cell of another format may spell it so too.
                None | Some(Ok("null")) => out.append_null(),
                Some(Ok(text)) => out.append_value(text),
                Some(Err(_)) => return Err(Misfit::Invalid("not valid UTF-8")),
            }
            Ok(())
        });
        Arc::new(out.finish())
    }

    fn lists<C: Cells>(&mut self, name: &str, spans: Spans<'_>, element: &FieldRef) -> ArrayRef {
        let block = self.block;
        let (mut places, mut lengths) = (Vec::new(), Vec::with_capacity(spans.len()));
        let nulls = self.each::<C>(name, spans, |raw| {
            let before = places.len();
            if let Some(raw) = raw {
                let start = raw.as_ptr() as usize - block.as_ptr() as usize;
                C::array(raw, |place| places.push(Span::new(start + place.start, start + place.end)))
                    .inspect_err(|_| places.truncate(before))?;
            }
            lengths.push(places.len() - before);
            Ok(())
        });
        let mut owners = Vec::with_capacity(places.len());
        for (at, length) in lengths.iter().enumerate() {
            let owner = u32::try_from(spans.owner(at)).expect("batches are small");
            owners.extend(std::iter::repeat_n(owner, *length));
        }
        let inner = Spans { all: &places, first: 0, stride: 1, owners: Some(&owners) };
        let values = self.nullable::<C>(element.data_type(), &format!("{name}[]"), inner);
        Arc::new(GenericListArray::<i32>::new(element.clone(), OffsetBuffer::from_lengths(lengths), values, nulls))
    }

    fn structs<C: Cells>(&mut self, name: &str, spans: Spans<'_>, fields: &arrow::datatypes::Fields) -> ArrayRef {
        let block = self.block;
        let mut places = Vec::with_capacity(spans.len() * fields.len());
        let nulls = self.each::<C>(name, spans, |raw| {
            let before = places.len();
            places.resize(before + fields.len(), Span::MISSING);
            let Some(raw) = raw else { return Ok(()) };
            let start = raw.as_ptr() as usize - block.as_ptr() as usize;
            C::object(raw, |key, place| {
                if let Some(at) = fields.iter().position(|field| field.name().as_bytes() == key) {
                    places[before + at] = Span::new(start + place.start, start + place.end);
                }
            })
            .inspect_err(|_| places.truncate(before))
        });
        let columns = fields.iter().enumerate().map(|(at, field)| {
            let inner = Spans { all: &places, first: at, stride: fields.len(), owners: spans.owners };
            self.nullable::<C>(field.data_type(), &format!("{name}.{}", field.name()), inner)
        });
        let columns: Vec<ArrayRef> = columns.collect();
        if columns.is_empty() {
            return Arc::new(StructArray::new_empty_fields(spans.len(), nulls));
        }
        Arc::new(StructArray::new(fields.clone(), columns, nulls))
    }
}
