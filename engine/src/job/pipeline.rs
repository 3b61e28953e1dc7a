//! A chain of operators, applied in turn.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;

use super::OpSpec;
use crate::batch::{StreamBatch, physical_schema};
use crate::counters::Counters;
use crate::error::EngineError;
use crate::operator::{
    AssignWindow, ByArrival, Conform, Filter, FilterUpdates, Operator, Output, Project, RankUpdates, Sample, State,
    Unnest,
};

/// Stateless operators behind each other. (Filters of running results remember which keys passed.)
pub(crate) struct Pipeline {
    operators: Vec<Box<dyn Operator>>,
    schema: SchemaRef,
}

impl Pipeline {
    /// `updates`: the rows are running results, whose key is the first `key` columns of the input.
    pub(crate) fn new(
        input: &SchemaRef,
        ops: &[OpSpec],
        updates: Option<&[usize]>,
        counters: &Arc<Counters>,
    ) -> Result<Self, EngineError> {
        let mut operators: Vec<Box<dyn Operator>> = Vec::new();
        let mut schema = input.clone();
        // Where running results have their key, as far as it is known.
        let mut key: Option<Vec<usize>> = updates.map(<[usize]>::to_vec);
        for op in ops {
            let operator: Box<dyn Operator> = match op {
                OpSpec::Filter(predicate) => filter(&schema, predicate, key.as_deref(), updates.is_some(), counters)?,
                OpSpec::Project { exprs, schema: output } => {
                    Box::new(Project::new(&schema, exprs, output, counters.clone())?)
                }
                OpSpec::AssignWindow { window, schema: output } => {
                    Box::new(AssignWindow::new(&schema, *window, output, counters.clone())?)
                }
                OpSpec::ByArrival => Box::new(ByArrival::new(&schema)),
                OpSpec::Sample(sample) => Box::new(Sample::new(&schema, sample, counters.clone())?),
                OpSpec::Unnest { outer, ordinality, schema: output } => {
                    Box::new(Unnest::new(&schema, (*outer, *ordinality), output, counters.clone())?)
                }
                OpSpec::RankUpdates { rank, key: names, schema: output } => {
                    let found = names.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
                    let operator = RankUpdates::new(&schema, rank, &found, output, counters.clone())?;
                    key = Some(found);
                    Box::new(operator)
                }
                OpSpec::Select(output) => Box::new(Select::new(&schema, output)?),
                OpSpec::Conform(output) => Box::new(Conform::new(output)),
                OpSpec::Rename(output) => Box::new(Rename { schema: physical_schema(output) }),
            };
            if !matches!(op, OpSpec::Filter(_) | OpSpec::RankUpdates { .. }) {
                key = None;
            }
            schema = operator.schema().clone();
            operators.push(operator);
        }
        Ok(Self { operators, schema })
    }

    /// The physical fields of what comes out.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Bytes that its operators remember.
    pub(crate) fn state_bytes(&self) -> usize {
        self.operators.iter().map(|operator| operator.state_bytes()).sum()
    }

    /// Puts what its operators remember, as far as appended rows depend on it, behind what a state holds.
    pub(crate) fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.operators.iter_mut().try_for_each(|operator| operator.save(state))
    }

    /// Takes it from the front of a state.
    pub(crate) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.operators.iter_mut().try_for_each(|operator| operator.restore(state))
    }

    /// Applies all operators to a batch.
    pub(crate) fn process(&mut self, batch: StreamBatch) -> Result<Vec<StreamBatch>, EngineError> {
        let mut batches = vec![batch];
        for operator in &mut self.operators {
            let mut output = Output::default();
            for batch in batches {
                operator.process(batch, &mut output)?;
            }
            batches = output.rows;
            batches.append(&mut output.updates);
        }
        Ok(batches)
    }
}

fn filter(
    input: &SchemaRef,
    predicate: &Expr,
    key: Option<&[usize]>,
    updates: bool,
    counters: &Arc<Counters>,
) -> Result<Box<dyn Operator>, EngineError> {
    match (updates, key) {
        (false, _) => Ok(Box::new(Filter::new(input, predicate, counters.clone())?)),
        (true, Some(key)) => Ok(Box::new(FilterUpdates::new(input, predicate, key.to_vec(), counters.clone())?)),
        (true, None) => Err(EngineError::Plan(
            "running results cannot be filtered behind a computed column; filter in HAVING".into(),
        )),
    }
}

/// Takes some columns. Input: any rows; output: the same rows with fewer columns, in the same order. Watermarks
/// pass. No state. No errors. Example: the two columns of ten that `SELECT title, device FROM plays` reads.
struct Select {
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl Select {
    fn new(input: &SchemaRef, output: &SchemaRef) -> Result<Self, EngineError> {
        let schema = physical_schema(output);
        let columns = schema.fields().iter().map(|field| input.index_of(field.name())).collect::<Result<_, _>>()?;
        Ok(Self { columns, schema })
    }
}

impl Operator for Select {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        output.rows.push(batch.with_rows(batch.rows.project(&self.columns)?));
        Ok(())
    }
}

/// Gives columns other names. Input: any rows; output: the same rows under the new schema, in the same order.
/// Watermarks pass. No state. No errors. Example: the second `SELECT` of a `UNION ALL`.
struct Rename {
    schema: SchemaRef,
}

impl Operator for Rename {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let rows = RecordBatch::try_new(self.schema.clone(), batch.rows.columns().to_vec())?;
        output.rows.push(batch.with_rows(rows));
        Ok(())
    }
}
