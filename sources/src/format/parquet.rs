//! Parquet files to record batches. Only the wanted columns are read.
//!
//! Columns are found by name; one that the file does not have is null. A value that does not convert to its
//! column's declared type makes its row undecodable.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use ::parquet::file::reader::ChunkReader;
use arrow::array::AsArray;
use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::datatypes::{Float64Type, Int64Type, TimestampNanosecondType};
use arrow::error::ArrowError;
use async_trait::async_trait;
use squilla_engine::{EngineError, PartitionReader, ReadEvent, Reject};

use super::BATCH_ROWS;
use super::scalar::TimestampUnit;
use crate::connector::failed;

/// Rows of a batch whose conversion failed that are told.
const REJECTS: usize = 16;

/// The columns of a file, with timestamps as TIMESTAMP and dictionaries as their values.
pub(crate) fn schema(path: &Path) -> Result<SchemaRef, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
    let fields = builder.schema().fields().iter().map(|field| {
        let data_type = match field.data_type() {
            DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Nanosecond, None),
            DataType::Dictionary(_, values) => values.as_ref().clone(),
            // Views of text are what JSON columns are.
            DataType::Utf8View => DataType::Utf8,
            other => other.clone(),
        };
        Field::new(field.name(), data_type, true)
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// Opens a file for reading some of its columns.
pub(crate) fn open(source: &str, path: &Path, wanted: &SchemaRef, unit: TimestampUnit) -> Result<ParquetFile, String> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let file = File::open(path).map_err(|error| format!("{name}: {error}"))?;
    open_reader(source, &name, file, wanted, unit)
}

/// As [`open`], of a file that is somewhere else.
pub(crate) fn open_reader<R: ChunkReader + 'static>(
    source: &str,
    name: &str,
    input: R,
    wanted: &SchemaRef,
    unit: TimestampUnit,
) -> Result<ParquetFile, String> {
    let bytes = input.len();
    let wrong = |error: ::parquet::errors::ParquetError| format!("{name}: {error}");
    let builder = ParquetRecordBatchReaderBuilder::try_new(input).map_err(wrong)?;
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0).max(1);
    let roots: Vec<usize> =
        wanted.fields().iter().filter_map(|field| builder.schema().index_of(field.name()).ok()).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(wrong)?;
    Ok(ParquetFile {
        source: source.to_owned(),
        name: name.to_owned(),
        reader,
        wanted: wanted.clone(),
        unit,
        row: 0,
        row_bytes: bytes / rows,
    })
}

/// A reader of one file.
pub(crate) struct ParquetFile {
    source: String,
    name: String,
    reader: ParquetRecordBatchReader,
    wanted: SchemaRef,
    /// What numbers that are read as timestamps count.
    unit: TimestampUnit,
    /// Rows read so far.
    row: u64,
    /// Bytes of the file a row, on average.
    row_bytes: u64,
}

impl ParquetFile {
    fn convert(&mut self, batch: &RecordBatch) -> Result<ReadEvent, EngineError> {
        let rows = batch.num_rows();
        let mut good = vec![true; rows];
        let mut rejects = Vec::new();
        let mut undecodable = 0;
        let mut columns = Vec::with_capacity(self.wanted.fields().len());
        for field in self.wanted.fields() {
            let Some(found) = batch.column_by_name(field.name()) else {
                columns.push(new_null_array(field.data_type(), rows));
                continue;
            };
            let column = converted(found, field.data_type(), self.unit).map_err(|error| {
                failed(&self.source, format!("{}: column \"{}\": {error}", self.name, field.name()), false)
            })?;
            if column.null_count() > found.null_count() || !field.is_nullable() {
                for row in (0..rows).filter(|row| column.is_null(*row)) {
                    let misfit = found.is_valid(row) || !field.is_nullable();
                    if misfit && std::mem::replace(&mut good[row], false) {
                        undecodable += 1;
                        if rejects.len() < REJECTS {
                            rejects.push(self.reject(field, found, row));
                        }
                    }
                }
            }
            columns.push(column);
        }
        self.row += rows as u64;
        let kept = rows - usize::try_from(undecodable).expect("at most all rows");
        if undecodable > 0 {
            let good = BooleanArray::from(good);
            columns = columns.iter().map(|column| arrow::compute::filter(column, &good)).collect::<Result<_, _>>()?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(kept));
        let batch = RecordBatch::try_new_with_options(self.wanted.clone(), columns, &options)?;
        Ok(ReadEvent::Batch {
            rows: batch,
            undecodable,
            rejects,
            bytes: self.row_bytes * rows as u64,
            receipts: Vec::new(),
        })
    }

    fn reject(&self, field: &Field, found: &ArrayRef, row: usize) -> Reject {
        let value = arrow::util::display::array_value_to_string(found, row).unwrap_or_default();
        Reject {
            place: format!("row {} of {}", self.row + row as u64 + 1, self.name),
            reason: format!("column \"{}\": no {} value", field.name(), field.data_type()),
            record: value.chars().take(2_048).collect(),
        }
    }
}

/// A column as one of another type; what does not convert is null.
fn converted(found: &ArrayRef, data_type: &DataType, unit: TimestampUnit) -> Result<ArrayRef, ArrowError> {
    let each = unit.nanoseconds();
    let is_time = *data_type == DataType::Timestamp(TimeUnit::Nanosecond, None);
    if is_time && found.data_type().is_integer() {
        let numbers = arrow::compute::cast(found, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        return Ok(Arc::new(numbers.unary_opt::<_, TimestampNanosecondType>(|number| number.checked_mul(each))));
    }
    if is_time && found.data_type().is_floating() {
        let numbers = arrow::compute::cast(found, &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        return Ok(Arc::new(numbers.unary_opt::<_, TimestampNanosecondType>(|number| of_float(number, each))));
    }
    arrow::compute::cast(found, data_type)
}

/// A number times `each`, the fraction apart: what the number holds is kept to the nanosecond. `None`: out of range.
fn of_float(number: f64, each: i64) -> Option<i64> {
    let whole = number.trunc();
    // Beyond it, whole numbers of 64 bits end.
    if whole.is_nan() || whole.abs() >= 9.2e18 {
        return None;
    }
    let fraction = ((number - whole) * each as f64).round();
    (whole as i64).checked_mul(each)?.checked_add(fraction as i64)
}

#[async_trait]
impl PartitionReader for ParquetFile {
    async fn next(&mut self) -> Result<ReadEvent, EngineError> {
        match self.reader.next() {
            None => Ok(ReadEvent::End),
            Some(batch) => {
                let batch = batch.map_err(|error| failed(&self.source, format!("{}: {error}", self.name), false))?;
                self.convert(&batch)
            }
        }
    }
}
