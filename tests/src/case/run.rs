//! Runs a case in an engine of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use squilla_engine::{
    CountersSnapshot, Engine, EngineConfig, EngineError, EventTime, EventTimeSpec, JobInfo, ManualClock, Policy,
    RowKind, SourceDefinition, StreamBatch, SubscribeOptions, Subscription, SubscriptionEvent, WatermarkSpec,
};
use squilla_query::{
    Catalog, CreateSource, Diagnostic, Plan, Query, Relation, RelationKind, Statement, TimeAttribute, analyze,
    bind_watermark, split_statements, timestamp_type,
};

use super::replay::{Feeder, Live, Replay, deliveries};
use super::values::{parse_time, render_value};
use super::{Case, Step};

/// How long a case may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Where the clock of bounded cases stands: behind all their rows.
const BOUNDED_CLOCK: &str = "2030-01-01T00:00:00";
/// Where the clock of timelines starts.
const LIVE_CLOCK: &str = "00:00:00";
/// Delay of the watermark where no clause says one.
const DEFAULT_DELAY_NS: i64 = 5_000_000_000;
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const RETENTION: Duration = Duration::from_secs(900);
const RETENTION_BYTES: usize = 64 << 20;

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the refused statement is told; `None` when none was refused.
    error: Option<String>,
    columns: Vec<String>,
    rows: Vec<String>,
    sources: CountersSnapshot,
    others: CountersSnapshot,
    /// All counts of all jobs, as text, to compare runs.
    jobs: Vec<String>,
}

impl Outcome {
    /// The sections of a case file that say it.
    pub fn render(&self) -> String {
        if let Some(error) = &self.error {
            return format!("=== error\n{}\n", error.trim_end());
        }
        let mut out = format!("=== rows\n{}\n", self.columns.join(", "));
        for row in &self.rows {
            out.push_str(row);
            out.push('\n');
        }
        let ledger = ledger_lines(&self.sources, &self.others);
        if !ledger.is_empty() {
            let _ = write!(out, "\n=== ledger\n{ledger}");
        }
        out
    }

    /// The same with the counts of every job.
    pub fn explain(&self) -> String {
        format!("{}\n{}\n", self.render(), self.jobs.join("\n"))
    }
}

fn ledger_lines(sources: &CountersSnapshot, others: &CountersSnapshot) -> String {
    let counts = [
        ("source undecodable", sources.undecodable),
        ("source without_event_time", sources.without_event_time),
        ("source ahead", sources.ahead),
        ("source failed", sources.failed),
        ("source dropped", sources.dropped),
        ("filtered", others.filtered),
        ("late", others.late),
        ("late_idle", others.late_idle),
        ("late_assignments", others.late_assignments),
        ("failed", others.failed),
        ("before_start", others.before_start),
        ("dropped", others.dropped),
        ("undecodable", others.undecodable),
        ("without_event_time", others.without_event_time),
    ];
    let mut out = String::new();
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        let _ = writeln!(out, "{name} {count}");
    }
    out
}

/// Runs a case with sources that hand over so many rows at once.
///
/// # Errors
/// A case that does not hold together, rows that the ledger lost, or a query that fails.
pub fn run(case: &Case, batch_rows: usize) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let outcome = runtime.block_on(async {
        tokio::time::timeout(LIMIT, Run::new(case, batch_rows)?.run(case))
            .await
            .unwrap_or_else(|_| Err(format!("not finished within {} s", LIMIT.as_secs())))
    });
    runtime.shutdown_background();
    outcome
}

/// Names that the case has defined so far.
#[derive(Default)]
struct Names(Mutex<BTreeMap<String, Relation>>);

impl Names {
    fn add(&self, relation: Relation) {
        self.0.lock().expect("no holder of this lock panics").insert(relation.name.clone(), relation);
    }

    fn add_query(&self, name: &str, kind: RelationKind, plan: &Plan) {
        let time = plan.time_attribute(&|name| self.relation(name).map(|relation| relation.time));
        let replay = plan.relations().iter().any(|name| self.relation(name).is_some_and(|read| read.replay));
        self.add(Relation { name: name.to_owned(), kind, schema: plan.schema().clone(), time, replay });
    }
}

impl Catalog for Names {
    fn relation(&self, name: &str) -> Option<Relation> {
        self.0.lock().expect("no holder of this lock panics").get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().expect("no holder of this lock panics").keys().cloned().collect()
    }
}

struct Run {
    engine: Engine,
    clock: Arc<ManualClock>,
    names: Names,
    batch_rows: usize,
    feeders: BTreeMap<String, (arrow::datatypes::SchemaRef, Vec<Feeder>)>,
}

/// A statement was refused; what it is told.
enum Stop {
    Refused(String),
    Broken(String),
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Self::Refused(format!("error[{}]: {error}", error.code()))
    }
}

impl Run {
    fn new(case: &Case, batch_rows: usize) -> Result<Self, String> {
        let start = if case.timeline.is_empty() { BOUNDED_CLOCK } else { LIVE_CLOCK };
        let clock = Arc::new(ManualClock::new(EventTime(parse_time(start).expect("the constant is a time"))));
        let config = EngineConfig { lossless: true, compute_threads: 2, ..EngineConfig::default() };
        let engine = Engine::new(config, clock.clone()).map_err(|error| error.to_string())?;
        Ok(Self { engine, clock, names: Names::default(), batch_rows, feeders: BTreeMap::new() })
    }

    async fn run(mut self, case: &Case) -> Result<Outcome, String> {
        let mut last = None;
        let statements = split_statements(&case.sql).map_err(|found| refusal(&found, &case.sql))?;
        for statement in &statements {
            match self.execute(&statement.sql, case).await {
                Ok(query) => last = query.or(last),
                Err(Stop::Refused(error)) => return Ok(Outcome::refused(error)),
                Err(Stop::Broken(error)) => return Err(error),
            }
        }
        let query = last.ok_or("there is no SELECT")?;
        let options = SubscribeOptions { policy: Some(Policy::Block), ..SubscribeOptions::default() };
        let mut subscription = match self.engine.subscribe(&query, options).await {
            Ok(subscription) => subscription,
            Err(error) => return Ok(Outcome::refused(format!("error[{}]: {error}", error.code()))),
        };
        self.engine.start_sources();
        let (collected, ()) = tokio::try_join!(
            collect(&mut subscription, &query),
            play(&mut self.feeders, &self.engine, &self.clock, case, self.batch_rows)
        )?;
        let jobs = settled(&self.engine).await?;
        let columns = query.plan.schema().fields().iter().map(|field| field.name().clone()).collect();
        drop(subscription);
        self.engine.shutdown().await;
        Ok(Outcome::of(columns, collected, &jobs))
    }

    /// Carries out a statement; the query when it is a `SELECT`.
    async fn execute(&mut self, sql: &str, case: &Case) -> Result<Option<Query>, Stop> {
        let statement = analyze(sql, &self.names).map_err(|found| Stop::Refused(refusal(&found, sql)))?;
        match statement {
            Statement::CreateSource(create) => self.create_source(&create, sql, case).await?,
            Statement::CreateStream(create) => {
                self.engine.create_stream(&create.name, &create.query).await?;
                self.names.add_query(&create.name, RelationKind::Stream, &create.query.plan);
            }
            Statement::CreateView(create) => {
                let kind = RelationKind::View { sql: create.query.sql.clone() };
                self.names.add_query(&create.name, kind, &create.query.plan);
            }
            Statement::Select(query) => return Ok(Some(query)),
            other => return Err(Stop::Broken(format!("a case cannot hold {other:?}"))),
        }
        Ok(None)
    }

    async fn create_source(&mut self, create: &CreateSource, sql: &str, case: &Case) -> Result<(), Stop> {
        let schema = create.schema.clone().ok_or_else(|| Stop::Broken(format!("{}: declare columns", create.name)))?;
        let (event_time, time) = event_time(create, &schema).map_err(|found| Stop::Refused(refusal(&found, sql)))?;
        let broken = |error: String| Stop::Broken(format!("{}: {error}", create.name));
        let connector: Arc<dyn squilla_engine::Connector> = if case.timeline.is_empty() {
            let inputs = case.inputs.iter().filter(|(name, ..)| *name == create.name);
            let read = |(_, _, lines): &(_, _, Vec<String>)| deliveries(&schema, lines, self.batch_rows);
            Arc::new(Replay { partitions: inputs.map(read).collect::<Result<_, _>>().map_err(broken)? })
        } else {
            let partitions = case.timeline.iter().filter_map(|step| match step {
                Step::Row { source, partition, .. } if *source == create.name => Some(*partition as usize + 1),
                _ => None,
            });
            let (live, feeders) = Live::new(partitions.max().unwrap_or(1));
            self.feeders.insert(create.name.clone(), (schema.clone(), feeders));
            Arc::new(live)
        };
        let definition = SourceDefinition {
            name: create.name.clone(),
            schema: schema.clone(),
            event_time,
            idle_timeout: IDLE_TIMEOUT,
            retention: RETENTION,
            retention_bytes: RETENTION_BYTES,
            connector,
        };
        self.engine.create_source(definition).await?;
        let kind = RelationKind::Source;
        self.names.add(Relation { name: create.name.clone(), kind, schema, time, replay: false });
        Ok(())
    }
}

fn refusal(found: &[Diagnostic], sql: &str) -> String {
    found.iter().map(|diagnostic| diagnostic.render(sql)).collect::<Vec<_>>().join("\n")
}

fn event_time(
    create: &CreateSource,
    schema: &arrow::datatypes::SchemaRef,
) -> Result<(EventTimeSpec, TimeAttribute), Vec<Diagnostic>> {
    let (index, watermark) = match &create.watermark {
        Some(clause) => {
            let index =
                schema.index_of(&clause.column).map_err(|error| vec![Diagnostic::new("case", error.to_string())])?;
            (index, WatermarkSpec::Expr(bind_watermark(clause, schema)?))
        }
        None => match schema.fields().iter().position(|field| field.data_type() == &timestamp_type()) {
            Some(index) => (index, WatermarkSpec::Delay(DEFAULT_DELAY_NS)),
            None => return Ok((EventTimeSpec::Arrival, TimeAttribute::Arrival)),
        },
    };
    let time = TimeAttribute::Column(schema.field(index).name().clone());
    Ok((EventTimeSpec::Column { index, watermark }, time))
}

/// Tells live sources what the timeline says, and ends them; does nothing to bounded ones.
async fn play(
    sources: &mut BTreeMap<String, (arrow::datatypes::SchemaRef, Vec<Feeder>)>,
    engine: &Engine,
    clock: &ManualClock,
    case: &Case,
    batch_rows: usize,
) -> Result<(), String> {
    for phase in case.timeline.split_inclusive(|step| matches!(step, Step::Clock(_))) {
        let mut lines: BTreeMap<(&str, u32), Vec<String>> = BTreeMap::new();
        for step in phase {
            if let Step::Row { source, partition, line } = step {
                lines.entry((source, *partition)).or_default().push(line.clone());
            }
        }
        for ((source, partition), lines) in lines {
            let (schema, feeders) =
                sources.get_mut(source).ok_or_else(|| format!("there is no source \"{source}\""))?;
            for delivery in deliveries(schema, &lines, batch_rows)? {
                feeders[partition as usize].rows(delivery).await;
            }
        }
        let mut feeders: Vec<&mut Feeder> = sources.values_mut().flat_map(|(_, feeders)| feeders).collect();
        for feeder in &mut feeders {
            feeder.handled().await;
        }
        settled(engine).await?;
        if let Some(Step::Clock(now)) = phase.last() {
            clock.set(EventTime(*now));
            for feeder in &mut feeders {
                feeder.empty().await;
                feeder.handled().await;
            }
        }
    }
    for feeder in sources.values_mut().flat_map(|(_, feeders)| feeders) {
        feeder.end().await;
    }
    Ok(())
}

/// The rows as text, in an order that does not depend on timing: by partition, and within a window by text.
async fn collect(subscription: &mut Subscription, query: &Query) -> Result<Vec<String>, String> {
    let mut rows: Vec<(u32, i64, String)> = Vec::new();
    loop {
        match subscription.next().await {
            SubscriptionEvent::Rows { batch, skip, .. } => take_rows(&batch, skip, &mut rows),
            SubscriptionEvent::Gap(gap) => return Err(format!("a lossless reader was told {gap:?}")),
            SubscriptionEvent::Progress(_) => {}
            SubscriptionEvent::Complete => break,
            SubscriptionEvent::Failed(error) => return Err(format!("failed: {error}")),
        }
    }
    let is_union = matches!(query.plan, Plan::Union { .. });
    if query.plan.is_windowed() {
        if !is_union && !rows.is_sorted_by_key(|(_, time, _)| *time) {
            return Err(format!("windows are not told in the order of their ends: {rows:?}"));
        }
        rows.sort_by(|a, b| (a.1, &a.2).cmp(&(b.1, &b.2)));
    } else if is_union {
        rows.sort_by(|a, b| a.2.cmp(&b.2));
    } else {
        rows.sort_by_key(|(partition, ..)| *partition);
    }
    Ok(rows.into_iter().map(|(_, _, text)| text).collect())
}

fn take_rows(batch: &StreamBatch, skip: usize, rows: &mut Vec<(u32, i64, String)>) {
    // How often running results come depends on batches; the final ones do not.
    if matches!(batch.kind, RowKind::Update | RowKind::Delete) {
        return;
    }
    let visible = batch.visible();
    for row in skip..visible.num_rows() {
        let values: Vec<String> = visible.columns().iter().map(|column| render_value(column, row)).collect();
        rows.push((batch.partition, batch.event_times()[row], values.join(", ")));
    }
}

/// Waits until every row that came in is accounted for.
async fn settled(engine: &Engine) -> Result<Vec<JobInfo>, String> {
    let deadline = Instant::now() + LIMIT / 4;
    loop {
        let jobs = engine.jobs();
        let whole = jobs.iter().all(|job| job.counters.unaccounted() == 0);
        if whole && jobs.iter().all(|job| received(job, &jobs) == job.counters.rows_in) {
            return Ok(jobs);
        }
        if Instant::now() > deadline {
            return Err(format!(
                "rows are not accounted for:\n{}",
                jobs.iter().map(describe).collect::<Vec<_>>().join("\n")
            ));
        }
        tokio::task::yield_now().await;
    }
}

/// Rows that the jobs it reads have given; of a source, its own count.
fn received(job: &JobInfo, jobs: &[JobInfo]) -> u64 {
    if job.inputs.is_empty() {
        return job.counters.rows_in;
    }
    job.inputs.iter().filter_map(|id| jobs.iter().find(|other| other.id == *id)).map(|job| job.counters.rows_out).sum()
}

fn describe(job: &JobInfo) -> String {
    let JobInfo { kind, description, status, .. } = job;
    format!(
        "{kind} ({description}) {status}: {}",
        serde_json::to_string(&job.counters).expect("counters can be written")
    )
}

impl Outcome {
    fn refused(error: String) -> Self {
        let none = CountersSnapshot::default();
        Self {
            error: Some(error),
            columns: Vec::new(),
            rows: Vec::new(),
            sources: none,
            others: none,
            jobs: Vec::new(),
        }
    }

    fn of(columns: Vec<String>, rows: Vec<String>, jobs: &[JobInfo]) -> Self {
        let total = |of_sources: bool| {
            jobs.iter()
                .filter(|job| job.inputs.is_empty() == of_sources)
                .map(|job| job.counters)
                .fold(CountersSnapshot::default(), |sum, counters| sum + counters)
        };
        let mut described: Vec<String> =
            jobs.iter().map(|job| format!("{}: {:?}", job.description, job.counters)).collect();
        described.sort();
        Self { error: None, columns, rows, sources: total(true), others: total(false), jobs: described }
    }
}
