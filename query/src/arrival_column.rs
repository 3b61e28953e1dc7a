//! Columns that tell when a row arrived: `proc AS PROCTIME()` in `CREATE SOURCE`.
//!
//! No source has such a column. Whoever reads the relation finds it among the others, marked; the binder puts `now()` in its
//! place.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_expr::Expr;

use crate::bind::column_of;
use crate::catalog::Relation;
use crate::diagnostic::{Diagnostic, Span};
use crate::functions;
use crate::plan::{NamedExpr, Plan};
use crate::statement::CreateSource;
use crate::timestamp_type;

/// Key of the metadata of a field that tells the arrival.
const MARK: &str = "squilla.arrival";

/// `name AS PROCTIME()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrivalColumn {
    /// Its name.
    pub name: String,
    /// How many declared columns stand before it.
    pub at: usize,
    /// Where it stands.
    pub span: Option<Span>,
}

impl CreateSource {
    /// The columns that a reader finds: those of the source, and where they were declared those of its arrival.
    pub fn visible(&self, schema: &SchemaRef) -> SchemaRef {
        if self.arrivals.is_empty() {
            return Arc::clone(schema);
        }
        let mut fields = schema.fields().to_vec();
        let inferred = self.schema.is_none();
        for (before, column) in self.arrivals.iter().enumerate() {
            let field = Field::new(&column.name, timestamp_type(), true);
            let field = field.with_metadata([(MARK.to_owned(), String::new())].into());
            let at = if inferred { fields.len() } else { (column.at + before).min(fields.len()) };
            fields.insert(at, Arc::new(field));
        }
        Arc::new(Schema::new(fields))
    }

    /// Checks that the source has no columns of these names.
    ///
    /// # Errors
    /// What is wrong, with the column's span.
    pub fn check_arrivals(&self, schema: &Schema) -> Result<(), Diagnostic> {
        match self.arrivals.iter().find(|column| schema.field_with_name(&column.name).is_ok()) {
            Some(column) => {
                let message = format!("the source has a column \"{}\" of its own", column.name);
                Err(Diagnostic::new("invalid", message).at(column.span).help("choose another name"))
            }
            None => Ok(()),
        }
    }
}

/// Whether a relation's column tells when its rows arrived.
pub fn tells_arrival(field: &Field) -> bool {
    field.metadata().contains_key(MARK)
}

/// The columns that come from the source itself.
pub(crate) fn own_columns(schema: &SchemaRef) -> SchemaRef {
    let own = || schema.fields().iter().filter(|field| !tells_arrival(field));
    if own().count() == schema.fields().len() {
        return Arc::clone(schema);
    }
    Arc::new(Schema::new(own().cloned().collect::<Vec<_>>()))
}

/// Reads a relation with all its columns.
pub(crate) fn scan(relation: &Relation) -> Plan {
    let own = own_columns(&relation.schema);
    let scan = Plan::Scan { relation: relation.name.clone(), schema: Arc::clone(&own) };
    if own.fields().len() == relation.schema.fields().len() {
        return scan;
    }
    let exprs = relation.schema.fields().iter().map(|field| {
        let expr = if tells_arrival(field) { functions::arrival() } else { column_of(field.name()) };
        NamedExpr { expr, name: field.name().clone() }
    });
    let plain = relation.schema.fields().iter().map(|field| field.as_ref().clone().with_metadata([].into()));
    let schema = Arc::new(Schema::new(plain.collect::<Vec<_>>()));
    Plan::Project { input: Arc::new(scan), exprs: exprs.collect(), schema }
}

impl Plan {
    /// Whether a column of the output is the arrival of the row, under whatever name.
    pub(crate) fn is_arrival(&self, column: &str) -> bool {
        match self {
            Self::Project { input, exprs, .. } => {
                let item = exprs.iter().find(|item| item.name == column);
                item.is_some_and(|item| match plain(&item.expr) {
                    Expr::Column(below) => input.is_arrival(&below.name),
                    expr => *expr == functions::arrival(),
                })
            }
            Self::Filter { input, .. } | Self::Sample { input, .. } | Self::Unnest { input, .. } => {
                input.is_arrival(column)
            }
            Self::Union { inputs, schema } => {
                let Ok(at) = schema.index_of(column) else { return false };
                inputs.iter().all(|input| input.is_arrival(input.schema().field(at).name()))
            }
            _ => false,
        }
    }
}

fn plain(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => plain(&alias.expr),
        other => other,
    }
}
