//! `UNION ALL`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_expr::Expr;
use datafusion_expr::expr::Cast;
use datafusion_expr::type_coercion::binary::type_union_coercion;
use datafusion_sql::sqlparser::ast::{self, SetOperator, SetQuantifier};

use super::{Binder, Bound, Ctes, Windowed, column_of};
use crate::diagnostic::{Diagnostic, Span};
use crate::plan::{NamedExpr, Plan};
use crate::types::sql_name;

impl Binder<'_> {
    /// A chain of set operations, flattened.
    pub(super) fn union(&mut self, body: &ast::SetExpr, ctes: &Ctes) -> Option<Bound> {
        let mut parts = Vec::new();
        let mut rest = body;
        while let ast::SetExpr::SetOperation { left, op, set_quantifier, right } = rest {
            self.check_operator(*op, *set_quantifier, right);
            parts.push(right.as_ref());
            rest = left;
        }
        parts.push(rest);
        parts.reverse();
        let bound: Vec<Option<(Bound, Option<Span>)>> =
            parts.into_iter().map(|part| self.set_expr(part, ctes).map(|bound| (bound, self.place(part)))).collect();
        let bound = bound.into_iter().collect::<Option<Vec<_>>>()?;
        self.unite(bound)
    }

    fn check_operator(&mut self, op: SetOperator, quantifier: SetQuantifier, right: &ast::SetExpr) {
        let at = self.place(right);
        match (op, quantifier) {
            (SetOperator::Union, SetQuantifier::All) => {}
            (SetOperator::Union, SetQuantifier::None | SetQuantifier::Distinct) => self.refuse(
                "UNION without ALL would keep every row it has seen",
                at,
                "write UNION ALL; SELECT DISTINCT inside a window removes doubles",
            ),
            (SetOperator::Union, _) => {
                self.refuse("UNION BY NAME is not available", at, "order the columns and write UNION ALL")
            }
            (op, _) => self.refuse(format!("{op} is not available"), at, "UNION ALL is"),
        }
    }

    /// One relation of several whose columns fit.
    pub(super) fn unite(&mut self, parts: Vec<(Bound, Option<Span>)>) -> Option<Bound> {
        let (first, _) = parts.first()?;
        let mut types: Vec<DataType> = first.schema().fields().iter().map(|field| field.data_type().clone()).collect();
        let mut nullable: Vec<bool> = first.schema().fields().iter().map(|field| field.is_nullable()).collect();
        for (part, at) in &parts[1..] {
            if part.replay != first.replay {
                let mistake =
                    Diagnostic::new("mixed_clocks", "a replay and a live stream cannot be united: their clocks differ");
                self.tell(mistake.at(*at).help("query each by itself"));
                return None;
            }
            let fields = part.schema().fields();
            if fields.len() != types.len() {
                let message = format!("UNION ALL: {} columns here, {} in the first query", fields.len(), types.len());
                self.tell(Diagnostic::new("invalid", message).at(*at).help("give all of them the same columns"));
                return None;
            }
            for (index, field) in fields.iter().enumerate() {
                let Some(common) = type_union_coercion(&types[index], field.data_type()) else {
                    let message = format!(
                        "UNION ALL: column {} is a {} here and a {} before",
                        index + 1,
                        sql_name(field.data_type()),
                        sql_name(&types[index])
                    );
                    self.tell(Diagnostic::new("type_mismatch", message).at(*at).help("CAST(… AS type) changes a type"));
                    return None;
                };
                types[index] = common;
                nullable[index] |= field.is_nullable();
            }
        }
        let names = first.schema().fields().iter().map(|field| field.name().clone());
        let fields =
            names.zip(types).zip(nullable).map(|((name, data_type), nullable)| Field::new(name, data_type, nullable));
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let times = common_times(&parts, &schema);
        let window = common_window(&parts, &schema);
        let inputs = parts.iter().map(|(part, _)| adapt(&part.plan, &schema)).collect();
        let at = parts.last().and_then(|(_, at)| *at);
        let bound = Bound {
            qualifier: None,
            joined: None,
            label: "the union".into(),
            times,
            window,
            replay: first.replay,
            nodes: 1 + parts.iter().map(|(part, _)| part.nodes + 1).sum::<usize>(),
            plan: Arc::new(Plan::Union { inputs, schema }),
        };
        self.grown(bound, at)
    }
}

/// The input with the union's names and types.
fn adapt(input: &Arc<Plan>, schema: &SchemaRef) -> Arc<Plan> {
    let from = input.schema().fields();
    let same = from
        .iter()
        .zip(schema.fields())
        .all(|(from, to)| from.name() == to.name() && from.data_type() == to.data_type());
    if same {
        return Arc::clone(input);
    }
    let exprs = from.iter().zip(schema.fields()).map(|(from, to)| {
        let column = column_of(from.name());
        let expr = if from.data_type() == to.data_type() {
            column
        } else {
            Expr::Cast(Cast::new(Box::new(column), to.data_type().clone()))
        };
        NamedExpr { expr, name: to.name().clone() }
    });
    let fields: Vec<Field> = from
        .iter()
        .zip(schema.fields())
        .map(|(from, to)| Field::new(to.name(), to.data_type().clone(), from.is_nullable()))
        .collect();
    let exprs = exprs.collect();
    Arc::new(Plan::Project { input: Arc::clone(input), exprs, schema: Arc::new(Schema::new(fields)) })
}

fn common_times(parts: &[(Bound, Option<Span>)], schema: &SchemaRef) -> Vec<String> {
    let carries = |part: &Bound, index: usize| part.times.contains(part.schema().field(index).name());
    let columns = schema.fields().iter().enumerate();
    let common = columns.filter(|(index, _)| parts.iter().all(|(part, _)| carries(part, *index)));
    common.map(|(_, field)| field.name().clone()).collect()
}

/// The windows that all inputs were grouped by, when they are the same.
fn common_window(parts: &[(Bound, Option<Span>)], schema: &SchemaRef) -> Option<Windowed> {
    let windows = parts.iter().map(|(part, _)| part.window.as_ref()).collect::<Option<Vec<_>>>()?;
    let first = windows.first()?;
    if windows.iter().any(|window| !window.grouped || window.spec != first.spec) {
        return None;
    }
    let mut columns = HashMap::new();
    for (index, field) in schema.fields().iter().enumerate() {
        let mut bounds = parts
            .iter()
            .zip(&windows)
            .map(|((part, _), window)| window.columns.get(part.schema().field(index).name()).copied());
        let Some(Some(one)) = bounds.next() else { continue };
        if bounds.all(|other| other == Some(one)) {
            columns.insert(field.name().clone(), one);
        }
    }
    Some(Windowed { spec: first.spec, grouped: true, named: first.named, columns, partition_by: None })
}
