//! Live queries over plain HTTP, and the end of queries.

use futures::StreamExt;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client as Socket, PATIENCE, TestServer};

/// The lines of an answer as they come.
struct Lines {
    body: futures::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: String,
}

impl Lines {
    fn of(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        Self { body: response.bytes_stream().boxed(), buffer: String::new() }
    }

    /// The next line; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.find('\n') {
                let rest = self.buffer.split_off(end + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                return Some(line.trim_end().to_owned());
            }
            let bytes = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("something comes in time")?;
            self.buffer.push_str(std::str::from_utf8(&bytes.expect("a body")).expect("UTF-8"));
        }
    }

    /// The next server-sent event but progress: its kind, id and data.
    async fn event(&mut self) -> (String, Option<String>, Value) {
        let (mut kind, mut id) = (String::new(), None);
        loop {
            let line = self.next().await.expect("an event");
            if let Some(value) = line.strip_prefix("event: ") {
                kind = value.to_owned();
            } else if let Some(value) = line.strip_prefix("id: ") {
                id = Some(value.to_owned());
            } else if let Some(data) = line.strip_prefix("data: ")
                && kind != "progress"
            {
                return (kind, id, serde_json::from_str(data).expect("JSON"));
            }
        }
    }
}

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.execute("CREATE SOURCE events (n BIGINT) WITH (connector = 'http')").await;
    server
}

async fn publish(server: &TestServer, numbers: std::ops::Range<u64>) {
    let events: Vec<Value> = numbers.map(|n| json!({"n": n})).collect();
    server.service.publish("events", Value::from(events).to_string().into()).await.expect("is taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_sent_events_resume_where_they_were() {
    let server = server().await;
    let url = server.url("/api/v1/query?sql=SELECT%20n%20FROM%20events&from=earliest");
    let client = Client::new();
    let request = || client.get(&url).header("accept", "text/event-stream");
    let mut events = Lines::of(request().send().await.expect("an answer"));
    let (kind, _, subscribed) = events.event().await;
    assert_eq!((kind.as_str(), &subscribed["schema"][0]["name"]), ("subscribed", &json!("n")));
    publish(&server, 0..3).await;
    let (kind, id, rows) = events.event().await;
    assert_eq!((kind.as_str(), &rows["rows"]), ("rows", &json!([[0], [1], [2]])));
    drop(events);
    publish(&server, 3..5).await;
    let resumed = request().header("last-event-id", id.expect("rows have an id")).send().await;
    let mut events = Lines::of(resumed.expect("an answer"));
    assert_eq!(events.event().await.2["recovered"], true);
    assert_eq!(events.event().await.2["rows"], json!([[3], [4]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_of_json_end_at_the_limit() {
    let server = server().await;
    publish(&server, 0..10).await;
    let request = json!({"sql": "SELECT n FROM events WHERE n % 2 = 0", "from": "earliest", "limit": 3});
    let sent = Client::new().post(server.url("/api/v1/query")).json(&request).send().await.expect("an answer");
    let mut lines = Lines::of(sent);
    for n in [0, 2, 4] {
        assert_eq!(lines.next().await, Some(format!("{{\"n\":{n}}}")));
    }
    assert_eq!(lines.next().await, None);
    let wrong = Client::new().post(server.url("/api/v1/query")).json(&json!({"sql": "SELECT x FROM events"})).send();
    assert_eq!(wrong.await.expect("an answer").status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_is_killed_or_loses_its_stream_ends_with_an_error() {
    let server = server().await;
    let mut client = Socket::hello(&server).await;
    let first = client.subscribe(json!({"id": "1", "sql": "SELECT n FROM events"})).await;
    client.subscribe(json!({"id": "2", "stream": "events"})).await;
    let id = first["query"].as_str().expect("an id");
    let killed = Client::new().delete(server.url(&format!("/api/v1/queries/{id}"))).send().await;
    assert_eq!(killed.expect("an answer").status(), StatusCode::NO_CONTENT);
    let ended = client.message().await;
    assert_eq!((&ended["id"], &ended["code"], &ended["retryable"]), (&json!("1"), &json!("killed"), &json!(false)));
    let again = Client::new().delete(server.url("/api/v1/queries/none")).send().await;
    assert_eq!(again.expect("an answer").status(), StatusCode::NOT_FOUND);
    server.execute("DROP SOURCE events CASCADE").await;
    let ended = client.message().await;
    assert_eq!((&ended["id"], &ended["code"], &ended["retryable"]), (&json!("2"), &json!("dropped"), &json!(false)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_queries_on_many_sockets_share_their_frames() {
    let server = server().await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = Socket::hello(&server).await;
        client.subscribe(json!({"id": "1", "sql": "SELECT n FROM events"})).await;
        clients.push(client);
    }
    publish(&server, 0..100).await;
    let mut frames = std::collections::HashSet::new();
    for client in &mut clients {
        frames.insert(client.message().await.to_string());
    }
    assert_eq!(frames.len(), 1, "all have the same frame");
    let metrics = reqwest::get(server.url("/metrics")).await.expect("an answer").text().await.expect("text");
    assert!(metrics.contains("\nsquilla_sent_frames_total 8\n"), "{metrics}");
    assert!(metrics.contains("\nsquilla_encoded_frames_total 1\n"), "{metrics}");
}
