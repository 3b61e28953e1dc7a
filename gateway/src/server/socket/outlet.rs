//! One subscription of a socket: waits for its next event while it has credit.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value};
use squilla_engine::{Going, Position, Stand, Subscription, SubscriptionEvent};
use tokio::sync::{Notify, oneshot};

use super::running::Entered;
use crate::server::error::ApiError;
use crate::server::frame::{Frame, Part};
use crate::server::rest::params::Reader;
use crate::server::stream_query::Wanted;

/// Other values that parameters are to have.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// By name.
    pub(super) values: Map<String, Value>,
    /// Those beside the client who want to know what became of it.
    pub(super) asked_by: Vec<oneshot::Sender<Result<Reader, ApiError>>>,
}

/// What the client changes about a subscription while it runs.
#[derive(Debug)]
pub(super) struct Control {
    /// Bytes that may still be sent; below zero when the last frame has overdrawn it.
    credit: AtomicI64,
    /// Without this there is no limit.
    limited: bool,
    ended: AtomicBool,
    /// Values that parameters are to have, not yet looked at.
    params: Mutex<Option<Wish>>,
    /// How it is to go on, not yet done.
    going: Mutex<Option<Going>>,
    changed: Notify,
}

impl Control {
    /// `credit`: see [`super::message::Subscribe::credit`].
    pub(super) fn new(credit: Option<u64>) -> Self {
        Self {
            credit: AtomicI64::new(clamp(credit.unwrap_or(0))),
            limited: credit.is_some(),
            ended: AtomicBool::new(false),
            params: Mutex::default(),
            going: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Grants more.
    pub(super) fn grant(&self, bytes: u64) {
        let more = |credit: i64| Some(credit.saturating_add(clamp(bytes)));
        // The closure never refuses.
        let _ = self.credit.fetch_update(SeqCst, SeqCst, more);
        self.changed.notify_one();
    }

    /// Parameters are to have other values; of those given one behind the other the last ones.
    pub(super) fn set_params(&self, values: Map<String, Value>) {
        self.wish(values, None);
    }

    /// The same on behalf of someone else, who hears what became of it; of nothing when the subscription ends.
    pub(super) fn ask_params(&self, values: Map<String, Value>) -> oneshot::Receiver<Result<Reader, ApiError>> {
        let (tell, told) = oneshot::channel();
        self.wish(values, Some(tell));
        told
    }

    fn wish(&self, values: Map<String, Value>, asked_by: Option<oneshot::Sender<Result<Reader, ApiError>>>) {
        let mut params = self.params.lock().expect("no holder of this lock panics");
        let wish = params.get_or_insert_default();
        wish.values.extend(values);
        wish.asked_by.retain(|asked| !asked.is_closed());
        wish.asked_by.extend(asked_by);
        drop(params);
        self.changed.notify_one();
    }

    fn take_params(&self) -> Option<Wish> {
        self.params.lock().expect("no holder of this lock panics").take()
    }

    /// A replay is to stand, to go on, or to come by so many rows. Of what comes before anything is done the last
    /// counts; steps add up.
    pub(super) fn steer(&self, going: Going) {
        let mut wanted = self.going.lock().expect("no holder of this lock panics");
        *wanted = Some(match (*wanted, going) {
            (Some(Going::Steps(rows)), Going::Steps(more)) => Going::Steps(rows.saturating_add(more)),
            _ => going,
        });
        drop(wanted);
        self.changed.notify_one();
    }

    fn is_steered(&self) -> bool {
        self.going.lock().expect("no holder of this lock panics").is_some()
    }

    fn take_going(&self) -> Option<Going> {
        self.going.lock().expect("no holder of this lock panics").take()
    }

    /// The client wants no more.
    pub(super) fn end(&self) {
        self.ended.store(true, SeqCst);
        self.changed.notify_one();
    }

    /// True when the client wants no more.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.load(SeqCst)
    }

    fn may_send(&self) -> bool {
        !self.limited || self.credit.load(SeqCst) > 0
    }

    fn spend(&self, bytes: usize) {
        if self.limited {
            self.credit.fetch_sub(clamp(bytes as u64), SeqCst);
        }
    }
}

/// No client has use for more credit than this.
fn clamp(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A running subscription and what is still to be sent of its last batch.
pub(super) struct Outlet {
    pub(super) id: String,
    pub(super) channel: u64,
    /// What the client asked for; after a change of parameters, with the values and from where they are those.
    pub(super) wanted: Wanted,
    /// Behind what was told last.
    pub(super) position: Position,
    /// The client wants snapshots.
    pub(super) snapshot: bool,
    pub(super) control: Arc<Control>,
    /// Known as the reader of the query that it was at first, under whose id it is found from then on.
    pub(super) _began: Entered,
    /// Since its parameters changed, known as the reader of the query that it is now.
    pub(super) entered: Option<Box<Entered>>,
    pub(super) subscription: Subscription,
    /// Frames of the last batch, for want of credit not sent.
    pub(super) pending: VecDeque<Frame>,
    /// What the pending frames are of; those of its rows that it skips have been sent.
    pub(super) part: Option<Part>,
}

/// Why an outlet has its turn.
pub(super) enum Turn {
    /// There is credit for frames that are pending.
    Pending,
    /// Something happened.
    Event(SubscriptionEvent),
    /// Parameters are to have other values.
    Params(Wish),
    /// It stands, or goes on again.
    Stands(Stand),
    /// It was to stand or go on, and does not.
    NotSteered(ApiError),
    /// The client wants no more.
    Ended,
}

impl Outlet {
    /// Waits for the next turn. Dropping the future drops the subscription.
    pub(super) async fn turn(mut self: Box<Self>) -> (Box<Self>, Turn) {
        let control = self.control.clone();
        loop {
            if control.is_ended() {
                return (self, Turn::Ended);
            }
            if let Err(error) = self.steer() {
                return (self, Turn::NotSteered(error));
            }
            if self.pending.is_empty()
                && let Some(stand) = self.subscription.take_stand()
            {
                return (self, Turn::Stands(stand));
            }
            if !control.may_send() {
                control.changed.notified().await;
                continue;
            }
            if !self.pending.is_empty() {
                return (self, Turn::Pending);
            }
            if let Some(wish) = control.take_params() {
                return (self, Turn::Params(wish));
            }
            tokio::select! {
                biased;
                () = control.changed.notified() => {}
                event = self.subscription.next() => return (self, Turn::Event(event)),
            }
        }
    }

    /// Does as the client wishes. Frames that were not sent are taken back, so that rows are counted from the first that
    /// the client does not have.
    fn steer(&mut self) -> Result<(), ApiError> {
        let Some(going) = self.control.take_going() else { return Ok(()) };
        let ran = self.subscription.going() == Going::On;
        self.subscription.steer(going).map_err(|error| ApiError::from(&error))?;
        // Those of a step are wanted still, unless it was to stop.
        if (going == Going::Paused || ran && going != Going::On)
            && !self.pending.is_empty()
            && let Some(part) = self.part.take()
        {
            self.pending.clear();
            let told = part.position_at(part.skip);
            self.position = told.clone();
            self.subscription.put_back(part.batch, part.skip, part.position, told);
        }
        Ok(())
    }

    /// What it reads now, and with which values.
    pub(super) fn reader(&self) -> Reader {
        Reader {
            query: self.subscription.info().query.clone(),
            position: self.position.to_string(),
            params: self.wanted.params.clone(),
        }
    }

    /// The next pending frame, if there is credit for it, which is then spent.
    pub(super) fn take_frame(&mut self) -> Option<Frame> {
        if !self.control.may_send() {
            return None;
        }
        let frame = self.pending.pop_front()?;
        self.control.spend(frame.text.len());
        if let Some(part) = &mut self.part {
            part.skip += frame.rows;
        }
        Some(frame)
    }

    /// The next event, if it is there and may be sent.
    pub(super) fn try_event(&mut self) -> Option<SubscriptionEvent> {
        if self.control.is_ended() || !self.control.may_send() || !self.pending.is_empty() || self.control.is_steered()
        {
            return None;
        }
        self.subscription.try_next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_spent_and_granted() {
        let control = Control::new(Some(100));
        assert!(control.may_send());
        control.spend(150);
        assert!(!control.may_send());
        control.grant(50);
        assert!(!control.may_send());
        control.grant(1);
        assert!(control.may_send());
        control.grant(u64::MAX);
        assert!(control.may_send());
        let unlimited = Control::new(None);
        unlimited.spend(usize::MAX);
        assert!(unlimited.may_send());
    }
}
