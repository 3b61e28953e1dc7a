//! A catalog in memory: what statements have defined, without an engine.

use std::collections::BTreeMap;
use std::sync::Mutex;

use arrow::datatypes::SchemaRef;
use squilla_query::{
    Catalog, CreateSource, Plan, Relation, RelationKind, Statement, TimeAttribute, analyze, timestamp_type,
};

/// Relations by name.
#[derive(Debug, Default)]
pub struct Names(Mutex<BTreeMap<String, Relation>>);

impl Clone for Names {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.0.lock().expect("no holder of this lock panics").clone()))
    }
}

impl Names {
    /// Defines a relation.
    pub fn add(&self, relation: Relation) {
        self.0.lock().expect("no holder of this lock panics").insert(relation.name.clone(), relation);
    }

    /// Defines a source of such columns.
    pub fn add_source(&self, create: &CreateSource, schema: &SchemaRef, time: TimeAttribute) {
        let kind = match &create.key {
            Some(key) => RelationKind::Table { key: key.columns.clone() },
            None => RelationKind::Source,
        };
        let (name, schema) = (create.name.clone(), create.visible(schema));
        self.add(Relation { name, kind, schema, time, windows: None, late: None, replay: false });
    }

    /// Defines the result of a plan.
    pub fn add_query(&self, name: &str, kind: RelationKind, plan: &Plan) {
        let time = plan.time_attribute(&|name| self.readable(name).map(|relation| relation.time));
        let windows = plan.named_windows(&|name| self.readable(name).and_then(|relation| relation.windows));
        let late = plan.late_stream(&|name| self.readable(name).map(|relation| (relation.schema, relation.time)));
        let late = late.filter(|_| kind == RelationKind::Stream);
        let replay = plan.streams().iter().any(|name| self.readable(name).is_some_and(|read| read.replay));
        self.add(Relation { name: name.to_owned(), kind, schema: plan.schema().clone(), time, windows, late, replay });
    }

    /// Defines what a statement creates, as far as its text says it.
    pub fn define(&self, statement: &Statement) {
        match statement {
            Statement::CreateSource(create) => {
                if let Some(schema) = &create.schema {
                    self.add_source(create, schema, event_time(create, schema));
                }
            }
            Statement::CreateStream(create) => self.add_query(&create.name, create.kind(), &create.query.plan),
            Statement::CreateView(create) => {
                let kind = RelationKind::View { sql: create.query.sql.clone() };
                self.add_query(&create.name, kind, &create.query.plan);
            }
            _ => {}
        }
    }

    /// The names that statements define.
    ///
    /// # Panics
    /// If one is refused.
    pub fn of(statements: &[&str]) -> Self {
        let names = Self::default();
        for sql in statements {
            names.define(&analyze(sql, &names).unwrap_or_else(|found| panic!("{found:?} for {sql}")));
        }
        names
    }
}

/// Where the event time of a source comes from: the column of its clause, or its first TIMESTAMP.
fn event_time(create: &CreateSource, schema: &SchemaRef) -> TimeAttribute {
    let first = || schema.fields().iter().find(|field| field.data_type() == &timestamp_type());
    match &create.watermark {
        Some(clause) => TimeAttribute::Column(clause.column.clone()),
        None if create.key.is_some() => TimeAttribute::Arrival,
        None => first().map_or(TimeAttribute::Arrival, |field| TimeAttribute::Column(field.name().clone())),
    }
}

impl Catalog for Names {
    fn relation(&self, name: &str) -> Option<Relation> {
        self.0.lock().expect("no holder of this lock panics").get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().expect("no holder of this lock panics").keys().cloned().collect()
    }
}
