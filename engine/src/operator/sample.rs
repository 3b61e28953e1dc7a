//! Keeps a share of the rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion_physical_expr::PhysicalExpr;
use squilla_query::SampleSpec;

use super::expression::{Expressions, Planner};
use super::{Operator, Output};
use crate::batch::StreamBatch;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Keeps the rows whose key, or whose place in the stream, has a hash below a share of all hashes.
///
/// - Schema: in equals out; rows keep their order, offsets, kind and event times.
/// - Watermark: passed on as it is. Rows that are left out have counted, since each row carries its own.
/// - State: none.
/// - Errors: a row on which a key fails is set aside and counted `failed`. Rows left out are counted `filtered`.
/// - Example: one percent by user keeps all rows of one user in a hundred. The same rows are kept in a replay, and by
///   every query with that seed; null is a key like others.
///
/// Bernoulli sampling by hashing follows D. Vengerov et al., "Join Size Estimation Subject to Filter Conditions"
/// (VLDB 2015), section 3.
pub struct Sample {
    schema: SchemaRef,
    /// Hashes up to here are in the sample.
    most: u64,
    seed: u64,
    keys: Option<(Expressions, RowConverter)>,
    counters: Arc<Counters>,
}

impl Sample {
    /// A sample of physical batches of schema `input`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when a key cannot be computed.
    pub fn new(input: &SchemaRef, sample: &SampleSpec, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let keys = if sample.keys.is_empty() {
            None
        } else {
            let planner = Planner::new(input)?;
            let exprs: Vec<Arc<dyn PhysicalExpr>> =
                sample.keys.iter().map(|key| planner.expr(key)).collect::<Result<_, _>>()?;
            let exprs = Expressions::new(exprs, &planner)?;
            let fields = exprs.types().iter().map(|kind| SortField::new(kind.clone())).collect();
            Some((exprs, RowConverter::new(fields)?))
        };
        // The cast is cut to the range: a share of one is all hashes.
        let most = (sample.fraction * u64::MAX as f64) as u64;
        Ok(Self { schema: Arc::clone(input), most, seed: mix(sample.seed), keys, counters })
    }

    fn by_keys(rows: &[ArrayRef], converter: &RowConverter, seed: u64, most: u64) -> Result<BooleanArray, EngineError> {
        let rows = converter.convert_columns(rows)?;
        Ok(rows.iter().map(|row| Some(hash(row.data(), seed) <= most)).collect())
    }
}

/// The finaliser of SplitMix64 (G. Steele et al., "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The same on every machine, other than the hashes of tables.
fn hash(bytes: &[u8], seed: u64) -> u64 {
    let mut sum = seed ^ bytes.len() as u64;
    for piece in bytes.chunks(8) {
        let mut padded = [0; 8];
        padded[..piece.len()].copy_from_slice(piece);
        sum = mix(sum ^ u64::from_le_bytes(padded));
    }
    mix(sum)
}

impl Operator for Sample {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        let (rows, keep): (RecordBatch, BooleanArray) = match &self.keys {
            Some((keys, converter)) => {
                let evaluated = keys.evaluate(&batch.rows, batch.arrival)?;
                let rows = evaluated.set_aside(&batch.rows, &self.counters)?;
                let keep = Self::by_keys(&evaluated.columns, converter, self.seed, self.most)?;
                (rows, keep)
            }
            None => {
                let place = self.seed ^ mix(u64::from(batch.partition));
                let places = (0u64..).take(batch.rows.num_rows()).map(|row| batch.first.0 + row);
                (batch.rows.clone(), places.map(|at| Some(mix(place ^ at) <= self.most)).collect())
            }
        };
        add(&self.counters.filtered, rows.num_rows() - keep.true_count());
        add(&self.counters.sampled, rows.num_rows() - keep.true_count());
        output.rows.push(batch.with_rows(filter_record_batch(&rows, &keep)?));
        Ok(())
    }
}
