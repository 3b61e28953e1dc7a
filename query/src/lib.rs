//! SQL text and a [`Catalog`] in; a [`Statement`] with its [`Plan`], or [`Diagnostic`]s with spans, out.
//!
//! This crate is pure: no task, no clock, no socket and no file ever lives here. The way of a statement:
//!
//! `text` → [`parse`](analyze) → bind against the catalog → logical plan → rewrite → [`Plan`].
//!
//! Expressions are DataFusion's [`Expr`](datafusion_expr::Expr), typed and coerced, so that the engine can hand
//! them to DataFusion's physical expressions as they are.

mod analyze;
mod arrival_column;
mod bind;
mod calendar;
mod catalog;
mod changeable;
mod clauses;
mod diagnostic;
mod dialect;
mod display;
mod duration;
mod event_time;
mod functions;
mod late;
mod limits;
mod named_windows;
mod parameter;
mod params;
mod parse;
mod plan;
mod rank_spec;
mod rewrite;
mod sample;
mod statement;
mod suggest;
mod text;
mod track;
mod types;
mod window_spec;

pub use arrival_column::{ArrivalColumn, tells_arrival};
pub use calendar::Calendar;
pub use catalog::{Catalog, Relation, RelationKind, TimeAttribute};
pub use clauses::{ClauseInfo, ClausePlace, clauses};
pub use diagnostic::{Diagnostic, DiagnosticParts, Span};
pub use display::short_text;
pub use functions::{ArrivalFunction, is_random};
pub use late::{LATE_BY_IDLE, LATE_BY_WATERMARK, LATE_REASON, LateStream, late_fields, late_name, late_of};
pub use limits::PLANNING_STACK_BYTES;
pub use named_windows::NamedWindows;
pub use parameter::{Parameter, ParameterKind, parameters_of};
pub use params::{ParamValue, Params};
pub use plan::{
    AggregateCall, FillValue, GatherKind, GatherSpec, JoinKey, JoinKind, JoinSpec, JoinTime, NamedExpr, Plan,
    RUNNING_TTL_NS, RankFunction, RankSpec, RankTime, WindowKind, WindowSpec,
};
pub use sample::SampleSpec;
pub use statement::{
    AlterStream, CreateSink, CreateSource, CreateStream, CreateView, Describe, DropKind, DropRelation, Emit,
    InsertInto, OptionValue, Pausable, PrimaryKey, Promote, Query, Resume, Show, Since, Statement, Until,
    WatermarkClause,
};
pub use track::{TrackCall, TrackFunction, TrackSpec};
pub use types::sql_name;

/// The type of every TIMESTAMP column: nanoseconds since 1970 in UTC, without a zone of its own.
pub fn timestamp_type() -> arrow::datatypes::DataType {
    arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None)
}

/// Name of the column that holds where a row's window starts (inclusive), a [`timestamp_type`].
pub const WINDOW_START: &str = "window_start";
/// Name of the column that holds where a row's window ends (exclusive), a [`timestamp_type`].
pub const WINDOW_END: &str = "window_end";
/// Name of the column that holds a windowed row's event time: [`WINDOW_END`] less one millisecond.
pub const WINDOW_TIME: &str = "window_time";

/// One statement of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementText {
    /// Its text, trimmed, without the semicolon.
    pub sql: String,
    /// Where it stands in the script.
    pub span: Span,
}

/// Cuts a script at its semicolons (not those in strings, quoted names or comments).
///
/// # Errors
/// One diagnostic when the text cannot be read as tokens (an open string, say) or is larger than the limit.
pub fn split_statements(script: &str) -> Result<Vec<StatementText>, Vec<Diagnostic>> {
    analyze::split(script)
}

/// Reads, checks and plans one statement. Spans are in `sql`.
///
/// # Errors
/// All the mistakes that can be found at once, at least one.
pub fn analyze(sql: &str, catalog: &dyn Catalog) -> Result<Statement, Vec<Diagnostic>> {
    analyze::analyze(sql, &Params::new(), catalog)
}

/// The same for a statement with parameters (`$name`), whose values are given. The texts that the statement holds have
/// the values in their places.
///
/// # Errors
/// As [`analyze`]; parameters without a value and values without a parameter.
pub fn analyze_with(sql: &str, params: &Params, catalog: &dyn Catalog) -> Result<Statement, Vec<Diagnostic>> {
    analyze::analyze(sql, params, catalog)
}

/// The statement with values in the place of its parameters: what is kept of it.
///
/// # Errors
/// A text that cannot be read as tokens, parameters without a value, values without a parameter.
pub fn with_params(sql: &str, params: &Params) -> Result<String, Vec<Diagnostic>> {
    let text = text::Text::read(sql).map_err(|mistake| vec![mistake])?;
    Ok(text.with_params(params)?.whole())
}

/// A query's text without what belongs to its reader: `EMIT EVERY` and `CHANGES`, `SINCE`, and `LIMIT` of a query
/// without order.
///
/// # Errors
/// A text that cannot be read.
pub fn without_reader(sql: &str) -> Result<String, Diagnostic> {
    parse::without_reader(&text::Text::read(sql)?)
}

/// Names of a statement's parameters, in order of their names; none of a text that cannot be read as tokens.
pub fn parameters(sql: &str) -> std::collections::BTreeSet<String> {
    text::Text::read(sql).map(|text| params::names(text.tokens())).unwrap_or_default()
}

/// The expression of a `WATERMARK FOR` clause over a source's columns: of type [`timestamp_type`], deterministic.
///
/// # Errors
/// What is wrong with it, with the clause's span.
pub fn bind_watermark(
    clause: &WatermarkClause,
    schema: &arrow::datatypes::Schema,
) -> Result<datafusion_expr::Expr, Vec<Diagnostic>> {
    bind::watermark(clause, schema)
}

/// Whether a plan ranks groups of windows in a way that running results can follow: the first ones of each window.
pub fn ranks_groups(plan: &Plan) -> bool {
    bind::ranks_groups(plan)
}

/// The columns by which the running results of a plan replace each other; `None`: it has none.
pub fn running_key(plan: &Plan) -> Option<Vec<String>> {
    bind::running_key(plan)
}

/// A function that queries can call, for completion and help.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FunctionInfo {
    /// Its name.
    pub name: String,
    /// `scalar`, `aggregate` or `window`.
    pub kind: &'static str,
    /// How it is called: `date_bin(interval, expression, origin)`.
    pub syntax: String,
    /// What it does, in a sentence or two.
    pub description: String,
}

/// All functions, by name.
pub fn functions() -> Vec<FunctionInfo> {
    functions::describe()
}
