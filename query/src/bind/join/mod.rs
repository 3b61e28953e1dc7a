//! `FROM` with several relations.
//!
//! All relations get field names of their own first, so that every condition says by its fields which relations it
//! concerns. Then they are joined one after the other, each with what its ON says and what WHERE says of it.

mod condition;
mod names;
mod sub_query;
mod table;
mod within;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion_common::DFSchema;
use datafusion_expr::expr_fn::when;
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{Expr, is_null};
use datafusion_sql::sqlparser::ast;

use super::coerce::coerce;
use super::expr::{Scope, columns};
use super::select::filter;
use super::{Binder, Bound, Ctes, Windowed, column_of};
use crate::diagnostic::{Diagnostic, Span};
use crate::duration::human;
use crate::parse::fold;
use crate::plan::{JoinKind, JoinSpec, JoinTime, NamedExpr, Plan, RUNNING_TTL_NS};

use condition::Condition;
pub(super) use names::{Joined, JoinedColumn};
pub(super) use sub_query::{all_of, conjuncts, is_sub_query};
pub(super) use table::as_of;

/// Longest time that rows may wait for partners: 400 days.
const MAX_WAIT_NS: i64 = 400 * 86_400_000_000_000;
/// Relations that one FROM joins.
const MAX_RELATIONS: usize = 16;

/// One relation of a FROM.
struct Part<'s> {
    factor: &'s ast::TableFactor,
    kind: JoinKind,
    /// It stands behind a comma, or CROSS JOIN: only WHERE can say how it is joined.
    bare: bool,
    on: Option<&'s ast::Expr>,
    using: Vec<&'s ast::Ident>,
    at: Option<Span>,
}

impl Binder<'_> {
    /// The relations of a FROM, joined, and WHERE applied to them.
    pub(super) fn joined(&mut self, select: &ast::Select, ctes: &Ctes) -> Option<Bound> {
        let parts = self.parts(select)?;
        self.check_first(parts[0].factor)?;
        let mut taken = HashSet::new();
        let mut bounds = Vec::new();
        for part in &parts {
            let bound = self.factor(part.factor, ctes);
            bounds.push(bound.and_then(|bound| self.apart(bound, &mut taken, part.at)));
        }
        let bounds = bounds.into_iter().collect::<Option<Vec<_>>>()?;
        self.check_relations(&parts, &bounds)?;
        let (conditions, sub_queries) = self.split_where(select.selection.as_ref(), &bounds);
        let mut conditions = conditions?;
        let mut bounds = bounds.into_iter();
        let mut left = bounds.next()?;
        for (at, (part, right)) in parts[1..].iter().zip(bounds).enumerate() {
            // What WHERE says of an inner join belongs to it, unless rows come with nulls later on.
            let last = |kind: &JoinKind| matches!(kind, JoinKind::Right | JoinKind::Full);
            let movable = part.kind == JoinKind::Inner && !parts[at + 2..].iter().any(|later| last(&later.kind));
            self.check_version(part, &left, &right)?;
            let mut said = self.on(part, &left, &right)?;
            said.extend(self.within(part, &left, &right)?);
            let there = |name: &String| {
                left.schema().field_with_name(name).is_ok() || right.schema().field_with_name(name).is_ok()
            };
            let (of_both, rest): (Vec<_>, Vec<_>) = conditions.into_iter().partition(|condition| {
                let names = columns(condition);
                movable
                    && names.iter().all(there)
                    && names.iter().any(|name| right.schema().field_with_name(name).is_ok())
            });
            conditions = rest;
            said.extend(of_both);
            left = self.combine(left, right, part.kind, said, part.at)?;
            left = self.merge_using(left, part)?;
        }
        let bound = match conjunction(conditions) {
            Some(predicate) => filter(left, predicate),
            None => left,
        };
        self.sub_queries(bound, &sub_queries, ctes)
    }

    /// The relations in order, and how each is joined to those before it.
    fn parts<'s>(&mut self, select: &'s ast::Select) -> Option<Vec<Part<'s>>> {
        let mut parts = Vec::new();
        let mut good = true;
        for item in &select.from {
            let at = self.place(&item.relation);
            let kind = JoinKind::Inner;
            parts.push(Part { factor: &item.relation, kind, bare: true, on: None, using: Vec::new(), at });
            for join in &item.joins {
                match self.part(join) {
                    Some(part) => parts.push(part),
                    None => good = false,
                }
            }
        }
        if parts.len() > MAX_RELATIONS {
            let message = format!("{} relations are joined: the limit is {MAX_RELATIONS}", parts.len());
            self.tell(
                Diagnostic::new("limit", message)
                    .at(parts[MAX_RELATIONS].at)
                    .help("join some of them in a CREATE STREAM, and join its rows with the others"),
            );
            return None;
        }
        let commas = select.from.len() > 1;
        if commas && let Some(part) = parts.iter().find(|part| matches!(part.kind, JoinKind::Right | JoinKind::Full)) {
            let at = part.at;
            self.refuse(
                "RIGHT and FULL JOIN beside a comma are not available",
                at,
                "write JOIN … ON … for all of them",
            );
            return None;
        }
        good.then_some(parts)
    }

    fn part<'s>(&mut self, join: &'s ast::Join) -> Option<Part<'s>> {
        use ast::JoinOperator as Op;
        let at = self.place(&join.relation);
        let (kind, constraint) = match &join.join_operator {
            Op::Join(constraint) | Op::Inner(constraint) | Op::StraightJoin(constraint) => {
                (JoinKind::Inner, constraint)
            }
            Op::CrossJoin(constraint) => (JoinKind::Inner, constraint),
            Op::Left(constraint) | Op::LeftOuter(constraint) => (JoinKind::Left, constraint),
            Op::Right(constraint) | Op::RightOuter(constraint) => (JoinKind::Right, constraint),
            Op::FullOuter(constraint) => (JoinKind::Full, constraint),
            Op::Semi(constraint) | Op::LeftSemi(constraint) => (JoinKind::Semi, constraint),
            Op::Anti(constraint) | Op::LeftAnti(constraint) => (JoinKind::Anti, constraint),
            Op::RightSemi(_) | Op::RightAnti(_) => {
                self.refuse(
                    "RIGHT SEMI and RIGHT ANTI JOIN are not available",
                    at,
                    "change sides: FROM b LEFT SEMI JOIN a ON …",
                );
                return None;
            }
            Op::AsOf { .. } => {
                self.refuse(
                    "ASOF JOIN is not available",
                    at,
                    "JOIN … ON a.id = b.id AND a.ts BETWEEN b.ts AND b.ts + INTERVAL '1 minute' pairs rows near in time",
                );
                return None;
            }
            _ => {
                self.refuse("this kind of join is not available", at, "write JOIN … ON …, or LEFT JOIN … ON …");
                return None;
            }
        };
        let mut part = Part { factor: &join.relation, kind, bare: false, on: None, using: Vec::new(), at };
        match constraint {
            ast::JoinConstraint::On(on) => part.on = Some(on),
            ast::JoinConstraint::Using(names) => {
                part.using = names.iter().filter_map(|name| name.0.last()?.as_ident()).collect();
            }
            ast::JoinConstraint::Natural => {
                self.refuse("NATURAL JOIN is not available", at, "name the columns: JOIN … USING (id)");
                return None;
            }
            ast::JoinConstraint::None => part.bare = true,
        }
        Some(part)
    }

    /// Each relation has a name of its own, and all have one clock.
    fn check_relations(&mut self, parts: &[Part<'_>], bounds: &[Bound]) -> Option<()> {
        let mut good = Some(());
        let clock = bounds.iter().find(|bound| !self.is_table(bound)).is_some_and(|bound| bound.replay);
        for (at, bound) in bounds.iter().enumerate() {
            let same = |other: &&Bound| bound.qualifier.is_some() && other.qualifier == bound.qualifier;
            if let (Some(name), Some(_)) = (&bound.qualifier, bounds[..at].iter().find(same)) {
                let mistake = Diagnostic::new("invalid", format!("two relations are named \"{name}\""));
                self.tell(
                    mistake.at(parts[at].at).help(format!("give each a name: FROM {name} AS a JOIN {name} AS b ON …")),
                );
                good = None;
            }
            if bound.replay != clock && !self.is_table(bound) {
                let mistake =
                    Diagnostic::new("mixed_clocks", "a replay and a live stream cannot be joined: their clocks differ");
                self.tell(mistake.at(parts[at].at).help("query each by itself"));
                good = None;
            }
        }
        good
    }

    /// WHERE's conditions, bound, and those that are sub-queries. `None` when one could not be bound.
    fn split_where<'s>(
        &mut self,
        selection: Option<&'s ast::Expr>,
        bounds: &[Bound],
    ) -> (Option<Vec<Expr>>, Vec<&'s ast::Expr>) {
        let Some(selection) = selection else { return (Some(Vec::new()), Vec::new()) };
        let Some(scope) = scope_of(bounds, "WHERE") else { return (None, Vec::new()) };
        let (sub_queries, plain): (Vec<_>, Vec<_>) =
            sub_query::conjuncts(selection).into_iter().partition(|syntax| sub_query::is_sub_query(syntax));
        let bound: Vec<Option<Expr>> = plain.into_iter().map(|syntax| self.condition(syntax, &scope)).collect();
        let bound = bound.into_iter().collect::<Option<Vec<_>>>();
        (bound.map(|bound| bound.into_iter().flat_map(split_conjunction_owned).collect()), sub_queries)
    }

    /// What ON or USING says.
    fn on(&mut self, part: &Part<'_>, left: &Bound, right: &Bound) -> Option<Vec<Expr>> {
        let scope = scope_of(&[left.clone(), right.clone()], "ON")?;
        if let Some(on) = part.on {
            return Some(vec![self.condition(on, &scope)?]);
        }
        let mut conditions = Vec::new();
        for name in &part.using {
            let found = [(left, "left"), (right, "right")].map(|(bound, side)| {
                let columns = bound.names();
                let found: Vec<String> = columns
                    .iter()
                    .filter(|column| column.name == fold(name) && !column.merged)
                    .map(|column| column.field.clone())
                    .collect();
                (found, side)
            });
            let [(of_left, _), (of_right, _)] = &found;
            let ([of_left], [of_right]) = (of_left.as_slice(), of_right.as_slice()) else {
                let (_, side) = found.iter().find(|(found, _)| found.len() != 1)?;
                let at = self.text.span(name.span);
                let message = format!("USING: \"{}\" is not one column of the {side} relation", fold(name));
                self.tell(Diagnostic::new("unknown_column", message).at(at).help("write ON a.x = b.y"));
                return None;
            };
            let ident = |field: &String| {
                ast::Expr::Identifier(ast::Ident { span: name.span, ..ast::Ident::with_quote('"', field) })
            };
            let equal = ast::Expr::BinaryOp {
                left: Box::new(ident(of_left)),
                op: ast::BinaryOperator::Eq,
                right: Box::new(ident(of_right)),
            };
            let plain = Scope { joined: None, ..scope_of(&[left.clone(), right.clone()], "USING")? };
            conditions.push(self.condition(&equal, &plain)?);
        }
        Some(conditions)
    }

    /// Makes one column of each USING column.
    fn merge_using(&mut self, bound: Bound, part: &Part<'_>) -> Option<Bound> {
        if part.using.is_empty() || matches!(part.kind, JoinKind::Semi | JoinKind::Anti) {
            return Some(bound);
        }
        let mut columns = bound.names().as_ref().clone();
        let mut merged = Vec::new();
        for name in part.using.iter().map(|name| fold(name)) {
            let mut both = columns.iter_mut().filter(|column| column.name == name && !column.merged);
            let (left, right) = (both.next()?, both.next()?);
            match part.kind {
                JoinKind::Right => left.merged = true,
                JoinKind::Full => {
                    (left.merged, right.merged) = (true, true);
                    merged.push((name, left.field.clone(), right.field.clone()));
                }
                _ => right.merged = true,
            }
        }
        if merged.is_empty() {
            return Some(Bound { joined: Some(Arc::new(columns)), ..bound });
        }
        let mut exprs: Vec<NamedExpr> = Vec::new();
        let mut first: Vec<JoinedColumn> = Vec::new();
        for (name, left, right) in merged {
            let field = format!("{left} or {right}");
            let expr = when(is_null(column_of(&left)), column_of(&right)).otherwise(column_of(&left)).ok()?;
            let schema = DFSchema::try_from(bound.schema().as_ref().clone()).ok()?;
            let expr = coerce(expr, &schema).ok()?;
            exprs.push(NamedExpr { expr, name: field.clone() });
            first.push(JoinedColumn { qualifier: None, name, field, merged: false });
        }
        let fields = bound.schema().fields().clone();
        exprs
            .extend(fields.iter().map(|field| NamedExpr { expr: column_of(field.name()), name: field.name().clone() }));
        first.append(&mut columns);
        let (label, window) = (bound.label.clone(), bound.window.clone());
        let bound = self.project(bound, exprs, part.at)?;
        Some(Bound { joined: Some(Arc::new(first)), label, window, ..bound })
    }

    /// Joins two relations whose field names are apart.
    fn combine(
        &mut self,
        left: Bound,
        right: Bound,
        kind: JoinKind,
        conjuncts: Vec<Expr>,
        at: Option<Span>,
    ) -> Option<Bound> {
        if let Some(looks) = self.looks_up(&left, &right, kind) {
            return self.look_up(looks, left, right, kind, conjuncts, at);
        }
        let mut condition = Condition::of(&left, &right, conjuncts);
        let (left, right) = below(left, right, kind, &mut condition);
        let time = self.join_time(&left, &right, &condition, at)?;
        let names: Joined = match kind {
            JoinKind::Semi | JoinKind::Anti => left.names(),
            _ => Arc::new(left.names().iter().chain(right.names().iter()).cloned().collect()),
        };
        let schema = Arc::new(Schema::new(fields(&left, &right, kind)));
        let (times, window) = times(&left, &right, kind, &time);
        let semi = matches!(kind, JoinKind::Semi | JoinKind::Anti);
        let label =
            if semi { left.label.clone() } else { format!("the join of {} and {}", label(&left), label(&right)) };
        let spec = JoinSpec { kind, on: condition.on, filter: conjunction(condition.filter), time };
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

    /// For how long rows wait, and whether they can be found at all.
    fn join_time(&mut self, left: &Bound, right: &Bound, condition: &Condition, at: Option<Span>) -> Option<JoinTime> {
        if let Some((left_end, right_end)) = &condition.window {
            let (left_end, right_end) = (left_end.clone(), right_end.clone());
            return Some(JoinTime::Window { left_end, right_end, span_ns: span(left).max(span(right)), grace_ns: 0 });
        }
        if condition.on.is_empty() {
            self.tell(cross_join(left, right, at));
            return None;
        }
        let (said_least, said_most) = (condition.least_ns, condition.most_ns);
        let kept = [said_least.is_none(), said_most.is_none()];
        let ttl_ns = if kept.contains(&true) { self.ttl_ns() } else { 0 };
        let least_ns = said_least.unwrap_or_else(|| said_most.unwrap_or(0).min(0).saturating_sub(ttl_ns));
        let most_ns = said_most.unwrap_or_else(|| said_least.unwrap_or(0).max(0).saturating_add(ttl_ns));
        if least_ns > most_ns {
            let mistake = Diagnostic::new("invalid", "no two rows can meet the join's conditions on event time");
            self.tell(mistake.at(at).note(format!(
                "their event times would have to differ by {} at least and {} at most",
                human(least_ns),
                human(most_ns)
            )).help(
                "the earlier bound stands first: a.ts BETWEEN b.ts - INTERVAL '1 minute' AND b.ts + INTERVAL '1 minute'",
            ));
            return None;
        }
        if least_ns < -MAX_WAIT_NS || most_ns > MAX_WAIT_NS {
            let message = format!("rows would wait longer for their partners than {}", human(MAX_WAIT_NS));
            self.tell(Diagnostic::new("limit", message).at(at).help("bound the event times more closely"));
            return None;
        }
        Some(JoinTime::Interval { least_ns, most_ns, kept })
    }
}

/// How long before its window's end a row lies at the most.
fn span(bound: &Bound) -> i64 {
    match &bound.window {
        Some(window) if window.grouped => condition::RESULT_LAG_NS,
        Some(window) => window.spec.size_ns(),
        None => RUNNING_TTL_NS,
    }
}

/// What expressions over several relations may name.
fn scope_of(bounds: &[Bound], clause: &'static str) -> Option<Scope> {
    let fields: Vec<FieldRef> = bounds.iter().flat_map(|bound| bound.schema().fields().iter().cloned()).collect();
    let schema = DFSchema::try_from(Schema::new(fields)).ok()?;
    let labels: Vec<String> = bounds.iter().map(label).collect();
    let names = bounds.iter().flat_map(|bound| bound.names().as_ref().clone()).collect();
    let label = format!("the join of {}", crate::suggest::and(&labels));
    Some(Scope { joined: Some(Arc::new(names)), ..Scope::new(schema, label, clause) })
}

fn label(bound: &Bound) -> String {
    bound.label.strip_prefix("the join of ").unwrap_or(&bound.label).to_owned()
}

/// Puts the conditions that concern one side on that side, where no row that is kept without a partner is lost by it.
fn below(mut left: Bound, mut right: Bound, kind: JoinKind, condition: &mut Condition) -> (Bound, Bound) {
    let of_left = std::mem::take(&mut condition.left);
    if matches!(kind, JoinKind::Inner | JoinKind::Right | JoinKind::Semi) {
        if let Some(predicate) = conjunction(of_left) {
            left = filter(left, predicate);
        }
    } else {
        condition.filter.extend(of_left);
    }
    let of_right = std::mem::take(&mut condition.right);
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        condition.filter.extend(of_right);
    } else if let Some(predicate) = conjunction(of_right) {
        right = filter(right, predicate);
    }
    (left, right)
}

/// The join's fields, those that may be missing nullable.
fn fields(left: &Bound, right: &Bound, kind: JoinKind) -> Vec<FieldRef> {
    let of = |bound: &Bound, missing: bool| -> Vec<FieldRef> {
        let fields = bound.schema().fields().iter();
        fields.map(|field| if missing { nullable(field) } else { Arc::clone(field) }).collect()
    };
    match kind {
        JoinKind::Semi | JoinKind::Anti => of(left, false),
        _ => {
            let mut fields = of(left, matches!(kind, JoinKind::Right | JoinKind::Full));
            fields.extend(of(right, matches!(kind, JoinKind::Left | JoinKind::Full)));
            fields
        }
    }
}

fn nullable(field: &FieldRef) -> FieldRef {
    Arc::new(Field::clone(field).with_nullable(true))
}

/// The columns that carry the event time of what comes out, and its windows.
fn times(left: &Bound, right: &Bound, kind: JoinKind, time: &JoinTime) -> (Vec<String>, Option<Windowed>) {
    if matches!(kind, JoinKind::Semi | JoinKind::Anti) || matches!(time, JoinTime::Table { .. }) {
        let columns = match time {
            JoinTime::Window { .. } => window_times(left),
            _ => left.times.clone(),
        };
        let window = left
            .window
            .clone()
            .map(|window| Windowed { grouped: window.grouped || matches!(time, JoinTime::Window { .. }), ..window });
        return (columns, window);
    }
    match time {
        JoinTime::Window { .. } => {
            let whole: &[&Bound] = match kind {
                JoinKind::Left => &[left],
                JoinKind::Right => &[right],
                JoinKind::Full => &[],
                _ => &[left, right],
            };
            let columns = whole.iter().flat_map(|bound| bound.window.iter()).flat_map(|window| window.columns.clone());
            let window =
                left.window.clone().map(|window| Windowed { grouped: true, columns: columns.collect(), ..window });
            (whole.iter().flat_map(|bound| window_times(bound)).collect(), window)
        }
        // The later of two rows is known where the bounds say it.
        JoinTime::Interval { most_ns, .. } if kind == JoinKind::Inner && *most_ns <= 0 => (right.times.clone(), None),
        JoinTime::Interval { least_ns, .. } if kind == JoinKind::Inner && *least_ns >= 0 => (left.times.clone(), None),
        _ => (Vec::new(), None),
    }
}

/// The window columns, the best event time first.
fn window_times(bound: &Bound) -> Vec<String> {
    use super::WindowColumn::{End, Start, Time};
    let Some(window) = &bound.window else { return Vec::new() };
    let of = |wanted| {
        let mut names: Vec<&String> =
            window.columns.iter().filter(|(_, column)| **column == wanted).map(|(name, _)| name).collect();
        names.sort();
        names
    };
    [Time, End, Start].into_iter().flat_map(of).cloned().collect()
}

fn cross_join(left: &Bound, right: &Bound, at: Option<Span>) -> Diagnostic {
    let (of_left, of_right) = (left.names(), right.names());
    let shared = of_left.iter().find_map(|one| {
        let other = of_right.iter().find(|other| other.name == one.name && !right.times.contains(&other.field))?;
        Some((one.qualifier.clone()?, other.qualifier.clone()?, one.name.clone()))
    });
    let (one, other, name) = shared.unwrap_or_else(|| ("a".into(), "b".into(), "id".into()));
    let mistake = crate::parse::unsupported(
        format!("a cross join pairs every row of {} with every row of {}", label(left), label(right)),
        at,
    );
    mistake.note("a join needs an equality between the two, or windows of both that are equal").help(format!(
        "JOIN … ON {one}.{name} = {other}.{name}, and bounds on the event times: AND {one}.ts BETWEEN {other}.ts - \
         INTERVAL '1 minute' AND {other}.ts + INTERVAL '1 minute'"
    ))
}
