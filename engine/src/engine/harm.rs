//! What can be known of jobs that have crashed.

use std::sync::Arc;

use super::Engine;
use crate::error::EngineError;
use crate::job::{Quarantine, unnamed};

impl Engine {
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
