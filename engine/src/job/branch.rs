//! What a job reads, and what it does to it: plain descriptions from which operators are made, once for the shared
//! job and again for whoever has to catch up from history.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion_common::Column;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{Expr, expr};
use squilla_query::{AggregateCall, NamedExpr, WindowSpec, short_text};

use super::{Job, Lease};

/// One input of a job, with the stateless steps that it takes on its way.
pub(crate) struct Branch {
    pub(crate) input: Arc<Lease>,
    /// Read the input's running results, not its appended rows.
    pub(crate) updates: bool,
    /// The input was started for this branch: it is read from its first row.
    pub(crate) fresh: bool,
    pub(crate) ops: Vec<OpSpec>,
}

impl Clone for Branch {
    fn clone(&self) -> Self {
        Self { input: self.input.clone(), updates: self.updates, fresh: self.fresh, ops: self.ops.clone() }
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
    /// Only these columns, found by name.
    Select(SchemaRef),
    /// Other names for the same columns (the second and further inputs of a union).
    Rename(SchemaRef),
}

/// What a job does behind its branches.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stage {
    /// Hands on.
    Stateless,
    /// Hands on to a named stream's log, with offsets of its own.
    Named,
    /// Groups by window and keys.
    Aggregate {
        window: WindowSpec,
        keys: Vec<NamedExpr>,
        aggregates: Vec<AggregateCall>,
        grace_ns: i64,
        schema: SchemaRef,
    },
}

impl Branch {
    pub(crate) fn job(&self) -> &Arc<Job> {
        self.input.job()
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
            Self::Select(schema) => format!("|select{}", types(schema)),
            Self::Rename(schema) => format!("|rename{}", types(schema)),
        }
    }

    fn describe(&self) -> Option<String> {
        match self {
            Self::Filter(predicate) => Some(format!("keep rows where {}", short_text(predicate))),
            Self::Project { exprs, .. } => Some(format!("compute {}", list(exprs))),
            Self::AssignWindow { window, .. } => Some(format!("assign {}", describe_window(window))),
            Self::Select(schema) => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                Some(format!("take {}", names.join(", ")))
            }
            Self::Rename(_) => None,
        }
    }
}

impl Stage {
    pub(crate) fn canonical(&self) -> String {
        match self {
            Self::Stateless => String::new(),
            Self::Named => "|named".into(),
            Self::Aggregate { window, keys, aggregates, grace_ns, schema } => {
                let aggregates: Vec<String> = aggregates.iter().map(|call| canonical_expr(&call.expr)).collect();
                format!(
                    "|aggregate({window:?};{grace_ns};{};{}){}",
                    canonical_named(keys),
                    aggregates.join(","),
                    types(schema)
                )
            }
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Stateless => "stateless",
            Self::Named => "stream",
            Self::Aggregate { .. } => "aggregate",
        }
    }

    /// In words.
    pub(crate) fn describe(&self) -> Option<String> {
        let Self::Aggregate { window, keys, aggregates, .. } = self else { return None };
        let calls: Vec<String> = aggregates.iter().map(|call| short_text(&call.expr)).collect();
        let mut text = if calls.is_empty() { "distinct rows".to_owned() } else { calls.join(", ") };
        if !keys.is_empty() {
            let _ = write!(text, " by {}", list(keys));
        }
        let _ = write!(text, " in {}", describe_window(window));
        Some(text)
    }

    /// What it keeps, in words.
    pub(crate) fn describe_state(&self) -> String {
        match self {
            Self::Stateless => "nothing".into(),
            Self::Named => "its rows, for readers that come later".into(),
            Self::Aggregate { window, grace_ns, .. } => {
                let pane = gcd(window.size_ns(), window.slide_ns());
                let mut text = format!("open {}", describe_window(window));
                if pane != window.size_ns() {
                    let _ = write!(text, ", shared panes of {}", duration(pane));
                }
                if *grace_ns > 0 {
                    let _ = write!(text, ", {} of grace", duration(*grace_ns));
                }
                text
            }
        }
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn list(exprs: &[NamedExpr]) -> String {
    exprs.iter().map(|named| named.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn describe_window(window: &WindowSpec) -> String {
    let size = duration(window.size_ns());
    if window.slide_ns() == window.size_ns() {
        format!("windows of {size}")
    } else {
        format!("windows of {size} every {}", duration(window.slide_ns()))
    }
}

fn duration(nanoseconds: i64) -> String {
    format!("{:?}", std::time::Duration::from_nanos(nanoseconds.unsigned_abs()))
}

fn types(schema: &SchemaRef) -> String {
    let fields: Vec<String> = schema.fields().iter().map(|f| format!("{}:{}", f.name(), f.data_type())).collect();
    format!("[{}]", fields.join(","))
}

fn canonical_named(exprs: &[NamedExpr]) -> String {
    exprs.iter().map(|named| canonical_expr(&named.expr)).collect::<Vec<_>>().join(",")
}

/// An expression as text in which only what changes its value shows: no aliases, no qualifiers, literals typed.
fn canonical_expr(expr: &Expr) -> String {
    let plain = expr.clone().transform(|node| {
        Ok(match node {
            Expr::Alias(expr::Alias { expr, .. }) => Transformed::yes(*expr),
            Expr::Column(Column { name, .. }) => Transformed::yes(Expr::Column(Column::new_unqualified(name))),
            other => Transformed::no(other),
        })
    });
    plain.map_or_else(|_| format!("{expr:?}"), |plain| format!("{:?}", plain.data))
}
