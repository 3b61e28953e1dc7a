//! What a query may name.

use arrow::datatypes::SchemaRef;

use crate::late::{LateStream, late_of};
use crate::named_windows::NamedWindows;

/// Resolves names. Implemented by whoever keeps the definitions; names are compared after SQL's folding to lower
/// case (quoted names are kept as written).
pub trait Catalog: Send + Sync {
    /// The relation of that name, or `None` when there is none.
    fn relation(&self, name: &str) -> Option<Relation>;

    /// All names, for suggestions and completion.
    fn names(&self) -> Vec<String>;

    /// What a plan reads under a name: a relation, or the late rows of one.
    fn readable(&self, name: &str) -> Option<Relation> {
        match late_of(name) {
            Some(stream) => self.relation(stream)?.late_rows(),
            None => self.relation(name),
        }
    }
}

/// Something that a query can read, or (a sink) write to.
#[derive(Debug, Clone)]
pub struct Relation {
    /// The name as the catalog keeps it.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// The columns that a user sees. A sink's are those that it takes; empty when it takes any.
    pub schema: SchemaRef,
    /// Where the rows' event time comes from.
    pub time: TimeAttribute,
    /// The windows that its rows are results of; `None`: they are of none, or their columns were left out.
    pub windows: Option<NamedWindows>,
    /// The rows that come too late for it; `None`: none can.
    pub late: Option<LateStream>,
    /// True when the relation's clock runs apart from the wall clock (a replay). Streams of different clocks are
    /// not joined or united.
    pub replay: bool,
}

/// What a [`Relation`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelationKind {
    /// Rows from outside.
    Source,
    /// Rows from outside, each of which takes the place of the one before with its key: other queries look up in it.
    Table {
        /// Names of the key's columns.
        key: Vec<String>,
    },
    /// A named query that runs; its output is a stream.
    Stream,
    /// A named query that runs and whose result changes: readers run its query, and share its job.
    Changing {
        /// The text after `AS`.
        sql: String,
    },
    /// A named query text that is put in place of its name.
    View {
        /// The text after `AS`.
        sql: String,
    },
    /// Takes rows; cannot be read.
    Sink,
}

/// Where a relation's event time comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimeAttribute {
    /// A visible column.
    Column(String),
    /// No visible column: the time at which the row arrived, or a column that a named query has left out.
    Arrival,
    /// The end of the window that the row belongs to, less a millisecond.
    WindowTime,
}
