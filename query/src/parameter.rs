//! What the parameters of a statement take, for those who ask people for values.
//!
//! A value stands among the tokens as a literal, so that its type is known only once it is given. What fits is found
//! by planning with samples: a text that nobody writes shows by the cast around it what it is compared with.

use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::Expr;

use crate::catalog::Catalog;
use crate::params::{ParamValue, Params};
use crate::plan::Plan;
use crate::statement::{Query, Statement};
use crate::{analyze_with, parameters};

/// Parameters of a statement that are looked into: planning with samples costs some plannings each.
const MOST_PARAMETERS: usize = 16;

/// A text that nobody writes; in it or around it stands what functions of it make while planning.
const SAMPLE: &str = "\u{1}parameter";

/// What a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ParameterKind {
    /// A text.
    Text,
    /// A number.
    Number,
    /// TRUE or FALSE.
    Boolean,
    /// A moment or a day, as text.
    Timestamp,
    /// A length of time, as text: `10 seconds`.
    Interval,
    /// Whatever is given, or what nothing could be found out about.
    Any,
}

/// A parameter of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, without the `$`.
    pub name: String,
    /// What it takes.
    pub kind: ParameterKind,
    /// Only filters depend on it, so that it can have another value while the query runs.
    pub changeable: bool,
}

/// The parameters of a statement, in order of their names.
pub fn parameters_of(sql: &str, catalog: &dyn Catalog) -> Vec<Parameter> {
    let mut known: Vec<Parameter> = parameters(sql)
        .into_iter()
        .map(|name| Parameter { name, kind: ParameterKind::Any, changeable: false })
        .collect();
    if known.len() > MOST_PARAMETERS {
        return known;
    }
    for at in 0..known.len() {
        // What fits one parameter is seen only where the others have values that fit: there are several guesses.
        let guesses = [ParamValue::Null, text("1 second"), ParamValue::Number("1".into())];
        let found = guesses.iter().find_map(|guess| {
            let others = known.iter().map(|other| match other.kind {
                ParameterKind::Any => (other.name.clone(), guess.clone()),
                kind => (other.name.clone(), sample(kind, 0)),
            });
            kind_of(sql, &known[at].name, &others.collect(), catalog)
        });
        known[at].kind = found.unwrap_or(ParameterKind::Any);
    }
    let samples: Params = known.iter().map(|one| (one.name.clone(), sample(one.kind, 0))).collect();
    let Some(before) = live(sql, &samples, catalog) else { return known };
    for one in &mut known {
        let other = samples.clone().into_iter().chain([(one.name.clone(), sample(one.kind, 1))]).collect();
        one.changeable = live(sql, &other, catalog).is_some_and(|after| before.differs_in_filters_alone(&after));
    }
    known
}

fn text(text: &str) -> ParamValue {
    ParamValue::Text(text.to_owned())
}

/// One of two values of a kind.
fn sample(kind: ParameterKind, which: usize) -> ParamValue {
    match kind {
        ParameterKind::Number | ParameterKind::Any => ParamValue::Number(["1", "2"][which].to_owned()),
        ParameterKind::Boolean => ParamValue::Boolean(which == 0),
        ParameterKind::Text => text(["a", "b"][which]),
        ParameterKind::Timestamp => text(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"][which]),
        ParameterKind::Interval => text(["1 second", "2 seconds"][which]),
    }
}

fn live(sql: &str, params: &Params, catalog: &dyn Catalog) -> Option<Query> {
    match analyze_with(sql, params, catalog) {
        Ok(Statement::Select(query)) => Some(query),
        _ => None,
    }
}

/// What fits a parameter while the others have these values; `None`: nothing does.
fn kind_of(sql: &str, name: &str, others: &Params, catalog: &dyn Catalog) -> Option<ParameterKind> {
    let with = |value: ParamValue| {
        let params = others.clone().into_iter().chain([(name.to_owned(), value)]).collect();
        analyze_with(sql, &params, catalog).ok()
    };
    if let Some(statement) = with(text(SAMPLE)) {
        let mut seen = Seen::Nowhere;
        if let Some(plan) = plan_of(&statement) {
            look(plan, &mut seen);
        }
        return Some(match seen {
            Seen::Cast(kind) => kind,
            Seen::Used => ParameterKind::Text,
            Seen::Alone | Seen::Nowhere => ParameterKind::Any,
        });
    }
    let rest = [ParameterKind::Interval, ParameterKind::Timestamp, ParameterKind::Boolean, ParameterKind::Number];
    rest.into_iter().find(|kind| with(sample(*kind, 0)).is_some())
}

fn plan_of(statement: &Statement) -> Option<&Plan> {
    Some(match statement {
        Statement::Select(query) | Statement::Explain { query, .. } => &query.plan,
        Statement::CreateStream(create) => &create.query.plan,
        Statement::AlterStream(alter) => &alter.query.plan,
        Statement::CreateView(create) => &create.query.plan,
        _ => return None,
    })
}

/// Where the sample was seen; what says more comes later.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    Nowhere,
    /// As a value of its own.
    Alone,
    /// As a text, by an operator or a function.
    Used,
    /// As something else, into which it is cast.
    Cast(ParameterKind),
}

fn look(plan: &Plan, seen: &mut Seen) {
    match plan {
        Plan::Filter { predicate, .. } => look_into(predicate, seen),
        Plan::Project { exprs, .. } => exprs.iter().for_each(|named| look_into(&named.expr, seen)),
        Plan::Aggregate { keys, aggregates, .. } | Plan::AggregateRunning { keys, aggregates, .. } => {
            keys.iter().for_each(|key| look_into(&key.expr, seen));
            aggregates.iter().for_each(|call| look_into(&call.expr, seen));
        }
        _ => {}
    }
    plan.inputs().into_iter().for_each(|input| look(input, seen));
}

fn look_into(expr: &Expr, seen: &mut Seen) {
    let is_sample = |expr: &Expr| matches!(expr, Expr::Literal(ScalarValue::Utf8(Some(text)), _) if text.to_lowercase().contains(SAMPLE));
    if is_sample(expr) && *seen == Seen::Nowhere {
        *seen = Seen::Alone;
    }
    let walked = expr.apply(|expr| {
        let cast = match expr {
            Expr::Cast(cast) => Some((&cast.expr, cast.field.data_type())),
            Expr::TryCast(cast) => Some((&cast.expr, cast.field.data_type())),
            _ => None,
        };
        if let Some((inner, to)) = cast {
            if is_sample(inner) {
                *seen = Seen::Cast(kind_of_type(to));
            }
        } else if !matches!(seen, Seen::Cast(_)) {
            expr.apply_children(|child| {
                if is_sample(child) {
                    *seen = Seen::Used;
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.expect("nothing on the way fails");
}

fn kind_of_type(data_type: &DataType) -> ParameterKind {
    match data_type {
        DataType::Boolean => ParameterKind::Boolean,
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => ParameterKind::Timestamp,
        DataType::Interval(_) | DataType::Duration(_) => ParameterKind::Interval,
        other if other.is_numeric() => ParameterKind::Number,
        _ => ParameterKind::Text,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema};

    use super::*;
    use crate::catalog::{Relation, RelationKind, TimeAttribute};
    use crate::timestamp_type;

    struct Plays;

    impl Catalog for Plays {
        fn relation(&self, name: &str) -> Option<Relation> {
            let columns = [
                ("n", DataType::Int64),
                ("title", DataType::Utf8),
                ("paid", DataType::Boolean),
                ("ts", timestamp_type()),
            ];
            let fields: Vec<Field> = columns.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec();
            (name == "plays").then(|| Relation {
                name: name.to_owned(),
                kind: RelationKind::Source,
                schema: Arc::new(Schema::new(fields)),
                time: TimeAttribute::Column("ts".to_owned()),
                windows: None,
                late: None,
                replay: false,
            })
        }

        fn names(&self) -> Vec<String> {
            vec!["plays".to_owned()]
        }
    }

    fn found(sql: &str) -> Vec<(String, ParameterKind, bool)> {
        parameters_of(sql, &Plays).into_iter().map(|one| (one.name, one.kind, one.changeable)).collect()
    }

    #[test]
    fn what_a_parameter_takes_is_what_it_is_compared_with() {
        use ParameterKind::{Any, Boolean, Interval, Number, Text, Timestamp};
        for (condition, kind) in [
            ("n > $x", Number),
            ("n % $x = 0", Number),
            ("n IN (1, $x)", Number),
            ("title = $x", Text),
            ("title LIKE $x", Text),
            ("upper($x) = title", Text),
            ("paid = $x", Boolean),
            ("ts >= $x", Timestamp),
            ("ts > now() - INTERVAL $x", Interval),
            ("n > $x::BIGINT", Number),
        ] {
            let sql = format!("SELECT title FROM plays WHERE {condition}");
            assert_eq!(found(&sql), [("x".to_owned(), kind, true)], "{condition}");
        }
        assert_eq!(found("SELECT $x AS x FROM plays"), [("x".to_owned(), Any, false)]);
    }

    #[test]
    fn what_more_than_filters_depend_on_stays() {
        let sql =
            "SELECT count(*) AS n FROM plays WHERE title = $title GROUP BY tumble($size) HAVING count(*) > $least";
        let expected = [
            ("least", ParameterKind::Number, true),
            ("size", ParameterKind::Interval, false),
            ("title", ParameterKind::Text, false),
        ];
        assert_eq!(found(sql), expected.map(|(name, kind, changeable)| (name.to_owned(), kind, changeable)));
        assert_eq!(found("SELECT 1"), []);
        assert_eq!(found("SELEC $x FROM")[0].1, ParameterKind::Any);
    }
}
