//! What a query would start, for `EXPLAIN`.

use super::Registry;
use super::build::{Node, Use};
use super::feed::leading_filters;
use super::run::describe;
use crate::info::ExplainedJob;

/// What building a node would start and share, inputs first.
pub(crate) fn explain(
    registry: &Registry,
    node: &Node,
    relation: &dyn Fn(&Use) -> (String, ExplainedJob),
) -> Vec<ExplainedJob> {
    let mut jobs = Vec::new();
    collect(registry, node, relation, &mut jobs);
    jobs
}

/// Adds a node and what it reads; tells its name in messages and its step.
fn collect(
    registry: &Registry,
    node: &Node,
    relation: &dyn Fn(&Use) -> (String, ExplainedJob),
    jobs: &mut Vec<ExplainedJob>,
) -> (String, usize) {
    let (name, job) = match node {
        Node::Relation(name) | Node::Table(name) => {
            let used = node.used().unwrap_or_else(|| Use::Rows(name.clone()));
            (name.clone(), relation(&used).1)
        }
        Node::Job { inputs, stage } => {
            let (names, steps): (Vec<_>, Vec<_>) = inputs
                .iter()
                .map(|limb| {
                    let (name, step) = collect(registry, &limb.input, relation, jobs);
                    ((name, limb.ops.as_slice()), step)
                })
                .unzip();
            let running = registry.find(&node.fingerprint(None, &|used| relation(used).0));
            let kind = if let Some(step) = stage.stateful() {
                step.kind()
            } else if inputs.len() > 1 {
                "union"
            } else if leading_filters(&inputs[0].ops) == inputs[0].ops.len() {
                "filter"
            } else {
                "project"
            };
            let job = ExplainedJob {
                kind: kind.into(),
                description: describe(&names, stage),
                inputs: steps,
                shared: running.as_ref().map(|job| job.id.clone()),
                users: running.as_ref().map(|job| job.users()).unwrap_or_default(),
                state: stage.describe_state(),
                emits: stage.stateful().map_or_else(|| "rows as they come".into(), |step| step.describe_emission()),
            };
            (format!("step {}", jobs.len() + 1), job)
        }
    };
    jobs.push(job);
    (name, jobs.len())
}
