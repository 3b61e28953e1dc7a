//! Jobs that aggregate without windows.

use std::fmt::Write as _;

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;
use squilla_query::{AggregateCall, NamedExpr, short_text};

use super::{Setting, Stateful};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::branch::{canonical_expr, canonical_named, duration, list, types};
use crate::operator::{AggregateRunning, Operator, RunningSpec};

/// Groups by keys over all time.
#[derive(Debug)]
pub(crate) struct RunningJob {
    pub(crate) keys: Vec<NamedExpr>,
    pub(crate) aggregates: Vec<AggregateCall>,
    pub(crate) ttl_ns: i64,
    pub(crate) schema: SchemaRef,
}

impl Stateful for RunningJob {
    fn kind(&self) -> &'static str {
        "aggregate"
    }

    fn canonical(&self) -> String {
        let aggregates: Vec<String> = self.aggregates.iter().map(|call| canonical_expr(&call.expr)).collect();
        let (keys, types) = (canonical_named(&self.keys), types(&self.schema));
        format!("running({};{keys};{}){types}", self.ttl_ns, aggregates.join(","))
    }

    fn describe(&self) -> String {
        let calls: Vec<String> = self.aggregates.iter().map(|call| short_text(&call.expr)).collect();
        let mut text = if calls.is_empty() { "distinct rows".to_owned() } else { calls.join(", ") };
        if !self.keys.is_empty() {
            let _ = write!(text, " by {}", list(&self.keys));
        }
        text.push_str(" over all time");
        text
    }

    fn describe_state(&self) -> String {
        if self.keys.is_empty() {
            return "one group".to_owned();
        }
        let keys = list(&self.keys);
        format!("one group for each {keys}, forgotten {} after its last row on live input", duration(self.ttl_ns))
    }

    fn describe_emission(&self) -> String {
        "what changed, to readers of running results; final rows at the end of bounded input".to_owned()
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn exprs(&self) -> Vec<&Expr> {
        let keys = self.keys.iter().map(|key| &key.expr);
        keys.chain(self.aggregates.iter().map(|call| &call.expr)).collect()
    }

    fn key_columns(&self) -> Option<usize> {
        Some(self.keys.len())
    }

    /// All that the inputs keep: the answer then depends as little as can be on who asked first.
    fn begin(&self, _watermark: EventTime) -> Option<EventTime> {
        Some(EventTime::MIN)
    }

    fn changes(&self) -> bool {
        true
    }

    fn operator(&self, setting: Setting) -> Result<Box<dyn Operator>, EngineError> {
        // The only group of a query without keys lives as long as the query.
        let ttl_ns = (setting.forgets && !self.keys.is_empty()).then_some(self.ttl_ns);
        let spec = RunningSpec {
            input: setting.inputs[0].0.clone(),
            keys: self.keys.clone(),
            aggregates: self.aggregates.clone(),
            ttl_ns,
            schema: self.schema.clone(),
            partitions: setting.partitions(),
            state_limit_bytes: setting.state_limit_bytes,
        };
        Ok(Box::new(AggregateRunning::new(spec, setting.counters)?))
    }
}
