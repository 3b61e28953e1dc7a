//! Keeps the running results for which a predicate is true.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion_expr::Expr;

use super::expression::Expressions;
use super::filter::compile;
use super::{Operator, Output};
use crate::batch::{RowKind, StreamBatch};
use crate::counters::{Counters, add};
use crate::error::EngineError;
use crate::stream::Offset;

/// Bytes that a remembered key takes beside its own.
const KEY_BYTES: usize = 2 * size_of::<Box<[u8]>>();

/// Keeps the running results for which a predicate is true (a HAVING), and withdraws those for which it no longer is.
///
/// - Schema: in equals out. A batch becomes up to two: what passes, of the same kind, then as
///   [`RowKind::Delete`] the rows that do not pass while those told last under their keys did. They go to
///   [`Output::updates`]; appended rows are filtered like any others.
/// - Watermark: passed on as it is.
/// - State: the keys told that have not become final: at most the groups of open windows.
/// - Errors: a row on which the predicate fails does not pass. Counted `failed`, or `filtered` when it is not true,
///   unless the row comes out as a withdrawal.
/// - Example: of `HAVING n > 2`, a key at 1, 3, 2 gives nothing, an update to 3, a delete.
///
/// Withdrawals are the retractions of Akidau et al., "The dataflow model" (VLDB 2015), section 2.3.
pub struct FilterUpdates {
    schema: SchemaRef,
    predicate: Expressions,
    key: Vec<usize>,
    /// `None`: there is one row only, without a key.
    converter: Option<RowConverter>,
    told: HashSet<Box<[u8]>>,
    told_bytes: usize,
    counters: Arc<Counters>,
}

impl FilterUpdates {
    /// A filter of physical batches of schema `input`, whose rows replace each other by the columns `key`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when the predicate is not a boolean expression over its fields or there are no such
    /// columns.
    pub fn new(
        input: &SchemaRef,
        predicate: &Expr,
        key: Vec<usize>,
        counters: Arc<Counters>,
    ) -> Result<Self, EngineError> {
        let fields = input.project(&key)?;
        let types = fields.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
        let converter = if key.is_empty() { None } else { Some(RowConverter::new(types)?) };
        Ok(Self {
            schema: Arc::clone(input),
            predicate: compile(input, predicate)?,
            key,
            converter,
            told: HashSet::new(),
            told_bytes: 0,
            counters,
        })
    }

    /// For each row whether it passes; rows on which the predicate fails do not, and are counted apart.
    fn passes(&self, batch: &StreamBatch) -> Result<(BooleanArray, Vec<usize>), EngineError> {
        let evaluated = self.predicate.evaluate(&batch.rows, batch.arrival)?;
        let passes = evaluated.columns[0].as_boolean();
        if evaluated.failures.is_empty() {
            return Ok((passes.clone(), Vec::new()));
        }
        evaluated.sample(&batch.rows, &self.counters);
        let failed: Vec<usize> = evaluated.failures.iter().map(|(row, _)| *row).collect();
        let mut found = passes.iter();
        let spread = (0..batch.rows.num_rows())
            .map(|row| if failed.binary_search(&row).is_ok() { Some(false) } else { found.next().flatten() });
        Ok((spread.collect(), failed))
    }

    fn tell(&mut self, key: &[u8]) {
        if !self.told.contains(key) {
            self.told.insert(key.into());
            self.told_bytes += key.len() + KEY_BYTES;
        }
    }

    fn forget(&mut self, key: &[u8]) -> bool {
        let known = self.told.remove(key);
        if known {
            self.told_bytes -= key.len() + KEY_BYTES;
        }
        known
    }
}

impl Operator for FilterUpdates {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let count = batch.rows.num_rows();
        if count == 0 {
            let into = if batch.kind == RowKind::Append { &mut output.rows } else { &mut output.updates };
            into.push(batch);
            return Ok(());
        }
        let (passes, failed) = self.passes(&batch)?;
        let keys = batch.rows.project(&self.key)?;
        let keys = self.converter.as_mut().map(|converter| converter.convert_columns(keys.columns())).transpose()?;
        let (mut kept, mut withdrawn) = (vec![false; count], vec![false; count]);
        for row in 0..count {
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            let passes = passes.is_valid(row) && passes.value(row);
            match batch.kind {
                RowKind::Append => kept[row] = passes,
                RowKind::Update if passes => {
                    self.tell(key);
                    kept[row] = true;
                }
                RowKind::Final if passes => {
                    self.forget(key);
                    kept[row] = true;
                }
                RowKind::Update | RowKind::Final | RowKind::Delete => withdrawn[row] = self.forget(key),
            }
        }
        let lost_failed = failed.iter().filter(|row| !withdrawn[**row]).count();
        let come_out = |row: &usize| kept[*row] || withdrawn[*row];
        add(&self.counters.failed, lost_failed);
        add(&self.counters.filtered, count - lost_failed - (0..count).filter(come_out).count());
        split(&batch, kept, withdrawn, output)
    }

    fn state_bytes(&self) -> usize {
        self.told_bytes
    }
}

/// What is kept, then what is withdrawn; together they stand for all of the batch.
fn split(batch: &StreamBatch, kept: Vec<bool>, withdrawn: Vec<bool>, output: &mut Output) -> Result<(), EngineError> {
    let mut passed = batch.with_rows(filter_record_batch(&batch.rows, &kept.into())?);
    if batch.kind == RowKind::Append {
        output.rows.push(passed);
        return Ok(());
    }
    let mut deleted = batch.with_rows(filter_record_batch(&batch.rows, &withdrawn.into())?);
    deleted.kind = RowKind::Delete;
    if passed.rows.num_rows() > 0 && deleted.rows.num_rows() > 0 {
        let between = Offset(batch.first.0 + passed.rows.num_rows() as u64);
        (passed.next, deleted.first) = (between, between);
        output.updates.extend([passed, deleted]);
    } else {
        output.updates.push(if deleted.rows.num_rows() > 0 { deleted } else { passed });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use datafusion_expr::{col, lit};

    use super::*;
    use crate::operator::testing::{Feed, Row, lines, visible};

    #[test]
    fn what_no_longer_passes_is_withdrawn_once() {
        let counters = Arc::new(Counters::default());
        let schema = crate::batch::physical_schema(&visible());
        let predicate = (lit(6i64) / col("v")).lt(lit(3i64));
        let mut operator = FilterUpdates::new(&schema, &predicate, vec![1], Arc::clone(&counters)).expect("a filter");
        let mut feed = Feed::new(0, 1);
        let mut step = |kind: RowKind, rows: &[Row]| {
            let mut batch = feed.batch(0, rows);
            batch.kind = kind;
            add(&counters.rows_in, rows.len());
            let mut output = Output::default();
            operator.process(batch, &mut output).expect("it takes updates");
            let told: Vec<(RowKind, usize)> = output.updates.iter().map(|b| (b.kind, b.rows.num_rows())).collect();
            let covered: Vec<(u64, u64)> = output.updates.iter().map(|b| (b.first.0, b.next.0)).collect();
            add(&counters.passed, lines(&output.updates).len());
            (told, covered)
        };
        let one = |key: i64, value: i64| (1, Some(key), Some(value));
        let update = step(RowKind::Update, &[one(1, 1), one(2, 3), one(3, 0)]);
        assert_eq!(update, (vec![(RowKind::Update, 1)], vec![(0, 3)]));
        // Key 1 passes now; 2 fails, which is not passing.
        let update = step(RowKind::Update, &[one(1, 3), one(2, 0)]);
        assert_eq!(update, (vec![(RowKind::Update, 1), (RowKind::Delete, 1)], vec![(3, 4), (4, 5)]));
        assert_eq!(step(RowKind::Update, &[one(2, 1)]).0, vec![(RowKind::Update, 0)]);
        assert_eq!(step(RowKind::Final, &[one(1, 6), one(2, 1)]).0, vec![(RowKind::Final, 1)]);
        assert_eq!(operator.state_bytes(), 0);
        let counted = counters.snapshot();
        assert_eq!((counted.failed, counted.filtered, counted.unaccounted()), (1, 3, 0));
    }
}
