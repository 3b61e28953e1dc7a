//! Numbers for combinations of keys, given back once nobody holds them.

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::SchemaRef;

use super::expression::filter_columns;
use super::numbered_keys::NumberedKeys;
use super::state::State;
use crate::error::EngineError;

/// Keys up to which unused ones are not looked for.
const MIN_KEYS: usize = 1024;

/// Combinations of keys by number. Without key columns there is one, number 0.
pub(super) struct KeyTable {
    schema: SchemaRef,
    keys: Option<NumberedKeys>,
}

impl KeyTable {
    /// No keys yet.
    ///
    /// # Errors
    /// [`EngineError::Aggregate`] when the types cannot be keys.
    pub(super) fn new(schema: SchemaRef) -> Result<Self, EngineError> {
        let keys = match schema.fields().len() {
            0 => None,
            _ => Some(NumberedKeys::new(&schema)?),
        };
        Ok(Self { schema, keys })
    }

    /// Numbers given so far.
    pub(super) fn len(&self) -> usize {
        self.keys.as_ref().map_or(1, NumberedKeys::len)
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
        match &mut self.keys {
            Some(keys) => keys.intern(columns, ids),
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
        if let Some(old) = self.keys.as_mut().filter(|old| old.len() > 0) {
            let keys = filter_columns(&old.take()?, used)?;
            let mut fresh = NumberedKeys::new(&self.schema)?;
            if used.true_count() > 0 {
                fresh.intern(&keys, &mut Vec::new())?;
            }
            self.keys = Some(fresh);
        }
        Ok(())
    }

    /// Puts the keys, in the order of their numbers, behind what a state holds.
    ///
    /// # Errors
    /// As [`KeyTable::new`].
    pub(super) fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        let len = self.keys.as_ref().map_or(0, NumberedKeys::len);
        let keys = self.keys.as_mut().map(NumberedKeys::copy).transpose()?;
        state.put_columns(keys.unwrap_or_default(), len)
    }

    /// Takes keys from the front of a state, which keep their numbers.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        let kinds = self.keys.as_ref().map(NumberedKeys::kinds).unwrap_or_default();
        let (columns, len) = state.take_columns(&kinds)?;
        match self.keys.as_mut().filter(|_| len > 0) {
            Some(keys) => keys.intern(&columns, &mut Vec::new()),
            None => Ok(()),
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.keys.as_ref().map_or(0, NumberedKeys::bytes)
    }
}
