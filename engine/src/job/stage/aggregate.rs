//! Jobs that aggregate by window and keys.

use std::fmt::Write as _;

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;
use squilla_query::{AggregateCall, NamedExpr, WindowKind, WindowSpec, short_text};

use super::{Setting, Stateful};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::branch::{canonical_expr, canonical_named, describe_window, duration, list, types};
use crate::job::history::first_open_window;
use crate::operator::{Aggregate, AggregateSpec, Operator, RESULT_LAG_NS};

/// Groups by window and keys.
#[derive(Debug)]
pub(crate) struct AggregateJob {
    pub(crate) window: WindowSpec,
    pub(crate) keys: Vec<NamedExpr>,
    pub(crate) aggregates: Vec<AggregateCall>,
    pub(crate) grace_ns: i64,
    pub(crate) schema: SchemaRef,
}

impl Stateful for AggregateJob {
    fn kind(&self) -> &'static str {
        "aggregate"
    }

    fn canonical(&self) -> String {
        let aggregates: Vec<String> = self.aggregates.iter().map(|call| canonical_expr(&call.expr)).collect();
        format!(
            "aggregate({:?};{};{};{}){}",
            self.window,
            self.grace_ns,
            canonical_named(&self.keys),
            aggregates.join(","),
            types(&self.schema)
        )
    }

    fn describe(&self) -> String {
        let calls: Vec<String> = self.aggregates.iter().map(|call| short_text(&call.expr)).collect();
        let mut text = if calls.is_empty() { "distinct rows".to_owned() } else { calls.join(", ") };
        if !self.keys.is_empty() {
            let _ = write!(text, " by {}", list(&self.keys));
        }
        let _ = write!(text, " in {}", describe_window(&self.window));
        text
    }

    fn describe_state(&self) -> String {
        let pane = gcd(self.window.size_ns(), self.window.slide_ns());
        let mut text = format!("open {}", describe_window(&self.window));
        if pane != self.window.size_ns() {
            let _ = write!(text, ", shared panes of {}", duration(pane));
        }
        if self.grace_ns > 0 {
            let _ = write!(text, ", {} of grace", duration(self.grace_ns));
        }
        text
    }

    fn describe_emission(&self) -> String {
        let grace = if self.grace_ns > 0 { format!(" and {} more", duration(self.grace_ns)) } else { String::new() };
        format!("each window once the watermark has passed its end{grace}")
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn exprs(&self) -> Vec<&Expr> {
        let keys = self.keys.iter().map(|key| &key.expr);
        keys.chain(self.aggregates.iter().map(|call| &call.expr)).collect()
    }

    fn key_columns(&self) -> Option<usize> {
        Some(2 + self.keys.len())
    }

    fn begin(&self, watermark: EventTime) -> Option<EventTime> {
        Some(first_open_window(&self.window, self.grace_ns, watermark))
    }

    fn missing_before(&self, start: EventTime) -> EventTime {
        untold_results(&self.window, start)
    }

    fn judges_lateness(&self) -> bool {
        true
    }

    /// Results with a watermark W are those of all windows that end by W; the next ends 1 ms behind it or later.
    fn resume(&self, told: EventTime) -> Option<EventTime> {
        let closed = told.plus(RESULT_LAG_NS - 1).plus(self.grace_ns);
        Some(if told == EventTime::MIN { told } else { first_open_window(&self.window, self.grace_ns, closed) })
    }

    fn told(&self, watermark: EventTime) -> EventTime {
        watermark.plus(1 - RESULT_LAG_NS).plus(-self.grace_ns)
    }

    fn operator(&self, setting: Setting) -> Result<Box<dyn Operator>, EngineError> {
        let spec = AggregateSpec {
            input: setting.inputs[0].0.clone(),
            window: self.window,
            keys: self.keys.clone(),
            aggregates: self.aggregates.clone(),
            grace_ns: self.grace_ns,
            schema: self.schema.clone(),
            partitions: setting.partitions(),
            start: setting.start,
            state_limit_bytes: setting.state_limit_bytes,
        };
        Ok(Box::new(Aggregate::new(spec, setting.counters)?.with_crew(setting.crew)))
    }
}

/// The event time before which results of windows that start before `start` lie.
pub(super) fn untold_results(window: &WindowSpec, start: EventTime) -> EventTime {
    match window.kind {
        WindowKind::Hop { size_ns, slide_ns } => start.plus((size_ns - slide_ns).max(0)),
        _ => start,
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
