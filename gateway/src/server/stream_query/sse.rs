//! Server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::Utf8Bytes;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use squilla_engine::{Position, Subscription, SubscriptionEvent};

use crate::server::App;
use crate::server::error::ApiError;
use crate::server::frame::Part;
use crate::server::socket::message::{ServerMessage, Subscribed};

/// The subscription's name in messages that have one.
const ID: &str = "query";
/// How often something is sent while there is nothing to say, so that a lost connection is found out.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// In the id of an event between the position and how many rows are left.
const LEFT: char = '/';

/// What is written while the client reads.
struct Events {
    app: Arc<App>,
    subscription: Subscription,
    /// Where the client asked to start.
    from: Option<String>,
    ready: VecDeque<Bytes>,
    /// Rows that are not written yet; `None`: no end is set.
    left: Option<u64>,
    done: bool,
}

/// The answer that goes on.
pub(super) fn answer(app: Arc<App>, subscription: Subscription, from: Option<String>) -> Response {
    app.traffic.subscriptions.fetch_add(1, Relaxed);
    let left = subscription.info().limit;
    let mut events = Events { app, subscription, from, ready: VecDeque::new(), left, done: false };
    let info = events.subscription.info();
    let subscribed = ServerMessage::Subscribed(Box::new(Subscribed::new(ID, info.channel, info))).text();
    events.event("subscribed", None, subscribed);
    let body = stream::unfold(events, |mut events| async move {
        let bytes = events.next().await?;
        Some((Ok::<_, Infallible>(bytes), events))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Where to start, and how many rows are left, as the id of an event says.
pub(super) fn read_id(id: &str) -> (String, Option<u64>) {
    let left = id.split_once(LEFT).and_then(|(position, left)| Some((position, left.parse().ok()?)));
    left.map_or_else(|| (id.to_owned(), None), |(position, left)| (position.to_owned(), Some(left)))
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            if self.done {
                return None;
            }
            let event = tokio::select! {
                () = self.app.drain.cancelled() => return None,
                event = tokio::time::timeout(KEEP_ALIVE, self.subscription.next()) => event,
            };
            match event {
                Ok(event) => self.tell(event).await,
                Err(_) => self.ready.push_back(Bytes::from_static(b":\n\n")),
            }
        }
    }

    async fn tell(&mut self, event: SubscriptionEvent) {
        let channel = self.subscription.info().channel;
        match event {
            SubscriptionEvent::Rows { batch, skip, position, snapshot } => {
                if skip < batch.rows.num_rows() {
                    self.rows(Part { channel, batch, skip, position, snapshot }).await;
                }
            }
            SubscriptionEvent::Gap(gap) => {
                self.app.traffic.gap(&gap);
                let text = ServerMessage::gap(ID, self.from.as_deref(), &gap).text();
                self.event("gap", Some(self.id(&gap.to)), text);
            }
            SubscriptionEvent::Progress(progress) => {
                self.event("progress", None, ServerMessage::progress(channel, &progress).text());
            }
            SubscriptionEvent::Complete(why) => {
                self.event("complete", None, ServerMessage::Complete { id: ID, reason: why.word() }.text());
                self.done = true;
            }
            SubscriptionEvent::Failed(error) => self.fail(&ApiError::of_ended(&error)),
        }
    }

    async fn rows(&mut self, part: Part) {
        match self.app.frames.of(&part).await {
            Ok((frames, encoded)) => {
                if encoded {
                    self.app.traffic.encoded.fetch_add(frames.len() as u64, Relaxed);
                }
                for frame in frames.iter() {
                    self.app.traffic.sent(frame.rows, frame.text.len());
                    self.left = self.left.map(|left| left.saturating_sub(frame.rows as u64));
                    self.event("rows", Some(self.id(&frame.position)), frame.text.clone());
                }
            }
            Err(too_large) => self.fail(&ApiError::from(too_large)),
        }
    }

    /// A place to resume from.
    fn id(&self, position: &Position) -> String {
        self.left.map_or_else(|| position.to_string(), |left| format!("{position}{LEFT}{left}"))
    }

    fn fail(&mut self, error: &ApiError) {
        self.event("error", None, ServerMessage::Error { id: Some(ID), error: &error.body }.text());
        self.done = true;
    }

    /// The data is JSON without line ends, so that one `data:` line holds it.
    fn event(&mut self, kind: &str, id: Option<String>, data: impl Into<Utf8Bytes>) {
        let id = id.map_or(String::new(), |id| format!("id: {id}\n"));
        self.ready.push_back(Bytes::from(format!("event: {kind}\n{id}data: ")));
        self.ready.push_back(Bytes::from(data.into()));
        self.ready.push_back(Bytes::from_static(b"\n\n"));
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.app.traffic.subscriptions.fetch_sub(1, Relaxed);
    }
}
