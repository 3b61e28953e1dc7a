//! What happens on one socket, from `hello` to its close.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::ws::WebSocket;
use axum::http::StatusCode;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use serde_json::Value;
use squilla_engine::{EngineError, Going, Progress, Subscription, SubscriptionEvent};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Closing;
use super::change::{Changed, change};
use super::message::{ClientMessage, Limits, ParamsMessage, ServerMessage, Subscribe, Subscribed};
use super::outlet::{Control, Outlet, Turn, Wish};
use super::reader::{self, Input};
use super::writer::{Seen, WriteError, Writer};
use crate::server::App;
use crate::server::error::{ApiError, ErrorBody};
use crate::server::frame::Part;
use crate::server::limits::{
    HELLO_TIMEOUT, MISSED_HEARTBEATS, SUBSCRIPTIONS, TURN_BYTES, TURN_EVENTS, WAITING_MESSAGES,
};
use crate::server::stream_query::subscribe;
use crate::server::traffic::Present;

/// Channels of one socket's own begin here: far above the engine's, and exact in a JavaScript number.
const OWN_CHANNELS: u64 = 1 << 52;
/// Turns that are taken before what was written is flushed.
const TURNS_BEFORE_FLUSH: usize = 64;

// What they give is kept in each session while it is looked at: boxes take little room there.
type Starting = Pin<Box<dyn Future<Output = Box<Started>> + Send>>;
type Changing = Pin<Box<dyn Future<Output = (Box<Outlet>, Wish, Result<Box<Changed>, ApiError>)> + Send>>;
type Waiting = Pin<Box<dyn Future<Output = (Box<Outlet>, Turn)> + Send>>;

/// What became of a wish to subscribe.
struct Started {
    wanted: Subscribe,
    subscription: Result<Subscription, ApiError>,
}

/// Why a session is over.
enum Over {
    /// We close the socket.
    Close(Closing),
    /// The client has left.
    Left,
}

impl From<WriteError> for Over {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Left => Self::Left,
            WriteError::Silent => Self::Close(silent()),
        }
    }
}

fn silent() -> Closing {
    Closing::new(4408, "no sign of life in time")
}

/// Serves one socket until it closes. All that belongs to it ends with this future.
pub(super) async fn run(socket: WebSocket, app: Arc<App>) {
    let _present = Present::new(&app.traffic.sockets);
    let (sink, stream) = socket.split();
    let (inputs, from_client) = mpsc::channel(WAITING_MESSAGES);
    let seen = Arc::new(Seen::now());
    let writer = Writer::new(sink, seen.clone(), app.heartbeat * MISSED_HEARTBEATS);
    let session = Session {
        app: app.clone(),
        writer,
        from_client,
        active: HashMap::new(),
        channels: HashSet::new(),
        own_channels: 0,
        starting: FuturesUnordered::new(),
        waiting: FuturesUnordered::new(),
        changing: FuturesUnordered::new(),
    };
    let reading = reader::run(stream, inputs, seen);
    let mut serving = std::pin::pin!(session.serve());
    tokio::select! {
        biased;
        () = &mut serving => {}
        // The reader's last word waits for the session.
        () = reading => serving.await,
    }
}

struct Session {
    app: Arc<App>,
    writer: Writer,
    from_client: mpsc::Receiver<Box<Input>>,
    /// Subscriptions that start or run, by the client's id.
    active: HashMap<String, Arc<Control>>,
    /// Channels of this socket.
    channels: HashSet<u64>,
    own_channels: u64,
    starting: FuturesUnordered<Starting>,
    waiting: FuturesUnordered<Waiting>,
    /// Subscriptions whose parameters change: nothing of them is told meanwhile.
    changing: FuturesUnordered<Changing>,
}

impl Session {
    async fn serve(mut self) {
        let over = match self.greet().await {
            Ok(()) => self.converse().await,
            Err(over) => over,
        };
        if let Over::Close(closing) = over {
            tracing::debug!(code = closing.code, reason = closing.reason, "closing a socket");
            self.writer.close(&closing).await;
        }
    }

    async fn greet(&mut self) -> Result<(), Over> {
        let first = tokio::select! {
            input = tokio::time::timeout(HELLO_TIMEOUT, self.from_client.recv()) => input,
            () = self.app.drain.cancelled() => return Err(Over::Close(Closing::stopping())),
        };
        match first.map(|input| input.map(|input| *input)) {
            Err(_) => Err(Over::Close(Closing::new(4408, "no hello in time"))),
            Ok(Some(Input::Message(ClientMessage::Hello { .. }))) => {
                let heartbeat_ms = u64::try_from(self.app.heartbeat.as_millis()).unwrap_or(u64::MAX);
                let welcome = ServerMessage::Welcome { limits: Limits::OURS, heartbeat_ms };
                self.writer.feed(welcome.text()).await?;
                Ok(self.writer.flush().await?)
            }
            Ok(Some(Input::Message(_))) => Err(Over::Close(Closing::new(4401, "say hello first"))),
            Ok(Some(Input::Wrong(closing))) => Err(Over::Close(closing)),
            Ok(Some(Input::Left) | None) => Err(Over::Left),
        }
    }

    async fn converse(&mut self) -> Over {
        let heartbeat = self.app.heartbeat;
        let mut heartbeats = interval_at(Instant::now() + heartbeat, heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // All sockets wait for it: entered once, and not at every turn.
        let mut drain = std::pin::pin!(self.app.drain.clone().cancelled_owned());
        loop {
            let done = tokio::select! {
                () = &mut drain => return Over::Close(Closing::stopping()),
                // Of thousands of sessions nearly all wait: what they do when something happens takes no room in them.
                input = self.from_client.recv() => Box::pin(self.hear(input)).await,
                Some(started) = self.starting.next() => Box::pin(self.started(started)).await,
                Some((outlet, turn)) = self.waiting.next() => Box::pin(self.turns(outlet, turn)).await,
                Some((outlet, wish, changed)) = self.changing.next() => {
                    Box::pin(self.changed(outlet, wish, changed)).await
                }
                _ = heartbeats.tick() => {
                    if self.writer.is_silent() {
                        return Over::Close(silent());
                    }
                    Box::pin(self.writer.ping()).await.map_err(Over::from)
                }
            };
            if let Err(over) = done {
                return over;
            }
        }
    }

    async fn hear(&mut self, input: Option<Box<Input>>) -> Result<(), Over> {
        match input.map(|input| *input) {
            Some(Input::Message(ClientMessage::Subscribe(wanted))) => self.begin(*wanted).await,
            Some(Input::Message(ClientMessage::Credit { id, bytes })) => {
                // The subscription may have ended while this was on its way.
                if let Some(control) = self.active.get(&id) {
                    control.grant(bytes);
                }
                Ok(())
            }
            Some(Input::Message(ClientMessage::Pause { id })) => {
                self.steer(&id, Going::Paused);
                Ok(())
            }
            Some(Input::Message(ClientMessage::Continue { id })) => {
                self.steer(&id, Going::On);
                Ok(())
            }
            Some(Input::Message(ClientMessage::Step { id, rows })) => {
                self.steer(&id, Going::Steps(rows));
                Ok(())
            }
            Some(Input::Message(ClientMessage::SetParams { id, params })) => {
                if let Some(control) = self.active.get(&id) {
                    let Some(Value::Object(values)) = params else {
                        return Err(Over::Close(Closing::new(4400, "params of set_params is not an object")));
                    };
                    control.set_params(values);
                }
                Ok(())
            }
            Some(Input::Message(ClientMessage::Unsubscribe { id })) => {
                if let Some(control) = self.active.get(&id) {
                    control.end();
                }
                Ok(())
            }
            Some(Input::Message(ClientMessage::Hello { .. })) => {
                Err(Over::Close(Closing::new(4429, "hello was said before")))
            }
            Some(Input::Wrong(closing)) => Err(Over::Close(closing)),
            Some(Input::Left) | None => Err(Over::Left),
        }
    }

    /// The subscription may have ended while this was on its way.
    fn steer(&self, id: &str, going: Going) {
        if let Some(control) = self.active.get(id) {
            control.steer(going);
        }
    }

    async fn begin(&mut self, wanted: Subscribe) -> Result<(), Over> {
        if self.active.contains_key(&wanted.id) {
            let shown: String = wanted.id.chars().take(60).collect();
            return Err(Over::Close(Closing::new(4409, format!("subscription \"{shown}\" runs already"))));
        }
        if self.active.len() >= SUBSCRIPTIONS {
            let message = format!("limit of {SUBSCRIPTIONS} subscriptions on a socket reached");
            let error =
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "limit", message).help("end some, or open another socket");
            return self.tell_error(&wanted.id, &error.body).await;
        }
        self.active.insert(wanted.id.clone(), Arc::new(Control::new(wanted.credit)));
        let app = self.app.clone();
        self.starting.push(Box::pin(async move {
            let subscription = subscribe(&app, wanted.query()).await;
            Box::new(Started { wanted, subscription })
        }));
        Ok(())
    }

    async fn started(&mut self, started: Box<Started>) -> Result<(), Over> {
        let Started { wanted, subscription } = *started;
        let control = self.active.get(&wanted.id).expect("a starting subscription is active").clone();
        let subscription = match subscription {
            Ok(subscription) => subscription,
            Err(error) => {
                self.active.remove(&wanted.id);
                return self.tell_error(&wanted.id, &error.body).await;
            }
        };
        let channel = self.take_channel(&subscription);
        let subscribed = Subscribed::new(&wanted.id, channel, subscription.info());
        let message = ServerMessage::Subscribed(Box::new(subscribed)).text();
        self.app.traffic.subscriptions.fetch_add(1, Relaxed);
        let outlet = Box::new(Outlet {
            channel,
            position: subscription.info().position.clone(),
            wanted: wanted.query(),
            id: wanted.id,
            snapshot: wanted.snapshot.unwrap_or(true),
            _began: self.app.running.enter(&subscription.info().query, &control),
            entered: None,
            control,
            subscription,
            pending: VecDeque::new(),
            part: None,
        });
        self.waiting.push(Box::pin(outlet.turn()));
        self.writer.feed(message).await?;
        Ok(self.writer.flush().await?)
    }

    /// A channel for a subscription: its job's, unless another of this socket has it.
    fn take_channel(&mut self, subscription: &Subscription) -> u64 {
        let mut channel = subscription.info().channel;
        if self.channels.contains(&channel) {
            channel = OWN_CHANNELS + self.own_channels;
            self.own_channels += 1;
        }
        self.channels.insert(channel);
        channel
    }

    /// Parameters have other values, or keep theirs; the subscription goes on.
    async fn changed(
        &mut self,
        mut outlet: Box<Outlet>,
        wish: Wish,
        changed: Result<Box<Changed>, ApiError>,
    ) -> Result<(), Over> {
        let refused = match changed {
            Ok(changed) => {
                let Changed { mut subscription, wanted } = *changed;
                if let left @ Going::Steps(_) = outlet.subscription.going() {
                    // It begins paused, and so can be steered.
                    let _ = subscription.steer(left);
                }
                self.channels.remove(&outlet.channel);
                outlet.channel = self.take_channel(&subscription);
                std::mem::replace(&mut outlet.subscription, subscription).unsubscribe();
                outlet.wanted = wanted;
                outlet.position = outlet.position.before_batches();
                let entered = self.app.running.enter(&outlet.subscription.info().query, &outlet.control);
                outlet.entered = Some(Box::new(entered));
                None
            }
            Err(error) => Some(error),
        };
        let message = ServerMessage::Params(Box::new(ParamsMessage {
            id: &outlet.id,
            channel: outlet.channel,
            position: &outlet.position,
            params: &outlet.wanted.params,
            query: &outlet.subscription.info().query,
            error: refused.as_ref().map(|error| error.body.as_ref()),
        }));
        let message = message.text();
        for asked_by in wish.asked_by {
            let answer = match &refused {
                Some(error) => Err(error.clone()),
                None => Ok(outlet.reader()),
            };
            // Whoever asked may have gone.
            let _ = asked_by.send(answer);
        }
        self.waiting.push(Box::pin(outlet.turn()));
        self.writer.feed(message).await?;
        Ok(self.writer.flush().await?)
    }

    /// Takes a turn, and those of others that are ready too, before what was written is flushed.
    async fn turns(&mut self, outlet: Box<Outlet>, turn: Turn) -> Result<(), Over> {
        self.turn(outlet, turn).await?;
        for _ in 1..TURNS_BEFORE_FLUSH {
            let Some(Some((outlet, turn))) = self.waiting.next().now_or_never() else { break };
            self.turn(outlet, turn).await?;
        }
        Ok(self.writer.flush().await?)
    }

    async fn turn(&mut self, mut outlet: Box<Outlet>, turn: Turn) -> Result<(), Over> {
        let mut sent = 0;
        let mut goes_on = match turn {
            Turn::Ended => {
                let ended = ServerMessage::Complete { id: &outlet.id, reason: "unsubscribed" }.text();
                self.forget(&outlet);
                outlet.subscription.unsubscribe();
                return Ok(self.writer.feed(ended).await?);
            }
            Turn::Params(wish) => {
                self.changing.push(Box::pin(change(self.app.clone(), outlet, wish)));
                return Ok(());
            }
            Turn::Stands(stand) => {
                self.writer.feed(ServerMessage::pace(&outlet.id, &stand, None).text()).await?;
                true
            }
            Turn::NotSteered(error) => {
                let stand = outlet.subscription.stand();
                self.writer.feed(ServerMessage::pace(&outlet.id, &stand, Some(&error.body)).text()).await?;
                true
            }
            Turn::Pending => true,
            Turn::Event(event) => self.tell(&mut outlet, event).await?,
        };
        sent += self.send_pending(&mut outlet).await?;
        for _ in 1..TURN_EVENTS {
            if !goes_on || sent >= TURN_BYTES {
                break;
            }
            let Some(event) = outlet.try_event() else { break };
            goes_on = self.tell(&mut outlet, event).await?;
            sent += self.send_pending(&mut outlet).await?;
        }
        if goes_on {
            self.waiting.push(Box::pin(outlet.turn()));
        } else {
            self.forget(&outlet);
        }
        if sent >= TURN_BYTES {
            // There is more, of history most often: other sockets have their turn too.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Tells an event, rows aside, which become pending; false when the subscription is over.
    async fn tell(&mut self, outlet: &mut Outlet, event: SubscriptionEvent) -> Result<bool, Over> {
        if let SubscriptionEvent::Rows { position, .. } | SubscriptionEvent::Progress(Progress { position, .. }) =
            &event
        {
            outlet.position = position.clone();
        }
        let (message, goes_on) = match event {
            SubscriptionEvent::Rows { batch, skip, position, snapshot } => {
                if (snapshot && !outlet.snapshot) || skip >= batch.rows.num_rows() {
                    return Ok(true);
                }
                let part = Part { channel: outlet.channel, batch, skip, position, snapshot };
                match self.app.frames.of(&part).await {
                    Ok((frames, encoded)) => {
                        self.app.traffic.encoded.fetch_add(if encoded { frames.len() as u64 } else { 0 }, Relaxed);
                        outlet.pending.extend(frames.iter().cloned());
                        outlet.part = Some(part);
                        return Ok(true);
                    }
                    Err(too_large) => {
                        self.tell_error(&outlet.id, &ApiError::from(too_large).body).await?;
                        return Ok(false);
                    }
                }
            }
            SubscriptionEvent::Gap(gap) => {
                self.app.traffic.gap(&gap);
                (ServerMessage::gap(&outlet.id, outlet.wanted.from.as_deref(), &gap).text(), true)
            }
            SubscriptionEvent::Progress(progress) => (ServerMessage::progress(outlet.channel, &progress).text(), true),
            SubscriptionEvent::Complete(why) => {
                (ServerMessage::Complete { id: &outlet.id, reason: why.word() }.text(), false)
            }
            SubscriptionEvent::Failed(error) => {
                self.tell_error(&outlet.id, &ApiError::of_ended(&error).body).await?;
                if matches!(*error, EngineError::TooSlow { .. }) {
                    return Err(Over::Close(Closing::new(4008, "slower than the policy disconnect allows")));
                }
                return Ok(false);
            }
        };
        self.writer.feed(message).await?;
        Ok(goes_on)
    }

    /// Sends pending frames as far as credit goes; how many bytes.
    async fn send_pending(&mut self, outlet: &mut Outlet) -> Result<usize, Over> {
        let mut sent = 0;
        while let Some(frame) = outlet.take_frame() {
            sent += frame.text.len();
            self.app.traffic.sent(frame.rows, frame.text.len());
            self.writer.feed(frame.text).await?;
        }
        Ok(sent)
    }

    async fn tell_error(&mut self, id: &str, error: &ErrorBody) -> Result<(), Over> {
        self.writer.feed(ServerMessage::Error { id: Some(id), error }.text()).await?;
        Ok(self.writer.flush().await?)
    }

    fn forget(&mut self, outlet: &Outlet) {
        self.active.remove(&outlet.id);
        self.channels.remove(&outlet.channel);
        self.app.traffic.subscriptions.fetch_sub(1, Relaxed);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let left = i64::try_from(self.waiting.len() + self.changing.len()).expect("a socket has few subscriptions");
        self.app.traffic.subscriptions.fetch_sub(left, Relaxed);
    }
}
