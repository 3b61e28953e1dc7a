//! The state of an operator as it is stored, and read again.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::EngineError;

/// What an operator keeps, in parts that are read again in the order in which they were put: notes (a few figures, as
/// JSON) and columns. Columns are shared with the operator, not copied: a state costs nothing until it is written.
#[derive(Debug, Clone, Default)]
pub struct State {
    parts: VecDeque<Part>,
}

/// A part of a [`State`].
#[derive(Debug, Clone)]
pub enum Part {
    /// Figures, as JSON.
    Note(String),
    /// Columns.
    Rows(RecordBatch),
}

impl State {
    /// Puts figures behind what is there.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when they have no JSON.
    pub fn put(&mut self, note: &impl Serialize) -> Result<(), EngineError> {
        let text = serde_json::to_string(note).map_err(|error| EngineError::Internal(Box::new(error)))?;
        self.parts.push_back(Part::Note(text));
        Ok(())
    }

    /// Puts columns behind what is there.
    pub fn put_rows(&mut self, rows: RecordBatch) {
        self.parts.push_back(Part::Rows(rows));
    }

    /// Takes figures from the front.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<T, EngineError> {
        match self.parts.pop_front() {
            Some(Part::Note(text)) => {
                serde_json::from_str(&text).map_err(|error| EngineError::State(error.to_string()))
            }
            Some(Part::Rows(_)) => Err(EngineError::State("columns where a note was to be".into())),
            None => Err(EngineError::State("it ends where a note was to be".into())),
        }
    }

    /// Takes columns from the front.
    ///
    /// # Errors
    /// As [`State::take`].
    pub fn take_rows(&mut self) -> Result<RecordBatch, EngineError> {
        match self.parts.pop_front() {
            Some(Part::Rows(rows)) => Ok(rows),
            Some(Part::Note(_)) => Err(EngineError::State("a note where columns were to be".into())),
            None => Err(EngineError::State("it ends where columns were to be".into())),
        }
    }

    /// Puts columns of so many rows, which may be no columns, behind what is there.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn put_columns(&mut self, columns: Vec<ArrayRef>, rows: usize) -> Result<(), EngineError> {
        let field = |(at, column): (usize, &ArrayRef)| Field::new(at.to_string(), column.data_type().clone(), true);
        let fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        self.put_rows(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?);
        Ok(())
    }

    /// Takes columns of these types from the front, whatever the names of nested fields; and how many rows they have.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn take_columns(&mut self, kinds: &[DataType]) -> Result<(Vec<ArrayRef>, usize), EngineError> {
        let rows = self.take_rows()?;
        check_kinds(rows.columns(), kinds)?;
        let count = rows.num_rows();
        Ok((rows.columns().to_vec(), count))
    }

    /// Takes rows of this schema from the front.
    ///
    /// # Errors
    /// As [`State::take_columns`].
    pub(super) fn take_rows_of(&mut self, schema: &SchemaRef) -> Result<RecordBatch, EngineError> {
        let rows = self.take_rows()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        let taken = RecordBatch::try_new_with_options(SchemaRef::clone(schema), rows.columns().to_vec(), &options);
        taken.map_err(|error| EngineError::State(error.to_string()))
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        let bytes = |part: &Part| match part {
            Part::Note(text) => text.len(),
            Part::Rows(rows) => rows.get_array_memory_size(),
        };
        self.parts.iter().map(bytes).sum()
    }

    /// True when all of it was taken.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The parts in their order, to be written.
    pub fn into_parts(self) -> impl Iterator<Item = Part> {
        self.parts.into_iter()
    }
}

/// The values of a column that was taken as one of that type, none of which is null.
pub(super) fn values<T: ArrowPrimitiveType>(column: &ArrayRef) -> Vec<T::Native> {
    column.as_primitive::<T>().values().to_vec()
}

/// Whether there are such columns, and no others.
///
/// # Errors
/// [`EngineError::State`] when not.
pub(super) fn check_kinds(columns: &[ArrayRef], kinds: &[DataType]) -> Result<(), EngineError> {
    if columns.len() != kinds.len() {
        return Err(EngineError::State(format!("{} columns where {} were to be", columns.len(), kinds.len())));
    }
    match columns.iter().zip(kinds).find(|(column, kind)| !column.data_type().equals_datatype(kind)) {
        Some((column, kind)) => {
            Err(EngineError::State(format!("a column of {} where one of {kind} was to be", column.data_type())))
        }
        None => Ok(()),
    }
}

/// Whether there are as many of something as there are to be.
///
/// # Errors
/// [`EngineError::State`] when not.
pub(super) fn check_count(what: &str, found: usize, wanted: usize) -> Result<(), EngineError> {
    if found == wanted {
        return Ok(());
    }
    Err(EngineError::State(format!("{found} {what} where {wanted} were to be")))
}

impl FromIterator<Part> for State {
    fn from_iter<T: IntoIterator<Item = Part>>(parts: T) -> Self {
        Self { parts: parts.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_in_their_order() {
        let mut state = State::default();
        state.put(&(3, "three")).expect("a note");
        let rows = RecordBatch::new_empty(std::sync::Arc::new(arrow::datatypes::Schema::empty()));
        state.put_rows(rows.clone());
        let mut again: State = state.into_parts().collect();
        assert!(again.clone().take_rows().is_err(), "a note comes first");
        assert_eq!(again.take::<(i32, String)>().expect("a note"), (3, "three".to_owned()));
        assert!(again.clone().take::<i32>().is_err(), "columns come next");
        assert_eq!(again.take_rows().expect("columns"), rows);
        assert!(again.is_empty() && again.take::<i32>().is_err());
    }
}
