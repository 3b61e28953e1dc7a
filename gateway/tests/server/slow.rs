//! A client that does not read: nobody else waits, and its gap is exact to the row.

use serde_json::{Value, json};
use squilla_engine::EngineConfig;
use squilla_gateway::{PublishRefusal, ServeConfig};
use squilla_sources::PublishError;
use tokio::net::TcpSocket;

use crate::client::{Client, TestServer, engine_config};

/// Rows published, each of a little over a kilobyte: more than all buffers on the way hold.
const ROWS: u64 = 24_000;
const ROWS_A_PUBLISH: u64 = 500;

async fn publish_all(server: &TestServer) {
    let pad = "x".repeat(1_000);
    for first in (0..ROWS).step_by(ROWS_A_PUBLISH as usize) {
        let lines = (first..first + ROWS_A_PUBLISH).map(|n| format!("{{\"n\":{n},\"pad\":\"{pad}\"}}\n"));
        let body: bytes::Bytes = lines.collect::<String>().into();
        loop {
            match server.service.publish("events", body.clone()).await {
                Ok(report) => {
                    assert_eq!(report.accepted, ROWS_A_PUBLISH);
                    break;
                }
                Err(PublishRefusal::Publish(PublishError::Full { .. })) => tokio::task::yield_now().await,
                Err(refusal) => panic!("{refusal:?}"),
            }
        }
    }
}

/// Reads until all rows are accounted for; rows read and rows in gaps. Every row must be where it belongs.
async fn read_all(client: &mut Client) -> (u64, u64) {
    let (mut read, mut missed) = (0, 0);
    while read + missed < ROWS {
        let message = client.message().await;
        match message["type"].as_str() {
            Some("rows") => {
                for row in message["rows"].as_array().expect("rows") {
                    assert_eq!(row[0].as_u64(), Some(read + missed), "a row is missing or came twice");
                    read += 1;
                }
            }
            Some("gap") => {
                assert_eq!(message["reason"], "slow");
                missed += message["rows"].as_u64().expect("its size is known");
            }
            _ => panic!("{message}"),
        }
    }
    (read, missed)
}

async fn server() -> TestServer {
    let engine = EngineConfig { subscription_lag_bytes: 256 << 10, ..engine_config() };
    let server = TestServer::with(engine, Vec::new(), ServeConfig::default()).await;
    server
        .execute("CREATE SOURCE events (n BIGINT, pad VARCHAR) WITH (connector = 'http', retention = '1 hour')")
        .await;
    server
}

async fn idle_reader(server: &TestServer, subscribe: Value) -> Client {
    let socket = TcpSocket::new_v4().expect("a socket");
    // A small window fills soon.
    socket.set_recv_buffer_size(16 << 10).expect("is set");
    let stream = socket.connect(server.address).await.expect("connects");
    let mut client = Client::over(stream, server, Some("squilla.v1.json"), None).await;
    client.send(&json!({"type": "hello"})).await;
    assert_eq!(client.message().await["type"], "welcome");
    client.subscribe(subscribe).await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_holds_nobody_up_and_its_gap_is_exact() {
    let server = server().await;
    let sql = "SELECT n, pad FROM events";
    let mut slow = idle_reader(&server, json!({"id": "1", "sql": sql, "policy": "drop_oldest"})).await;
    let mut fast = Client::hello(&server).await;
    fast.subscribe(json!({"id": "1", "sql": sql, "policy": "block"})).await;
    let ((), (read, missed)) = tokio::join!(publish_all(&server), read_all(&mut fast));
    assert_eq!((read, missed), (ROWS, 0), "the fast one has all");
    let (read, missed) = read_all(&mut slow).await;
    assert!(missed > 0, "the slow one was slow");
    assert_eq!(read + missed, ROWS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_credit_rows_wait_until_they_are_skipped() {
    let server = server().await;
    let mut client = Client::hello(&server).await;
    client
        .subscribe(json!({"id": "1", "sql": "SELECT n, pad FROM events", "policy": "drop_oldest", "credit": 1}))
        .await;
    publish_all(&server).await;
    client.send(&json!({"type": "credit", "id": "1", "bytes": 1_u64 << 40})).await;
    let (read, missed) = read_all(&mut client).await;
    assert!(missed > 0 && read > 0, "{read} read, {missed} missed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_wants_all_or_nothing_is_disconnected() {
    let server = server().await;
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "1", "sql": "SELECT n, pad FROM events", "policy": "disconnect", "credit": 1})).await;
    publish_all(&server).await;
    client.send(&json!({"type": "credit", "id": "1", "bytes": 1_u64 << 40})).await;
    loop {
        match client.receive(false).await {
            crate::client::Received::Message(message) if message["type"] == "rows" => {}
            crate::client::Received::Message(message) => {
                assert_eq!((&message["type"], &message["code"]), (&json!("error"), &json!("too_slow")));
                assert_eq!(message["retryable"], true);
            }
            crate::client::Received::Closed(code) => {
                assert_eq!(code, Some(4008));
                return;
            }
        }
    }
}
