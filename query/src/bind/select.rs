//! One `SELECT`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::DFSchema;
use datafusion_expr::Expr;
use datafusion_sql::sqlparser::ast::{self, Spanned};

use super::expr::{Scope, default_name};
use super::group::{Grouping, has_aggregate};
use super::join::JoinedColumn;
use super::names::{MAX_EXPANDED_NODES, expand_aliases, nodes};
use super::order::Tail;
use super::rank::{Hidden, Ranking, over};
use super::rank_limit::limited;
use super::{Binder, Bound, Ctes, column_of, named_call, unnest};
use crate::diagnostic::{Diagnostic, Span};
use crate::parse::fold;
use crate::plan::{NamedExpr, Plan};
use crate::{WINDOW_END, WINDOW_START, timestamp_type};

/// An expression of the `SELECT` list, wildcards expanded.
pub(super) struct Item {
    /// Its syntax.
    pub(super) syntax: ast::Expr,
    /// The column that it makes.
    pub(super) name: String,
    /// It was named with AS.
    pub(super) alias: bool,
}

impl Binder<'_> {
    /// Binds a `SELECT` without what may follow it.
    pub(super) fn select(&mut self, select: &ast::Select, ctes: &Ctes, tail: Option<&Tail>) -> Option<Bound> {
        self.refuse_parts(select);
        let named = named_call::put_in_place(select);
        let select = named.as_ref().unwrap_or(select);
        let cut = unnest::cut(select);
        let (select, lists) = cut.as_ref().map_or((select, None), |(select, lists)| (select, Some(lists)));
        let (bound, selection) = self.from(select, ctes)?;
        let bound = self.unnest_all(bound, lists.map(|lists| lists.from.as_slice()))?;
        let grouping = self.grouping(select, &bound);
        let mut bound = bound;
        if let Some(condition) = &selection {
            let scope = bound.scope("WHERE")?;
            if let Some(predicate) = self.condition(condition, &scope) {
                bound = filter(bound, predicate);
            }
        }
        bound = self.unnest_all(bound, lists.map(|lists| lists.listed.as_slice()))?;
        let mut grouping = grouping?;
        bound = self.put_in_windows(bound, &grouping)?;
        let mut items = self.items(select, &bound);
        let tracking = self.tracking(select, tail, &mut items, &grouping, &bound).ok()?;
        let keys = self.resolve_keys(&mut grouping, &items, &bound);
        let scope = self.select_scope(&bound, grouping.short_form.is_some(), "SELECT")?;
        let mut exprs = Vec::with_capacity(items.len());
        for item in items.iter().filter(|item| over(&item.syntax).is_none()) {
            let syntax = grouping.in_place(&item.syntax);
            exprs.push(self.expr(&syntax, &scope).map(|expr| NamedExpr { expr, name: item.name.clone() }));
        }
        let having = select.having.as_ref().map(|having| self.having(having, &grouping, &items, &bound));
        let exprs = exprs.into_iter().collect::<Option<Vec<_>>>()?;
        keys?;
        let having = match having {
            Some(None) => return None,
            having => having.flatten(),
        };
        let (at, list_at) = (self.place(select), self.list_span(select));
        let mut hidden = Hidden::new(exprs, &items);
        let ranked = |binder: &mut Self, hidden: &mut Hidden| {
            binder.ranking(select, &items, &scope, &grouping, &bound, hidden).ok()
        };
        let ranking = if tracking.is_some() { None } else { ranked(self, &mut hidden)? };
        let order = self.order_of(select, tail, &items, &scope, &grouping, &bound, &mut hidden)?;
        let mut bound = self.listed(bound, grouping, hidden.exprs(), having, list_at)?;
        bound.joined = None;
        let ranked = ranking.is_some() || hidden.any();
        let place = ranking.as_ref().and_then(|ranking| ranking.spec.place());
        if let Some(ranking) = ranking {
            bound = self.rank(bound, ranking)?;
        }
        if let (Some(qualify), None) = (&select.qualify, &tracking) {
            bound = self.qualify(bound, qualify, &items)?;
        }
        if let Some(ast::Distinct::Distinct) = &select.distinct {
            bound = self.distinct(bound, at)?;
        }
        let ordered = order.is_some();
        if let Some(order) = order {
            bound = self.rank(bound, order)?;
        }
        if ranked {
            // Ranks without windows bring the column by which their rows replace each other.
            let names = items.iter().map(|item| &item.name).chain(&place);
            let shown = names.map(|name| NamedExpr { expr: column_of(name), name: name.clone() }).collect();
            bound = self.project(bound, shown, list_at)?;
        }
        if let Some(tracking) = tracking {
            bound = self.track(bound, tracking, ordered)?;
        }
        Some(Bound { qualifier: None, label: "the query".into(), ..bound })
    }

    /// The `SELECT` list, over groups when there are any.
    fn listed(
        &mut self,
        bound: Bound,
        grouping: Grouping,
        exprs: Vec<NamedExpr>,
        having: Option<Expr>,
        at: Option<Span>,
    ) -> Option<Bound> {
        let aggregated = grouping.said || having.is_some() || exprs.iter().any(|item| has_aggregate(&item.expr));
        if aggregated { self.grouped(bound, grouping, exprs, having, at) } else { self.project(bound, exprs, at) }
    }

    /// The ranking that DISTINCT ON or what stands behind the query asks for.
    #[expect(clippy::too_many_arguments, reason = "all that a SELECT has found out so far")]
    fn order_of(
        &mut self,
        select: &ast::Select,
        tail: Option<&Tail>,
        items: &[Item],
        scope: &Scope,
        grouping: &Grouping,
        bound: &Bound,
        hidden: &mut Hidden,
    ) -> Option<Option<Ranking>> {
        if let Some(ast::Distinct::On(on)) = &select.distinct {
            return self.distinct_on(on, tail, items, scope, grouping, bound, hidden).map(Some);
        }
        let Some(tail) = tail else { return Some(None) };
        let before = hidden.exprs().len();
        let order = self.order(tail, items, scope, grouping, bound, hidden).ok()?;
        if select.distinct.is_some() && hidden.computes(before, bound) {
            let at = self.place(select);
            self.refuse("SELECT DISTINCT is ordered by columns that it selects", at, "select what ORDER BY names");
            return None;
        }
        Some(order)
    }

    fn list_span(&self, select: &ast::Select) -> Option<Span> {
        let spans = select.projection.iter().filter_map(|item| self.text.whole_span(item.span()));
        spans.reduce(|left, right| Span { start: left.start.min(right.start), end: left.end.max(right.end) })
    }

    /// Parts of a `SELECT` that are not built.
    fn refuse_parts(&mut self, select: &ast::Select) {
        let parts = [
            (select.top.is_some(), "TOP"),
            (select.into.is_some(), "INTO"),
            (!select.lateral_views.is_empty(), "LATERAL VIEW"),
            (select.prewhere.is_some(), "PREWHERE"),
            (!select.connect_by.is_empty(), "CONNECT BY"),
            (!select.cluster_by.is_empty(), "CLUSTER BY"),
            (!select.distribute_by.is_empty(), "DISTRIBUTE BY"),
            (!select.sort_by.is_empty(), "SORT BY"),
            (!select.named_window.is_empty(), "WINDOW"),
            (select.value_table_mode.is_some(), "SELECT AS"),
            (select.exclude.is_some(), "EXCLUDE behind the list"),
            (select.select_modifiers.is_some(), "this word behind SELECT"),
            (select.flavor != ast::SelectFlavor::Standard, "FROM before SELECT"),
        ];
        for (said, what) in parts {
            if said {
                let at = self.text.span(select.select_token.0.span);
                self.refuse(
                    format!("{what} is not available"),
                    at,
                    "a query is SELECT … FROM … WHERE … GROUP BY … HAVING … EMIT …",
                );
            }
        }
    }

    /// The `SELECT` list with wildcards expanded.
    fn items(&mut self, select: &ast::Select, bound: &Bound) -> Vec<Item> {
        let mut items = Vec::new();
        if select.projection.is_empty() {
            let at = self.text.span(select.select_token.0.span);
            self.tell(
                Diagnostic::new("syntax", "the SELECT list is empty").at(at).help("name columns, or write SELECT *"),
            );
        }
        for item in &select.projection {
            match item {
                ast::SelectItem::UnnamedExpr(syntax) => {
                    items.push(Item { syntax: syntax.clone(), name: default_name(syntax), alias: false });
                }
                ast::SelectItem::ExprWithAlias { expr, alias } => {
                    items.push(Item { syntax: expr.clone(), name: fold(alias), alias: true });
                }
                ast::SelectItem::Wildcard(options) => self.wildcard(item, options, bound, None, &mut items),
                ast::SelectItem::QualifiedWildcard(kind, options) => {
                    let qualifier = kind.to_string().trim_end_matches(".*").to_lowercase();
                    self.qualified_wildcard(item, &qualifier, options, bound, &mut items);
                }
                ast::SelectItem::ExprWithAliases { .. } => {
                    let at = self.place(item);
                    self.refuse("several names for one expression are not available", at, "write expression AS name");
                }
            }
        }
        items
    }

    fn qualified_wildcard(
        &mut self,
        item: &ast::SelectItem,
        qualifier: &str,
        options: &ast::WildcardAdditionalOptions,
        bound: &Bound,
        items: &mut Vec<Item>,
    ) {
        let names = bound.names();
        let mut known: Vec<&str> = names.iter().filter_map(|column| column.qualifier.as_deref()).collect();
        known.dedup();
        if known.contains(&qualifier) {
            self.wildcard(item, options, bound, Some(qualifier), items);
            return;
        }
        let at = self.place(item);
        let mistake = Diagnostic::new("unknown_relation", format!("\"{qualifier}\" is not what FROM reads"));
        let choices: Vec<String> = known.iter().map(|name| format!("{name}.*")).collect();
        self.tell(match choices.is_empty() {
            false => mistake.at(at).help(format!("write {} or *", choices.join(", "))),
            true => mistake.at(at).help("write *"),
        });
    }

    /// The columns that `*` stands for, or with `of` those of one relation.
    fn wildcard(
        &mut self,
        item: &ast::SelectItem,
        options: &ast::WildcardAdditionalOptions,
        bound: &Bound,
        of: Option<&str>,
        items: &mut Vec<Item>,
    ) {
        let at = self.place(item);
        if options.opt_ilike.is_some() || options.opt_rename.is_some() || options.opt_alias.is_some() {
            self.refuse("* takes EXCEPT (…), EXCLUDE (…) or REPLACE (…) only", at, "name the columns you want");
            return;
        }
        let replaced = options.opt_replace.iter().flat_map(|replace| &replace.items);
        let replaced: Vec<(String, &ast::ReplaceSelectElement)> =
            replaced.map(|item| (fold(&item.column_name), item.as_ref())).collect();
        let mut left_out: Vec<ast::Ident> = Vec::new();
        if let Some(except) = &options.opt_except {
            left_out.push(except.first_element.clone());
            left_out.extend(except.additional_elements.iter().cloned());
        }
        let names = |name: &ast::ObjectName| name.0.last().and_then(|part| part.as_ident()).cloned();
        match &options.opt_exclude {
            Some(ast::ExcludeSelectItem::Single(name)) => left_out.extend(names(name)),
            Some(ast::ExcludeSelectItem::Multiple(list)) => left_out.extend(list.iter().filter_map(names)),
            None => {}
        }
        let columns = bound.names();
        let wanted = |column: &&JoinedColumn| of.map_or(!column.merged, |of| column.qualifier.as_deref() == Some(of));
        for ident in left_out.iter().chain(replaced.iter().map(|(_, item)| &item.column_name)) {
            if !columns.iter().filter(wanted).any(|column| column.name == fold(ident)) {
                let at = self.text.span(ident.span);
                if let Some(scope) = bound.scope("SELECT") {
                    self.tell(super::check::unknown_column(&fold(ident), ident.quote_style.is_some(), &scope, at));
                }
            }
        }
        for column in columns.iter().filter(wanted) {
            if left_out.iter().any(|ident| fold(ident) == column.name) {
                continue;
            }
            if let Some((name, other)) = replaced.iter().find(|(name, _)| *name == column.name) {
                items.push(Item { syntax: other.expr.clone(), name: name.clone(), alias: false });
                continue;
            }
            let mut ident = ast::Ident::with_quote('"', &column.name);
            ident.span = item.span();
            let syntax = match &column.qualifier {
                Some(qualifier) if bound.joined.is_some() => {
                    let mut relation = ast::Ident::with_quote('"', qualifier);
                    relation.span = item.span();
                    ast::Expr::CompoundIdentifier(vec![relation, ident])
                }
                _ => ast::Expr::Identifier(ident),
            };
            items.push(Item { syntax, name: column.name.clone(), alias: false });
        }
    }

    /// What the `SELECT` list and HAVING may name: the input's columns, and `window` with the short form.
    pub(super) fn select_scope(&mut self, bound: &Bound, short_form: bool, clause: &'static str) -> Option<Scope> {
        let mut scope = bound.scope(clause)?;
        scope.aggregates = true;
        if short_form && bound.schema().field_with_name(super::group::WINDOW).is_err() {
            let bounds = ["start", "end"].map(|name| Field::new(name, timestamp_type(), false));
            let window = Field::new(super::group::WINDOW, DataType::Struct(bounds.to_vec().into()), false);
            let window = DFSchema::try_from(Schema::new(vec![window])).ok()?;
            scope.schema.merge(&window);
        }
        Some(scope)
    }

    /// HAVING; names that the `SELECT` list made may be used.
    fn having(&mut self, having: &ast::Expr, grouping: &Grouping, items: &[Item], bound: &Bound) -> Option<Expr> {
        let scope = self.select_scope(bound, grouping.short_form.is_some(), "HAVING")?;
        let known = |name: &str| scope.schema.has_column_with_unqualified_name(name);
        let syntax = expand_aliases(having, items, &known);
        let syntax = grouping.in_place(&syntax);
        if nodes(&syntax) > MAX_EXPANDED_NODES {
            let at = self.place(having);
            self.tell(
                Diagnostic::new("limit", "HAVING is too large once its names are put in place")
                    .at(at)
                    .help("compute the names in a sub-query, and write WHERE around it"),
            );
            return None;
        }
        self.condition(&syntax, &scope)
    }

    /// `SELECT DISTINCT`: a group by all columns.
    fn distinct(&mut self, bound: Bound, at: Option<Span>) -> Option<Bound> {
        let windowed = bound.window.as_ref().is_some_and(|window| !window.columns.is_empty());
        if !windowed {
            return self.first_of_each(bound, at);
        }
        let names: Vec<String> = bound.schema().fields().iter().map(|field| field.name().clone()).collect();
        let keys = names.iter().map(|name| NamedExpr { expr: column_of(name), name: name.clone() }).collect();
        let window = bound.window.clone()?;
        let group = self.group(bound, keys, Vec::new(), None, at)?;
        let exprs = names.iter().map(|name| {
            let column = match window.columns.get(name) {
                Some(super::WindowColumn::Start) => column_of(WINDOW_START),
                Some(super::WindowColumn::End) => column_of(WINDOW_END),
                Some(super::WindowColumn::Time) => column_of(crate::WINDOW_TIME),
                None => group.key(name).unwrap_or_else(|| column_of(name)),
            };
            NamedExpr { expr: column, name: name.clone() }
        });
        let exprs = exprs.collect();
        self.project(group.bound, exprs, at)
    }
}

/// Keeps the rows that meet a condition.
pub(super) fn filter(bound: Bound, predicate: Expr) -> Bound {
    let plan = Plan::Filter { input: limited(&bound.plan, &predicate), predicate };
    Bound { plan: Arc::new(plan), nodes: bound.nodes + 1, ..bound }
}
