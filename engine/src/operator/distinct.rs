//! Aggregates over the distinct values of each group, with one table of values for all groups.
//!
//! A table or an accumulator object a group costs hundreds of bytes before it holds anything. Here the pairs of group
//! and value are themselves the keys of one [`GroupValues`], which stores them as columns; a pair that was not there
//! is handed on, once, to the aggregate without DISTINCT. The state of a group is the list of its values, so that
//! groups merge whatever the aggregate is.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, UInt32Array, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{concat, filter, take};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, UInt32Type};
use datafusion_common::{Result, internal_err, resources_err};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use datafusion_physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion_physical_plan::aggregates::order::GroupOrdering;

/// The aggregate of an [`AggregateFunctionExpr`] that was made without DISTINCT, over distinct values.
pub(super) struct Distinct {
    inner: Box<dyn GroupsAccumulator>,
    value: DataType,
    /// Pairs of group and value, in the order in which they came.
    pairs: Box<dyn GroupValues>,
    /// Groups that `inner` knows of.
    groups: usize,
    ids: Vec<usize>,
}

impl Distinct {
    /// Without groups. `function` takes one argument, of type `value`, ignores nulls and has an accumulator for all
    /// groups.
    ///
    /// # Errors
    /// DataFusion's, when values of that type cannot be told apart.
    pub(super) fn new(function: &AggregateFunctionExpr, value: &DataType) -> Result<Self> {
        let fields = vec![Field::new("group", DataType::UInt32, false), Field::new("value", value.clone(), false)];
        let pairs = new_group_values(Arc::new(Schema::new(fields)), &GroupOrdering::None)?;
        let inner = super::accumulators::of(function)?;
        Ok(Self { inner, value: value.clone(), pairs, groups: 0, ids: Vec::new() })
    }

    /// Takes in values that are not null and the groups that they are in.
    fn add(&mut self, values: &ArrayRef, groups: Vec<u32>, total: usize) -> Result<()> {
        let values = one_zero(values);
        let mut known = self.pairs.len();
        self.ids.clear();
        self.pairs.intern(&[Arc::new(UInt32Array::from(groups.clone())), Arc::clone(&values)], &mut self.ids)?;
        let mut fresh = Vec::new();
        for (row, id) in (0u32..).zip(&self.ids) {
            if *id >= known {
                known = *id + 1;
                fresh.push(row);
            }
        }
        let mut groups: Vec<usize> = fresh.iter().map(|row| groups[*row as usize] as usize).collect();
        let mut values = take(&values, &UInt32Array::from(fresh), None)?;
        // Accumulators trust that every group that they are told of has had a row.
        let mut seen = vec![false; total - self.groups];
        groups.iter().filter_map(|group| group.checked_sub(self.groups)).for_each(|at| seen[at] = true);
        let unseen: Vec<usize> = (self.groups..total).zip(seen).filter(|(_, seen)| !seen).map(|(at, _)| at).collect();
        if !unseen.is_empty() {
            values = concat(&[values.as_ref(), new_null_array(&self.value, unseen.len()).as_ref()])?;
            groups.extend(unseen);
        }
        self.groups = total;
        if groups.is_empty() {
            return Ok(());
        }
        self.inner.update_batch(&[values], &groups, None, total)
    }
}

impl GroupsAccumulator for Distinct {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        passes: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        let all = &values[0];
        let valid = all.logical_nulls().map(|nulls| BooleanArray::new(nulls.into_inner(), None));
        let keep = match (passes, valid) {
            (None, None) => {
                return self.add(all, groups.iter().map(|group| number(*group)).collect::<Result<_>>()?, total);
            }
            (Some(passes), None) => passes.clone(),
            (None, Some(valid)) => valid,
            (Some(passes), Some(valid)) => arrow::compute::and(passes, &valid)?,
        };
        let kept = keep.values().set_indices().map(|row| number(groups[row])).collect::<Result<_>>()?;
        self.add(&filter(all, &keep)?, kept, total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.inner.evaluate(emit_to)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        if !matches!(emit_to, EmitTo::All) {
            return internal_err!("distinct values are told of all groups at once");
        }
        let mut offsets = vec![0i32; self.groups + 1];
        let item = Arc::new(Field::new_list_field(self.value.clone(), true));
        if self.pairs.is_empty() {
            let empty = arrow::array::new_empty_array(&self.value);
            return Ok(vec![Arc::new(ListArray::try_new(item, offsets_of(offsets), empty, None)?)]);
        }
        let columns = self.pairs.emit(EmitTo::All)?;
        if i32::try_from(columns[0].len()).is_err() {
            return resources_err!("a pane has more than 2^31 distinct values");
        }
        let groups = columns[0].as_primitive::<UInt32Type>().values();
        // A counting sort: where each group's values start, then each value to its place.
        for group in groups {
            offsets[*group as usize + 1] += 1;
        }
        for at in 1..offsets.len() {
            offsets[at] += offsets[at - 1];
        }
        let mut next = offsets.clone();
        let mut order = vec![0u32; groups.len()];
        for (row, group) in (0u32..).zip(groups) {
            let place = &mut next[*group as usize];
            order[*place as usize] = row;
            *place += 1;
        }
        let values = take(&columns[1], &UInt32Array::from(order), None)?;
        Ok(vec![Arc::new(ListArray::try_new(item, offsets_of(offsets), values, None)?)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        let offsets = lists.value_offsets();
        let (first, last) = (offsets[0] as usize, offsets[lists.len()] as usize);
        let mut of_values = Vec::with_capacity(last - first);
        for (group, bounds) in groups.iter().zip(offsets.windows(2)) {
            let values = (bounds[1] - bounds[0]) as usize;
            of_values.resize(of_values.len() + values, number(*group)?);
        }
        self.add(&lists.values().slice(first, last - first), of_values, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], passes: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let item = Arc::new(Field::new_list_field(self.value.clone(), true));
        let valid = values[0].logical_nulls();
        let left = |row: usize| {
            let passed = passes.is_none_or(|passes| passes.is_valid(row) && passes.value(row));
            passed && valid.as_ref().is_none_or(|valid| valid.is_valid(row))
        };
        let kept: NullBuffer = (0..rows).map(left).collect();
        let lists =
            ListArray::try_new(item, OffsetBuffer::from_repeated_length(1, rows), Arc::clone(&values[0]), Some(kept))?;
        Ok(vec![take(&lists, &UInt32Array::from_iter_values((0u32..).take(rows)), None)?])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.pairs.size() + self.inner.size() + self.ids.capacity() * size_of::<usize>()
    }
}

fn number(group: usize) -> Result<u32> {
    match u32::try_from(group) {
        Ok(group) => Ok(group),
        Err(_) => resources_err!("a pane has more than 2^32 groups"),
    }
}

fn offsets_of(offsets: Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

/// Zero is one value whatever its sign, and so is NaN.
fn one_zero(values: &ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Float64 => {
            let one = |x: f64| if x.is_nan() { f64::NAN } else { x + 0.0 };
            Arc::new(values.as_primitive::<Float64Type>().unary::<_, Float64Type>(one))
        }
        DataType::Float32 => {
            let one = |x: f32| if x.is_nan() { f32::NAN } else { x + 0.0 };
            Arc::new(values.as_primitive::<Float32Type>().unary::<_, Float32Type>(one))
        }
        _ => Arc::clone(values),
    }
}
