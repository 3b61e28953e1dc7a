//! A WebSocket client.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// How long any message may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that a client reads at once.
const READ_BUFFER_BYTES: usize = 8 << 10;

/// A connection that has said hello.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let uri = format!("ws://{address}/api/v1/ws").parse().expect("a URL");
        let request = ClientRequestBuilder::new(uri).with_sub_protocol("squilla.v1.json");
        // The library fills so many bytes with zeros whenever it looks for a message.
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        let connecting = connect_async_with_config(request, Some(config), true);
        let (socket, _) = connecting.await.expect("the server takes connections");
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

    /// Passes over messages up to one of a type; errors end the benchmark.
    async fn until(&mut self, wanted: &str) {
        while self.next().await.kind != wanted {}
    }

    /// The next rows.
    pub(crate) async fn rows(&mut self) -> Vec<(u64, u64)> {
        loop {
            let message = self.next().await;
            if message.kind == "rows" {
                return message.rows;
            }
        }
    }

    async fn next(&mut self) -> Told {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("a message in time");
            match message.expect("the server stays").expect("the server stays") {
                Message::Text(text) => {
                    let told: Told = serde_json::from_str(&text).expect("JSON");
                    assert_ne!(told.kind, "error", "{text}");
                    return told;
                }
                Message::Close(frame) => panic!("closed by the server: {frame:?}"),
                _ => {}
            }
        }
    }
}

/// What of a message is looked at.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    rows: Vec<(u64, u64)>,
}
