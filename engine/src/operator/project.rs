//! Computes columns.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::filter;
use arrow::datatypes::SchemaRef;
use squilla_query::NamedExpr;

use super::expression::{Expressions, Planner};
use super::{Operator, Output};
use crate::batch::{StreamBatch, physical_schema};
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Computes one column an expression.
///
/// - Schema: the columns given, then the hidden ones as they were; rows keep order, offsets, kind and event times.
/// - Watermark: passed on as it is.
/// - State: none.
/// - Errors: a row on which an expression fails is set aside and counted `failed`.
/// - Example: `price * 2 AS twice` over 1, 2 gives 2, 4.
pub struct Project {
    schema: SchemaRef,
    exprs: Expressions,
    counters: Arc<Counters>,
}

impl Project {
    /// A projection of physical batches of schema `input` to the visible columns `output`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when the expressions do not make these columns of the input's fields.
    pub fn new(
        input: &SchemaRef,
        exprs: &[NamedExpr],
        output: &SchemaRef,
        counters: Arc<Counters>,
    ) -> Result<Self, EngineError> {
        let planner = Planner::new(input)?;
        let compiled = exprs.iter().map(|named| planner.expr(&named.expr)).collect::<Result<_, _>>()?;
        let exprs = Expressions::new(compiled, &planner)?;
        check_types(exprs.types(), output)?;
        Ok(Self { schema: physical_schema(output), exprs, counters })
    }
}

/// That computed types are those of the output's fields.
pub(super) fn check_types(types: &[arrow::datatypes::DataType], output: &SchemaRef) -> Result<(), EngineError> {
    if types.len() != output.fields().len() {
        return Err(EngineError::Plan(format!("{} columns where {} are declared", types.len(), output.fields().len())));
    }
    match types.iter().zip(output.fields()).find(|(found, field)| !field.data_type().equals_datatype(found)) {
        Some((found, field)) => Err(EngineError::Plan(format!(
            "column \"{}\" is {found} where {} is declared",
            field.name(),
            field.data_type()
        ))),
        None => Ok(()),
    }
}

impl Operator for Project {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let mut evaluated = self.exprs.evaluate(&batch.rows, batch.arrival)?;
        let count = batch.rows.num_rows();
        let mut columns = std::mem::take(&mut evaluated.columns);
        let hidden = &batch.rows.columns()[batch.rows.num_columns() - 2..];
        match evaluated.survivors(count) {
            None => columns.extend(hidden.iter().cloned()),
            Some(left) => {
                add(&self.counters.failed, evaluated.failures.len());
                evaluated.sample(&batch.rows, &self.counters);
                for column in hidden {
                    columns.push(filter(column, &left)?);
                }
            }
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        output.rows.push(batch.with_rows(rows));
        Ok(())
    }
}
