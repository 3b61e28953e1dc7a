//! Who reads a named stream that is to have other columns, and goes on with it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use squilla_query::{Query, late_of};

use super::Engine;
use crate::error::EngineError;
use crate::job::{Job, Plans, Reader, plan_jobs, snapshot_plan};
use crate::relation::base_name;

/// Who reads a stream: a stream or a sink, at first hand or through others.
#[derive(Debug, Clone)]
pub struct ReadBy {
    /// Its name.
    pub name: String,
    /// Its query, as it is once the stream has other columns.
    pub query: Query,
    /// What it reads lies in the order in which it lay.
    pub in_order: bool,
}

impl Engine {
    /// The jobs that go on with the stream `name` when `job` no longer writes it and its visible fields are `schema`.
    /// `users`: the streams and sinks that read it, at first hand or through others, with their queries as they are then.
    ///
    /// # Errors
    /// [`EngineError::NotCarried`] for one that cannot.
    pub(super) async fn carried(
        &self,
        name: &str,
        job: &Arc<Job>,
        schema: &SchemaRef,
        users: &[ReadBy],
    ) -> Result<Vec<Reader>, EngineError> {
        let shared = &self.inner.shared;
        let mut readers: Vec<Reader> = Vec::new();
        for ReadBy { name: user, query, in_order } in users {
            let refused =
                |why: &str| EngineError::NotCarried { name: name.to_owned(), user: user.clone(), why: why.to_owned() };
            let jobs = self.jobs_of_user(user);
            if jobs.last().is_some_and(|last| Arc::ptr_eq(last, job)) {
                return Err(refused("the sink writes its rows as they are"));
            }
            let relation = self.relation(user).ok();
            if relation.as_ref().is_some_and(|relation| relation.is_changing()) {
                // Its readers find it by what it is made of, which is another log then.
                return Err(refused("its result changes, and would be made anew of the rows that come then"));
            }
            let kept = relation.as_ref().is_some_and(|relation| relation.has_snapshots());
            let plans = if kept && *in_order { self.plans(name, schema, query)? } else { None };
            let exact = relation.as_ref().is_some_and(|relation| relation.goes_on_exactly());
            let last = jobs.last().cloned();
            let own_inputs = last.iter().flat_map(|last| last.inputs().branches.clone()).collect::<Vec<_>>();
            for reader in jobs.into_iter().filter(|other| !Arc::ptr_eq(other, job) && is_above(other, job)) {
                let own = reader.stream.is_none() || reader.stream.as_ref() == Some(user);
                let direct = own_inputs.iter().any(|branch| Arc::ptr_eq(branch.job(), &reader));
                let windows = match (&relation, &last, &shared.logs) {
                    // They are made of the stream's rows again when the process starts, also of those from before.
                    (Some(relation), Some(last), Some(logs))
                        if exact && !kept && direct && reader.skips.reads_again() =>
                    {
                        Some((logs.snapshots(user, relation.generation()).await?, last.clone()))
                    }
                    _ => None,
                };
                match readers.iter_mut().find(|known| Arc::ptr_eq(&known.job, &reader)) {
                    Some(known) => {
                        known.plans = known.plans.take().or(plans.clone().filter(|_| own));
                        known.windows = known.windows.take().or(windows);
                    }
                    None => {
                        let plans = plans.clone().filter(|_| own);
                        readers.push(Reader { job: reader, user: user.clone(), plans, windows });
                    }
                }
            }
        }
        Ok(readers)
    }

    /// A user's jobs, its last one last.
    fn jobs_of_user(&self, user: &str) -> Vec<Arc<Job>> {
        if let Ok(relation) = self.relation(user) {
            return relation.job().map(|job| job.chain()).unwrap_or_default();
        }
        let ids = {
            let live = self.live();
            let sink = live.values().find(|query| query.sink && query.id == user);
            sink.map(|query| query.jobs.lock().expect("no holder of this lock panics").clone()).unwrap_or_default()
        };
        let jobs = self.inner.shared.registry.jobs();
        ids.iter().filter_map(|id| jobs.iter().find(|job| job.id == *id).cloned()).collect()
    }

    /// What snapshots of a stream are of before and after the one that it reads has other columns; `None`: there are none.
    fn plans(&self, name: &str, schema: &SchemaRef, query: &Query) -> Result<Option<Plans>, EngineError> {
        let before = self.fields();
        let after = |relation: &str| {
            let other = base_name(relation) == name && late_of(relation).is_none();
            if other { Some(schema.clone()) } else { before(relation) }
        };
        let (was, is) =
            (plan_jobs(&query.plan, false, &before)?.named(), plan_jobs(&query.plan, false, &after)?.named());
        let output = query.plan.schema();
        Ok(snapshot_plan(&was, output).zip(snapshot_plan(&is, output)))
    }
}

/// Whether a job reads another, at first hand or through others.
fn is_above(job: &Arc<Job>, below: &Arc<Job>) -> bool {
    job.chain().iter().any(|known| Arc::ptr_eq(known, below))
}
