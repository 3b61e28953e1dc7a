//! The server's own stream: it measures the whole path, and stays out of the way.

use squilla_gateway::ServeConfig;

use crate::client::{Client, PATIENCE, TestServer, engine_config};
use serde_json::{Value, json};

async fn text(server: &TestServer, path: &str) -> String {
    reqwest::get(server.url(path)).await.expect("an answer").text().await.expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_goes_through_all_of_it_and_is_not_in_the_way() {
    let config = ServeConfig { canary: true, ..ServeConfig::default() };
    let server = TestServer::with(engine_config(), Vec::new(), config).await;
    let patience = std::time::Instant::now() + PATIENCE;
    let metrics = loop {
        let metrics = text(&server, "/metrics").await;
        let count = metrics.lines().find_map(|line| line.strip_prefix("squilla_canary_delay_seconds_count "));
        if count.is_some_and(|count| count != "0") {
            break metrics;
        }
        assert!(std::time::Instant::now() < patience, "{metrics}");
        tokio::task::yield_now().await;
    };
    assert!(metrics.contains("squilla_canary_lost_rows_total 0\n"), "{metrics}");
    assert!(metrics.contains("squilla_queries 0\n"), "{metrics}");
    assert!(!metrics.contains("stream=\"squilla_canary\""), "{metrics}");
    let ready = text(&server, "/readyz").await;
    assert!(ready.starts_with("ok\ncanary: ") && ready.contains(" ms\n"), "{ready}");
    // Nobody sees it who does not ask for it.
    for (path, wanted) in [
        ("/api/v1/streams", json!({"streams": []})),
        ("/api/v1/jobs", json!({"jobs": []})),
        ("/api/v1/queries", json!({"queries": []})),
    ] {
        let answer: Value = serde_json::from_str(&text(&server, path).await).expect("JSON");
        assert_eq!(answer, wanted, "{path}");
    }
    // Nor what it has lost: nothing by itself.
    let _ = server.service.publish("squilla_canary", "{\"n\":-1}\nnonsense".into()).await;
    while !server.service.engine().losses().iter().any(|loss| loss.name == "squilla_canary") {
        assert!(std::time::Instant::now() < patience, "what cannot be read is counted");
        tokio::task::yield_now().await;
    }
    let told = text(&server, "/api/v1/losses").await;
    assert!(!told.contains("squilla_canary") && told.contains("\"losses\":[]"), "{told}");
    for id in server.service.engine().queries().into_iter().map(|query| query.id) {
        assert!(server.service.execute(&format!("KILL QUERY '{id}'")).await.is_err(), "{id}");
        assert!(server.service.pause_query(&id).is_err(), "{id}");
    }
    let mut client = Client::hello(&server).await;
    client.subscribe(json!({"id": "1", "stream": "squilla_canary", "from": "earliest"})).await;
    assert_eq!(client.message().await["rows"][0][0], 0);
    server.execute("DESCRIBE squilla_canary").await;
    for refused in [
        "DROP SOURCE squilla_canary CASCADE",
        "CREATE STREAM s AS SELECT n FROM squilla_canary",
        "CREATE SOURCE squilla_canary (n BIGINT) WITH (connector = 'http')",
    ] {
        assert!(server.service.execute(refused).await.is_err(), "{refused}");
    }
    let refused = server.service.execute("SELECT n FROM squilla_canari").await.expect_err("there is no such stream");
    assert!(!format!("{refused:?}").contains("squilla_canary"), "{refused:?}");
}
