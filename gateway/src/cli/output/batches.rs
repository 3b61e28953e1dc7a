//! Record batches on their way to standard output.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::value::RawValue;
use squilla_engine::RowKind;
use squilla_sources::encode;

use super::Output;
use super::table::{TableBlocks, cell};
use crate::cli::args::Format;

/// Name of the column that says what a row does: `u` running, `f` final, `d` deleted.
const OP: &str = "op";

/// Writes the batches of one result.
pub(crate) struct BatchWriter {
    format: Format,
    /// The result's fields, [`OP`] first for keyed results.
    schema: SchemaRef,
    keyed: bool,
    header_written: bool,
    table: TableBlocks,
}

impl BatchWriter {
    /// For rows of these fields. `keyed`: rows replace each other, so each is written with what it does.
    pub(crate) fn new(format: Format, schema: &Schema, keyed: bool) -> Self {
        let op = keyed.then(|| Arc::new(Field::new(OP, DataType::Utf8, false)));
        let fields: Vec<_> = op.into_iter().chain(schema.fields().iter().cloned()).collect();
        let names = fields.iter().map(|field| field.name().clone()).collect();
        let right = fields.iter().map(|field| field.data_type().is_numeric()).collect();
        let table = TableBlocks::new(names, right);
        Self { format, schema: Arc::new(Schema::new(fields)), keyed, header_written: false, table }
    }

    /// Writes rows of a batch, which has the visible columns only.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn write(
        &mut self,
        kind: RowKind,
        batch: &RecordBatch,
        rows: Range<usize>,
        output: &mut Output,
    ) -> io::Result<()> {
        let op = if self.keyed { op_of(kind) } else { None };
        match self.format {
            Format::Ndjson => encode::write_ndjson(batch, rows, op, output.buffer()),
            Format::Csv => {
                self.write_csv_header(output);
                encode::write_csv_rows(&self.with_op(op, batch), rows, output.buffer());
            }
            Format::Table => self.gather(&self.with_op(op, batch), rows, output)?,
            Format::Null => {}
        }
        output.appended()
    }

    /// Shows all that came, aligned columns included: those are gathered until then, to find their widths.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn show(&mut self, output: &mut Output) -> io::Result<()> {
        if self.format == Format::Table {
            self.table.render(output.buffer());
        }
        output.flush()
    }

    /// Nothing will come any more: as [`BatchWriter::show`]; a result without rows still shows its header.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn end(&mut self, output: &mut Output) -> io::Result<()> {
        match self.format {
            Format::Csv => self.write_csv_header(output),
            Format::Table => self.table.end(output.buffer()),
            Format::Ndjson | Format::Null => {}
        }
        output.flush()
    }

    fn write_csv_header(&mut self, output: &mut Output) {
        if !self.header_written {
            self.header_written = true;
            encode::write_csv_header(&self.schema, output.buffer());
        }
    }

    fn with_op(&self, op: Option<&str>, batch: &RecordBatch) -> RecordBatch {
        if !self.keyed {
            return batch.clone();
        }
        let ops: ArrayRef =
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n(op.unwrap_or(""), batch.num_rows())));
        let columns = std::iter::once(ops).chain(batch.columns().iter().cloned()).collect();
        RecordBatch::try_new(self.schema.clone(), columns).expect("a batch has the fields of its result")
    }

    fn gather(&mut self, batch: &RecordBatch, rows: Range<usize>, output: &mut Output) -> io::Result<()> {
        let mut json = Vec::new();
        encode::write_rows_array(batch, rows, &mut json);
        let rows: Vec<Vec<&RawValue>> = serde_json::from_slice(&json).map_err(io::Error::other)?;
        for row in rows {
            self.table.push(row.into_iter().map(cell).collect());
            if self.table.is_full() {
                self.table.render(output.buffer());
                output.appended()?;
            }
        }
        Ok(())
    }
}

/// How a row's effect is written.
fn op_of(kind: RowKind) -> Option<&'static str> {
    match kind {
        RowKind::Append => None,
        RowKind::Update => Some("u"),
        RowKind::Final => Some("f"),
        RowKind::Delete => Some("d"),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, RecordBatch};

    use super::super::testing::Kept;
    use super::*;

    fn batch() -> RecordBatch {
        let key: ArrayRef = Arc::new(StringArray::from(vec!["a,b", "c"]));
        let count: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        RecordBatch::try_from_iter(vec![("key", key), ("n", count)]).expect("two columns of one length")
    }

    fn written(format: Format, keyed: bool) -> String {
        let kept = Kept::default();
        let mut output = kept.output();
        let mut writer = BatchWriter::new(format, &batch().schema(), keyed);
        let kind = if keyed { RowKind::Update } else { RowKind::Append };
        writer.write(kind, &batch(), 0..2, &mut output).expect("memory takes it");
        writer.end(&mut output).expect("memory takes it");
        kept.text()
    }

    #[test]
    fn each_format_has_its_shape() {
        assert_eq!(written(Format::Ndjson, false), "{\"key\":\"a,b\",\"n\":1}\n{\"key\":\"c\",\"n\":null}\n");
        assert_eq!(written(Format::Csv, false), "key,n\n\"a,b\",1\nc,\n");
        assert_eq!(written(Format::Table, false), " key |    n\n-----+------\n a,b |    1\n c   | null\n");
        assert_eq!(written(Format::Null, false), "");
    }

    #[test]
    fn keyed_rows_say_what_they_do() {
        assert_eq!(written(Format::Csv, true), "op,key,n\nu,\"a,b\",1\nu,c,\n");
        assert!(written(Format::Ndjson, true).lines().all(|line| line.contains("\"op\":\"u\"")));
    }

    #[test]
    fn a_csv_result_without_rows_has_its_header() {
        let kept = Kept::default();
        let mut output = kept.output();
        BatchWriter::new(Format::Csv, &batch().schema(), false).end(&mut output).expect("memory takes it");
        assert_eq!(kept.text(), "key,n\n");
    }
}
