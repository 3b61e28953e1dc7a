//! The contract of operators, asserted: for tests.

use arrow::array::AsArray;
use arrow::datatypes::{SchemaRef, TimestampNanosecondType};

use super::{Operator, Output};
use crate::batch::{RowKind, StreamBatch};
use crate::error::EngineError;

/// Runs an operator and panics where it breaks the contract: schema kept, watermarks and offsets ascending, rows
/// not behind the watermark that goes with them, nothing after the end.
pub(crate) struct Checked<O> {
    operator: O,
    rows: Vec<Seen>,
    updates: Vec<Seen>,
    ended: Vec<bool>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    watermark: i64,
    next: u64,
}

impl<O: Operator> Checked<O> {
    /// `operator`, whose input has `partitions` partitions.
    pub(crate) fn new(operator: O, partitions: usize) -> Self {
        let none = Seen { watermark: i64::MIN, next: 0 };
        let rows = vec![none; partitions.max(1)];
        Self { operator, updates: rows.clone(), rows, ended: vec![false; partitions] }
    }

    /// The operator itself.
    pub(crate) fn operator(&mut self) -> &mut O {
        &mut self.operator
    }

    fn check(&mut self, output: &Output) {
        let schema = self.operator.schema();
        for batch in &output.rows {
            assert_eq!(batch.kind, RowKind::Append, "rows are appended");
            check_batch(schema, batch, &mut self.rows);
        }
        for batch in &output.updates {
            assert_ne!(batch.kind, RowKind::Append, "updates replace");
            check_batch(schema, batch, &mut self.updates);
        }
    }

    /// Runs one step with an output of its own, so that only what the step adds is checked.
    fn step(
        &mut self,
        output: &mut Output,
        run: impl FnOnce(&mut O, &mut Output) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut own = Output::default();
        run(&mut self.operator, &mut own)?;
        self.check(&own);
        output.rows.append(&mut own.rows);
        output.updates.append(&mut own.updates);
        Ok(())
    }
}

fn check_batch(schema: &SchemaRef, batch: &StreamBatch, seen: &mut [Seen]) {
    assert_eq!(&batch.rows.schema(), schema, "the schema is kept");
    let before = &mut seen[batch.partition as usize];
    assert!(batch.watermark.0 >= before.watermark, "the watermark went back from {before:?} to {batch:?}");
    assert!(batch.first.0 >= before.next, "offsets went back from {before:?} to {batch:?}");
    assert!(batch.next.0 >= batch.first.0, "offsets of {batch:?} do not ascend");
    let count = batch.rows.num_columns();
    for hidden in [count - 2, count - 1] {
        let column = batch.rows.column(hidden).as_primitive::<TimestampNanosecondType>();
        assert_eq!(column.values().len() - arrow::array::Array::null_count(column), batch.rows.num_rows());
    }
    assert!(batch.watermarks().iter().all(|watermark| *watermark <= batch.watermark.0), "a row is ahead of {batch:?}");
    *before = Seen { watermark: batch.watermark.0, next: batch.next.0 };
}

impl<O: Operator> Operator for Checked<O> {
    fn schema(&self) -> &SchemaRef {
        self.operator.schema()
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        assert!(!self.ended[batch.partition as usize], "a batch after the end of its partition");
        self.step(output, |operator, output| operator.process(batch, output))
    }

    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        assert!(!std::mem::replace(&mut self.ended[partition as usize], true), "a partition ended twice");
        self.step(output, |operator, output| operator.end_partition(partition, output))
    }

    fn tick(&mut self, output: &mut Output) -> Result<(), EngineError> {
        self.step(output, Operator::tick)
    }

    fn snapshot(&mut self) -> Result<Vec<StreamBatch>, EngineError> {
        let batches = self.operator.snapshot()?;
        let mut seen = self.updates.clone();
        batches.iter().for_each(|batch| check_batch(self.operator.schema(), batch, &mut seen));
        Ok(batches)
    }

    fn state_bytes(&self) -> usize {
        self.operator.state_bytes()
    }
}
