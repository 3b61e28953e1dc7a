//! The half of a socket that speaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use futures::SinkExt;
use futures::stream::SplitSink;
use tokio::time::Instant;

use super::Closing;
use crate::server::limits::CLOSE_TIMEOUT;

/// Why nothing more can be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum WriteError {
    /// The client has left.
    Left,
    /// The client has given no sign of life for too long.
    Silent,
}

/// When a client was last heard of.
pub(super) struct Seen {
    /// The first time.
    first: Instant,
    /// The last one, in milliseconds after the first.
    last_ms: AtomicU64,
}

impl Seen {
    pub(super) fn now() -> Self {
        Self { first: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    /// It is heard of again.
    pub(super) fn again(&self) {
        let after = u64::try_from(self.first.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(after, Relaxed);
    }

    fn last(&self) -> Instant {
        self.first + Duration::from_millis(self.last_ms.load(Relaxed))
    }
}

/// Writes to one client. What it has not read waits here, in the one buffer that its socket has.
pub(super) struct Writer {
    sink: SplitSink<WebSocket, Message>,
    seen: Arc<Seen>,
    /// How long it may be silent.
    patience: Duration,
}

impl Writer {
    pub(super) fn new(sink: SplitSink<WebSocket, Message>, seen: Arc<Seen>, patience: Duration) -> Self {
        Self { sink, seen, patience }
    }

    /// Puts a message in the buffer; waits while that is full.
    pub(super) async fn feed(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), WriteError> {
        self.put(Message::Text(text.into())).await
    }

    /// Asks the client for a sign of life.
    pub(super) async fn ping(&mut self) -> Result<(), WriteError> {
        self.put(Message::Ping(Default::default())).await?;
        self.flush().await
    }

    /// Sends what is in the buffer.
    pub(super) async fn flush(&mut self) -> Result<(), WriteError> {
        // Nearly always there is room at once, and no timer is needed.
        tokio::select! {
            biased;
            result = self.sink.flush() => result.map_err(|_| WriteError::Left),
            () = silence(&self.seen, self.patience) => Err(WriteError::Silent),
        }
    }

    /// True when the client has been silent for too long.
    pub(super) fn is_silent(&self) -> bool {
        self.seen.last().elapsed() > self.patience
    }

    /// Says why the socket closes, and closes it.
    pub(super) async fn close(&mut self, closing: &Closing) {
        // The client may be gone, or not read.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, async {
            self.sink.send(closing.frame()).await?;
            self.sink.close().await
        })
        .await;
    }

    async fn put(&mut self, message: Message) -> Result<(), WriteError> {
        tokio::select! {
            biased;
            result = self.sink.feed(message) => result.map_err(|_| WriteError::Left),
            () = silence(&self.seen, self.patience) => Err(WriteError::Silent),
        }
    }
}

/// Returns when the client has been silent for `patience`.
async fn silence(seen: &Seen, patience: Duration) {
    loop {
        let deadline = seen.last() + patience;
        tokio::time::sleep_until(deadline).await;
        if seen.last() + patience <= deadline {
            return;
        }
    }
}
