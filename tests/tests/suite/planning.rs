//! No text that a user can send makes planning panic, overflow its stack, or take long.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use squilla_engine::{EngineConfig, EventTime, ManualClock};
use squilla_query::{Diagnostic, Statement, split_statements};
use squilla_tests::case::replay::Live;
use squilla_tests::lab::Lab;
use squilla_tests::random::Random;
use squilla_tests::statements::Statements;
use squilla_tests::workspace_root;

/// Statements a run; with `tests/run --long` so many times as much.
const DRAWN: usize = 1_500;
const TORN: usize = 1_500;
const LONG: usize = 40;
/// How long planning may take. Builds without optimisation are some ten times slower, and share the machine.
const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 200 });

/// A lab with something to ask.
async fn lab() -> Lab {
    let lab = Lab::new(EngineConfig::default(), Arc::new(ManualClock::new(EventTime(0)))).expect("an engine starts");
    for sql in [
        "CREATE SOURCE bids (auction BIGINT, price BIGINT, channel VARCHAR, extra STRUCT<url VARCHAR, tags VARCHAR[]>, \
         ts TIMESTAMP) WITH (connector = 'replay')",
        "CREATE SOURCE people (id BIGINT, name VARCHAR, \"Quoted\" DOUBLE, ts TIMESTAMP) WITH (connector = 'replay')",
        "CREATE STREAM counts AS SELECT window_start, window_end, window_time, auction, count(*) AS n FROM bids \
         GROUP BY auction, tumble('1s')",
        "CREATE VIEW cheap AS SELECT * FROM bids WHERE price < 10",
    ] {
        lab.execute(sql, &mut |_, _| Ok(Arc::new(Live::new(1).0))).await.expect("it is created");
    }
    lab
}

/// All statements of the case files.
fn written() -> Vec<String> {
    let folders = ["rows", "nexmark"].map(|name| workspace_root().join("tests/cases").join(name));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("the folder of cases"));
    let mut statements = Vec::new();
    for file in files {
        let text = fs::read_to_string(file.expect("a file").path()).expect("a case can be read");
        for part in ["=== sql\n", "=== squilla\n"] {
            let sql = text.split_once(part).map(|(_, rest)| rest.split("\n=== ").next().unwrap_or(rest));
            let cut = sql.map(|sql| split_statements(sql).unwrap_or_default()).unwrap_or_default();
            statements.extend(cut.into_iter().map(|statement| statement.sql));
        }
    }
    statements.sort();
    statements
}

fn plan(lab: &Lab, sql: &str) -> Result<Statement, Vec<Diagnostic>> {
    let started = Instant::now();
    let planned = lab.analyze(sql);
    assert!(started.elapsed() < LIMIT, "{:?} for {sql}", started.elapsed());
    if let Err(mistakes) = &planned {
        assert!(!mistakes.is_empty(), "refused without a word: {sql}");
        for mistake in mistakes {
            assert_ne!(mistake.code, "internal", "{mistake:?} for {sql}");
            let inside =
                mistake.span.is_none_or(|span| span.start <= span.end && sql.get(span.start..span.end).is_some());
            assert!(inside, "the place is not in the text: {mistake:?} for {sql}");
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
    assert!(planned > 10, "only {planned} are right: the grammar says nothing");
    lab.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_torn_up_are_planned_or_refused_in_time() {
    let lab = lab().await;
    let (written, mut random) = (written(), Random::new(6));
    assert!(written.len() > 100, "{} statements", written.len());
    for _ in 0..TORN * times() {
        let sql = Statements::new(&mut random).torn(&written);
        let _ = plan(&lab, &sql);
        let _ = split_statements(&sql);
    }
    lab.engine.shutdown().await;
}
