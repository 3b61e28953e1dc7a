//! A canary: a row a second goes the whole way that users' rows go, and how long that took is measured.
//!
//! It is published, decoded, logged, filtered by a job and encoded for a subscription. What is slow or stuck on the way
//! shows in its delay, or in rows that do not come.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use squilla_engine::{Subscription, SubscriptionEvent};
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use super::App;
use super::frame::{Frames, Part};
use crate::service::{Refusal, Service};

/// The stream.
pub(crate) const NAME: &str = "squilla_canary";
const CREATE: &str = "CREATE SOURCE squilla_canary (n BIGINT, sent TIMESTAMP) \
    WITH (connector = 'http', retention = '1m', retention_size = '1MiB')";
/// A filter, so that a job runs for it.
const QUERY: &str = "SELECT n, sent FROM squilla_canary WHERE n >= 0";
/// How often a row goes.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a row may take until it is counted as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rows that are under way at the most; see `INTERVAL` and `PATIENCE`.
const UNDER_WAY: usize = 16;
/// Bounds of the delays that are counted, in seconds.
const BOUNDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What has been measured.
#[derive(Debug, Default)]
pub(crate) struct Canary(Mutex<Measured>);

/// See [`Canary`].
#[derive(Debug, Default, Clone)]
pub(crate) struct Measured {
    /// Rows published.
    pub(crate) sent: u64,
    /// Rows that came, by the bounds of their delay; the last is beyond all.
    counts: [u64; BOUNDS.len() + 1],
    /// All delays together, in seconds.
    sum: f64,
    /// The last row's.
    pub(crate) last: Option<Duration>,
    /// Rows that did not come in time, or were not taken.
    pub(crate) lost: u64,
    under_way: VecDeque<(u64, Instant)>,
}

impl Canary {
    /// What has been measured so far.
    pub(crate) fn measured(&self) -> Measured {
        self.state().clone()
    }

    /// A row is to go; its number.
    fn send(&self, now: Instant) -> u64 {
        let mut state = self.state();
        state.give_up(now);
        let number = state.sent;
        state.sent += 1;
        state.under_way.push_back((number, now));
        number
    }

    /// A row came.
    fn came(&self, number: u64, now: Instant) {
        let mut state = self.state();
        let Some(at) = state.under_way.iter().position(|(waiting, _)| *waiting == number) else { return };
        let Some((_, sent)) = state.under_way.remove(at) else { return };
        let delay = now.saturating_duration_since(sent);
        let seconds = delay.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        state.counts[bucket] += 1;
        state.sum += seconds;
        state.last = Some(delay);
    }

    /// A row was not taken.
    fn refused(&self, number: u64) {
        let mut state = self.state();
        state.under_way.retain(|(waiting, _)| *waiting != number);
        state.lost += 1;
    }

    fn state(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl Measured {
    /// Rows that came.
    pub(crate) fn seen(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn give_up(&mut self, now: Instant) {
        let late = |sent: Instant| now.saturating_duration_since(sent) > PATIENCE;
        while self.under_way.len() >= UNDER_WAY || self.under_way.front().is_some_and(|(_, sent)| late(*sent)) {
            self.under_way.pop_front();
            self.lost += 1;
        }
    }

    /// Its bounds in seconds, each with the rows that took no longer, as Prometheus counts them.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (String, u64)> {
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut below = 0;
        bounds.zip(self.counts).map(move |(bound, count)| {
            below += count;
            (bound, below)
        })
    }

    /// All delays together, in seconds.
    pub(crate) fn sum(&self) -> f64 {
        self.sum
    }

    /// In a line.
    pub(crate) fn summary(&self) -> String {
        let mut line = format!("canary: {} of {} rows came, {} were lost", self.seen(), self.sent, self.lost);
        if let Some(last) = self.last {
            write!(line, "; the last took {:.1} ms", last.as_secs_f64() * 1e3).expect("a string takes all");
        }
        line
    }
}

/// Starts it; it ends with what is given back. `None`: it cannot run, which is logged.
pub(super) async fn start(app: &Arc<App>) -> Option<AbortOnDropHandle<()>> {
    let opened = async {
        app.service.create_system_source(CREATE).await?;
        app.service.subscribe_system(QUERY).await
    };
    let subscription: Result<Subscription, Refusal> = opened.await;
    match subscription {
        Ok(subscription) => Some(AbortOnDropHandle::new(tokio::spawn(run(app.clone(), subscription)))),
        Err(refusal) => {
            tracing::warn!(reason = %refusal, "the canary does not run");
            None
        }
    }
}

async fn run(app: Arc<App>, subscription: Subscription) {
    tokio::join!(send(&app.service, &app.canary), watch(&app.frames, &app.canary, subscription));
}

async fn send(service: &Service, canary: &Canary) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let number = canary.send(Instant::now());
        let sent_ms = service.sources().clock.now().0 / 1_000_000;
        let row = format!("{{\"n\":{number},\"sent\":{sent_ms}}}");
        if let Err(error) = service.sources().publishers.publish(NAME, row.into()).await {
            tracing::warn!(%error, "the canary's row was not taken");
            canary.refused(number);
        }
    }
}

async fn watch(frames: &Frames, canary: &Canary, mut subscription: Subscription) {
    let channel = subscription.info().channel;
    loop {
        match subscription.next().await {
            SubscriptionEvent::Rows { batch, skip, position, snapshot } => {
                let numbers = batch.rows.column(0).as_primitive::<Int64Type>().values()[skip..].to_vec();
                let part = Part { channel, batch, skip, position, snapshot };
                if frames.of(&part).await.is_ok() {
                    let now = Instant::now();
                    numbers.iter().for_each(|number| canary.came(number.cast_unsigned(), now));
                }
            }
            SubscriptionEvent::Failed(error) => {
                tracing::warn!(%error, "the canary's query has ended");
                return;
            }
            SubscriptionEvent::Complete(_) => return,
            SubscriptionEvent::Gap(_) | SubscriptionEvent::Progress(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_seen_or_lost_and_what_is_under_way_is_bounded() {
        let canary = Canary::default();
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        assert_eq!(canary.send(at(0.0)), 0);
        canary.came(0, at(0.003));
        canary.came(0, at(5.0));
        canary.came(77, at(5.0));
        assert_eq!(canary.send(at(1.0)), 1);
        canary.refused(1);
        for second in 2..40 {
            canary.send(at(f64::from(second)));
        }
        canary.came(2, at(40.0));
        canary.came(39, at(59.0));
        let measured = canary.measured();
        assert_eq!((measured.sent, measured.seen()), (40, 2), "a row that comes too late was lost");
        assert_eq!(measured.sent, measured.seen() + measured.lost + measured.under_way.len() as u64);
        assert!(measured.under_way.len() < UNDER_WAY);
        let buckets: Vec<(String, u64)> = measured.buckets().collect();
        assert_eq!((buckets[1].clone(), buckets[2].clone()), (("0.0025".to_owned(), 0), ("0.005".to_owned(), 1)));
        assert_eq!((buckets[12].clone(), buckets[13].clone()), (("10".to_owned(), 1), ("+Inf".to_owned(), 2)));
        assert!((measured.sum() - 20.003).abs() < 1e-6);
        assert!(measured.summary().starts_with("canary: 2 of 40 rows came, "), "{}", measured.summary());
    }
}
