//! By what running results of a union replace each other.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::ScalarValue;
use datafusion_expr::Expr;

use super::emit::{Part, Parts, key_parts};
use crate::plan::Plan;

/// A column that is a key, of whichever of the parts.
const SOME_KEY: Part = Part::Key(usize::MAX);

/// What a column of one of the parts is, for the key of all.
#[derive(PartialEq)]
enum Means {
    Window,
    Key { nullable: bool },
    Constant(ScalarValue),
    Value,
}

/// What the columns of a union tell: `None` when one of its parts has no running results, or rows of two parts may have
/// the same key.
pub(super) fn parts(inputs: &[Arc<Plan>], schema: &SchemaRef) -> Option<Parts> {
    let all = inputs.iter().map(|input| key_parts(input)).collect::<Option<Vec<_>>>()?;
    let means: Vec<Vec<Means>> = inputs.iter().zip(&all).map(|(input, parts)| means(input, parts)).collect();
    let count = schema.fields().len();
    // A column whose value changes in one of the parts is none of the key's.
    let steady: Vec<bool> = (0..count).map(|at| means.iter().all(|means| means[at] != Means::Value)).collect();
    let apart = |one: &[Means], other: &[Means]| (0..count).any(|at| steady[at] && differ(&one[at], &other[at]));
    let pairs = (0..means.len()).flat_map(|one| (one + 1..means.len()).map(move |other| (one, other)));
    for (one, other) in pairs {
        if !apart(&means[one], &means[other]) {
            return None;
        }
    }
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let part = match steady[at] {
            true if means.iter().all(|means| means[at] == Means::Window) => Part::Window,
            true => SOME_KEY,
            false => Part::Value,
        };
        (field.name().clone(), part)
    });
    let mut missing: Vec<String> = Vec::new();
    for parts in &all {
        let held = |key: usize| (0..count).any(|at| steady[at] && parts.columns[at].1 == Part::Key(key));
        let lost = (0..parts.keys.len()).filter(|key| !held(*key)).map(|key| parts.keys[key].clone());
        missing.extend(lost.filter(|name| !missing.contains(name)).collect::<Vec<_>>());
    }
    // Keys that no column holds are told as missing.
    Some(Parts { columns: columns.collect(), keys: missing })
}

fn means(input: &Arc<Plan>, parts: &Parts) -> Vec<Means> {
    let columns = parts.columns.iter().enumerate().map(|(at, (_, part))| match part {
        Part::Window => Means::Window,
        Part::Key(_) => Means::Key { nullable: input.schema().field(at).is_nullable() },
        Part::Value => constant(input, at).map_or(Means::Value, Means::Constant),
    });
    columns.collect()
}

/// The constant that a column is.
fn constant(plan: &Plan, at: usize) -> Option<ScalarValue> {
    match plan {
        Plan::Filter { input, .. } => constant(input, at),
        Plan::Project { input, exprs, .. } => match &exprs.get(at)?.expr {
            Expr::Literal(value, _) => Some(value.clone()),
            Expr::Column(column) => constant(input, input.schema().index_of(&column.name).ok()?),
            _ => None,
        },
        _ => None,
    }
}

/// Whether no row of one part has in this column what a row of the other has.
fn differ(one: &Means, other: &Means) -> bool {
    match (one, other) {
        (Means::Constant(one), Means::Constant(other)) => one != other,
        (Means::Constant(null), Means::Key { nullable: false })
        | (Means::Key { nullable: false }, Means::Constant(null)) => null.is_null(),
        _ => false,
    }
}
