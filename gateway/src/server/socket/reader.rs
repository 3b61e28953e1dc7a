//! The half of a socket that listens.

use std::sync::Arc;

use axum::extract::ws::{Message, WebSocket};
use futures::StreamExt;
use futures::stream::SplitStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Error as SocketError;

use super::Closing;
use super::message::ClientMessage;
use super::writer::Seen;

/// What came from the client.
#[derive(Debug)]
pub(super) enum Input {
    /// A message.
    Message(ClientMessage),
    /// Something that makes us close the socket.
    Wrong(Closing),
    /// The client has left.
    Left,
}

/// Reads until the client leaves or errs. `seen` is told of every sign of life. A full `inputs` makes the client wait;
/// room for all that may wait is there from the start, so that it holds boxes.
pub(super) async fn run(mut socket: SplitStream<WebSocket>, inputs: mpsc::Sender<Box<Input>>, seen: Arc<Seen>) {
    loop {
        let input = match socket.next().await {
            Some(Ok(message)) => {
                seen.again();
                match read(message) {
                    Some(input) => input,
                    None => continue,
                }
            }
            Some(Err(error)) => of_error(error),
            None => Input::Left,
        };
        let last = !matches!(input, Input::Message(_));
        // Without its session nobody listens any more.
        if inputs.send(Box::new(input)).await.is_err() || last {
            return;
        }
    }
}

/// `None` for what only shows that the client lives.
fn read(message: Message) -> Option<Input> {
    match message {
        Message::Text(text) => Some(match serde_json::from_str(text.as_str()) {
            Ok(message) => Input::Message(message),
            Err(error) => Input::Wrong(Closing::new(4400, format!("not a message: {error}"))),
        }),
        Message::Binary(_) => Some(Input::Wrong(Closing::new(4400, "messages are text"))),
        Message::Ping(_) | Message::Pong(_) => None,
        Message::Close(_) => Some(Input::Left),
    }
}

fn of_error(error: axum::Error) -> Input {
    let error = error.into_inner();
    match error.downcast_ref::<SocketError>() {
        Some(SocketError::Capacity(_)) => Input::Wrong(Closing::new(4413, "the message is too large")),
        Some(SocketError::Utf8(_)) => Input::Wrong(Closing::new(4400, "the message is not UTF-8")),
        _ => Input::Left,
    }
}
