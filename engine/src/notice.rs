//! What readers are told, beside rows, of the jobs that these come from.

use std::sync::Arc;

use serde::Serialize;

use crate::job::Job;

/// Why fewer rows come than one would think.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// What has happened.
    pub kind: NoticeKind,
    /// The stream, query or job, by name or id.
    pub of: String,
    /// In words, with what can be done.
    pub message: String,
}

/// What a [`Notice`] is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// A stream or the query itself rests until it is told to go on.
    Paused,
    /// A job has crashed, and is started again soon.
    Restarting,
    /// A job has stopped at rows at which it crashed again and again.
    Quarantined,
}

impl Notice {
    /// Of a query that rests itself.
    pub(crate) fn of_query(id: &str) -> Self {
        let message = format!("this query is paused; RESUME QUERY '{id}' lets it go on");
        Self { kind: NoticeKind::Paused, of: id.to_owned(), message }
    }

    /// Of the jobs that rows come from.
    pub(crate) fn of_jobs(jobs: &[Arc<Job>]) -> Vec<Self> {
        jobs.iter().filter_map(|job| Self::of_job(job, jobs)).collect()
    }

    fn of_job(job: &Arc<Job>, jobs: &[Arc<Job>]) -> Option<Self> {
        let of = job.display_name();
        if let Some(text) = job.harm.text() {
            let stopped = job.harm.quarantined().is_some();
            let kind = if stopped { NoticeKind::Quarantined } else { NoticeKind::Restarting };
            // Whose job it is.
            let named = |other: &&Arc<Job>| {
                let reads = || other.chain().iter().any(|below| Arc::ptr_eq(below, job));
                other.stream.is_some() && other.source.is_none() && reads()
            };
            let stream = jobs.iter().find(named).and_then(|other| other.stream.clone());
            let help = match stream.filter(|_| stopped) {
                Some(name) => {
                    format!(
                        "; RESUME STREAM {name} tries again, RESUME STREAM {name} FROM LATEST skips what came since"
                    )
                }
                None => String::new(),
            };
            return Some(Self { kind, of: of.clone(), message: format!("{} {of} is {text}{help}", job.kind) });
        }
        let stream = job.stream.as_ref().filter(|_| job.hold.is_paused())?;
        let message = format!("stream \"{stream}\" is paused; RESUME STREAM {stream} lets it go on");
        Some(Self { kind: NoticeKind::Paused, of, message })
    }
}
