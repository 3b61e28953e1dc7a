//! A row for each element of a list.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;

use super::expression::text;
use super::{Operator, Output};
use crate::batch::{StreamBatch, physical_schema};
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Elements of one list. Each makes a row of its own: more would multiply a batch beyond memory.
const MAX_ELEMENTS: usize = 10_000;

/// Gives out each row once for each element of its list.
///
/// - Schema: the input's columns but the last, which is the list; the element, its number from 1 if that is asked
///   for; the hidden columns as they were. Rows keep order and event times, elements are in the order of the list.
///   Offsets stay the input's: there may be more rows than offsets.
/// - Watermark: passed on as it is.
/// - State: none.
/// - Errors: a row with more than 10,000 elements is set aside and counted `failed`. A row whose list is empty or null
///   is counted `filtered`, or comes once with a null where the rows without elements are wanted. Each element of a
///   row beyond the first is counted as a row in, so that the ledger stays whole.
/// - Example: `(1, [a, b]), (2, [])` gives `(1, a), (1, b)`.
pub struct Unnest {
    schema: SchemaRef,
    outer: bool,
    ordinality: bool,
    counters: Arc<Counters>,
}

/// The rows that come out: where each comes from.
#[derive(Default)]
struct Picked {
    rows: Vec<u32>,
    elements: Vec<Option<u32>>,
    numbers: Vec<Option<i64>>,
}

impl Unnest {
    /// An operator from physical batches of schema `input` to the visible columns `output`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when the columns do not fit.
    pub fn new(
        input: &SchemaRef,
        (outer, ordinality): (bool, bool),
        output: &SchemaRef,
        counters: Arc<Counters>,
    ) -> Result<Self, EngineError> {
        if output.fields().len() + 2 != input.fields().len() + usize::from(ordinality) {
            return Err(EngineError::Plan("an element takes the place of its list".into()));
        }
        Ok(Self { schema: physical_schema(output), outer, ordinality, counters })
    }

    fn pick(&self, batch: &RecordBatch, list: &dyn Array) -> Picked {
        let list = list.as_list::<i32>();
        let offsets = list.value_offsets();
        let mut picked = Picked::default();
        let (mut failed, mut empty) = (0, 0);
        for (row, at) in (0u32..).zip(0..list.len()) {
            let range = if list.is_null(at) { 0..0 } else { offsets[at]..offsets[at + 1] };
            if range.len() > MAX_ELEMENTS {
                failed += 1;
                let reason = format!("its list has {} elements; {MAX_ELEMENTS} are the most", range.len());
                self.counters.sample(&reason, &text(batch, at));
            } else if range.is_empty() && self.outer {
                picked.rows.push(row);
                picked.elements.push(None);
                picked.numbers.push(None);
            } else if range.is_empty() {
                empty += 1;
            } else {
                picked.rows.resize(picked.rows.len() + range.len(), row);
                picked.elements.extend(range.clone().map(|element| Some(element.unsigned_abs())));
                picked.numbers.extend((1i64..).take(range.len()).map(Some));
            }
        }
        add(&self.counters.failed, failed);
        add(&self.counters.filtered, empty);
        add(&self.counters.rows_in, picked.rows.len() + failed + empty - list.len());
        picked
    }
}

impl Operator for Unnest {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let mut columns = batch.rows.columns().to_vec();
        let hidden = columns.split_off(columns.len() - 2);
        let Some(list) = columns.pop() else { return Err(EngineError::Plan("there is no list".into())) };
        let picked = self.pick(&batch.rows, list.as_ref());
        let rows = UInt32Array::from(picked.rows);
        let taken = |column: &ArrayRef| take(column, &rows, None);
        let mut out: Vec<ArrayRef> = columns.iter().map(taken).collect::<Result<_, _>>()?;
        out.push(take(list.as_list::<i32>().values(), &UInt32Array::from(picked.elements), None)?);
        if self.ordinality {
            out.push(Arc::new(Int64Array::from(picked.numbers)));
        }
        for column in &hidden {
            out.push(taken(column)?);
        }
        output.rows.push(batch.with_rows(RecordBatch::try_new(Arc::clone(&self.schema), out)?));
        Ok(())
    }
}
