//! The way of a statement from text to [`Statement`].

use std::panic::{AssertUnwindSafe, catch_unwind};

use datafusion_sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::bind::{self, Reader};
use crate::catalog::{Catalog, RelationKind};
use crate::diagnostic::{Diagnostic, Span};
use crate::limits::{MAX_SCRIPT_BYTES, MAX_STATEMENT_BYTES, PLANNING_STACK_BYTES, check_length, check_shape};
use crate::params::Params;
use crate::parse::{Altered, Parsed, QuerySyntax, parse};
use crate::statement::{AlterStream, CreateSink, CreateStream, CreateView, InsertInto, Statement};
use crate::text::{DIALECT, Text, is_space};
use crate::{StatementText, suggest};

/// What to write instead of LIMIT in what others read.
const IN_STREAM: &str = "leave LIMIT out here, and write it where the rows are read; ORDER BY … LIMIT 10 takes the first ones of each window";
/// What to write instead of LIMIT in a sink.
const IN_SINK: &str =
    "leave LIMIT out, and choose rows by WHERE; ORDER BY … LIMIT 10 takes the first ones of each window";

/// See [`crate::analyze`].
pub(crate) fn analyze(sql: &str, params: &Params, catalog: &dyn Catalog) -> Result<Statement, Vec<Diagnostic>> {
    check_length(sql, MAX_STATEMENT_BYTES, "a statement").map_err(|mistake| vec![mistake])?;
    let sql = sql.trim_end().trim_end_matches(';');
    let text = Text::read(sql).map_err(|mistake| vec![mistake])?.with_params(params)?;
    check_shape(&text).map_err(|mistake| vec![mistake])?;
    let work = || bind_statement(&text, catalog).map_err(|mistakes| placed(mistakes, &text));
    // Where this thread has less, there is another stack for so long.
    let planned =
        stacker::maybe_grow(PLANNING_STACK_BYTES, PLANNING_STACK_BYTES, || catch_unwind(AssertUnwindSafe(work)));
    planned.unwrap_or_else(|_| {
        Err(vec![
            Diagnostic::new("internal", "planning this statement failed in a way that is our mistake")
                .help("the log has the details; please report the statement"),
        ])
    })
}

/// Mistakes of which nothing says where in the text they are are those of all of it.
fn placed(mut mistakes: Vec<Diagnostic>, text: &Text<'_>) -> Vec<Diagnostic> {
    for mistake in mistakes.iter_mut().filter(|mistake| mistake.span.is_none()) {
        mistake.span = text.all_span();
    }
    mistakes
}

fn bind_statement(text: &Text<'_>, catalog: &dyn Catalog) -> Result<Statement, Vec<Diagnostic>> {
    let whole = || text.whole();
    let parsed = parse(text).map_err(|mistake| vec![mistake])?;
    Ok(match parsed {
        Parsed::Select(syntax) => Statement::Select(bind::query(&syntax, text, catalog, Reader::Client)?),
        Parsed::Explain(syntax, analyze) => {
            Statement::Explain { query: bind::query(&syntax, text, catalog, Reader::Client)?, analyze }
        }
        Parsed::CreateSource(source) => Statement::CreateSource(source),
        Parsed::CreateStream(named, options, syntax) => {
            without_since(&syntax, "a named stream")?;
            without_limit(&syntax, "a named stream", IN_STREAM)?;
            let query = bind::query(&syntax, text, catalog, Reader::Named("CREATE STREAM"))?;
            let (name, if_not_exists) = (named.name, named.if_not_exists);
            Statement::CreateStream(CreateStream { name, if_not_exists, options, query, sql: whole() })
        }
        Parsed::AlterStream(altered, syntax) => {
            without_since(&syntax, "a named stream")?;
            without_limit(&syntax, "a named stream", IN_STREAM)?;
            let query = bind::query(&syntax, text, catalog, Reader::Named("ALTER STREAM"))?;
            let Altered { name, span, if_exists, query_at } = altered;
            Statement::AlterStream(AlterStream { name, span, if_exists, query, query_at })
        }
        Parsed::CreateView(named, syntax) => {
            if let Some(emit) = &syntax.emit {
                let mistake = Diagnostic::new("invalid", "EMIT belongs to the query that reads a view").at(emit.span);
                return Err(vec![mistake.help("leave it out here")]);
            }
            if let Some(state_ttl) = &syntax.state_ttl {
                let mistake = Diagnostic::new("invalid", "STATE TTL belongs to the query that reads a view");
                return Err(vec![mistake.at(state_ttl.span).help("leave it out here")]);
            }
            without_since(&syntax, "a view")?;
            without_limit(&syntax, "a view", IN_STREAM)?;
            let query = bind::query(&syntax, text, catalog, Reader::Named("CREATE VIEW"))?;
            let (name, if_not_exists) = (named.name, named.if_not_exists);
            Statement::CreateView(CreateView { name, if_not_exists, query, sql: whole() })
        }
        Parsed::CreateSink(named, options, syntax) => {
            syntax.iter().try_for_each(|syntax| without_since(syntax, "a sink"))?;
            syntax.iter().try_for_each(|syntax| without_limit(syntax, "a sink", IN_SINK))?;
            let query = syntax.map(|syntax| bind::query(&syntax, text, catalog, Reader::Client)).transpose()?;
            let (name, if_not_exists) = (named.name, named.if_not_exists);
            Statement::CreateSink(CreateSink { name, if_not_exists, options, query, sql: whole() })
        }
        Parsed::InsertInto(sink, at, syntax) => {
            without_since(&syntax, "a sink")?;
            without_limit(&syntax, "a sink", IN_SINK)?;
            let missing = missing_sink(&sink, at, catalog);
            let query = bind::query(&syntax, text, catalog, Reader::Client);
            match (missing, query) {
                (None, Ok(query)) => Statement::InsertInto(InsertInto { sink, query }),
                (missing, query) => {
                    return Err(missing.into_iter().chain(query.err().into_iter().flatten()).collect());
                }
            }
        }
        Parsed::Drop(drop) => Statement::Drop(drop),
        Parsed::Show(show) => Statement::Show(show),
        Parsed::Describe(describe) => Statement::Describe(describe),
        Parsed::Kill(query) => Statement::Kill { query },
        Parsed::Promote(promote) => Statement::Promote(promote),
        Parsed::Pause(what) => Statement::Pause(what),
        Parsed::Resume(resume) => Statement::Resume(resume),
    })
}

/// Where to start is for those to say who read.
fn without_since(syntax: &QuerySyntax, what: &str) -> Result<(), Vec<Diagnostic>> {
    let Some(since) = &syntax.since else { return Ok(()) };
    let mistake = Diagnostic::new("misplaced", format!("{what} starts with the rows that come")).at(since.span);
    Err(vec![mistake.help("leave SINCE out here; a live query may say it of what it reads")])
}

/// How many rows are wanted, too.
fn without_limit(syntax: &QuerySyntax, what: &str, help: &str) -> Result<(), Vec<Diagnostic>> {
    let Some(limit) = &syntax.limit else { return Ok(()) };
    let mistake = Diagnostic::new("misplaced", format!("{what} does not end after some rows: LIMIT is its reader's"));
    Err(vec![mistake.at(limit.span).help(help)])
}

fn missing_sink(name: &str, at: Option<Span>, catalog: &dyn Catalog) -> Option<Diagnostic> {
    match catalog.relation(name) {
        Some(relation) if relation.kind == RelationKind::Sink => None,
        Some(_) => Some(
            Diagnostic::new("not_writable", format!("\"{name}\" is not a sink"))
                .at(at)
                .help("CREATE SINK name WITH (connector = 'file', path = '…') makes one"),
        ),
        None => {
            let mistake = Diagnostic::new("unknown_relation", format!("no sink \"{name}\"")).at(at);
            let names = catalog.names();
            let is_sink =
                |name: &&str| catalog.relation(name).is_some_and(|relation| relation.kind == RelationKind::Sink);
            let nearest = suggest::nearest(name, names.iter().map(String::as_str).filter(is_sink));
            Some(match nearest {
                Some(nearest) => mistake.help(format!("did you mean \"{nearest}\"?")),
                None => mistake.help("CREATE SINK name WITH (connector = 'file', path = '…') makes one"),
            })
        }
    }
}

/// See [`crate::split_statements`].
pub(crate) fn split(script: &str) -> Result<Vec<StatementText>, Vec<Diagnostic>> {
    check_length(script, MAX_SCRIPT_BYTES, "a script").map_err(|mistake| vec![mistake])?;
    Text::read(script).map_err(|mistake| vec![mistake])?;
    let mut statements = Vec::new();
    let mut piece = Piece { start: 0, filled: false };
    let mut at = Cursor { script, byte: 0, line: 1, column: 1 };
    let tokens = Tokenizer::new(&DIALECT, script).tokenize_with_location().unwrap_or_default();
    for token in &tokens {
        let start = at.advance(token.span.start.line, token.span.start.column);
        if token.token == Token::SemiColon {
            statements.extend(piece.cut(script, start));
            piece = Piece { start: start + 1, filled: false };
        } else if !is_space(&token.token) && token.token != Token::EOF {
            piece.filled = true;
        }
    }
    statements.extend(piece.cut(script, script.len()));
    Ok(statements)
}

/// A part of a script between semicolons.
struct Piece {
    start: usize,
    filled: bool,
}

impl Piece {
    fn cut(&self, script: &str, end: usize) -> Option<StatementText> {
        let text = &script[self.start..end];
        let start = self.start + (text.len() - text.trim_start().len());
        let sql = text.trim().to_owned();
        self.filled.then(|| StatementText { span: Span { start, end: start + sql.len() }, sql })
    }
}

/// Turns ascending lines and columns into bytes in one pass over a script.
struct Cursor<'s> {
    script: &'s str,
    byte: usize,
    line: u64,
    column: u64,
}

impl Cursor<'_> {
    fn advance(&mut self, line: u64, column: u64) -> usize {
        for c in self.script[self.byte..].chars() {
            if (self.line, self.column) >= (line, column) {
                break;
            }
            self.byte += c.len_utf8();
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_cut_at_semicolons_outside_texts_names_and_comments() {
        let script = "-- first; not\nSELECT ';' AS \"a;b\";\n\n /* ; */ ;\nSHOW STREAMS ; SELECT 'é;'";
        let cut = split(script).expect("cuts");
        let texts: Vec<&str> = cut.iter().map(|statement| statement.sql.as_str()).collect();
        assert_eq!(texts, ["-- first; not\nSELECT ';' AS \"a;b\"", "SHOW STREAMS", "SELECT 'é;'"]);
        for statement in &cut {
            assert_eq!(&script[statement.span.start..statement.span.end], statement.sql);
        }
        assert!(split("SELECT 'open").is_err());
        assert_eq!(split("  \n-- nothing\n").expect("cuts"), []);
    }
}
