//! Parameters over HTTP: what they take, and other values for queries that run.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, TestServer};

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server
        .execute("CREATE SOURCE events (n BIGINT, who VARCHAR, at TIMESTAMP, WATERMARK FOR at AS at) WITH (connector = 'http')")
        .await;
    server
}

async fn call(server: &TestServer, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let request = reqwest::Client::new().request(method, server.url(path)).json(&body);
    let answer = request.send().await.expect("an answer");
    (answer.status(), answer.json().await.expect("JSON"))
}

async fn publish(server: &TestServer, numbers: &[i64]) {
    let events: Value = numbers.iter().map(|n| json!({"n": n, "at": "2026-01-01T00:00:00Z"})).collect();
    server.service.publish("events", events.to_string().into()).await.expect("is taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_tells_what_parameters_take_and_a_statement_how_to_change_them() {
    let server = server().await;
    let sql = "CREATE STREAM s AS SELECT n, who, at FROM events; \
               SELECT count(*) AS c FROM s WHERE who = $who GROUP BY tumble($size) HAVING count(*) > $least";
    let (status, answer) = call(&server, Method::POST, "/api/v1/check", json!({"sql": sql})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let expected = json!({"diagnostics": [], "parameters": [
        {"name": "least", "kind": "number", "changeable": true},
        {"name": "size", "kind": "interval", "changeable": false},
        {"name": "who", "kind": "text", "changeable": false},
    ]});
    assert_eq!(answer, expected);

    let sql = "SELECT n FROM events WHERE n > $least AND who = $who";
    let asked = json!({"sql": sql, "params": {"least": 2, "who": "o'neil"}});
    let (_, answer) = call(&server, Method::POST, "/api/v1/statements", asked.clone()).await;
    let live = &answer["results"][0];
    assert_eq!(live["sql"], "SELECT n FROM events WHERE n > 2 AND who = 'o''neil'");
    assert_eq!(live["written"], asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_runs_gets_other_values() {
    let server = server().await;
    let wanted = json!({"id": "1", "sql": "SELECT n FROM events WHERE n > $least", "params": {"least": 2}});
    let (mut client, mut other) = (Client::hello(&server).await, Client::hello(&server).await);
    let first = client.subscribe(wanted.clone()).await["query"].as_str().expect("an id").to_owned();
    other.subscribe(wanted).await;
    publish(&server, &[1, 3]).await;
    assert_eq!(client.message().await["rows"], json!([[3]]));
    assert_eq!(other.message().await["rows"], json!([[3]]));

    let path = format!("/api/v1/queries/{first}");
    let (status, answer) = call(&server, Method::PATCH, &path, json!({"params": {"least": 0}})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let told = client.message().await;
    assert_eq!((&told["type"], &told["params"]), (&json!("params"), &json!({"least": 0})));
    for name in ["query", "position", "params"] {
        assert_eq!(answer[name], told[name]);
    }
    publish(&server, &[1, 4]).await;
    assert_eq!(client.message().await["rows"], json!([[1], [4]]));
    assert_eq!(other.message().await["rows"], json!([[4]]), "another's values stay");

    // It is found by its first id and by the one that it has now.
    let now = format!("/api/v1/queries/{}", answer["query"].as_str().expect("an id"));
    assert_ne!(now, path);
    for (path, least) in [(&now, 5), (&path, 6)] {
        let (status, answer) = call(&server, Method::PATCH, path, json!({"params": {"least": least}})).await;
        assert_eq!((status, &answer["params"]), (StatusCode::OK, &json!({"least": least})), "{answer}");
        assert_eq!(client.message().await["params"], json!({"least": least}));
    }
    client.send(&json!({"type": "unsubscribe", "id": "1"})).await;
    assert_eq!(client.message().await["type"], "complete");
    let (status, answer) = call(&server, Method::PATCH, &path, json!({"params": {"least": 5}})).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_change_is_refused_with_the_reason() {
    let server = server().await;
    let mut client = Client::hello(&server).await;
    let sql = "SELECT n, $label AS label FROM events WHERE n > $least";
    let wanted = json!({"id": "1", "sql": sql, "params": {"least": 2, "label": "x"}});
    let id = client.subscribe(wanted).await["query"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/queries/{id}");
    for (params, status, says) in [
        (json!({"label": "y"}), StatusCode::CONFLICT, "parameter $label cannot change while the query runs"),
        (json!({"most": 1}), StatusCode::CONFLICT, "a value is given for $most"),
        (json!({"least": [1]}), StatusCode::BAD_REQUEST, "is not a single one"),
        (json!({}), StatusCode::BAD_REQUEST, "no values are given"),
        (json!(5), StatusCode::BAD_REQUEST, "params is not an object"),
    ] {
        let (found, answer) = call(&server, Method::PATCH, &path, json!({"params": params})).await;
        assert_eq!(found, status, "{answer}");
        let error = &answer["error"];
        assert!(error["message"].as_str().is_some_and(|message| message.contains(says)), "{answer}");
        assert!(error["help"].is_string(), "{answer}");
    }
    let nobody = call(&server, Method::PATCH, "/api/v1/queries/q999", json!({"params": {"least": 1}})).await;
    assert_eq!(nobody.0, StatusCode::NOT_FOUND, "{}", nobody.1);
    assert!(nobody.1["error"]["help"].is_string());
}
