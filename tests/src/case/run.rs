//! Runs a case in an engine of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use squilla_engine::{
    Connector, CountersSnapshot, Engine, EngineConfig, EventTime, JobInfo, ManualClock, Policy, RowKind, StreamBatch,
    SubscribeOptions, Subscription, SubscriptionEvent,
};
use squilla_query::{Emit, GatherKind, Plan, Query, split_statements};

use super::replay::{Feeder, Live, Replay, deliveries};
use super::values::{parse_time, render_value};
use super::{Case, Setting, Step};
use crate::lab::{Lab, Refusal};

/// How long a case may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Where the clock of bounded cases stands: behind all their rows.
const BOUNDED_CLOCK: &str = "2030-01-01T00:00:00";
/// Where the clock of timelines starts.
const LIVE_CLOCK: &str = "00:00:00";
/// Empty polls behind a move of the clock. A source reads a few events ahead of what it handles: so many, that the
/// first of them are handled before the next rows come.
const EMPTY_POLLS: usize = 8;

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

    /// Rows that came too late, whatever the reason.
    pub(super) fn late(&self) -> u64 {
        self.others.late + self.others.late_idle
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
        ("pairs_failed", others.pairs_failed),
        ("before_start", others.before_start),
        ("dropped", others.dropped),
        ("forgotten", others.forgotten),
        ("undecodable", others.undecodable),
        ("without_event_time", others.without_event_time),
    ];
    let mut out = String::new();
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        let _ = writeln!(out, "{name} {count}");
    }
    out
}

/// Runs a case.
///
/// # Errors
/// A case that does not hold together, rows that the ledger lost, or a query that fails.
pub fn run(case: &Case, setting: Setting) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let outcome = runtime.block_on(async {
        tokio::time::timeout(LIMIT, Run::new(case, setting)?.run(case))
            .await
            .unwrap_or_else(|_| Err(format!("not finished within {} s", LIMIT.as_secs())))
    });
    runtime.shutdown_background();
    outcome
}

/// Feeders of live sources, and the columns that they take, by name.
type Feeders = BTreeMap<String, (SchemaRef, Vec<Feeder>)>;

struct Run {
    lab: Lab,
    clock: Arc<ManualClock>,
    batch_rows: usize,
    feeders: Feeders,
}

impl Run {
    fn new(case: &Case, setting: Setting) -> Result<Self, String> {
        let start = if case.timeline.is_empty() { BOUNDED_CLOCK } else { LIVE_CLOCK };
        let clock = Arc::new(ManualClock::new(EventTime(parse_time(start).expect("the constant is a time"))));
        let Setting { threads: compute_threads, restores, .. } = setting;
        let config = EngineConfig { lossless: true, compute_threads, restores, ..EngineConfig::default() };
        let lab = Lab::new(config, clock.clone()).map_err(|error| error.to_string())?;
        Ok(Self { lab, clock, batch_rows: setting.batch_rows, feeders: BTreeMap::new() })
    }

    async fn run(mut self, case: &Case) -> Result<Outcome, String> {
        let mut last = None;
        let statements = split_statements(&case.sql).map_err(|found| format!("{found:?}"))?;
        for statement in &statements {
            let feeders = &mut self.feeders;
            let mut connect = |name: &str, schema: &SchemaRef| connector(case, name, schema, self.batch_rows, feeders);
            match self.lab.execute(&statement.sql, &mut connect).await {
                Ok(query) => last = query.or(last),
                Err(Refusal::Told(error)) => return Ok(Outcome::refused(error)),
                Err(Refusal::Broken(error)) => return Err(error),
            }
        }
        let query = last.ok_or("there is no SELECT")?;
        let options = SubscribeOptions { policy: Some(Policy::Block), ..SubscribeOptions::default() };
        let mut subscription = match self.lab.engine.subscribe(&query, options).await {
            Ok(subscription) => subscription,
            Err(error) => return Ok(Outcome::refused(Refusal::from(error).to_string())),
        };
        self.lab.engine.start_sources();
        let played = play(&mut self.feeders, &self.lab.engine, &self.clock, case, self.batch_rows);
        let (rows, ()) = tokio::try_join!(collect(&mut subscription, &query), played)?;
        let jobs = settled(&self.lab.engine, &BTreeMap::new(), true).await?;
        let names = query.plan.schema().fields().iter().map(|field| field.name().clone());
        let columns = changes(&query).then(|| "op".to_owned()).into_iter().chain(names).collect();
        drop(subscription);
        self.lab.engine.shutdown().await;
        Ok(Outcome::of(columns, rows, &jobs))
    }
}

/// What stands behind a source of the case.
fn connector(
    case: &Case,
    name: &str,
    schema: &SchemaRef,
    batch_rows: usize,
    feeders: &mut Feeders,
) -> Result<Arc<dyn Connector>, String> {
    if case.timeline.is_empty() {
        let inputs = case.inputs.iter().filter(|(source, ..)| source == name);
        let partitions = inputs.map(|(_, _, lines)| deliveries(schema, lines, batch_rows)).collect::<Result<_, _>>()?;
        return Ok(Arc::new(Replay { partitions }));
    }
    let partitions = case.timeline.iter().filter_map(|step| match step {
        Step::Row { source, partition, .. } if source == name => Some(*partition as usize + 1),
        _ => None,
    });
    let (live, fed) = Live::new(partitions.max().unwrap_or(1));
    feeders.insert(name.to_owned(), (schema.clone(), fed));
    Ok(Arc::new(live))
}

/// Tells live sources what the timeline says, and ends them; does nothing to bounded ones.
async fn play(
    sources: &mut Feeders,
    engine: &Engine,
    clock: &ManualClock,
    case: &Case,
    batch_rows: usize,
) -> Result<(), String> {
    let mut fed: BTreeMap<&str, u64> = BTreeMap::new();
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
            *fed.entry(source).or_default() += lines.len() as u64;
        }
        settled(engine, &fed, false).await?;
        if let Some(Step::Clock(now)) = phase.last() {
            clock.set(EventTime(*now));
            for _ in 0..EMPTY_POLLS {
                for feeder in sources.values_mut().flat_map(|(_, feeders)| feeders) {
                    feeder.empty().await;
                    feeder.handled().await;
                }
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
            SubscriptionEvent::Rows { batch, skip, .. } => take_rows(&batch, skip, changes(query), &mut rows),
            SubscriptionEvent::Gap(gap) => return Err(format!("a lossless reader was told {gap:?}")),
            SubscriptionEvent::Progress(_) => {}
            SubscriptionEvent::Complete(_) => break,
            SubscriptionEvent::Failed(error) => return Err(format!("failed: {error}")),
        }
    }
    if changes(query) {
        // Those of the parts of a union come in turn as it happens: each part's stay in their order.
        rows.sort_by_key(|(partition, ..)| *partition);
        return Ok(rows.into_iter().map(|(_, _, text)| text).collect());
    }
    let is_union = matches!(query.plan, Plan::Union { .. });
    if query.plan.is_windowed() {
        // Windows by count are told as they fill, whatever the event times of their rows.
        if !is_union && !by_count(&query.plan) && !rows.is_sorted_by_key(|(_, time, _)| *time) {
            return Err(format!("windows are not told in the order of their ends: {rows:?}"));
        }
        if !is_ordered(&query.plan) {
            rows.sort_by(|a, b| (a.1, &a.2).cmp(&(b.1, &b.2)));
        }
    } else if is_union
        || query.plan.is_changing()
        || subscription.jobs().iter().any(|job| ["join", "union", "late"].contains(&job.kind.as_str()))
    {
        // Rows of several inputs come in the order in which those were read.
        rows.sort_by(|a, b| a.2.cmp(&b.2));
    } else {
        rows.sort_by_key(|(partition, ..)| *partition);
    }
    Ok(rows.into_iter().map(|(_, _, text)| text).collect())
}

/// Whether every change is told: all of them, in order, with what they do.
fn changes(query: &Query) -> bool {
    query.emit == Emit::Changes
}

/// Whether the query says in which order rows come.
fn is_ordered(plan: &Plan) -> bool {
    match plan {
        Plan::Project { input, .. } | Plan::Filter { input, .. } => is_ordered(input),
        Plan::Rank { rank, .. } => rank.ordered,
        _ => false,
    }
}

fn by_count(plan: &Plan) -> bool {
    let counts = matches!(plan, Plan::Gather { gather, .. } if matches!(gather.kind, GatherKind::Count { .. }));
    counts || plan.inputs().into_iter().any(|input| by_count(input))
}

fn take_rows(batch: &StreamBatch, skip: usize, changes: bool, rows: &mut Vec<(u32, i64, String)>) {
    // How often running results come depends on batches; the final ones do not.
    if !changes && matches!(batch.kind, RowKind::Update | RowKind::Delete) {
        return;
    }
    let visible = batch.visible();
    for row in skip..visible.num_rows() {
        let op = match batch.kind {
            RowKind::Append => "append",
            RowKind::Update => "update",
            RowKind::Final => "final",
            RowKind::Delete => "delete",
        };
        let op = changes.then(|| op.to_owned());
        let values = visible.columns().iter().map(|column| render_value(column, row));
        let values: Vec<String> = op.into_iter().chain(values).collect();
        rows.push((batch.partition, batch.event_times()[row], values.join(", ")));
    }
}

/// Waits until sources have taken what they were fed, and every row that came in is accounted for; with `ended` also until
/// all jobs have ended, those that nobody reads among them.
async fn settled(engine: &Engine, fed: &BTreeMap<&str, u64>, ended: bool) -> Result<Vec<JobInfo>, String> {
    let deadline = Instant::now() + LIMIT / 4;
    loop {
        let jobs = engine.jobs();
        let taken = fed.iter().all(|(source, rows)| {
            let taken = |job: &&JobInfo| job.inputs.is_empty() && job.stream.as_deref() == Some(source);
            jobs.iter().filter(taken).all(|job| job.counters.rows_in == *rows)
        });
        let whole = jobs.iter().all(|job| job.counters.unaccounted() == 0);
        let ended = !ended || !jobs.iter().any(|job| ["running", "lingering"].contains(&job.status.as_str()));
        if ended && taken && whole && jobs.iter().all(|job| has_received(job, &jobs)) {
            return Ok(jobs);
        }
        if Instant::now() > deadline {
            let jobs = jobs.iter().map(describe).collect::<Vec<_>>().join("\n");
            return Err(format!("rows are not accounted for:\n{jobs}"));
        }
        tokio::task::yield_now().await;
    }
}

/// Whether a job has taken in what the jobs that it reads have given.
fn has_received(job: &JobInfo, jobs: &[JobInfo]) -> bool {
    let inputs = || job.inputs.iter().filter_map(|id| jobs.iter().find(|other| other.id == *id));
    if job.kind == "late" {
        // Every row that was counted late is there to be read, and no other.
        let late: u64 = inputs().map(|input| input.counters.late + input.counters.late_idle).sum();
        return late == job.counters.rows_in;
    }
    let given: u64 = inputs().map(|input| input.counters.rows_out).sum();
    // Running results come on top of the final rows, and a row counts once for each window that it is assigned, and for
    // each element of its list.
    let multiplies = ["assign windows", "element of a list"].iter().any(|step| job.description.contains(step));
    let takes_more = inputs().any(|input| ["aggregate", "rank"].contains(&input.kind.as_str())) || multiplies;
    job.inputs.is_empty() || given == job.counters.rows_in || (takes_more && given < job.counters.rows_in)
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
