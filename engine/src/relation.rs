//! Named sources and streams, and the jobs that run for them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};

use arrow::datatypes::SchemaRef;
use squilla_query::Query;

use crate::error::EngineError;
use crate::info::{ExplainedJob, StreamInfo};
use crate::job::{Job, Lease, Status, make_source, start_source};
use crate::shared::Shared;
use crate::source::{EventTimeSpec, SourceDefinition, WatermarkSpec};
use crate::stream::Stream;

/// A name that queries can read.
pub(crate) struct Relation {
    pub(crate) name: String,
    definition: Definition,
}

enum Definition {
    /// Runs from its definition on.
    Live { definition: SourceDefinition, lease: Lease },
    /// Runs when it is read, anew for who comes too late to see every row.
    Rereadable { definition: SourceDefinition, current: Mutex<Weak<Job>> },
    /// A query.
    Stream { reads: Vec<String>, event_time: String, schema: SchemaRef, lease: Arc<Lease> },
}

impl Relation {
    pub(crate) async fn source(shared: &Arc<Shared>, definition: SourceDefinition) -> Result<Self, EngineError> {
        let info = definition.connector.info();
        let name = definition.name.clone();
        if info.rereadable {
            return Ok(Self { name, definition: Definition::Rereadable { definition, current: Mutex::default() } });
        }
        let columns: Vec<usize> = (0..definition.schema.fields().len()).collect();
        let readers = definition.connector.open(&columns).await?;
        let partitions = count(&readers);
        let fingerprint = format!("source:{name}:{}", shared.next_id());
        let job = make_source(shared, &definition, columns.into_iter().collect(), partitions, fingerprint);
        let lease = shared.registry.add(job.clone(), &name);
        start_source(shared, &job, Some(readers));
        if let Some(source) = job.source.as_ref().filter(|_| !shared.config.lossless) {
            source.open_gate();
        }
        Ok(Self { name, definition: Definition::Live { definition, lease } })
    }

    pub(crate) fn stream(name: &str, reads: Vec<String>, query: &Query, lease: Arc<Lease>) -> Self {
        let event_time = if query.plan.is_windowed() { "window_time" } else { "that of what it reads" };
        Self {
            name: name.to_owned(),
            definition: Definition::Stream {
                reads,
                event_time: event_time.to_owned(),
                schema: query.plan.schema().clone(),
                lease,
            },
        }
    }

    /// The visible fields.
    pub(crate) fn schema(&self) -> SchemaRef {
        match &self.definition {
            Definition::Live { definition, .. } | Definition::Rereadable { definition, .. } => {
                definition.schema.clone()
            }
            Definition::Stream { schema, .. } => schema.clone(),
        }
    }

    /// Whether this is a stream that reads `name`.
    pub(crate) fn reads(&self, name: &str) -> bool {
        matches!(&self.definition, Definition::Stream { reads, .. } if reads.iter().any(|read| read == name))
    }

    /// The job that runs for it now.
    pub(crate) fn job(&self) -> Option<Arc<Job>> {
        match &self.definition {
            Definition::Live { lease, .. } => Some(lease.job().clone()),
            Definition::Stream { lease, .. } => Some(lease.job().clone()),
            Definition::Rereadable { current, .. } => current.lock().expect("no holder of this lock panics").upgrade(),
        }
    }

    /// Ends its job.
    pub(crate) fn stop(&self) {
        if let Some(job) = self.job() {
            job.cancel.cancel();
        }
    }

    /// The use of its job for a reader of some columns, which gets every row of a source that can be reread.
    pub(crate) async fn lease(
        &self,
        shared: &Arc<Shared>,
        columns: &BTreeSet<String>,
        user: &str,
    ) -> Result<Lease, EngineError> {
        let (definition, current) = match &self.definition {
            Definition::Live { lease, .. } => return Ok(Lease::new(lease.job().clone(), user, &shared.registry)),
            Definition::Stream { lease, .. } => return Ok(Lease::new(lease.job().clone(), user, &shared.registry)),
            Definition::Rereadable { definition, current } => (definition, current),
        };
        let wanted: BTreeSet<usize> = columns.iter().filter_map(|name| definition.schema.index_of(name).ok()).collect();
        if let Some(job) = self.job()
            && serves_from_start(&job, &wanted)
            && let Some(lease) = shared.registry.attach(&job.fingerprint, user)
        {
            return Ok(lease);
        }
        let partitions = count(&definition.connector.open(&[]).await?);
        let fingerprint = format!("source:{}:{}", self.name, shared.next_id());
        let job = make_source(shared, definition, wanted, partitions, fingerprint);
        *current.lock().expect("no holder of this lock panics") = Arc::downgrade(&job);
        let lease = shared.registry.add(job.clone(), user);
        start_source(shared, &job, None);
        Ok(lease)
    }

    pub(crate) fn info(&self) -> StreamInfo {
        let job = self.job();
        let (kind, source) = match &self.definition {
            Definition::Live { definition, .. } | Definition::Rereadable { definition, .. } => {
                ("source", Some((definition, definition.connector.info())))
            }
            Definition::Stream { .. } => ("stream", None),
        };
        let event_time = match &self.definition {
            Definition::Stream { event_time, .. } => event_time.clone(),
            Definition::Live { definition, .. } | Definition::Rereadable { definition, .. } => {
                describe_event_time(definition)
            }
        };
        let facts = job.as_ref().map(|job| job.output.facts());
        let label = source.as_ref().and_then(|(_, info)| info.label.clone());
        StreamInfo {
            name: self.name.clone(),
            kind,
            labels: job.as_ref().map_or_else(|| label.into_iter().collect(), |job| job.labels.clone()),
            schema: self.schema(),
            connector: source.as_ref().map(|(_, info)| info.connector),
            options: source.map(|(_, info)| info.options).unwrap_or_default(),
            event_time,
            partitions: job.as_ref().map_or(0, |job| job.output.partitions()),
            watermark: job.as_ref().and_then(|job| job.watermark()),
            rows: facts.map_or(0, |facts| facts.rows_total),
            log_rows: facts.map_or(0, |facts| facts.log_rows),
            log_bytes: facts.map_or(0, |facts| facts.log_bytes),
            users: job.as_ref().map(|job| self.users(job)).unwrap_or_default(),
            counters: job.as_ref().map(|job| job.counters.snapshot()).unwrap_or_default(),
            status: job.map_or_else(|| "waiting".into(), |job| job.status_text()),
        }
    }

    /// Users beside the definition itself.
    fn users(&self, job: &Job) -> Vec<String> {
        let mut users: Vec<String> = job.users().into_iter().filter(|user| *user != self.name).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Fingerprint and description of its job, for `EXPLAIN`. `read`: the columns that a query takes of it.
    pub(crate) fn explain(&self, read: &[&str]) -> (String, ExplainedJob) {
        let job = self.job();
        let kind = if matches!(self.definition, Definition::Stream { .. }) { "stream" } else { "source" };
        let info = self.info();
        let connector = info.connector.map(|connector| format!(" ({connector})")).unwrap_or_default();
        let explained = ExplainedJob {
            kind: kind.into(),
            description: format!(
                "{}{connector}, event time: {}; read are {} of {} columns{}{}",
                self.name,
                info.event_time,
                read.len(),
                info.schema.fields().len(),
                if read.is_empty() { "" } else { ": " },
                read.join(", ")
            ),
            inputs: Vec::new(),
            shared: job.as_ref().map(|job| job.id.clone()),
            users: info.users,
            emits: "rows as they come".into(),
            state: "its rows, for readers that come later".into(),
        };
        (job.map_or_else(String::new, |job| job.fingerprint.clone()), explained)
    }

    /// For a relation that has just been dropped.
    pub(crate) fn explain_unknown() -> (String, ExplainedJob) {
        let explained = ExplainedJob {
            kind: "source".into(),
            description: "dropped".into(),
            inputs: Vec::new(),
            shared: None,
            users: Vec::new(),
            emits: String::new(),
            state: String::new(),
        };
        (String::new(), explained)
    }
}

fn count<T>(readers: &[T]) -> u32 {
    u32::try_from(readers.len()).unwrap_or(u32::MAX)
}

/// Whether a reader that comes now gets all rows and columns from the job of a source that can be reread.
fn serves_from_start(job: &Job, wanted: &BTreeSet<usize>) -> bool {
    let facts = job.output.facts();
    let whole = facts.log_rows == facts.rows_total;
    let failed = matches!(job.status(), Status::Failed(_));
    !failed && whole && job.source.as_ref().is_some_and(|source| source.want(wanted))
}

fn describe_event_time(definition: &SourceDefinition) -> String {
    let EventTimeSpec::Column { index, watermark } = &definition.event_time else { return "arrival time".into() };
    let column = definition.schema.field(*index).name();
    match watermark {
        WatermarkSpec::Delay(0) => format!("{column}, watermark {column}"),
        WatermarkSpec::Delay(delay) => {
            format!("{column}, watermark {column} - {:?}", std::time::Duration::from_nanos(delay.unsigned_abs()))
        }
        WatermarkSpec::Expr(expr) => format!("{column}, watermark {}", squilla_query::short_text(expr)),
    }
}
