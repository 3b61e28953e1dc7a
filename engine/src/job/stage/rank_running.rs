//! Jobs that rank rows without windows, or keep the first of each key.

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;
use squilla_query::{RankFunction, RankSpec, RankTime, short_text};

use super::{Setting, Stateful};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::branch::{canonical_expr, duration, types};
use crate::operator::{Deduplicate, Operator, RankRunning, RankingInput};

/// Keeps the first rows of each part, over all time.
#[derive(Debug)]
pub(crate) struct RankRunningJob {
    pub(crate) rank: RankSpec,
    pub(crate) schema: SchemaRef,
}

impl RankRunningJob {
    fn ttl_ns(&self) -> Option<i64> {
        match self.rank.time {
            RankTime::Running { ttl_ns, .. } => Some(ttl_ns),
            RankTime::Window { .. } => None,
        }
    }

    fn parts(&self) -> String {
        self.rank.partition_by.iter().map(short_text).collect::<Vec<_>>().join(", ")
    }
}

impl Stateful for RankRunningJob {
    fn kind(&self) -> &'static str {
        if self.rank.keeps_first() { "deduplicate" } else { "rank" }
    }

    fn canonical(&self) -> String {
        let RankSpec { function, partition_by, order_by, limit, column, .. } = &self.rank;
        let parts: Vec<String> = partition_by.iter().map(canonical_expr).collect();
        let order: Vec<String> = order_by
            .iter()
            .map(|sort| format!("{} {} {}", canonical_expr(&sort.expr), sort.asc, sort.nulls_first))
            .collect();
        let (first, parts, order) = (self.rank.keeps_first(), parts.join(","), order.join(","));
        let types = types(&self.schema);
        format!("rank-running({first};{function:?};{:?};{parts};{order};{limit:?};{column:?}){types}", self.ttl_ns())
    }

    fn describe(&self) -> String {
        let parts = self.parts();
        let each = if parts.is_empty() { String::new() } else { format!(" of each {parts}") };
        if self.rank.keeps_first() {
            return if self.rank.order_by.is_empty() {
                format!("first row{each}")
            } else {
                format!("first row{each}, by event time")
            };
        }
        let order = self.rank.order_by.iter().map(|sort| {
            let direction = if sort.asc { "" } else { " DESC" };
            format!("{}{direction}", short_text(&sort.expr))
        });
        let order = order.collect::<Vec<_>>().join(", ");
        let limit = self.rank.limit.unwrap_or_default();
        match self.rank.function {
            RankFunction::RowNumber => format!("first {limit} by {order}{each}, over all time"),
            RankFunction::Rank => format!("first {limit} and their equals by {order}{each}, over all time"),
            RankFunction::DenseRank => format!("first {limit} different by {order}{each}, over all time"),
        }
    }

    fn describe_state(&self) -> String {
        let (parts, ttl) = (self.parts(), self.ttl_ns().map_or_else(String::new, duration));
        let what = if self.rank.keeps_first() {
            format!("each {parts}")
        } else {
            let equals = if self.rank.function == RankFunction::RowNumber { "" } else { " and all of equal rank" };
            let rows = format!("{} rows{equals}", self.rank.limit.unwrap_or_default());
            if parts.is_empty() {
                return rows;
            }
            format!("{rows} for each {parts}")
        };
        format!("{what}, forgotten {ttl} after its last row on live input")
    }

    fn describe_emission(&self) -> String {
        if !self.rank.keeps_first() {
            "what changed, to readers of running results; final rows at the end of bounded input".to_owned()
        } else if self.rank.order_by.is_empty() {
            "rows as they come".to_owned()
        } else {
            "each row once the watermark has reached it".to_owned()
        }
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn exprs(&self) -> Vec<&Expr> {
        self.rank.partition_by.iter().chain(self.rank.order_by.iter().map(|sort| &sort.expr)).collect()
    }

    fn key_columns(&self) -> Option<usize> {
        (!self.rank.keeps_first()).then(|| self.rank.running_keys())
    }

    /// All that the inputs keep: the answer then depends as little as can be on who asked first.
    fn begin(&self, _watermark: EventTime) -> Option<EventTime> {
        Some(EventTime::MIN)
    }

    fn changes(&self) -> bool {
        !self.rank.keeps_first()
    }

    fn operator(&self, setting: Setting) -> Result<Box<dyn Operator>, EngineError> {
        // The only part of a ranking without parts lives as long as the query.
        let forgets = setting.forgets && !self.rank.partition_by.is_empty();
        let input = RankingInput {
            input: setting.inputs[0].0.clone(),
            schema: self.schema.clone(),
            partitions: setting.partitions(),
            ttl_ns: self.ttl_ns().filter(|_| forgets),
            state_limit_bytes: setting.state_limit_bytes,
        };
        if self.rank.keeps_first() {
            return Ok(Box::new(Deduplicate::new(&self.rank, input, setting.counters)?));
        }
        Ok(Box::new(RankRunning::new(&self.rank, input, setting.counters)?))
    }
}
