//! Time from outside: where queries start by their text, what DESCRIBE tells of it, and times that are inferred.

use serde_json::{Value, json};

use crate::client::{Client, TestServer};

/// A server whose source has had rows of a minute ago and of now.
async fn server() -> TestServer {
    let server = TestServer::start().await;
    server
        .execute("CREATE SOURCE bids (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'http')")
        .await;
    let now = now_ms();
    publish(&server, &[(1, now - 60_000), (2, now - 2_000), (3, now - 1_000)]).await;
    // Whoever reads from the start knows when the rows are there.
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "0", "sql": "SELECT n FROM bids", "from": "earliest"})).await;
    numbers(&mut client, 3).await;
    server
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is later");
    i64::try_from(since.as_millis()).expect("it is not that late")
}

async fn publish(server: &TestServer, bids: &[(i64, i64)]) {
    let events: Value = bids.iter().map(|(n, ts)| json!({"n": n, "ts": ts})).collect();
    server.service.publish("bids", events.to_string().into()).await.expect("is taken");
}

/// The first column of the next rows.
async fn numbers(client: &mut Client, count: usize) -> Vec<i64> {
    let mut found = Vec::new();
    while found.len() < count {
        let message = client.message().await;
        let rows = message["rows"].as_array().unwrap_or_else(|| panic!("rows were expected, not {message}"));
        found.extend(rows.iter().map(|row| row[0].as_i64().expect("a number")));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_gets_what_was_kept_since_then_and_what_comes() {
    let server = server().await;
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "1", "sql": "SELECT n FROM bids SINCE INTERVAL '30 seconds'"})).await;
    assert_eq!(numbers(&mut client, 2).await, [2, 3]);
    publish(&server, &[(4, now_ms())]).await;
    assert_eq!(numbers(&mut client, 1).await, [4]);
    let mut other = Client::hello(&server).await;
    other.subscribe(json!({"id": "1", "sql": "SELECT n FROM bids", "from": "-30s"})).await;
    assert_eq!(numbers(&mut other, 3).await, [2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_goes_before_what_the_text_says() {
    let server = server().await;
    let sql = "SELECT n FROM bids SINCE EARLIEST";
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "1", "sql": sql})).await;
    let rows = client.message().await;
    let position = rows["position"].clone();
    let told = rows["rows"].as_array().map_or(0, Vec::len);
    publish(&server, &[(4, now_ms())]).await;
    let mut again = Client::hello(&server).await;
    let subscribed = again.subscribe(json!({"id": "1", "sql": sql, "from": position})).await;
    assert_eq!(subscribed["recovered"], true);
    let expected: Vec<i64> = (1..=4).skip(told).collect();
    assert_eq!(numbers(&mut again, expected.len()).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_since_then_say_from_when_they_are_whole() {
    let server = server().await;
    let count = "count(*) AS n FROM bids";
    let asked = [
        (format!("SELECT {count} SINCE INTERVAL '30 seconds' GROUP BY tumble('10s')"), Value::Null),
        (format!("SELECT {count} GROUP BY tumble('10s')"), json!("-30s")),
    ];
    for (sql, from) in asked {
        let mut client = Client::hello(&server).await;
        let mut subscribe = json!({"id": "1", "sql": sql});
        if !from.is_null() {
            subscribe["from"] = from;
        }
        let subscribed = client.subscribe(subscribe).await;
        assert!(subscribed["complete_from"].is_string(), "{subscribed}");
        publish(&server, &[(9, now_ms() + 20_000)]).await;
        let counted = numbers(&mut client, 1).await;
        assert!((1..=2).contains(&counted[0]), "{counted:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_gets_what_was_kept_since_then() {
    let server = server().await;
    let request = json!({"sql": "SELECT n FROM bids SINCE INTERVAL '30' SECOND", "limit": 2});
    let answer =
        reqwest::Client::new().post(server.url("/api/v1/query")).json(&request).send().await.expect("an answer");
    let text = answer.text().await.expect("a body");
    let found: Vec<i64> =
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["n"].as_i64()).collect();
    assert_eq!(found, [2, 3], "{text}");
}

/// Name, value and note of the rows of a `DESCRIBE`.
async fn described(server: &TestServer, name: &str) -> Vec<[String; 3]> {
    let request = json!({"sql": format!("DESCRIBE {name}")});
    let sent = reqwest::Client::new().post(server.url("/api/v1/statements")).json(&request).send().await;
    let answer: Value = sent.expect("an answer").json().await.expect("JSON");
    let rows = answer["results"][0]["rows"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
    rows.iter().map(|row| [1, 2, 3].map(|at: usize| row[at].as_str().unwrap_or_default().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describe_tells_the_arrival_column_and_when_partitions_are_idle() {
    let server = TestServer::start().await;
    server.execute("CREATE SOURCE logs (line VARCHAR, proc AS PROCTIME()) WITH (connector = 'http')").await;
    let said = "CREATE SOURCE said (n BIGINT) WITH (connector = 'http', idle_timeout = '3s')";
    server.execute(said).await;
    let facts = described(&server, "logs").await;
    let row =
        |facts: &[[String; 3]], name: &str| facts.iter().filter(|row| row[0] == name).cloned().collect::<Vec<_>>();
    assert_eq!(row(&facts, "proc"), [["proc", "TIMESTAMP", "processing time"].map(str::to_owned)]);
    assert_eq!(row(&facts, "idle_timeout"), [["idle_timeout", "10s", ""].map(str::to_owned)]);
    let facts = described(&server, "said").await;
    assert_eq!(row(&facts, "idle_timeout"), [["idle_timeout", "3s", ""].map(str::to_owned)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn published_numbers_are_times_where_the_watermark_names_them() {
    let server = TestServer::start().await;
    let create = "CREATE SOURCE clicks (WATERMARK FOR sent AS sent - INTERVAL '1 second', proc AS PROCTIME()) \
                  WITH (connector = 'http', timestamp_unit = 's')";
    server.execute(create).await;
    let events = "{\"n\":1,\"sent\":1700000000}\n{\"n\":2,\"sent\":1700000000.123456789}\n";
    server.service.publish("clicks", events.into()).await.expect("is taken");
    let facts = described(&server, "clicks").await;
    let column = |name: &str| facts.iter().find(|row| row[0] == name).map(|row| (row[1].clone(), row[2].clone()));
    assert_eq!(column("sent"), Some(("TIMESTAMP".to_owned(), "event time".to_owned())));
    assert_eq!(column("proc"), Some(("TIMESTAMP".to_owned(), "processing time".to_owned())));
    let mut client = Client::hello(&server).await;
    let sql = "SELECT n, sent, proc > sent AS later FROM clicks";
    client.subscribe(json!({"id": "1", "sql": sql, "from": "earliest"})).await;
    let expected = json!([[1, "2023-11-14T22:13:20Z", true], [2, "2023-11-14T22:13:20.123456789Z", true]]);
    assert_eq!(client.message().await["rows"], expected);
}

/// The first column of all rows until a subscription completes.
async fn all(client: &mut Client) -> Vec<i64> {
    let mut found = Vec::new();
    loop {
        let message = client.message().await;
        if message["type"] == "complete" {
            assert_eq!(message["reason"], "ended");
            return found;
        }
        let rows = message["rows"].as_array().unwrap_or_else(|| panic!("rows were expected, not {message}"));
        found.extend(rows.iter().map(|row| row[0].as_i64().expect("a number")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_of_the_past_completes() {
    let server = server().await;
    let mut client = Client::hello(&server).await;
    let now = now_ms();
    let mut ask = async |sql: &str| {
        client.subscribe(json!({"id": "1", "sql": sql})).await;
        all(&mut client).await
    };
    assert_eq!(ask("SELECT n FROM bids SINCE EARLIEST UNTIL INTERVAL '30 seconds'").await, [1]);
    assert_eq!(ask("SELECT n FROM bids SINCE INTERVAL '30 seconds' UNTIL INTERVAL '500 milliseconds'").await, [2, 3]);
    assert_eq!(ask("SELECT n FROM bids SINCE EARLIEST UNTIL TIMESTAMP '2020-01-01T00:00:00Z'").await, [] as [i64; 0]);
    // One row comes behind others that say that no earlier ones are expected: it is late, and not among them.
    publish(&server, &[(7, now + 20_000), (8, now - 40_000), (9, now + 30_000)]).await;
    assert_eq!(ask("SELECT n FROM bids SINCE EARLIEST UNTIL INTERVAL '1 second'").await, [1, 2, 3]);
    assert_eq!(ask("SELECT n + 0 FROM bids SINCE EARLIEST UNTIL INTERVAL '1 second' WHERE n > 1").await, [2, 3]);
    // Windows that end by then; the open one is not told.
    let counts = "SELECT count(*) FROM bids SINCE EARLIEST UNTIL INTERVAL '1 second' GROUP BY tumble('1 day')";
    assert_eq!(ask(counts).await.len(), 0);
    let counts = "SELECT count(*) FROM bids SINCE EARLIEST UNTIL INTERVAL '30 seconds' GROUP BY tumble('1s')";
    assert_eq!(ask(counts).await, [1]);
    // What is to come ends when it has come.
    client.subscribe(json!({"id": "1", "sql": "SELECT n FROM bids SINCE LATEST UNTIL TIMESTAMP '2100-01-01'"})).await;
    // 2100-01-01 is 4,102,444,800 seconds after 1970. What is far ahead of its arrival moves no watermark.
    publish(&server, &[(10, now + 40_000), (11, 4_102_444_800_000)]).await;
    assert_eq!(numbers(&mut client, 1).await, [10]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_speed_needs_a_start_and_a_sense() {
    let server = server().await;
    let mut client = Client::hello(&server).await;
    for (wrong, help) in [
        (json!({"id": "1", "sql": "SELECT n FROM bids", "speed": 2}), "SINCE"),
        (json!({"id": "1", "sql": "SELECT n FROM bids", "from": "earliest", "speed": 0}), "ten times as fast"),
    ] {
        let mut subscribe = wrong.clone();
        subscribe["type"] = "subscribe".into();
        client.send(&subscribe).await;
        let message = client.message().await;
        assert_eq!((&message["type"], &message["code"]), (&json!("error"), &json!("malformed")), "{wrong}");
        assert!(message["help"].as_str().is_some_and(|told| told.contains(help)), "{message}");
    }
    client.subscribe(json!({"id": "1", "sql": "SELECT n FROM bids", "from": "earliest", "speed": 1000})).await;
    let query = server.service.engine().queries().pop().expect("it runs").id;
    let refused = server.service.pause_query(&query).expect_err("a replay is not paused");
    assert!(format!("{refused:?}").contains("Replay"), "{refused:?}");
    assert_eq!(numbers(&mut client, 3).await, [1, 2, 3]);
}
