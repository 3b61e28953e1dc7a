//! Jobs that rank rows.

use std::fmt::Write as _;

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;
use squilla_query::{RankFunction, RankSpec, RankTime, short_text};

use super::aggregate::untold_results;
use super::{Setting, Stateful};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::branch::{canonical_expr, duration, types};
use crate::job::history::first_open_window;
use crate::operator::{Operator, Rank, RankInput};

/// Numbers rows within parts by an order.
#[derive(Debug)]
pub(crate) struct RankJob {
    pub(crate) rank: RankSpec,
    pub(crate) schema: SchemaRef,
}

impl Stateful for RankJob {
    fn kind(&self) -> &'static str {
        "rank"
    }

    fn canonical(&self) -> String {
        let RankSpec { function, partition_by, order_by, limit, column, time, .. } = &self.rank;
        let parts: Vec<String> = partition_by.iter().map(canonical_expr).collect();
        let order: Vec<String> = order_by
            .iter()
            .map(|sort| format!("{} {} {}", canonical_expr(&sort.expr), sort.asc, sort.nulls_first))
            .collect();
        let (parts, order, types) = (parts.join(","), order.join(","), types(&self.schema));
        format!("rank({function:?};{parts};{order};{limit:?};{};{time:?}){types}", column.is_some())
    }

    fn describe(&self) -> String {
        let order = self.rank.order_by.iter().map(|sort| {
            let direction = if sort.asc { "" } else { " DESC" };
            format!("{}{direction}", short_text(&sort.expr))
        });
        let order = order.collect::<Vec<_>>().join(", ");
        let mut text = match (self.rank.limit, self.rank.function) {
            (Some(limit), _) => format!("first {limit} by {order}"),
            (None, RankFunction::RowNumber) if self.rank.column.is_none() => format!("rows in order of {order}"),
            (None, _) => format!("ranks by {order}"),
        };
        if !self.rank.partition_by.is_empty() {
            let parts: Vec<String> = self.rank.partition_by.iter().map(short_text).collect();
            let _ = write!(text, " of each {}", parts.join(", "));
        }
        text.push_str(" in each window");
        text
    }

    fn describe_state(&self) -> String {
        let mut text = match self.rank.limit {
            Some(limit) => format!("rows of open windows that may be among the first {limit}"),
            None => "rows of open windows".to_owned(),
        };
        if let RankTime::Window { grace_ns, .. } = &self.rank.time
            && *grace_ns > 0
        {
            let _ = write!(text, ", {} of grace", duration(*grace_ns));
        }
        text
    }

    fn describe_emission(&self) -> String {
        "each window once the watermark has passed its end".to_owned()
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn exprs(&self) -> Vec<&Expr> {
        self.rank.partition_by.iter().chain(self.rank.order_by.iter().map(|sort| &sort.expr)).collect()
    }

    fn key_columns(&self) -> Option<usize> {
        None
    }

    fn begin(&self, watermark: EventTime) -> Option<EventTime> {
        match &self.rank.time {
            RankTime::Window { assigned: Some(window), grace_ns, .. } => {
                Some(first_open_window(window, *grace_ns, watermark))
            }
            // Rows of closed windows come at their ends: those that are still to come have later ones.
            _ if watermark == EventTime::MAX => Some(EventTime::MIN),
            _ => Some(watermark),
        }
    }

    fn missing_before(&self, start: EventTime) -> EventTime {
        match &self.rank.time {
            RankTime::Window { assigned: Some(window), .. } => untold_results(window, start),
            _ => start,
        }
    }

    fn judges_lateness(&self) -> bool {
        true
    }

    fn operator(&self, setting: Setting) -> Result<Box<dyn Operator>, EngineError> {
        let input = RankInput {
            input: setting.inputs[0].0.clone(),
            schema: self.schema.clone(),
            partitions: setting.partitions(),
            start: setting.start,
            state_limit_bytes: setting.state_limit_bytes,
        };
        Ok(Box::new(Rank::new(&self.rank, input, setting.counters)?))
    }
}
