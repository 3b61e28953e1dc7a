//! Named streams that are altered so that their readers cannot go on: their logs begin anew, on disk as in memory.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use squilla_engine::{Recovery, SubscribeOptions, SubscriptionEvent};
use squilla_gateway::{Answer, ServeConfig, Service};

use crate::alter::{HITS, all_accounted, hit, info, publish, reader, rows_until, told};
use crate::client::{Client, PATIENCE, TestServer, engine_config, open};

const DURABLE: &str = "WITH (durability = 'durable')";

fn numbers(of: std::ops::Range<i64>) -> Value {
    of.map(|n| json!({"n": n})).collect::<Vec<_>>().into()
}

/// The folders of logs.
fn logs(folder: &Path) -> BTreeSet<String> {
    let found = std::fs::read_dir(folder.join("data/streams")).expect("the folder").flatten();
    found.map(|entry| entry.file_name().into_string().expect("it is text")).collect()
}

fn named<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

async fn stopped(service: std::sync::Arc<Service>) {
    service.engine().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_on_disk_begins_anew_with_other_columns_at_the_row_at_which_the_old_one_ended() {
    for kind in ["durable", "buffered"] {
        let folder = tempfile::tempdir().expect("a folder");
        let data = Some(folder.path().join("data"));
        let mut service = open(data.clone(), engine_config(), Vec::new()).await;
        let with = format!("WITH (durability = '{kind}')");
        told(&service, "CREATE SOURCE events (n BIGINT) WITH (connector = 'http', durability = 'durable')").await;
        told(&service, &format!("CREATE STREAM some {with} AS SELECT n FROM events WHERE n % 2 = 0")).await;
        publish(&service, "events", &numbers(0..10)).await;
        let mut old = reader(&service, "SELECT n FROM some").await;
        assert_eq!(rows_until(&mut old, |row| row[0] == 8).await.len(), 5);
        publish(&service, "events", &numbers(10..20)).await;
        let answer = told(&service, "ALTER STREAM some AS SELECT n, n * 2 AS twice FROM events WHERE n % 2 = 1").await;
        assert!(answer.ends_with("so its readers were ended, and offsets begin anew"), "{answer}");
        publish(&service, "events", &numbers(20..30)).await;
        let mut new = reader(&service, "SELECT n, twice FROM some").await;
        let rows = rows_until(&mut new, |row| row[0] == 29).await;
        let (first, last) = (rows[0][0], rows[rows.len() - 1][0]);
        assert!(first <= 21 && last == 29, "{rows:?}");
        assert!(rows.iter().all(|row| row[0] % 2 == 1 && row[1] == row[0] * 2), "{rows:?}");
        // What the old query had not told the new one tells.
        let ended = loop {
            match old.next().await {
                SubscriptionEvent::Rows { .. } | SubscriptionEvent::Progress(_) => {}
                other => break other,
            }
        };
        assert!(matches!(&ended, SubscriptionEvent::Failed(error) if error.code() == "altered"), "{ended:?}");
        drop((old, new));
        stopped(service).await;
        assert_eq!(logs(folder.path()), named(["events", "some.1"]), "the old log is gone");
        service = open(data.clone(), engine_config(), Vec::new()).await;
        publish(&service, "events", &numbers(30..40)).await;
        let mut again = reader(&service, "SELECT n, twice FROM some").await;
        let rows = rows_until(&mut again, |row| row[0] == 39).await;
        let odd: Vec<i64> = (first..40).step_by(2).collect();
        if kind == "durable" {
            assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), odd);
            assert_eq!(info(&service, "some").recovery, Some(Recovery::ExactlyOnce));
        }
        // And once more, to what keeps windows.
        let windows = "SELECT window_start, count(*) AS n FROM events GROUP BY tumble('1s')";
        told(&service, &format!("ALTER STREAM some AS {windows}")).await;
        drop(again);
        stopped(service).await;
        assert_eq!(logs(folder.path()), named(["events", "some.2"]));
        let service = open(data, engine_config(), Vec::new()).await;
        told(&service, "DROP STREAM some").await;
        told(&service, &format!("CREATE STREAM some {with} AS SELECT n FROM events")).await;
        stopped(service).await;
        assert_eq!(logs(folder.path()), named(["events", "some"]));
    }
}

/// Sessions of numbers, so many rows of them.
fn sessions(gap: &str) -> String {
    format!("SELECT n, count(*) AS rows FROM hits GROUP BY n, session('{gap}')")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_in_snapshots_goes_over_and_lasts() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = Some(folder.path().join("data"));
    let service = open(data.clone(), engine_config(), Vec::new()).await;
    told(&service, &format!("{HITS}, durability = 'durable')")).await;
    told(&service, &format!("CREATE STREAM visits {DURABLE} AS {}", sessions("5s"))).await;
    publish(&service, "hits", &json!([hit(1, 1), hit(1, 2), hit(2, 20)])).await;
    let mut of_visits = reader(&service, "SELECT n, rows FROM visits").await;
    assert_eq!(rows_until(&mut of_visits, |row| row[0] == 1).await, [[1, 2]]);
    told(&service, &format!("CREATE STREAM above {DURABLE} AS SELECT n, rows FROM visits WHERE rows > 0")).await;
    let answer = told(&service, &format!("ALTER STREAM visits AS {}", sessions("9s"))).await;
    assert!(answer.contains("the old query told windows up to") && !answer.contains("ended"), "{answer}");
    assert_eq!(info(&service, "visits").recovery, Some(Recovery::ExactlyOnce));
    publish(&service, "hits", &json!([hit(2, 28), hit(3, 60)])).await;
    let rows = rows_until(&mut of_visits, |row| row[0] == 2).await;
    assert_eq!(rows, [[1, 2], [2, 2]], "all that end later than what was told are whole");
    drop(of_visits);
    let mut of_above = reader(&service, "SELECT n, rows FROM above").await;
    assert_eq!(rows_until(&mut of_above, |row| row[0] == 2).await, [[1, 2], [2, 2]]);
    drop(of_above);
    stopped(service).await;
    let service = open(data.clone(), engine_config(), Vec::new()).await;
    publish(&service, "hits", &json!([hit(3, 62), hit(4, 100)])).await;
    let mut of_visits = reader(&service, "SELECT n, rows FROM visits").await;
    assert_eq!(rows_until(&mut of_visits, |row| row[0] == 3).await, [[1, 2], [1, 2], [2, 2], [3, 2]]);
    told(&service, "DROP STREAM above").await;
    // To a join, whose state is of the rows that come; and back.
    let pairs = "SELECT a.n AS n, b.n AS rows FROM hits a JOIN hits b ON a.n = b.n
        AND b.ts BETWEEN a.ts - INTERVAL '1 minute' AND a.ts + INTERVAL '1 minute'";
    told(&service, &format!("ALTER STREAM visits AS {pairs}")).await;
    publish(&service, "hits", &json!([hit(4, 101), hit(5, 102)])).await;
    let mut of_pairs = reader(&service, "SELECT n, rows FROM visits").await;
    assert_eq!(rows_until(&mut of_pairs, |row| row[0] == 5).await, [[4, 4], [5, 5]], "4 at 100 is before it");
    drop((of_visits, of_pairs));
    stopped(service).await;
    let service = open(data.clone(), engine_config(), Vec::new()).await;
    publish(&service, "hits", &json!([hit(5, 103)])).await;
    let mut of_pairs = reader(&service, "SELECT n, rows FROM visits").await;
    let rows = rows_until_count(&mut of_pairs, 5).await;
    assert_eq!(rows, [[4, 4], [5, 5], [5, 5], [5, 5], [5, 5]], "5 meets itself and the one of before the restart");
    // To a join of other rows: with nothing kept.
    told(&service, &format!("ALTER STREAM visits AS {pairs} AND a.n <> 7")).await;
    publish(&service, "hits", &json!([hit(5, 104), hit(6, 105)])).await;
    assert_eq!(rows_until(&mut of_pairs, |row| row[0] == 6).await, [[5, 5], [6, 6]]);
    assert_eq!(logs(folder.path()), named(["hits", "visits.1"]));
    all_accounted(&service).await;
    drop(of_pairs);
    stopped(service).await;
    let service = open(data, engine_config(), Vec::new()).await;
    publish(&service, "hits", &json!([hit(6, 106)])).await;
    let mut of_pairs = reader(&service, "SELECT n, rows FROM visits").await;
    assert_eq!(rows_until_count(&mut of_pairs, 10).await[5..], [[5, 5], [6, 6], [6, 6], [6, 6], [6, 6]]);
    drop(of_pairs);
    stopped(service).await;
}

async fn rows_until_count(reader: &mut squilla_engine::Subscription, count: usize) -> Vec<Vec<i64>> {
    let seen = std::cell::Cell::new(0);
    rows_until(reader, |_| {
        seen.set(seen.get() + 1);
        seen.get() >= count
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_a_result_that_changes_are_ended_and_told_the_other_one_anew() {
    for kind in ["memory", "durable"] {
        let folder = tempfile::tempdir().expect("a folder");
        let data = Some(folder.path().join("data"));
        let mut server =
            TestServer::of(open(data.clone(), engine_config(), Vec::new()).await, ServeConfig::default()).await;
        let with = format!("WITH (durability = '{kind}')");
        let source = format!("CREATE SOURCE events (n BIGINT) WITH (connector = 'http', durability = '{kind}')");
        server.execute(&source).await;
        server
            .execute(&format!("CREATE STREAM totals {with} AS SELECT n % 2 AS k, count(*) AS c FROM events GROUP BY k"))
            .await;
        let mut client = Client::hello(&server).await;
        client.subscribe(json!({"id": "1", "stream": "totals", "snapshot": true})).await;
        publish(&server.service, "events", &numbers(0..2)).await;
        groups(&mut client, &[(0, 1), (1, 1)]).await;
        let other = "ALTER STREAM totals AS SELECT n % 3 AS k, count(*) AS c FROM events GROUP BY k";
        let answer = told(&server.service, other).await;
        assert!(answer.contains("with what its inputs' logs keep; results that change are told anew"), "{answer}");
        let ended = loop {
            let message = client.message().await;
            if message["type"] == "error" {
                break message;
            }
        };
        assert_eq!((&ended["code"], &ended["retryable"]), (&json!("altered"), &json!(true)));
        let mut client = Client::hello(&server).await;
        client.subscribe(json!({"id": "1", "stream": "totals", "snapshot": true})).await;
        publish(&server.service, "events", &numbers(2..5)).await;
        groups(&mut client, &[(0, 2), (1, 2), (2, 1)]).await;
        let back = "ALTER STREAM totals AS SELECT n AS k, n AS c FROM events WHERE n > 5";
        told(&server.service, back).await;
        publish(&server.service, "events", &numbers(5..7)).await;
        let mut rows = reader(&server.service, "SELECT k, c FROM totals").await;
        assert_eq!(rows_until(&mut rows, |row| row[0] == 6).await, [[6, 6]]);
        drop(rows);
        told(&server.service, other).await;
        server.stop();
        server.ended().await;
        let mut server = TestServer::of(open(data, engine_config(), Vec::new()).await, ServeConfig::default()).await;
        let mut client = Client::hello(&server).await;
        client.subscribe(json!({"id": "1", "stream": "totals", "snapshot": true})).await;
        publish(&server.service, "events", &numbers(7..8)).await;
        let (durable, memory) = ([(0, 3), (1, 3), (2, 2)], [(1, 1)]);
        groups(&mut client, if kind == "durable" { &durable } else { &memory }).await;
        server.stop();
        server.ended().await;
    }
}

/// Waits until the groups are these and no others.
async fn groups(client: &mut Client, wanted: &[(i64, i64)]) {
    let mut known = std::collections::BTreeMap::new();
    let wanted: std::collections::BTreeMap<i64, i64> = wanted.iter().copied().collect();
    let until = tokio::time::Instant::now() + PATIENCE;
    while known != wanted {
        let message = tokio::time::timeout_at(until, client.message()).await;
        let message = message.unwrap_or_else(|_| panic!("{known:?} stay, wanted were {wanted:?}"));
        assert_ne!(message["type"], "error", "{message}");
        let ops = message["ops"].as_array().cloned().unwrap_or_default();
        for (at, row) in message["rows"].as_array().into_iter().flatten().enumerate() {
            let (key, count) = (row[0].as_i64().expect("a number"), row[1].as_i64());
            if ops.get(at).is_some_and(|op| op == "delete") {
                known.remove(&key);
            } else {
                known.insert(key, count.expect("a number"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_told_to_skip_before_it_has_come_to_rest_skips_what_came() {
    let service = open(None, engine_config(), Vec::new()).await;
    told(&service, "CREATE SOURCE events (n BIGINT) WITH (connector = 'http')").await;
    // Long at work with a batch.
    let slow = "length(repeat(CAST(n AS VARCHAR), 3000)) > 0";
    told(&service, &format!("CREATE STREAM busy AS SELECT n FROM events WHERE {slow}")).await;
    publish(&service, "events", &numbers(0..5000)).await;
    told(&service, "PAUSE STREAM busy").await;
    publish(&service, "events", &json!([{"n": -1}])).await;
    // It is in the stream by then.
    let mut of_events = reader(&service, "SELECT n FROM events").await;
    rows_until(&mut of_events, |row| row[0] == -1).await;
    told(&service, "RESUME STREAM busy FROM LATEST").await;
    publish(&service, "events", &json!([{"n": -2}])).await;
    let mut of_busy = reader(&service, "SELECT n FROM busy").await;
    let rows = rows_until(&mut of_busy, |row| row[0] == -2).await;
    assert!(!rows.contains(&vec![-1]), "it came while the stream was to rest");
    all_accounted(&service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_names_no_job_that_the_stream_does_not_go_on_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hits.ndjson");
    std::fs::write(&path, "{\"n\":1,\"ts\":\"2026-01-01T00:00:00Z\"}\n").expect("a file");
    let service = open(None, engine_config(), vec![folder.path().to_owned()]).await;
    let source = format!(
        "CREATE SOURCE hits (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)
         WITH (connector = 'file', path = '{}', mode = 'follow')",
        path.display()
    );
    told(&service, &source).await;
    // It reads one column; the stream, whose late rows can be asked for, reads the file again with both.
    let sql = "SELECT count(*) AS c FROM hits GROUP BY tumble('10s')";
    let Ok(Answer::Live(query)) = service.execute(sql).await else { panic!("{sql} is a query") };
    let live = service.engine().subscribe(&query, SubscribeOptions::default()).await.expect("it runs");
    let id = live.info().query.clone();
    let answer = told(&service, &format!("CREATE STREAM counts FROM QUERY '{id}'")).await;
    assert_eq!(answer, format!("created stream \"counts\" from query \"{id}\""));
}

/// Each row with those of its number, in `steps` joins.
fn joined(steps: usize) -> String {
    let near = |one: &str, other: &str| {
        format!(
            "JOIN hits {other} ON {one}.n = {other}.n
             AND {other}.ts BETWEEN {one}.ts - INTERVAL '1 minute' AND {one}.ts + INTERVAL '1 minute' "
        )
    };
    let names = ["a", "b", "c"];
    let joins: String = (0..steps).map(|step| near(names[step], names[step + 1])).collect();
    format!("SELECT a.n AS n, {}.n AS m FROM hits a {joins}", names[steps])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_keeps_rows_in_several_steps_begins_anew_and_ends_readers() {
    for kind in ["memory", "durable"] {
        let folder = tempfile::tempdir().expect("a folder");
        let data = Some(folder.path().join("data"));
        let mut server =
            TestServer::of(open(data.clone(), engine_config(), Vec::new()).await, ServeConfig::default()).await;
        server.execute(&format!("{HITS}, durability = '{kind}')")).await;
        server.execute(&format!("CREATE STREAM met WITH (durability = '{kind}') AS {}", joined(1))).await;
        let mut client = Client::hello(&server).await;
        client.subscribe(json!({"id": "1", "stream": "met"})).await;
        publish(&server.service, "hits", &json!([hit(1, 1)])).await;
        let last = client.message().await;
        assert_eq!(last["rows"], json!([[1, 1]]));
        let answer = told(&server.service, &format!("ALTER STREAM met AS {}", joined(2))).await;
        let wanted = "altered stream \"met\": the new query begins as if it had been created now, with what its inputs' logs \
                      keep; what it keeps without windows takes more than one step, so its readers were ended, and offsets \
                      begin anew";
        assert_eq!(answer, wanted);
        let ended = client.message().await;
        assert_eq!((&ended["code"], &ended["id"], &ended["retryable"]), (&json!("altered"), &json!("1"), &json!(true)));
        publish(&server.service, "hits", &json!([hit(2, 2)])).await;
        let again = client.subscribe(json!({"id": "2", "stream": "met", "from": last["position"]})).await;
        assert_eq!(again["recovered"], false, "{again}");
        assert_eq!(client.message().await["reason"], "epoch");
        assert_eq!(met(&mut client, 2).await, [(1, 1), (2, 1)], "also of what was there before");
        // It pairs with itself and the one of before: eight ways, one of which was told.
        publish(&server.service, "hits", &json!([hit(1, 3)])).await;
        assert_eq!(met(&mut client, 7).await, [(1, 7)]);
        let lasts = if kind == "durable" { Recovery::ExactlyOnce } else { Recovery::Live };
        assert_eq!(info(&server.service, "met").recovery, Some(lasts));
        all_accounted(&server.service).await;
        if kind == "memory" {
            // Where one step is enough, readers stay.
            let answer = told(&server.service, &format!("ALTER STREAM met AS {}", joined(1))).await;
            assert!(answer.ends_with("and begins with nothing kept of those before"), "{answer}");
            publish(&server.service, "hits", &json!([hit(1, 5)])).await;
            assert_eq!(met(&mut client, 1).await, [(1, 1)]);
            continue;
        }
        server.stop();
        server.ended().await;
        assert_eq!(logs(folder.path()), named(["hits", "met.1"]));
        let mut server = TestServer::of(open(data, engine_config(), Vec::new()).await, ServeConfig::default()).await;
        publish(&server.service, "hits", &json!([hit(2, 4)])).await;
        let mut client = Client::hello(&server).await;
        client.subscribe(json!({"id": "1", "stream": "met", "from": "earliest"})).await;
        assert_eq!(met(&mut client, 16).await, [(1, 8), (2, 8)], "each once, also with what came before the restart");
        server.stop();
        server.ended().await;
    }
}

/// How often each number is among the next rows, so many of them.
async fn met(client: &mut Client, count: usize) -> Vec<(i64, usize)> {
    let mut times = std::collections::BTreeMap::new();
    while times.values().sum::<usize>() < count {
        let message = client.message().await;
        assert_eq!(message["type"], "rows", "{message} after {times:?}");
        for row in message["rows"].as_array().into_iter().flatten() {
            assert_eq!(row[0], row[1], "{message}");
            *times.entry(row[0].as_i64().expect("a number")).or_default() += 1;
        }
    }
    times.into_iter().collect()
}
