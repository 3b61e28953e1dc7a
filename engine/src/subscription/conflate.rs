//! Conflation: of several updates of a key only the latest is told.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{OwnedRow, RowConverter, SortField};

use crate::batch::{Memo, RowKind, StreamBatch};
use crate::error::EngineError;

/// Finds the latest row of each key.
pub(super) struct Conflater {
    /// `None`: there is one row, without a key.
    converter: Option<RowConverter>,
    key: Vec<usize>,
}

impl Conflater {
    /// `key`: indices of the key columns.
    pub(super) fn new(schema: &SchemaRef, key: Vec<usize>) -> Result<Self, EngineError> {
        let fields = key.iter().map(|at| SortField::new(schema.field(*at).data_type().clone())).collect();
        let converter = if key.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        Ok(Self { converter, key })
    }

    /// One batch is passed on as it is. Of more, the latest row of each key is kept, one batch a kind: deletes
    /// first. Rows that are appended are left alone.
    pub(super) fn conflate(&mut self, batches: Vec<Arc<StreamBatch>>) -> Vec<Arc<StreamBatch>> {
        if batches.len() < 2 || batches.iter().any(|batch| batch.kind == RowKind::Append) {
            return batches;
        }
        match self.latest(&batches) {
            Ok(latest) => latest,
            Err(error) => {
                tracing::error!(%error, "updates could not be conflated and are told one by one");
                batches
            }
        }
    }

    fn latest(&mut self, batches: &[Arc<StreamBatch>]) -> Result<Vec<Arc<StreamBatch>>, EngineError> {
        let mut place: HashMap<Option<OwnedRow>, (usize, u32)> = HashMap::new();
        for (number, batch) in batches.iter().enumerate() {
            let Some(converter) = &mut self.converter else {
                if let Some(last) = batch.rows.num_rows().checked_sub(1) {
                    let last = u32::try_from(last).expect("a batch has fewer rows than 2^32");
                    place.insert(None, (number, last));
                }
                continue;
            };
            let columns: Vec<ArrayRef> = self.key.iter().map(|at| batch.rows.column(*at).clone()).collect();
            let keys = converter.convert_columns(&columns)?;
            for (row, key) in (0..).zip(keys.iter()) {
                place.insert(Some(key.owned()), (number, row));
            }
        }
        let mut kept: Vec<Vec<u32>> = vec![Vec::new(); batches.len()];
        for (number, row) in place.into_values() {
            kept[number].push(row);
        }
        let mut told = Vec::new();
        for kind in [RowKind::Delete, RowKind::Update, RowKind::Final] {
            let mut parts = Vec::new();
            for (batch, rows) in batches.iter().zip(&mut kept).filter(|(batch, _)| batch.kind == kind) {
                rows.sort_unstable();
                parts.push(take_record_batch(&batch.rows, &UInt32Array::from(std::mem::take(rows)))?);
            }
            let Some(last) = batches.iter().rfind(|batch| batch.kind == kind) else { continue };
            let rows: RecordBatch = concat_batches(&last.rows.schema(), &parts)?;
            let first = batches.first().map_or(last.first, |batch| batch.first);
            let joined = StreamBatch { first, memo: Memo::default(), ..last.with_rows(rows) };
            told.push(Arc::new(joined));
        }
        Ok(told)
    }
}
