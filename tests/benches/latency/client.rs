//! A WebSocket client, and how long it waits for its first row.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// The stream that statements are asked of.
pub(crate) const CREATE_STREAM: &str = "CREATE SOURCE plays WITH (connector = 'generator', rate = 10000)";
/// How long any message may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection that has said hello.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let uri = format!("ws://{address}/api/v1/ws").parse().expect("a URL");
        let request = ClientRequestBuilder::new(uri).with_sub_protocol("squilla.v1.json");
        let (socket, _) = connect_async(request).await.expect("the server takes connections");
        let mut client = Self { socket };
        client.send(&json!({ "type": "hello" })).await;
        client.until("welcome").await;
        client
    }

    /// Subscribes to a query; its first row may have come by then.
    pub(crate) async fn subscribe(&mut self, id: &str, sql: &str) {
        self.send(&json!({ "type": "subscribe", "id": id, "sql": sql })).await;
        self.until("subscribed").await;
    }

    async fn send(&mut self, message: &serde_json::Value) {
        self.socket.send(Message::text(message.to_string())).await.expect("the server reads");
    }

    /// The next message of a type; others are passed over, errors end the benchmark.
    pub(crate) async fn until(&mut self, wanted: &str) -> serde_json::Value {
        loop {
            let message = self.next().await;
            assert_ne!(message["type"], "error", "{message}");
            if message["type"] == wanted {
                return message;
            }
        }
    }

    async fn next(&mut self) -> serde_json::Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a message in time");
            match message.expect("the server stays").expect("the server stays") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Close(frame) => panic!("closed by the server: {frame:?}"),
                _ => {}
            }
        }
    }
}

/// How long each of some statements waits for its first row, sorted. Each is one that runs nowhere yet, on a
/// connection that is open, since a console has one.
pub(crate) async fn statements_to_first_rows(address: SocketAddr, statements: usize) -> Vec<Duration> {
    let mut client = Client::connect(address).await;
    let mut waits = Vec::new();
    for at in 0..statements {
        let sql = format!("SELECT title, device, {at} AS question FROM plays WHERE title <> 'no title {at}'");
        let asked = Instant::now();
        let id = at.to_string();
        client.send(&json!({ "type": "subscribe", "id": id, "sql": sql })).await;
        client.until("rows").await;
        waits.push(asked.elapsed());
        client.send(&json!({ "type": "unsubscribe", "id": id })).await;
        client.until("complete").await;
    }
    waits.sort();
    waits
}
