//! `UNNEST`: a row for each element of a list, in FROM or in the SELECT list.
//!
//! Both spellings are taken out of the syntax before the rest of a SELECT is bound, so that no other clause knows of
//! them: the columns that they make are columns of what FROM reads.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_sql::sqlparser::ast::{self, VisitMut, VisitorMut};

use super::check::function_name;
use super::expr::{data_type, default_name};
use super::{Binder, Bound, column_of};
use crate::diagnostic::Diagnostic;
use crate::functions::json;
use crate::parse::fold;
use crate::plan::{NamedExpr, Plan};
use crate::types::sql_name;

/// Name of the column that holds the list. No column can be called so.
const LIST: &str = "__list";
/// The column of the element's number, unless it is named.
const ORDINALITY: &str = "ordinality";

/// A list to be taken apart.
pub(super) struct Unnest {
    list: ast::Expr,
    /// Names of the columns: one for the element, or one for each field of it; the number's behind.
    columns: Vec<String>,
    /// Rows whose list has no elements stay, with null.
    outer: bool,
    /// The element's number is a column, called so unless [`Unnest::columns`] has one name more.
    ordinality: Option<String>,
}

/// The lists of a SELECT.
pub(super) struct Lists {
    /// Those of FROM, which WHERE knows.
    pub(super) from: Vec<Unnest>,
    /// That of the SELECT list, which it does not.
    pub(super) listed: Vec<Unnest>,
}

/// A SELECT without its UNNESTs; `None`: it has none.
pub(super) fn cut(select: &ast::Select) -> Option<(ast::Select, Lists)> {
    let mut select = select.clone();
    let mut found = Vec::new();
    let mut names: Vec<(String, Vec<String>)> = Vec::new();
    let mut take = |factor: &ast::TableFactor, outer: bool| match read(factor, outer) {
        Some((unnest, alias)) => {
            names.extend(alias.map(|alias| (alias, unnest.columns.clone())));
            found.push(unnest);
            true
        }
        None => false,
    };
    let mut from = std::mem::take(&mut select.from).into_iter();
    let first = from.next().map(|mut first| {
        first.joins.retain(|join| match outer(&join.join_operator) {
            Some(outer) => !take(&join.relation, outer),
            None => true,
        });
        first
    });
    let more: Vec<_> = from.filter(|more| !(more.joins.is_empty() && take(&more.relation, false))).collect();
    select.from = first.into_iter().chain(more).collect();
    let mut listed = InList { found: None, more: false };
    for item in &mut select.projection {
        let (expr, name) = match item {
            ast::SelectItem::UnnamedExpr(expr) => (expr, None),
            ast::SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.clone())),
            _ => continue,
        };
        listed.read(expr, name.as_ref());
    }
    if listed.more || found.is_empty() && listed.found.is_none() {
        return None;
    }
    let _ = VisitMut::visit(&mut select, &mut Unqualified(names));
    Some((select, Lists { from: found, listed: listed.found.into_iter().collect() }))
}

/// The condition of a join that takes a list apart is none; `Some(true)`: rows without elements stay.
fn outer(operator: &ast::JoinOperator) -> Option<bool> {
    let always = |constraint: &ast::JoinConstraint| match constraint {
        ast::JoinConstraint::On(condition) => condition.to_string().eq_ignore_ascii_case("true"),
        ast::JoinConstraint::None => true,
        _ => false,
    };
    match operator {
        ast::JoinOperator::CrossJoin(constraint)
        | ast::JoinOperator::Join(constraint)
        | ast::JoinOperator::Inner(constraint) => always(constraint).then_some(false),
        ast::JoinOperator::Left(constraint) | ast::JoinOperator::LeftOuter(constraint) => {
            always(constraint).then_some(true)
        }
        _ => None,
    }
}

fn read(factor: &ast::TableFactor, outer: bool) -> Option<(Unnest, Option<String>)> {
    let (list, alias, ordinality) = match factor {
        ast::TableFactor::UNNEST { alias, array_exprs, with_offset, with_offset_alias, with_ordinality } => {
            let [list] = array_exprs.as_slice() else { return None };
            if *with_offset || with_offset_alias.is_some() {
                return None;
            }
            (list, alias, with_ordinality.then(|| ORDINALITY.to_owned()))
        }
        ast::TableFactor::Function { name, args, alias, .. } if name.to_string().eq_ignore_ascii_case("unnest") => {
            (only(args)?, alias, None)
        }
        _ => return None,
    };
    let (name, mut columns) = match alias {
        Some(alias) => (Some(fold(&alias.name)), alias.columns.iter().map(|column| fold(&column.name)).collect()),
        None => (None, Vec::new()),
    };
    if columns.is_empty() {
        columns.push(name.clone().unwrap_or_else(|| "unnest".to_owned()));
    }
    Some((Unnest { list: list.clone(), columns, outer, ordinality }, name))
}

fn only(args: &[ast::FunctionArg]) -> Option<&ast::Expr> {
    match args {
        [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(list))] => Some(list),
        _ => None,
    }
}

/// Looks for `unnest(…)` in the SELECT list, and puts the column's name in its place.
struct InList {
    found: Option<Unnest>,
    /// There is a second one.
    more: bool,
}

impl InList {
    fn read(&mut self, expr: &mut ast::Expr, name: Option<&ast::Ident>) {
        let whole = is_unnest(expr);
        let column = match name {
            Some(alias) if whole => fold(alias),
            _ => default_name(expr),
        };
        let _ = VisitMut::visit(expr, &mut Calls { list: self, column });
    }
}

fn is_unnest(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Function(function) if function_name(function) == "unnest")
}

struct Calls<'l> {
    list: &'l mut InList,
    column: String,
}

impl VisitorMut for Calls<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        let ast::Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let ast::FunctionArguments::List(args) = &function.args else { return ControlFlow::Continue(()) };
        let Some(list) = only(&args.args).filter(|_| function_name(function) == "unnest") else {
            return ControlFlow::Continue(());
        };
        let same = self.list.found.as_ref().is_some_and(|known| known.list == *list);
        self.list.more |= self.list.found.is_some() && !same;
        let mut ident = ast::Ident::with_quote('"', self.column.clone());
        if let Some(place) = function.name.0.first().and_then(|part| part.as_ident()) {
            ident.span = place.span;
        }
        if let Some(known) = self.list.found.as_ref().filter(|_| same) {
            ident.value.clone_from(&known.columns[0]);
        } else {
            let columns = vec![self.column.clone()];
            self.list.found = Some(Unnest { list: list.clone(), columns, outer: false, ordinality: None });
        }
        *expr = ast::Expr::Identifier(ident);
        ControlFlow::Continue(())
    }
}

/// `t.tag` as `tag`, for the columns of the lists' aliases.
struct Unqualified(Vec<(String, Vec<String>)>);

impl VisitorMut for Unqualified {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        let ast::Expr::CompoundIdentifier(parts) = expr else { return ControlFlow::Continue(()) };
        let [alias, column, rest @ ..] = parts.as_slice() else { return ControlFlow::Continue(()) };
        let known = |(name, columns): &(String, Vec<String>)| *name == fold(alias) && columns.contains(&fold(column));
        if self.0.iter().any(known) {
            *expr = match rest {
                [] => ast::Expr::Identifier(column.clone()),
                _ => ast::Expr::CompoundIdentifier(parts[1..].to_vec()),
            };
        }
        ControlFlow::Continue(())
    }
}

impl Binder<'_> {
    /// A row for each element of each list.
    pub(super) fn unnest_all(&mut self, bound: Bound, lists: Option<&[Unnest]>) -> Option<Bound> {
        lists.into_iter().flatten().try_fold(bound, |bound, list| self.unnest(bound, list))
    }

    /// A row for each element of a list of the relation's.
    fn unnest(&mut self, bound: Bound, unnest: &Unnest) -> Option<Bound> {
        let scope = bound.scope("UNNEST")?;
        let at = self.place(&unnest.list);
        let mut list = self.expr(&unnest.list, &scope)?;
        let mut of = data_type(&list, &scope.schema).ok()?;
        if of == json::JSON {
            list = json::elements(list);
            of = data_type(&list, &scope.schema).ok()?;
        }
        let element = match &of {
            DataType::List(element) => element.data_type().clone(),
            other => {
                let message = format!("UNNEST takes a list, not a {}", sql_name(other));
                let help = "string_to_array(text, ',') makes a list of a text";
                self.tell(Diagnostic::new("type_mismatch", message).at(at).help(help));
                return None;
            }
        };
        let Some((names, ordinality)) = columns(unnest, &element) else {
            let message = format!("there are {} names for a {}", unnest.columns.len(), sql_name(&element));
            self.tell(Diagnostic::new("invalid", message).at(at).help("write UNNEST(list) AS t(name)"));
            return None;
        };
        let fields = bound.schema().fields().clone();
        if let Some(taken) =
            names.iter().chain(&ordinality).find(|name| fields.iter().any(|field| field.name() == *name))
        {
            let message = format!("two columns are named \"{taken}\"");
            let help = "give the element another name: UNNEST(list) AS t(name)";
            self.tell(Diagnostic::new("duplicate_column", message).at(at).help(help));
            return None;
        }
        let (times, window) = (bound.times.clone(), bound.window.clone());
        let pass = |name: &String| NamedExpr { expr: column_of(name), name: name.clone() };
        let mut exprs: Vec<NamedExpr> = fields.iter().map(|field| pass(field.name())).collect();
        exprs.push(NamedExpr { expr: list, name: LIST.to_owned() });
        let bound = self.project(bound, exprs, at)?;
        let mut out = fields.to_vec();
        let whole = match names.as_slice() {
            [only] => only.clone(),
            _ => LIST.to_owned(),
        };
        out.push(Arc::new(Field::new(&whole, element, true)));
        out.extend(ordinality.iter().map(|name| Arc::new(Field::new(name, DataType::Int64, unnest.outer))));
        let plan = Plan::Unnest {
            input: Arc::clone(&bound.plan),
            outer: unnest.outer,
            ordinality: ordinality.is_some(),
            schema: Arc::new(Schema::new(out)),
        };
        let bound = Bound { plan: Arc::new(plan), times, window, nodes: bound.nodes + 1, ..bound };
        if names.len() == 1 {
            return self.grown(bound, at);
        }
        let mut exprs: Vec<NamedExpr> = fields.iter().map(|field| pass(field.name())).collect();
        let DataType::Struct(parts) = bound.schema().field(fields.len()).data_type().clone() else { return None };
        for (name, part) in names.iter().zip(&parts) {
            let expr = datafusion_functions::core::expr_fn::get_field(column_of(LIST), part.name().as_str());
            exprs.push(NamedExpr { expr, name: name.clone() });
        }
        exprs.extend(ordinality.iter().map(pass));
        self.project(bound, exprs, at)
    }
}

/// The names of the element's columns and of its number's; `None`: there are more or fewer than there should be.
fn columns(unnest: &Unnest, element: &DataType) -> Option<(Vec<String>, Option<String>)> {
    let mut names = unnest.columns.clone();
    let parts = match element {
        DataType::Struct(fields) if fields.len() > 1 => fields.len(),
        _ => 1,
    };
    let ordinality = match &unnest.ordinality {
        Some(_) if names.len() == 2 || names.len() == parts + 1 => names.pop(),
        other => other.clone(),
    };
    (names.len() == 1 || names.len() == parts).then_some((names, ordinality))
}
