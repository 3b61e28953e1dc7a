//! Time, injected: nothing in the engine asks the machine for it by another way.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A moment, in nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventTime(pub i64);

impl EventTime {
    /// Before every event: the watermark of a stream that has none yet.
    pub const MIN: Self = Self(i64::MIN);
    /// After every event: the watermark of a stream that has ended.
    pub const MAX: Self = Self(i64::MAX);

    /// This moment moved by nanoseconds, kept within the range.
    #[must_use]
    pub fn plus(self, nanoseconds: i64) -> Self {
        Self(self.0.saturating_add(nanoseconds))
    }
}

/// The wall clock.
#[async_trait]
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now.
    fn now(&self) -> EventTime;

    /// Returns once [`Clock::now`] has reached the moment.
    async fn sleep_until(&self, moment: EventTime);
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> EventTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        EventTime(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    async fn sleep_until(&self, moment: EventTime) {
        let wait = moment.0.saturating_sub(self.now().0);
        if wait > 0 {
            tokio::time::sleep(Duration::from_nanos(wait.unsigned_abs())).await;
        }
    }
}

/// A clock that stands still until it is told to move, for tests.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<EventTime>,
}

impl ManualClock {
    /// A clock that shows `start`.
    pub fn new(start: EventTime) -> Self {
        Self { now: watch::Sender::new(start) }
    }

    /// Moves the clock on and wakes whoever waits for a moment passed. A clock never goes back.
    ///
    /// # Panics
    /// If `now` is before the time the clock shows.
    pub fn set(&self, now: EventTime) {
        self.now.send_modify(|shown| {
            assert!(now >= *shown, "a clock never goes back");
            *shown = now;
        });
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> EventTime {
        *self.now.borrow()
    }

    async fn sleep_until(&self, moment: EventTime) {
        let mut shown = self.now.subscribe();
        // The sender lives as long as the clock, which the caller holds.
        let _ = shown.wait_for(|now| *now >= moment).await;
    }
}
