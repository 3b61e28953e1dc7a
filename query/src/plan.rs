//! What a query asks, not how it runs.
//!
//! Invariants, which [`analyze`](crate::analyze) establishes and the engine relies on:
//! - the field names of a node's schema are unique;
//! - an expression refers to its input's fields by unqualified name, is fully typed (all coercions are explicit
//!   casts) and holds no sub-query, no aggregate (but for [`AggregateCall`]) and no window function;
//! - the event time of a row is not a field: it travels beside the fields, through every node.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;

/// A logical plan over unbounded streams.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// The rows of a source or a named stream.
    Scan {
        /// Its name in the catalog.
        relation: String,
        /// The columns that the query reads, in the relation's order. May be empty (`count(*)`).
        schema: SchemaRef,
    },
    /// Keeps the rows for which the predicate is true.
    Filter {
        /// Input.
        input: Arc<Plan>,
        /// A boolean expression.
        predicate: Expr,
    },
    /// Computes columns.
    Project {
        /// Input.
        input: Arc<Plan>,
        /// One expression an output column.
        exprs: Vec<NamedExpr>,
        /// The output columns.
        schema: SchemaRef,
    },
    /// Assigns windows row by row: one output row for each window that the row is in, with the columns
    /// `window_start`, `window_end` and `window_time` behind the input's. Drops nothing.
    AssignWindow {
        /// Input.
        input: Arc<Plan>,
        /// The windows.
        window: WindowSpec,
        /// The input's fields and the three window columns.
        schema: SchemaRef,
    },
    /// Groups by window and keys. Output fields, in order: `window_start`, `window_end`, the keys, the aggregates.
    /// The event time of the output is the window's end less a millisecond.
    Aggregate {
        /// Input.
        input: Arc<Plan>,
        /// The windows.
        window: WindowSpec,
        /// The keys beside the window; may be empty.
        keys: Vec<NamedExpr>,
        /// The aggregates; may be empty (`SELECT DISTINCT` and plain `GROUP BY`).
        aggregates: Vec<AggregateCall>,
        /// How long after its end a window still takes rows, in nanoseconds of event time.
        grace_ns: i64,
        /// The output fields.
        schema: SchemaRef,
    },
    /// All rows of all inputs, whose schemas are equal in types; names are the first's.
    Union {
        /// Two or more inputs.
        inputs: Vec<Arc<Plan>>,
        /// The output fields.
        schema: SchemaRef,
    },
}

impl Plan {
    /// The fields of the rows that come out.
    pub fn schema(&self) -> &SchemaRef {
        match self {
            Self::Filter { input, .. } => input.schema(),
            Self::Scan { schema, .. }
            | Self::Project { schema, .. }
            | Self::AssignWindow { schema, .. }
            | Self::Aggregate { schema, .. }
            | Self::Union { schema, .. } => schema,
        }
    }

    /// The inputs, none for a scan.
    pub fn inputs(&self) -> Vec<&Arc<Plan>> {
        match self {
            Self::Scan { .. } => Vec::new(),
            Self::Filter { input, .. }
            | Self::Project { input, .. }
            | Self::AssignWindow { input, .. }
            | Self::Aggregate { input, .. } => vec![input],
            Self::Union { inputs, .. } => inputs.iter().collect(),
        }
    }

    /// Names of the relations that are read, each once, in the order of the text.
    pub fn relations(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.collect_relations(&mut names);
        names
    }

    fn collect_relations(&self, names: &mut Vec<String>) {
        if let Self::Scan { relation, .. } = self
            && !names.contains(relation)
        {
            names.push(relation.clone());
        }
        for input in self.inputs() {
            input.collect_relations(names);
        }
    }

    /// True when the rows that come out are those of closed windows.
    pub fn is_windowed(&self) -> bool {
        matches!(self, Self::Aggregate { .. }) || self.inputs().iter().any(|input| input.is_windowed())
    }
}

/// An expression and the name of the column that it makes.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedExpr {
    /// The expression.
    pub expr: Expr,
    /// The column's name.
    pub name: String,
}

/// One aggregate of an [`Plan::Aggregate`].
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateCall {
    /// Always an `Expr::AggregateFunction`, with its DISTINCT, FILTER and ORDER BY.
    pub expr: Expr,
    /// The column's name.
    pub name: String,
}

/// The windows that rows are put in. All times are nanoseconds of event time; windows are half-open and aligned to
/// 1970-01-01T00:00:00Z plus the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowSpec {
    /// The form.
    pub kind: WindowKind,
    /// How far boundaries are shifted; may be negative.
    pub offset_ns: i64,
}

/// The form of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// Each row is in one window.
    Tumble {
        /// Length, above zero.
        size_ns: i64,
    },
    /// A window starts every slide; a row is in each that covers it (in none where slide > size leaves room).
    Hop {
        /// Length, above zero.
        size_ns: i64,
        /// Distance from start to start, above zero.
        slide_ns: i64,
    },
}

impl WindowSpec {
    /// Length of a window.
    pub fn size_ns(&self) -> i64 {
        match self.kind {
            WindowKind::Tumble { size_ns } | WindowKind::Hop { size_ns, .. } => size_ns,
        }
    }

    /// Distance from the start of a window to that of the next.
    pub fn slide_ns(&self) -> i64 {
        match self.kind {
            WindowKind::Tumble { size_ns } => size_ns,
            WindowKind::Hop { slide_ns, .. } => slide_ns,
        }
    }
}
