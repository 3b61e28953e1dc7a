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
    assert!(planned > DRAWN * times() / 3, "only {planned} are right: the grammar says little");
    lab.engine.shutdown().await;
}

/// In what a statement is large, how large it is at the most, and the statement of a size.
type Large = (&'static str, usize, fn(usize) -> String);

/// Statements that are large in one way.
const LARGE: [Large; 15] = [
    ("sum of columns", 400, |n| format!("SELECT {} AS x FROM bids", vec!["price"; n].join(" + "))),
    ("alternatives", 400, |n| format!("SELECT ts FROM bids WHERE {}", numbered(n, " OR ", |i| format!("price = {i}")))),
    ("conditions", 400, |n| format!("SELECT ts FROM bids WHERE {}", numbered(n, " AND ", |i| format!("price <> {i}")))),
    ("list", 1_500, |n| format!("SELECT ts FROM bids WHERE price IN ({})", numbered(n, ", ", |i| i.to_string()))),
    ("branches", 300, |n| {
        format!("SELECT CASE {} END AS x FROM bids", numbered(n, " ", |i| format!("WHEN price = {i} THEN {i}")))
    }),
    ("columns", 380, |n| format!("SELECT {} FROM bids", numbered(n, ", ", |i| format!("price + {i} AS c{i}")))),
    ("aggregates", 300, |n| {
        let list = numbered(n, ", ", |i| format!("sum(price + {i}) AS c{i}"));
        format!("SELECT {list} FROM bids GROUP BY tumble('1s')")
    }),
    ("keys", 300, |n| {
        let list = numbered(n, ", ", |i| format!("price + {i}"));
        format!("SELECT count(*) AS n FROM bids GROUP BY tumble('1s'), {list}")
    }),
    ("sub-queries", 40, |n| {
        let open = "SELECT * FROM (".repeat(n);
        format!("{open}SELECT price FROM bids{}", ") WHERE price > 1".repeat(n))
    }),
    ("unions", 32, |n| vec!["SELECT price FROM bids WHERE price > 1"; n].join(" UNION ALL ")),
    ("joins", 15, |n| {
        let joins = numbered(n, " ", |i| format!("JOIN bids AS b{i} ON a.price = b{i}.price"));
        format!("SELECT a.price FROM bids AS a {joins}")
    }),
    ("columns through sub-queries", 150, |n| {
        let list = numbered(n, ", ", |i| format!("price + {i} AS c{i}"));
        format!("{}SELECT {list} FROM bids{}", "SELECT * FROM (".repeat(30), ") WHERE c1 > 1".repeat(30))
    }),
    ("windows before", 160, |n| {
        let call = |i| format!("lag(n, {}) OVER (PARTITION BY auction ORDER BY window_end) AS c{i}", i + 1);
        format!("SELECT {} FROM counts", numbered(n, ", ", call))
    }),
    ("names of names", 240, |n| {
        let list = numbered(n, ", ", |i| format!("count(*) AS c{i}"));
        format!(
            "SELECT {list} FROM bids GROUP BY tumble('1s') HAVING {}",
            numbered(n, " AND ", |i| format!("c{i} > 1"))
        )
    }),
    ("text", 60_000, |n| format!("SELECT ts FROM bids WHERE channel = '{}'", "x".repeat(n))),
];
/// A statement twice as large may take so many times as long, and some milliseconds that say nothing.
const GROWTH: u32 = 4;
const NOTHING: Duration = Duration::from_millis(if cfg!(debug_assertions) { 150 } else { 15 });

fn numbered(count: usize, between: &str, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(between)
}

/// The least of three times: others share the machine.
fn took(lab: &Lab, sql: &str) -> Duration {
    let once = || {
        let started = Instant::now();
        if let Err(mistakes) = plan(lab, sql) {
            let shown: String = sql.chars().take(200).collect();
            panic!("{:?} for {shown}", mistakes[0]);
        }
        started.elapsed()
    };
    (0..3).map(|_| once()).min().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_statements_are_planned_in_time_that_grows_with_them() {
    let lab = lab().await;
    let mut found = Vec::new();
    for (name, size, statement) in LARGE {
        let (half, whole) = (took(&lab, &statement(size / 2)), took(&lab, &statement(size)));
        println!("{name}: {half:?} for {}, {whole:?} for {size}", size / 2);
        if whole > half * GROWTH + NOTHING {
            found.push(format!("{name}: {half:?} for {}, {whole:?} for {size}", size / 2));
        }
    }
    assert!(found.is_empty(), "planning grows faster than statements:\n{}", found.join("\n"));
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
    let (written, mut random) = (written(), Random::new(6));
    assert!(written.len() > 100, "{} statements", written.len());
    for _ in 0..TORN * times() {
        let sql = Statements::new(&mut random).torn(&written);
        let _ = plan(&lab, &sql);
        let _ = split_statements(&sql);
    }
    lab.engine.shutdown().await;
}
