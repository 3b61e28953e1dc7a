//! The n-th value by an ordering, of rows that come in any order.
//!
//! DataFusion's `nth_value` trusts its input to be ordered, across batches too. This one keeps the first (or, for a
//! negative n, the last) n rows seen so far, in order, as columns. Its state has the form of DataFusion's.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{SortColumn, SortOptions, concat, lexsort_to_indices, take};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::Accumulator;
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use datafusion_physical_expr::expressions::Literal;

use crate::error::EngineError;

/// Which value, by which ordering.
#[derive(Debug, Clone)]
pub(super) struct NthSpec {
    /// From the start, counted from 1; from the end when negative.
    n: i64,
    options: Vec<SortOptions>,
    /// The fields of the state: a list of values, a list of their ordering columns.
    value: DataType,
    orderings: Fields,
}

impl NthSpec {
    /// That of a call of `nth_value`, which has an ordering.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when n is not a whole number other than zero.
    pub(super) fn new(function: &AggregateFunctionExpr) -> Result<Self, EngineError> {
        let arguments = function.expressions();
        let n = match arguments[1].downcast_ref::<Literal>().map(Literal::value) {
            Some(ScalarValue::Int64(Some(n))) if *n != 0 => *n,
            _ => return Err(EngineError::Plan("nth_value takes a whole number other than 0 as its n".into())),
        };
        let states = function.state_fields()?;
        let orderings = match states.get(1).map(|field| field.data_type()) {
            Some(DataType::List(item)) => match item.data_type() {
                DataType::Struct(fields) => fields.clone(),
                other => return Err(EngineError::Plan(format!("nth_value has a state of {other}"))),
            },
            _ => return Err(EngineError::Plan("nth_value has no ordering".into())),
        };
        let options = function.order_bys().iter().map(|by| by.options).collect();
        Ok(Self { n, options, value: function.field().data_type().clone(), orderings })
    }

    fn kept(&self) -> usize {
        usize::try_from(self.n.unsigned_abs()).unwrap_or(usize::MAX)
    }
}

/// The accumulator of one group.
#[derive(Debug)]
pub(super) struct NthValue {
    spec: NthSpec,
    /// The value, then the ordering columns; in order, at most n rows.
    columns: Vec<ArrayRef>,
}

impl NthValue {
    /// Without rows.
    pub(super) fn new(spec: NthSpec) -> Self {
        let orderings = spec.orderings.iter().map(|field| new_empty_array(field.data_type()));
        let columns = std::iter::once(new_empty_array(&spec.value)).chain(orderings).collect();
        Self { spec, columns }
    }

    fn add(&mut self, rows: &[&dyn Array]) -> Result<()> {
        let joined = self
            .columns
            .iter()
            .zip(rows)
            .map(|(kept, new)| Ok(concat(&[kept.as_ref(), *new])?))
            .collect::<Result<Vec<_>>>()?;
        let order: Vec<SortColumn> = joined[1..]
            .iter()
            .zip(&self.spec.options)
            .map(|(values, options)| SortColumn { values: Arc::clone(values), options: Some(*options) })
            .collect();
        let sorted = lexsort_to_indices(&order, None)?;
        let excess = sorted.len().saturating_sub(self.spec.kept());
        let kept = sorted.slice(if self.spec.n > 0 { 0 } else { excess }, sorted.len() - excess);
        self.columns = joined.iter().map(|column| Ok(take(column, &kept, None)?)).collect::<Result<Vec<_>>>()?;
        Ok(())
    }
}

impl Accumulator for NthValue {
    /// `values`: the value, n, and the ordering columns.
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows: Vec<&dyn Array> = values.iter().take(1).chain(values.iter().skip(2)).map(AsRef::as_ref).collect();
        self.add(&rows)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (values, orderings) = match states {
            [values, orderings] => (values.as_list::<i32>(), orderings.as_list::<i32>()),
            _ => return Err(DataFusionError::Internal(format!("nth_value has 2 states, not {}", states.len()))),
        };
        for row in 0..values.len() {
            let (values, orderings) = (values.value(row), orderings.value(row));
            let rows: Vec<&dyn Array> = std::iter::once(values.as_ref())
                .chain(orderings.as_struct().columns().iter().map(AsRef::as_ref))
                .collect();
            self.add(&rows)?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let orderings: ArrayRef =
            Arc::new(StructArray::try_new(self.spec.orderings.clone(), self.columns[1..].to_vec(), None)?);
        let list = |column: &ArrayRef| -> Result<ScalarValue> {
            let item = Arc::new(Field::new_list_field(column.data_type().clone(), true));
            let offsets = OffsetBuffer::from_lengths([column.len()]);
            Ok(ScalarValue::List(Arc::new(ListArray::try_new(item, offsets, Arc::clone(column), None)?)))
        };
        Ok(vec![list(&self.columns[0])?, list(&orderings)?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let values = &self.columns[0];
        if values.len() < self.spec.kept() {
            return ScalarValue::try_from(&self.spec.value);
        }
        let place = if self.spec.n > 0 { values.len() - 1 } else { 0 };
        ScalarValue::try_from_array(values, place)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.columns.iter().map(|column| column.get_array_memory_size()).sum::<usize>()
    }
}
