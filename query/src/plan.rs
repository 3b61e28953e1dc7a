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

use crate::sample::SampleSpec;
use crate::track::TrackSpec;

pub use crate::rank_spec::{RankFunction, RankSpec, RankTime};
pub use crate::window_spec::{WindowKind, WindowSpec};

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
    /// Gives rows the time of their arrival as their event time. The watermark is the clock.
    ByArrival {
        /// Input: rows as they come, of sources and streams.
        input: Arc<Plan>,
    },
    /// Keeps a share of the rows.
    Sample {
        /// Input.
        input: Arc<Plan>,
        /// The share.
        sample: Box<SampleSpec>,
    },
    /// Gives each row once for each element of the list that its last field holds; rows without elements go.
    Unnest {
        /// Input.
        input: Arc<Plan>,
        /// Rows without elements stay, with a null.
        outer: bool,
        /// The element's number, from 1, is a field behind it.
        ordinality: bool,
        /// The input's fields but the last, the element, and its number.
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
    /// Groups by windows that the rows themselves make, and by keys. Output fields, in order: `window_start`,
    /// `window_end`, the keys, the aggregates. The event time of the output is the window's end less a millisecond, of
    /// windows by count its end.
    Gather {
        /// Input.
        input: Arc<Plan>,
        /// The windows, the keys and the aggregates.
        gather: Box<GatherSpec>,
        /// The output fields.
        schema: SchemaRef,
    },
    /// Groups all rows that come, by keys alone. Output fields, in order: the keys, the aggregates. A group's result
    /// replaces the one before; its event time is that of its latest row.
    AggregateRunning {
        /// Input.
        input: Arc<Plan>,
        /// The keys; may be empty.
        keys: Vec<NamedExpr>,
        /// The aggregates; may be empty.
        aggregates: Vec<AggregateCall>,
        /// How long after its latest row a group is remembered on live input, in nanoseconds of event time.
        ttl_ns: i64,
        /// The output fields.
        schema: SchemaRef,
    },
    /// Gives each group a row in every window from the first that it has one in, as the watermark passes windows. A group
    /// is forgotten after so many windows without a row of its own.
    Fill {
        /// An aggregate by windows and keys.
        input: Arc<Plan>,
        /// Its windows: tumbling or hopping.
        window: WindowSpec,
        /// How many keys it has.
        keys: usize,
        /// What aggregates are in windows without a row.
        value: FillValue,
        /// Windows without a row after which a group is forgotten.
        empty_windows: u32,
        /// The input's fields; aggregates may be null.
        schema: SchemaRef,
    },
    /// Pairs of rows. Output fields: the left input's, then the right input's; of semi and anti joins the left's only.
    /// The event time of a pair is the later of its rows'; of a row without a partner its own.
    Join {
        /// Left input.
        left: Arc<Plan>,
        /// Right input; its field names differ from the left's.
        right: Arc<Plan>,
        /// Which pairs, and for how long rows wait for theirs.
        join: Box<JoinSpec>,
        /// The output fields.
        schema: SchemaRef,
    },
    /// Numbers rows within their part by an order, and keeps the first ones.
    Rank {
        /// Input.
        input: Arc<Plan>,
        /// The parts, the order, and how many.
        rank: Box<RankSpec>,
        /// The input's fields, and the number's when it is asked for.
        schema: SchemaRef,
    },
    /// Puts values beside each row that follow from the rows of its key before it, in order of event time.
    Track {
        /// The results of windows.
        input: Arc<Plan>,
        /// Keys and functions.
        track: Box<TrackSpec>,
        /// The input's fields, and one for each function.
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
            Self::Filter { input, .. } | Self::Sample { input, .. } | Self::ByArrival { input } => input.schema(),
            Self::Scan { schema, .. }
            | Self::Project { schema, .. }
            | Self::AssignWindow { schema, .. }
            | Self::Unnest { schema, .. }
            | Self::Track { schema, .. }
            | Self::Aggregate { schema, .. }
            | Self::Gather { schema, .. }
            | Self::AggregateRunning { schema, .. }
            | Self::Fill { schema, .. }
            | Self::Join { schema, .. }
            | Self::Rank { schema, .. }
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
            | Self::ByArrival { input }
            | Self::Sample { input, .. }
            | Self::Unnest { input, .. }
            | Self::Track { input, .. }
            | Self::Aggregate { input, .. }
            | Self::Gather { input, .. }
            | Self::AggregateRunning { input, .. }
            | Self::Fill { input, .. }
            | Self::Rank { input, .. } => vec![input],
            Self::Join { left, right, .. } => vec![left, right],
            Self::Union { inputs, .. } => inputs.iter().collect(),
        }
    }

    /// Names of the relations that are read, each once, in the order of the text.
    pub fn relations(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.collect_relations(&mut names);
        names
    }

    /// The same without the tables that are looked up in: those whose rows and times the plan's come from.
    pub fn streams(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.collect_streams(&mut names);
        names
    }

    /// Names of the tables that are looked up in, each once.
    pub fn tables(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.collect_tables(&mut names);
        names
    }

    fn collect_tables(&self, names: &mut Vec<String>) {
        if let Self::Join { join, .. } = self
            && let JoinTime::Table { table, .. } = &join.time
            && !names.contains(table)
        {
            names.push(table.clone());
        }
        self.inputs().into_iter().for_each(|input| input.collect_tables(names));
    }

    fn collect_streams(&self, names: &mut Vec<String>) {
        match self {
            Self::Scan { relation, .. } if !names.contains(relation) => names.push(relation.clone()),
            Self::Join { left, join, .. } if matches!(join.time, JoinTime::Table { .. }) => left.collect_streams(names),
            other => other.inputs().into_iter().for_each(|input| input.collect_streams(names)),
        }
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

    /// True when the rows that come out replace each other: the result changes for as long as rows come.
    pub fn is_changing(&self) -> bool {
        let changes = match self {
            Self::AggregateRunning { .. } => true,
            Self::Rank { rank, .. } => matches!(rank.time, RankTime::Running { .. }) && !rank.keeps_first(),
            _ => false,
        };
        changes || self.inputs().iter().any(|input| input.is_changing())
    }

    /// True when the rows that come out are those of closed windows.
    pub fn is_windowed(&self) -> bool {
        match self {
            Self::Aggregate { .. } | Self::Gather { .. } => true,
            Self::Join { left, join, .. } => match join.time {
                JoinTime::Window { .. } => true,
                JoinTime::Interval { .. } => false,
                JoinTime::Table { .. } => left.is_windowed(),
            },
            Self::Rank { input, rank, .. } => matches!(rank.time, RankTime::Window { .. }) || input.is_windowed(),
            other => other.inputs().iter().any(|input| input.is_windowed()),
        }
    }
}

/// How long what has no window is remembered after its latest row, on live input: an hour of event time.
pub const RUNNING_TTL_NS: i64 = 3_600 * 1_000_000_000;

/// An expression and the name of the column that it makes.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedExpr {
    /// The expression.
    pub expr: Expr,
    /// The column's name.
    pub name: String,
}

/// What [`Plan::Fill`] puts where a group has no rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FillValue {
    /// Nulls.
    Null,
    /// Zeros in columns of numbers, nulls in others.
    Zero,
    /// What the group had in the window before.
    Previous,
}

/// Windows that rows make, and what is computed of them.
#[derive(Debug, Clone, PartialEq)]
pub struct GatherSpec {
    /// The windows.
    pub kind: GatherKind,
    /// Each combination of these has windows of its own. All of them stand among the keys too.
    pub partition_by: Vec<Expr>,
    /// Rows that do not meet it make windows like all others, and are not aggregated.
    pub filter: Option<Expr>,
    /// The keys beside the window; may be empty.
    pub keys: Vec<NamedExpr>,
    /// The aggregates; may be empty.
    pub aggregates: Vec<AggregateCall>,
}

/// How rows make windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GatherKind {
    /// Rows no more than the gap apart are in one window, which ends a gap behind its last row.
    Session {
        /// The longest pause within a session, above zero, in nanoseconds.
        gap_ns: i64,
        /// How long after its end a session still takes rows, in nanoseconds of event time.
        grace_ns: i64,
    },
    /// So many rows in the order of their arrival. Its bounds are the event times of its first and last row.
    Count {
        /// Rows of a window, above zero.
        rows: u64,
        /// A window starts with every so manieth row, above zero and at most `rows`.
        slide: u64,
    },
}

/// Which rows of two inputs make pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinSpec {
    /// What becomes of rows without a partner.
    pub kind: JoinKind,
    /// What must be equal. Empty only where windows must.
    pub on: Vec<JoinKey>,
    /// A further condition on a pair, over the fields of both inputs.
    pub filter: Option<Expr>,
    /// How long rows wait for their partners.
    pub time: JoinTime,
}

/// Two expressions that must be equal.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinKey {
    /// Over the left input.
    pub left: Expr,
    /// Over the right input; of the same type.
    pub right: Expr,
    /// Null equals null (`IS NOT DISTINCT FROM`); otherwise null equals nothing.
    pub nulls: bool,
}

/// What becomes of rows without a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinKind {
    /// They go.
    Inner,
    /// Those of the left come with nulls.
    Left,
    /// Those of the right come with nulls.
    Right,
    /// Those of both come with nulls.
    Full,
    /// Left rows with a partner come once, by themselves.
    Semi,
    /// Left rows without a partner come, by themselves.
    Anti,
}

/// How long rows of a join wait for their partners.
#[derive(Debug, Clone, PartialEq)]
pub enum JoinTime {
    /// Until their window closes: partners are of windows that end together. Results have the window's end less a
    /// millisecond as their event time.
    Window {
        /// The end of a left row's window.
        left_end: Expr,
        /// The end of a right row's window.
        right_end: Expr,
        /// How long before its window's end a row lies at the most.
        span_ns: i64,
        /// How long after its end a window still takes rows, in nanoseconds of event time.
        grace_ns: i64,
    },
    /// Partners are of event times that differ by no less than `least_ns` and no more than `most_ns`, left less right.
    Interval {
        /// May be negative.
        least_ns: i64,
        /// May be negative; not less than the least.
        most_ns: i64,
        /// Whether left rows, and right rows, go when their time to live has passed: no condition says so.
        kept: [bool; 2],
    },
    /// The right input is a table: a left row is told with the row that the table has under its key when it comes.
    Table {
        /// The table's name.
        table: String,
        /// Names of the fields of its key, in the order of [`JoinSpec::on`].
        key: Vec<String>,
    },
}

/// One aggregate of an [`Plan::Aggregate`].
#[derive(Debug, Clone, PartialEq)]
pub struct AggregateCall {
    /// Always an `Expr::AggregateFunction`, with its DISTINCT, FILTER and ORDER BY.
    pub expr: Expr,
    /// The column's name.
    pub name: String,
}
