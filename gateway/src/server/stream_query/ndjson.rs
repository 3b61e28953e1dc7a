//! A line of JSON a row.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use squilla_engine::{StreamBatch, Subscription, SubscriptionEvent};
use squilla_sources::encode::json::write_ndjson;

use crate::server::App;
use crate::server::error::ApiError;
use crate::server::frame::op;
use crate::server::limits::INLINE_ROWS;
use crate::server::socket::message::{ServerMessage, Subscribed};

/// The subscription's name in messages that have one.
const ID: &str = "query";
/// Rows that are written at once: so many are held in memory for a client.
const CHUNK_ROWS: usize = INLINE_ROWS;

struct Lines {
    app: Arc<App>,
    subscription: Subscription,
    /// Where the client asked to start.
    from: Option<String>,
    /// Rows that may still be written.
    left: u64,
    meta: bool,
    /// A batch and the rows of it that are not written yet.
    batch: Option<(Arc<StreamBatch>, Range<usize>)>,
    first: Option<Bytes>,
    /// The share of rows that results are made of, as told last.
    completeness: f64,
    done: bool,
}

/// The answer that goes on.
pub(super) fn answer(
    app: Arc<App>,
    subscription: Subscription,
    from: Option<String>,
    limit: Option<u64>,
    meta: bool,
) -> Response {
    app.traffic.subscriptions.fetch_add(1, Relaxed);
    let info = subscription.info();
    let subscribed = || ServerMessage::Subscribed(Box::new(Subscribed::new(ID, info.channel, info)));
    let first = meta.then(|| meta_line(&subscribed()));
    let left = limit.unwrap_or(u64::MAX);
    let lines = Lines { app, subscription, from, left, meta, batch: None, first, completeness: 1.0, done: false };
    let body = stream::unfold(lines, |mut lines| async move {
        let bytes = lines.next().await?;
        Some((Ok::<_, Infallible>(bytes), lines))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Lines {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            if self.done || self.left == 0 {
                return None;
            }
            if self.batch.is_some() {
                // A client that reads as fast as this writes would keep others waiting for as long as there is history.
                tokio::task::yield_now().await;
            }
            if let Some(bytes) = self.rows() {
                return Some(bytes);
            }
            let event = tokio::select! {
                () = self.app.drain.cancelled() => return None,
                event = self.subscription.next() => event,
            };
            if let Some(line) = self.tell(event) {
                return Some(line);
            }
        }
    }

    /// Lines of the rows at hand.
    fn rows(&mut self) -> Option<Bytes> {
        let (batch, range) = self.batch.as_mut()?;
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let count = range.len().min(CHUNK_ROWS).min(left);
        let chunk = range.start..range.start + count;
        let mut text = Vec::new();
        write_ndjson(&batch.visible(), chunk, op(batch.kind), &mut text);
        range.start += count;
        if range.start == range.end {
            self.batch = None;
        }
        self.left -= count as u64;
        self.app.traffic.sent(count, text.len());
        Some(text.into())
    }

    fn tell(&mut self, event: SubscriptionEvent) -> Option<Bytes> {
        match event {
            SubscriptionEvent::Rows { batch, skip, .. } => {
                let rows = batch.rows.num_rows();
                self.batch = (skip < rows).then_some((batch, skip..rows));
                None
            }
            SubscriptionEvent::Gap(gap) => {
                self.app.traffic.gap(&gap);
                Some(meta_line(&ServerMessage::gap(ID, self.from.as_deref(), &gap)))
            }
            SubscriptionEvent::Progress(progress) => {
                let channel = self.subscription.info().channel;
                let share = std::mem::replace(&mut self.completeness, progress.completeness);
                let lacks = self.subscription.info().windowed && share != progress.completeness;
                (self.meta || lacks).then(|| meta_line(&ServerMessage::progress(channel, &progress)))
            }
            SubscriptionEvent::Complete(why) => {
                self.done = true;
                self.meta.then(|| meta_line(&ServerMessage::Complete { id: ID, reason: why.word() }))
            }
            SubscriptionEvent::Failed(error) => {
                self.done = true;
                let error = ApiError::of_ended(&error);
                Some(meta_line(&ServerMessage::Error { id: Some(ID), error: &error.body }))
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.app.traffic.subscriptions.fetch_sub(1, Relaxed);
    }
}

/// A line that is no row.
fn meta_line(message: &ServerMessage<'_>) -> Bytes {
    format!("{{\"_squilla\":{}}}\n", message.text()).into()
}
