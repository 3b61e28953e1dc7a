//! `CREATE SOURCE | TABLE | STREAM | VIEW | SINK`.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_sql::sqlparser::ast;
use datafusion_sql::sqlparser::tokenizer::Token;

use super::{Named, Parsed, Reader, Reads, unsupported};
use crate::arrival_column::ArrivalColumn;
use crate::diagnostic::{Diagnostic, Span};
use crate::statement::{CreateSource, OptionValue, PrimaryKey, WatermarkClause};
use crate::types::{TYPES, column_type};

/// What can be said of a column that is no source's.
const COMPUTED: &str = "of computed columns there is name AS PROCTIME(), when the row arrived; compute others in a query; an \
                        event time in seconds or milliseconds since 1970 is declared as TIMESTAMP, WITH (timestamp_unit \
                        = 's')";

/// Columns that a source may declare.
const MAX_COLUMNS: usize = 1_000;

#[derive(Default)]
pub(super) struct Columns {
    fields: Vec<Field>,
    arrivals: Vec<ArrivalColumn>,
    watermark: Option<WatermarkClause>,
    pub(super) key: Option<PrimaryKey>,
}

impl Columns {
    /// Columns of the arrival have names of their own, and are neither the event time nor those of a look-up table.
    fn check_arrivals(&self) -> Reads<()> {
        for (at, column) in self.arrivals.iter().enumerate() {
            let name = &column.name;
            let known = self.fields.iter().any(|field| field.name() == name)
                || self.arrivals[..at].iter().any(|other| other.name == *name);
            if known {
                let message = format!("column \"{name}\" is declared twice");
                return Err(Diagnostic::new("invalid", message).at(column.span).help("give one of them another name"));
            }
            if self.key.is_some() {
                return Err(unsupported("a table with a key does not tell when its rows arrived", column.span)
                    .help("leave it out; a CREATE SOURCE can have it"));
            }
            if let Some(clause) = self.watermark.as_ref().filter(|clause| clause.column == *name) {
                let message = format!("\"{name}\" tells the arrival of rows, which has no watermark");
                return Err(Diagnostic::new("invalid", message).at(clause.span).help(format!(
                    "leave the clause out: windows over {name} go by the clock, TUMBLE(TABLE s, DESCRIPTOR({name}), …)"
                )));
            }
        }
        Ok(())
    }
}

impl Reader<'_> {
    pub(super) fn create(&mut self) -> Reads<Parsed> {
        self.parser.next_token();
        let at = self.here();
        if self.take("or") {
            return Err(unsupported("CREATE OR REPLACE is not available", at)
                .help("DROP the old one first; queries that read it would be ended"));
        }
        let kind = self.peek_word();
        let kind = match kind.as_deref() {
            Some(kind @ ("source" | "table" | "stream" | "view" | "sink")) => kind.to_owned(),
            Some("materialized") => {
                return Err(unsupported("CREATE MATERIALIZED VIEW is not available", at)
                    .help("CREATE STREAM name AS SELECT … runs a named query that others can read"));
            }
            Some("external" | "temporary" | "temp" | "unbounded" | "function" | "index" | "schema" | "database") => {
                return Err(unsupported(
                    format!("CREATE {} is not available", kind.unwrap_or_default().to_uppercase()),
                    at,
                )
                .help("CREATE SOURCE, STREAM, VIEW and SINK are"));
            }
            _ => return Err(self.expected("SOURCE, STREAM, VIEW or SINK")),
        };
        self.parser.next_token();
        let if_not_exists = self.take("if");
        if if_not_exists {
            self.expect_word("not")?;
            self.expect_word("exists")?;
        }
        let (name, _) = self.name("a name")?;
        let named = Named { name, if_not_exists };
        match kind.as_str() {
            "stream" | "view" => {
                if matches!(self.parser.peek_token_ref().token, Token::LParen) {
                    return Err(unsupported("a list of columns cannot be given here", self.here())
                        .help("name the columns in the SELECT list with AS"));
                }
                let options = if kind == "stream" { self.options()? } else { Vec::new() };
                if kind == "stream" && self.peek_word().as_deref() == Some("from") {
                    return self.promote(named.name);
                }
                self.expect_word("as")?;
                let query = self.query()?;
                Ok(if kind == "stream" {
                    Parsed::CreateStream(named, options, query)
                } else {
                    Parsed::CreateView(named, query)
                })
            }
            "sink" => {
                let options = self.options()?;
                let query = if self.take("as") { Some(self.query()?) } else { None };
                if query.is_none() {
                    self.end_without_emit()?;
                }
                Ok(Parsed::CreateSink(named, options, query))
            }
            kind => self.create_source(named, kind == "table"),
        }
    }

    fn create_source(&mut self, named: Named, table: bool) -> Reads<Parsed> {
        let mut columns = Columns::default();
        if self.parser.consume_token(&Token::LParen) {
            columns = self.columns()?;
        }
        if self.peek_word().as_deref() == Some("as") {
            return Err(Diagnostic::new("syntax", "a source is not a query's result")
                .at(self.here())
                .help("CREATE STREAM name AS SELECT … names a query"));
        }
        let options = self.options()?;
        self.end_without_emit()?;
        columns.check_arrivals()?;
        let Columns { fields, arrivals, watermark, key } = columns;
        if let Some(key) = key.as_ref().filter(|_| !table) {
            return Err(unsupported("a source has no key", key.span)
                .help("CREATE TABLE name (id BIGINT, …, PRIMARY KEY (id)) WITH (…) makes a table to look up in"));
        }
        let schema: Option<SchemaRef> = (!fields.is_empty()).then(|| Arc::new(Schema::new(fields)));
        if let (Some(schema), Some(clause)) = (&schema, &watermark) {
            crate::bind::watermark(clause, schema).map_err(|mut mistakes| mistakes.remove(0))?;
        }
        if let (Some(schema), Some(key)) = (&schema, &key) {
            key.check(schema)?;
        }
        Ok(Parsed::CreateSource(CreateSource {
            name: named.name,
            if_not_exists: named.if_not_exists,
            schema,
            arrivals,
            watermark,
            key,
            options,
            sql: self.text.whole(),
        }))
    }

    /// The list of columns after its opening parenthesis.
    fn columns(&mut self) -> Reads<Columns> {
        let mut columns = Columns::default();
        loop {
            let next = self.parser.peek_nth_token(1).token;
            if self.peek_word().as_deref() == Some("watermark") && super::is_word(&next, "for") {
                let clause = self.watermark()?;
                if columns.watermark.is_some() {
                    return Err(Diagnostic::new("invalid", "there are two WATERMARK clauses")
                        .at(clause.span)
                        .help("a source has one event time: leave one of them out"));
                }
                columns.watermark = Some(clause);
            } else if super::is_word(&next, "as") {
                columns.arrivals.push(self.arrival_column(columns.fields.len())?);
            } else if let Some(key) = self.key_clause()? {
                columns.set_key(key)?;
            } else {
                let at = self.here();
                let field = self.column(&mut columns)?;
                if columns.fields.iter().any(|other| other.name() == field.name()) {
                    return Err(Diagnostic::new("invalid", format!("column \"{}\" is declared twice", field.name()))
                        .at(at)
                        .help("give one of them another name"));
                }
                columns.fields.push(field);
            }
            if columns.fields.len() + columns.arrivals.len() > MAX_COLUMNS {
                return Err(Diagnostic::new("limit", format!("too many columns: the limit is {MAX_COLUMNS}"))
                    .at(self.here())
                    .help("declare those that are read; one of type JSON holds all the others"));
            }
            if self.parser.consume_token(&Token::RParen) {
                return Ok(columns);
            }
            if !self.parser.consume_token(&Token::Comma) {
                return Err(self.expected("\",\" or \")\""));
            }
        }
    }

    /// `name AS PROCTIME()`.
    fn arrival_column(&mut self, at: usize) -> Reads<ArrivalColumn> {
        let start = self.here();
        let (name, _) = self.name("a column's name")?;
        self.expect_word("as")?;
        let from = self.here();
        let expr = self.parser.parse_expr().map_err(|error| self.error(&error))?;
        let end = self.text.span(self.parser.get_current_token().span).or(from);
        let span = |start: Option<Span>| match (start, end) {
            (Some(start), Some(end)) => Some(Span { start: start.start, end: end.end }),
            _ => None,
        };
        if crate::bind::is_arrival(&expr) {
            return Ok(ArrivalColumn { name, at, span: span(start) });
        }
        Err(unsupported(format!("column \"{name}\" cannot be computed here"), span(from)).help(COMPUTED))
    }

    fn column(&mut self, columns: &mut Columns) -> Reads<Field> {
        let start = self.here();
        if matches!(self.peek_word().as_deref(), Some("unique" | "foreign" | "check")) {
            let next = self.parser.peek_nth_token(1).token;
            if matches!(next, Token::LParen) || super::is_word(&next, "key") {
                return Err(unsupported("rows from outside are not checked", start).help(
                    "of constraints there is PRIMARY KEY (id), by which later rows take the place of earlier ones",
                ));
            }
        }
        let (name, _) = self.name("a column's name")?;
        let at = self.here();
        if matches!(self.parser.peek_token_ref().token, Token::Comma | Token::RParen | Token::EOF) {
            return Err(self.expected(&format!("the type of column \"{name}\"")).help(TYPES));
        }
        let data_type = self.parser.parse_data_type().map_err(|error| self.error(&error))?;
        let data_type =
            column_type(&data_type).map_err(|message| Diagnostic::new("unknown_type", message).at(at).help(TYPES))?;
        let mut nullable = true;
        loop {
            let at = self.here();
            match self.peek_word().as_deref() {
                Some("not") => {
                    self.parser.next_token();
                    self.expect_word("null")?;
                    nullable = false;
                }
                Some("null") => {
                    self.parser.next_token();
                }
                Some("primary") => {
                    let span = self.primary_key_words()?;
                    columns.set_key(PrimaryKey { columns: vec![name.clone()], span })?;
                }
                Some("generated" | "as") => {
                    return Err(unsupported(format!("column \"{name}\" cannot be computed here"), at).help(COMPUTED));
                }
                Some(other @ ("default" | "unique" | "check" | "references" | "comment")) => {
                    return Err(unsupported(format!("{} cannot be said of a column", other.to_uppercase()), at)
                        .help("a column has a name, a type and NOT NULL; compute others in a query"));
                }
                _ => return Ok(Field::new(name, data_type, nullable)),
            }
        }
    }

    fn watermark(&mut self) -> Reads<WatermarkClause> {
        let start = self.here();
        self.parser.next_token();
        self.expect_word("for")?;
        let (column, _) = self.name("the event-time column")?;
        self.expect_word("as")?;
        let from = self.here();
        let _: ast::Expr = self.parser.parse_expr().map_err(|error| self.error(&error))?;
        let end = self.text.span(self.parser.get_current_token().span).or(from);
        let (Some(start), Some(from), Some(end)) = (start, from, end) else {
            return Err(self.expected("an expression"));
        };
        let expression = self.text.slice(Span { start: from.start, end: end.end });
        Ok(WatermarkClause { column, expression, span: Some(Span { start: start.start, end: end.end }) })
    }

    /// `WITH (name = value, …)`; which options are needed is for those to say who use them.
    fn options(&mut self) -> Reads<Vec<OptionValue>> {
        if !self.take("with") {
            return Ok(Vec::new());
        }
        self.expect(&Token::LParen)?;
        let mut options: Vec<OptionValue> = Vec::new();
        loop {
            let start = self.here();
            let name = self.option_name()?;
            self.expect(&Token::Eq)?;
            let (value, end) = self.option_value()?;
            let span = match (start, end) {
                (Some(start), Some(end)) => Some(Span { start: start.start, end: end.end }),
                _ => None,
            };
            if options.iter().any(|option| option.name == name) {
                return Err(Diagnostic::new("invalid", format!("option \"{name}\" is given twice"))
                    .at(span)
                    .help("leave one of them out"));
            }
            options.push(OptionValue { name, value, span });
            if self.parser.consume_token(&Token::RParen) {
                return Ok(options);
            }
            if !self.parser.consume_token(&Token::Comma) {
                return Err(self.expected("\",\" or \")\""));
            }
        }
    }

    fn option_name(&mut self) -> Reads<String> {
        let mut name = String::new();
        loop {
            match self.parser.peek_token_ref().token.clone() {
                Token::Word(word) => name.push_str(&word.value.to_lowercase()),
                Token::SingleQuotedString(text) => name.push_str(&text.to_lowercase()),
                _ => return Err(self.expected("the name of an option")),
            }
            self.parser.next_token();
            if !self.parser.consume_token(&Token::Period) {
                return Ok(name);
            }
            name.push('.');
        }
    }

    fn option_value(&mut self) -> Reads<(String, Option<Span>)> {
        let at = self.here();
        let sign = if self.parser.consume_token(&Token::Minus) { "-" } else { "" };
        let token = self.parser.peek_token_ref().token.clone();
        let value = match token {
            Token::SingleQuotedString(text) if sign.is_empty() => text,
            Token::Number(number, _) => format!("{sign}{number}"),
            Token::Word(word) if sign.is_empty() => word.value,
            _ => return Err(self.expected("a value").help("texts stand in single quotes: 'file'")),
        };
        let end = self.here().or(at);
        self.parser.next_token();
        Ok((value, end))
    }
}
