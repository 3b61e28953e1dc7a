//! Named streams that go over to another query while they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use reqwest::{Client as Http, StatusCode};
use serde_json::{Value, json};
use squilla_engine::{JobInfo, Recovery, Start, StreamInfo, SubscribeOptions, Subscription, SubscriptionEvent};
use squilla_gateway::{Answer, Service};

use crate::client::{Client, PATIENCE, TestServer, engine_config, open};

/// What a statement says that it has done.
pub(crate) async fn told(service: &Service, sql: &str) -> String {
    match service.execute(sql).await {
        Ok(Answer::Done(told)) => told,
        other => panic!("{sql}: {other:?}"),
    }
}

pub(crate) async fn publish(service: &Service, source: &str, events: &Value) {
    service.publish(source, events.to_string().into()).await.expect("is taken");
}

/// A reader of a query from its first row.
pub(crate) async fn reader(service: &Service, sql: &str) -> Subscription {
    let Answer::Live(query) = service.execute(sql).await.expect("a query") else { panic!("{sql} is no query") };
    let options = SubscribeOptions { from: Some(Start::Earliest), ..SubscribeOptions::default() };
    service.engine().subscribe(&query, options).await.expect("it runs")
}

/// How a stream stands.
pub(crate) fn info(service: &Service, name: &str) -> StreamInfo {
    service.engine().streams().into_iter().find(|stream| stream.name == name).expect("it is there")
}

/// Waits until a stream has told more rows.
async fn more_rows(service: &Service, name: &str) {
    let now = || info(service, name).rows;
    let before = now();
    let more = async {
        while now() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, more).await.expect("rows come");
}

/// Waits until every row of every job is accounted for: those that a job is at are not yet.
pub(crate) async fn all_accounted(service: &Service) -> Vec<JobInfo> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let jobs = service.engine().jobs();
        if jobs.iter().all(|job| job.counters.unaccounted() == 0) {
            return jobs;
        }
        assert!(tokio::time::Instant::now() < deadline, "{jobs:?}");
        tokio::task::yield_now().await;
    }
}

/// The next rows, each as its columns' whole numbers (moments: seconds), until `last` says so.
pub(crate) async fn rows_until(reader: &mut Subscription, last: impl Fn(&[i64]) -> bool) -> Vec<Vec<i64>> {
    let mut rows = Vec::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !rows.last().is_some_and(|row: &Vec<i64>| last(row)) {
        match tokio::time::timeout_at(deadline, reader.next()).await {
            Ok(SubscriptionEvent::Rows { batch, skip, .. }) => {
                let visible = batch.visible();
                for row in skip..visible.num_rows() {
                    let value = |column: &arrow::array::ArrayRef| match column.as_primitive_opt::<Int64Type>() {
                        Some(numbers) => numbers.value(row),
                        None => column.as_primitive::<TimestampNanosecondType>().value(row) / 1_000_000_000,
                    };
                    rows.push(visible.columns().iter().map(value).collect());
                }
            }
            Ok(SubscriptionEvent::Progress(_)) => {}
            Ok(other) => panic!("{other:?} after {rows:?}"),
            Err(_) => panic!("nothing comes after {:?}", &rows[rows.len().saturating_sub(20)..]),
        }
    }
    rows
}

/// Rows went over from one filter to the other at places in the input: none twice, none missing.
fn assert_halves(rows: &[Vec<i64>], changes: usize) {
    let steps: Vec<i64> = rows.windows(2).map(|pair| pair[1][0] - pair[0][0]).collect();
    // Every second row; where the filter changed, one or three on.
    assert!(steps.iter().all(|step| (1..=3).contains(step)), "{steps:?}");
    assert_eq!(steps.iter().filter(|step| **step != 2).count(), changes, "{steps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_told_once_by_the_old_query_or_the_new_one() {
    let service = open(None, engine_config(), Vec::new()).await;
    told(&service, "CREATE SOURCE events (n BIGINT) WITH (connector = 'http')").await;
    told(&service, "CREATE STREAM half AS SELECT n FROM events WHERE n % 2 = 0").await;
    told(&service, "CREATE STREAM above AS SELECT n + 0 AS n FROM half").await;
    let mut readers = Vec::new();
    for sql in ["SELECT n FROM half", "SELECT n FROM half WHERE n >= 0", "SELECT n FROM above"] {
        let mut reader = reader(&service, sql).await;
        readers.push(tokio::spawn(async move { rows_until(&mut reader, |row| row[0] == 1_000_000).await }));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = {
        let (service, stop) = (service.clone(), stop.clone());
        tokio::spawn(async move {
            let mut next = 0u64;
            while !stop.load(Ordering::Relaxed) {
                publish(&service, "events", &(next..next + 5).map(|n| json!({"n": n})).collect::<Vec<_>>().into())
                    .await;
                next += 5;
                // Faster, readers would be overtaken.
                while info(&service, "half").rows + 500 < next / 2 {
                    tokio::task::yield_now().await;
                }
            }
            next
        })
    };
    let changes = 8;
    for round in 0..changes {
        more_rows(&service, "half").await;
        let rest = (round + 1) % 2;
        let answer = told(&service, &format!("ALTER STREAM half AS SELECT n FROM events WHERE n % 2 = {rest}")).await;
        assert_eq!(answer, "altered stream \"half\": the new query goes on at the row at which the old one ended");
    }
    more_rows(&service, "half").await;
    stop.store(true, Ordering::Relaxed);
    let next = publisher.await.expect("it publishes");
    // The filter lets even numbers through again.
    let last: Vec<Value> = (next..next + 2).chain([1_000_000]).map(|n| json!({"n": n})).collect();
    publish(&service, "events", &last.into()).await;
    for reader in readers {
        let mut rows = reader.await.expect("it reads");
        rows.pop();
        assert_halves(&rows, changes);
    }
    let jobs = all_accounted(&service).await;
    let half = jobs.iter().find(|job| job.stream.as_deref() == Some("half")).expect("it runs");
    assert!(half.description.contains("% Int64(2) = Int64(0)") || half.description.contains("n % 2 = 0"), "{half:?}");
}

pub(crate) const HITS: &str =
    "CREATE SOURCE hits (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2 seconds')
    WITH (connector = 'http'";

pub(crate) fn hit(n: i64, second: i64) -> Value {
    let (day, hour) = (second / 86_400 + 1, second / 3600 % 24);
    json!({"n": n, "ts": format!("2020-01-{day:02}T{hour:02}:{:02}:{:02}Z", second / 60 % 60, second % 60)})
}

/// Seconds before the first hit.
pub(crate) const BEGIN: i64 = 1_577_836_800;

/// Hits of so many seconds, two a second, out of order by a second.
fn hits(seconds: std::ops::Range<i64>) -> Value {
    let of = |second: i64| [hit(second + 1, second + 1), hit(second, second)];
    seconds.step_by(2).flat_map(of).collect::<Vec<_>>().into()
}

/// Windows `(start, end, n)`: each whole, in order of their ends, with none missing between.
fn assert_windows(rows: &[Vec<i64>]) {
    let mut reached = BEGIN;
    for row in rows {
        let (start, end, n) = (row[0] - BEGIN, row[1] - BEGIN, row[2]);
        let wanted: i64 = (start.max(0)..end).sum();
        assert_eq!(n, wanted, "the window from {start} to {end} of {rows:?}");
        assert!(row[0] <= reached && row[1] > reached, "{start} to {end} of {rows:?}");
        reached = row[1];
    }
}

pub(crate) fn windows(size: &str, more: &str) -> String {
    format!("SELECT window_start, window_end, sum(n) AS n FROM hits {more} GROUP BY tumble('{size}')")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_are_whole_before_and_behind_the_watermark_at_which_a_stream_goes_over() {
    let service = open(None, engine_config(), Vec::new()).await;
    told(&service, &format!("{HITS})")).await;
    told(&service, &format!("CREATE STREAM sums AS {}", windows("10s", ""))).await;
    told(&service, "CREATE STREAM above AS SELECT window_start, window_end, n FROM sums WHERE n >= 0").await;
    let mut readers = Vec::new();
    let (ends, end) = tokio::sync::watch::channel(i64::MAX);
    for sql in ["SELECT * FROM sums", "SELECT * FROM above"] {
        let mut reader = reader(&service, sql).await;
        let end = end.clone();
        readers.push(tokio::spawn(async move { rows_until(&mut reader, |row| row[1] >= *end.borrow()).await }));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = {
        let (service, stop) = (service.clone(), stop.clone());
        tokio::spawn(async move {
            let mut next = 0;
            while !stop.load(Ordering::Relaxed) {
                publish(&service, "hits", &hits(next..next + 4)).await;
                next += 4;
                assert!(next < 30 * 86_400, "a month is enough");
                // Faster, readers would be overtaken.
                let reached = |info: StreamInfo| info.watermark.map_or(0, |at| at.0 / 1_000_000_000 - BEGIN);
                while next > 500 && reached(info(&service, "sums")) + 500 < next {
                    tokio::task::yield_now().await;
                }
            }
            next
        })
    };
    let others = [
        windows("5s", ""),
        windows("10s", "WHERE n >= 0"),
        windows("2s", ""),
        windows("30s", ""),
        windows("10s", "WHERE n > -1"),
        format!("{} EMIT ON WINDOW CLOSE GRACE INTERVAL '20 seconds'", windows("5s", "")),
        windows("10s", ""),
    ];
    for query in &others {
        more_rows(&service, "sums").await;
        let answer = told(&service, &format!("ALTER STREAM sums AS {query}")).await;
        assert!(answer.starts_with("altered stream \"sums\": the old query told windows up to "), "{answer}");
    }
    more_rows(&service, "sums").await;
    stop.store(true, Ordering::Relaxed);
    let next = publisher.await.expect("it publishes");
    ends.send_replace(BEGIN + next);
    publish(&service, "hits", &hits(next..next + 60)).await;
    for reader in readers {
        assert_windows(&reader.await.expect("it reads"));
    }
    all_accounted(&service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_query_is_there_after_a_restart_and_goes_on() {
    for kind in ["memory", "buffered", "durable"] {
        let folder = tempfile::tempdir().expect("a folder");
        let data = Some(folder.path().join("data"));
        let with = format!("WITH (durability = '{kind}')");
        let mut service = open(data.clone(), engine_config(), Vec::new()).await;
        told(&service, &format!("{HITS}, durability = '{kind}')")).await;
        told(&service, &format!("CREATE STREAM sums {with} AS {}", windows("10s", ""))).await;
        told(&service, &format!("CREATE STREAM half {with} AS SELECT n FROM hits WHERE n % 2 = 0")).await;
        let mut parts = Vec::new();
        for (round, size) in [(0, "5s"), (1, "10s"), (2, "2s")] {
            publish(&service, "hits", &hits(round * 40..round * 40 + 20)).await;
            told(&service, &format!("ALTER STREAM sums AS {}", windows(size, ""))).await;
            let rest = (round + 1) % 2;
            told(&service, &format!("ALTER STREAM half AS SELECT n FROM hits WHERE n % 2 = {rest}")).await;
            publish(&service, "hits", &hits(round * 40 + 20..round * 40 + 40)).await;
            let mut of_half = reader(&service, "SELECT n FROM half").await;
            let last = round * 40 + 38 + rest;
            parts.push(rows_until(&mut of_half, |row| row[0] == last).await);
            service.engine().shutdown().await;
            drop((of_half, service));
            service = open(data.clone(), engine_config(), Vec::new()).await;
        }
        let stored = service.engine().jobs().into_iter().find(|job| job.stream.as_deref() == Some("half"));
        assert!(stored.is_some_and(|job| job.description.contains('1')), "the last definition");
        if kind == "durable" {
            // Everything in one log, from the first row on.
            publish(&service, "hits", &hits(120..160)).await;
            let mut of_half = reader(&service, "SELECT n FROM half").await;
            let mut rows: Vec<i64> =
                rows_until(&mut of_half, |row| row[0] == 159).await.into_iter().map(|row| row[0]).collect();
            rows.sort_unstable();
            // Odd ones behind the first alteration, even ones behind the second, odd ones behind the third.
            let odd = |n: &i64| matches!(n, 20..60 | 100..160);
            let wanted: Vec<i64> = (0..160).filter(|n| (n % 2 == 1) == odd(n)).collect();
            assert_eq!(rows, wanted);
            let mut of_sums = reader(&service, "SELECT * FROM sums").await;
            assert_windows(&rows_until(&mut of_sums, |row| row[1] >= BEGIN + 154).await);
        }
        service.engine().shutdown().await;
    }
}

pub(crate) async fn refused(server: &TestServer, sql: &str) -> Value {
    let sent = Http::new().post(server.url("/api/v1/statements")).json(&json!({"sql": sql})).send().await;
    let answer = sent.expect("an answer");
    assert_ne!(answer.status(), StatusCode::OK, "{sql}");
    let answer: Value = answer.json().await.expect("JSON");
    assert!(answer["error"]["span"].is_object() && answer["error"]["help"].is_string(), "{sql}: {answer}");
    answer["error"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_go_over_is_refused_and_goes_on_as_it_was() {
    let server = TestServer::start().await;
    server.execute("CREATE SOURCE events (n BIGINT) WITH (connector = 'http')").await;
    server.execute("CREATE STREAM even AS SELECT n FROM events WHERE n % 2 = 0").await;
    server.execute("CREATE VIEW small AS SELECT n FROM even WHERE n < 10").await;
    server.execute("CREATE STREAM tiny AS SELECT n FROM small WHERE n < 3").await;
    server.execute("CREATE STREAM totals AS SELECT n, count(*) AS c FROM events GROUP BY n").await;
    server.execute("CREATE STREAM many AS SELECT n FROM totals WHERE c > 9").await;
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "1", "stream": "even"})).await;
    for (sql, code, message) in [
        ("ALTER STREAM none AS SELECT n FROM events", "unknown_relation", "no stream \"none\""),
        ("ALTER STREAM events AS SELECT n FROM even", "wrong_kind", "\"events\" is a source, not a stream"),
        ("ALTER STREAM small AS SELECT n FROM events", "wrong_kind", "\"small\" is a view, not a stream"),
        ("ALTER STREAM even AS SELECT n FROM even", "cycle", "stream \"even\" would read itself"),
        (
            "ALTER STREAM even AS SELECT n FROM tiny",
            "cycle",
            "stream \"even\" would read itself, through stream \"tiny\"",
        ),
        ("ALTER STREAM even AS SELECT x FROM events", "unknown_column", "no column \"x\""),
        (
            "ALTER STREAM totals AS SELECT n, n AS c FROM events",
            "in_use",
            "what would change is read by stream \"many\"",
        ),
        (
            "ALTER STREAM even WITH (retention = '1h') AS SELECT n FROM events",
            "unsupported",
            "the options of a stream stay as they are",
        ),
        (
            "ALTER STREAM even AS SELECT n AS m FROM events",
            "in_use",
            "what would change is read by view \"small\", stream \"tiny\"",
        ),
    ] {
        let error = refused(&server, sql).await;
        assert_eq!(error["code"], code, "{sql}: {error}");
        assert!(error["message"].as_str().is_some_and(|told| told.contains(message)), "{sql}: {error}");
    }
    server.execute("ALTER STREAM IF EXISTS none AS SELECT n FROM events").await;
    server.execute("PAUSE STREAM even").await;
    let error = refused(&server, "ALTER STREAM even AS SELECT n FROM events").await;
    assert_eq!(error["message"], "\"even\" cannot be altered: it is paused");
    server.execute("RESUME STREAM even").await;
    publish(&server.service, "events", &json!([{"n": 1}, {"n": 2}])).await;
    assert_eq!(client.message().await["rows"], json!([[2]]), "the old query goes on");
    server.execute("ALTER STREAM even AS SELECT n FROM events WHERE n % 2 = 1").await;
    publish(&server.service, "events", &json!([{"n": 3}, {"n": 4}])).await;
    assert_eq!(client.message().await["rows"], json!([[3]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_other_columns_are_ended_and_told_that_offsets_begin_anew() {
    let server = TestServer::start().await;
    server.execute("CREATE SOURCE events (n BIGINT) WITH (connector = 'http')").await;
    server.execute("CREATE STREAM even AS SELECT n FROM events WHERE n % 2 = 0").await;
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "1", "stream": "even"})).await;
    client.subscribe(json!({"id": "2", "sql": "SELECT n FROM even WHERE n > 0"})).await;
    publish(&server.service, "events", &json!([{"n": 1}, {"n": 2}])).await;
    let told_last = [client.message().await, client.message().await];
    assert!(told_last.iter().all(|rows| rows["rows"] == json!([[2]])), "{told_last:?}");
    let answer =
        told(&server.service, "ALTER STREAM even AS SELECT n, n * 2 AS twice FROM events WHERE n % 2 = 0").await;
    let wanted = "altered stream \"even\": the new query goes on at the row at which the old one ended; it has a new column \
                  \"twice\", so its readers were ended, and offsets begin anew";
    assert_eq!(answer, wanted);
    for _ in 0..2 {
        let ended = client.message().await;
        assert_eq!(
            (&ended["type"], &ended["code"], &ended["retryable"]),
            (&json!("error"), &json!("altered"), &json!(true))
        );
        assert_eq!(ended["message"], "stream \"even\" was altered: it has a new column \"twice\"");
    }
    publish(&server.service, "events", &json!([{"n": 3}, {"n": 4}])).await;
    let position = told_last[0]["position"].clone();
    let again = client.subscribe(json!({"id": "1", "stream": "even", "from": position})).await;
    assert_eq!(again["recovered"], json!(false), "{again}");
    let gap = client.message().await;
    assert_eq!((&gap["type"], &gap["reason"], &gap["rows"]), (&json!("gap"), &json!("epoch"), &Value::Null));
    assert_eq!(client.message().await["rows"], json!([[4, 8]]), "nothing twice, nothing missing");
    // And back, with windows between.
    server.execute("ALTER STREAM even AS SELECT count(*) AS c FROM events GROUP BY tumble('1s')").await;
    assert_eq!(client.message().await["code"], "altered");
    server.execute("ALTER STREAM even AS SELECT n FROM events WHERE n % 2 = 0").await;
    client.subscribe(json!({"id": "2", "sql": "SELECT n FROM even WHERE n > 0"})).await;
    publish(&server.service, "events", &json!([{"n": 5}, {"n": 6}])).await;
    assert_eq!(client.message().await["rows"], json!([[6]]));
    let folder = tempfile::tempdir().expect("a folder");
    let service = open(Some(folder.path().join("data")), engine_config(), Vec::new()).await;
    told(&service, "CREATE SOURCE events (n BIGINT) WITH (connector = 'http', durability = 'durable')").await;
    told(&service, "CREATE STREAM even WITH (durability = 'durable') AS SELECT n FROM events").await;
    assert_eq!(info(&service, "even").recovery, Some(Recovery::ExactlyOnce));
    told(&service, "CREATE SOURCE others (n BIGINT) WITH (connector = 'http')").await;
    told(&service, "ALTER STREAM even AS SELECT n FROM others").await;
    assert_eq!(info(&service, "even").recovery, Some(Recovery::Live), "what it reads does not last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_without_windows_begins_with_nothing_at_the_row_at_which_it_takes_over() {
    let service = open(None, engine_config(), Vec::new()).await;
    told(&service, &format!("{HITS})")).await;
    let pairs = |more: &str| {
        format!(
            "SELECT a.n AS n, b.n AS m FROM hits a JOIN hits b ON a.n = b.n
             AND b.ts BETWEEN a.ts - INTERVAL '1 minute' AND a.ts + INTERVAL '1 minute' {more}"
        )
    };
    told(&service, &format!("CREATE STREAM pairs AS {}", pairs(""))).await;
    let mut of_pairs = reader(&service, "SELECT n, m FROM pairs").await;
    publish(&service, "hits", &json!([hit(1, 1), hit(2, 2)])).await;
    let mut rows = rows_until(&mut of_pairs, |row| row[0] == 2).await;
    let answer = told(&service, &format!("ALTER STREAM pairs AS {}", pairs("WHERE a.n < 100"))).await;
    let wanted = "altered stream \"pairs\": the new query goes on at the row at which the old one ended, and begins with \
                  nothing kept of those before";
    assert_eq!(answer, wanted);
    // The first would pair with one of before.
    publish(&service, "hits", &json!([hit(1, 3), hit(500, 4), hit(3, 5)])).await;
    rows.extend(rows_until(&mut of_pairs, |row| row[0] == 3).await);
    assert_eq!(rows, [[1, 1], [2, 2], [1, 1], [3, 3]]);
    told(&service, "ALTER STREAM pairs AS SELECT n, n AS m FROM hits").await;
    publish(&service, "hits", &json!([hit(600, 6)])).await;
    assert_eq!(rows_until(&mut of_pairs, |row| row[0] == 600).await, [[600, 600]]);
    told(&service, "ALTER STREAM pairs AS SELECT max(n) AS n, count(*) AS m FROM hits GROUP BY tumble('10s')").await;
    publish(&service, "hits", &json!([hit(7, 7), hit(11, 15)])).await;
    assert_eq!(rows_until(&mut of_pairs, |row| row[0] == 600).await, [[600, 7]]);
    let answer = told(&service, &format!("ALTER STREAM pairs AS {}", pairs("WHERE a.n < 100"))).await;
    assert!(answer.ends_with("windows that were open then are not told"), "{answer}");
    publish(&service, "hits", &json!([hit(12, 16)])).await;
    assert_eq!(rows_until(&mut of_pairs, |row| row[0] == 12).await, [[12, 12]]);
    all_accounted(&service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_reads_what_was_created_after_it_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = Some(folder.path().join("data"));
    let service = open(data.clone(), engine_config(), Vec::new()).await;
    for sql in [
        "CREATE SOURCE first (n BIGINT) WITH (connector = 'http')",
        "CREATE STREAM kept AS SELECT n FROM first",
        "CREATE STREAM above AS SELECT n FROM kept",
        "CREATE SOURCE second (n BIGINT) WITH (connector = 'http')",
        "CREATE VIEW between AS SELECT n FROM second",
        "ALTER STREAM kept AS SELECT n FROM between",
    ] {
        told(&service, sql).await;
    }
    service.engine().shutdown().await;
    drop(service);
    let service = open(data, engine_config(), Vec::new()).await;
    let names: Vec<String> = service.engine().streams().into_iter().map(|stream| stream.name).collect();
    assert_eq!(names, ["above", "first", "kept", "second"]);
    let refused = service.execute("DROP SOURCE second").await.expect_err("it is used").to_string();
    assert_eq!(refused, "source \"second\" is used by view \"between\", stream \"kept\", stream \"above\"");
}
