//! Jobs that follow the windows of keys, one after the other.

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;
use squilla_query::{TrackFunction, TrackSpec};

use super::{Setting, Stateful};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::branch::{duration, types};
use crate::operator::{Operator, Track, TrackInput};

/// Puts beside rows what follows from those of their keys before them.
#[derive(Debug)]
pub(crate) struct TrackJob {
    pub(crate) track: TrackSpec,
    pub(crate) schema: SchemaRef,
}

impl Stateful for TrackJob {
    fn kind(&self) -> &'static str {
        "track"
    }

    fn canonical(&self) -> String {
        let TrackSpec { partition_by, calls, ttl_ns } = &self.track;
        format!("track({partition_by:?};{calls:?};{ttl_ns}){}", types(&self.schema))
    }

    fn describe(&self) -> String {
        let calls: Vec<&str> = self.track.calls.iter().map(|call| word(&call.function)).collect();
        format!("{} over the windows of each key before", calls.join(", "))
    }

    fn describe_state(&self) -> String {
        format!("values of the last windows of each key, until it has had none for {}", duration(self.track.ttl_ns))
    }

    fn describe_emission(&self) -> String {
        "each window once the watermark has passed its end".to_owned()
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

    fn begin(&self, watermark: EventTime) -> Option<EventTime> {
        // Rows of closed windows come at their ends: those that are still to come have later ones.
        Some(if watermark == EventTime::MAX { EventTime::MIN } else { watermark })
    }

    fn operator(&self, setting: Setting) -> Result<Box<dyn Operator>, EngineError> {
        let input = TrackInput {
            input: setting.inputs[0].0.clone(),
            schema: self.schema.clone(),
            partitions: setting.partitions(),
            state_limit_bytes: setting.state_limit_bytes,
        };
        Ok(Box::new(Track::new(&self.track, input, setting.counters)?))
    }
}

fn word(function: &TrackFunction) -> &'static str {
    match function {
        TrackFunction::Lag { .. } => "lag",
        TrackFunction::RobustZscore { .. } => "robust_zscore",
        TrackFunction::Ewma { .. } => "ewma",
        TrackFunction::EwmaBand { deviations, .. } if *deviations < 0.0 => "ewma_lower",
        TrackFunction::EwmaBand { .. } => "ewma_upper",
        TrackFunction::RateOfChange => "rate_of_change",
    }
}
