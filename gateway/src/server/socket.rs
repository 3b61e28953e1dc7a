//! WebSocket clients, subprotocol `squilla.v1.json`: many subscriptions on one socket.
//!
//! Messages are JSON objects with a `type`; [`message`] has them all. A client says `hello` first and is answered with
//! `welcome`. Rows come in frames that name a channel. Subscriptions of one channel on different sockets get the same
//! frames, encoded once; on one socket each subscription has a channel of its own.
//!
//! | close code | meaning | come back? |
//! |---|---|---|
//! | 1001 | the server stops | yes, with the position |
//! | 4008 | slower than the policy `disconnect` allows | yes, with the position |
//! | 4400 | a message that is none, or no subprotocol | no |
//! | 4401 | the first message was not `hello` | no |
//! | 4403 | a page of another site | no |
//! | 4408 | no `hello`, or no sign of life, in time | no |
//! | 4409 | the id of a running subscription, used again | no |
//! | 4413 | a message over the limit | no |
//! | 4429 | `hello` more than once | no |

mod change;
pub(super) mod message;
mod outlet;
mod reader;
mod running;
mod session;
mod writer;

pub(super) use change::change_query;
pub(super) use running::Running;

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::Response;

use super::App;
use super::guard::same_origin;
use super::limits::{CLOSE_TIMEOUT, LARGEST_FRAME_BYTES, MESSAGE_BYTES, READ_BUFFER_BYTES, WRITE_BUFFER_BYTES};

/// The subprotocol.
const PROTOCOL: &str = "squilla.v1.json";

/// Why a socket is closed by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closing {
    code: u16,
    /// At most 123 bytes of it are sent.
    reason: String,
}

impl Closing {
    fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    fn stopping() -> Self {
        Self::new(1001, "the server stops")
    }

    fn frame(&self) -> Message {
        let mut end = self.reason.len().min(123);
        while !self.reason.is_char_boundary(end) {
            end -= 1;
        }
        Message::Close(Some(CloseFrame { code: self.code, reason: self.reason[..end].into() }))
    }
}

/// Turns a request into a socket. What is wrong with it is told by a close code, which pages can see.
pub(super) async fn upgrade(State(app): State<Arc<App>>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let own = same_origin(&headers);
    upgrade
        .protocols([PROTOCOL])
        .max_message_size(MESSAGE_BYTES)
        .max_frame_size(MESSAGE_BYTES)
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        // A frame may come on top of a buffer that is just not full.
        .max_write_buffer_size(2 * LARGEST_FRAME_BYTES)
        .on_upgrade(move |socket| async move {
            if !own {
                close(socket, &Closing::new(4403, "pages of other sites may not use this server")).await;
            } else if socket.protocol().is_none_or(|protocol| protocol != PROTOCOL) {
                close(socket, &Closing::new(4400, "ask for the subprotocol squilla.v1.json")).await;
            } else {
                let abandon = app.abandon.clone();
                tokio::select! {
                    () = session::run(socket, app) => {}
                    () = abandon.cancelled() => {}
                }
            }
        })
}

async fn close(mut socket: WebSocket, closing: &Closing) {
    // The client may be gone already.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, socket.send(closing.frame())).await;
}
