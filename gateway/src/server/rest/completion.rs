//! What an editor can complete.

use axum::Json;
use serde::Serialize;
use squilla_query::{ClauseInfo, clauses, functions};
use squilla_sources::{connectors, stream_options};
use utoipa::ToSchema;

/// Words of the language, beside names, functions and options.
const KEYWORDS: &[&str] = &[
    "ADVANCE",
    "ALL",
    "ALTER",
    "ANALYZE",
    "AND",
    "ANTI",
    "ARRAY",
    "AS",
    "ASC",
    "BERNOULLI",
    "BETWEEN",
    "BIGINT",
    "BOOLEAN",
    "BY",
    "CASCADE",
    "CASE",
    "CAST",
    "CHANGES",
    "CLOSE",
    "CREATE",
    "CROSS",
    "CUBE",
    "DATA",
    "DATE",
    "DAY",
    "DECIMAL",
    "DESC",
    "DESCRIBE",
    "DESCRIPTOR",
    "DISTINCT",
    "DOUBLE",
    "DROP",
    "ELSE",
    "EMIT",
    "END",
    "EVERY",
    "EXISTS",
    "EXPLAIN",
    "FALSE",
    "FETCH FIRST",
    "FILL",
    "FILTER",
    "FINAL",
    "FIRST",
    "FOR",
    "FOR SYSTEM_TIME AS OF",
    "FROM",
    "FULL",
    "GRACE",
    "GROUP",
    "GROUPING SETS",
    "HAVING",
    "HOP",
    "HOPPING",
    "HOUR",
    "IF",
    "IN",
    "INNER",
    "INSERT",
    "INT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOBS",
    "JOIN",
    "JSON",
    "KILL",
    "LAST",
    "LATERAL",
    "LATEST",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOSSES",
    "MINUTE",
    "MONTH",
    "NOT",
    "NULL",
    "NULLS",
    "ON",
    "OR",
    "ORDER",
    "ORDINALITY",
    "OUTER",
    "OVER",
    "PARTITION",
    "PAUSE",
    "PREVIOUS",
    "PRIMARY KEY",
    "QUALIFY",
    "QUERIES",
    "QUERY",
    "RESUME",
    "RIGHT",
    "ROLLUP",
    "SECOND",
    "SECONDS",
    "SELECT",
    "SEMI",
    "SHOW",
    "SINK",
    "SINKS",
    "SIZE",
    "SLIDE",
    "SOURCE",
    "SOURCES",
    "STATE",
    "STREAM",
    "STREAMS",
    "TABLE",
    "TABLES",
    "TABLESAMPLE",
    "THEN",
    "TIMECOL",
    "TIMESTAMP",
    "TRUE",
    "TTL",
    "TUMBLE",
    "TUMBLING",
    "UNION",
    "UNTIL",
    "USING",
    "VARCHAR",
    "VIEW",
    "VIEWS",
    "WATERMARK",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WINDOWEND",
    "WINDOWSTART",
    "WITH",
    "WITH TIES",
    "WITHIN",
];

/// What an editor can complete, beside streams and their columns.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Completion {
    /// Words of the language.
    keywords: Vec<&'static str>,
    /// Functions by name.
    functions: Vec<FunctionHelp>,
    /// Clauses and statements, each with an example.
    #[schema(value_type = Vec<Object>)]
    clauses: Vec<ClauseInfo>,
    /// Connectors and their options.
    connectors: Vec<ConnectorBody>,
    /// Options of `CREATE STREAM`, and what they do.
    #[schema(value_type = Vec<Vec<String>>)]
    stream_options: Vec<(&'static str, &'static str)>,
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
    Json(Completion {
        keywords: KEYWORDS.to_vec(),
        functions: functions.collect(),
        clauses: clauses(),
        connectors: connectors.collect(),
        stream_options: stream_options(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The words in capitals of a text, those in quotes and comments aside.
    fn words(sql: &str) -> BTreeSet<String> {
        let code = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
        let code: Vec<&str> = code.split('\'').step_by(2).collect();
        let code = code.join(" ");
        let words = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let capital = |word: &&str| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        words.filter(capital).map(str::to_owned).collect()
    }

    #[test]
    fn every_word_that_the_readme_teaches_can_be_completed() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let text = std::fs::read_to_string(path).expect("the README is there");
        let pages: Vec<&str> = text.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let taught = words(&pages.join("\n"));
        assert!(taught.len() > 60, "{} words", taught.len());
        let known: BTreeSet<String> = KEYWORDS.iter().flat_map(|word| word.split(' ')).map(str::to_owned).collect();
        let functions: BTreeSet<String> =
            functions().into_iter().map(|function| function.name.to_uppercase()).collect();
        let missing: Vec<&String> =
            taught.iter().filter(|word| !known.contains(*word) && !functions.contains(*word)).collect();
        assert!(missing.is_empty(), "completion does not know {missing:?}");
    }
}
