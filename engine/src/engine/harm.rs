//! What can be known of jobs that have crashed, and of records that they set aside.

use std::sync::Arc;

use super::Engine;
use crate::counters::FailedSample;
use crate::error::EngineError;
use crate::job::{Quarantine, unnamed};

impl Engine {
    /// The last records that a source's, a stream's or any job set aside, oldest first. A job is named by its id; a
    /// stream of that name comes first.
    ///
    /// # Errors
    /// [`EngineError::UnknownRelation`].
    pub fn failed_samples(&self, name: &str) -> Result<Vec<FailedSample>, EngineError> {
        if let Some(relation) = self.relations().get(name) {
            return Ok(relation.job().map(|job| job.counters.samples()).unwrap_or_default());
        }
        let jobs = self.inner.shared.registry.jobs();
        let job = jobs.iter().find(|job| job.id == name);
        job.map(|job| job.counters.samples()).ok_or_else(|| EngineError::UnknownRelation(name.to_owned()))
    }

    /// The rows at which a named stream, or the job of that id, has stopped; `None`: it has not.
    ///
    /// # Errors
    /// [`EngineError::UnknownRelation`].
    pub fn quarantine(&self, name: &str) -> Result<Option<Arc<Quarantine>>, EngineError> {
        let relation = self.relations().get(name).cloned();
        if let Some(relation) = relation {
            let jobs = relation.job().map(|job| unnamed(&job)).unwrap_or_default();
            return Ok(jobs.iter().find_map(|job| job.harm.quarantined()));
        }
        let jobs = self.inner.shared.registry.jobs();
        let job = jobs.iter().find(|job| job.id == name);
        job.map(|job| job.harm.quarantined()).ok_or_else(|| EngineError::UnknownRelation(name.to_owned()))
    }
}
