//! Jobs that hold what live tables hold.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;

use super::{Setting, Stateful};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::run::{JobSpec, spawn_job};
use crate::job::{Begin, Branch, Job, Lease, Stage};
use crate::operator::{KeepLatest, Operator};
use crate::shared::Shared;
use crate::source::SourceDefinition;

/// What these jobs are called.
pub(crate) const TABLE: &str = "table";

/// Keeps the latest row of each key for those who look up in the table later, and hands all rows on.
#[derive(Debug)]
struct TableJob {
    table: String,
    /// Names of the key's columns.
    key: Vec<String>,
    schema: SchemaRef,
}

/// Starts the job of a table that can be read once only; `source` reads it.
///
/// # Errors
/// [`EngineError::Plan`] when its key cannot be one.
pub(crate) fn keep_table(
    shared: &Arc<Shared>,
    source: &Arc<Job>,
    definition: &SourceDefinition,
) -> Result<Lease, EngineError> {
    let (table, key, schema) = (definition.name.clone(), definition.key.clone(), definition.schema.clone());
    let input = Arc::new(Lease::new(source.clone(), &table, &shared.registry));
    let branch = Branch { input, updates: false, fresh: true, right: false, late: false, ops: Vec::new() };
    let stage = Stage::Stateful(Arc::new(TableJob { table: table.clone(), key, schema }));
    let (number, begin, stream) = (shared.next_id(), Begin::Earliest, Some(table.clone()));
    let needed = EventTime::MAX;
    let (branches, private, holding, output) = (vec![branch], true, false, None);
    let paused = false;
    let spec = JobSpec { number, branches, stage, begin, needed, stream, private, holding, output, paused };
    spawn_job(shared, spec, &table)
}

impl Stateful for TableJob {
    fn kind(&self) -> &'static str {
        TABLE
    }

    fn canonical(&self) -> String {
        format!("table({};{})", self.table, self.key.join(","))
    }

    fn describe(&self) -> String {
        format!("keep the latest row of each {}", self.key.join(", "))
    }

    fn describe_state(&self) -> String {
        format!("the latest row of each {}", self.key.join(", "))
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn exprs(&self) -> Vec<&Expr> {
        Vec::new()
    }

    fn key_columns(&self) -> Option<usize> {
        None
    }

    fn begin(&self, _watermark: EventTime) -> Option<EventTime> {
        None
    }

    fn operator(&self, setting: Setting) -> Result<Box<dyn Operator>, EngineError> {
        let input = setting.inputs.first().ok_or_else(|| EngineError::Plan("a table of no input".into()))?;
        let (limit, counters) = (setting.state_limit_bytes, setting.counters);
        Ok(Box::new(KeepLatest::new(&self.table, &input.0, &self.key, limit, counters)?))
    }
}
