//! What a client can submit.

use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};

use crate::arrival_column::ArrivalColumn;
use crate::catalog::RelationKind;
use crate::diagnostic::{Diagnostic, Span};
use crate::plan::Plan;

/// One statement, bound.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `CREATE SOURCE` and `CREATE TABLE`.
    CreateSource(CreateSource),
    /// `CREATE STREAM … AS SELECT …`.
    CreateStream(CreateStream),
    /// `ALTER STREAM … AS SELECT …`.
    AlterStream(AlterStream),
    /// `CREATE VIEW … AS SELECT …`.
    CreateView(CreateView),
    /// `CREATE SINK … WITH (…) [AS SELECT …]`.
    CreateSink(CreateSink),
    /// `INSERT INTO sink SELECT …`.
    InsertInto(InsertInto),
    /// `DROP SOURCE | TABLE | STREAM | VIEW | SINK`.
    Drop(DropRelation),
    /// `SHOW STREAMS | TABLES | JOBS | QUERIES | SOURCES | SINKS | VIEWS | LOSSES`.
    Show(Show),
    /// `DESCRIBE name`.
    Describe(Describe),
    /// `EXPLAIN [ANALYZE [interval]] SELECT …`.
    Explain {
        /// What is explained.
        query: Query,
        /// Run it for so long, and tell what it did; `None`: tell only what it would run.
        analyze: Option<Duration>,
    },
    /// `KILL QUERY id`.
    Kill {
        /// The id as `SHOW QUERIES` prints it.
        query: String,
    },
    /// `PAUSE STREAM | QUERY`.
    Pause(Pausable),
    /// `RESUME STREAM | QUERY [FROM LATEST]`.
    Resume(Resume),
    /// `CREATE STREAM name FROM QUERY id`.
    Promote(Promote),
    /// A live query.
    Select(Query),
}

/// A bound `SELECT`.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The text, without a trailing semicolon.
    pub sql: String,
    /// What it asks. Its schema's field names are the output columns.
    pub plan: Plan,
    /// When results are told. Belongs to the reader: it is not part of the plan.
    pub emit: Emit,
    /// Where its inputs start; `None`: where its reader says. Belongs to the reader, too.
    pub since: Option<Since>,
    /// Where its inputs end; `None`: they go on. Belongs to the reader, too.
    pub until: Option<Until>,
    /// After how many rows it is complete; `None`: it goes on. Belongs to the reader, too.
    pub limit: Option<u64>,
    /// The output columns by which running results replace each other (those of the window and of the group keys), of
    /// results that change or are told while they do; `analyze` refuses a query whose `SELECT` list lacks one. Empty
    /// otherwise, and where there is one group only.
    pub key: Vec<String>,
}

/// Where a query starts to read what its inputs have kept. It goes on with live rows, with no gap and no row twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With the first row that is kept.
    Earliest,
    /// With the rows that come from now on.
    Latest,
    /// So long before the inputs' clock.
    Ago(Duration),
    /// At an event time, in nanoseconds since 1970.
    Moment(i64),
}

/// Where a query ends that reads a piece of what its inputs have kept: rows and results whose event time is earlier are
/// told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// So long before the inputs' clock; zero: with what there is.
    Ago(Duration),
    /// At an event time, in nanoseconds since 1970.
    Moment(i64),
}

/// When a windowed query's results are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emit {
    /// Each window once, when it closes. The default; the only choice without windows.
    OnWindowClose,
    /// Running results of the groups that changed, every so often, and final ones at the close.
    Every(Duration),
    /// Every change of a group: row by row over bounded input, else those of the rows that arrived together as one.
    Changes,
}

impl Query {
    /// How its results are told: a result that changes and never closes is told while it does, once a second where
    /// nothing else was said, unless the reader waits for the end of bounded input.
    pub fn told(&self, waits_for_end: bool) -> Emit {
        match self.emit {
            Emit::OnWindowClose if !waits_for_end && self.plan.is_changing() => Emit::Every(Duration::from_secs(1)),
            emit => emit,
        }
    }
}

/// Definition of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSource {
    /// Its name.
    pub name: String,
    /// `IF NOT EXISTS` was said.
    pub if_not_exists: bool,
    /// The declared columns; `None`: to be inferred.
    pub schema: Option<SchemaRef>,
    /// Columns that tell when a row arrived: the source has none such, its readers find them.
    pub arrivals: Vec<ArrivalColumn>,
    /// The `WATERMARK FOR` clause; `None`: see [`crate::TimeAttribute`] for the default.
    pub watermark: Option<WatermarkClause>,
    /// The `PRIMARY KEY` of a table to look up in; `None`: it is a stream of rows.
    pub key: Option<PrimaryKey>,
    /// The `WITH (…)` options by lower-case name, in the order written.
    pub options: Vec<OptionValue>,
    /// The whole statement, to be kept and shown.
    pub sql: String,
}

/// `name = value` in a `WITH` clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionValue {
    /// Lower case.
    pub name: String,
    /// Unquoted text; numbers and booleans as written.
    pub value: String,
    /// Where the option stands, from its name to the end of its value.
    pub span: Option<Span>,
}

/// `WATERMARK FOR column AS expression`, not yet bound: the columns may have to be inferred first. See
/// [`crate::bind_watermark`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkClause {
    /// The event-time column.
    pub column: String,
    /// Text of the expression.
    pub expression: String,
    /// Where the clause stands.
    pub span: Option<Span>,
}

/// `PRIMARY KEY (column, …)`. The columns may have to be inferred first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrimaryKey {
    /// Names of the columns, in the order written.
    pub columns: Vec<String>,
    /// Where the clause stands.
    pub span: Option<Span>,
}

impl PrimaryKey {
    /// Checks that the columns are there and can be compared.
    ///
    /// # Errors
    /// What is wrong, with the clause's span.
    pub fn check(&self, schema: &Schema) -> Result<(), Diagnostic> {
        for name in &self.columns {
            let Ok(field) = schema.field_with_name(name) else {
                let mistake = Diagnostic::new("unknown_column", format!("no column \"{name}\"")).at(self.span);
                let names = schema.fields().iter().map(|field| field.name().as_str());
                return Err(match crate::suggest::nearest(name, names) {
                    Some(nearest) => mistake.help(format!("did you mean \"{nearest}\"?")),
                    None => mistake.help("PRIMARY KEY (id) names columns of the table"),
                });
            };
            if field.data_type().is_nested() || field.data_type().is_floating() {
                let kind = crate::types::sql_name(field.data_type());
                let mistake =
                    Diagnostic::new("type_mismatch", format!("column \"{name}\" cannot be a key: it is {kind}"));
                return Err(mistake.at(self.span).help("a key is of whole numbers, texts, dates or times"));
            }
        }
        Ok(())
    }
}

/// Definition of a named stream.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateStream {
    /// Its name.
    pub name: String,
    /// `IF NOT EXISTS` was said.
    pub if_not_exists: bool,
    /// `WITH` options in source order; their meaning belongs to the crate `sources`.
    pub options: Vec<OptionValue>,
    /// What it runs.
    pub query: Query,
    /// The whole statement.
    pub sql: String,
}

impl CreateStream {
    /// What it is to those who read it.
    pub fn kind(&self) -> RelationKind {
        kind_of(&self.query)
    }
}

/// Another definition of a named stream.
#[derive(Debug, Clone, PartialEq)]
pub struct AlterStream {
    /// Its name.
    pub name: String,
    /// Where the name stands.
    pub span: Option<Span>,
    /// `IF EXISTS` was said.
    pub if_exists: bool,
    /// What it runs from then on.
    pub query: Query,
    /// Where the query begins in the text.
    pub query_at: usize,
}

impl AlterStream {
    /// What it then is to those who read it.
    pub fn kind(&self) -> RelationKind {
        kind_of(&self.query)
    }
}

fn kind_of(query: &Query) -> RelationKind {
    if query.plan.is_changing() { RelationKind::Changing { sql: query.sql.clone() } } else { RelationKind::Stream }
}

/// Definition of a view. Its query has been bound once to find its mistakes.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateView {
    /// Its name.
    pub name: String,
    /// `IF NOT EXISTS` was said.
    pub if_not_exists: bool,
    /// What it stands for; `query.sql` is the text after `AS`.
    pub query: Query,
    /// The whole statement.
    pub sql: String,
}

/// Definition of a sink.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSink {
    /// Its name.
    pub name: String,
    /// `IF NOT EXISTS` was said.
    pub if_not_exists: bool,
    /// The `WITH (…)` options, as in [`CreateSource`].
    pub options: Vec<OptionValue>,
    /// What feeds it; `None`: later `INSERT INTO` statements do.
    pub query: Option<Query>,
    /// The whole statement.
    pub sql: String,
}

/// A query that feeds a sink.
#[derive(Debug, Clone, PartialEq)]
pub struct InsertInto {
    /// The sink.
    pub sink: String,
    /// What feeds it.
    pub query: Query,
}

/// `DROP kind [IF EXISTS] name [CASCADE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropRelation {
    /// What the user called it. `DROP TABLE` drops a source.
    pub kind: DropKind,
    /// Its name.
    pub name: String,
    /// `IF EXISTS` was said.
    pub if_exists: bool,
    /// `CASCADE` was said: what depends on it goes too.
    pub cascade: bool,
}

/// What a `DROP` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropKind {
    /// `SOURCE` or `TABLE`.
    Source,
    /// `STREAM`.
    Stream,
    /// `VIEW`.
    View,
    /// `SINK`.
    Sink,
}

/// What can rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pausable {
    /// A named stream.
    Stream {
        /// Its name.
        name: String,
        /// Where the name stands.
        span: Option<Span>,
    },
    /// A live query.
    Query {
        /// The id as `SHOW QUERIES` prints it.
        id: String,
    },
}

/// `RESUME STREAM name | QUERY id [FROM LATEST]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// What goes on.
    pub what: Pausable,
    /// It goes on with the rows that come then; otherwise from where it was.
    pub from_latest: bool,
}

/// A live query that becomes a named stream while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promote {
    /// The stream's name.
    pub name: String,
    /// The statement up to `FROM`: what stands before `AS` when the query's text follows.
    pub head: String,
    /// The query's id as `SHOW QUERIES` prints it.
    pub query: String,
    /// Where the id stands.
    pub span: Option<Span>,
}

/// What `SHOW` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Sources, tables and named streams.
    Streams,
    /// Tables with a key.
    Tables,
    /// Running jobs and their users.
    Jobs,
    /// Live queries.
    Queries,
    /// Sources.
    Sources,
    /// Sinks.
    Sinks,
    /// Views.
    Views,
    /// Rows that did not come to where they were wanted.
    Losses,
}

/// `DESCRIBE name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Describe {
    /// What to describe.
    pub name: String,
    /// Where the name stands.
    pub span: Option<Span>,
}
