//! Keeps the rows for which a predicate is true.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_expr::Expr;

use super::expression::{Expressions, Planner};
use super::{Operator, Output};
use crate::batch::StreamBatch;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Keeps the rows for which a predicate is true; null is not true.
///
/// - Schema: in equals out; rows keep their order, offsets, kind and event times.
/// - Watermark: passed on as it is. Rows that are dropped have counted, since each row carries its own.
/// - State: none.
/// - Errors: a row on which the predicate fails is set aside and counted `failed`. Counts `filtered` beside.
/// - Example: `price > 100` over prices 90, 110, null gives 110, and two rows filtered.
pub struct Filter {
    schema: SchemaRef,
    predicate: Expressions,
    counters: Arc<Counters>,
}

impl Filter {
    /// A filter of physical batches of schema `input`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when the predicate is not a boolean expression over its fields.
    pub fn new(input: &SchemaRef, predicate: &Expr, counters: Arc<Counters>) -> Result<Self, EngineError> {
        Ok(Self { schema: Arc::clone(input), predicate: compile(input, predicate)?, counters })
    }
}

/// The predicate as an expression.
pub(super) fn compile(input: &SchemaRef, predicate: &Expr) -> Result<Expressions, EngineError> {
    let planner = Planner::new(input)?;
    let compiled = Expressions::new(vec![planner.expr(predicate)?], &planner)?;
    match &compiled.types()[0] {
        DataType::Boolean => Ok(compiled),
        other => Err(EngineError::Plan(format!("the predicate {predicate} is {other}, not boolean"))),
    }
}

impl Operator for Filter {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        if batch.rows.num_rows() == 0 {
            output.rows.push(batch);
            return Ok(());
        }
        let evaluated = self.predicate.evaluate(&batch.rows, batch.arrival)?;
        let rows = evaluated.set_aside(&batch.rows, &self.counters)?;
        let passes: &BooleanArray = evaluated.columns[0].as_boolean();
        let filtered = rows.num_rows() - passes.true_count();
        if filtered == 0 && evaluated.failures.is_empty() {
            output.rows.push(batch);
            return Ok(());
        }
        add(&self.counters.filtered, filtered);
        let rows = if filtered == 0 { rows } else { filter_record_batch(&rows, passes)? };
        output.rows.push(batch.with_rows(rows));
        Ok(())
    }
}
