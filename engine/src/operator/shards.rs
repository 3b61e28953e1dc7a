//! Rows dealt out by their keys, so that several threads work on the groups of one pane: those of a group all come to the
//! same *shard*, in their order, so that whatever an aggregate depends on is as if there were no shards.
//!
//! After the partitioned hash aggregation of V. Leis et al., "Morsel-Driven Parallelism" (SIGMOD 2014), without its first
//! phase: where groups are as many as rows, merging what threads have gathered each for itself costs as much as
//! gathering it.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion_common::hash_utils::{RandomState, create_hashes};

use super::admit::Admitted;
use super::grid::Grid;
use super::pane::PaneKey;
use super::placement::{Rows, place};
use crate::error::EngineError;

/// What hashes are seeded with: not as those of the groups in a shard, which would then crowd in half of their tables.
const SEED: u64 = 0x5175_696c_6c61;

/// How rows are dealt out.
#[derive(Debug, Clone)]
pub(super) struct Dealer {
    /// How many of the columns are keys: the first.
    pub(super) keys: usize,
    pub(super) shards: usize,
    /// For each column whether it has one value in all rows.
    pub(super) constant: Vec<bool>,
}

/// Rows of one pane, for each shard.
pub(super) struct Dealt {
    pub(super) key: PaneKey,
    pub(super) hands: Vec<Hand>,
}

/// Rows for one shard.
pub(super) struct Hand {
    pub(super) columns: Vec<ArrayRef>,
    pub(super) rows: usize,
}

/// Whether rows can be dealt out by keys of a type: where values that make one group have one hash, as plain ones have.
pub(super) fn can_deal(kind: &DataType) -> bool {
    kind.is_integer()
        || matches!(
            kind,
            DataType::Boolean
                | DataType::Timestamp(_, _)
                | DataType::Date32
                | DataType::Date64
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Decimal128(_, _)
        )
}

impl Dealer {
    /// Deals out the rows of a batch, by panes.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn deal_all(&self, grid: &Grid, admitted: &Admitted) -> Result<Vec<Dealt>, EngineError> {
        if admitted.times().is_empty() {
            return Ok(Vec::new());
        }
        let placed = place(grid, admitted.times(), admitted.from.as_deref()).into_iter();
        let dealt = placed.map(|(key, rows)| {
            let (columns, count) = columns_of(&admitted.columns, admitted.times().len(), rows)?;
            Ok(Dealt { key, hands: self.deal(&columns, count)? })
        });
        dealt.collect()
    }

    /// Deals out rows: a hand for each shard.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn deal(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<Hand>, EngineError> {
        let hands = self.pick(&columns[..self.keys], rows)?.into_iter().map(|picked| {
            let rows = picked.len();
            let columns = columns.iter().zip(&self.constant).map(|(column, constant)| {
                if *constant { Ok(column.slice(0, rows)) } else { take(column, &picked, None) }
            });
            Ok(Hand { columns: columns.collect::<Result<_, _>>()?, rows })
        });
        hands.collect()
    }

    /// The rows of each shard.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn pick(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<UInt32Array>, EngineError> {
        let mut hashes = vec![0; rows];
        let hashed = create_hashes(keys, &RandomState::with_seed(SEED), &mut hashes);
        hashed.map_err(|error| EngineError::Aggregate(error.strip_backtrace()))?;
        // Room for all rows in each, so that a row has its place whatever shard it is of.
        let mut picked = vec![vec![0u32; rows]; self.shards];
        let mut counts = vec![0usize; self.shards];
        for (row, hash) in (0u32..).zip(&hashes) {
            // The upper half of the product: the hash as a fraction of the shards.
            let shard = ((u128::from(*hash) * self.shards as u128) >> 64) as usize;
            picked[shard][counts[shard]] = row;
            counts[shard] += 1;
        }
        let cut = picked.into_iter().zip(counts).map(|(mut picked, rows)| {
            picked.truncate(rows);
            UInt32Array::from(picked)
        });
        Ok(cut.collect())
    }
}

/// Columns of some of the rows, and how many these are.
///
/// # Errors
/// Our own mistake only.
pub(super) fn columns_of(columns: &[ArrayRef], all: usize, rows: Rows) -> Result<(Vec<ArrayRef>, usize), EngineError> {
    Ok(match rows {
        Rows::All => (columns.to_vec(), all),
        Rows::Slice(range) => {
            (columns.iter().map(|column| column.slice(range.start, range.len())).collect(), range.len())
        }
        Rows::Picked(picked) => {
            let picked = UInt32Array::from(picked);
            let taken = columns.iter().map(|column| take(column, &picked, None)).collect::<Result<_, _>>()?;
            (taken, picked.len())
        }
    })
}
