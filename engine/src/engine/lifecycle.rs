//! Streams and queries that rest and go on.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Engine;
use crate::error::EngineError;
use crate::job::Rested;
use crate::relation::Relation;
use crate::subscription::LiveQuery;

impl Engine {
    /// Lets a named stream rest: its state stays, and what comes waits in the logs that it reads, as long as those keep
    /// it. Whoever reads the stream stays, and is told. Jobs that others use too go on. False: it rests already.
    ///
    /// # Errors
    /// [`EngineError::UnknownRelation`]; [`EngineError::NotRunning`] for what is no named stream or has ended.
    pub fn pause_stream(&self, name: &str) -> Result<bool, EngineError> {
        self.relation(name)?.pause(&self.inner.shared)
    }

    /// Lets a stream go on that rests, from where it was; `skip`: with the rows that come from now on. What came
    /// meanwhile is told; `None`: it did not rest.
    ///
    /// # Errors
    /// [`EngineError::UnknownRelation`].
    pub async fn resume_stream(&self, name: &str, skip: bool) -> Result<Option<Rested>, EngineError> {
        Ok(self.relation(name)?.resume(&self.inner.shared, skip).await)
    }

    /// Lets a live query rest: its reader is told nothing more, and its rows wait as long as the logs keep them. False:
    /// it rests already.
    ///
    /// # Errors
    /// [`EngineError::UnknownQuery`]; [`EngineError::Changing`] for a query whose rows replace each other,
    /// [`EngineError::Replay`] for one with `UNTIL` or a speed.
    pub fn pause_query(&self, id: &str) -> Result<bool, EngineError> {
        let query = self.live_query(id)?;
        if query.changing {
            return Err(EngineError::Changing(id.to_owned()));
        }
        if query.replay.load(Relaxed) {
            return Err(EngineError::Replay(id.to_owned()));
        }
        Ok(query.pause())
    }

    /// Lets a query go on that rests, from where it was; `skip`: with the rows that come from now on, those in between
    /// told as a gap. False: it did not rest.
    ///
    /// # Errors
    /// [`EngineError::UnknownQuery`].
    pub fn resume_query(&self, id: &str, skip: bool) -> Result<bool, EngineError> {
        Ok(self.live_query(id)?.resume(skip))
    }

    /// The text of a live query that can become a named stream, and the jobs whose state the stream goes on with.
    ///
    /// # Errors
    /// [`EngineError::UnknownQuery`]; [`EngineError::Private`] when its state is its own.
    pub fn promotable(&self, id: &str) -> Result<(String, Vec<String>), EngineError> {
        let live = self.live_query(id)?;
        let ids = live.jobs.lock().expect("no holder of this lock panics").clone();
        let jobs = self.inner.shared.registry.jobs();
        let Some(last) = jobs.iter().find(|job| Some(&job.id) == ids.last()) else {
            return Err(EngineError::UnknownQuery(id.to_owned()));
        };
        let mut kept = Vec::new();
        let mut left = vec![last.clone()];
        while let Some(job) = left.pop() {
            if job.stream.is_some() {
                continue;
            }
            left.extend(job.inputs().branches.iter().map(|branch| branch.job().clone()));
            if !job.logged {
                continue;
            }
            if job.is_private() {
                return Err(EngineError::Private(id.to_owned()));
            }
            kept.push(job.id.clone());
        }
        Ok((live.sql.clone(), kept))
    }

    /// Ids of the jobs that a named stream is made by, its own and all below.
    pub fn jobs_of(&self, name: &str) -> Vec<String> {
        let job = self.relation(name).ok().and_then(|relation| relation.job());
        job.map(|job| job.chain().iter().map(|job| job.id.clone()).collect()).unwrap_or_default()
    }

    /// Ids of the live queries that read one of these relations at first hand, oldest first; those of sinks aside.
    pub fn readers(&self, names: &[&str]) -> Vec<String> {
        let live = self.live();
        let reads = |query: &&Arc<LiveQuery>| {
            !query.sink && !query.is_killed() && query.reads.iter().any(|read| names.contains(&read.as_str()))
        };
        live.values().filter(reads).map(|query| query.id.clone()).collect()
    }

    /// Removes the logs on disk that are none of these, streams' names and the logs' numbers: the process ended while
    /// they were begun or dropped. For the time before anything is created.
    ///
    /// # Errors
    /// [`EngineError::Disk`].
    pub async fn remove_logs_but(&self, kept: &[(&str, u32)]) -> Result<(), EngineError> {
        match &self.inner.shared.logs {
            Some(logs) => logs.remove_all_but(kept).await,
            None => Ok(()),
        }
    }

    pub(super) fn relation(&self, name: &str) -> Result<Arc<Relation>, EngineError> {
        self.relations().get(name).cloned().ok_or_else(|| EngineError::UnknownRelation(name.to_owned()))
    }

    fn live_query(&self, id: &str) -> Result<Arc<LiveQuery>, EngineError> {
        let found = self.live().values().find(|live| live.id == id).cloned();
        found.ok_or_else(|| EngineError::UnknownQuery(id.to_owned()))
    }
}
