//! Joins: pairs of rows of two inputs, found by hash on columns. One kind of waiting a file.

mod interval;
mod keep;
mod lookup;
mod pairs;
mod progress;
mod rows;
mod table;
mod told;
mod window;

pub use interval::{IntervalJoin, IntervalJoinSpec};
pub use keep::KeepLatest;
pub use lookup::{LookupJoin, LookupSpec};
pub use window::{WindowJoin, WindowJoinSpec};

use std::sync::Arc;

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::SchemaRef;
use squilla_query::{JoinKey, JoinKind};

use crate::error::EngineError;

use pairs::{LEFT, Matcher, RIGHT};

/// What all joins have in common.
#[derive(Debug, Clone)]
pub struct JoinInputs {
    /// The physical fields of the batches of the left and of the right input.
    pub inputs: [SchemaRef; 2],
    /// The visible fields that are read of them.
    pub fields: [SchemaRef; 2],
    /// For each partition of all inputs whether it is the right one's.
    pub right: Vec<bool>,
    /// What must be equal.
    pub on: Vec<JoinKey>,
    /// A further condition on a pair.
    pub filter: Option<datafusion_expr::Expr>,
    /// What becomes of rows without a partner.
    pub kind: JoinKind,
    /// The visible fields that come out: the left's and the right's, or only the left's.
    pub schema: SchemaRef,
    /// Bytes of state that are too many.
    pub state_limit_bytes: usize,
}

/// Whether rows of a side are told something of even without a partner, or once only.
fn waits(kind: JoinKind, side: usize) -> bool {
    match kind {
        JoinKind::Inner => false,
        JoinKind::Left | JoinKind::Semi | JoinKind::Anti => side == LEFT,
        JoinKind::Right => side == RIGHT,
        JoinKind::Full => true,
    }
}

/// Whether only left rows come out.
fn is_left_only(kind: JoinKind) -> bool {
    matches!(kind, JoinKind::Semi | JoinKind::Anti)
}

/// A side's fields as a row without a partner has them: with nulls for the other's.
fn padded(matcher: &Matcher, kind: JoinKind, side: usize, mut own: Vec<ArrayRef>, rows: usize) -> Vec<ArrayRef> {
    if is_left_only(kind) {
        return own;
    }
    let other = matcher.fields(1 - side).iter().map(|field| new_null_array(field.data_type(), rows));
    if side == LEFT {
        own.extend(other);
        return own;
    }
    other.chain(own).collect()
}

/// The later of two times, row by row.
fn later(left: &[i64], right: &[i64]) -> ArrayRef {
    let times = left.iter().zip(right).map(|(left, right)| *left.max(right));
    Arc::new(arrow::array::TimestampNanosecondArray::from_iter_values(times))
}

fn check_budget(used_bytes: usize, limit_bytes: usize) -> Result<(), EngineError> {
    if used_bytes <= limit_bytes {
        return Ok(());
    }
    Err(EngineError::StateBudget { scope: "query", used_bytes, limit_bytes })
}
