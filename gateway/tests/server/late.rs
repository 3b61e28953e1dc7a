//! Late rows, read from a server.

use serde_json::{Value, json};

use crate::client::{Client, TestServer};

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server
        .execute("CREATE SOURCE bids (auction BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'http')")
        .await;
    server.execute("CREATE STREAM counts AS SELECT window_start, count(*) AS n FROM bids GROUP BY tumble('10s')").await;
    server
}

async fn publish(server: &TestServer, bids: &[(i64, &str)]) {
    let events = bids.iter().map(|(auction, time)| json!({"auction": auction, "ts": format!("2020-01-01T{time}Z")}));
    let events: Value = events.collect();
    server.service.publish("bids", events.to_string().into()).await.expect("is taken");
}

const SQL: &str = "SELECT auction, late_reason, late_by_ms, late_input FROM LATE(counts)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_rows_are_read_afterwards_and_as_they_come() {
    let server = server().await;
    publish(&server, &[(1, "00:00:01"), (2, "00:00:15"), (3, "00:00:03")]).await;
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "1", "sql": SQL, "from": "earliest"})).await;
    assert_eq!(client.message().await["rows"], json!([[3, "late", 12_000, "bids"]]));
    publish(&server, &[(4, "00:00:22"), (5, "00:00:19.5")]).await;
    assert_eq!(client.message().await["rows"], json!([[5, "late", 2_500, "bids"]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_takes_those_who_read_its_late_rows_with_it() {
    let server = server().await;
    server.execute(&format!("CREATE STREAM missed AS {SQL}")).await;
    let refused = server.service.execute("DROP STREAM counts").await;
    let refused = refused.expect_err("it is read").to_string();
    assert!(refused.contains("stream \"missed\""), "{refused}");
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "1", "stream": "missed"})).await;
    publish(&server, &[(1, "00:00:15"), (2, "00:00:03")]).await;
    assert_eq!(client.message().await["rows"], json!([[2, "late", 12_000, "bids"]]));
    server.execute("DROP STREAM counts CASCADE").await;
    assert_eq!(client.message().await["id"], "1");
}
