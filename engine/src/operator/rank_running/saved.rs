//! The ranked rows as they are stored: part by part, in their order. Places in the order are computed again.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Int64Type, TimestampNanosecondType, UInt32Type};

use super::super::State;
use super::super::carried::Carried;
use super::super::state::{check_count, values};
use super::{ROW_BYTES, RankRunning, Ranked};
use crate::error::EngineError;

impl RankRunning {
    /// As [`Operator::save`](super::Operator::save).
    pub(super) fn save_parts(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.carried().save(state)?;
        self.forgetting.save(state)?;
        let counts = self.parts.iter().map(|part| u32::try_from(part.rows.len()).unwrap_or(u32::MAX));
        let counts: ArrayRef = Arc::new(UInt32Array::from_iter_values(counts));
        let latest: ArrayRef = Arc::new(Int64Array::from_iter_values(self.parts.iter().map(|part| part.latest)));
        state.put_columns(vec![counts, latest], self.parts.len())?;
        state.put_rows(self.ranked()?);
        Ok(())
    }

    /// As [`Operator::restore`](super::Operator::restore).
    pub(super) fn restore_parts(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.carried().restore(state)?;
        self.forgetting.restore(state)?;
        let (columns, _) = state.take_columns(&[DataType::UInt32, DataType::Int64])?;
        let (counts, latest) = (values::<UInt32Type>(&columns[0]), values::<Int64Type>(&columns[1]));
        let rows = state.take_rows_of(&self.input)?;
        check_count("ranked rows", rows.num_rows(), counts.iter().map(|count| *count as usize).sum())?;
        self.rank_again(rows, &counts, &latest)
    }

    fn carried(&mut self) -> Carried<'_> {
        let Self { progress, told, watermark, idle, arrival, .. } = self;
        Carried { progress, next: told.next(), watermark, idle, arrival }
    }

    /// All ranked rows, part by part.
    fn ranked(&self) -> Result<RecordBatch, EngineError> {
        let ranked = self.parts.iter().flat_map(|part| &part.rows);
        let places: Vec<_> = ranked.map(|ranked| (ranked.piece as usize, ranked.row as usize)).collect();
        if places.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.input)));
        }
        let pieces: Vec<&RecordBatch> = self.pieces.iter().collect();
        Ok(interleave_record_batch(&pieces, &places)?)
    }

    /// Ranks rows that were ranked before: of each part so many, in their order.
    fn rank_again(&mut self, rows: RecordBatch, counts: &[u32], latest: &[i64]) -> Result<(), EngineError> {
        let keys = self.keys.as_mut().map(|keys| keys.rows(&rows)).transpose()?;
        let order = self.order.rows(&rows)?;
        let times = rows.column(rows.num_columns() - 2).as_primitive::<TimestampNanosecondType>().values();
        let mut row = 0;
        for (count, latest) in counts.iter().zip(latest).filter(|(count, _)| **count > 0) {
            let key = keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
            let number = self.part(key);
            let part = &mut self.parts[number];
            part.latest = *latest;
            for _ in 0..*count {
                let own = order.row(row).data();
                part.different += usize::from(part.rows.last().is_none_or(|last| &*last.order != own));
                let place = u32::try_from(row).map_err(|_| EngineError::State("2^32 ranked rows".into()))?;
                part.rows.push(Ranked { order: own.into(), time: times[row], piece: 0, row: place });
                self.other_bytes += own.len() + ROW_BYTES;
                row += 1;
            }
        }
        (self.ranked_rows, self.held_rows) = (row, row);
        self.piece_bytes = rows.get_array_memory_size();
        self.pieces = vec![rows];
        Ok(())
    }
}
