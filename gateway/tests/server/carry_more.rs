//! Sinks and queries that read a stream which goes over to other columns.

use std::path::Path;

use serde_json::{Value, json};
use squilla_engine::{Start, SubscribeOptions};
use squilla_gateway::{Answer, ServeConfig, Service};

use crate::alter::{BEGIN, HITS, all_accounted, hit, publish, reader, refused, rows_until, told};
use crate::client::{Client, PATIENCE, TestServer, engine_config, open};

/// Rows of so many seconds, one a second.
fn hits(seconds: std::ops::Range<i64>) -> Value {
    seconds.map(|second| hit(second, second)).collect::<Vec<_>>().into()
}

const OTHERS: [&str; 3] = [
    "SELECT n * 10 AS tenfold, n, ts, n % 3 AS third FROM hits",
    "SELECT n % 3 AS third, ts, n FROM hits",
    "SELECT ts, n, 'text' AS tenfold, n % 3 AS third FROM hits",
];

async fn sink(service: &Service, sql: &str) {
    assert!(matches!(service.execute(sql).await, Ok(Answer::Sink(_))), "{sql}");
}

async fn lines(file: &Path, count: usize) -> Vec<Value> {
    let read = async {
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if text.ends_with('\n') && text.lines().count() >= count {
                return text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the rows are written")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_writes_each_row_once_of_a_stream_that_gets_other_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    let roots = vec![folder.path().to_owned()];
    let service = open(Some(folder.path().join("data")), engine_config(), roots).await;
    told(&service, &format!("{HITS})")).await;
    told(&service, "CREATE STREAM base AS SELECT n, n % 3 AS third, ts FROM hits").await;
    for (name, query) in [("all", "SELECT n, third FROM base"), ("some", "SELECT n FROM base WHERE third = 1")] {
        let with = format!("WITH (connector = 'file', path = '{name}.ndjson')");
        sink(&service, &format!("CREATE SINK {name} {with} AS {query}")).await;
    }
    told(&service, "CREATE SINK fed WITH (connector = 'file', path = 'fed.ndjson')").await;
    sink(&service, "INSERT INTO fed SELECT n + 1 AS next FROM base").await;
    let mut end = 0;
    for other in OTHERS {
        publish(&service, "hits", &hits(end..end + 7)).await;
        told(&service, &format!("ALTER STREAM base AS {other}")).await;
        publish(&service, "hits", &hits(end + 7..end + 10)).await;
        end += 10;
    }
    let count = usize::try_from(end).expect("few");
    let file = |name: &str| folder.path().join(format!("{name}.ndjson"));
    let all: Vec<Value> = (0..end).map(|n| json!({"n": n, "third": n % 3})).collect();
    assert_eq!(lines(&file("all"), count).await, all);
    let some: Vec<Value> = (0..end).filter(|n| n % 3 == 1).map(|n| json!({"n": n})).collect();
    assert_eq!(lines(&file("some"), some.len()).await, some);
    let fed: Vec<Value> = (0..end).map(|n| json!({"next": n + 1})).collect();
    assert_eq!(lines(&file("fed"), count).await, fed);
    all_accounted(&service).await;
    service.engine().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_writes_rows_as_they_are_keeps_their_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = open(None, engine_config(), vec![folder.path().to_owned()]).await;
    let server = TestServer::of(service, ServeConfig::default()).await;
    server.execute(&format!("{HITS})")).await;
    server.execute("CREATE STREAM base AS SELECT n, n % 3 AS third, ts FROM hits").await;
    for query in ["SELECT * FROM base", "SELECT n, third, ts FROM base"] {
        server.execute(&format!("CREATE SINK plain WITH (connector = 'file', path = 'plain.ndjson') AS {query}")).await;
        let error = refused(&server, &format!("ALTER STREAM base AS {}", OTHERS[0])).await;
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains("plain") && !error["help"].is_null(), "{query}: {error}");
        server.execute("DROP SINK plain").await;
    }
    server.execute(&format!("ALTER STREAM base AS {}", OTHERS[0])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_altered_twice_in_a_row_keeps_its_readers_windows() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = Some(folder.path().join("data"));
    let with = "WITH (durability = 'durable')";
    let service = open(data.clone(), engine_config(), Vec::new()).await;
    told(&service, &format!("{HITS}, durability = 'durable')")).await;
    told(&service, &format!("CREATE STREAM base {with} AS SELECT n, n % 3 AS third, ts FROM hits")).await;
    let sums = "SELECT window_start, sum(n) AS n FROM base GROUP BY tumble('20s')";
    told(&service, &format!("CREATE STREAM sums {with} AS {sums}")).await;
    publish(&service, "hits", &hits(0..9)).await;
    for other in OTHERS {
        told(&service, &format!("ALTER STREAM base AS {other}")).await;
    }
    drop(service);
    let service: std::sync::Arc<Service> = open(data, engine_config(), Vec::new()).await;
    told(&service, &format!("ALTER STREAM base AS {}", OTHERS[0])).await;
    publish(&service, "hits", &hits(9..45)).await;
    let mut of_sums = reader(&service, "SELECT * FROM sums").await;
    let rows = rows_until(&mut of_sums, |row| row[0] == BEGIN + 20).await;
    assert_eq!(rows, [vec![BEGIN, (0..20).sum()], vec![BEGIN + 20, (20..40).sum()]]);
    service.engine().shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_was_planned_before_its_stream_was_altered_finds_its_columns() {
    let server = TestServer::start().await;
    let service = &server.service;
    told(service, &format!("{HITS})")).await;
    told(service, "CREATE STREAM base AS SELECT n, n % 3 AS third, ts FROM hits").await;
    let mut planned = Vec::new();
    for sql in ["SELECT n, third FROM base", "SELECT third, n * 2 AS n FROM base WHERE n > 1"] {
        let Ok(Answer::Live(query)) = service.execute(sql).await else { panic!("{sql} is a query") };
        planned.push(query);
    }
    told(service, &format!("ALTER STREAM base AS {}", OTHERS[0])).await;
    publish(service, "hits", &hits(0..5)).await;
    let wanted = [(0..5).map(|n| vec![n, n % 3]).collect::<Vec<_>>(), (2..5).map(|n| vec![n % 3, n * 2]).collect()];
    for (query, wanted) in planned.iter().zip(wanted) {
        let options = SubscribeOptions { from: Some(Start::Earliest), ..SubscribeOptions::default() };
        let mut reader = service.engine().subscribe(query, options).await.expect("it runs");
        let last = wanted.last().cloned().expect("rows");
        assert_eq!(rows_until(&mut reader, |row| *row == last).await, wanted);
    }
    told(service, "ALTER STREAM base AS SELECT n, ts FROM hits").await;
    let refused = service.engine().subscribe(&planned[0], SubscribeOptions::default()).await;
    let error = refused.err().expect("there is no such column any more").to_string();
    assert_eq!(error, "stream \"base\" was altered: it has no column \"third\" any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_while_a_stream_is_altered_gets_rows_with_the_columns_that_are_told() {
    let server = TestServer::start().await;
    let service = server.service.clone();
    told(&service, &format!("{HITS})")).await;
    told(&service, &format!("CREATE STREAM base AS {}", OTHERS[0])).await;
    publish(&service, "hits", &hits(0..3)).await;
    let altering = tokio::spawn({
        let service = service.clone();
        async move {
            for round in 1..=12 {
                publish(&service, "hits", &hits(round * 3..round * 3 + 3)).await;
                let other = OTHERS[usize::try_from(round).expect("few") % OTHERS.len()];
                told(&service, &format!("ALTER STREAM base AS {other}")).await;
            }
        }
    });
    let mut client = Client::hello(&server).await;
    let mut asked = 0;
    while !altering.is_finished() || asked < 5 {
        asked += 1;
        let id = asked.to_string();
        client.send(&json!({"type": "subscribe", "id": id, "stream": "base", "from": "earliest"})).await;
        let subscribed = loop {
            let message = client.message().await;
            match message["type"].as_str() {
                Some("subscribed") if message["id"] == id => break message,
                // One that was begun before has ended.
                Some("error") if message["id"] != id => assert_eq!(message["code"], "altered", "{message}"),
                Some("error") => panic!("{message}"),
                Some("rows") => assert_columns(&message),
                _ => {}
            }
        };
        let columns = subscribed["schema"].as_array().expect("columns").iter();
        let names: Vec<String> = columns.map(|column| column["name"].as_str().unwrap_or_default().to_owned()).collect();
        let known = OTHERS.iter().any(|other| {
            let order = |name: &String| other.find(&format!(" {name}")).or(other.find(name)).unwrap_or(usize::MAX);
            names.iter().all(|name| order(name) < usize::MAX)
        });
        assert!(known && names.contains(&"n".to_owned()), "{names:?}");
        CHANNELS.lock().expect("one test").insert(subscribed["channel"].to_string(), names);
    }
    altering.await.expect("it is altered");
}

static CHANNELS: std::sync::Mutex<std::collections::BTreeMap<String, Vec<String>>> =
    std::sync::Mutex::new(std::collections::BTreeMap::new());

/// Rows have the columns that were told of their channel.
fn assert_columns(message: &Value) {
    let channels = CHANNELS.lock().expect("one test");
    let names = &channels[&message["channel"].to_string()];
    for row in message["rows"].as_array().expect("rows") {
        let row = row.as_array().expect("a row");
        assert_eq!(row.len(), names.len(), "{message} {names:?}");
        let value = |name: &str| names.iter().position(|known| known == name).map(|at| &row[at]);
        let n = value("n").and_then(Value::as_i64).expect("a number");
        assert_eq!(value("third"), Some(&json!(n % 3)), "{names:?} {row:?}");
        if let Some(tenfold) = value("tenfold") {
            assert!(*tenfold == json!(n * 10) || *tenfold == json!("text"), "{names:?} {row:?}");
        }
    }
}
