//! A script, checked without carrying it out.

use std::collections::BTreeSet;

use squilla_query::{
    Diagnostic, ParamValue, Parameter, ParameterKind, Params, Relation, RelationKind, Statement, TimeAttribute,
    parameters_of, split_statements,
};

use super::alter::{no_stream, no_stream_but};
use super::analyze::analyze;
use super::define::{exists, kind_of_source, relation_of_sink};
use crate::catalog::{Body, Definition, Lookup, Names, StoredKind, relation_of_query};

/// Mistakes that are such whatever values a statement's parameters will have.
const WITHOUT_VALUES: [&str; 5] = ["syntax", "limit", "unknown_relation", "unknown_column", "unknown_function"];

/// What is known of a script before it is carried out.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// All mistakes, with spans in the whole text.
    pub(crate) mistakes: Vec<Diagnostic>,
    /// The parameters of its statements, each name once.
    pub(crate) parameters: Vec<Parameter>,
}

/// Looks into a script without carrying it out.
pub(super) fn check(names: &Names, script: &str) -> Checked {
    let statements = match split_statements(script) {
        Ok(statements) => statements,
        Err(mistakes) => return Checked { mistakes, parameters: Vec::new() },
    };
    let (mut mistakes, mut known) = (Vec::new(), Vec::new());
    let mut names = names.clone();
    // Names that the script creates and whose columns are known only once it runs: what reads them is not judged.
    let mut unknown = BTreeSet::new();
    for statement in statements {
        // Values come when the statement is submitted: until then types cannot be judged, names and syntax can.
        let params: Params =
            squilla_query::parameters(&statement.sql).into_iter().map(|name| (name, ParamValue::Null)).collect();
        let (result, asked) = analyze(&names, &statement.sql, &params);
        let certain = |mistake: &Diagnostic| params.is_empty() || WITHOUT_VALUES.contains(&mistake.code);
        let result = result.map_err(|found| found.into_iter().filter(certain).collect::<Vec<_>>());
        let judged = !asked.iter().any(|name| unknown.contains(name));
        // What is wrong whatever the values tells nothing about them.
        if result.as_ref().is_err_and(|found| !found.is_empty()) {
            let unknown = |name: &String| Parameter { name: name.clone(), kind: ParameterKind::Any, changeable: false };
            params.keys().map(unknown).for_each(|one| add_parameter(&mut known, one));
        } else if !params.is_empty() {
            parameters_of(&statement.sql, &Lookup::new(&names))
                .into_iter()
                .for_each(|one| add_parameter(&mut known, one));
        }
        let found = match result {
            Ok(bound) => {
                let found = pretend(&mut names, &mut unknown, bound, judged, &statement.sql);
                found.into_iter().collect()
            }
            Err(found) if judged => found,
            Err(_) => Vec::new(),
        };
        mistakes.extend(found.into_iter().map(|mistake| shifted(mistake, statement.span.start)));
    }
    Checked { mistakes, parameters: known }
}

/// A parameter of several statements takes what the first says that knows, and may change where it may in all.
fn add_parameter(known: &mut Vec<Parameter>, parameter: Parameter) {
    match known.iter_mut().find(|there| there.name == parameter.name) {
        None => known.push(parameter),
        Some(there) => {
            there.changeable &= parameter.changeable;
            if there.kind == ParameterKind::Any {
                there.kind = parameter.kind;
            }
        }
    }
}

/// Changes the names as the statement would.
fn pretend(
    names: &mut Names,
    unknown: &mut BTreeSet<String>,
    statement: Statement,
    judged: bool,
    sql: &str,
) -> Option<Diagnostic> {
    let (name, if_not_exists, body) = match statement {
        Statement::CreateSource(create) => {
            let Some(schema) = create.schema.clone() else {
                unknown.insert(create.name.clone());
                return add(names, create.name.clone(), create.if_not_exists, Body::Pending(Box::new(create)), sql);
            };
            let first_time =
                || schema.fields().iter().find(|field| *field.data_type() == squilla_query::timestamp_type());
            let kind = kind_of_source(&create);
            let implied = || Some(first_time()?.name().clone()).filter(|_| kind == RelationKind::Source);
            let column = create.watermark.as_ref().map(|clause| clause.column.clone()).or_else(implied);
            let time = column.map_or(TimeAttribute::Arrival, TimeAttribute::Column);
            let name = create.name.clone();
            let schema = create.visible(&schema);
            let relation = Relation { name, kind, schema, time, windows: None, late: None, replay: false };
            (create.name, create.if_not_exists, Body::Readable(relation))
        }
        Statement::CreateStream(create) => {
            let relation = relation_of_query(&create.name, create.kind(), &create.query.plan, names);
            (create.name, create.if_not_exists, Body::Readable(relation))
        }
        Statement::AlterStream(alter) => {
            let Some(there) = names.get(&alter.name) else {
                return (!alter.if_exists).then(|| no_stream(&alter.name, alter.span));
            };
            if there.kind() != StoredKind::Stream {
                return Some(no_stream_but(there, alter.span));
            }
            let relation = relation_of_query(&alter.name, alter.kind(), &alter.query.plan, names);
            let (name, sql, body) = (alter.name, sql.to_owned(), Body::Readable(relation));
            *names = names.with(Definition { id: there.id, name, reads: there.reads.clone(), sql, body });
            return None;
        }
        Statement::CreateView(create) => {
            let kind = RelationKind::View { sql: create.query.sql.clone() };
            let relation = relation_of_query(&create.name, kind, &create.query.plan, names);
            (create.name, create.if_not_exists, Body::Readable(relation))
        }
        Statement::CreateSink(create) => {
            let body = Body::Sink(relation_of_sink(&create.name), Box::new(create.clone()));
            (create.name, create.if_not_exists, body)
        }
        Statement::Drop(drop) => {
            *names = names.without(&drop.name);
            unknown.remove(&drop.name);
            return None;
        }
        Statement::Promote(promote) => {
            // What it shows is known when it is carried out.
            unknown.insert(promote.name.clone());
            let relation = Relation { kind: RelationKind::Stream, ..relation_of_sink(&promote.name) };
            return add(names, promote.name, false, Body::Readable(relation), sql);
        }
        _ => return None,
    };
    if !judged {
        unknown.insert(name.clone());
    }
    add(names, name, if_not_exists, body, sql)
}

fn add(names: &mut Names, name: String, if_not_exists: bool, body: Body, sql: &str) -> Option<Diagnostic> {
    if let Some(there) = names.get(&name) {
        return (!if_not_exists).then(|| exists(there, sql));
    }
    *names = names.with(Definition { id: i64::MAX, name, reads: Vec::new(), sql: sql.to_owned(), body });
    None
}

fn shifted(mut mistake: Diagnostic, by: usize) -> Diagnostic {
    if let Some(span) = &mut mistake.span {
        span.start += by;
        span.end += by;
    }
    mistake
}
