//! Jobs that join two inputs.

use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;
use squilla_query::{JoinKind, JoinSpec, JoinTime, short_text};

use super::{Setting, Stateful};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::branch::{canonical_expr, duration, types};
use crate::operator::RESULT_LAG_NS;
use crate::operator::{IntervalJoin, IntervalJoinSpec, JoinInputs, Operator, WindowJoin, WindowJoinSpec};

/// Joins the branches of the left input with those of the right.
#[derive(Debug)]
pub(crate) struct JoinJob {
    pub(crate) join: JoinSpec,
    /// How many of the branches are the left input's: the first.
    pub(crate) lefts: usize,
    /// The visible fields of the inputs.
    pub(crate) fields: [SchemaRef; 2],
    pub(crate) schema: SchemaRef,
}

impl Stateful for JoinJob {
    fn kind(&self) -> &'static str {
        "join"
    }

    fn canonical(&self) -> String {
        let JoinSpec { kind, on, filter, time } = &self.join;
        let keys: Vec<String> = on
            .iter()
            .map(|key| format!("{}~{}~{}", canonical_expr(&key.left), canonical_expr(&key.right), key.nulls))
            .collect();
        let filter = filter.as_ref().map(canonical_expr).unwrap_or_default();
        let time = match time {
            JoinTime::Window { left_end, right_end, grace_ns, .. } => {
                format!("window({};{};{grace_ns})", canonical_expr(left_end), canonical_expr(right_end))
            }
            JoinTime::Interval { least_ns, most_ns, .. } => format!("{least_ns}..{most_ns}"),
            JoinTime::Table { table, .. } => format!("table({table})"),
        };
        let [left, right] = self.fields.each_ref().map(types);
        format!("join({};{kind:?};{};{filter};{time}){left}{right}{}", self.lefts, keys.join(","), types(&self.schema))
    }

    fn describe(&self) -> String {
        let kind = match self.join.kind {
            JoinKind::Inner => "join",
            JoinKind::Left => "left join",
            JoinKind::Right => "right join",
            JoinKind::Full => "full join",
            JoinKind::Semi => "keep rows with a partner",
            JoinKind::Anti => "keep rows without a partner",
        };
        let mut conditions: Vec<String> = self
            .join
            .on
            .iter()
            .map(|key| {
                let equals = if key.nulls { "IS NOT DISTINCT FROM" } else { "=" };
                format!("{} {equals} {}", short_text(&key.left), short_text(&key.right))
            })
            .collect();
        conditions.extend(self.join.filter.iter().map(short_text));
        match &self.join.time {
            JoinTime::Window { .. } => conditions.push("windows that end together".to_owned()),
            JoinTime::Interval { least_ns, most_ns, .. } => {
                conditions.push(format!("event times {} to {} apart", signed(*least_ns), signed(*most_ns)));
            }
            JoinTime::Table { .. } => conditions.push("the latest row of each key".to_owned()),
        }
        format!("{kind} on {}", conditions.join(" and "))
    }

    fn describe_state(&self) -> String {
        match &self.join.time {
            JoinTime::Window { grace_ns: 0, .. } => "rows of open windows".into(),
            JoinTime::Window { grace_ns, .. } => format!("rows of open windows, {} of grace", duration(*grace_ns)),
            JoinTime::Interval { least_ns, most_ns, kept } => {
                let (left, right) = (duration((-least_ns).max(0)), duration((*most_ns).max(0)));
                let why = if kept.contains(&true) { ": the time to live, where no condition bounds it" } else { "" };
                format!("left rows for {left}, right rows for {right} of event time{why}")
            }
            JoinTime::Table { .. } => "the table's latest row of each key".into(),
        }
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn exprs(&self) -> Vec<&Expr> {
        let keys = self.join.on.iter().flat_map(|key| [&key.left, &key.right]);
        let ends = match &self.join.time {
            JoinTime::Window { left_end, right_end, .. } => vec![left_end, right_end],
            _ => Vec::new(),
        };
        keys.chain(&self.join.filter).chain(ends).collect()
    }

    fn key_columns(&self) -> Option<usize> {
        None
    }

    fn begin(&self, watermark: EventTime) -> Option<EventTime> {
        let back_ns = match &self.join.time {
            JoinTime::Interval { least_ns, most_ns, .. } => IntervalJoinSpec::back_ns(*least_ns, *most_ns),
            JoinTime::Window { span_ns, grace_ns, .. } => span_ns.saturating_add(*grace_ns),
            JoinTime::Table { .. } => return Some(EventTime::MIN),
        };
        let known = watermark != EventTime::MIN && watermark != EventTime::MAX;
        Some(if known { watermark.plus(-back_ns) } else { EventTime::MIN })
    }

    fn whole_from(&self, start: EventTime, missing_before: EventTime) -> EventTime {
        match &self.join.time {
            // Of a row right behind what is missing partners may be missing.
            JoinTime::Interval { least_ns, most_ns, .. } if start < missing_before => {
                missing_before.plus(IntervalJoinSpec::back_ns(*least_ns, *most_ns))
            }
            _ => EventTime::MIN,
        }
    }

    fn missing_before(&self, start: EventTime) -> EventTime {
        match &self.join.time {
            JoinTime::Interval { least_ns, most_ns, .. } => start.plus(IntervalJoinSpec::back_ns(*least_ns, *most_ns)),
            JoinTime::Window { span_ns, .. } => start.plus(span_ns - RESULT_LAG_NS + 1),
            JoinTime::Table { .. } => start,
        }
    }

    fn judges_lateness(&self) -> bool {
        !matches!(self.join.time, JoinTime::Table { .. })
    }

    fn operator(&self, setting: Setting) -> Result<Box<dyn Operator>, EngineError> {
        let input = |right: bool| {
            let found = setting.inputs.iter().zip(&setting.sides).find(|(_, side)| **side == right);
            found.map(|((schema, _), _)| schema.clone()).ok_or_else(|| EngineError::Plan("a join of one input".into()))
        };
        let partitions = setting.inputs.iter().zip(&setting.sides);
        let right = partitions.flat_map(|((_, count), right)| vec![*right; *count as usize]).collect();
        let join = JoinInputs {
            inputs: [input(false)?, input(true)?],
            fields: self.fields.clone(),
            right,
            on: self.join.on.clone(),
            filter: self.join.filter.clone(),
            kind: self.join.kind,
            schema: self.schema.clone(),
            state_limit_bytes: setting.state_limit_bytes,
        };
        match &self.join.time {
            JoinTime::Interval { least_ns, most_ns, kept } => {
                let (least_ns, most_ns, kept) = (*least_ns, *most_ns, *kept);
                let spec = IntervalJoinSpec { join, least_ns, most_ns, kept, start: setting.start };
                Ok(Box::new(IntervalJoin::new(spec, setting.counters)?))
            }
            JoinTime::Window { left_end, right_end, span_ns, grace_ns } => {
                let known = |moment: EventTime, more_ns: i64| match moment {
                    EventTime::MIN => EventTime::MIN,
                    moment => moment.plus(more_ns),
                };
                // Windows that one of the inputs lacks are not told: there would be nulls where it had rows.
                let lacked = known(setting.missing_before, RESULT_LAG_NS - 1);
                let told_from = known(setting.start, *span_ns).max(lacked);
                let ends = [left_end.clone(), right_end.clone()];
                Ok(Box::new(WindowJoin::new(
                    WindowJoinSpec { join, ends, grace_ns: *grace_ns, told_from },
                    setting.counters,
                )?))
            }
            JoinTime::Table { .. } => Err(EngineError::Plan("a look-up is a job of its own".into())),
        }
    }
}

fn signed(ns: i64) -> String {
    if ns < 0 { format!("-{}", duration(ns)) } else { duration(ns) }
}
