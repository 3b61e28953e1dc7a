//! Durable streams that keep state: stopped at any moment without a word, again and again, they tell what one tells that
//! never was.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use squilla_engine::{
    Clock, EngineConfig, EventTime, LossReason, ManualClock, Policy, Recovery, RowKind, Start, SubscribeOptions,
    SubscriptionEvent,
};
use squilla_gateway::{Service, ServiceConfig};
use squilla_query::Params;

const SECOND: i64 = 1_000_000_000;
/// When it begins: an hour behind the first rows.
const NOW: i64 = 1_767_229_200 * SECOND;
/// Bodies of rows that are published, by turns to both sources.
const BODIES: u64 = 120;
/// The key of the rows that come last: what is told of it is told last.
const LAST: &str = "zz";

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A body for one of the sources: rows out of order by up to two seconds.
fn body(number: u64) -> Bytes {
    let mut dice = Dice(number);
    let row = |row: u64| {
        let second = number * 2 + dice.roll(3) + row / 2;
        let key = ["a", "b", "c", "d", "e"][usize::try_from(dice.roll(5)).expect("small")];
        line(second, key, dice.roll(100))
    };
    (0..1 + number % 4).map(row).collect::<String>().into()
}

fn line(second: u64, key: &str, n: u64) -> String {
    let (minute, second) = (second / 60, second % 60);
    format!("{{\"ts\":\"2026-01-01T00:{minute:02}:{second:02}Z\",\"k\":\"{key}\",\"n\":{n}}}\n")
}

/// A service on a folder, and the means to stop it without a word.
struct Running {
    service: Service,
    clock: Arc<ManualClock>,
}

impl Running {
    async fn start(folder: &Path, now: i64) -> Self {
        let clock = Arc::new(ManualClock::new(EventTime(now)));
        let config = ServiceConfig {
            engine: EngineConfig::default(),
            data_dir: Some(folder.to_owned()),
            roots: Vec::new(),
            clock: clock.clone(),
        };
        Self { service: Service::open(config).await.expect("the folder can be used"), clock }
    }

    async fn create(&self, streams: &[&str]) {
        let with = "WITH (connector = 'http', durability = 'durable', idle_timeout = '1d', retention = '10d')";
        for source in ["a", "b"] {
            let columns = "(ts TIMESTAMP, k TEXT, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '2 seconds')";
            self.service.execute(&format!("CREATE SOURCE {source} {columns} {with}")).await.expect("it is right");
        }
        for stream in streams {
            self.service.execute(stream).await.expect("it is right");
        }
        for stream in self.service.engine().streams().iter().filter(|stream| stream.kind == "stream") {
            assert_eq!(stream.recovery, Some(Recovery::ExactlyOnce), "{stream:?}");
        }
    }

    /// Nothing is closed, and nothing waited for; returns when its threads have ended.
    async fn kill(self) -> i64 {
        let now = self.clock.now().0;
        drop(self);
        while threads().iter().any(|name| name == "compute" || name == "disk") {
            tokio::task::yield_now().await;
        }
        now
    }

    /// All rows of a stream's log, once the last one is there.
    async fn told(&self, stream: &str) -> Vec<String> {
        let query = self.service.query(&format!("SELECT * FROM {stream}"), &Params::new()).await.expect("it is right");
        let from = Some(Start::Earliest);
        let options = SubscribeOptions { from, policy: Some(Policy::Block), ..SubscribeOptions::default() };
        let mut subscription = self.service.engine().subscribe(&query, options).await.expect("it runs");
        let mut told = Vec::new();
        while !told.iter().any(|row: &String| row.starts_with(LAST)) {
            match subscription.next().await {
                SubscriptionEvent::Rows { batch, skip, .. } => told.extend(texts(&batch.visible(), skip)),
                SubscriptionEvent::Progress(_) => {}
                other => panic!("rows were expected, not {other:?}"),
            }
        }
        told.sort();
        told
    }

    /// The result of a stream that changes, once the last key is in it.
    async fn result(&self, stream: &str) -> BTreeMap<String, String> {
        let sql = format!("SELECT * FROM {stream} EMIT CHANGES");
        let query = self.service.query(&sql, &Params::new()).await.expect("it is right");
        let options = SubscribeOptions::default();
        let mut subscription = self.service.engine().subscribe(&query, options).await.expect("it runs");
        let mut result = BTreeMap::new();
        while !result.contains_key(LAST) {
            match subscription.next().await {
                SubscriptionEvent::Rows { batch, skip, .. } => {
                    for row in texts(&batch.visible(), skip) {
                        let (key, rest) = row.split_once('|').expect("several columns");
                        match batch.kind {
                            RowKind::Delete => _ = result.remove(key),
                            _ => _ = result.insert(key.to_owned(), rest.to_owned()),
                        }
                    }
                }
                SubscriptionEvent::Progress(_) => {}
                other => panic!("rows were expected, not {other:?}"),
            }
        }
        result
    }
}

/// Names of this process's threads.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names
        .map(|name| name.trim().trim_end_matches(|digit: char| digit.is_ascii_digit() || digit == '-').into())
        .collect()
}

fn texts(rows: &arrow::array::RecordBatch, skip: usize) -> Vec<String> {
    let options = FormatOptions::default();
    let columns: Vec<_> = rows.columns().iter().map(|column| ArrayFormatter::try_new(column, &options)).collect();
    let text = |row: usize| {
        let cells: Vec<String> =
            columns.iter().map(|column| column.as_ref().expect("a type with a text").value(row).to_string()).collect();
        cells.join("|")
    };
    (skip..rows.num_rows()).map(text).collect()
}

/// Publishes all rows, with so many stops without a word on the way, and what is told of the last key at their end.
async fn publish(mut running: Running, folder: &Path, seed: u64, stops: u64) -> Running {
    let mut dice = Dice(seed);
    let at: Vec<u64> = (0..stops).map(|_| dice.roll(BODIES)).collect();
    for number in 0..BODIES {
        let source = if number % 2 == 0 { "a" } else { "b" };
        running.service.publish(source, body(number)).await.expect("it is taken");
        for _ in 0..dice.roll(40) {
            tokio::task::yield_now().await;
        }
        if dice.roll(3) == 0 {
            running.clock.set(running.clock.now().plus(SECOND));
        }
        for _ in 0..at.iter().filter(|at| **at == number).count() {
            let now = running.kill().await;
            running = Running::start(folder, now).await;
            for _ in 0..dice.roll(200) {
                tokio::task::yield_now().await;
            }
        }
    }
    for second in [500, 1_000, 1_500] {
        for source in ["a", "b"] {
            running.service.publish(source, line(second, LAST, 1).into()).await.expect("it is taken");
        }
    }
    running
}

/// How a service comes to a stop.
#[derive(Debug, Clone, Copy)]
enum Stop {
    /// Without a word.
    Kill,
    /// As it should.
    Shutdown,
    /// It does not, but its last stream rests for some rows.
    Rest,
    /// Without a word, and what was stored last is damaged.
    Damage,
}

impl Running {
    async fn stop(self, how: Stop, folder: &Path) -> Self {
        match how {
            Stop::Kill => {}
            Stop::Shutdown => self.service.engine().shutdown().await,
            Stop::Rest => {
                self.service.execute("PAUSE STREAM out").await.expect("it runs");
                return self;
            }
            Stop::Damage => {
                let now = self.kill().await;
                let kept = folder.join("streams/out/snapshots");
                let files = std::fs::read_dir(kept).expect("the snapshots").flatten().map(|entry| entry.path());
                let newest = files.filter(|path| path.extension().is_some_and(|ending| ending == "state")).max();
                let newest = newest.expect("there is one");
                let mut bytes = std::fs::read(&newest).expect("it can be read");
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
                std::fs::write(newest, bytes).expect("it can be written");
                return Self::start(folder, now).await;
            }
        }
        let now = self.kill().await;
        Self::start(folder, now).await
    }
}

#[tokio::test]
async fn sessions_over_stops_of_all_kinds() {
    let sessions = format!(
        "CREATE STREAM out {DURABLE} AS SELECT k, window_start, count(*) AS c, sum(n) AS n FROM a GROUP BY k, session('3s')"
    );
    let mut all = Vec::new();
    for stops in [&[][..], &[Stop::Shutdown], &[Stop::Rest], &[Stop::Damage], &[Stop::Rest, Stop::Kill, Stop::Damage]] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut running = Running::start(folder.path(), NOW).await;
        running.create(&[&sessions]).await;
        for number in 0..BODIES {
            running.service.publish("a", body(number)).await.expect("it is taken");
            running.clock.set(running.clock.now().plus(SECOND / 4));
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            if number % 20 == 5
                && let Some(how) = stops.get(usize::try_from(number / 20).expect("small") % stops.len().max(1))
            {
                running = running.stop(*how, folder.path()).await;
            }
            if number % 20 == 10 {
                // Where it does not rest, this changes nothing.
                running.service.execute("RESUME STREAM out").await.expect("it is there");
            }
        }
        for second in [500, 1_000] {
            running.service.publish("a", line(second, LAST, 1).into()).await.expect("it is taken");
        }
        all.push(running.told("out").await);
        let out = running.service.engine().streams().into_iter().find(|stream| stream.name == "out");
        let damaged = stops.iter().any(|how| matches!(how, Stop::Damage));
        assert!(out.is_some_and(|out| !damaged || out.damaged_snapshots > 0), "{stops:?}");
        running.kill().await;
    }
    for (told, stops) in all.iter().zip(0..) {
        assert_eq!(*told, all[0], "stops {stops}");
    }
}

#[tokio::test]
async fn what_cannot_go_on_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = Running::start(folder.path(), NOW).await;
    running.create(&[]).await;
    let execute = async |sql: &str| running.service.execute(sql).await.expect("it is right");
    execute("CREATE SOURCE fleeting (ts TIMESTAMP, k TEXT) WITH (connector = 'http')").await;
    execute("CREATE TABLE names (k TEXT, name TEXT, PRIMARY KEY (k)) WITH (connector = 'http')").await;
    let streams = [
        (
            "s1",
            DURABLE,
            "SELECT k, count(*) AS n FROM fleeting GROUP BY k, session('3s')",
            "\"fleeting\" is not durable",
        ),
        (
            "s2",
            "WITH (durability = 'buffered')",
            "SELECT k, count(*) AS n FROM a GROUP BY k, session('3s')",
            "own rows",
        ),
        ("s3", DURABLE, "SELECT k, sum(random()) AS n FROM a GROUP BY k, session('3s')", "random values"),
        ("s4", DURABLE, "SELECT a.k AS k, name FROM a JOIN names ON a.k = names.k", "\"names\" is not durable"),
    ];
    for (name, with, query, why) in streams {
        execute(&format!("CREATE STREAM {name} {with} AS {query}")).await;
        let stream = running.service.engine().streams().into_iter().find(|stream| stream.name == name);
        let stream = stream.expect("it is there");
        assert_eq!(stream.recovery, Some(Recovery::Live), "{stream:?}");
        assert!(stream.live_because.as_ref().is_some_and(|told| told.contains(why)), "{stream:?}");
    }
}

#[tokio::test]
async fn another_query_takes_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = Running::start(folder.path(), NOW).await;
    let query = "SELECT k, count(*) AS c FROM a GROUP BY k, session('3s')";
    running.create(&[&format!("CREATE STREAM out {DURABLE} AS {query}")]).await;
    let altered = running.service.execute(&format!("ALTER STREAM out AS {query}")).await;
    assert!(altered.is_ok(), "{altered:?}");
}

/// Whatever is stopped when, it tells the same.
async fn same(streams: &[&str]) {
    let whole = tempfile::tempdir().expect("a folder");
    let running = Running::start(whole.path(), NOW).await;
    running.create(streams).await;
    let running = publish(running, whole.path(), 0, 0).await;
    let expected = running.told("out").await;
    assert!(expected.len() > 10, "{expected:?}");
    running.service.engine().shutdown().await;
    drop(running);
    for seed in 1..=SEEDS {
        let folder = tempfile::tempdir().expect("a folder");
        let running = Running::start(folder.path(), NOW).await;
        running.create(streams).await;
        let running = publish(running, folder.path(), seed, 6).await;
        let told = running.told("out").await;
        let missing: Vec<_> = expected.iter().filter(|row| !told.contains(row)).collect();
        let other: Vec<_> = told.iter().filter(|row| !expected.contains(row)).collect();
        assert!(
            told == expected,
            "seed {seed}: {} rows, not {}; missing {missing:?}; other {other:?}",
            told.len(),
            expected.len()
        );
        running.kill().await;
    }
}

/// How often each is tried.
const SEEDS: u64 = 4;
const DURABLE: &str = "WITH (durability = 'durable')";

#[tokio::test]
async fn sessions() {
    let sessions = format!(
        "CREATE STREAM out {DURABLE} AS
         SELECT k, window_start, count(*) AS c, sum(n) AS n FROM a WHERE n <> 7 GROUP BY k, session('3s')"
    );
    same(&[&sessions]).await;
}

#[tokio::test]
async fn windows_by_count() {
    same(&[&format!(
        "CREATE STREAM out {DURABLE} AS SELECT k, count(*) AS c, sum(n) AS n FROM a GROUP BY k, count_window(3)"
    )])
    .await;
}

#[tokio::test]
async fn what_retention_takes_behind_a_snapshot_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut running = Running::start(folder.path(), NOW).await;
    let with = "(connector = 'http', durability = 'durable', retention_size = '64KiB')";
    for sql in [
        format!("CREATE SOURCE a (ts TIMESTAMP, k TEXT, n BIGINT) WITH {with}"),
        format!("CREATE STREAM out {DURABLE} AS SELECT k, sum(n) AS n FROM a GROUP BY k, count_window(1)"),
        "PAUSE STREAM out".to_owned(),
    ] {
        running.service.execute(&sql).await.expect("it is right");
    }
    let (bodies, rows) = (100, 200);
    for at in 0..bodies {
        let body: String = (0..rows).map(|row| line(at, "a", row)).collect();
        running.service.publish("a", body.into()).await.expect("it is taken");
    }
    let now = running.kill().await;
    running = Running::start(folder.path(), now).await;
    running.service.execute("RESUME STREAM out").await.expect("it rests");
    running.service.publish("a", line(bodies, LAST, 1).into()).await.expect("it is taken");
    let told = running.told("out").await.len() as u64;
    let lost = running.service.engine().losses().into_iter().find(|loss| loss.name == "out").expect("rows are gone");
    assert_eq!(lost.reason, LossReason::Retention);
    assert!(told > 1 && lost.lost.rows > 0, "{told} rows, and {lost:?}");
    assert_eq!(told + lost.lost.rows, bodies * rows + 1);
    assert!(running.service.engine().jobs().iter().all(|job| job.counters.unaccounted() == 0));
}

#[tokio::test]
async fn rows_that_are_late_are_told_before_a_stop_and_behind_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut running = Running::start(folder.path(), NOW).await;
    let sessions = "SELECT k, count(*) AS c FROM a GROUP BY k, session('3s')";
    running.create(&[&format!("CREATE STREAM out {DURABLE} AS {sessions}")]).await;
    running.service.execute("CREATE STREAM l AS SELECT k, n FROM LATE(out)").await.expect("it is right");
    for (at, second, key) in [(1, 100, "y"), (2, 200, LAST)] {
        running.service.publish("a", line(second, "b", 0).into()).await.expect("it is taken");
        running.service.publish("a", line(1, key, at).into()).await.expect("it is taken");
        let late = || running.service.engine().streams().into_iter().find(|stream| stream.name == "out");
        while late().is_some_and(|out| out.counters.late < at) {
            tokio::task::yield_now().await;
        }
        assert_eq!(late().map(|out| out.counters.late), Some(at), "each is counted once");
        if key == LAST {
            assert_eq!(running.told("l").await.iter().filter(|row| *row == "zz|2").count(), 1);
        }
        let now = running.kill().await;
        running = Running::start(folder.path(), now).await;
    }
}

#[tokio::test]
async fn a_chain_of_streams_and_of_steps() {
    let sessions = format!(
        "CREATE STREAM s {DURABLE} AS
         SELECT k, window_start, window_time, count(*) AS c FROM a GROUP BY k, session('3s')"
    );
    let counted = format!(
        "CREATE STREAM out {DURABLE} AS SELECT k, window_start, c, sessions FROM (
           SELECT window_start, window_time, k, sum(c) AS c, count(*) AS sessions FROM (
             SELECT k, sum(c) AS c, window_time FROM s GROUP BY k, tumble('10s')
           ) GROUP BY k, tumble('30s'))"
    );
    same(&[&sessions, &counted]).await;
}

#[tokio::test]
async fn the_first_of_windows_that_are_aggregates() {
    let ranked = format!(
        "CREATE STREAM out {DURABLE} AS SELECT k, window_start, c, place FROM (
           SELECT k, window_start, window_end, c,
                  row_number() OVER (PARTITION BY window_start, window_end ORDER BY c DESC, k) AS place FROM (
             SELECT k, window_start, window_end, count(*) AS c FROM TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '20 seconds')
             GROUP BY k, window_start, window_end)
         ) WHERE place <= 2"
    );
    same(&[&ranked]).await;
}

#[tokio::test]
async fn joins_of_rows_near_each_other() {
    let joined = format!(
        "CREATE STREAM out {DURABLE} AS SELECT a.k AS k, a.ts AS ts, a.n AS n, b.n AS m FROM a LEFT JOIN b
         ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '4 seconds' AND a.ts + INTERVAL '4 seconds'"
    );
    same(&[&joined]).await;
}

#[tokio::test]
async fn joins_of_aggregates_by_window() {
    let counts = |of: &str| {
        format!(
            "SELECT k, window_start, window_end, count(*) AS c
             FROM TUMBLE(TABLE {of}, DESCRIPTOR(ts), INTERVAL '10 seconds') GROUP BY k, window_start, window_end"
        )
    };
    let joined = format!(
        "CREATE STREAM out {DURABLE} AS SELECT coalesce(l.k, r.k) AS k, l.window_start, l.c, r.c AS d
         FROM ({}) AS l FULL JOIN ({}) AS r ON l.k = r.k AND l.window_start = r.window_start AND l.window_end = r.window_end",
        counts("a"),
        counts("b")
    );
    same(&[&joined]).await;
}

#[tokio::test]
async fn the_first_row_of_each_key() {
    let first = format!(
        "CREATE STREAM out {DURABLE} AS SELECT k, n, ts FROM (
           SELECT k, n, ts, row_number() OVER (PARTITION BY k, n ORDER BY ts) AS place FROM a
         ) WHERE place = 1"
    );
    same(&[&first]).await;
}

#[tokio::test]
async fn a_result_that_changes() {
    let totals = format!("CREATE STREAM totals {DURABLE} AS SELECT k, count(*) AS c, sum(n) AS n FROM a GROUP BY k");
    let whole = tempfile::tempdir().expect("a folder");
    let running = Running::start(whole.path(), NOW).await;
    running.create(&[&totals]).await;
    let expected = settled(&publish(running, whole.path(), 0, 0).await).await;
    for seed in 1..=SEEDS {
        let folder = tempfile::tempdir().expect("a folder");
        let running = Running::start(folder.path(), NOW).await;
        running.create(&[&totals]).await;
        let running = publish(running, folder.path(), seed, 6).await;
        assert_eq!(settled(&running).await, expected, "seed {seed}");
        running.kill().await;
    }
}

/// The result once the three rows of the last key are in it.
async fn settled(running: &Running) -> BTreeMap<String, String> {
    loop {
        let result = running.result("totals").await;
        if result.get(LAST).is_some_and(|last| last == "3|3") {
            return result;
        }
    }
}
