//! What is computed of a key's windows, one after the other.

/// Which rows follow each other, and what is computed of them.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackSpec {
    /// Names of the fields whose values make a key; empty: all rows are of one.
    pub partition_by: Vec<String>,
    /// The functions, at least one.
    pub calls: Vec<TrackCall>,
    /// A key that has had no row for so long begins anew. Of event time, in nanoseconds.
    pub ttl_ns: i64,
}

/// A function of the rows of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackCall {
    /// The field that it reads.
    pub argument: String,
    /// The field that it makes: nullable, of the argument's type for [`TrackFunction::Lag`], else DOUBLE.
    pub column: String,
    /// What it computes.
    pub function: TrackFunction,
}

/// What follows from a row and those before it. Where the argument is null, so is the result, but for `Lag`, and the row
/// does not count.
#[derive(Debug, Clone, PartialEq)]
pub enum TrackFunction {
    /// What the argument was so many rows before; null counts.
    Lag {
        /// How many, above zero.
        windows: u32,
    },
    /// Deviations from the median of those before it, the deviation by the median absolute one.
    RobustZscore {
        /// How far to look back.
        windows: u32,
        /// With fewer than so many it is null.
        min_count: u32,
    },
    /// The exponentially weighted moving average, the row included.
    Ewma {
        /// Weight of the newest, above zero and at most one.
        alpha: f64,
    },
    /// A bound of what was to be expected from those before: their weighted average, and deviations from it.
    EwmaBand {
        /// Weight of the newest, above zero and at most one.
        alpha: f64,
        /// Standard deviations above the average; negative: below it.
        deviations: f64,
        /// With fewer than so many it is null.
        min_count: u32,
    },
    /// The difference to the one before, per second between them.
    RateOfChange,
}
