//! What an editor can complete.

use axum::Json;
use serde::Serialize;
use squilla_query::functions;
use squilla_sources::connectors;
use utoipa::ToSchema;

/// Words of the language, beside names, functions and options.
const KEYWORDS: &[&str] = &[
    "ALL",
    "AND",
    "ANTI",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASCADE",
    "CASE",
    "CAST",
    "CLOSE",
    "CREATE",
    "DESC",
    "DESCRIBE",
    "DESCRIPTOR",
    "DISTINCT",
    "DROP",
    "ELSE",
    "EMIT",
    "END",
    "EVERY",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FILTER",
    "FOR",
    "FOR SYSTEM_TIME AS OF",
    "FROM",
    "GRACE",
    "GROUP",
    "HAVING",
    "HOP",
    "IF",
    "IN",
    "INSERT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOBS",
    "KILL",
    "LIKE",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "PRIMARY KEY",
    "QUERIES",
    "QUERY",
    "SELECT",
    "SHOW",
    "SINK",
    "SINKS",
    "SOURCE",
    "SOURCES",
    "STATE",
    "STREAM",
    "STREAMS",
    "TABLE",
    "TABLES",
    "THEN",
    "TIMESTAMP",
    "TRUE",
    "TTL",
    "TUMBLE",
    "UNION",
    "VIEW",
    "VIEWS",
    "WATERMARK",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];

/// What an editor can complete, beside streams and their columns.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Completion {
    /// Words of the language.
    keywords: Vec<&'static str>,
    /// Functions by name.
    functions: Vec<FunctionHelp>,
    /// Connectors and their options.
    connectors: Vec<ConnectorBody>,
}

/// A function.
#[derive(Debug, Serialize, ToSchema)]
struct FunctionHelp {
    name: String,
    /// `scalar`, `aggregate` or `window`.
    kind: String,
    /// How it is called.
    syntax: String,
    /// What it does.
    description: String,
}

/// A connector.
#[derive(Debug, Serialize, ToSchema)]
struct ConnectorBody {
    name: String,
    /// What it does.
    description: String,
    /// Each option's name, and what it does.
    #[schema(value_type = Vec<Vec<String>>)]
    options: Vec<(&'static str, &'static str)>,
}

/// What an editor can complete.
#[utoipa::path(get, path = "/api/v1/completion", tag = "statements", responses((status = OK, body = Completion)))]
pub(super) async fn completion() -> Json<Completion> {
    let functions = functions().into_iter().map(|function| FunctionHelp {
        name: function.name,
        kind: function.kind.to_owned(),
        syntax: function.syntax,
        description: function.description,
    });
    let connectors = connectors().into_iter().map(|connector| ConnectorBody {
        name: connector.name.to_owned(),
        description: connector.description.to_owned(),
        options: connector.options,
    });
    Json(Completion { keywords: KEYWORDS.to_vec(), functions: functions.collect(), connectors: connectors.collect() })
}
