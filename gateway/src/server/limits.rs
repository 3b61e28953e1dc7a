//! What a client may take, each with its unit.

use std::time::Duration;

/// Body of a request, in bytes, compressed and not.
pub(crate) const BODY_BYTES: usize = 16 << 20;
/// Message from a WebSocket client, in bytes: the longest statement and some room.
pub(crate) const MESSAGE_BYTES: usize = 68 << 10;
/// Bytes that a frame of rows aims at. One row may make a larger one.
pub(crate) const FRAME_BYTES: usize = 1 << 20;
/// The largest frame there is, in bytes: a row that needs more ends its subscription.
pub(crate) const LARGEST_FRAME_BYTES: usize = 16 << 20;
/// Connections at the same time: below the 20,000 files that a process may usually have open.
pub(crate) const CONNECTIONS: usize = 16_384;
/// Subscriptions on one socket.
pub(crate) const SUBSCRIPTIONS: usize = 256;
/// Statements in one request.
pub(crate) const STATEMENTS: usize = 256;
/// Time for a request's head to arrive.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a request's body to arrive.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for the first message on a socket.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Heartbeats that a socket may miss.
pub(crate) const MISSED_HEARTBEATS: u32 = 2;
/// Time that clients have to take leave when the server stops.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
/// Time for a close frame to be written.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time that a reader has to take other parameters, for someone else who waits for it.
pub(crate) const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages of a socket's client that wait to be carried out; then its next ones are not read.
pub(crate) const WAITING_MESSAGES: usize = 32;
/// Events of one subscription that are written before the socket's next one has its turn.
pub(crate) const TURN_EVENTS: usize = 32;
/// Bytes of one subscription that are written before the socket's next one has its turn.
pub(crate) const TURN_BYTES: usize = 256 << 10;
/// Bytes that a socket reads at once. Each has so many in memory, and writes zeros to them whenever it looks for a message:
/// clients say little.
pub(crate) const READ_BUFFER_BYTES: usize = 1 << 10;
/// Bytes that a socket gathers before it writes.
pub(crate) const WRITE_BUFFER_BYTES: usize = 64 << 10;
/// Rows that are encoded where they are met; more of them on a thread for blocking work.
pub(crate) const INLINE_ROWS: usize = 1_024;
/// Encoded frames kept so that subscribers who come a little later find them, in bytes.
pub(crate) const RECENT_BYTES: usize = 32 << 20;
/// How long they are kept at the most, while others are encoded.
pub(crate) const RECENT_AGE: Duration = Duration::from_secs(5);
