//! No text that a user can send makes planning panic, overflow its stack, or take long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use squilla_engine::{EngineConfig, EventTime, ManualClock};
use squilla_query::{Diagnostic, Span, Statement, split_statements};
use squilla_tests::case::replay::Live;
use squilla_tests::lab::Lab;
use squilla_tests::random::Random;
use squilla_tests::statements::large::{LARGE, crowded, wide};
use squilla_tests::statements::written::written;
use squilla_tests::statements::{RELATIONS, Statements};
use squilla_tests::workspace_root;

/// Statements a run; with `tests/run --long` so many times as much.
const DRAWN: usize = 1_500;
const TORN: usize = 1_500;
const LONG: usize = 40;
/// How long planning may take. Builds without optimisation are some ten times slower, and share the machine.
const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 200 });
/// What takes longer is planned so often again: others share the machine.
const AGAIN: usize = 4;
/// Characters of a statement that are shown.
const SHOWN: usize = 2_000;

/// A lab with something to ask.
async fn lab() -> Lab {
    let lab = Lab::new(EngineConfig::default(), Arc::new(ManualClock::new(EventTime(0)))).expect("an engine starts");
    let wide = wide();
    for sql in RELATIONS.into_iter().chain([wide.as_str()]) {
        lab.execute(sql, &mut |_, _| Ok(Arc::new(Live::new(1).0))).await.expect("it is created");
    }
    lab
}

fn timed(lab: &Lab, sql: &str) -> (Result<Statement, Vec<Diagnostic>>, Duration) {
    let started = Instant::now();
    let planned = lab.analyze(sql);
    (planned, started.elapsed())
}

fn plan(lab: &Lab, sql: &str) -> Result<Statement, Vec<Diagnostic>> {
    let (mut planned, mut took) = timed(lab, sql);
    for _ in 0..AGAIN {
        if took >= LIMIT {
            let again = timed(lab, sql);
            (planned, took) = (again.0, took.min(again.1));
        }
    }
    assert!(took < LIMIT, "{took:?} for {}", sql.chars().take(SHOWN).collect::<String>());
    if let Err(mistakes) = &planned {
        assert!(!mistakes.is_empty(), "refused without a word: {sql}");
        for mistake in mistakes {
            assert_ne!(mistake.code, "internal", "{mistake:?} for {sql}");
            assert!(!mistake.help.is_empty(), "no help: {mistake:?} for {sql}");
            let inside = |span: Span| span.start < span.end && sql.get(span.start..span.end).is_some();
            let placed = mistake.span.is_some_and(inside) || sql.trim_matches([' ', '\n', '\t', ';']).is_empty();
            assert!(placed, "the place is not in the text: {mistake:?} for {sql}");
        }
    }
    planned
}

fn times() -> usize {
    if std::env::var("SQUILLA_LONG").is_ok_and(|long| long == "1") { LONG } else { 1 }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_drawn_by_lot_are_planned_or_refused_in_time() {
    let lab = lab().await;
    let mut random = Random::new(5);
    let mut planned = 0;
    for _ in 0..DRAWN * times() {
        let sql = Statements::new(&mut random).statement();
        planned += usize::from(plan(&lab, &sql).is_ok());
    }
    assert!(planned > DRAWN * times() / 3, "only {planned} are right: the grammar says little");
    lab.engine.shutdown().await;
}

/// A statement twice as large may take so many times as long, and some milliseconds that say nothing.
const GROWTH: u32 = 4;
/// Rounds in which both are planned, until the times fit.
const MAX_ROUNDS: u32 = 12;
const NOTHING: Duration = Duration::from_millis(if cfg!(debug_assertions) { 150 } else { 15 });

fn took(lab: &Lab, sql: &str) -> Duration {
    let started = Instant::now();
    if let Err(mistakes) = plan(lab, sql) {
        let shown: String = sql.chars().take(200).collect();
        panic!("{:?} for {shown}", mistakes[0]);
    }
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_statements_are_planned_in_time_that_grows_with_them() {
    let lab = lab().await;
    let mut found = Vec::new();
    for (name, size, statement) in LARGE {
        let (mut half, mut whole) = (Duration::MAX, Duration::MAX);
        // The least of several times: others share the machine.
        for round in 0..MAX_ROUNDS {
            half = half.min(took(&lab, &statement(size / 2)));
            whole = whole.min(took(&lab, &statement(size)));
            if round > 0 && whole <= half * GROWTH + NOTHING {
                break;
            }
        }
        println!("{name}: {half:?} for {}, {whole:?} for {size}", size / 2);
        if whole > half * GROWTH + NOTHING {
            found.push(format!("{name}: {half:?} for {}, {whole:?} for {size}", size / 2));
        }
    }
    assert!(found.is_empty(), "planning grows faster than statements:\n{}", found.join("\n"));
    lab.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crowded_statements_are_planned_or_refused_in_time() {
    let lab = lab().await;
    for (name, sql) in crowded() {
        let started = Instant::now();
        let planned = plan(&lab, &sql).is_ok();
        println!("{name}: {:?}, {}", started.elapsed(), if planned { "planned" } else { "refused" });
    }
    lab.engine.shutdown().await;
}

#[test]
fn what_a_fuzzer_runs_takes_any_bytes() {
    let mut random = Random::new(9);
    for length in 0..200 {
        let bytes: Vec<u8> = (0..length).map(|_| u8::try_from(random.below(256)).expect("a byte")).collect();
        squilla_tests::fuzz::plan(&bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_torn_up_are_planned_or_refused_in_time() {
    let lab = lab().await;
    let (written, mut random) = (written(&workspace_root()), Random::new(6));
    assert!(written.len() > 100, "{} statements", written.len());
    for _ in 0..TORN * times() {
        let sql = Statements::new(&mut random).torn(&written);
        let _ = plan(&lab, &sql);
        let _ = split_statements(&sql);
    }
    lab.engine.shutdown().await;
}
