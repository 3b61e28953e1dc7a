//! What is refused, and how it is told.

use serde_json::json;
use squilla_gateway::{ServeConfig, ServeError, serve};

use crate::client::{Client, Received, TestServer, engine_config, open};

async fn closed_with(client: &mut Client) -> Option<u16> {
    loop {
        if let Received::Closed(code) = client.receive(false).await {
            return code;
        }
    }
}

#[tokio::test]
async fn sockets_of_foreign_pages_and_without_the_subprotocol_are_closed() {
    let server = TestServer::start().await;
    let mut foreign = Client::connect(&server, Some("squilla.v1.json"), Some("http://evil.example")).await;
    assert_eq!(closed_with(&mut foreign).await, Some(4403));
    let mut without = Client::connect(&server, None, None).await;
    assert_eq!(closed_with(&mut without).await, Some(4400));
    let own = format!("http://{}", server.address);
    let mut own = Client::connect(&server, Some("squilla.v1.json"), Some(&own)).await;
    own.send(&json!({"type": "hello"})).await;
    assert_eq!(own.message().await["type"], "welcome");
}

#[tokio::test]
async fn a_message_over_the_limit_closes_the_socket() {
    let server = TestServer::start().await;
    let mut client = Client::hello(&server).await;
    client.send_text(format!("{{\"type\":\"subscribe\",\"id\":\"1\",\"sql\":\"{}\"}}", "x".repeat(80 << 10))).await;
    assert_eq!(closed_with(&mut client).await, Some(4413));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_on_a_socket_are_limited() {
    let server = TestServer::start().await;
    server.execute("CREATE SOURCE events (n BIGINT) WITH (connector = 'http')").await;
    let mut client = Client::hello(&server).await;
    let mut channels = std::collections::HashSet::new();
    for id in 0..256 {
        let subscribed = client.subscribe(json!({"id": id.to_string(), "sql": "SELECT n FROM events"})).await;
        assert!(channels.insert(subscribed["channel"].as_u64()), "each has a channel of its own");
    }
    client.send(&json!({"type": "subscribe", "id": "more", "sql": "SELECT n FROM events"})).await;
    let refused = client.message().await;
    assert_eq!((&refused["id"], &refused["code"]), (&json!("more"), &json!("limit")));
    client.send(&json!({"type": "unsubscribe", "id": "7"})).await;
    assert_eq!(client.message().await, json!({"type": "complete", "id": "7", "reason": "unsubscribed"}));
    client.subscribe(json!({"id": "more", "sql": "SELECT n FROM events"})).await;
}

#[tokio::test]
async fn a_silent_client_is_dropped() {
    let heartbeat = std::time::Duration::from_millis(50);
    let config = ServeConfig { heartbeat, ..ServeConfig::default() };
    let server = TestServer::with(engine_config(), Vec::new(), config).await;
    let mut client = Client::hello(&server).await;
    // Answers to pings are written when the client reads, so that a client that reads lives on.
    for _ in 0..2 {
        client.send(&json!({"type": "subscribe", "id": "1", "sql": "SELECT"})).await;
        assert_eq!(client.message().await["type"], "error");
    }
    let stream = tokio::net::TcpStream::connect(server.address).await.expect("connects");
    let mut silent = Client::over(stream, &server, Some("squilla.v1.json"), None).await;
    silent.send(&json!({"type": "hello"})).await;
    // It does not read, and so does not answer, for longer than two heartbeats.
    let mut interval = tokio::time::interval(heartbeat * 6);
    interval.tick().await;
    interval.tick().await;
    assert_eq!(closed_with(&mut silent).await, Some(4408));
}

#[tokio::test]
async fn an_address_that_others_can_reach_needs_consent() {
    let service = open(None, engine_config(), Vec::new()).await;
    let config = ServeConfig { listen: "0.0.0.0:0".parse().expect("an address"), ..ServeConfig::default() };
    let refused = serve(service.clone(), config.clone(), |_| panic!("it listens"), std::future::pending()).await;
    assert!(matches!(refused, Err(ServeError::Insecure(_))));
    let consented = ServeConfig { insecure: true, ..config };
    serve(service, consented, |_| {}, std::future::ready(())).await.expect("it serves");
}

#[tokio::test]
async fn a_server_that_stops_takes_leave() {
    let mut server = TestServer::start().await;
    let mut client = Client::hello(&server).await;
    server.stop();
    assert_eq!(closed_with(&mut client).await, Some(1001));
    drop(client);
    server.ended().await;
}
