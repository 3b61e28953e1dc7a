//! What to write where a statement could not be read on.

use datafusion_sql::sqlparser::tokenizer::Token;

use crate::diagnostic::Span;
use crate::suggest;
use crate::text::{Text, is_word, word};

/// Words of clauses that fingers slip on.
const CLAUSES: [&str; 18] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "HAVING",
    "ORDER",
    "LIMIT",
    "UNION",
    "JOIN",
    "DISTINCT",
    "INTERVAL",
    "BETWEEN",
    "PARTITION",
    "EMIT",
    "SINCE",
    "WINDOW",
    "VALUES",
    "WATERMARK",
];
/// Words that are shorter are near to everything.
const SHORTEST_SLIP: usize = 4;

/// How a `SELECT` is written.
const SELECT: &str = "a query is written SELECT … FROM … WHERE … GROUP BY … HAVING … ORDER BY … LIMIT … EMIT …, its \
                      clauses in this order";
const EMIT: &str = "EMIT is the last clause: EMIT ON WINDOW CLOSE, EMIT EVERY '1s', EMIT CHANGES or EMIT FINAL";

/// Help for a place where `wanted` was expected; `found`: what stands there instead, `None` at the end.
pub(super) fn help(text: &Text<'_>, wanted: &str, found: Option<Span>) -> String {
    let tokens = text.tokens();
    let at = found.and_then(|found| tokens.iter().position(|token| text.span(token.span) == Some(found)));
    let end = at.unwrap_or(tokens.len());
    let before = end.checked_sub(1).map(|before| &tokens[before].token);
    let here = at.map(|at| &tokens[at].token);
    let near = [here, before].into_iter().flatten();
    if near.clone().any(|token| is_word(token, "emit")) {
        return EMIT.to_owned();
    }
    if let Some(clause) = near.filter_map(slip).next() {
        return format!("did you mean {clause}?");
    }
    let open = tokens[..end].iter().fold(0_i32, |open, token| match token.token {
        Token::LParen => open + 1,
        Token::RParen => open - 1,
        _ => open,
    });
    match (here, before) {
        (None | Some(Token::SemiColon), _) if open > 0 => "close what was opened with (".to_owned(),
        (Some(Token::RParen), _) if open <= 0 => "leave this ) out, or open it with ( before".to_owned(),
        (_, Some(Token::Comma)) => "leave the comma before it out, or write what comes next in the list".to_owned(),
        (Some(_), _) if wanted == ")" => {
            "close with ) what was opened before, or write a comma or an operator between two values".to_owned()
        }
        _ if wanted == "AND" => "BETWEEN has two bounds: price BETWEEN 10 AND 20".to_owned(),
        (None, _) if wanted == "an expression" => "write a column, a value or a call here".to_owned(),
        (Some(Token::DoubleQuotedString(_)), _) => "texts stand in single quotes, names in double quotes".to_owned(),
        (Some(Token::Word(word)), _) if wanted == "a name" && word.quote_style.is_none() => {
            format!("a name that is a word of the language stands in double quotes: \"{}\"", word.value)
        }
        (Some(_), _) if wanted == "a name" => {
            "a name is of letters, digits and _, or stands in double quotes".to_owned()
        }
        _ => form(text).to_owned(),
    }
}

/// The clause that a word is nearly.
fn slip(token: &Token) -> Option<&'static str> {
    let word = word(token).filter(|word| word.len() >= SHORTEST_SLIP)?;
    let clause = suggest::nearest(&word, CLAUSES)?;
    (!clause.eq_ignore_ascii_case(&word)).then_some(clause)
}

/// How statements of this kind are written.
fn form(text: &Text<'_>) -> &'static str {
    let nth = |at: usize| text.tokens().get(at).and_then(|token| word(&token.token)).unwrap_or_default();
    match (nth(0).as_str(), nth(1).as_str()) {
        ("create", "source") => {
            "a source is written CREATE SOURCE name (id BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5 \
             seconds') WITH (connector = 'file', path = '…')"
        }
        ("create", "table") => {
            "a table is written CREATE TABLE name (id BIGINT, name VARCHAR, PRIMARY KEY (id)) WITH (connector = 'file', \
             path = '…')"
        }
        ("pause", _) => "write PAUSE STREAM name or PAUSE QUERY 'id'",
        ("resume", _) => "write RESUME STREAM name [FROM LATEST] or RESUME QUERY 'id'",
        ("create", "stream") => {
            "a stream is written CREATE STREAM name AS SELECT …, or CREATE STREAM name WITH (option = 'value') AS \
             SELECT …"
        }
        ("alter", _) => "write ALTER STREAM name AS SELECT …",
        ("create", "view") => "a view is written CREATE VIEW name AS SELECT …",
        ("create", "sink") => "a sink is written CREATE SINK name WITH (connector = 'file', path = '…') AS SELECT …",
        ("create", _) => "write CREATE SOURCE, TABLE, STREAM, VIEW or SINK, then a name",
        ("insert", _) => "write INSERT INTO sink SELECT …",
        ("drop", _) => "write DROP SOURCE, TABLE, STREAM, VIEW or SINK, then its name",
        ("show", _) => "write SHOW STREAMS, TABLES, JOBS, QUERIES, SOURCES, SINKS, VIEWS or LOSSES",
        ("describe" | "desc", _) => "write DESCRIBE name",
        ("explain", _) => "write EXPLAIN SELECT … or EXPLAIN ANALYZE '5s' SELECT …",
        ("kill", _) => "write KILL QUERY 'id'; SHOW QUERIES lists them",
        _ => SELECT,
    }
}
