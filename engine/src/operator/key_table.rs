//! Numbers for combinations of keys, given back once nobody holds them.

use arrow::array::{Array, ArrayRef, BooleanArray, new_empty_array};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::DataFusionError;
use datafusion_expr::EmitTo;
use datafusion_physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion_physical_plan::aggregates::order::GroupOrdering;

use super::expression::filter_columns;
use super::state::State;
use crate::error::EngineError;

/// Keys up to which unused ones are not looked for.
const MIN_KEYS: usize = 1024;

/// Combinations of keys by number. Without key columns there is one, number 0.
pub(super) struct KeyTable {
    schema: SchemaRef,
    values: Option<Box<dyn GroupValues>>,
    /// What `values` had when the table was saved, and how many, until keys are looked up again.
    frozen: Option<(Vec<ArrayRef>, usize)>,
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
        Ok(Self { schema, values, frozen: None })
    }

    /// Numbers given so far.
    pub(super) fn len(&self) -> usize {
        match (&self.values, &self.frozen) {
            (None, _) => 1,
            (Some(_), Some((_, len))) => *len,
            (Some(values), None) => values.len(),
        }
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
        self.thaw(ids)?;
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
        self.freeze()?;
        if let Some((keys, _)) = self.frozen.take() {
            self.frozen = Some((filter_columns(&keys, used)?, used.true_count()));
        }
        self.thaw(&mut Vec::new())
    }

    /// Takes the keys out as columns.
    fn freeze(&mut self) -> Result<(), EngineError> {
        if let Some(known) = self.values.as_mut().filter(|known| self.frozen.is_none() && !known.is_empty()) {
            let len = known.len();
            self.frozen = Some((known.emit(EmitTo::All).map_err(failed)?, len));
            *known = values(&self.schema)?;
        }
        Ok(())
    }

    /// Numbers the keys as they were.
    fn thaw(&mut self, ids: &mut Vec<usize>) -> Result<(), EngineError> {
        if let Some((keys, len)) = self.frozen.take() {
            let mut fresh = values(&self.schema)?;
            if len > 0 {
                ids.clear();
                fresh.intern(&keys, ids).map_err(failed)?;
            }
            self.values = Some(fresh);
        }
        Ok(())
    }

    /// Puts the keys, in the order of their numbers, behind what a state holds.
    ///
    /// # Errors
    /// As [`KeyTable::new`].
    pub(super) fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.freeze()?;
        let nothing = || self.kinds().iter().map(new_empty_array).collect();
        let (keys, len) = self.frozen.clone().unwrap_or_else(|| (nothing(), 0));
        state.put_columns(keys, len)
    }

    /// Takes keys from the front of a state, which keep their numbers.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        let keys = state.take_columns(&self.kinds())?;
        self.frozen = self.values.is_some().then_some(keys);
        Ok(())
    }

    fn kinds(&self) -> Vec<DataType> {
        self.schema.fields().iter().map(|field| field.data_type().clone()).collect()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let frozen = self.frozen.iter().flat_map(|(keys, _)| keys).map(|key| key.get_array_memory_size());
        self.values.as_ref().map_or(0, |values| values.size()) + frozen.sum::<usize>()
    }
}

fn values(schema: &SchemaRef) -> Result<Box<dyn GroupValues>, EngineError> {
    new_group_values(SchemaRef::clone(schema), &GroupOrdering::None).map_err(failed)
}

fn failed(error: DataFusionError) -> EngineError {
    EngineError::Aggregate(error.strip_backtrace())
}
