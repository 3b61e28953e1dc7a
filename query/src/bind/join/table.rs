//! Joins with a table that has a key: each row of the stream is told with the row that the table has under its key.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::expr::{BinaryExpr, Cast};
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{Expr, Operator};
use datafusion_sql::sqlparser::ast;

use super::super::check::function_name;
use super::super::expr::columns;
use super::super::select::filter;
use super::super::{Binder, Bound, column_of};
use super::{Joined, JoinedColumn, Part, fields, label, times};
use crate::catalog::RelationKind;
use crate::diagnostic::{Diagnostic, Span};
use crate::parse::{AS_OF, fold, unsupported};
use crate::plan::{JoinKey, JoinKind, JoinSpec, JoinTime, NamedExpr, Plan};

/// Functions that give the moment in which a row is joined.
const NOW: [&str; 4] = ["proctime", "now", "current_timestamp", "localtimestamp"];

/// Which side of a join is the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Looks {
    /// As it is meant.
    Right,
    /// The sides change places.
    Left,
}

/// A table below projections and conditions, which are computed but not applied: a row that no longer meets a condition
/// must take the place of the one that did.
struct Table {
    name: String,
    plan: Arc<Plan>,
    /// Names of its key's columns where it was created.
    columns: Vec<String>,
    /// Names of its key's fields.
    key: Vec<String>,
    /// Names of fields that hold whether a row meets a condition.
    conditions: Vec<String>,
}

/// What `FOR SYSTEM_TIME AS OF` says behind a relation's name.
pub(in crate::bind) fn as_of(factor: &ast::TableFactor) -> Option<&ast::Expr> {
    let ast::TableFactor::Table { args: Some(args), .. } = factor else { return None };
    let [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Function(call)))] = args.args.as_slice()
    else {
        return None;
    };
    let ast::FunctionArguments::List(list) = &call.args else { return None };
    match list.args.as_slice() {
        [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(moment))] if function_name(call) == AS_OF => Some(moment),
        _ => None,
    }
}

impl Binder<'_> {
    /// Whether a relation is a table with a key, or some columns and rows of one.
    pub(super) fn is_table(&self, bound: &Bound) -> bool {
        self.table(&bound.plan, &|_| false).is_some()
    }

    /// The first relation of a FROM is read row by row: it has no versions.
    pub(in crate::bind) fn check_first(&mut self, factor: &ast::TableFactor) -> Option<()> {
        let Some(moment) = as_of(factor) else { return Some(()) };
        let at = self.place(moment);
        self.refuse(
            "FOR SYSTEM_TIME AS OF stands behind the table that a stream is joined with",
            at,
            "FROM a JOIN t FOR SYSTEM_TIME AS OF a.ts ON a.id = t.id",
        );
        None
    }

    /// `FOR SYSTEM_TIME AS OF` names a table, and the moment in which the stream's rows come.
    pub(super) fn check_version(&mut self, part: &Part<'_>, left: &Bound, right: &Bound) -> Option<()> {
        let Some(moment) = as_of(part.factor) else { return Some(()) };
        if !self.is_table(right) {
            let mistake = unsupported(format!("{} is not a table with a key", right.label), part.at);
            self.tell(mistake.help("CREATE TABLE name (id BIGINT, …, PRIMARY KEY (id)) WITH (…) makes one"));
            return None;
        }
        let names = left.names();
        let tells_moment = |field: &String| left.times.contains(field) || left.plan.is_arrival(field);
        let is_time = match moment {
            ast::Expr::Function(call) => NOW.contains(&function_name(call).as_str()),
            ast::Expr::Identifier(name) => {
                names.iter().any(|column| column.name == fold(name) && tells_moment(&column.field))
            }
            ast::Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [relation, name] => names.iter().any(|column| {
                    column.qualifier == Some(fold(relation)) && column.name == fold(name) && tells_moment(&column.field)
                }),
                _ => false,
            },
            _ => false,
        };
        if is_time {
            return Some(());
        }
        let at = self.place(moment);
        let mistake = Diagnostic::new("invalid", "FOR SYSTEM_TIME AS OF takes the stream's event time or PROCTIME()");
        let time = left.times.first().and_then(|time| names.iter().find(|column| column.field == *time));
        self.tell(mistake.at(at).help(match time {
            Some(JoinedColumn { qualifier: Some(relation), name, .. }) => {
                format!("write {relation}.{name} or PROCTIME()")
            }
            _ => "write PROCTIME()".to_owned(),
        }));
        None
    }

    /// Whether a join is a look-up in a table, and on which side that is.
    pub(super) fn looks_up(&self, left: &Bound, right: &Bound, kind: JoinKind) -> Option<Looks> {
        if self.is_table(right) {
            return Some(Looks::Right);
        }
        let swaps = !matches!(kind, JoinKind::Semi | JoinKind::Anti);
        (swaps && self.is_table(left)).then_some(Looks::Left)
    }

    /// Joins a stream with a table.
    pub(super) fn look_up(
        &mut self,
        looks: Looks,
        left: Bound,
        right: Bound,
        kind: JoinKind,
        conjuncts: Vec<Expr>,
        at: Option<Span>,
    ) -> Option<Bound> {
        let swapped = looks == Looks::Left;
        let (stream, table) = if swapped { (&right, &left) } else { (&left, &right) };
        let kind = match (kind, swapped) {
            (JoinKind::Inner | JoinKind::Left | JoinKind::Semi | JoinKind::Anti, false) => kind,
            (JoinKind::Inner, true) => JoinKind::Inner,
            (JoinKind::Right, true) => JoinKind::Left,
            _ => {
                let message = format!(
                    "a look-up starts from rows of {}: rows of {} alone are not told",
                    label(stream),
                    label(table)
                );
                let name = |bound: &Bound| bound.qualifier.clone().unwrap_or_else(|| "t".to_owned());
                let help = format!("write FROM {} LEFT JOIN {} ON …, or JOIN", name(stream), name(table));
                self.tell(unsupported(message, at).help(help));
                return None;
            }
        };
        if !swapped {
            return self.look_up_right(left, right, kind, conjuncts, at);
        }
        // Columns stay in the order of the text.
        let order: Vec<String> = [&left, &right]
            .iter()
            .flat_map(|bound| bound.schema().fields().iter().map(|field| field.name().clone()))
            .collect();
        let names: Joined = Arc::new(left.names().iter().chain(right.names().iter()).cloned().collect());
        let bound = self.look_up_right(right, left, kind, conjuncts, at)?;
        let exprs = order.into_iter().map(|name| NamedExpr { expr: column_of(&name), name }).collect();
        let bound = self.project(bound, exprs, at)?;
        Some(Bound { joined: Some(names), ..bound })
    }

    fn look_up_right(
        &mut self,
        mut left: Bound,
        mut right: Bound,
        kind: JoinKind,
        conjuncts: Vec<Expr>,
        at: Option<Span>,
    ) -> Option<Bound> {
        let taken = |name: &str| left.schema().field_with_name(name).is_ok();
        let table = self.table(&right.plan, &taken)?;
        if left.plan.relations().contains(&table.name) {
            let message = format!("what looks up in table \"{0}\" reads the rows of \"{0}\" itself", table.name);
            self.tell(unsupported(message, at).help("join another stream with the table"));
            return None;
        }
        let names: Joined = match kind {
            JoinKind::Semi | JoinKind::Anti => left.names(),
            _ => Arc::new(left.names().iter().chain(right.names().iter()).cloned().collect()),
        };
        let label = match kind {
            JoinKind::Semi | JoinKind::Anti => left.label.clone(),
            _ => format!("the join of {} and {}", label(&left), label(&right)),
        };
        right.plan = Arc::clone(&table.plan);
        let (own, on, mut rest) = self.keys(&left, &right, &table, conjuncts, at)?;
        if matches!(kind, JoinKind::Inner | JoinKind::Semi) {
            if let Some(predicate) = conjunction(own) {
                left = filter(left, predicate);
            }
        } else {
            rest.extend(own);
        }
        rest.extend(table.conditions.iter().map(|name| column_of(name)));
        let time = JoinTime::Table { table: table.name, key: table.key };
        let schema = Arc::new(Schema::new(fields(&left, &right, kind)));
        let (times, window) = times(&left, &right, kind, &time);
        let semi = matches!(kind, JoinKind::Semi | JoinKind::Anti);
        let spec = JoinSpec { kind, on, filter: conjunction(rest), time };
        let bound = Bound {
            nodes: left.nodes + right.nodes + 1,
            qualifier: left.qualifier.clone().filter(|_| semi),
            joined: if semi { left.joined.clone() } else { Some(names) },
            label,
            times,
            window,
            replay: left.replay,
            plan: Arc::new(Plan::Join { left: left.plan, right: right.plan, join: Box::new(spec), schema }),
        };
        self.grown(bound, at)
    }

    /// Conditions that concern the stream alone, an equality for each column of the table's key, and the rest.
    fn keys(
        &mut self,
        left: &Bound,
        right: &Bound,
        table: &Table,
        conjuncts: Vec<Expr>,
        at: Option<Span>,
    ) -> Option<(Vec<Expr>, Vec<JoinKey>, Vec<Expr>)> {
        let mut found: Vec<Option<JoinKey>> = vec![None; table.key.len()];
        let (mut own, mut rest) = (Vec::new(), Vec::new());
        for conjunct in conjuncts.into_iter().flat_map(split_conjunction_owned) {
            let of_right = columns(&conjunct).iter().any(|name| right.schema().field_with_name(name).is_ok());
            match key_of(&conjunct, left, right, &table.key) {
                Some((place, key)) if found[place].is_none() => found[place] = Some(key),
                _ if of_right => rest.push(conjunct),
                _ => own.push(conjunct),
            }
        }
        if let Some(on) = found.into_iter().collect::<Option<Vec<_>>>() {
            return Some((own, on, rest));
        }
        let relation = right.qualifier.clone().unwrap_or_else(|| table.name.clone());
        let equal: Vec<String> = table.columns.iter().map(|key| format!("a.{key} = {relation}.{key}")).collect();
        let message = format!("table \"{}\" is looked up by its key, all of which the join must name", table.name);
        let mistake = unsupported(message, at).note(format!("its key: {}", table.columns.join(", ")));
        self.tell(mistake.help(format!(
            "ON {}, where a is the stream: something of it equals each column of the key as it is",
            equal.join(" AND ")
        )));
        None
    }

    /// The table that a plan reads, if it is one; `taken`: names that its further fields must not have.
    fn table(&self, plan: &Arc<Plan>, taken: &dyn Fn(&str) -> bool) -> Option<Table> {
        match plan.as_ref() {
            Plan::Scan { relation, .. } => match self.catalog.relation(relation)?.kind {
                RelationKind::Table { key } => {
                    let (name, columns) = (relation.clone(), key.clone());
                    Some(Table { name, plan: Arc::clone(plan), columns, key, conditions: Vec::new() })
                }
                _ => None,
            },
            Plan::Filter { input, predicate } => {
                let mut table = self.table(input, taken)?;
                let name = table.add(&[(predicate.clone(), "kept", DataType::Boolean)], taken).remove(0);
                table.conditions.push(name);
                Some(table)
            }
            Plan::Project { input, exprs, schema } => {
                let mut below = self.table(input, taken)?;
                let (mut exprs, mut fields) = (exprs.clone(), schema.fields().to_vec());
                let inner = Arc::clone(below.plan.schema());
                let mut pass = |name: &String, plain: bool| -> Option<String> {
                    let passes = |item: &&NamedExpr| matches!(&item.expr, Expr::Column(column) if column.name == *name);
                    if let Some(item) = exprs.iter().find(passes).filter(|_| plain) {
                        return Some(item.name.clone());
                    }
                    let new = free(name, &|name| taken(name) || fields.iter().any(|field| field.name() == name));
                    fields.push(Arc::new(inner.field_with_name(name).ok()?.clone().with_name(&new)));
                    exprs.push(NamedExpr { expr: column_of(name), name: new.clone() });
                    Some(new)
                };
                below.key = below.key.iter().map(|key| pass(key, true)).collect::<Option<_>>()?;
                below.conditions = below.conditions.iter().map(|kept| pass(kept, false)).collect::<Option<_>>()?;
                let schema = Arc::new(Schema::new(fields));
                below.plan = Arc::new(Plan::Project { input: below.plan, exprs, schema });
                Some(below)
            }
            _ => None,
        }
    }
}

impl Table {
    /// Computes further fields, and tells their names.
    fn add(&mut self, more: &[(Expr, &str, DataType)], taken: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut fields = self.plan.schema().fields().to_vec();
        let mut exprs: Vec<NamedExpr> = fields
            .iter()
            .map(|field| NamedExpr { expr: column_of(field.name()), name: field.name().clone() })
            .collect();
        let mut names = Vec::new();
        for (expr, name, kind) in more {
            let name = free(name, &|name| taken(name) || fields.iter().any(|field| field.name() == name));
            fields.push(Arc::new(Field::new(&name, kind.clone(), true)));
            exprs.push(NamedExpr { expr: expr.clone(), name: name.clone() });
            names.push(name);
        }
        let schema = Arc::new(Schema::new(fields));
        self.plan = Arc::new(Plan::Project { input: Arc::clone(&self.plan), exprs, schema });
        names
    }
}

/// The name, with a number behind it where it is taken.
fn free(name: &str, taken: &dyn Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|number| format!("{name}_{number}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !taken(name)).unwrap_or_default()
}

/// An equality of something of the stream and a column of the key: which column, and the two.
fn key_of(conjunct: &Expr, left: &Bound, right: &Bound, key: &[String]) -> Option<(usize, JoinKey)> {
    let Expr::BinaryExpr(BinaryExpr { left: one, op: Operator::Eq | Operator::IsNotDistinctFrom, right: other }) =
        conjunct
    else {
        return None;
    };
    // A constant can stand for something of the stream.
    let is_known = |expr: &Expr| columns(expr).iter().all(|name| left.schema().field_with_name(name).is_ok());
    let (of_stream, of_table) = match (is_known(one), is_known(other)) {
        (true, false) => (one, other),
        (false, true) => (other, one),
        _ => return None,
    };
    if of_stream.is_volatile() {
        return None;
    }
    let column = match of_table.as_ref() {
        Expr::Column(column) => column,
        Expr::Cast(Cast { expr, field }) => match expr.as_ref() {
            Expr::Column(column) => {
                let from = right.schema().field_with_name(&column.name).ok()?;
                keeps_apart(from.data_type(), field.data_type()).then_some(column)?
            }
            _ => return None,
        },
        _ => return None,
    };
    let place = key.iter().position(|key| *key == column.name)?;
    let (left, right) = (of_stream.as_ref().clone(), of_table.as_ref().clone());
    Some((place, JoinKey { left, right, nulls: false }))
}

/// Whether values that differ still differ once they are cast.
fn keeps_apart(from: &DataType, to: &DataType) -> bool {
    let is_text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let widens = match (from.primitive_width(), to.primitive_width()) {
        (Some(from), Some(to)) => from <= to,
        _ => true,
    };
    !to.is_floating() && (!is_text(from) || is_text(to)) && widens
}
