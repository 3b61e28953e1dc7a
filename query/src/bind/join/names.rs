//! Names where several relations are read: `x.id`, `id`, `y.*`.
//!
//! Below a join every column has a field name of its own. An expression's names are put in place in its syntax, so that
//! whatever plans it sees one relation with unique names.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion_sql::sqlparser::ast::{self, VisitMut, VisitorMut};

use super::super::{Binder, Bound, column_of};
use crate::diagnostic::{Diagnostic, Span};
use crate::parse::fold;
use crate::plan::NamedExpr;
use crate::suggest;

/// A column as a user names it, and the field that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::bind) struct JoinedColumn {
    /// Name of its relation; `None`: it has none.
    pub(in crate::bind) qualifier: Option<String>,
    /// Its name.
    pub(in crate::bind) name: String,
    /// The field's name.
    pub(in crate::bind) field: String,
    /// It stands for a USING column of an earlier relation: only its relation's name reaches it.
    pub(in crate::bind) merged: bool,
}

/// The columns of all relations of a FROM, in its order.
pub(in crate::bind) type Joined = Arc<Vec<JoinedColumn>>;

/// What a name stands for.
enum Meaning<'c> {
    /// No column.
    Nothing,
    /// This field.
    Field(&'c str),
    /// Columns of these relations.
    Several(Vec<String>),
}

impl Bound {
    /// The names of its columns.
    pub(in crate::bind) fn names(&self) -> Joined {
        if let Some(joined) = &self.joined {
            return Arc::clone(joined);
        }
        let fields = self.schema().fields().iter();
        let columns = fields.map(|field| JoinedColumn {
            qualifier: self.qualifier.clone(),
            name: field.name().clone(),
            field: field.name().clone(),
            merged: false,
        });
        Arc::new(columns.collect())
    }
}

impl Binder<'_> {
    /// The relation with fields that are none of `taken`, which grows by them.
    pub(super) fn apart(&mut self, bound: Bound, taken: &mut HashSet<String>, at: Option<Span>) -> Option<Bound> {
        let names = bound.names();
        let mut fields = Vec::with_capacity(names.len());
        for field in bound.schema().fields() {
            let column = names.iter().find(|column| column.field == *field.name());
            let qualifier = column.and_then(|column| column.qualifier.as_ref());
            let mut name = field.name().clone();
            if taken.contains(&name)
                && let (Some(qualifier), Some(column)) = (qualifier, column)
            {
                name = format!("{qualifier}.{}", column.name);
            }
            let (first, mut number) = (name.clone(), 2);
            while taken.contains(&name) {
                name = format!("{first}_{number}");
                number += 1;
            }
            taken.insert(name.clone());
            fields.push((field.name().clone(), name));
        }
        let new = |old: &str| fields.iter().find(|(name, _)| name == old).map(|(_, new)| new.clone());
        let columns = names.iter().map(|column| JoinedColumn {
            field: new(&column.field).unwrap_or_else(|| column.field.clone()),
            ..column.clone()
        });
        let joined = Some(Arc::new(columns.collect()));
        if fields.iter().all(|(old, new)| old == new) {
            return Some(Bound { joined, ..bound });
        }
        let exprs = fields.iter().map(|(old, new)| NamedExpr { expr: column_of(old), name: new.clone() }).collect();
        let (qualifier, label) = (bound.qualifier.clone(), bound.label.clone());
        let bound = self.project(bound, exprs, at)?;
        Some(Bound { joined, qualifier, label, ..bound })
    }

    /// The syntax with fields in the place of the names, looked for in each of `scopes` until one knows it. `None` when
    /// a name stands for several.
    pub(in crate::bind) fn resolve(&mut self, syntax: &ast::Expr, scopes: &[&[JoinedColumn]]) -> Option<ast::Expr> {
        let mut resolved = syntax.clone();
        let mut walk = Resolve { binder: self, scopes, good: true, queries: 0 };
        let _ = VisitMut::visit(&mut resolved, &mut walk);
        walk.good.then_some(resolved)
    }
}

struct Resolve<'r, 'a> {
    binder: &'r mut Binder<'a>,
    scopes: &'r [&'r [JoinedColumn]],
    good: bool,
    /// Sub-queries that the walk is in: they have names of their own.
    queries: usize,
}

impl VisitorMut for Resolve<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut ast::Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut ast::Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        if self.queries > 0 {
            return ControlFlow::Continue(());
        }
        match expr {
            ast::Expr::Identifier(ident) => {
                if let Some(field) = self.plain(ident) {
                    *ident = field;
                }
            }
            ast::Expr::CompoundIdentifier(parts) => {
                if let Some(rest) = self.dotted(parts) {
                    *expr = match rest.as_slice() {
                        [only] => ast::Expr::Identifier(only.clone()),
                        _ => ast::Expr::CompoundIdentifier(rest),
                    };
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Resolve<'_, '_> {
    fn tell(&mut self, mistake: Diagnostic) {
        self.good = false;
        self.binder.tell(mistake);
    }

    fn plain(&mut self, ident: &ast::Ident) -> Option<ast::Ident> {
        let name = fold(ident);
        match self.scopes.iter().map(|columns| by_name(columns, &name)).find(|found| !matches!(found, Meaning::Nothing))
        {
            None | Some(Meaning::Nothing) => None,
            Some(Meaning::Field(field)) => Some(placed(field, ident)),
            Some(Meaning::Several(relations)) => {
                let at = self.binder.text.span(ident.span);
                let choices: Vec<String> = relations.iter().map(|relation| format!("{relation}.{name}")).collect();
                let named = relations.iter().map(|relation| format!("\"{relation}\"")).collect::<Vec<_>>();
                let mistake = Diagnostic::new(
                    "ambiguous_column",
                    format!("\"{name}\" is a column of {}", crate::suggest::and(&named)),
                );
                self.tell(mistake.at(at).help(if choices.is_empty() {
                    "name the sub-queries with AS, and write name.column".to_owned()
                } else {
                    format!("write {}", choices.join(" or "))
                }));
                None
            }
        }
    }

    fn dotted(&mut self, parts: &[ast::Ident]) -> Option<Vec<ast::Ident>> {
        let [first, second, rest @ ..] = parts else { return None };
        let (relation, name) = (fold(first), fold(second));
        let known =
            |columns: &&&[JoinedColumn]| columns.iter().any(|column| column.qualifier.as_ref() == Some(&relation));
        let Some(columns) = self.scopes.iter().find(known) else {
            let field = self.plain(first)?;
            return Some([field].into_iter().chain(parts[1..].iter().cloned()).collect());
        };
        let of_relation = || columns.iter().filter(|column| column.qualifier.as_ref() == Some(&relation));
        if let Some(column) = of_relation().find(|column| column.name == name) {
            return Some([placed(&column.field, second)].into_iter().chain(rest.iter().cloned()).collect());
        }
        let at = self.binder.text.span(second.span);
        let names: Vec<&str> = of_relation().map(|column| column.name.as_str()).collect();
        let mistake = Diagnostic::new("unknown_column", format!("\"{relation}\" has no column \"{name}\"")).at(at);
        let mistake = match suggest::nearest(&name, names.iter().copied()) {
            Some(nearest) => mistake.help(format!("did you mean \"{nearest}\"?")),
            None => mistake.note(format!("its columns: {}", suggest::list(names))),
        };
        self.tell(mistake);
        None
    }
}

/// True when a name, the first part of a dotted one, is known among the columns.
pub(super) fn knows(columns: &[JoinedColumn], parts: &[ast::Ident]) -> bool {
    let Some(first) = parts.first().map(fold) else { return false };
    let relation = parts.len() > 1 && columns.iter().any(|column| column.qualifier.as_ref() == Some(&first));
    relation || columns.iter().any(|column| column.name == first)
}

fn by_name<'c>(columns: &'c [JoinedColumn], name: &str) -> Meaning<'c> {
    let found: Vec<&JoinedColumn> = columns.iter().filter(|column| column.name == name && !column.merged).collect();
    match found.as_slice() {
        [] => Meaning::Nothing,
        [only] => Meaning::Field(&only.field),
        several => Meaning::Several(several.iter().filter_map(|column| column.qualifier.clone()).collect()),
    }
}

/// A field's name where another name stood.
fn placed(field: &str, instead_of: &ast::Ident) -> ast::Ident {
    let mut ident = ast::Ident::with_quote('"', field);
    ident.span = instead_of.span;
    ident
}
