//! What operators over windows that rows make do with a batch first: compute, and put its rows in line.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::aggregate_call::ARRIVAL;
use super::align::Align;
use super::expression::{Expressions, filter_columns};
use super::state::{State, check_count};
use crate::batch::StreamBatch;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Numbers rows in the order of their arrival in each partition, where aggregates need it. Numbers do not depend on how
/// partitions interleave.
pub(super) struct Numbering {
    needed: bool,
    /// Rows so far, of each partition.
    arrivals: Vec<i64>,
}

impl Numbering {
    /// No rows yet.
    pub(super) fn new(needed: bool, partitions: u32) -> Self {
        Self { needed, arrivals: vec![0; partitions as usize] }
    }

    /// Puts how many rows there were behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn save(&self, state: &mut State) -> Result<(), EngineError> {
        state.put(&self.arrivals)
    }

    /// Takes it from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        let arrivals: Vec<i64> = state.take()?;
        check_count("partitions", arrivals.len(), self.arrivals.len())?;
        self.arrivals = arrivals;
        Ok(())
    }

    /// The physical fields, with the number behind when it is needed.
    pub(super) fn schema(&self, input: &SchemaRef) -> SchemaRef {
        if !self.needed {
            return Arc::clone(input);
        }
        let mut fields: Vec<_> = input.fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(ARRIVAL, DataType::Int64, false)));
        Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()))
    }

    /// Evaluates `exprs` on a batch's rows and puts what they give, with the event times behind, in line. Rows on which
    /// one fails are set aside. `whole`: behind the event times come the rows' visible columns, and their partition.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when there is no such partition.
    pub(super) fn line_up(
        &mut self,
        batch: &StreamBatch,
        exprs: &Expressions,
        counters: &Counters,
        align: &mut Align,
        whole: bool,
    ) -> Result<(), EngineError> {
        let rows = self.number(batch)?;
        let mut evaluated = exprs.evaluate(&rows, batch.arrival)?;
        let visible = batch.rows.num_columns() - 2;
        let mut hidden = vec![Arc::clone(rows.column(visible))];
        if whole {
            hidden.extend(rows.columns()[..visible].iter().cloned());
            hidden.push(Arc::new(UInt32Array::from_value(batch.partition, rows.num_rows())));
        }
        hidden.push(Arc::clone(rows.column(visible + 1)));
        if let Some(left) = evaluated.survivors(rows.num_rows()) {
            add(&counters.failed, evaluated.failures.len());
            evaluated.sample(&rows, counters);
            hidden = filter_columns(&hidden, &left)?;
        }
        let mut columns = std::mem::take(&mut evaluated.columns);
        let watermarks = hidden.pop().expect("the watermarks are the last");
        columns.extend(hidden);
        align.push(batch.partition, columns, watermarks, batch.watermark.0, batch.idle)
    }

    fn number(&mut self, batch: &StreamBatch) -> Result<RecordBatch, EngineError> {
        if !self.needed {
            return Ok(batch.rows.clone());
        }
        let partitions = i64::try_from(self.arrivals.len()).expect("a few partitions");
        let own = i64::from(batch.partition);
        let next = self.arrivals.get_mut(batch.partition as usize);
        let next = next.ok_or_else(|| EngineError::Plan(format!("partition {own} where there are {partitions}")))?;
        let count = i64::try_from(batch.rows.num_rows()).expect("a batch has fewer rows than 2^63");
        let numbers = (*next..*next + count).map(|number| number.saturating_mul(partitions).saturating_add(own));
        let numbers = Int64Array::from_iter_values(numbers);
        *next += count;
        let mut columns = batch.rows.columns().to_vec();
        columns.push(Arc::new(numbers));
        Ok(RecordBatch::try_new(self.schema(&batch.rows.schema()), columns)?)
    }
}
