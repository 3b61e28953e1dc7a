//! Combinations of keys by number, which can be copied out while they are used.

use arrow::array::{Array, ArrayRef, UInt32Array, new_empty_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::DataFusionError;
use datafusion_expr::EmitTo;
use datafusion_physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion_physical_plan::aggregates::order::GroupOrdering;

use crate::error::EngineError;

/// Keys, numbered from zero as they come. DataFusion gives them out only as a whole and forgets them: from the first
/// copy on, columns of them are kept beside.
pub(super) struct NumberedKeys {
    schema: SchemaRef,
    values: Box<dyn GroupValues>,
    /// Columns in pieces, each more than twice as long as the next; `None`: no copy was asked for.
    copied: Option<Vec<Vec<ArrayRef>>>,
}

impl NumberedKeys {
    /// No keys yet.
    ///
    /// # Errors
    /// [`EngineError::Aggregate`] when the types cannot be keys.
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, EngineError> {
        Ok(Self { schema: SchemaRef::clone(schema), values: values(schema)?, copied: None })
    }

    /// Numbers given so far.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The number of each row.
    ///
    /// # Errors
    /// As [`NumberedKeys::new`].
    pub(super) fn intern(&mut self, columns: &[ArrayRef], ids: &mut Vec<usize>) -> Result<(), EngineError> {
        let mut known = self.values.len();
        self.values.intern(columns, ids).map_err(failed)?;
        let Some(copied) = self.copied.as_mut().filter(|_| self.values.len() > known) else { return Ok(()) };
        let mut fresh = Vec::new();
        for (row, id) in (0u32..).zip(ids.iter()) {
            if *id >= known {
                known = *id + 1;
                fresh.push(row);
            }
        }
        let fresh = UInt32Array::from(fresh);
        copied.push(columns.iter().map(|column| take(column, &fresh, None)).collect::<Result<_, _>>()?);
        while let [.., left, right] = copied.as_slice()
            && left[0].len() <= 2 * right[0].len()
        {
            let joined = join(&[left.clone(), right.clone()])?;
            copied.truncate(copied.len() - 2);
            copied.push(joined);
        }
        Ok(())
    }

    /// All keys, in the order of their numbers.
    ///
    /// # Errors
    /// As [`NumberedKeys::new`].
    pub(super) fn copy(&mut self) -> Result<Vec<ArrayRef>, EngineError> {
        if self.values.is_empty() {
            let kinds = self.schema.fields().iter().map(|field| field.data_type());
            return Ok(kinds.map(new_empty_array).collect());
        }
        let whole = match &self.copied {
            Some(pieces) => join(pieces)?,
            None => {
                let all = self.values.emit(EmitTo::All).map_err(failed)?;
                self.values = values(&self.schema)?;
                self.values.intern(&all, &mut Vec::new()).map_err(failed)?;
                all
            }
        };
        self.copied = Some(vec![whole.clone()]);
        Ok(whole)
    }

    /// Takes all keys out, in the order of their numbers: at least one.
    ///
    /// # Errors
    /// As [`NumberedKeys::new`].
    pub(super) fn take(&mut self) -> Result<Vec<ArrayRef>, EngineError> {
        self.copied = None;
        self.values.emit(EmitTo::All).map_err(failed)
    }

    /// Forgets what is left of keys that were taken out, but keeps room for so many.
    pub(super) fn clear(&mut self, room: usize) {
        self.copied = None;
        self.values.clear_shrink(room);
    }

    /// Types of the keys.
    pub(super) fn kinds(&self) -> Vec<DataType> {
        self.schema.fields().iter().map(|field| field.data_type().clone()).collect()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        let copied = self.copied.iter().flatten().flatten().map(|column| column.get_array_memory_size());
        self.values.size() + copied.sum::<usize>()
    }
}

/// Pieces as one.
fn join(pieces: &[Vec<ArrayRef>]) -> Result<Vec<ArrayRef>, EngineError> {
    let Some(first) = pieces.first().filter(|_| pieces.len() > 1) else {
        return Ok(pieces.first().cloned().unwrap_or_default());
    };
    let column = |at: usize| {
        let columns: Vec<&dyn Array> = pieces.iter().map(|piece| piece[at].as_ref()).collect();
        concat(&columns)
    };
    Ok((0..first.len()).map(column).collect::<Result<_, _>>()?)
}

fn values(schema: &SchemaRef) -> Result<Box<dyn GroupValues>, EngineError> {
    new_group_values(SchemaRef::clone(schema), &GroupOrdering::None).map_err(failed)
}

fn failed(error: DataFusionError) -> EngineError {
    EngineError::Aggregate(error.strip_backtrace())
}
