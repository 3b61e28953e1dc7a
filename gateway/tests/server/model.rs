//! Random sequences of statements, publishing and restarts, against a model of the catalog and of all results.

mod expected;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde_json::{Value, json};
use squilla_engine::{Start, SubscribeOptions, SubscriptionEvent};
use squilla_gateway::{Answer, Refusal, Service};

use crate::client::{engine_config, open};
use expected::{Kind, Model, Only, Query, Refused, Row, SECOND};

/// Of the sequences, unless many are tried.
const SEED: u64 = 7;
/// How long sequences are tried, beside the last.
const BUDGET: Duration = Duration::from_secs(15);
const LONG_BUDGET: Duration = Duration::from_secs(900);
/// Variable of another time than these, in minutes.
const MINUTES: &str = "SQUILLA_STATEMENT_MINUTES";
/// Sequences that there are at the most.
const SEQUENCES: u32 = 5_000;
/// How long smaller ones are looked for.
const SMALLER_BUDGET: Duration = Duration::from_secs(60);
/// Statements of a sequence.
const STEPS: usize = 30;
/// Smaller sequences that are tried of one that fails.
const SMALLER: u32 = 60;
/// How long the streams may take to come to what they must be.
const PATIENCE: Duration = Duration::from_secs(4);
/// Seconds from 1970 to the first row's.
const BEGIN: i64 = 1_577_836_800;
const DURABLE: &str = "WITH (durability = 'durable')";

/// One step of a sequence. Names are numbers of a few that there are: many statements are mistakes.
#[derive(Debug, Clone)]
enum Step {
    Source(u8),
    View(u8, u8, Only),
    Stream(u8, u8, Query),
    Promote(u8, u8, Only),
    Alter(u8, u8, Query),
    Drop(u8, bool),
    Pause(u8),
    Resume(u8, bool),
    Publish(u8, u8),
    /// `true`: it was stopped; `false`: what is on disk at a moment is what another process finds.
    Restart(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let only = || (1..4_i64, 0..3_i64).prop_map(|(modulus, rest)| Only { modulus, rest: rest % modulus });
    let query = move || prop_oneof![3 => only().prop_map(Query::Rows), 2 => prop::sample::select(vec![5, 10, 20]).prop_map(Query::Windows)];
    let name = || 0..8_u8;
    let step = prop_oneof![
        2 => (0..2_u8).prop_map(Step::Source),
        2 => (name(), name(), only()).prop_map(|(name, over, only)| Step::View(name, over, only)),
        6 => (name(), name(), query()).prop_map(|(name, over, query)| Step::Stream(name, over, query)),
        1 => (name(), name(), only()).prop_map(|(name, over, only)| Step::Promote(name, over, only)),
        6 => (name(), name(), query()).prop_map(|(name, over, query)| Step::Alter(name, over, query)),
        2 => (name(), any::<bool>()).prop_map(|(name, cascade)| Step::Drop(name, cascade)),
        2 => name().prop_map(Step::Pause),
        3 => (name(), any::<bool>()).prop_map(|(name, latest)| Step::Resume(name, latest)),
        8 => (0..2_u8, 1..20_u8).prop_map(|(source, rows)| Step::Publish(source, rows)),
        2 => any::<bool>().prop_map(Step::Restart),
    ];
    let begin = [Step::Source(0), Step::Stream(2, 0, Query::Rows(Only { modulus: 1, rest: 0 })), Step::Publish(0, 12)];
    prop::collection::vec(step, 1..STEPS).prop_map(move |rest| begin.iter().cloned().chain(rest).collect())
}

/// The first two are sources.
fn name(number: u8) -> String {
    if number < 2 { format!("source{number}") } else { format!("name{number}") }
}

fn text(query: Query, over: &str) -> String {
    match query {
        Query::Rows(Only { modulus, rest }) => format!("SELECT n, ts FROM {over} WHERE n % {modulus} = {rest}"),
        Query::Windows(size) => {
            format!("SELECT sum(n) AS n, window_time AS ts FROM {over} GROUP BY tumble('{size}s')")
        }
    }
}

/// A service and what it must be.
struct Run {
    service: Arc<Service>,
    folder: PathBuf,
    model: Model,
    /// Numbers and seconds of rows ascend.
    next: i64,
}

impl Run {
    fn is_not_modelled(&self, step: &Step) -> bool {
        match step {
            // How far windows of windows are, and what reads them, depends on where they began.
            Step::View(_, over, _) | Step::Stream(_, over, _) | Step::Promote(_, over, _) | Step::Alter(_, over, _)
                if self.model.tells_windows(&name(*over)) =>
            {
                true
            }
            // Windows close of which only a batch without rows tells.
            Step::Stream(_, over, Query::Windows(_)) | Step::Alter(_, over, Query::Windows(_))
                if self.model.leaves_time_open(&name(*over)) =>
            {
                true
            }
            Step::Alter(altered, over, query) => {
                let (altered, over) = (name(*altered), name(*over));
                self.model.moves_windows(&altered, &over) || self.model.begins_somewhere(&altered, &over, *query)
            }
            _ => false,
        }
    }

    async fn step(&mut self, at: usize, step: &Step) -> Result<(), String> {
        if self.is_not_modelled(step) {
            return Ok(());
        }
        match step {
            Step::Source(number) => {
                let sql = format!(
                    "CREATE SOURCE {} (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)
                     WITH (connector = 'http', durability = 'durable', idle_timeout = '1h')",
                    name(*number)
                );
                let wanted = self.model.create(&name(*number), "", Kind::Source);
                self.execute(&sql, wanted).await?;
            }
            Step::View(number, over, only) => {
                let (name, over) = (name(*number), name(*over));
                let wanted = self.model.create(&name, &over, Kind::View(*only));
                self.execute(&format!("CREATE VIEW {name} AS {}", text(Query::Rows(*only), &over)), wanted).await?;
            }
            Step::Stream(number, over, query) => {
                let (name, over) = (name(*number), name(*over));
                let wanted = self.model.create(&name, &over, Kind::Stream { query: *query, paused: false });
                self.execute(&format!("CREATE STREAM {name} {DURABLE} AS {}", text(*query, &over)), wanted).await?;
            }
            Step::Promote(number, over, only) => self.promote(&name(*number), &name(*over), *only).await?,
            Step::Alter(number, over, query) => {
                let (name, over) = (name(*number), name(*over));
                let wanted = self.model.alter(&name, &over, *query);
                self.execute(&format!("ALTER STREAM {name} AS {}", text(*query, &over)), wanted).await?;
            }
            Step::Drop(number, cascade) => {
                let name = name(*number);
                let kind = match self.model.relations.get(&name).map(|relation| &relation.kind) {
                    Some(Kind::Source) => "SOURCE",
                    Some(Kind::View(_)) => "VIEW",
                    _ => "STREAM",
                };
                let wanted = self.model.drop(&name, *cascade);
                self.execute(&format!("DROP {kind} {name} {}", if *cascade { "CASCADE" } else { "" }), wanted).await?;
            }
            Step::Pause(number) => {
                let wanted = self.model.pause(&name(*number));
                self.execute(&format!("PAUSE STREAM {}", name(*number)), wanted).await?;
            }
            Step::Resume(number, latest) => {
                let name = name(*number);
                // What windows lack whose rows were skipped is told, and not modelled.
                let of_rows = |kind: &Kind| !matches!(kind, Kind::Stream { query: Query::Windows(_), .. });
                let latest = *latest && self.model.relations.get(&name).is_none_or(|it| of_rows(&it.kind));
                let wanted = self.model.resume(&name, latest);
                self.execute(&format!("RESUME STREAM {name} {}", if latest { "FROM LATEST" } else { "" }), wanted)
                    .await?;
            }
            Step::Publish(number, count) => self.publish(&name(*number), i64::from(*count)).await?,
            Step::Restart(clean) => self.restart(at, *clean).await?,
        }
        self.settled().await
    }

    async fn execute(&self, sql: &str, wanted: Refused) -> Result<(), String> {
        let found = match self.service.execute(sql).await {
            Ok(_) => None,
            Err(Refusal::Mistakes(mistakes)) => Some(mistakes[0].code),
            Err(Refusal::Engine(error)) => Some(error.code()),
            Err(other) => return Err(format!("{sql}: {other}")),
        };
        match (found, wanted) {
            (None, Ok(())) => Ok(()),
            (Some(code), Err(codes)) if codes.contains(&code) => Ok(()),
            (found, wanted) => Err(format!("{sql}: refused with {found:?}, wanted {wanted:?}")),
        }
    }

    async fn promote(&mut self, name: &str, over: &str, only: Only) -> Result<(), String> {
        let Ok(Answer::Live(query)) = self.service.execute(&text(Query::Rows(only), over)).await else {
            return if self.model.relations.contains_key(over) {
                Err(format!("{over} cannot be read"))
            } else {
                Ok(())
            };
        };
        let live = self.service.engine().subscribe(&query, SubscribeOptions::default()).await;
        let live = live.map_err(|error| error.to_string())?;
        let wanted = self.model.create(name, over, Kind::Stream { query: Query::Rows(only), paused: false });
        self.execute(&format!("CREATE STREAM {name} {DURABLE} FROM QUERY '{}'", live.info().query), wanted).await
    }

    async fn publish(&mut self, source: &str, count: i64) -> Result<(), String> {
        if !self.model.relations.get(source).is_some_and(|relation| matches!(relation.kind, Kind::Source)) {
            return Ok(());
        }
        let rows: Vec<Row> = (self.next..self.next + count).map(|n| (n, n * SECOND)).collect();
        self.next += count;
        let event = |row: &Row| json!({"n": row.0, "ts": (BEGIN + row.1 / SECOND) * 1000});
        let events: Value = rows.iter().map(event).collect::<Vec<_>>().into();
        let taken = self.service.publish(source, events.to_string().into()).await;
        taken.map_err(|_| format!("{source} takes no rows"))?;
        self.model.publish(source, &rows);
        Ok(())
    }

    async fn restart(&mut self, at: usize, clean: bool) -> Result<(), String> {
        self.compare_rows().await?;
        if clean {
            self.service.engine().shutdown().await;
        } else {
            let copy = self.folder.with_file_name(format!("data{at}"));
            copy_folder(&self.folder, &copy).map_err(|error| error.to_string())?;
            self.folder = copy;
        }
        self.service = open(None, engine_config(), Vec::new()).await;
        self.service = open(Some(self.folder.clone()), engine_config(), Vec::new()).await;
        Ok(())
    }

    /// Waits until all is as it must be.
    async fn settled(&self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(differs) = self.differs() else { return Ok(()) };
            if Instant::now() > deadline {
                return Err(differs);
            }
            tokio::task::yield_now().await;
        }
    }

    /// What is not as it must be.
    fn differs(&self) -> Option<String> {
        let found = self.service.engine().streams();
        let is_read = |kind: &Kind| !matches!(kind, Kind::View(_));
        let wanted: Vec<_> = self.model.relations.iter().filter(|(_, relation)| is_read(&relation.kind)).collect();
        let (names, known): (Vec<_>, Vec<_>) =
            (found.iter().map(|info| &info.name).collect(), wanted.iter().map(|(name, _)| *name).collect());
        if names != known {
            return Some(format!("there are {names:?}, wanted {known:?}"));
        }
        found.iter().zip(wanted).find_map(|(info, (name, relation))| {
            let paused = matches!(relation.kind, Kind::Stream { paused: true, .. });
            let mut watermark = info.watermark.map(|at| at.0 - BEGIN * SECOND);
            // It may say already that nothing comes before the end of the windows that are open.
            let tells_more = self.model.tells_windows(name) || watermark <= self.model.latest(name);
            if tells_more && watermark > relation.watermark {
                watermark = relation.watermark;
            }
            let is = (info.log_rows as usize, info.paused.is_some(), watermark);
            let wanted = (relation.rows.len(), paused, relation.watermark);
            (is != wanted).then(|| format!("{name} has {is:?}, wanted {wanted:?} ({})", info.status))
        })
    }

    /// All rows of all streams, read back.
    async fn compare_rows(&self) -> Result<(), String> {
        for (name, relation) in &self.model.relations {
            if matches!(relation.kind, Kind::View(_)) || relation.rows.is_empty() {
                continue;
            }
            let sql = format!("SELECT n, ts FROM {name}");
            let Ok(Answer::Live(query)) = self.service.execute(&sql).await else {
                return Err(format!("{name} cannot be read"));
            };
            let options = SubscribeOptions { from: Some(Start::Earliest), ..SubscribeOptions::default() };
            let reader = self.service.engine().subscribe(&query, options).await;
            let mut reader = reader.map_err(|error| error.to_string())?;
            let (mut rows, deadline): (Vec<Row>, _) = (Vec::new(), tokio::time::Instant::now() + PATIENCE);
            while rows.len() < relation.rows.len() {
                match tokio::time::timeout_at(deadline, reader.next()).await {
                    Ok(SubscriptionEvent::Rows { batch, skip, .. }) => {
                        let visible = batch.visible();
                        let numbers = visible.column(0).as_primitive::<Int64Type>();
                        let times = visible.column(1).as_primitive::<TimestampNanosecondType>();
                        let row = |at: usize| (numbers.value(at), times.value(at) - BEGIN * SECOND);
                        rows.extend((skip..visible.num_rows()).map(row));
                    }
                    Ok(SubscriptionEvent::Progress(_)) => {}
                    other => return Err(format!("{name}: {other:?}")),
                }
            }
            if rows != relation.rows {
                return Err(format!("{name} has {rows:?}, wanted {:?}", relation.rows));
            }
        }
        Ok(())
    }
}

/// Copies what is there; what is removed meanwhile is not.
fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let copied = if is_folder {
            copy_folder(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).map(|_| ())
        };
        match copied {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            copied => copied?,
        }
    }
    Ok(())
}

async fn run(steps: &[Step]) -> Result<(), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let service = open(Some(data.clone()), engine_config(), Vec::new()).await;
    let mut run = Run { service, folder: data, model: Model::default(), next: 0 };
    for (at, step) in steps.iter().enumerate() {
        run.step(at, step).await.map_err(|what| format!("step {at}, {step:?}: {what}"))?;
    }
    run.compare_rows().await?;
    run.service.engine().shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_goes_over_tells_its_readers_how_far_time_has_come() {
    let only = |modulus| Query::Rows(Only { modulus, rest: 0 });
    let begin = [Step::Source(0), Step::Stream(2, 0, only(1)), Step::Publish(0, 12)];
    let chain = [Step::Stream(6, 0, only(3)), Step::Stream(4, 6, only(1)), Step::Publish(0, 9)];
    let over = [Step::Stream(5, 0, only(2)), Step::Alter(5, 2, only(3)), Step::Alter(2, 0, only(2))];
    let end = [Step::Publish(0, 5), Step::Restart(false), Step::Publish(0, 5)];
    run(&[&begin[..], &chain, &over, &end].concat()).await.expect("all is as in the model");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_has_skipped_stays_skipped_over_a_restart() {
    let all = || Query::Rows(Only { modulus: 1, rest: 0 });
    let begin = [Step::Source(0), Step::Stream(2, 0, all()), Step::Stream(4, 2, all()), Step::Publish(0, 5)];
    for (clean, some) in [(true, 0), (false, 0), (true, 4), (false, 4)] {
        let first = [Step::Pause(4), Step::Publish(0, 13), Step::Resume(4, true)];
        let again =
            [Step::Restart(clean), Step::Pause(4), Step::Publish(0, 7), Step::Restart(clean), Step::Resume(4, true)];
        let end = [Step::Restart(clean), Step::Publish(0, 3)];
        let begin = &begin[..if some == 0 { 3 } else { 4 }];
        run(&[begin, &first, &again, &end].concat()).await.expect("all is as in the model");
    }
}

#[test]
fn catalog_and_results_always_agree_with_the_model() {
    let long = std::env::var("SQUILLA_LONG").is_ok_and(|long| long == "1");
    let told = std::env::var("SQUILLA_SEED").ok().map(|text| text.parse().expect("SQUILLA_SEED is a number"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    // What fails by chance helps nobody who has changed something else.
    let seed: u64 =
        told.unwrap_or(if long || std::env::var_os(MINUTES).is_some() { now.as_nanos() as u64 } else { SEED });
    println!("seed {seed}: run it again with SQUILLA_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: SEQUENCES, max_shrink_iters: SMALLER, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let minutes = std::env::var(MINUTES).ok().map(|text| text.parse::<f64>().expect("minutes are a number"));
    let told = minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let (begun, budget) = (Instant::now(), told.unwrap_or(if long { LONG_BUDGET } else { BUDGET }));
    let done = std::cell::Cell::new((0, false));
    let result = runner.run(&steps(), |steps| {
        let (count, failed) = done.get();
        let limit = budget + if failed { SMALLER_BUDGET } else { Duration::ZERO };
        if begun.elapsed() > limit {
            return Ok(());
        }
        let result = runtime.block_on(run(&steps));
        if let (Err(why), false) = (&result, failed) {
            println!("{why}\n{steps:?}");
        }
        done.set((count + 1, failed || result.is_err()));
        result.map_err(TestCaseError::fail)
    });
    println!("{} sequences in {:?}", done.get().0, begun.elapsed());
    if let Err(TestError::Fail(why, steps)) = result {
        panic!("seed {seed}: {why}\n{steps:#?}");
    }
}
