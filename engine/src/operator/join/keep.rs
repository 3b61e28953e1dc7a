//! What a live table holds, for those who look up in it later.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
use arrow::datatypes::{DataType, SchemaRef};

use super::super::{Operator, Output, State};
use super::lookup::check_table;
use super::table::Table;
use crate::batch::{Memo, RowKind, StreamBatch};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;
use crate::stream::Offset;

/// Rows of a batch of a snapshot.
const SNAPSHOT_ROWS: usize = 8192;

/// Keeps the latest row of each key of a table and hands all rows on: who looks up in it is given what it holds, and then
/// what comes.
///
/// - Schema: in equals out; rows keep their order and event times. The output is one partition, in order of arrival.
/// - Watermark: none. A table says nothing of what is still to come.
/// - State: the latest row of each key: columns with a hash index; bounded by the budget, beyond which the table fails
///   with [`EngineError::TableBudget`]. A row under a null is handed on and not kept.
/// - Errors: none of a row's.
/// - Example: after titles 1, 2 and again 1 a snapshot has the second row of 1, and that of 2.
///
/// The table of the duality of streams and tables: section 3 of Sax et al., "Streams and tables: two sides of the same
/// coin" (BIRTE 2018).
pub struct KeepLatest {
    name: String,
    schema: SchemaRef,
    /// Places of the key's columns.
    key: Vec<usize>,
    table: Table,
    next: u64,
    limit_bytes: usize,
    counters: Arc<Counters>,
}

impl KeepLatest {
    /// A table of physical batches of schema `input`. Counts in `counters` whatever becomes of a row, but not the rows in.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it has no such key.
    pub fn new(
        name: &str,
        input: &SchemaRef,
        key: &[String],
        limit_bytes: usize,
        counters: Arc<Counters>,
    ) -> Result<Self, EngineError> {
        let key = key.iter().map(|name| input.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        let kinds: Vec<DataType> = key.iter().map(|place| input.field(*place).data_type().clone()).collect();
        let (name, schema) = (name.to_owned(), Arc::clone(input));
        let table = Table::new(Arc::clone(input), &kinds)?;
        Ok(Self { name, table, next: 0, schema, key, limit_bytes, counters })
    }

    fn batch(rows: RecordBatch, arrival: EventTime, next: &mut u64) -> StreamBatch {
        let first = Offset(*next);
        *next += rows.num_rows() as u64;
        let (watermark, idle, memo) = (EventTime::MIN, false, Memo::default());
        StreamBatch {
            kind: RowKind::Append,
            partition: 0,
            first,
            next: Offset(*next),
            rows,
            watermark,
            arrival,
            idle,
            memo,
        }
    }
}

impl Operator for KeepLatest {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let count = batch.rows.num_rows();
        if count == 0 {
            return Ok(());
        }
        let keys: Vec<ArrayRef> = self.key.iter().map(|place| Arc::clone(batch.rows.column(*place))).collect();
        let mut columns = batch.rows.columns().to_vec();
        columns.pop();
        columns.push(Arc::new(TimestampNanosecondArray::from_value(i64::MIN, count)));
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        self.table.put(&self.table.keys(&keys, count)?, rows.clone())?;
        add(&self.counters.absorbed, count);
        add(&self.counters.rows_out, count);
        output.rows.push(Self::batch(rows, batch.arrival, &mut self.next));
        check_table(&self.name, &self.table, self.limit_bytes)
    }

    fn snapshot(&mut self) -> Result<Vec<StreamBatch>, EngineError> {
        let rows = self.table.rows(SNAPSHOT_ROWS)?;
        let mut next = 0;
        Ok(rows.into_iter().map(|rows| Self::batch(rows, EventTime::MIN, &mut next)).collect())
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        state.put(&self.next)?;
        self.table.save(state)
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.next = state.take()?;
        self.table.restore(state)
    }

    fn state_bytes(&self) -> usize {
        self.table.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::check::Checked;
    use super::super::super::testing::{Feed, lines, run, visible};
    use super::*;
    use crate::batch::physical_schema;

    #[test]
    fn all_rows_are_handed_on_and_the_latest_of_each_key_is_held() {
        let counters = Arc::new(Counters::default());
        let input = physical_schema(&visible());
        let keep = KeepLatest::new("t", &input, &["k".to_owned()], 1 << 20, Arc::clone(&counters)).expect("a table");
        let mut keep = Checked::new(keep, 2);
        let mut feed = Feed::new(0, 2);
        let batches = vec![
            feed.batch(1, &[(5, Some(1), Some(0)), (9, None, Some(1)), (3, Some(2), Some(2))]),
            feed.batch(0, &[(1, Some(1), Some(3))]),
        ];
        let output = run(&mut keep, &counters, batches, 2);
        let values = |batches: &[StreamBatch]| -> Vec<String> {
            lines(batches).iter().map(|line| line.split('|').nth(2).unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(values(&output.rows), ["0", "1", "2", "3"]);
        assert_eq!(values(&keep.snapshot().expect("a snapshot")), ["2", "3"]);
        assert_eq!(counters.snapshot().unaccounted(), 0);
    }
}
