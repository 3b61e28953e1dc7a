//! Rows of several forms in one.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, SchemaRef};

use super::{Operator, Output};
use crate::batch::{StreamBatch, physical_schema};
use crate::error::EngineError;

/// Gives rows the columns of a schema, each found by its name.
///
/// - Schema: physical batches in, whose columns may differ from batch to batch; out come the columns of the schema, and the
///   hidden ones, in the order of the rows. A column is that of its name, or of its name behind that of a joined relation
///   (`w` is `b.w`); of two the last. What is not there, or was not read, is null; other types are cast.
/// - Watermark: passes.
/// - State: none.
/// - Errors: none.
/// - Example: late rows of both inputs of a join, in which those of the left have nulls in columns of the right.
pub struct Conform {
    schema: SchemaRef,
}

impl Conform {
    /// Gives rows the visible columns of `visible`.
    pub fn new(visible: &SchemaRef) -> Self {
        Self { schema: physical_schema(visible) }
    }
}

impl Operator for Conform {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let columns = self.schema.fields().iter().map(|field| column(&batch.rows, field));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        output.rows.push(batch.with_rows(RecordBatch::try_new(Arc::clone(&self.schema), columns)?));
        Ok(())
    }
}

fn column(rows: &RecordBatch, wanted: &Field) -> Result<ArrayRef, EngineError> {
    let schema = rows.schema();
    let names = || schema.fields().iter().map(|field| field.name());
    let of_relation = |name: &String| name.rsplit_once('.').is_some_and(|(_, own)| own == wanted.name());
    let exact = schema.fields().iter().rposition(|field| field.name() == wanted.name());
    let Some(at) = exact.or_else(|| names().rposition(of_relation)) else {
        return Ok(new_null_array(wanted.data_type(), rows.num_rows()));
    };
    let found = rows.column(at);
    Ok(match found.data_type() {
        same if same == wanted.data_type() => Arc::clone(found),
        DataType::Null => new_null_array(wanted.data_type(), rows.num_rows()),
        _ => cast(found, wanted.data_type())?,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, NullArray, TimestampNanosecondArray};
    use arrow::datatypes::Schema;

    use super::*;
    use crate::operator::testing::{Feed, lines};

    #[test]
    fn columns_are_found_by_name_and_others_are_null() {
        let wanted = ["id", "w", "unread", "gone"].map(|name| Field::new(name, DataType::Utf8, true));
        let mut conform = Conform::new(&Arc::new(Schema::new(wanted.to_vec())));
        let given = [("b.w", DataType::Int64), ("id", DataType::Int64), ("unread", DataType::Null)];
        let given = Schema::new(given.map(|(name, kind)| Field::new(name, kind, true)).to_vec());
        let times = || Arc::new(TimestampNanosecondArray::from(vec![1, 2])) as ArrayRef;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![7, 8])),
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(NullArray::new(2)),
            times(),
            times(),
        ];
        let rows = RecordBatch::try_new(physical_schema(&given), columns).expect("the columns fit");
        let mut output = Output::default();
        conform.process(Feed::new(0, 1).batch(0, &[]).with_rows(rows), &mut output).expect("it takes a batch");
        assert_eq!(output.rows[0].rows.schema(), *conform.schema());
        assert_eq!(lines(&output.rows), ["1|7||", "2|8||"]);
    }
}
