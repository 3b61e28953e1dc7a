//! Tables that clients feed: look-ups in what they hold, whoever comes when.

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client as Socket, PATIENCE, TestServer};

/// A log that holds a few rows of the table only.
const USERS: &str = "CREATE TABLE users (id BIGINT, name VARCHAR, pad VARCHAR, PRIMARY KEY (id)) \
                     WITH (connector = 'http', retention_size = '4KiB')";
const LOOK_UP: &str =
    "SELECT e.n, u.name FROM events AS e LEFT JOIN users FOR SYSTEM_TIME AS OF PROCTIME() AS u ON e.who = u.id";

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.execute(USERS).await;
    server.execute("CREATE SOURCE events (n BIGINT, who BIGINT) WITH (connector = 'http')").await;
    server
}

async fn publish(server: &TestServer, name: &str, rows: Value) {
    server.service.publish(name, rows.to_string().into()).await.expect("is taken");
}

/// Waits until a job of a kind has taken so many rows into its state.
async fn absorbed(server: &TestServer, kind: &str, rows: u64) {
    let there = async {
        let has = || server.service.engine().jobs().iter().any(|job| job.kind == kind && job.counters.absorbed == rows);
        while !has() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("the rows are taken in time");
}

async fn rows(client: &mut Socket) -> Value {
    let message = client.message().await;
    assert_eq!(message["type"], "rows", "{message}");
    message["rows"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_looked_up_as_it_stands_however_long_its_rows_have_been_there() {
    let server = server().await;
    publish(&server, "users", json!([{"id": 1, "name": "ann"}, {"id": 2, "name": "bob"}])).await;
    for n in 0..50 {
        publish(&server, "users", json!([{"id": 3, "name": format!("cid {n}"), "pad": "x".repeat(1_000)}])).await;
        absorbed(&server, "table", n + 3).await;
    }
    let mut client = Socket::hello(&server).await;
    client.subscribe(json!({"id": "1", "sql": LOOK_UP})).await;
    absorbed(&server, "look-up", 3).await;
    publish(&server, "events", json!([{"n": 1, "who": 1}, {"n": 2, "who": 3}, {"n": 3, "who": 4}])).await;
    assert_eq!(rows(&mut client).await, json!([[1, "ann"], [2, "cid 49"], [3, null]]));
    publish(&server, "users", json!([{"id": 4, "name": "dan"}, {"id": 1, "name": "anna"}])).await;
    absorbed(&server, "look-up", 5).await;
    publish(&server, "events", json!([{"n": 4, "who": 4}, {"n": 5, "who": 1}, {"n": 6, "who": null}])).await;
    assert_eq!(rows(&mut client).await, json!([[4, "dan"], [5, "anna"], [6, null]]));
    let mut later = Socket::hello(&server).await;
    let known = "SELECT n FROM events WHERE who IN (SELECT id FROM users WHERE name LIKE 'a%')";
    later.subscribe(json!({"id": "1", "sql": known})).await;
    absorbed(&server, "look-up", 4).await;
    publish(&server, "events", json!([{"n": 7, "who": 1}, {"n": 8, "who": 2}])).await;
    assert_eq!(rows(&mut later).await, json!([[7]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_listed_described_and_kept_while_they_are_used() {
    let server = server().await;
    server.execute(&format!("CREATE STREAM named AS {LOOK_UP}")).await;
    let post = async |sql: &str| {
        let sent = Client::new().post(server.url("/api/v1/statements")).json(&json!({"sql": sql})).send().await;
        let answer = sent.expect("an answer");
        (answer.status(), answer.json::<Value>().await.expect("JSON"))
    };
    let (_, answer) = post("SHOW TABLES; DESCRIBE users").await;
    let tables = &answer["results"][0]["rows"];
    assert_eq!(
        (tables.as_array().map(Vec::len), &tables[0][0], &tables[0][1]),
        (Some(1), &json!("users"), &json!("table"))
    );
    let facts = answer["results"][1]["rows"].as_array().expect("rows").clone();
    let fact = |name: &str| facts.iter().find(|row| row[1] == name).map(|row| row[2].clone());
    assert_eq!((fact("kind"), fact("primary key")), (Some(json!("table")), Some(json!("id"))));
    let (_, answer) = post(&format!("EXPLAIN {LOOK_UP}")).await;
    let text = answer.to_string();
    assert!(text.contains("table users: the latest row of each key"), "{text}");
    let (status, answer) = post("DROP TABLE users").await;
    assert_eq!(status, StatusCode::CONFLICT, "{answer}");
    assert!(
        answer["error"]["message"].as_str().is_some_and(|message| message.contains("stream \"named\"")),
        "{answer}"
    );
    let (status, answer) = post("DROP TABLE users CASCADE").await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let (_, answer) = post("SHOW TABLES").await;
    assert_eq!(answer["results"][0]["rows"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_has_rested_looks_up_the_table_as_it_stands_then() {
    let server = server().await;
    server.execute(&format!("CREATE STREAM named AS {LOOK_UP}")).await;
    publish(&server, "users", json!([{"id": 1, "name": "ann"}])).await;
    absorbed(&server, "look-up", 1).await;
    server.execute("PAUSE STREAM named").await;
    publish(&server, "users", json!([{"id": 1, "name": "anna"}])).await;
    // More than what the table's job keeps of its rows for those who are behind.
    for n in 0..18 {
        publish(&server, "users", json!([{"id": 3, "name": format!("cid {n}"), "pad": "x".repeat(1 << 20)}])).await;
    }
    absorbed(&server, "table", 20).await;
    server.execute("RESUME STREAM named").await;
    let mut client = Socket::hello(&server).await;
    client.subscribe(json!({"id": "1", "sql": "SELECT n, name FROM named"})).await;
    // What it held, and the two keys of the table as they stand.
    absorbed(&server, "look-up", 3).await;
    publish(&server, "events", json!([{"n": 1, "who": 1}, {"n": 2, "who": 3}])).await;
    assert_eq!(rows(&mut client).await, json!([[1, "anna"], [2, "cid 17"]]));
    let jobs = server.service.engine().jobs();
    assert!(jobs.iter().all(|job| job.counters.dropped == 0), "nothing is missing: {jobs:#?}");
}
