//! What squilla is measured against: a server that hands each message to every socket, and does nothing else.

use std::fmt::Write;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::broadcast::{Sender, channel};

use crate::Publish;
use crate::rows::message_rows;

/// Messages that a socket may be behind: more than are ever on their way.
const MESSAGES: usize = 64;

/// Bytes that a socket reads at once: the library fills so many with zeros whenever it looks for a message.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// The server.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    messages: Sender<Utf8Bytes>,
}

/// Starts it on a free port.
pub(crate) async fn start() -> Served {
    let (messages, _) = channel(MESSAGES);
    let router = Router::new().route("/api/v1/ws", get(upgrade)).with_state(messages.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("it is connected"));
    tokio::spawn(async move { axum::serve(listener, router).await.expect("it goes on") });
    Served { address, messages }
}

async fn upgrade(State(messages): State<Sender<Utf8Bytes>>, upgrade: WebSocketUpgrade) -> Response {
    let mut messages = messages.subscribe();
    upgrade.protocols(["squilla.v1.json"]).read_buffer_size(READ_BUFFER_BYTES).on_upgrade(
        move |mut socket| async move {
            loop {
                tokio::select! {
                    message = messages.recv() => {
                        let Ok(message) = message else { return };
                        if socket.send(Message::Text(message)).await.is_err() {
                            return;
                        }
                    }
                    said = socket.recv() => {
                        if !matches!(said, Some(Ok(_))) {
                            return;
                        }
                    }
                }
            }
        },
    )
}

impl Publish for Served {
    async fn publish(&self, first: u64, due: u64) {
        let mut text = format!(
            "{{\"type\":\"rows\",\"channel\":7,\"position\":\"8000000000000001:0={first}\",\
             \"watermark\":\"2026-01-01T00:00:00.000000000Z\",\"rows\":["
        );
        for (at, (number, note)) in message_rows(first).enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(text, "{comma}[{number},{due},\"{note}\"]").expect("text grows");
        }
        text.push_str("]}");
        self.messages.send(text.into()).expect("somebody reads");
    }
}
