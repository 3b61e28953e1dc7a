//! `squilla run`: a script in this process, to the end of its inputs.

mod progress;
mod stats;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use arrow::temporal_conversions::timestamp_ns_to_datetime;
use futures::future::try_join_all;
use squilla_engine::{
    Completion, EngineConfig, EventTime, JobInfo, RowKind, SubscribeOptions, Subscription, SubscriptionEvent,
    SystemClock,
};
use squilla_gateway::{Answer, Service, ServiceConfig};
use squilla_query::{Diagnostic, Query, Since, StatementText};
use tokio::time::MissedTickBehavior;

use super::Outcome;
use super::args::{Format, RunArgs};
use super::failure::{Failure, chain};
use super::output::{BatchWriter, Output};
use super::script::{Script, first_line};
use progress::{ProgressLine, TICK};
use stats::{Stats, Totals};

/// Events that are written before the interrupt and the progress line are looked at again.
const BURST_EVENTS: usize = 64;

/// Carries out the command.
pub(crate) fn run(args: &RunArgs) -> Result<Outcome, Failure> {
    let started = Instant::now();
    let script = Script::read(&args.script)?.with_settings(&args.set)?;
    let statements = script.statements()?;
    if let Some(failure) = args.params.unused(&statements) {
        return Err(failure);
    }
    // One thread: it waits, encodes and writes. What computes has the engine's threads.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    let mut output = Output::stdout()?;
    let service =
        runtime.block_on(Service::open(config(args)?)).map_err(|refusal| Script::of_text("").refused_whole(refusal))?;
    let outcome = runtime.block_on(async {
        let setup = set_up(&service, &script, &statements, args, &mut output).await?;
        let mut running = Running::start(&service, setup, &script, args, started).await?;
        let outcome = running.drain(&mut output).await;
        running.tell(started, args.stats);
        outcome
    });
    runtime.block_on(service.engine().shutdown());
    outcome
}

/// The engine waits for every reader. Files are those that the user may read: the script runs in their name.
fn config(args: &RunArgs) -> Result<ServiceConfig, Failure> {
    let here =
        std::env::current_dir().map_err(|error| Failure::new(format!("cannot find the current folder: {error}")))?;
    let mut engine = EngineConfig { lossless: true, ..EngineConfig::default() };
    if let Some(threads) = args.threads {
        engine.compute_threads = usize::from(threads);
    }
    Ok(ServiceConfig { engine, data_dir: None, roots: vec![here, PathBuf::from("/")], clock: Arc::new(SystemClock) })
}

/// What a script asks for once all its statements are carried out.
#[derive(Default)]
struct Setup {
    select: Option<(StatementText, Query)>,
    sinks: Vec<String>,
}

async fn set_up(
    service: &Service,
    script: &Script,
    statements: &[StatementText],
    args: &RunArgs,
    output: &mut Output,
) -> Result<Setup, Failure> {
    let mut setup = Setup::default();
    for (at, statement) in statements.iter().enumerate() {
        if is_analyze(&statement.sql) && at + 1 < statements.len() {
            return Err(script.mistakes(&[analyze_is_last(statement)], statement.span.start));
        }
        let answer = service
            .execute_with(&statement.sql, &args.params.of(&statement.sql))
            .await
            .map_err(|refusal| script.refused(refusal, statement))?;
        match answer {
            Answer::Done(_) => {}
            Answer::Table(rows) => {
                let mut writer = BatchWriter::new(args.format.unwrap_or(Format::Table), &rows.schema(), false);
                writer.write(RowKind::Append, &rows, 0..rows.num_rows(), output)?;
                writer.end(output)?;
            }
            Answer::Live(query) => {
                if query.since.is_some_and(|since| since != Since::Earliest) {
                    return Err(script.mistakes(&[reads_all(statement)], statement.span.start));
                }
                if let Some((earlier, _)) = setup.select.replace((statement.clone(), query)) {
                    return Err(script.mistakes(&[one_select(&earlier)], earlier.span.start));
                }
            }
            Answer::Sink(name) => setup.sinks.push(name),
        }
    }
    Ok(setup)
}

/// Sources run from then on, and would have run on when a later query came.
fn is_analyze(sql: &str) -> bool {
    let mut words = sql.split_whitespace();
    ["EXPLAIN", "ANALYZE"].iter().all(|word| words.next().is_some_and(|other| other.eq_ignore_ascii_case(word)))
}

fn analyze_is_last(statement: &StatementText) -> Diagnostic {
    Diagnostic::new("misplaced", "EXPLAIN ANALYZE runs the sources: it stands last in a script")
        .at(first_line(statement))
        .help("move it to the end")
}

fn reads_all(statement: &StatementText) -> Diagnostic {
    Diagnostic::new("misplaced", "a script reads its inputs from their start")
        .at(first_line(statement))
        .help("leave SINCE out, and say which rows are meant: WHERE ts >= TIMESTAMP '…'")
}

fn one_select(earlier: &StatementText) -> Diagnostic {
    Diagnostic::new("several_selects", "only one SELECT of a script can write to standard output")
        .at(first_line(earlier))
        .help("write this one's rows to a file with CREATE SINK … AS, or give it a name with CREATE STREAM … AS")
}

/// A script whose sources run.
struct Running<'a> {
    service: &'a Service,
    /// `None`: there is no SELECT, or it is complete.
    rows: Option<Subscription>,
    writer: Option<BatchWriter>,
    /// Jobs that were left before their end, as they were then.
    left: Vec<JobInfo>,
    sinks: Vec<String>,
    progress: ProgressLine,
    rows_out: u64,
    gap_rows: u64,
    watermark: Option<String>,
}

impl<'a> Running<'a> {
    async fn start(
        service: &'a Service,
        setup: Setup,
        script: &Script,
        args: &RunArgs,
        started: Instant,
    ) -> Result<Self, Failure> {
        let (mut rows, mut writer) = (None, None);
        let format = args.format.unwrap_or(Format::Ndjson);
        if let Some((statement, query)) = setup.select {
            let subscription = service
                .engine()
                .subscribe(&query, SubscribeOptions::default())
                .await
                .map_err(|error| script.refused(squilla_gateway::Refusal::Engine(error), &statement))?;
            let info = subscription.info();
            writer = Some(BatchWriter::new(format, &info.schema, info.changing));
            rows = Some(subscription);
        }
        let progress = ProgressLine::new(started, rows.is_some() && format != Format::Null);
        service.engine().start_sources();
        let (left, sinks, watermark) = (Vec::new(), setup.sinks, None);
        Ok(Self { service, rows, writer, left, sinks, progress, rows_out: 0, gap_rows: 0, watermark })
    }

    async fn drain(&mut self, output: &mut Output) -> Result<Outcome, Failure> {
        let outcome = self.until_complete(output).await;
        self.progress.clear();
        if let Some(writer) = &mut self.writer {
            writer.end(output)?;
        }
        outcome
    }

    async fn until_complete(&mut self, output: &mut Output) -> Result<Outcome, Failure> {
        let mut interrupt = pin!(tokio::signal::ctrl_c());
        let mut sinks = pin!(finished(self.service, std::mem::take(&mut self.sinks)));
        let mut sinks_ended = false;
        let mut rows_ended = self.rows.is_none();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(rows_ended && sinks_ended) {
            tokio::select! {
                biased;
                _ = &mut interrupt => return Ok(Outcome::Interrupted),
                rows = &mut sinks, if !sinks_ended => {
                    self.rows_out += rows?;
                    sinks_ended = true;
                }
                _ = ticks.tick() => {
                    self.progress.tick(self.service.engine(), self.rows_out, self.watermark.as_deref());
                    if let Some(writer) = &mut self.writer {
                        writer.show(output)?;
                    }
                }
                event = next(&mut self.rows), if !rows_ended => rows_ended = self.take(event, output)?,
            }
        }
        Ok(Outcome::Done)
    }

    /// Writes an event and those that are there already; true when nothing follows.
    fn take(&mut self, first: SubscriptionEvent, output: &mut Output) -> Result<bool, Failure> {
        let mut event = Some(first);
        for _ in 0..BURST_EVENTS {
            let Some(next) = event else { break };
            if self.take_one(next, output)? {
                return Ok(true);
            }
            event = self.rows.as_mut().and_then(Subscription::try_next);
        }
        if let Some(last) = event {
            return self.take_one(last, output);
        }
        output.flush()?;
        Ok(false)
    }

    fn take_one(&mut self, event: SubscriptionEvent, output: &mut Output) -> Result<bool, Failure> {
        let Some(writer) = &mut self.writer else { return Ok(true) };
        match event {
            SubscriptionEvent::Rows { batch, skip, .. } => {
                let rows = batch.visible();
                self.rows_out += (rows.num_rows() - skip) as u64;
                writer.write(batch.kind, &rows, skip..rows.num_rows(), output)?;
            }
            SubscriptionEvent::Gap(gap) => self.gap_rows += gap.rows.unwrap_or(1),
            SubscriptionEvent::Progress(progress) => {
                self.watermark = progress.watermark.and_then(second_of);
            }
            SubscriptionEvent::Complete(why) => {
                // What LIMIT leaves unread is read for sinks only.
                if let Some(subscription) = self.rows.take_if(|_| why == Completion::Limit) {
                    self.left = subscription.jobs();
                }
                return Ok(true);
            }
            SubscriptionEvent::Failed(error) => return Err(Failure::new(chain(&*error))),
        }
        Ok(false)
    }

    /// Says on standard error what of the input is not in the answer, and the statistics.
    fn tell(&self, started: Instant, stats: bool) {
        let engine = self.service.engine();
        let totals = Totals::of(engine, &self.left);
        if let Some(notice) = totals.notice(engine, self.gap_rows) {
            eprintln!("{notice}");
        }
        if stats {
            let stats = Stats::since(started, &totals, self.rows_out, self.gap_rows);
            eprintln!("{}", serde_json::to_string(&stats).expect("numbers can be written"));
        }
    }
}

async fn next(rows: &mut Option<Subscription>) -> SubscriptionEvent {
    match rows {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}

/// A moment as text, to the second.
fn second_of(moment: EventTime) -> Option<String> {
    let moment = timestamp_ns_to_datetime(moment.0)?;
    Some(moment.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Waits for all sinks; the rows that they took.
async fn finished(service: &Service, names: Vec<String>) -> Result<u64, Failure> {
    let all = names.iter().map(|name| async move {
        let summary = service.sink_finished(name).await;
        summary.map_err(|error| Failure::new(format!("sink \"{name}\": {}", chain(&*error))))
    });
    Ok(try_join_all(all).await?.iter().map(|summary| summary.rows).sum())
}
