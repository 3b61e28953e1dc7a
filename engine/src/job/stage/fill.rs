//! Jobs that give groups a row in every window.

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;
use squilla_query::FillValue;

use super::{Setting, Stateful};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::branch::types;
use crate::operator::{Fill, FillInput, FillSpec, Operator};

/// Fills windows in which groups have no rows.
#[derive(Debug)]
pub(crate) struct FillJob {
    pub(crate) fill: FillSpec,
    pub(crate) schema: SchemaRef,
}

impl Stateful for FillJob {
    fn kind(&self) -> &'static str {
        "fill"
    }

    fn canonical(&self) -> String {
        format!("fill({:?}){}", self.fill, types(&self.schema))
    }

    fn describe(&self) -> String {
        let with = match self.fill.value {
            FillValue::Null => "nulls",
            FillValue::Zero => "zeros",
            FillValue::Previous => "what was before",
        };
        format!("fill windows without rows with {with}")
    }

    fn describe_state(&self) -> String {
        format!("the last row of each group, until it has had none for {} windows", self.fill.empty_windows)
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn exprs(&self) -> Vec<&Expr> {
        Vec::new()
    }

    fn key_columns(&self) -> Option<usize> {
        None
    }

    fn begin(&self, watermark: EventTime) -> Option<EventTime> {
        // Rows of closed windows come at their ends: those that are still to come have later ones.
        Some(if watermark == EventTime::MAX { EventTime::MIN } else { watermark })
    }

    fn operator(&self, setting: Setting) -> Result<Box<dyn Operator>, EngineError> {
        let input = FillInput {
            input: setting.inputs[0].0.clone(),
            schema: self.schema.clone(),
            partitions: setting.partitions(),
            state_limit_bytes: setting.state_limit_bytes,
        };
        Ok(Box::new(Fill::new(self.fill, input, setting.counters)?))
    }
}
