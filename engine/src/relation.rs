//! Named sources and streams, and the jobs that run for them.

mod alter;
mod rest;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};

use arrow::datatypes::SchemaRef;
use squilla_query::{Query, WINDOW_TIME, WindowSpec, late_of};

use crate::engine::counts_rows;
use crate::error::EngineError;
use crate::info::{ExplainedJob, StreamInfo};
use crate::job::{Job, Lasts, Lease, Stage, Status, Use, keep_table, make_source, start_late, start_source, unnamed};
use crate::shared::Shared;
use crate::source::{EventTimeSpec, SourceDefinition, WatermarkSpec};
use crate::stream::{Durability, Stream};

/// A name that queries can read.
pub(crate) struct Relation {
    pub(crate) name: String,
    definition: Definition,
}

enum Definition {
    /// Runs from its definition on.
    Live { definition: SourceDefinition, lease: Lease, table: Option<Lease> },
    /// Runs when it is read, anew for who comes too late to see every row. Who looks up in it reads it apart from who
    /// reads its rows: neither ever waits for the other.
    Rereadable { definition: SourceDefinition, current: Mutex<Weak<Job>>, table: Mutex<Weak<Job>> },
    /// A query.
    Stream {
        reads: Vec<String>,
        event_time: String,
        schema: SchemaRef,
        /// Its rows replace each other.
        changing: bool,
        /// Rows make its windows by their count.
        counts_rows: bool,
        /// The grid that the ends of its windows lie on; `None`: they lie on none, or there are none.
        windows: Option<WindowSpec>,
        lease: Arc<Lease>,
        lasts: Lasts,
        late: LateRelation,
        resting: rest::Resting,
    },
}

/// The late rows of a named stream.
pub(crate) struct LateRelation {
    /// Their visible fields; `None`: there are none.
    schema: Option<SchemaRef>,
    /// What gathers them.
    job: Mutex<Option<Arc<Lease>>>,
}

/// What a plan reads under this name: that of a relation, also where it reads its late rows.
pub(crate) fn base_name(name: &str) -> &str {
    late_of(name).unwrap_or(name)
}

impl Relation {
    pub(crate) async fn source(shared: &Arc<Shared>, definition: SourceDefinition) -> Result<Self, EngineError> {
        let info = definition.connector.info();
        let name = definition.name.clone();
        if info.rereadable {
            return Ok(Self {
                name,
                definition: Definition::Rereadable { definition, current: Mutex::default(), table: Mutex::default() },
            });
        }
        let columns: Vec<usize> = (0..definition.schema.fields().len()).collect();
        let readers = definition.connector.open(&columns).await?;
        let partitions = count(&readers);
        let fingerprint = format!("source:{name}:{}", shared.next_id());
        let job = make_source(shared, &definition, columns.into_iter().collect(), partitions, fingerprint).await?;
        let lease = shared.registry.add(job.clone(), &name);
        start_source(shared, &job, Some(readers));
        if let Some(source) = job.source.as_ref().filter(|_| !shared.config.lossless) {
            source.open_gate();
        }
        let table = (!definition.key.is_empty()).then(|| keep_table(shared, &job, &definition)).transpose()?;
        Ok(Self { name, definition: Definition::Live { definition, lease, table } })
    }

    pub(crate) fn stream(
        name: &str,
        reads: Vec<String>,
        query: &Query,
        windows: Option<WindowSpec>,
        (lease, lasts, late): (Arc<Lease>, Lasts, Option<SchemaRef>),
    ) -> Self {
        let event_time = if query.plan.is_windowed() { WINDOW_TIME } else { "that of what it reads" };
        Self {
            name: name.to_owned(),
            definition: Definition::Stream {
                reads,
                event_time: event_time.to_owned(),
                schema: query.plan.schema().clone(),
                changing: query.plan.is_changing(),
                counts_rows: counts_rows(&query.plan),
                windows,
                lease,
                lasts,
                late: LateRelation { schema: late, job: Mutex::default() },
                resting: Mutex::default(),
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

    /// The visible fields of its late rows; `None`: there are none.
    pub(crate) fn late_schema(&self) -> Option<SchemaRef> {
        let Definition::Stream { late, .. } = &self.definition else { return None };
        late.schema.clone()
    }

    /// The job that gathers its late rows, from now on if it does not run yet.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when there are none, or not all of their columns are read any more.
    pub(crate) fn late_job(&self, shared: &Arc<Shared>) -> Result<Arc<Lease>, EngineError> {
        let Definition::Stream { lease, late, .. } = &self.definition else {
            return Err(EngineError::Plan(format!("\"{}\" is no stream that has late rows", self.name)));
        };
        let none = || EngineError::Plan(format!("no row is ever late for stream \"{}\"", self.name));
        let schema = late.schema.as_ref().ok_or_else(none)?;
        let mut job = late.job.lock().expect("no holder of this lock panics");
        if let Some(job) = &*job {
            return Ok(job.clone());
        }
        for source in lease.job().chain().iter().filter_map(|job| job.source.as_ref()) {
            let all = (0..source.definition.schema.fields().len()).collect();
            if !source.want(&all) {
                let name = &source.definition.name;
                return Err(EngineError::Plan(format!(
                    "source \"{name}\" is read already, and not all of its columns"
                )));
            }
        }
        let started = Arc::new(start_late(shared, &self.name, lease.job(), schema)?);
        *job = Some(started.clone());
        Ok(started)
    }

    /// Whether this is a stream that reads `name`.
    pub(crate) fn reads(&self, name: &str) -> bool {
        matches!(&self.definition, Definition::Stream { reads, .. } if reads.iter().any(|read| read == name))
    }

    /// Whether its rows are results of windows, which come in the order of these.
    pub(crate) fn is_windowed(&self) -> bool {
        matches!(&self.definition, Definition::Stream { event_time, .. } if event_time == WINDOW_TIME)
    }

    /// The job that runs for it now.
    pub(crate) fn job(&self) -> Option<Arc<Job>> {
        match &self.definition {
            Definition::Live { lease, .. } => Some(lease.job().clone()),
            Definition::Stream { lease, .. } => Some(lease.job().clone()),
            Definition::Rereadable { current, .. } => current.lock().expect("no holder of this lock panics").upgrade(),
        }
    }

    /// The job that runs now for those who look up in it.
    fn table_job(&self) -> Option<Arc<Job>> {
        match &self.definition {
            Definition::Live { table, .. } => table.as_ref().map(|lease| lease.job().clone()),
            Definition::Rereadable { table, .. } => table.lock().expect("no holder of this lock panics").upgrade(),
            Definition::Stream { .. } => None,
        }
    }

    /// Ends its job.
    pub(crate) fn stop(&self) {
        for job in self.job().into_iter().chain(self.table_job()) {
            job.cancel.cancel();
        }
        if let Definition::Stream { late, .. } = &self.definition
            && let Some(late) = late.job.lock().expect("no holder of this lock panics").take()
        {
            late.job().cancel.cancel();
        }
    }

    /// The use of its job for a reader of some columns, which gets every row of a source that can be reread.
    pub(crate) async fn lease(
        &self,
        shared: &Arc<Shared>,
        used: &Use,
        columns: &BTreeSet<String>,
        user: &str,
    ) -> Result<Lease, EngineError> {
        let looks_up = matches!(used, Use::Table(_));
        let (definition, current) = match &self.definition {
            Definition::Live { table: Some(table), .. } if looks_up => {
                return Ok(Lease::new(table.job().clone(), user, &shared.registry));
            }
            Definition::Live { lease, .. } => return Ok(Lease::new(lease.job().clone(), user, &shared.registry)),
            Definition::Stream { lease, .. } => return Ok(Lease::new(lease.job().clone(), user, &shared.registry)),
            Definition::Rereadable { definition, table, .. } if looks_up => (definition, table),
            Definition::Rereadable { definition, current, .. } => (definition, current),
        };
        let wanted: BTreeSet<usize> = columns.iter().filter_map(|name| definition.schema.index_of(name).ok()).collect();
        if let Some(job) = if looks_up { self.table_job() } else { self.job() }
            && serves_from_start(&job, &wanted)
            && let Some(lease) = shared.registry.attach(&job.fingerprint, user)
        {
            return Ok(lease);
        }
        let partitions = count(&definition.connector.open(&[]).await?);
        let fingerprint = format!("source:{}:{}", self.name, shared.next_id());
        let job = make_source(shared, definition, wanted, partitions, fingerprint).await?;
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
        let disk = job.as_ref().and_then(|job| job.output.disk()).map(|disk| &disk.log);
        let label = source.as_ref().and_then(|(_, info)| info.label.clone());
        StreamInfo {
            name: self.name.clone(),
            kind,
            labels: job.as_ref().map_or_else(|| label.into_iter().collect(), |job| job.labels.clone()),
            schema: self.schema(),
            connector: source.as_ref().map(|(_, info)| info.connector),
            idle_timeout: source
                .as_ref()
                .filter(|(_, info)| !info.bounded)
                .map(|(definition, _)| definition.idle_timeout),
            options: source.map(|(_, info)| info.options).unwrap_or_default(),
            event_time,
            partitions: job.as_ref().map_or(0, |job| job.output.partitions()),
            watermark: job.as_ref().and_then(|job| job.watermark()),
            rows: facts.map_or(0, |facts| facts.rows_total),
            log_rows: facts.map_or(0, |facts| facts.log_rows),
            log_bytes: facts.map_or(0, |facts| facts.log_bytes),
            durability: job.as_ref().map_or(Durability::Memory, |job| job.output.durability()),
            recovery: self.lasts().map(|lasts| lasts.recovery),
            damaged_snapshots: self.lasts().and_then(|lasts| lasts.snapshots.as_ref()).map_or(0, |kept| kept.damaged()),
            live_because: self.lasts().and_then(|lasts| lasts.why.clone()),
            unstored_rows: disk.map_or(0, |log| log.unstored_rows()),
            damaged_rows: disk.map_or(0, |log| log.damaged_rows()),
            users: job.as_ref().map(|job| self.users(job)).unwrap_or_default(),
            counters: job.as_ref().map(|job| job.counters.snapshot()).unwrap_or_default(),
            paused: self.paused(),
            restarts: job.as_ref().map_or(0, |job| unnamed(job).iter().map(|job| job.harm.restarts().0).sum()),
            status: job.map_or_else(|| "waiting".into(), |job| status(&job)),
        }
    }

    /// How a named stream lasts; `None`: it is none.
    fn lasts(&self) -> Option<&Lasts> {
        match &self.definition {
            Definition::Stream { lasts, .. } => Some(lasts),
            Definition::Live { .. } | Definition::Rereadable { .. } => None,
        }
    }

    /// Users beside the definition itself.
    fn users(&self, job: &Job) -> Vec<String> {
        let late = self.late_job_id();
        let other = |user: &String| *user != self.name && Some(user) != late.as_ref();
        let mut users: Vec<String> = job.users().into_iter().filter(other).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Fingerprint and description of its job, for `EXPLAIN`. `read`: the columns that a query takes of it.
    pub(crate) fn explain(&self, used: &Use, read: &[&str]) -> (String, ExplainedJob) {
        let looks_up = matches!(used, Use::Table(_));
        let job = if looks_up { self.table_job() } else { self.job() };
        let kind = match &self.definition {
            Definition::Stream { .. } => "stream",
            Definition::Live { .. } if looks_up => "table",
            Definition::Live { .. } | Definition::Rereadable { .. } => "source",
        };
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
            state: if kind == "table" {
                "the latest row of each key".into()
            } else {
                "its rows, for readers that come later".into()
            },
        };
        (job.map_or_else(String::new, |job| job.fingerprint.clone()), explained)
    }

    /// The same for its late rows.
    pub(crate) fn explain_late(&self) -> (String, ExplainedJob) {
        let job = match &self.definition {
            Definition::Stream { late, .. } => late.job.lock().expect("no holder of this lock panics").clone(),
            _ => None,
        };
        let job = job.as_ref().map(|lease| lease.job());
        let explained = ExplainedJob {
            kind: "late".into(),
            description: format!("rows that were late for stream {}", self.name),
            inputs: Vec::new(),
            shared: job.map(|job| job.id.clone()),
            users: job.map(|job| job.users()).unwrap_or_default(),
            emits: "rows as they come".into(),
            state: Stage::Late.describe_state(),
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

/// How a job stands, or one of no name that it reads.
fn status(job: &Arc<Job>) -> String {
    let harmed = unnamed(job).iter().find_map(|job| job.harm.text());
    harmed.filter(|_| matches!(job.status(), Status::Running)).unwrap_or_else(|| job.status_text())
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
