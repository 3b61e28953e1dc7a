//! Queries that want so many rows, over each protocol.

use std::time::Duration;

use reqwest::Response;
use serde_json::{Value, json};
use squilla_engine::EngineConfig;
use squilla_gateway::ServeConfig;

use crate::client::{Client, PATIENCE, TestServer, engine_config};

/// A server whose source holds the numbers up to `rows`, given to it at once.
async fn server(rows: i64) -> TestServer {
    // What lingers for a minute is what a reader may come back for.
    let hour = Duration::from_secs(3600);
    let engine = EngineConfig { linger_disconnected: hour, linger_unsubscribed: Duration::ZERO, ..engine_config() };
    let server = TestServer::with(engine, Vec::new(), ServeConfig::default()).await;
    server
        .execute("CREATE SOURCE bids (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'http')")
        .await;
    publish(&server, 1..=rows).await;
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "0", "sql": "SELECT n FROM bids", "from": "earliest"})).await;
    let (mut told, mut seen) = (client.message().await, 0);
    loop {
        seen += told["rows"].as_array().map_or(0, Vec::len);
        if seen == rows as usize {
            return server;
        }
        told = client.message().await;
    }
}

async fn publish(server: &TestServer, numbers: std::ops::RangeInclusive<i64>) {
    let events: Value = numbers.map(|n| json!({"n": n, "ts": 1_767_225_600_000_i64 + n})).collect();
    server.service.publish("bids", events.to_string().into()).await.expect("is taken");
}

/// The numbers until a subscription is complete, why it is, and the position behind the last of them.
async fn to_end(client: &mut Client) -> (Vec<i64>, String, Value) {
    let (mut found, mut position) = (Vec::new(), Value::Null);
    loop {
        let message = client.message().await;
        if message["type"] == "complete" {
            return (found, message["reason"].as_str().expect("a reason").to_owned(), position);
        }
        let rows = message["rows"].as_array().unwrap_or_else(|| panic!("rows were expected, not {message}"));
        found.extend(rows.iter().map(|row| row[0].as_i64().expect("a number")));
        position = message["position"].clone();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_gets_so_many_rows_and_the_end() {
    let server = server(10).await;
    let mut client = Client::hello(&server).await;
    for (sql, rows) in [
        ("SELECT n FROM bids LIMIT 3", vec![1, 2, 3]),
        ("SELECT n FROM bids WHERE n % 2 = 0 EMIT CHANGES LIMIT 3", vec![2, 4, 6]),
        ("SELECT n + 0 FROM bids FETCH FIRST ROW ONLY", vec![1]),
        ("SELECT n FROM bids WHERE n > 8 LIMIT 0", vec![]),
    ] {
        let subscribed = client.subscribe(json!({"id": "1", "sql": sql, "from": "earliest"})).await;
        assert!(subscribed["limit"].as_u64() == Some(rows.len() as u64), "{subscribed}");
        let (found, reason, _) = to_end(&mut client).await;
        assert_eq!((found, reason.as_str()), (rows, "limit"), "{sql}");
    }
    // Live rows as well; what is behind the last one is nobody's.
    client.subscribe(json!({"id": "1", "sql": "SELECT n * 7 AS n FROM bids LIMIT 2"})).await;
    publish(&server, 11..=15).await;
    assert_eq!(to_end(&mut client).await.0, [77, 84]);
    // Nobody comes back for what follows: its jobs end at once.
    let ended = async {
        while server.service.engine().jobs().iter().any(|job| job.description.contains("* 7")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the job is released");
    assert!(server.service.engine().losses().is_empty(), "rows behind the limit are no losses");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_says_how_many_rows_are_left() {
    let server = server(10).await;
    let sql = "SELECT n FROM bids WHERE n <> 4 LIMIT 6";
    let mut client = Client::hello(&server).await;
    let asked = json!({"id": "1", "sql": sql, "from": "earliest", "limit": 4});
    assert_eq!(client.subscribe(asked).await["limit"], 4, "the less of both");
    let (found, reason, position) = to_end(&mut client).await;
    assert_eq!((found, reason.as_str()), (vec![1, 2, 3, 5], "limit"));
    client.subscribe(json!({"id": "1", "sql": sql, "from": position, "limit": 2})).await;
    assert_eq!(to_end(&mut client).await.0, [6, 7]);
    client.subscribe(json!({"id": "1", "sql": sql, "from": position})).await;
    publish(&server, 11..=12).await;
    assert_eq!(to_end(&mut client).await.0, [6, 7, 8, 9, 10, 11], "without it the query's number is counted anew");
    let changing = json!({"type": "subscribe", "id": "1", "sql": "SELECT count(*) AS n FROM bids", "limit": 2});
    client.send(&changing).await;
    let refused = client.message().await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("unsupported")), "{refused}");
    assert!(refused["help"].is_string() && refused["span"].is_object(), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_counted_on_when_parameters_change() {
    let server = server(1).await;
    let mut client = Client::hello(&server).await;
    let sql = "SELECT n FROM bids WHERE n >= $least LIMIT $most";
    client.subscribe(json!({"id": "1", "sql": sql, "params": {"least": 1, "most": 5}})).await;
    publish(&server, 2..=3).await;
    assert_eq!(client.message().await["rows"], json!([[2], [3]]));
    client.send(&json!({"type": "set_params", "id": "1", "params": {"least": 6}})).await;
    assert_eq!(client.message().await["params"], json!({"least": 6, "most": 5}));
    client.send(&json!({"type": "set_params", "id": "1", "params": {"most": 50}})).await;
    let refused = client.message().await;
    assert_eq!(refused["error"]["code"], "parameter", "{refused}");
    publish(&server, 4..=10).await;
    let (found, reason, _) = to_end(&mut client).await;
    assert_eq!((found, reason.as_str()), (vec![6, 7, 8], "limit"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_stepped_to_the_last_row_that_is_wanted() {
    let server = server(10).await;
    let mut client = Client::hello(&server).await;
    let sql = "SELECT n FROM bids LIMIT 5";
    client.subscribe(json!({"id": "1", "sql": sql, "from": "earliest", "paused": true})).await;
    assert_eq!(client.message().await["type"], "pace");
    client.send(&json!({"type": "step", "id": "1", "rows": 3})).await;
    assert_eq!(client.message().await["rows"], json!([[1], [2], [3]]));
    assert_eq!(client.message().await["type"], "pace");
    client.send(&json!({"type": "step", "id": "1", "rows": 9})).await;
    let (found, reason, _) = to_end(&mut client).await;
    assert_eq!((found, reason.as_str()), (vec![4, 5], "limit"));
}

async fn get(server: &TestServer, sql: &str, last_event_id: Option<&str>) -> String {
    let path = format!("/api/v1/query?from=earliest&sql={}", sql.replace(' ', "%20").replace("<>", "!%3D"));
    let mut request = reqwest::Client::new().get(server.url(&path));
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", id);
    }
    text(request.send().await.expect("an answer")).await
}

/// The whole body, which ends by itself.
async fn text(answer: Response) -> String {
    tokio::time::timeout(PATIENCE, answer.text()).await.expect("it ends").expect("a body")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_end_behind_the_last_row() {
    let server = server(10).await;
    let sql = "SELECT n FROM bids WHERE n <> 2 LIMIT 3";
    let request = json!({"sql": sql, "from": "earliest", "meta": true});
    let sent = reqwest::Client::new().post(server.url("/api/v1/query")).json(&request).send().await;
    let lines = text(sent.expect("an answer")).await;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let rows: Vec<i64> = lines.iter().filter_map(|line| line["n"].as_i64()).collect();
    assert_eq!(rows, [1, 3, 4]);
    assert_eq!(lines.last().expect("lines")["_squilla"]["reason"], "limit");

    let events = get(&server, sql, None).await;
    assert!(events.contains("[[1],[3],[4]]"), "{events}");
    assert!(events.trim_end().ends_with("\"reason\":\"limit\"}"), "{events}");
    let ids: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    let (position, left) = ids.last().expect("rows have ids").split_once('/').expect("what is left is told");
    assert_eq!(left, "0");
    // A browser that lost its connection before the end sends the id of the last event that it had.
    let events = get(&server, sql, Some(&format!("{position}/2"))).await;
    assert!(events.contains("[[5],[6]]") && events.contains("\"reason\":\"limit\""), "{events}");
    let fewer = get(&server, &format!("{sql}&limit=2"), None).await;
    assert!(fewer.contains("[[1],[3]]") && fewer.contains("\"reason\":\"limit\""), "{fewer}");
    let events = get(&server, sql, Some(ids[ids.len() - 1])).await;
    assert!(!events.contains("event: rows") && events.contains("\"reason\":\"limit\""), "{events}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_made_of_it_goes_on() {
    let server = server(4).await;
    let mut client = Client::hello(&server).await;
    let sql = "SELECT n FROM bids WHERE n > 2 LIMIT 9";
    let query = client.subscribe(json!({"id": "1", "sql": sql})).await["query"].as_str().expect("an id").to_owned();
    server.execute(&format!("CREATE STREAM some FROM QUERY '{query}'")).await;
    let mut reader = Client::hello(&server).await;
    reader.subscribe(json!({"id": "1", "stream": "some"})).await;
    publish(&server, 5..=20).await;
    assert_eq!(to_end(&mut client).await.0, [5, 6, 7, 8, 9, 10, 11, 12, 13]);
    let all = reader.message().await;
    assert_eq!(all["rows"].as_array().map(Vec::len), Some(16), "{all}");
}
