//! Wakes those who wait for a stream to change.
//!
//! Who waits for more leaves a waker, which costs one short lock and no task, timer or channel. One who waits is woken at
//! once. Waking a crowd takes long, and most of all it has each of them look at its place again: when changes are small and
//! come quickly, a crowd that has just been woken is woken again moments later, for all that has come by then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::wakes;

/// So many who wait are a crowd: fewer are woken at once.
const CROWD: usize = 64;
/// How long a crowd is left alone since it was woken, for each in it: some times what it costs to wake one and have it
/// read, so that this takes a part of the time only.
const REST_EACH: Duration = Duration::from_micros(10);
/// The same for all, at the most.
const REST: Duration = Duration::from_millis(10);
/// Bytes for which a crowd is woken whenever they come.
const REST_BYTES: usize = 256 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Bell {
    /// How often it has rung.
    rung: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    wakers: Vec<Option<Waker>>,
    /// The runtime of whoever waited first.
    home: Option<Handle>,
    /// Places of those who have gone.
    free: Vec<usize>,
    /// Until when a crowd is left alone; `None`: there was none.
    rests: Option<Instant>,
    /// It rings then, and so many bytes have come meanwhile.
    due: bool,
    bytes: usize,
}

/// A place among those who wait.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// Where its waker is, and how often the bell had rung then; `None`: it has left none.
    place: Option<(u64, usize)>,
}

impl Bell {
    /// How often it has rung: to be read before one looks for what is new.
    pub(super) fn rung(&self) -> u64 {
        self.rung.load(Ordering::Acquire)
    }

    /// Leaves a waker, unless it has rung since. Ready: it has.
    pub(super) fn wait(&self, listener: &mut Listener, rung: u64, waker: &Waker) -> Poll<()> {
        let mut waiting = self.waiting();
        if self.rung.load(Ordering::Relaxed) != rung {
            listener.place = None;
            return Poll::Ready(());
        }
        if let Some((_, at)) = listener.place.filter(|(then, _)| *then == rung) {
            let known = &mut waiting.wakers[at];
            if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
                *known = Some(waker.clone());
            }
            return Poll::Pending;
        }
        if waiting.home.is_none() {
            waiting.home = Handle::try_current().ok();
        }
        let at = match waiting.free.pop() {
            Some(at) => {
                waiting.wakers[at] = Some(waker.clone());
                at
            }
            None => {
                waiting.wakers.push(Some(waker.clone()));
                waiting.wakers.len() - 1
            }
        };
        listener.place = Some((rung, at));
        Poll::Pending
    }

    /// Who waited does so no longer.
    pub(super) fn leave(&self, listener: &mut Listener) {
        let Some((rung, at)) = listener.place.take() else { return };
        let mut waiting = self.waiting();
        if self.rung.load(Ordering::Relaxed) == rung {
            waiting.wakers[at] = None;
            waiting.free.push(at);
        }
    }

    /// Something has come, of so many bytes.
    pub(super) fn ring(self: &Arc<Self>, bytes: usize) {
        let mut waiting = self.waiting();
        if waiting.wakers.len() < CROWD {
            return self.wake(waiting);
        }
        waiting.bytes += bytes;
        let now = Instant::now();
        let Some(rests) = waiting.rests.filter(|rests| *rests > now && waiting.bytes < REST_BYTES) else {
            return self.wake(waiting);
        };
        if waiting.due {
            return;
        }
        // Where there is no runtime nothing waits.
        let Ok(runtime) = Handle::try_current() else { return self.wake(waiting) };
        waiting.due = true;
        drop(waiting);
        let bell = self.clone();
        runtime.spawn(async move {
            tokio::time::sleep_until(rests).await;
            let waiting = bell.waiting();
            if waiting.due {
                bell.wake(waiting);
            }
        });
    }

    /// Wakes all who wait, crowd or not.
    pub(super) fn ring_now(&self) {
        self.wake(self.waiting());
    }

    fn wake(&self, mut waiting: MutexGuard<'_, Waiting>) {
        // What was said before is seen by whoever sees that it has rung.
        self.rung.fetch_add(1, Ordering::Release);
        (waiting.due, waiting.bytes) = (false, 0);
        waiting.free.clear();
        // Most often it is one, whose room is kept.
        if waiting.wakers.len() <= 1 {
            let only = waiting.wakers.pop().flatten();
            let home = waiting.home.clone();
            drop(waiting);
            return wakes::wake(home, only.into_iter());
        }
        let room = Vec::with_capacity(waiting.wakers.len());
        let woken = std::mem::replace(&mut waiting.wakers, room);
        if woken.len() >= CROWD {
            let count = u32::try_from(woken.len()).unwrap_or(u32::MAX);
            waiting.rests = Some(Instant::now() + REST_EACH.saturating_mul(count).min(REST));
        }
        let home = waiting.home.clone();
        drop(waiting);
        wakes::wake(home, woken.into_iter().flatten());
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use tokio::sync::Notify;

    use super::*;

    #[derive(Default)]
    struct Woken {
        count: AtomicUsize,
        more: Notify,
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.count.fetch_add(1, Ordering::Relaxed);
            self.more.notify_one();
        }
    }

    impl Woken {
        fn count(&self) -> usize {
            self.count.load(Ordering::Relaxed)
        }
    }

    fn crowd(bell: &Bell, listeners: &mut [Listener], waker: &Waker) {
        let rung = bell.rung();
        assert!(listeners.iter_mut().all(|listener| bell.wait(listener, rung, waker).is_pending()));
    }

    #[test]
    fn who_waits_is_woken_once_and_who_looked_before_is_told_so() {
        let (bell, woken) = (Arc::<Bell>::default(), Arc::<Woken>::default());
        let waker = Waker::from(woken.clone());
        let mut listener = Listener::default();
        let before = bell.rung();
        // Twice: it is polled again for another reason.
        assert!(bell.wait(&mut listener, before, &waker).is_pending());
        assert!(bell.wait(&mut listener, before, &waker).is_pending());
        bell.ring(1);
        bell.ring(1);
        assert_eq!(woken.count(), 1);
        assert!(bell.wait(&mut listener, before, &waker).is_ready(), "it rang since");
        assert!(bell.wait(&mut listener, bell.rung(), &waker).is_pending());
    }

    #[test]
    fn who_leaves_is_not_woken_and_leaves_no_place_behind() {
        let (bell, woken) = (Arc::<Bell>::default(), Arc::<Woken>::default());
        let waker = Waker::from(woken.clone());
        for _ in 0..1_000 {
            let mut listener = Listener::default();
            assert!(bell.wait(&mut listener, bell.rung(), &waker).is_pending());
            bell.leave(&mut listener);
        }
        assert_eq!(bell.waiting().wakers.len(), 1);
        bell.ring(1);
        assert_eq!(woken.count(), 0);
        // Of the time before: its place is another's now.
        let (mut early, mut late) = (Listener::default(), Listener::default());
        assert!(bell.wait(&mut early, bell.rung(), &waker).is_pending());
        bell.ring(1);
        assert!(bell.wait(&mut late, bell.rung(), &waker).is_pending());
        bell.leave(&mut early);
        bell.ring(1);
        assert_eq!(woken.count(), 2);
    }

    #[tokio::test]
    async fn a_crowd_is_left_alone_for_moments_and_then_woken_for_all_that_came() {
        let (bell, woken) = (Arc::<Bell>::default(), Arc::<Woken>::default());
        let waker = Waker::from(woken.clone());
        let mut listeners: Vec<Listener> = (0..200).map(|_| Listener::default()).collect();
        crowd(&bell, &mut listeners, &waker);
        bell.ring(1);
        assert_eq!(woken.count(), 200, "at once: nobody has woken it before");
        crowd(&bell, &mut listeners, &waker);
        bell.ring(1);
        while woken.count() < 400 {
            woken.more.notified().await;
        }
        // Many bytes do not wait, nor does who has to.
        let rest = |bell: &Bell| bell.waiting().rests = Some(Instant::now() + Duration::from_secs(3_600));
        crowd(&bell, &mut listeners, &waker);
        rest(&bell);
        (0..10).for_each(|_| bell.ring(1));
        assert_eq!(woken.count(), 400);
        bell.ring(REST_BYTES);
        assert_eq!(woken.count(), 600);
        crowd(&bell, &mut listeners, &waker);
        rest(&bell);
        bell.ring(1);
        assert_eq!(woken.count(), 600);
        bell.ring_now();
        assert_eq!(woken.count(), 800);
    }
}
