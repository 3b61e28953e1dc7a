//! REST, as clients see it.

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::client::TestServer;

async fn post(server: &TestServer, path: &str, body: Value) -> (StatusCode, Value) {
    let sent = Client::new().post(server.url(path)).json(&body).send().await.expect("an answer");
    answer(sent).await
}

async fn get(server: &TestServer, path: &str) -> (StatusCode, Value) {
    answer(reqwest::get(server.url(path)).await.expect("an answer")).await
}

async fn answer(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_carried_out_in_order_until_one_is_refused() {
    let server = TestServer::start().await;
    let script = "CREATE SOURCE events (n BIGINT, who VARCHAR) WITH (connector = 'http');\n\
                  CREATE STREAM big AS SELECT n, who FROM events WHERE n > 10;\n\
                  CREATE VIEW names AS SELECT who FROM big;\n\
                  SHOW STREAMS; DESCRIBE events; SELECT who FROM names";
    let (status, answer) = post(&server, "/api/v1/statements", json!({"sql": script})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let kinds: Vec<&str> =
        answer["results"].as_array().expect("results").iter().filter_map(|it| it["kind"].as_str()).collect();
    assert_eq!(kinds, ["done", "done", "done", "table", "table", "live"]);
    let streams = &answer["results"][3];
    assert_eq!(streams["columns"][0], json!({"name": "name", "type": "Utf8", "nullable": false}));
    let names: Vec<&Value> = streams["rows"].as_array().expect("rows").iter().map(|row| &row[0]).collect();
    assert_eq!(names, [&json!("big"), &json!("events")]);
    assert_eq!(answer["results"][5]["columns"][0]["name"], "who");

    let wrong = "SHOW VIEWS;\nSELECT whom FROM names; SHOW JOBS";
    let (status, answer) = post(&server, "/api/v1/statements", json!({"sql": wrong})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(answer["results"].as_array().map(Vec::len), Some(1), "{answer}");
    let span = &answer["error"]["span"];
    assert_eq!(
        &wrong[span["start"].as_u64().expect("a span") as usize..span["end"].as_u64().expect("a span") as usize],
        "whom"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_used_is_dropped_only_with_its_users() {
    let server = TestServer::start().await;
    for statement in [
        "CREATE SOURCE events (n BIGINT) WITH (connector = 'http')",
        "CREATE VIEW v AS SELECT n FROM events",
        "CREATE STREAM s AS SELECT n FROM v",
    ] {
        server.execute(statement).await;
    }
    let (status, answer) = post(&server, "/api/v1/statements", json!({"sql": "DROP VIEW v"})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let message = answer["error"]["message"].as_str().expect("a message");
    assert!(message.contains("stream \"s\""), "{message}");
    let (_, answer) = post(&server, "/api/v1/statements", json!({"sql": "DROP STREAM v"})).await;
    assert_eq!(answer["error"]["help"], "DROP VIEW v");
    let (_, answer) =
        post(&server, "/api/v1/statements", json!({"sql": "CREATE VIEW events AS SELECT n FROM s"})).await;
    assert_eq!(answer["error"]["code"], "exists", "{answer}");
    let (status, answer) = post(&server, "/api/v1/statements", json!({"sql": "DROP SOURCE events CASCADE"})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(get(&server, "/api/v1/streams").await.1, json!({"streams": []}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_define_a_source_without_columns() {
    let server = TestServer::start().await;
    server.execute("CREATE SOURCE clicks WITH (connector = 'http')").await;
    let (_, answer) = post(&server, "/api/v1/check", json!({"sql": "SELECT who FROM clicks"})).await;
    assert_eq!(answer["diagnostics"][0]["code"], "needs_events", "{answer}");
    assert_eq!(answer["diagnostics"][0]["span"], json!({"start": 16, "end": 22}));
    let (status, waiting) = get(&server, "/api/v1/streams/clicks").await;
    assert_eq!((status, &waiting["columns"]), (StatusCode::OK, &json!([])));

    let events = "{\"who\":\"ann\",\"n\":1}\n{\"who\":\"bob\",\"n\":2}\nnonsense\n";
    let sent = Client::new().post(server.url("/api/v1/streams/clicks/events")).body(events).send().await;
    let (status, report) = answer_of(sent).await;
    assert_eq!(status, StatusCode::OK, "{report}");
    assert_eq!((&report["accepted"], &report["rejected"]), (&json!(2), &json!(1)));
    assert_eq!(report["errors"][0]["line"], 3);
    assert_eq!(get(&server, "/api/v1/streams/clicks").await.1["columns"].as_array().map(Vec::len), Some(2));
    let (_, answer) = post(&server, "/api/v1/check", json!({"sql": "SELECT who FROM clicks"})).await;
    assert_eq!(answer["diagnostics"], json!([]));
    let with_value = "SELECT whom FROM clicks WHERE n + $more = 1 AND who LIKE $like";
    let (_, answer) = post(&server, "/api/v1/check", json!({"sql": with_value})).await;
    let codes = answer["diagnostics"].as_array().expect("a list").iter().map(|found| found["code"].clone());
    assert_eq!(codes.collect::<Vec<_>>(), ["unknown_column"], "{answer}");
}

async fn answer_of(sent: reqwest::Result<Response>) -> (StatusCode, Value) {
    answer(sent.expect("an answer")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_is_refused_with_the_right_status() {
    use std::io::Write;
    let server = TestServer::start().await;
    server.execute("CREATE SOURCE events (n BIGINT) WITH (connector = 'http')").await;
    let url = server.url("/api/v1/streams/events/events");
    let client = Client::new();
    let (status, answer) =
        answer_of(client.post(server.url("/api/v1/streams/none/events")).body("{}").send().await).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    server.execute("CREATE STREAM made AS SELECT n FROM events").await;
    let (status, answer) =
        answer_of(client.post(server.url("/api/v1/streams/made/events")).body("{}").send().await).await;
    let told = "\"made\" is a stream: no events are published to it";
    assert_eq!((status, &answer["error"]["message"]), (StatusCode::NOT_FOUND, &json!(told)));
    let large = "x".repeat((16 << 20) + 1);
    let (status, _) = answer_of(client.post(&url).body(large.clone()).send().await).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = answer_of(client.post(&url).header("content-encoding", "br").body("{}").send().await).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).expect("written");
        encoder.finish().expect("finished")
    };
    let packed = client.post(&url).header("content-encoding", "gzip");
    let (status, _) = answer_of(packed.try_clone().expect("a request").body(gzip(&large)).send().await).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "a small body that unpacks to a large one");
    let (status, _) = answer_of(packed.try_clone().expect("a request").body("not gzip").send().await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, report) = answer_of(packed.body(gzip("[{\"n\":1},{\"n\":2}]")).send().await).await;
    assert_eq!((status, &report["accepted"]), (StatusCode::OK, &json!(2)), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_a_sequence_is_taken_once() {
    let server = TestServer::start().await;
    server.execute("CREATE SOURCE events (n BIGINT) WITH (connector = 'http')").await;
    let url = server.url("/api/v1/streams/events/events");
    let client = Client::new();
    let send = |query: &str| client.post(format!("{url}{query}")).body("{\"n\":1}\n{\"n\":\"x\"}").send();
    let (status, report) = answer_of(send("?producer_id=a&sequence=0").await).await;
    assert_eq!((status, &report["duplicate"], &report["accepted"]), (StatusCode::OK, &json!(false), &json!(1)));
    let (status, report) = answer_of(send("?producer_id=a&sequence=0").await).await;
    let counts = json!({"accepted": 1, "rejected": 1, "errors": [], "duplicate": true});
    assert_eq!((status, report), (StatusCode::OK, counts));
    let (status, answer) = answer_of(send("?producer_id=a&sequence=2").await).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::CONFLICT, &json!("sequence_gap")), "{answer}");
    assert!(answer["error"]["help"].as_str().is_some_and(|help| help.starts_with("send 1 first")), "{answer}");
    for sequence in 1..8 {
        let (status, _) = answer_of(send(&format!("?producer_id=a&sequence={sequence}")).await).await;
        assert_eq!(status, StatusCode::OK);
    }
    // Who counts anew is not told that its rows are there.
    let (status, answer) = answer_of(send("?producer_id=a&sequence=0").await).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::CONFLICT, &json!("sequence_forgotten")), "{answer}");
    assert!(answer["error"]["help"].as_str().is_some_and(|help| help.starts_with("go on with 8")), "{answer}");
    let by_header = |sequence: &'static str| {
        let request = client.post(&url).header("producer-id", "b").header("producer-seq", sequence);
        request.body("{\"n\":2}").send()
    };
    assert_eq!(answer_of(by_header("7").await).await.1["duplicate"], false);
    assert_eq!(answer_of(by_header("7").await).await.1["duplicate"], true);
    assert_eq!(answer_of(by_header("7").await).await.1["accepted"], 1);
    assert_eq!(answer_of(send("").await).await.1.get("duplicate"), None);
    for wrong in
        ["?producer_id=a", "?sequence=1", "?producer_id=&sequence=1", "?producer_id=a&sequence=x", "?producer=a"]
    {
        let (status, answer) = answer_of(send(wrong).await).await;
        assert_eq!((status, &answer["error"]["code"]), (StatusCode::BAD_REQUEST, &json!("malformed")), "{wrong}");
        assert!(answer["error"]["help"].is_string(), "{wrong}: {answer}");
    }
    assert_eq!(answer_of(by_header("many").await).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn foreign_hosts_and_pages_are_refused() {
    let server = TestServer::start().await;
    let client = Client::new();
    let status = |sent: reqwest::Result<Response>| sent.expect("an answer").status();
    let url = server.url("/api/v1/streams");
    assert_eq!(status(client.get(&url).header("host", "evil.example").send().await), StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(status(client.get(&url).header("host", "localhost:1").send().await), StatusCode::OK);
    assert_eq!(status(client.get(&url).header("sec-fetch-site", "cross-site").send().await), StatusCode::FORBIDDEN);
    let statements = server.url("/api/v1/statements");
    let send =
        |origin: &str| client.post(&statements).header("origin", origin).json(&json!({"sql": "SHOW JOBS"})).send();
    assert_eq!(status(send("http://evil.example").await), StatusCode::FORBIDDEN);
    assert_eq!(status(send("null").await), StatusCode::FORBIDDEN);
    assert_eq!(status(send(&format!("http://{}", server.address)).await), StatusCode::OK);
    let answer = client.get(&url).send().await.expect("an answer");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers()["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_look_at() {
    let server = TestServer::start().await;
    server.execute("CREATE SOURCE events (n BIGINT) WITH (connector = 'http')").await;
    assert_eq!(get(&server, "/healthz").await, (StatusCode::OK, json!("ok\n")));
    assert_eq!(get(&server, "/readyz").await.0, StatusCode::OK);
    let (_, metrics) = get(&server, "/metrics").await;
    let metrics = metrics.as_str().expect("text");
    assert!(metrics.contains("squilla_stream_rows_total{stream=\"events\"} 0"), "{metrics}");
    assert!(metrics.contains("process_resident_memory_bytes "), "{metrics}");
    let (_, openapi) = get(&server, "/api/v1/openapi.json").await;
    assert!(openapi["paths"]["/api/v1/streams/{name}/events"]["post"].is_object());
    assert!(openapi["paths"]["/api/v1/query"]["get"].is_object());
    assert_eq!(get(&server, "/api/v1/jobs").await.1["jobs"][0]["kind"], "source");
    assert_eq!(get(&server, "/api/v1/nothing").await.1["error"]["code"], "not_found");
    let (status, _) = post(&server, "/api/v1/jobs", json!({})).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    let (_, completion) = get(&server, "/api/v1/completion").await;
    assert!(completion["functions"].as_array().is_some_and(|functions| functions.len() > 100));
    assert!(completion["connectors"].as_array().is_some_and(|connectors| connectors.len() >= 4));
}
