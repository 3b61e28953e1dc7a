//! Jobs that aggregate by windows that the rows themselves make, and by keys.

use std::fmt::Write as _;

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;
use squilla_query::{GatherKind, GatherSpec, short_text};

use super::{Setting, Stateful};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::branch::{canonical_expr, canonical_named, duration, list, types};
use crate::operator::{CountWindow, CountWindowSpec, Operator, Session, SessionSpec};

/// How many gaps before the watermark a fresh query begins to read. Of sessions that began earlier it tells the part
/// from there on, as one that is not complete.
const SESSION_REACH_GAPS: i64 = 10;

/// Groups by windows that rows make, and keys.
#[derive(Debug)]
pub(crate) struct GatherJob {
    pub(crate) gather: GatherSpec,
    pub(crate) schema: SchemaRef,
}

impl GatherJob {
    fn windows(&self) -> String {
        match self.gather.kind {
            GatherKind::Session { gap_ns, .. } => format!("sessions with gaps of {}", duration(gap_ns)),
            GatherKind::Count { rows, slide } if rows == slide => format!("windows of {rows} rows"),
            GatherKind::Count { rows, slide } => format!("windows of {rows} rows every {slide}"),
        }
    }

    fn parts(&self) -> String {
        self.gather.partition_by.iter().map(short_text).collect::<Vec<_>>().join(", ")
    }
}

impl Stateful for GatherJob {
    fn kind(&self) -> &'static str {
        "aggregate"
    }

    fn canonical(&self) -> String {
        let GatherSpec { kind, partition_by, filter, keys, aggregates } = &self.gather;
        let aggregates: Vec<String> = aggregates.iter().map(|call| canonical_expr(&call.expr)).collect();
        let parts: Vec<String> = partition_by.iter().map(canonical_expr).collect();
        format!(
            "gather({kind:?};{};{};{};{}){}",
            parts.join(","),
            filter.as_ref().map(canonical_expr).unwrap_or_default(),
            canonical_named(keys),
            aggregates.join(","),
            types(&self.schema)
        )
    }

    fn describe(&self) -> String {
        let calls: Vec<String> = self.gather.aggregates.iter().map(|call| short_text(&call.expr)).collect();
        let mut text = if calls.is_empty() { "distinct rows".to_owned() } else { calls.join(", ") };
        if !self.gather.keys.is_empty() {
            let _ = write!(text, " by {}", list(&self.gather.keys));
        }
        let _ = write!(text, " in {}", self.windows());
        if !self.gather.partition_by.is_empty() {
            let _ = write!(text, " of each {}", self.parts());
        }
        if let Some(filter) = &self.gather.filter {
            let _ = write!(text, ", of rows where {}", short_text(filter));
        }
        text
    }

    fn describe_state(&self) -> String {
        let mut text = format!("open {}", self.windows());
        if !self.gather.partition_by.is_empty() {
            let _ = write!(text, " of each {}", self.parts());
        }
        if let GatherKind::Session { grace_ns, .. } = self.gather.kind
            && grace_ns > 0
        {
            let _ = write!(text, ", {} of grace", duration(grace_ns));
        }
        text
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn exprs(&self) -> Vec<&Expr> {
        let GatherSpec { partition_by, filter, keys, aggregates, .. } = &self.gather;
        let of_keys = keys.iter().map(|key| &key.expr);
        let own = of_keys.chain(aggregates.iter().map(|call| &call.expr));
        own.chain(partition_by).chain(filter).collect()
    }

    fn key_columns(&self) -> Option<usize> {
        // Windows by count are told full: they have no running results.
        match self.gather.kind {
            GatherKind::Session { .. } => Some(2 + self.gather.keys.len()),
            GatherKind::Count { .. } => None,
        }
    }

    fn begin(&self, watermark: EventTime) -> Option<EventTime> {
        let GatherKind::Session { gap_ns, grace_ns } = self.gather.kind else { return None };
        if watermark == EventTime::MIN || watermark == EventTime::MAX {
            return Some(EventTime::MIN);
        }
        let reach = gap_ns.saturating_mul(SESSION_REACH_GAPS).saturating_add(grace_ns);
        Some(EventTime(watermark.0.saturating_sub(reach)))
    }

    fn whole_from(&self, start: EventTime, missing_before: EventTime) -> EventTime {
        match self.gather.kind {
            // A row right before the start may have belonged to what begins within a gap behind it.
            GatherKind::Session { gap_ns, .. } => start.max(missing_before).plus(gap_ns),
            GatherKind::Count { .. } => EventTime::MIN,
        }
    }

    fn judges_lateness(&self) -> bool {
        matches!(self.gather.kind, GatherKind::Session { .. })
    }

    fn operator(&self, setting: Setting) -> Result<Box<dyn Operator>, EngineError> {
        let partitions = setting.partitions();
        match self.gather.kind {
            GatherKind::Session { gap_ns, grace_ns } => {
                let spec = SessionSpec {
                    input: setting.inputs[0].0.clone(),
                    gap_ns,
                    grace_ns,
                    gather: self.gather.clone(),
                    schema: self.schema.clone(),
                    partitions,
                    start: setting.start,
                    state_limit_bytes: setting.state_limit_bytes,
                };
                Ok(Box::new(Session::new(spec, setting.counters)?))
            }
            GatherKind::Count { rows, slide } => {
                let spec = CountWindowSpec {
                    input: setting.inputs[0].0.clone(),
                    rows,
                    slide,
                    gather: self.gather.clone(),
                    schema: self.schema.clone(),
                    partitions,
                    state_limit_bytes: setting.state_limit_bytes,
                };
                Ok(Box::new(CountWindow::new(spec, setting.counters)?))
            }
        }
    }
}
