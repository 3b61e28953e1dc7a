//! Groups and their accumulators: the one place that knows DataFusion's low-level aggregation.
//!
//! [`Groups`] is the state of one pane. *Sealing* it gives a [`Sealed`]: the groups' keys and the accumulators'
//! states as columns, which merge into other groups. Sealing, evaluating and merging all cost the number of groups.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array, new_null_array};
use arrow::compute::{prep_null_mask_filter, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::DataFusionError;
use datafusion_expr::{EmitTo, Expr, GroupsAccumulator};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use datafusion_physical_expr::{GroupsAccumulatorAdapter, PhysicalExpr};
use datafusion_physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion_physical_plan::aggregates::order::GroupOrdering;
use squilla_query::{AggregateCall, NamedExpr};

use super::accumulators;
use super::aggregate_call::{self, Call};
use super::distinct::Distinct;
use super::expression::{Expressions, Planner, filter_columns};
use super::nth_value::NthValue;
use super::numbered_keys::NumberedKeys;
use super::spares::Spares;
use super::state::{State, check_kinds};
use crate::error::EngineError;

/// Name of the key that numbers windows that rows make.
const MADE: &str = "__made";
/// Groups up to which columns are fitted to what they hold: they come in buffers of kilobytes, and may be kept.
const FEW_GROUPS: usize = 1_024;

/// How a query groups: which columns are computed of each row, and what becomes of them.
pub(super) struct Grouping {
    key_schema: SchemaRef,
    calls: Vec<Call>,
    /// Tables for groups from rows, and for those from others' states, which are often several times as many.
    spares: Arc<[Spares; 2]>,
}

/// The groups seen so far and what their aggregates have gathered.
pub(super) struct Groups {
    /// `None`: there are no keys, and all rows are of group 0.
    values: Option<NumberedKeys>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    len: usize,
    /// Where the table of keys is left when it is empty, and in which of both.
    spares: (Arc<[Spares; 2]>, usize),
}

/// Groups as columns: their keys, and the states of their aggregates one after the other.
#[derive(Clone)]
pub(super) struct Sealed {
    pub(super) keys: Vec<ArrayRef>,
    pub(super) states: Vec<ArrayRef>,
    pub(super) len: usize,
    /// They are those of one of so many shards, and no group of another shard is among them; `None`: nothing is known.
    pub(super) shard: Option<(usize, usize)>,
}

/// The results of groups: their keys, then their aggregates.
#[derive(Clone)]
pub(super) struct Results {
    pub(super) columns: Vec<ArrayRef>,
    pub(super) len: usize,
}

impl Grouping {
    /// How to group rows of `input` by `keys`; and the expressions whose columns, in order, [`Groups::update`] takes.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when a key or an aggregate cannot be computed.
    pub(super) fn new(
        input: &SchemaRef,
        keys: &[NamedExpr],
        aggregates: &[AggregateCall],
    ) -> Result<(Self, Expressions), EngineError> {
        let planner = Planner::new(input)?;
        let mut exprs: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        for key in keys {
            exprs.push(planner.expr(&key.expr)?);
        }
        let calls: Vec<Call> =
            aggregates.iter().map(|call| aggregate_call::plan(&planner, call, &mut exprs)).collect::<Result<_, _>>()?;
        let exprs = Expressions::new(exprs, &planner)?;
        let fields: Vec<Field> =
            keys.iter().zip(exprs.types()).map(|(key, kind)| Field::new(&key.name, kind.clone(), true)).collect();
        Ok((Self { key_schema: Arc::new(Schema::new(fields)), calls, spares: Arc::default() }, exprs))
    }

    /// How to group rows of `input` by windows that rows make, numbered in type `number`, and in them by `keys`; and expressions whose
    /// columns, those of `outer` first, [`Grouping::columns_within`] takes.
    ///
    /// # Errors
    /// As [`Grouping::new`].
    pub(super) fn within(
        input: &SchemaRef,
        number: DataType,
        outer: &[&Expr],
        keys: &[NamedExpr],
        aggregates: &[AggregateCall],
    ) -> Result<(Self, Expressions), EngineError> {
        let planner = Planner::new(input)?;
        let own = keys.iter().map(|key| &key.expr);
        let mut exprs = outer.iter().copied().chain(own).map(|e| planner.expr(e)).collect::<Result<Vec<_>, _>>()?;
        let mut calls: Vec<Call> =
            aggregates.iter().map(|call| aggregate_call::plan(&planner, call, &mut exprs)).collect::<Result<_, _>>()?;
        let before = 1 + keys.len();
        for call in &mut calls {
            call.arguments.iter_mut().chain(&mut call.filter).for_each(|idx| *idx += before);
        }
        let exprs = Expressions::new(exprs, &planner)?;
        let mut fields = vec![Field::new(MADE, number, false)];
        let types = exprs.types().iter().skip(outer.len());
        fields.extend(keys.iter().zip(types).map(|(key, kind)| Field::new(&key.name, kind.clone(), true)));
        Ok((Self { key_schema: Arc::new(Schema::new(fields)), calls, spares: Arc::default() }, exprs))
    }

    /// The columns that [`Groups::update`] takes: the window of each row, the keys, and all that was evaluated, of which
    /// the first `outer` are no keys.
    pub(super) fn columns_within(&self, windows: ArrayRef, evaluated: &[ArrayRef], outer: usize) -> Vec<ArrayRef> {
        let mut columns = vec![windows];
        columns.extend_from_slice(&evaluated[outer..outer + self.keys() - 1]);
        columns.extend_from_slice(evaluated);
        columns
    }

    /// How many of the columns are keys: the first.
    pub(super) fn keys(&self) -> usize {
        self.key_schema.fields().len()
    }

    /// True when an aggregate's arguments hold the order in which rows arrived.
    pub(super) fn needs_arrival(aggregates: &[AggregateCall]) -> bool {
        aggregates.iter().any(|call| aggregate_call::is_positional(&call.expr))
    }

    /// Numbers keys; `None` when there are none.
    ///
    /// # Errors
    /// As [`Groups::update`].
    pub(super) fn index(&self) -> Result<Option<Box<dyn GroupValues>>, EngineError> {
        match self.keys() {
            0 => Ok(None),
            _ => new_group_values(Arc::clone(&self.key_schema), &GroupOrdering::None).map(Some).map_err(failed),
        }
    }

    /// Groups without rows.
    ///
    /// # Errors
    /// As [`Groups::update`].
    pub(super) fn groups(&self) -> Result<Groups, EngineError> {
        self.groups_from(0)
    }

    fn groups_from(&self, spares: usize) -> Result<Groups, EngineError> {
        let fresh = || NumberedKeys::new(&self.key_schema);
        let values = (self.keys() > 0).then(|| self.spares[spares].take().map_or_else(fresh, Ok)).transpose()?;
        Ok(Groups { values, accumulators: self.accumulators()?, len: 0, spares: (Arc::clone(&self.spares), spares) })
    }

    /// Keeps tables of groups that were told for others, which are counted in [`Grouping::spare_bytes`].
    pub(super) fn keep_spares(&self) {
        self.spares.iter().for_each(|spares| spares.keep(true));
    }

    /// Forgets such tables.
    pub(super) fn clear_spares(&self) {
        self.spares.iter().for_each(Spares::clear);
    }

    /// Bytes that such tables hold.
    pub(super) fn spare_bytes(&self) -> usize {
        self.spares.iter().map(Spares::bytes).sum()
    }

    fn accumulators(&self) -> Result<Vec<Box<dyn GroupsAccumulator>>, EngineError> {
        self.calls.iter().map(|call| accumulator(call).map_err(failed)).collect()
    }

    /// The groups of several sealed ones together.
    ///
    /// # Errors
    /// As [`Groups::update`].
    pub(super) fn merge<'a>(
        &self,
        parts: impl IntoIterator<Item = &'a Sealed>,
        ids: &mut Vec<usize>,
    ) -> Result<Groups, EngineError> {
        let mut groups = self.groups_from(1)?;
        for part in parts {
            groups.merge(self, part, ids)?;
        }
        Ok(groups)
    }

    /// Takes groups from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when other keys, or states of other aggregates, come next.
    pub(super) fn take_sealed(&self, state: &mut State) -> Result<Sealed, EngineError> {
        let rows = state.take_rows()?;
        if rows.num_rows() == 0 {
            return Ok(Sealed::none());
        }
        let keys = self.key_schema.fields().iter().map(|field| field.data_type());
        let kinds: Vec<DataType> = keys.chain(self.calls.iter().flat_map(|call| &call.states)).cloned().collect();
        check_kinds(rows.columns(), &kinds)?;
        let (keys, states) = rows.columns().split_at(self.keys());
        Ok(Sealed { keys: keys.to_vec(), states: states.to_vec(), len: rows.num_rows(), shard: None })
    }

    /// The keys of all groups in `parts`, each once, and how many there are.
    ///
    /// # Errors
    /// As [`Groups::update`].
    pub(super) fn keys_of(
        &self,
        parts: &[Sealed],
        ids: &mut Vec<usize>,
    ) -> Result<(Vec<ArrayRef>, usize), EngineError> {
        if let [only] = parts {
            return Ok((only.keys.clone(), only.len));
        }
        let mut groups = self.groups()?;
        for part in parts {
            groups.intern(&part.keys, part.len, ids)?;
        }
        Ok((groups.keys()?, groups.len))
    }
}

impl Groups {
    /// Groups so far.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes in `rows` rows. `columns` are those of the grouping's expressions, `ids` is scratch space.
    ///
    /// # Errors
    /// [`EngineError::Aggregate`] when an aggregate cannot go on.
    pub(super) fn update(
        &mut self,
        grouping: &Grouping,
        columns: &[ArrayRef],
        rows: usize,
        ids: &mut Vec<usize>,
    ) -> Result<(), EngineError> {
        self.intern(&columns[..grouping.keys()], rows, ids)?;
        for (accumulator, call) in self.accumulators.iter_mut().zip(&grouping.calls) {
            let arguments: Vec<ArrayRef> = call.arguments.iter().map(|idx| Arc::clone(&columns[*idx])).collect();
            let passes = call.filter.map(|idx| without_nulls(columns[idx].as_boolean()));
            accumulator.update_batch(&arguments, ids, passes.as_ref(), self.len).map_err(failed)?;
        }
        Ok(())
    }

    /// Makes the only group of a grouping without keys, to which no row has come: its count is 0, its sum is null.
    /// `types` are those of the grouping's expressions.
    ///
    /// # Errors
    /// As [`Groups::update`].
    pub(super) fn begin(&mut self, grouping: &Grouping, types: &[DataType]) -> Result<(), EngineError> {
        self.len = self.len.max(1);
        // Accumulators rely on every group's having had a row: this one is filtered out by all of them.
        let nothing = BooleanArray::from(vec![false]);
        for (accumulator, call) in self.accumulators.iter_mut().zip(&grouping.calls) {
            let arguments: Vec<ArrayRef> = call.arguments.iter().map(|idx| new_null_array(&types[*idx], 1)).collect();
            accumulator.update_batch(&arguments, &[0], Some(&nothing), self.len).map_err(failed)?;
        }
        Ok(())
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize, ids: &mut Vec<usize>) -> Result<(), EngineError> {
        match &mut self.values {
            Some(values) => {
                values.intern(keys, ids)?;
                self.len = values.len();
            }
            None => {
                ids.clear();
                ids.resize(rows, 0);
                self.len = self.len.max(rows.min(1));
            }
        }
        Ok(())
    }

    fn merge(&mut self, grouping: &Grouping, part: &Sealed, ids: &mut Vec<usize>) -> Result<(), EngineError> {
        if part.len == 0 {
            return Ok(());
        }
        // Accumulators rely on it: each group that is counted has had a row by now.
        self.intern(&part.keys, part.len, ids)?;
        self.take_states(grouping, part, ids)
    }

    fn take_states(&mut self, grouping: &Grouping, part: &Sealed, ids: &[usize]) -> Result<(), EngineError> {
        let mut states = part.states.as_slice();
        for (accumulator, call) in self.accumulators.iter_mut().zip(&grouping.calls) {
            let (own, others) = states.split_at(call.states.len());
            accumulator.merge_batch(own, ids, self.len).map_err(failed)?;
            states = others;
        }
        Ok(())
    }

    /// The groups as columns, while these groups keep their numbers: they are to be given their states again, by
    /// [`Groups::refill`], before anything else.
    ///
    /// # Errors
    /// As [`Groups::update`].
    pub(super) fn pour_out(&mut self) -> Result<Sealed, EngineError> {
        let keys = match &mut self.values {
            Some(values) if self.len > 0 => values.copy()?,
            _ => Vec::new(),
        };
        Ok(Sealed { keys, states: self.states()?, len: self.len, shard: None })
    }

    /// Takes back what was poured out.
    ///
    /// # Errors
    /// As [`Groups::update`].
    pub(super) fn refill(
        &mut self,
        grouping: &Grouping,
        poured: &Sealed,
        ids: &mut Vec<usize>,
    ) -> Result<(), EngineError> {
        // Those that have given their states away are not all fit for others.
        self.accumulators = grouping.accumulators()?;
        ids.clear();
        ids.extend(0..poured.len);
        self.take_states(grouping, poured, ids)
    }

    /// The groups as columns.
    ///
    /// # Errors
    /// As [`Groups::update`].
    pub(super) fn seal(mut self) -> Result<Sealed, EngineError> {
        let mut keys = self.keys()?;
        fit(&mut keys, self.len);
        Ok(Sealed { keys, states: self.states()?, len: self.len, shard: None })
    }

    fn states(&mut self) -> Result<Vec<ArrayRef>, EngineError> {
        let mut states = Vec::new();
        for accumulator in &mut self.accumulators {
            states.extend(accumulator.state(EmitTo::All).map_err(failed)?);
        }
        fit(&mut states, self.len);
        Ok(states)
    }

    /// The results of all groups.
    ///
    /// # Errors
    /// As [`Groups::update`].
    pub(super) fn results(mut self) -> Result<Results, EngineError> {
        let mut columns = self.keys()?;
        for accumulator in &mut self.accumulators {
            columns.push(accumulator.evaluate(EmitTo::All).map_err(failed)?);
        }
        fit(&mut columns, self.len);
        Ok(Results { columns, len: self.len })
    }

    /// Takes the keys out, as the last thing that is done with their table.
    fn keys(&mut self) -> Result<Vec<ArrayRef>, EngineError> {
        let Some(mut values) = self.values.take().filter(|_| self.len > 0) else { return Ok(Vec::new()) };
        let keys = values.take()?;
        let (spares, which) = &self.spares;
        spares[*which].give(values, self.len);
        Ok(keys)
    }

    /// Bytes held. Some accumulators walk over their groups to tell.
    pub(super) fn bytes(&self) -> usize {
        self.values.as_ref().map_or(0, NumberedKeys::bytes)
            + self.accumulators.iter().map(|accumulator| accumulator.size()).sum::<usize>()
    }
}

impl Sealed {
    /// No groups.
    pub(super) fn none() -> Self {
        Self { keys: Vec::new(), states: Vec::new(), len: 0, shard: None }
    }

    /// Puts the groups behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn save(&self, state: &mut State) -> Result<(), EngineError> {
        let columns = if self.len == 0 { Vec::new() } else { self.keys.iter().chain(&self.states).cloned().collect() };
        state.put_columns(columns, self.len)
    }

    pub(super) fn filter(&self, keep: &BooleanArray) -> Result<Self, EngineError> {
        let keys = filter_columns(&self.keys, keep)?;
        Ok(Self { keys, states: filter_columns(&self.states, keep)?, len: keep.true_count(), shard: None })
    }

    /// Some of the groups, in the order given.
    pub(super) fn pick(&self, rows: &UInt32Array) -> Result<Self, EngineError> {
        let pick = |columns: &[ArrayRef]| -> Result<Vec<ArrayRef>, EngineError> {
            Ok(columns.iter().map(|column| take(column, rows, None)).collect::<Result<_, _>>()?)
        };
        Ok(Self { keys: pick(&self.keys)?, states: pick(&self.states)?, len: rows.len(), shard: None })
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.keys.iter().map(|column| column.get_array_memory_size()).sum::<usize>() + self.state_bytes()
    }

    /// Bytes of the states.
    pub(super) fn state_bytes(&self) -> usize {
        self.states.iter().map(|column| column.get_array_memory_size()).sum()
    }
}

/// DataFusion's aggregates do not all look at the validity of a filter.
fn without_nulls(passes: &BooleanArray) -> BooleanArray {
    if passes.null_count() > 0 { prep_null_mask_filter(passes) } else { passes.clone() }
}

fn accumulator(call: &Call) -> Result<Box<dyn GroupsAccumulator>, DataFusionError> {
    if let Some(nth) = &call.nth_value {
        let nth = nth.clone();
        return Ok(Box::new(GroupsAccumulatorAdapter::new(move || Ok(Box::new(NthValue::new(nth.clone()))))));
    }
    if let Some((function, value)) = &call.distinct {
        return Ok(Box::new(Distinct::new(function, value)?));
    }
    let function: &Arc<AggregateFunctionExpr> = &call.function;
    if call.is_grouped() {
        return accumulators::of(function);
    }
    let function = Arc::clone(function);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
}

/// Gives back what the buffers of a few groups' columns have beyond these.
fn fit(columns: &mut [ArrayRef], len: usize) {
    if len <= FEW_GROUPS {
        columns.iter_mut().for_each(|column| column.shrink_to_fit());
    }
}

fn failed(error: DataFusionError) -> EngineError {
    EngineError::Aggregate(error.strip_backtrace())
}
