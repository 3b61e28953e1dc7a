//! What a sample keeps.

use datafusion_expr::Expr;

/// Which rows a sample keeps: those whose key, or whose place in the stream, has a hash in the first part of all hashes.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleSpec {
    /// The share that is kept, above zero and below one.
    pub fraction: f64,
    /// Samples with other seeds keep other rows.
    pub seed: u64,
    /// Rows with one key are kept or dropped together; empty: each row by itself, by its place.
    pub keys: Vec<Expr>,
}
