//! Numbers for combinations of keys, given back once nobody holds them.

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::SchemaRef;
use datafusion_common::DataFusionError;
use datafusion_expr::EmitTo;
use datafusion_physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion_physical_plan::aggregates::order::GroupOrdering;

use super::expression::filter_columns;
use crate::error::EngineError;

/// Keys up to which unused ones are not looked for.
const MIN_KEYS: usize = 1024;

/// Combinations of keys by number. Without key columns there is one, number 0.
pub(super) struct KeyTable {
    schema: SchemaRef,
    values: Option<Box<dyn GroupValues>>,
}

impl KeyTable {
    /// No keys yet.
    ///
    /// # Errors
    /// [`EngineError::Aggregate`] when the types cannot be keys.
    pub(super) fn new(schema: SchemaRef) -> Result<Self, EngineError> {
        let values = match schema.fields().len() {
            0 => None,
            _ => Some(values(&schema)?),
        };
        Ok(Self { schema, values })
    }

    /// Numbers given so far.
    pub(super) fn len(&self) -> usize {
        self.values.as_ref().map_or(1, |values| values.len())
    }

    /// The number of each of `rows` rows.
    ///
    /// # Errors
    /// As [`KeyTable::new`].
    pub(super) fn intern(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        ids: &mut Vec<usize>,
    ) -> Result<(), EngineError> {
        match &mut self.values {
            Some(values) => values.intern(columns, ids).map_err(failed),
            None => {
                ids.clear();
                ids.resize(rows, 0);
                Ok(())
            }
        }
    }

    /// True when it is worth while to call [`KeyTable::retain`]: less than half of the keys are used.
    pub(super) fn is_sparse(&self, used: usize) -> bool {
        self.len() > MIN_KEYS && used * 2 < self.len()
    }

    /// Forgets all keys but those that are used, which get new numbers in the order of the old ones.
    ///
    /// # Errors
    /// As [`KeyTable::new`].
    pub(super) fn retain(&mut self, used: &BooleanArray) -> Result<(), EngineError> {
        if let Some(old) = &mut self.values {
            let keys = filter_columns(&old.emit(EmitTo::All).map_err(failed)?, used)?;
            let mut fresh = values(&self.schema)?;
            let mut ids = Vec::new();
            if used.true_count() > 0 {
                fresh.intern(&keys, &mut ids).map_err(failed)?;
            }
            self.values = Some(fresh);
        }
        Ok(())
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.values.as_ref().map_or(0, |values| values.size())
    }
}

fn values(schema: &SchemaRef) -> Result<Box<dyn GroupValues>, EngineError> {
    new_group_values(SchemaRef::clone(schema), &GroupOrdering::None).map_err(failed)
}

fn failed(error: DataFusionError) -> EngineError {
    EngineError::Aggregate(error.strip_backtrace())
}
