//! Tokens in, a statement's syntax out.
//!
//! Our own statements are read here word by word; queries, expressions and types are read by `sqlparser`. Clauses
//! that it does not know (`EMIT`, `TABLE t` as an argument) are taken out of the tokens before it sees them, so
//! that all spans stay those of the text.

mod alter;
mod create;
mod emit;
mod help;
mod ksql;
mod limit;
mod partition;
mod pause;
mod promote;
mod sample;
mod shorthand;
mod since;
mod spellings;
mod state_ttl;
mod table;
mod within;

use std::time::Duration;

use datafusion_sql::sqlparser::ast;
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::diagnostic::{Diagnostic, Span};
use crate::duration;
use crate::statement::{CreateSource, Describe, DropKind, DropRelation, OptionValue, Pausable, Promote, Resume, Show};
use crate::text::{DIALECT, Text, is_word, word};

pub(crate) use alter::Altered;
pub(crate) use emit::{EmitKind, EmitSyntax};
pub(crate) use limit::LimitSyntax;
pub(crate) use partition::{FILL, PARTITION_BY};
pub(crate) use promote::without_reader;
pub(crate) use since::SinceSyntax;
pub(crate) use state_ttl::StateTtl;
pub(crate) use table::AS_OF;
pub(crate) use within::bounds as within;

/// Recursion that the parser allows itself; the shape of the text was checked before.
const PARSER_DEPTH: usize = 400;
/// How long `EXPLAIN ANALYZE` runs a query unless it says so, and at the most.
const ANALYZE_TIME: Duration = Duration::from_secs(3);
const MAX_ANALYZE_TIME: Duration = Duration::from_secs(60);

/// What to do with a query's clause in another statement.
const NOT_HERE: &str = "leave it out; SELECT … has it, and the SELECT of CREATE STREAM … AS";

/// A statement, read and not yet bound.
pub(crate) enum Parsed {
    /// `CREATE SOURCE`, complete.
    CreateSource(CreateSource),
    /// `CREATE STREAM … AS`.
    CreateStream(Named, Vec<OptionValue>, QuerySyntax),
    /// `ALTER STREAM … AS`.
    AlterStream(Altered, QuerySyntax),
    /// `CREATE VIEW … AS`.
    CreateView(Named, QuerySyntax),
    /// `CREATE SINK … WITH (…) [AS …]`.
    CreateSink(Named, Vec<OptionValue>, Option<QuerySyntax>),
    /// `INSERT INTO`.
    InsertInto(String, Option<Span>, QuerySyntax),
    /// `DROP`.
    Drop(DropRelation),
    /// `SHOW`.
    Show(Show),
    /// `DESCRIBE`.
    Describe(Describe),
    /// `EXPLAIN`.
    Explain(QuerySyntax, Option<Duration>),
    /// `KILL QUERY`.
    Kill(String),
    /// `CREATE STREAM … FROM QUERY`.
    Promote(Promote),
    /// `PAUSE`.
    Pause(Pausable),
    /// `RESUME`.
    Resume(Resume),
    /// A query.
    Select(QuerySyntax),
}

/// What a `CREATE` names.
pub(crate) struct Named {
    /// The name, folded.
    pub(crate) name: String,
    /// `IF NOT EXISTS` was said.
    pub(crate) if_not_exists: bool,
}

/// A query's syntax and its `EMIT` clause.
pub(crate) struct QuerySyntax {
    /// Its text, `EMIT` clause included.
    pub(crate) sql: String,
    /// What `sqlparser` read.
    pub(crate) query: Box<ast::Query>,
    /// The `EMIT` clause; `None`: there is none.
    pub(crate) emit: Option<EmitSyntax>,
    /// The `SINCE` clause; `None`: there is none.
    pub(crate) since: Option<SinceSyntax>,
    /// The `STATE TTL` clause; `None`: there is none.
    pub(crate) state_ttl: Option<StateTtl>,
    /// The `LIMIT` of a query without order; `None`: there is none.
    pub(crate) limit: Option<LimitSyntax>,
}

type Reads<T> = Result<T, Diagnostic>;

/// Reads one statement.
pub(crate) fn parse(text: &Text<'_>) -> Reads<Parsed> {
    let Some(first) = text.tokens().first() else {
        let end = text.sql().len();
        let whole = (end > 0).then_some(Span { start: 0, end });
        return Err(Diagnostic::new("syntax", "there is no statement here").at(whole).help("write SELECT … FROM …"));
    };
    let mut reader = Reader::new(text)?;
    let at = text.span(first.span);
    if matches!(first.token, Token::LParen) {
        return Ok(Parsed::Select(reader.query()?));
    }
    match word(&first.token).as_deref() {
        Some("select" | "with" | "values" | "from" | "table") => Ok(Parsed::Select(reader.query()?)),
        Some("create") => reader.create(),
        Some("insert") => reader.insert(),
        Some("drop") => reader.drop_relation(),
        Some("show") => reader.show(),
        Some("describe" | "desc") => reader.describe(),
        Some("explain") => reader.explain(),
        Some("kill") => reader.kill(),
        Some("pause") => reader.pause(),
        Some("resume") => reader.resume(),
        Some("set" | "reset") => Err(unsupported("there are no settings of a session", at).help(
            "a query says itself for how long it remembers what has no windows: SELECT … STATE TTL INTERVAL '2 hours'",
        )),
        Some("alter") => reader.alter(),
        Some("update" | "delete" | "merge" | "truncate") => {
            Err(unsupported("rows of a stream do not change", at)
                .help("a query makes a changed stream of an old one; ALTER STREAM name AS SELECT … gives a stream another query"))
        }
        _ => Err(expected("a statement", first, text).help(
            "statements start with SELECT, WITH, CREATE, ALTER STREAM, INSERT INTO, DROP, SHOW, DESCRIBE, EXPLAIN, PAUSE, RESUME or KILL QUERY",
        )),
    }
}

/// Reads an expression alone.
pub(crate) fn parse_expression(text: &Text<'_>) -> Reads<ast::Expr> {
    let mut reader = Reader::new(text)?;
    let expr = reader.parser.parse_expr().map_err(|error| reader.error(&error))?;
    reader.end()?;
    Ok(expr)
}

/// A diagnostic for what is not built.
pub(crate) fn unsupported(message: impl Into<String>, at: Option<Span>) -> Diagnostic {
    Diagnostic::new("unsupported", message).at(at)
}

fn expected(what: &str, found: &TokenWithSpan, text: &Text<'_>) -> Diagnostic {
    let (message, place) = match &found.token {
        Token::EOF => (format!("expected {what}, found the end"), None),
        token => (format!("expected {what}, found {}", quoted(&token.to_string())), text.span(found.span)),
    };
    Diagnostic::new("syntax", message).at(place.or_else(|| text.end_span())).help(help::help(text, what, place))
}

/// The parser's word for what it wanted, in ours.
fn plain(what: &str) -> &str {
    match what {
        "identifier" => "a name",
        "an expression:" | "an expression" => "an expression",
        other => other,
    }
}

fn quoted(token: &str) -> String {
    if token.starts_with(['"', '\'']) { token.to_owned() } else { format!("\"{token}\"") }
}

/// The folded name of an identifier.
pub(crate) fn fold(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The tokens of one statement, read from left to right.
struct Reader<'t> {
    text: &'t Text<'t>,
    parser: Parser<'static>,
    emit: Option<EmitSyntax>,
    since: Option<SinceSyntax>,
    state_ttl: Option<StateTtl>,
    limit: Option<LimitSyntax>,
}

impl<'t> Reader<'t> {
    fn new(text: &'t Text<'t>) -> Reads<Self> {
        let (tokens, state_ttl) = state_ttl::cut(text)?;
        let (tokens, emit) = emit::cut(tokens, text)?;
        let (tokens, since) = since::cut(text, tokens)?;
        let (tokens, limit) = limit::cut(tokens, text)?;
        let tokens = within::as_hints(ksql::into_group_by(tokens, text)?, text)?;
        let tokens = sample::with_keys(without_table_arguments(table::with_versions(tokens, text)?));
        let parser = Parser::new(&DIALECT).with_recursion_limit(PARSER_DEPTH).with_tokens_with_locations(tokens);
        Ok(Self { text, parser, emit, since, state_ttl, limit })
    }

    /// A diagnostic of what the parser says.
    fn error(&self, error: &ParserError) -> Diagnostic {
        let message = match error {
            ParserError::RecursionLimitExceeded => {
                return Diagnostic::new("limit", "the statement is nested too deeply")
                    .at(self.text.end_span())
                    .help("name an inner part with WITH or CREATE VIEW");
            }
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => message,
        };
        let (message, place) = match message.rfind(" at Line: ") {
            Some(at) => (&message[..at], place(&message[at..])),
            None => (message.as_str(), None),
        };
        let found = place.and_then(|(line, column)| self.text.token_at(line, column));
        let (message, wanted) = match message.strip_prefix("Expected: ").and_then(|rest| rest.rsplit_once(", found: "))
        {
            Some((what, "EOF")) => (format!("expected {}, found the end", plain(what)), plain(what)),
            Some((what, found)) => (format!("expected {}, found {}", plain(what), quoted(found)), plain(what)),
            None => {
                let first = message.chars().next().map_or(0, char::len_utf8);
                (message[..first].to_lowercase() + &message[first..], "")
            }
        };
        let span = found.or_else(|| self.text.end_span());
        Diagnostic::new("syntax", message).at(span).help(help::help(self.text, wanted, found))
    }

    fn expected(&self, what: &str) -> Diagnostic {
        expected(what, self.parser.peek_token_ref(), self.text)
    }

    fn peek_word(&self) -> Option<String> {
        word(&self.parser.peek_token_ref().token)
    }

    fn here(&self) -> Option<Span> {
        self.text.span(self.parser.peek_token_ref().span).or_else(|| self.text.end_span())
    }

    /// Takes the word if it is next.
    fn take(&mut self, expected: &str) -> bool {
        let found = is_word(&self.parser.peek_token_ref().token, expected);
        if found {
            self.parser.next_token();
        }
        found
    }

    fn expect_word(&mut self, expected: &str) -> Reads<()> {
        if self.take(expected) { Ok(()) } else { Err(self.expected(&expected.to_uppercase())) }
    }

    fn expect(&mut self, token: &Token) -> Reads<()> {
        if self.parser.consume_token(token) { Ok(()) } else { Err(self.expected(&format!("\"{token}\""))) }
    }

    /// A name of one part, folded, and its place.
    fn name(&mut self, what: &str) -> Reads<(String, Option<Span>)> {
        let at = self.here();
        if !matches!(self.parser.peek_token_ref().token, Token::Word(_)) {
            return Err(self.expected(what));
        }
        let ident = self.parser.parse_identifier().map_err(|error| self.error(&error))?;
        if ident.value.is_empty() {
            return Err(Diagnostic::new("syntax", "a name cannot be empty")
                .at(at)
                .help("write one between the quotes"));
        }
        if matches!(self.parser.peek_token_ref().token, Token::Period) {
            return Err(Diagnostic::new("syntax", "a name has one part only").at(self.here()).help("use _ instead"));
        }
        Ok((fold(&ident), at))
    }

    /// Nothing may follow.
    fn end(&self) -> Reads<()> {
        match self.parser.peek_token_ref().token {
            Token::EOF => Ok(()),
            _ => Err(self.expected("the end of the statement")),
        }
    }

    /// Nothing may follow, and no `EMIT` clause was there.
    fn end_without_emit(&self) -> Reads<()> {
        if let Some(emit) = &self.emit {
            return Err(Diagnostic::new("syntax", "EMIT belongs to a query").at(emit.span).help(NOT_HERE));
        }
        if let Some(since) = &self.since {
            return Err(Diagnostic::new("syntax", "SINCE belongs to a query").at(since.span).help(NOT_HERE));
        }
        if let Some(state_ttl) = &self.state_ttl {
            return Err(Diagnostic::new("syntax", "STATE TTL belongs to a query").at(state_ttl.span).help(NOT_HERE));
        }
        if let Some(limit) = &self.limit {
            let mistake = Diagnostic::new("syntax", "LIMIT belongs to a query").at(limit.span);
            return Err(mistake.help("leave it out; SELECT … has it"));
        }
        self.end()
    }

    /// The rest of the statement as a query.
    fn query(&mut self) -> Reads<QuerySyntax> {
        let start = self.here().map_or(0, |span| span.start);
        let mut query = self.parser.parse_query().map_err(|error| self.error(&error))?;
        self.end()?;
        spellings::read(&mut query, self.text.tokens());
        shorthand::expand(&mut query);
        let end = self.text.end_span().map_or(self.text.sql().len(), |span| span.end);
        let sql = self.text.slice(Span { start, end });
        Ok(QuerySyntax {
            sql,
            query,
            emit: self.emit.take(),
            since: self.since.take(),
            state_ttl: self.state_ttl.take(),
            limit: self.limit.take(),
        })
    }

    fn insert(&mut self) -> Reads<Parsed> {
        self.parser.next_token();
        self.expect_word("into")?;
        let (sink, at) = self.name("the name of a sink")?;
        if matches!(self.parser.peek_token_ref().token, Token::LParen) {
            return Err(unsupported("INSERT INTO takes no list of columns", self.here())
                .help("order and name the columns in the SELECT list"));
        }
        Ok(Parsed::InsertInto(sink, at, self.query()?))
    }

    fn drop_relation(&mut self) -> Reads<Parsed> {
        self.parser.next_token();
        let kind = match self.peek_word().as_deref() {
            Some("source" | "table") => DropKind::Source,
            Some("stream") => DropKind::Stream,
            Some("view") => DropKind::View,
            Some("sink") => DropKind::Sink,
            _ => return Err(self.expected("SOURCE, STREAM, VIEW or SINK")),
        };
        self.parser.next_token();
        let if_exists = self.take("if");
        if if_exists {
            self.expect_word("exists")?;
        }
        let (name, _) = self.name("a name")?;
        let cascade = self.take("cascade");
        if !cascade {
            self.take("restrict");
        }
        self.end_without_emit()?;
        Ok(Parsed::Drop(DropRelation { kind, name, if_exists, cascade }))
    }

    fn show(&mut self) -> Reads<Parsed> {
        self.parser.next_token();
        let show = match self.peek_word().as_deref() {
            Some("streams") => Show::Streams,
            Some("tables") => Show::Tables,
            Some("jobs") => Show::Jobs,
            Some("queries") => Show::Queries,
            Some("sources") => Show::Sources,
            Some("sinks") => Show::Sinks,
            Some("views") => Show::Views,
            Some("losses") => Show::Losses,
            _ => return Err(self.expected("STREAMS, TABLES, JOBS, QUERIES, SOURCES, SINKS, VIEWS or LOSSES")),
        };
        self.parser.next_token();
        self.end_without_emit()?;
        Ok(Parsed::Show(show))
    }

    fn describe(&mut self) -> Reads<Parsed> {
        self.parser.next_token();
        for kind in ["source", "stream", "view", "sink", "table"] {
            let name_follows = matches!(self.parser.peek_nth_token(1).token, Token::Word(_));
            if name_follows && self.take(kind) {
                break;
            }
        }
        let (name, span) = self.name("a name")?;
        self.end_without_emit()?;
        Ok(Parsed::Describe(Describe { name, span }))
    }

    fn explain(&mut self) -> Reads<Parsed> {
        self.parser.next_token();
        if ["verbose", "format"].iter().any(|name| self.peek_word().as_deref() == Some(name)) {
            let mistake = unsupported("EXPLAIN takes no option but ANALYZE", self.here());
            return Err(mistake.help("write EXPLAIN SELECT … or EXPLAIN ANALYZE SELECT …"));
        }
        let analyze = if self.take("analyze") { Some(self.analyze_time()?) } else { None };
        if !matches!(self.peek_word().as_deref(), Some("select" | "with"))
            && !matches!(self.parser.peek_token_ref().token, Token::LParen)
        {
            return Err(self.expected("SELECT").help("EXPLAIN tells what a query would run and share"));
        }
        Ok(Parsed::Explain(self.query()?, analyze))
    }

    /// `'5s'` or `INTERVAL '5' SECOND` behind `EXPLAIN ANALYZE`, or nothing.
    fn analyze_time(&mut self) -> Reads<Duration> {
        self.take("interval");
        let at = self.here();
        let Token::SingleQuotedString(value) = self.parser.peek_token_ref().token.clone() else {
            return Ok(ANALYZE_TIME);
        };
        self.parser.next_token();
        let unit = self.peek_word().filter(|word| !matches!(word.as_str(), "select" | "with"));
        if unit.is_some() {
            self.parser.next_token();
        }
        let wrong = |message: String, help: String| Diagnostic::new("invalid", message).at(at).help(help);
        let ns = duration::parse(&value, unit.as_deref()).map_err(|(message, help)| wrong(message, help))?;
        let time = Duration::from_nanos(u64::try_from(ns).unwrap_or_default());
        if time.is_zero() || time > MAX_ANALYZE_TIME {
            let message = format!("EXPLAIN ANALYZE runs a query for up to {} seconds", MAX_ANALYZE_TIME.as_secs());
            return Err(Diagnostic::new("limit", message).at(at).help("write EXPLAIN ANALYZE '5s' SELECT …"));
        }
        Ok(time)
    }

    fn kill(&mut self) -> Reads<Parsed> {
        self.parser.next_token();
        self.expect_word("query")?;
        let query = self.query_id(None)?;
        self.end_without_emit()?;
        Ok(Parsed::Kill(query))
    }
}

fn place(text: &str) -> Option<(u64, u64)> {
    let (line, column) = text.strip_prefix(" at Line: ")?.split_once(", Column: ")?;
    Some((line.parse().ok()?, column.trim().parse().ok()?))
}

/// Takes out the word `TABLE` of `TUMBLE(TABLE t, …)`, and writes `PARTITION BY …` in it as a call.
fn without_table_arguments(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let tokens = partition::as_calls(tokens);
    for (at, token) in tokens.iter().enumerate() {
        let after_open = partition::names_relation(&tokens, at);
        let before_name = tokens.get(at + 1).is_some_and(|next| matches!(next.token, Token::Word(_) | Token::LParen));
        if !(after_open && before_name && is_word(&token.token, "table")) {
            out.push(token.clone());
        }
    }
    out
}
