//! `FROM`: names, sub-queries and window table functions.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion_sql::sqlparser::ast;

use super::check::function_name;
use super::{Binder, Bound, Ctes, WindowColumn, Windowed, join};
use crate::catalog::{Relation, RelationKind, TimeAttribute};
use crate::diagnostic::{Diagnostic, Span};
use crate::named_windows::NamedWindows;
use crate::parse::{fold, unsupported, within};
use crate::suggest;
use crate::{WINDOW_END, WINDOW_START, WINDOW_TIME};

impl Binder<'_> {
    /// What a `SELECT` reads, and what is left of its WHERE to be applied to it.
    pub(super) fn from(&mut self, select: &ast::Select, ctes: &Ctes) -> Option<(Bound, Option<ast::Expr>)> {
        let Some((first, more)) = select.from.split_first() else {
            let at = self.text.span(select.select_token.0.span);
            self.refuse("a query without FROM is not available", at, "a query reads a stream: SELECT … FROM name");
            return None;
        };
        if !more.is_empty() || !first.joins.is_empty() {
            return self.joined(select, ctes).map(|bound| (bound, None));
        }
        self.check_first(&first.relation)?;
        let bound = self.factor(&first.relation, ctes)?;
        let Some(selection) = &select.selection else { return Some((bound, None)) };
        let (sub_queries, plain): (Vec<_>, Vec<_>) =
            join::conjuncts(selection).into_iter().partition(|condition| join::is_sub_query(condition));
        if sub_queries.is_empty() {
            return Some((bound, Some(selection.clone())));
        }
        let rest = join::all_of(plain);
        self.sub_queries(bound, &sub_queries, ctes).map(|bound| (bound, rest))
    }

    pub(super) fn factor(&mut self, factor: &ast::TableFactor, ctes: &Ctes) -> Option<Bound> {
        let at = self.place(factor);
        match factor {
            ast::TableFactor::Table {
                name, alias, args, sample, with_hints, version, partitions, json_path, ..
            } => {
                let hinted = !with_hints.is_empty() && within(factor).is_none();
                if hinted || version.is_some() || !partitions.is_empty() || json_path.is_some() {
                    self.refuse("a relation takes no options here", at, "write FROM name");
                }
                let bound = match args {
                    Some(_) if join::as_of(factor).is_some() => self.named(name, ctes),
                    Some(args) => self.table_function(&object_name(name), &args.args, at, ctes),
                    None => self.named(name, ctes),
                };
                let mut bound = self.aliased(bound?, alias.as_ref())?;
                if let Some(
                    ast::TableSampleKind::BeforeTableAlias(sample) | ast::TableSampleKind::AfterTableAlias(sample),
                ) = sample
                {
                    bound = self.sample(bound, sample, at)?;
                }
                Some(bound)
            }
            ast::TableFactor::Derived { subquery, alias, lateral, .. } => {
                if *lateral {
                    let help = "the items of a list have rows of their own by CROSS JOIN UNNEST(list) AS t (item), other streams \
                                by JOIN … ON";
                    self.refuse("LATERAL is not available", at, help);
                    return None;
                }
                let bound = self.query(subquery, ctes)?;
                let bound = Bound { qualifier: None, label: "the sub-query".into(), ..bound };
                self.aliased(bound, alias.as_ref())
            }
            ast::TableFactor::TableFunction { expr: ast::Expr::Function(function), alias } => {
                let ast::FunctionArguments::List(list) = &function.args else { return None };
                let bound = self.table_function(&function_name(function), &list.args, at, ctes)?;
                self.aliased(bound, alias.as_ref())
            }
            ast::TableFactor::NestedJoin { table_with_joins, alias } if table_with_joins.joins.is_empty() => {
                let bound = self.factor(&table_with_joins.relation, ctes)?;
                self.aliased(bound, alias.as_ref())
            }
            ast::TableFactor::NestedJoin { .. } => {
                self.refuse(
                    "joins in parentheses are not available",
                    at,
                    "write them one behind the other: FROM a JOIN b ON … JOIN c ON …",
                );
                None
            }
            _ => {
                let at = at.or_else(|| self.text.end_span());
                self.refuse(
                    "this is not available in FROM",
                    at,
                    "FROM takes a name, a sub-query, TUMBLE(TABLE …), HOP, CUMULATE, SESSION, COUNT_WINDOW or LATE(name)",
                );
                None
            }
        }
    }

    fn aliased(&mut self, bound: Bound, alias: Option<&ast::TableAlias>) -> Option<Bound> {
        match alias {
            Some(alias) => self.alias(bound, alias),
            None => Some(bound),
        }
    }

    /// A relation of the `WITH` clause or the catalog.
    pub(super) fn named(&mut self, name: &ast::ObjectName, ctes: &Ctes) -> Option<Bound> {
        let at = self.place(name);
        let name = object_name(name);
        let at = at.or_else(|| self.text.text_span(&name));
        if let Some(cte) = ctes.get(&name) {
            let label = format!("\"{name}\"");
            return cte.clone().map(|bound| Bound { qualifier: Some(name), joined: None, label, ..bound });
        }
        let Some(relation) = self.catalog.relation(&name) else {
            let names = self.catalog.names();
            let candidates = names.iter().chain(ctes.keys()).map(String::as_str);
            let mistake = Diagnostic::new("unknown_relation", format!("no source, stream or view \"{name}\"")).at(at);
            let nearest = suggest::nearest(&name, candidates);
            self.tell(match nearest {
                Some(nearest) => mistake.help(format!("did you mean \"{nearest}\"?")),
                None if names.is_empty() => mistake.help("CREATE SOURCE name WITH (connector = …) makes one"),
                None => mistake
                    .note(format!("there are: {}", suggest::list(names.iter().map(String::as_str))))
                    .help("SHOW STREAMS lists what can be read"),
            });
            return None;
        };
        let qualifier = Some(name.rsplit('.').next().unwrap_or(&name).to_owned());
        match &relation.kind {
            RelationKind::Source | RelationKind::Stream | RelationKind::Table { .. } => {
                Some(Bound { qualifier, ..scan(&relation) })
            }
            RelationKind::Changing { sql } => {
                let bound = self.view(&name, sql, true, at)?;
                Some(Bound { qualifier, joined: None, label: format!("stream \"{name}\""), ..bound })
            }
            RelationKind::View { sql } => {
                let bound = self.view(&name, sql, false, at)?;
                Some(Bound { qualifier, joined: None, label: format!("view \"{name}\""), ..bound })
            }
            RelationKind::Sink => {
                let mistake = Diagnostic::new("not_readable", format!("sink \"{name}\" takes rows and cannot be read"));
                self.tell(mistake.at(at).help("read what feeds it"));
                None
            }
        }
    }

    /// `TUMBLE(t, DESCRIPTOR(ts), …)` and what is not available of its kind.
    fn table_function(
        &mut self,
        name: &str,
        args: &[ast::FunctionArg],
        at: Option<Span>,
        ctes: &Ctes,
    ) -> Option<Bound> {
        let name = name.to_lowercase();
        if name == super::late::LATE {
            return self.late(args, at);
        }
        if !super::window::WINDOW_FUNCTIONS.contains(&name.as_str()) {
            let mistake = unsupported(format!("\"{name}(…)\" is not available in FROM"), at).help(
                "FROM takes a name, a sub-query, TUMBLE(TABLE …), HOP, CUMULATE, SESSION, COUNT_WINDOW or LATE(name)",
            );
            self.tell(mistake);
            return None;
        }
        let args = self.in_order(&name, args, at, false)?;
        let Some((input, rest)) = args.split_first() else {
            self.tell(super::window::wrong_arguments(&name, at));
            return None;
        };
        let bound = match input {
            ast::Expr::Identifier(ident) => self.named(&ast::ObjectName::from(vec![ident.clone()]), ctes),
            ast::Expr::CompoundIdentifier(parts) => self.named(&ast::ObjectName::from(parts.clone()), ctes),
            ast::Expr::Function(function) if function_name(function) == super::late::LATE => match &function.args {
                ast::FunctionArguments::List(list) => self.late(&list.args, at),
                _ => self.late(&[], at),
            },
            ast::Expr::Subquery(query) => {
                self.query(query, ctes).map(|bound| Bound { qualifier: None, label: "the sub-query".into(), ..bound })
            }
            _ => {
                self.tell(super::window::wrong_arguments(&name, at));
                None
            }
        }?;
        let (partition_by, rest) = self.partition_by(&name, rest, &bound, at)?;
        let call = self.window_call(&name, rest, at, true)?;
        let call = self.with_time(&bound, call)?;
        let bound = if call.by_arrival { self.by_arrival(bound, at)? } else { bound };
        let mut bound = self.assign(bound, call.spec, at)?;
        if let Some(window) = &mut bound.window {
            window.partition_by = Some(partition_by);
        }
        Some(bound)
    }
}

/// A dotted name, folded.
fn object_name(name: &ast::ObjectName) -> String {
    let parts = name.0.iter().filter_map(|part| part.as_ident()).map(fold);
    parts.collect::<Vec<_>>().join(".")
}

/// A source or stream with all its columns.
pub(super) fn scan(relation: &Relation) -> Bound {
    let kind = match relation.kind {
        RelationKind::Stream => "stream",
        RelationKind::Table { .. } => "table",
        _ => "source",
    };
    let has = |name: &str| relation.schema.field_with_name(name).is_ok();
    let times = match &relation.time {
        TimeAttribute::Column(column) => vec![column.clone()],
        TimeAttribute::Arrival => Vec::new(),
        TimeAttribute::WindowTime => {
            [WINDOW_TIME, WINDOW_END, WINDOW_START].into_iter().filter(|name| has(name)).map(str::to_owned).collect()
        }
    };
    Bound {
        plan: Arc::new(crate::arrival_column::scan(relation)),
        qualifier: None,
        joined: None,
        label: format!("{kind} \"{}\"", relation.name),
        times,
        window: relation.windows.as_ref().and_then(named_windows),
        replay: relation.replay,
        nodes: 1,
    }
}

/// The windows of a named stream's rows. Their starts are computed anew where groups are grouped again.
fn named_windows(windows: &NamedWindows) -> Option<Windowed> {
    let kinds =
        [(&windows.start, WindowColumn::Start), (&windows.end, WindowColumn::End), (&windows.time, WindowColumn::Time)];
    let columns: HashMap<_, _> =
        kinds.into_iter().flat_map(|(names, kind)| names.iter().map(move |name| (name.clone(), kind))).collect();
    (!columns.is_empty()).then_some(Windowed {
        spec: windows.spec,
        grouped: true,
        named: true,
        columns,
        partition_by: None,
    })
}

/// The three columns of freshly assigned windows.
pub(super) fn window_columns(spec: crate::WindowSpec, grouped: bool) -> Windowed {
    let columns = [
        (WINDOW_START.to_owned(), WindowColumn::Start),
        (WINDOW_END.to_owned(), WindowColumn::End),
        (WINDOW_TIME.to_owned(), WindowColumn::Time),
    ];
    Windowed { spec, grouped, named: false, columns: columns.into(), partition_by: None }
}
