//! What a job reads, and what it does to it: plain descriptions from which operators are made, once for the shared
//! job and again for whoever has to catch up from history.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::Column;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{Expr, expr};
use squilla_query::{NamedExpr, RankSpec, SampleSpec, WindowKind, WindowSpec, short_text};

use super::{Job, Lease};
use crate::stream::MemoryStream;

/// One input of a job, with the stateless steps that it takes on its way.
pub(crate) struct Branch {
    pub(crate) input: Arc<Lease>,
    /// Read the input's running results, not its appended rows.
    pub(crate) updates: bool,
    /// Read the rows that came too late for the input.
    pub(crate) late: bool,
    /// The input was started for this branch: it is read from its first row.
    pub(crate) fresh: bool,
    /// It is of the right input of a join.
    pub(crate) right: bool,
    pub(crate) ops: Vec<OpSpec>,
}

impl OpSpec {
    /// Whether there comes a row for each.
    pub(crate) fn keeps_rows(&self) -> bool {
        matches!(self, Self::Project { .. } | Self::Select(_) | Self::Rename(_) | Self::Conform(_) | Self::ByArrival)
    }
}

impl Clone for Branch {
    fn clone(&self) -> Self {
        let (input, ops) = (self.input.clone(), self.ops.clone());
        Self { input, updates: self.updates, late: self.late, fresh: self.fresh, right: self.right, ops }
    }
}

/// A stateless step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum OpSpec {
    Filter(Expr),
    Project {
        exprs: Vec<NamedExpr>,
        schema: SchemaRef,
    },
    AssignWindow {
        window: WindowSpec,
        schema: SchemaRef,
    },
    /// Rows by their arrival.
    ByArrival,
    Sample(SampleSpec),
    Unnest {
        outer: bool,
        ordinality: bool,
        schema: SchemaRef,
    },
    /// The first of the running results of windows, which replace each other by the columns of these names.
    RankUpdates {
        rank: Box<RankSpec>,
        key: Vec<String>,
        schema: SchemaRef,
    },
    /// Only these columns, found by name.
    Select(SchemaRef),
    /// Other names for the same columns (the second and further inputs of a union).
    Rename(SchemaRef),
    /// Columns of this schema, found by name as far as they are there.
    Conform(SchemaRef),
}

impl Branch {
    pub(crate) fn job(&self) -> &Arc<Job> {
        self.input.job()
    }

    /// Whether its rows go by their arrival.
    pub(crate) fn is_by_arrival(&self) -> bool {
        self.ops.contains(&OpSpec::ByArrival)
    }

    /// What is read of the input.
    pub(crate) fn stream(&self) -> &Arc<MemoryStream> {
        let job = self.job();
        let late = job.late.as_ref().filter(|_| self.late).map(|late| &late.stream);
        let updates = job.updates.as_ref().filter(|_| self.updates);
        late.or(updates).unwrap_or(&job.output)
    }
}

/// Steps in words; empty when there are none.
pub(crate) fn describe_ops(ops: &[OpSpec]) -> String {
    ops.iter().filter_map(OpSpec::describe).collect::<Vec<_>>().join(", then ")
}

/// Text that is equal for branches that give equal rows.
pub(crate) fn canonical_branch(input: &str, updates: bool, ops: &[OpSpec]) -> String {
    let mut text = input.to_owned();
    if updates {
        text.push_str("~updates");
    }
    for op in ops {
        text.push_str(&op.canonical());
    }
    text
}

impl OpSpec {
    /// Whether it computes with random values.
    pub(crate) fn is_random(&self) -> bool {
        match self {
            Self::Filter(predicate) => squilla_query::is_random(predicate),
            Self::Project { exprs, .. } => exprs.iter().any(|named| squilla_query::is_random(&named.expr)),
            Self::Sample(sample) => sample.keys.iter().any(squilla_query::is_random),
            Self::AssignWindow { .. }
            | Self::ByArrival
            | Self::Unnest { .. }
            | Self::RankUpdates { .. }
            | Self::Select(_)
            | Self::Rename(_)
            | Self::Conform(_) => false,
        }
    }

    fn canonical(&self) -> String {
        match self {
            Self::Filter(predicate) => {
                let mut conjuncts: Vec<String> = split_conjunction(predicate).into_iter().map(canonical_expr).collect();
                conjuncts.sort_unstable();
                conjuncts.dedup();
                format!("|filter({})", conjuncts.join(" AND "))
            }
            Self::Project { exprs, schema } => format!("|project({}){}", canonical_named(exprs), types(schema)),
            Self::AssignWindow { window, schema } => format!("|window({window:?}){}", types(schema)),
            Self::ByArrival => "|arrival".into(),
            Self::Sample(sample) => {
                let keys: Vec<String> = sample.keys.iter().map(canonical_expr).collect();
                format!("|sample({:?};{};{})", sample.fraction, sample.seed, keys.join(","))
            }
            Self::Unnest { outer, ordinality, schema } => format!("|unnest({outer};{ordinality}){}", types(schema)),
            Self::RankUpdates { rank, key, schema } => format!("|rank({rank:?};{key:?}){}", types(schema)),
            Self::Select(schema) => format!("|select{}", types(schema)),
            Self::Rename(schema) => format!("|rename{}", types(schema)),
            Self::Conform(schema) => format!("|conform{}", types(schema)),
        }
    }

    fn describe(&self) -> Option<String> {
        match self {
            Self::Filter(predicate) => Some(format!("keep rows where {}", short_text(predicate))),
            Self::Project { exprs, .. } => Some(format!("compute {}", list(exprs))),
            Self::AssignWindow { window, .. } => Some(format!("assign {}", describe_window(window))),
            Self::ByArrival => Some("by arrival".into()),
            Self::Sample(sample) => Some(describe_sample(sample)),
            Self::Unnest { .. } => Some("a row for each element of a list".into()),
            Self::RankUpdates { rank, .. } => {
                let order = rank.order_by.iter().map(|sort| short_text(&sort.expr)).collect::<Vec<_>>().join(", ");
                Some(format!("keep the first {} by {order} of each window so far", rank.limit.unwrap_or_default()))
            }
            Self::Select(schema) => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                Some(format!("take {}", names.join(", ")))
            }
            Self::Rename(_) | Self::Conform(_) => None,
        }
    }
}

fn describe_sample(sample: &SampleSpec) -> String {
    let percent = sample.fraction * 100.0;
    let keys: Vec<String> = sample.keys.iter().map(short_text).collect();
    if keys.is_empty() { format!("sample {percent}%") } else { format!("sample {percent}% by {}", keys.join(", ")) }
}

pub(super) fn list(exprs: &[NamedExpr]) -> String {
    exprs.iter().map(|named| named.name.as_str()).collect::<Vec<_>>().join(", ")
}

pub(super) fn describe_window(window: &WindowSpec) -> String {
    let size = duration(window.size_ns());
    if let WindowKind::Calendar(calendar) = window.kind {
        return format!("windows of {calendar}");
    }
    if let WindowKind::Cumulate { step_ns, .. } = window.kind {
        return format!("windows of up to {size} by {}", duration(step_ns));
    }
    if window.slide_ns() == window.size_ns() {
        format!("windows of {size}")
    } else {
        format!("windows of {size} every {}", duration(window.slide_ns()))
    }
}

pub(super) fn duration(nanoseconds: i64) -> String {
    format!("{:?}", std::time::Duration::from_nanos(nanoseconds.unsigned_abs()))
}

pub(super) fn types(schema: &SchemaRef) -> String {
    let fields: Vec<String> = schema.fields().iter().map(|f| format!("{}:{}", f.name(), f.data_type())).collect();
    format!("[{}]", fields.join(","))
}

pub(super) fn canonical_named(exprs: &[NamedExpr]) -> String {
    exprs.iter().map(|named| canonical_expr(&named.expr)).collect::<Vec<_>>().join(",")
}

/// An expression as text in which only what changes its value shows: no aliases, no qualifiers, literals typed.
pub(super) fn canonical_expr(expr: &Expr) -> String {
    let plain = expr.clone().transform(|node| {
        Ok(match node {
            Expr::Alias(expr::Alias { expr, .. }) => Transformed::yes(*expr),
            Expr::Column(Column { name, .. }) => Transformed::yes(Expr::Column(Column::new_unqualified(name))),
            other => Transformed::no(other),
        })
    });
    plain.map_or_else(|_| format!("{expr:?}"), |plain| format!("{:?}", plain.data))
}
