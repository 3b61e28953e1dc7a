//! The order in which rows arrived, as a column, for aggregates that need it.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use squilla_query::AggregateCall;

use super::aggregate_call::ARRIVAL;
use super::grouping::Grouping;
use crate::error::EngineError;

/// Numbers rows as they come, where an aggregate asks for it.
pub(super) struct Arrivals {
    schema: SchemaRef,
    needed: bool,
    next: i64,
}

impl Arrivals {
    /// For rows of the physical fields `input`.
    pub(super) fn new(input: &SchemaRef, aggregates: &[AggregateCall]) -> Self {
        let needed = Grouping::needs_arrival(aggregates);
        let schema = if needed { numbered(input) } else { Arc::clone(input) };
        Self { schema, needed, next: 0 }
    }

    /// The fields of numbered rows.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next number, which may be set.
    pub(super) fn next(&mut self) -> &mut i64 {
        &mut self.next
    }

    /// The rows with their numbers behind, if these are needed.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn number(&mut self, rows: RecordBatch) -> Result<RecordBatch, EngineError> {
        if !self.needed {
            return Ok(rows);
        }
        let count = i64::try_from(rows.num_rows()).expect("a batch has fewer rows than 2^63");
        let numbers = Int64Array::from_iter_values(self.next..self.next + count);
        self.next += count;
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(numbers));
        // Columns that nobody reads may have come without their type.
        Ok(RecordBatch::try_new(numbered(&rows.schema()), columns)?)
    }
}

/// The fields with the arrival number behind.
fn numbered(input: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<_> = input.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(ARRIVAL, DataType::Int64, false)));
    Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()))
}
