//! A query's syntax and a catalog in; a [`Plan`], or all the mistakes that can be found at once, out.
//!
//! Binding is a walk: [`from`] makes a [`Bound`] relation, [`join`] one of several, [`select`] puts filters, windows,
//! groups and projections on it, [`union`] takes several together. Expressions are planned and typed by
//! DataFusion ([`expr`]); what plans they make is decided here.

mod arrival;
mod check;
mod coerce;
mod distinct;
mod emit;
mod expr;
mod fill;
mod from;
mod gather;
mod group;
mod join;
mod lambda;
mod late;
mod limit;
mod named_call;
mod names;
mod order;
mod rank;
mod rank_limit;
mod refusals;
mod running;
mod sample;
mod select;
mod sets;
mod state_ttl;
mod strip;
mod time_format;
mod track;
mod track_call;
mod track_windows;
mod union;
mod union_key;
mod unnest;
mod until;
mod window;
mod window_args;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion_common::{DFSchema, TableReference};
use datafusion_expr::Expr;
use datafusion_sql::sqlparser::ast::{self, Spanned};

use crate::catalog::Catalog;
use crate::diagnostic::{Diagnostic, Span};
use crate::limits::{MAX_PLAN_NODES, MAX_VIEW_DEPTH};
use crate::parse::{QuerySyntax, fold, parse, unsupported};
use crate::plan::{NamedExpr, Plan, WindowSpec};
use crate::statement::{Query, WatermarkClause};
use crate::text::Text;

use expr::Scope;
use state_ttl::TimeToLive;

pub(crate) use emit::{ranks_groups, running_key};
pub(crate) use expr::{columns, columns_with_repeats, default_name, substitute};
pub(crate) use sample::SAMPLE_BY;
pub(crate) use window::is_arrival;

/// Who will read the query's results.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A client or a sink, who may ask for running results.
    Client,
    /// A named stream or a view: final results only.
    Named(&'static str),
}

/// A relation as the clauses after it see it.
#[derive(Clone)]
struct Bound {
    plan: Arc<Plan>,
    /// The name that columns may be qualified with.
    qualifier: Option<String>,
    /// What the columns of several relations are called; `None`: there is one relation, and they are called as they are.
    joined: Option<join::Joined>,
    /// Kind and name, for messages: `source "bids"`.
    label: String,
    /// Columns that carry the rows' event time as it is, the best first.
    times: Vec<String>,
    /// The windows that rows are in, and the columns that tell them.
    window: Option<Windowed>,
    /// True when the relation's clock is a replay's.
    replay: bool,
    /// Nodes of the plan, counted as a tree.
    nodes: usize,
}

/// Windows and the columns that pass their bounds through.
#[derive(Clone)]
struct Windowed {
    spec: WindowSpec,
    /// True when rows were aggregated by window, so that each is in one window only.
    grouped: bool,
    /// True when they are those of a named stream, whose rows can be grouped without them too.
    named: bool,
    columns: HashMap<String, WindowColumn>,
    /// Of windows that rows make: what has windows of its own, over the columns of what they were assigned to. `None`:
    /// the keys of GROUP BY.
    partition_by: Option<Vec<Expr>>,
}

/// A column that tells something of a row's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WindowColumn {
    Start,
    End,
    Time,
}

/// Names that a `WITH` clause made.
type Ctes = HashMap<String, Option<Bound>>;

/// Binds a statement's query.
pub(crate) fn query(
    syntax: &QuerySyntax,
    text: &Text<'_>,
    catalog: &dyn Catalog,
    reader: Reader,
) -> Result<Query, Vec<Diagnostic>> {
    let since = syntax.since.as_ref().map(|clause| clause.since);
    let until = syntax.since.as_ref().and_then(|clause| clause.until);
    let mut binder = Binder::new(catalog, text);
    binder.time_to_live = TimeToLive::of(syntax.state_ttl);
    let bound = binder.query(&syntax.query, &Ctes::new());
    let bound = bound.filter(|bound| binder.check_gathered(&bound.plan));
    let (Some(bound), true) = (bound, binder.mistakes.is_empty()) else { return Err(binder.finish()) };
    if let Some(mistake) = running::misused(&bound.plan, text.end_span()) {
        return Err(vec![mistake]);
    }
    if let Some(mistake) = binder.time_to_live.unused(syntax.state_ttl) {
        return Err(vec![mistake]);
    }
    let plan = emit::with_grace(&bound.plan, syntax.emit.as_ref());
    let plan = crate::rewrite::rewrite(plan);
    match emit::emission(&plan, syntax.emit.as_ref(), reader, catalog) {
        Ok((emit, key)) => {
            until::check(until, &plan, emit)?;
            limit::check(syntax.limit, &plan, emit)?;
            let (until, limit) = (until.map(|(until, _)| until), syntax.limit.map(|limit| limit.rows));
            Ok(Query { sql: syntax.sql.clone(), plan, emit, since, until, limit, key })
        }
        Err(diagnostic) => Err(vec![Diagnostic { span: diagnostic.span.or(text.end_span()), ..diagnostic }]),
    }
}

/// Binds the expression of a `WATERMARK FOR` clause.
pub(crate) fn watermark(clause: &WatermarkClause, schema: &Schema) -> Result<Expr, Vec<Diagnostic>> {
    let place = |diagnostic: Diagnostic| Diagnostic { span: clause.span, ..diagnostic };
    let one = |diagnostic: Diagnostic| vec![place(diagnostic)];
    let help = "write WATERMARK FOR ts AS ts - INTERVAL '5 seconds'";
    let Ok(column) = schema.field_with_name(&clause.column) else {
        let nearest =
            crate::suggest::nearest(&clause.column, schema.fields().iter().map(|field| field.name().as_str()));
        let diagnostic = Diagnostic::new("unknown_column", format!("no column \"{}\"", clause.column));
        return Err(one(match nearest {
            Some(nearest) => diagnostic.help(format!("did you mean \"{nearest}\"?")),
            None => diagnostic.help(help),
        }));
    };
    if *column.data_type() != crate::timestamp_type() {
        let actual = crate::types::sql_name(column.data_type());
        let message = format!("the event-time column \"{}\" is a {actual}, not a TIMESTAMP", clause.column);
        return Err(one(Diagnostic::new("type_mismatch", message).help("declare it as TIMESTAMP")));
    }
    let text = Text::read(&clause.expression).map_err(one)?;
    crate::limits::check_shape(&text).map_err(one)?;
    let syntax = crate::parse::parse_expression(&text).map_err(one)?;
    let mut binder = Binder::new(&NoCatalog, &text);
    let Ok(fields) = DFSchema::try_from(schema.clone()) else {
        return Err(one(
            Diagnostic::new("invalid", "the columns' names are not unique").help("give each column a name of its own")
        ));
    };
    let scope = Scope::new(fields, "the source".to_owned(), "WATERMARK");
    let bound = binder.expr(&syntax, &scope);
    let Some(bound) = bound else { return Err(binder.finish().into_iter().map(place).collect()) };
    if bound.is_volatile() {
        let message = "the watermark must follow from the row";
        return Err(one(Diagnostic::new("invalid", message).help(help)));
    }
    match expr::data_type(&bound, &scope.schema) {
        Ok(data_type) if data_type == crate::timestamp_type() => Ok(crate::rewrite::simplify(bound, schema)),
        Ok(data_type) => {
            let message = format!("the watermark is a {}, not a TIMESTAMP", crate::types::sql_name(&data_type));
            Err(one(Diagnostic::new("type_mismatch", message).help(help)))
        }
        Err(message) => Err(one(Diagnostic::new("type_mismatch", message).help(help))),
    }
}

/// A catalog of nothing.
struct NoCatalog;

impl Catalog for NoCatalog {
    fn relation(&self, _name: &str) -> Option<crate::Relation> {
        None
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Binds one text; gathers its mistakes. A method that returns `None` has told why.
struct Binder<'a> {
    catalog: &'a dyn Catalog,
    text: &'a Text<'a>,
    mistakes: Vec<Diagnostic>,
    /// Names of the views that are being put in place, the outermost first.
    views: Vec<String>,
    /// Where windows that rows make are assigned.
    made_by_rows_at: Option<Span>,
    /// For how long what has no windows is remembered.
    time_to_live: TimeToLive,
}

impl<'a> Binder<'a> {
    fn new(catalog: &'a dyn Catalog, text: &'a Text<'a>) -> Self {
        let (mistakes, views) = (Vec::new(), Vec::new());
        Self { catalog, text, mistakes, views, made_by_rows_at: None, time_to_live: TimeToLive::default() }
    }
}

impl Binder<'_> {
    /// The mistakes in the order of the text, each once.
    fn finish(mut self) -> Vec<Diagnostic> {
        self.mistakes.sort_by_key(|mistake| mistake.span.map_or(usize::MAX, |span| span.start));
        let mut once: Vec<Diagnostic> = Vec::new();
        for mistake in self.mistakes {
            let same_place = |other: &Diagnostic| other.code == mistake.code && other.span == mistake.span;
            let of_a_wildcard = mistake.code == "not_grouped" && once.iter().any(same_place);
            if !once.contains(&mistake) && !of_a_wildcard {
                once.push(mistake);
            }
        }
        if once.is_empty() {
            once.push(Diagnostic::new("internal", "the query could not be bound"));
        }
        once
    }

    fn tell(&mut self, mistake: Diagnostic) {
        self.mistakes.push(mistake);
    }

    fn refuse(&mut self, message: impl Into<String>, at: Option<Span>, help: &str) {
        self.tell(unsupported(message, at).help(help));
    }

    fn place(&self, node: &impl Spanned) -> Option<Span> {
        self.text.whole_span(node.span())
    }

    /// A query with its `WITH` clause.
    fn query(&mut self, query: &ast::Query, outer: &Ctes) -> Option<Bound> {
        let mut ctes = outer.clone();
        if let Some(with) = &query.with {
            self.with_clause(with, &mut ctes);
        }
        self.refuse_tail(query);
        let tail = self.tail(query);
        match (query.body.as_ref(), tail) {
            (ast::SetExpr::Select(select), tail) => self.select(select, &ctes, tail.as_ref()),
            (body, None) => self.set_expr(body, &ctes),
            (body, Some(tail)) => {
                self.refuse_order(&tail);
                self.set_expr(body, &ctes)
            }
        }
    }

    fn with_clause(&mut self, with: &ast::With, ctes: &mut Ctes) {
        if with.recursive {
            let at = self.text.span(with.with_token.0.span);
            self.refuse("WITH RECURSIVE is not available", at, "a query over a stream cannot read its own result");
        }
        for cte in &with.cte_tables {
            let name = fold(&cte.alias.name);
            let bound = self.query(&cte.query, ctes);
            let bound = bound.and_then(|bound| self.alias(bound, &cte.alias));
            ctes.insert(name, bound);
        }
    }

    /// What may stand behind a query's body and is not built.
    fn refuse_tail(&mut self, query: &ast::Query) {
        let more = [
            (!query.locks.is_empty(), "FOR UPDATE"),
            (query.for_clause.is_some(), "FOR"),
            (query.settings.is_some(), "SETTINGS"),
            (query.format_clause.is_some(), "FORMAT"),
            (!query.pipe_operators.is_empty(), "the pipe |>"),
        ];
        for (said, what) in more {
            if said {
                let at = self.text.end_span();
                self.refuse(
                    format!("{what} is not available"),
                    at,
                    "a query ends with its WHERE, GROUP BY, HAVING or EMIT clause",
                );
            }
        }
    }

    fn set_expr(&mut self, body: &ast::SetExpr, ctes: &Ctes) -> Option<Bound> {
        match body {
            ast::SetExpr::Select(select) => self.select(select, ctes, None),
            ast::SetExpr::Query(query) => self.query(query, ctes),
            ast::SetExpr::SetOperation { .. } => self.union(body, ctes),
            ast::SetExpr::Values(_) => {
                let at = self.place(body);
                self.refuse("VALUES is not available", at, "a query reads a stream: SELECT … FROM name");
                None
            }
            _ => {
                let at = self.place(body).or_else(|| self.text.end_span());
                self.refuse("this is not available in a query", at, "a query reads a stream: SELECT … FROM name");
                None
            }
        }
    }

    /// The relation under another name, and its columns too when the alias lists them.
    fn alias(&mut self, mut bound: Bound, alias: &ast::TableAlias) -> Option<Bound> {
        let name = fold(&alias.name);
        bound.label = format!("\"{name}\"");
        bound.qualifier = Some(name);
        bound.joined = None;
        if alias.columns.is_empty() {
            return Some(bound);
        }
        let fields = bound.plan.schema().fields().clone();
        if alias.columns.len() != fields.len() {
            let message = format!("there are {} names for {} columns", alias.columns.len(), fields.len());
            let at = self.place(alias);
            self.tell(Diagnostic::new("invalid", message).at(at).help("give each column a name, or none"));
            return None;
        }
        let exprs = fields
            .iter()
            .zip(&alias.columns)
            .map(|(field, column)| NamedExpr { expr: column_of(field.name()), name: fold(&column.name) });
        let exprs = exprs.collect();
        let at = self.place(alias);
        self.project(bound, exprs, at)
    }

    /// Puts a projection on top; column passages of event time and windows are kept in mind.
    fn project(&mut self, bound: Bound, exprs: Vec<NamedExpr>, at: Option<Span>) -> Option<Bound> {
        let mut names = HashSet::with_capacity(exprs.len());
        for item in &exprs {
            if !names.insert(item.name.as_str()) {
                let message = format!("two columns are named \"{}\"", item.name);
                self.tell(Diagnostic::new("duplicate_column", message).at(at).help("give one another name with AS"));
                return None;
            }
        }
        let scope = DFSchema::try_from(bound.plan.schema().as_ref().clone()).ok()?;
        let known: HashMap<&str, &FieldRef> =
            bound.plan.schema().fields().iter().map(|field| (field.name().as_str(), field)).collect();
        let mut fields: Vec<FieldRef> = Vec::with_capacity(exprs.len());
        for item in &exprs {
            let passed = match &item.expr {
                Expr::Column(column) => known.get(column.name.as_str()),
                _ => None,
            };
            let field = match passed {
                Some(field) => Ok(Arc::new(Field::new(&item.name, field.data_type().clone(), field.is_nullable()))),
                None => expr::field(&item.expr, &item.name, &scope),
            };
            match field {
                Ok(field) => fields.push(field),
                Err(message) => {
                    self.tell(Diagnostic::new("type_mismatch", message).at(at));
                    return None;
                }
            }
        }
        let passed = |wanted: &str| -> Vec<String> {
            let passes = |item: &&NamedExpr| matches!(&item.expr, Expr::Column(column) if column.name == wanted);
            exprs.iter().filter(passes).map(|item| item.name.clone()).collect()
        };
        let times = bound.times.iter().flat_map(|time| passed(time)).collect();
        let window = bound.window.clone().map(|window| Windowed {
            columns: window
                .columns
                .iter()
                .flat_map(|(name, column)| passed(name).into_iter().map(|name| (name, *column)))
                .collect(),
            ..window
        });
        let plan = Plan::Project { input: Arc::clone(&bound.plan), exprs, schema: Arc::new(Schema::new(fields)) };
        self.grown(Bound { plan: Arc::new(plan), times, window, nodes: bound.nodes + 1, ..bound }, at)
    }

    /// The relation, unless its plan is too large.
    fn grown(&mut self, bound: Bound, at: Option<Span>) -> Option<Bound> {
        if bound.nodes <= MAX_PLAN_NODES {
            return Some(bound);
        }
        let message = format!("the plan has more than {MAX_PLAN_NODES} steps once every name is put in place");
        self.tell(Diagnostic::new("limit", message).at(at).help("CREATE STREAM names a step and runs it once"));
        None
    }

    /// A view's query in place of its name; with its time to live, of a named stream that changes.
    fn view(&mut self, name: &str, sql: &str, own_time: bool, at: Option<Span>) -> Option<Bound> {
        if self.views.iter().any(|view| view == name) || self.views.len() >= MAX_VIEW_DEPTH {
            let message = format!("view \"{name}\" stands on itself, or on more than {MAX_VIEW_DEPTH} views");
            self.tell(Diagnostic::new("limit", message).at(at).help("DROP VIEW and CREATE VIEW it anew"));
            return None;
        }
        let broken = |mistake: &Diagnostic| {
            let diagnostic =
                Diagnostic::new("broken_view", format!("view \"{name}\" no longer holds: {}", mistake.message));
            diagnostic.at(at).help("DROP VIEW and CREATE VIEW it anew")
        };
        let bound = Text::read(sql).and_then(|text| {
            crate::limits::check_shape(&text)?;
            let crate::parse::Parsed::Select(syntax) = parse(&text)? else {
                return Err(Diagnostic::new("syntax", "it is not a query"));
            };
            let mut views = self.views.clone();
            views.push(name.to_owned());
            let time_to_live = if own_time { TimeToLive::of(syntax.state_ttl) } else { self.time_to_live };
            let mut binder = Binder { views, made_by_rows_at: at, time_to_live, ..Binder::new(self.catalog, &text) };
            let bound = binder.query(&syntax.query, &Ctes::new());
            if !own_time {
                self.time_to_live = binder.time_to_live;
            }
            match (bound, binder.mistakes.is_empty()) {
                (Some(bound), true) => Ok(bound),
                _ => Err(binder.finish().remove(0)),
            }
        });
        match bound {
            Ok(bound) => Some(bound),
            Err(mistake) => {
                self.tell(broken(&mistake));
                None
            }
        }
    }
}

impl Bound {
    fn schema(&self) -> &SchemaRef {
        self.plan.schema()
    }

    /// What expressions over this relation may name.
    fn scope(&self, clause: &'static str) -> Option<Scope> {
        let schema = self.schema();
        let fields = match &self.qualifier {
            Some(qualifier) => DFSchema::try_from_qualified_schema(TableReference::bare(qualifier.as_str()), schema),
            None => DFSchema::try_from(schema.as_ref().clone()),
        };
        let (qualifier, joined) = (self.qualifier.clone(), self.joined.clone());
        Some(Scope { qualifier, joined, ..Scope::new(fields.ok()?, self.label.clone(), clause) })
    }
}

/// A reference to a column of the input.
pub(crate) fn column_of(name: &str) -> Expr {
    Expr::Column(datafusion_common::Column::new_unqualified(name))
}
