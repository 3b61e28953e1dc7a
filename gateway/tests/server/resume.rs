//! Clients that come back with their position after the server was stopped and started again.

use serde_json::{Value, json};
use squilla_engine::EngineConfig;
use squilla_gateway::ServeConfig;

use crate::alter::info;
use crate::client::{Client, TestServer, engine_config, open};

/// A server whose streams last in a folder.
pub(crate) async fn server(folder: &tempfile::TempDir) -> TestServer {
    let service = open(Some(folder.path().join("data")), engine_config(), Vec::new()).await;
    TestServer::of(service, ServeConfig::default()).await
}

/// Ends a server and what it runs, so that its folder can be opened again.
pub(crate) async fn stopped(mut server: TestServer) {
    server.stop();
    let service = server.service.clone();
    server.ended().await;
    service.engine().shutdown().await;
}

pub(crate) async fn publish(server: &TestServer, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let row = json!([{"ts": format!("2026-01-01T00:{:02}:{:02}Z", number / 60, number % 60), "n": number}]);
        server.service.publish("clicks", row.to_string().into()).await.expect("is taken");
    }
}

/// Reads rows until there are so many; their numbers, and the position behind them.
pub(crate) async fn read(client: &mut Client, rows: usize) -> (Vec<u64>, Value) {
    let mut numbers = Vec::new();
    loop {
        let message = client.message().await;
        match message["type"].as_str() {
            Some("rows") => {
                let these = message["rows"].as_array().expect("rows");
                numbers.extend(these.iter().map(|row| row[0].as_u64().expect("a number")));
                if numbers.len() >= rows {
                    return (numbers, message["position"].clone());
                }
            }
            Some("progress") => {}
            _ => panic!("{message}"),
        }
    }
}

/// Subscribes from a place; what the server says of it.
pub(crate) async fn subscribe(client: &mut Client, sql: &str, from: &Value) -> Value {
    client.send(&json!({"type": "subscribe", "id": "1", "sql": sql, "from": from, "policy": "block"})).await;
    let message = client.message().await;
    assert_eq!(message["type"], "subscribed", "{message}");
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_on_at_the_next_row_after_a_restart() {
    for durability in ["buffered", "durable"] {
        for sql in ["SELECT n FROM clicks", "SELECT n + 0 AS n FROM clicks WHERE n >= 0", "SELECT n FROM named"] {
            let folder = tempfile::tempdir().expect("a folder");
            let first = server(&folder).await;
            let options = format!("durability = '{durability}', idle_timeout = '1h'");
            let create = format!(
                "CREATE SOURCE clicks (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts) WITH (connector = 'http', {options})"
            );
            first.execute(&create).await;
            let named = format!("CREATE STREAM named WITH (durability = '{durability}') AS SELECT n FROM clicks");
            first.execute(&named).await;
            publish(&first, 0..7).await;
            let mut client = Client::hello(&first).await;
            subscribe(&mut client, sql, &json!("earliest")).await;
            let (numbers, position) = read(&mut client, 7).await;
            assert_eq!(numbers, (0..7).collect::<Vec<_>>(), "{durability}: {sql}");
            // These come after what the client has seen.
            publish(&first, 7..9).await;
            read(&mut client, 2).await;
            drop(client);
            stopped(first).await;

            let second = server(&folder).await;
            publish(&second, 9..12).await;
            let mut client = Client::hello(&second).await;
            let subscribed = subscribe(&mut client, sql, &position).await;
            assert_eq!(subscribed["recovered"], true, "{durability}: {sql}: {subscribed}");
            let (numbers, _) = read(&mut client, 5).await;
            assert_eq!(numbers, (7..12).collect::<Vec<_>>(), "{durability}: {sql}");
            drop(client);
            stopped(second).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_of_a_stream_in_memory_is_unknown_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = server(&folder).await;
    first.execute("CREATE SOURCE clicks (ts TIMESTAMP, n BIGINT) WITH (connector = 'http')").await;
    publish(&first, 0..3).await;
    let mut client = Client::hello(&first).await;
    subscribe(&mut client, "SELECT n FROM clicks", &json!("earliest")).await;
    let (_, position) = read(&mut client, 3).await;
    drop(client);
    stopped(first).await;
    let second = server(&folder).await;
    let mut client = Client::hello(&second).await;
    let subscribed = subscribe(&mut client, "SELECT n FROM clicks", &position).await;
    assert_eq!(subscribed["recovered"], false, "{subscribed}");
    let gap = client.message().await;
    assert_eq!((&gap["type"], &gap["reason"], &gap["rows"]), (&json!("gap"), &json!("epoch"), &Value::Null), "{gap}");
    drop(client);
    stopped(second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_a_full_disk_refused_are_not_late_when_they_come_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = EngineConfig { log_disk_bytes: 256 << 10, ..engine_config() };
    let service = open(Some(folder.path().join("data")), engine, Vec::new()).await;
    let server = TestServer::of(service, ServeConfig::default()).await;
    for name in ["clicks", "others"] {
        let columns = "(ts TIMESTAMP, n BIGINT, text VARCHAR, WATERMARK FOR ts AS ts)";
        let options = "(connector = 'http', durability = 'durable')";
        server.execute(&format!("CREATE SOURCE {name} {columns} WITH {options}")).await;
    }
    server.execute("CREATE STREAM minutes AS SELECT max(n) AS n FROM clicks GROUP BY tumble('1m')").await;
    for bytes in [64 << 10, 1 << 10, 0] {
        let row = json!([{"ts": "2026-01-01T00:00:00Z", "text": "x".repeat(bytes)}]).to_string();
        while server.service.publish("others", row.clone().into()).await.is_ok() {}
    }
    let first = json!([{"ts": "2026-01-01T00:00:00Z", "n": 1}, {"ts": "2026-01-01T00:09:00Z", "n": 2}]).to_string();
    assert!(server.service.publish("clicks", first.clone().into()).await.is_err(), "the disk is full");
    server.execute("DROP SOURCE others").await;
    let last = json!([{"ts": "2026-01-01T01:00:00Z", "n": 3}]).to_string();
    for rows in [first, last] {
        server.service.publish("clicks", rows.into()).await.expect("there is room");
    }
    let mut client = Client::hello(&server).await;
    subscribe(&mut client, "SELECT n FROM minutes", &json!("earliest")).await;
    assert_eq!(read(&mut client, 2).await.0, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_another_incarnation_are_told_whatever_the_position_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = server(&folder).await;
    first.execute("CREATE SOURCE clicks (ts TIMESTAMP, n BIGINT) WITH (connector = 'http')").await;
    first.execute("CREATE STREAM named AS SELECT n FROM clicks").await;
    publish(&first, 0..7).await;
    let mut client = Client::hello(&first).await;
    subscribe(&mut client, "SELECT n FROM named", &json!("earliest")).await;
    let (_, position) = read(&mut client, 7).await;
    drop(client);
    stopped(first).await;
    let second = server(&folder).await;
    // Fewer rows than the position counts: none of them is one that the client has.
    publish(&second, 20..23).await;
    let mut client = Client::hello(&second).await;
    let subscribed = subscribe(&mut client, "SELECT n FROM named", &position).await;
    assert_eq!(subscribed["recovered"], false, "{subscribed}");
    let gap = client.message().await;
    assert_eq!((&gap["type"], &gap["reason"]), (&json!("gap"), &json!("epoch")), "{gap}");
    let (mut numbers, _) = read(&mut client, 3).await;
    assert_eq!(numbers, [20, 21, 22]);
    publish(&second, 23..30).await;
    (numbers, _) = read(&mut client, 7).await;
    assert_eq!(numbers, (23..30).collect::<Vec<_>>());
    drop(client);
    stopped(second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_no_row_can_have_had_is_told_as_one_that_is_not_known() {
    let folder = tempfile::tempdir().expect("a folder");
    for durability in ["memory", "durable"] {
        let server = server(&folder).await;
        let with = format!("WITH (connector = 'http', durability = '{durability}', idle_timeout = '10h')");
        server.execute(&format!("CREATE SOURCE clicks (n BIGINT, ts TIMESTAMP) {with}")).await;
        server.execute("CREATE STREAM named AS SELECT n FROM clicks").await;
        publish(&server, 0..3).await;
        let mut next = 3;
        for sql in ["SELECT n FROM clicks", "SELECT n + 0 AS n FROM clicks WHERE n >= 0", "SELECT n FROM named"] {
            let mut first = Client::hello(&server).await;
            subscribe(&mut first, sql, &json!("earliest")).await;
            let position = read(&mut first, next as usize).await.1;
            let epoch = position.as_str().expect("a text").split(':').next().expect("an epoch").to_owned();
            for place in ["0=9999", "0=4294967296", "1=0", "0=1,7=0"] {
                let mut client = Client::hello(&server).await;
                let subscribed = subscribe(&mut client, sql, &json!(format!("{epoch}:{place}"))).await;
                assert_eq!(subscribed["recovered"], false, "{sql} from {place}: {subscribed}");
                let gap = client.message().await;
                assert_eq!(
                    (&gap["type"], &gap["rows"], &gap["reason"]),
                    (&json!("gap"), &json!(null), &json!("epoch"))
                );
                publish(&server, next..next + 1).await;
                next += 1;
                let wanted: Vec<u64> = (0..u64::from(next)).collect();
                assert_eq!(read(&mut client, wanted.len()).await.0, wanted, "{sql} from {place}");
            }
        }
        let joined = "SELECT a.n AS n FROM clicks a JOIN clicks b ON a.n = b.n
             AND b.ts BETWEEN a.ts - INTERVAL '1 hour' AND a.ts + INTERVAL '1 hour'";
        server.execute(&format!("CREATE STREAM joined WITH (durability = '{durability}') AS {joined}")).await;
        assert!(info(&server.service, "joined").users.is_empty(), "who gathers its late rows is not told");
        server.execute("DROP SOURCE clicks CASCADE").await;
        stopped(server).await;
    }
}
