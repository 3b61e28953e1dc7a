//! Wakes many at once. Waking a thread that waits takes a system call, and often the core of whoever does it, since the
//! kernel lets the one that was woken run there: for each of thousands that costs more than what they are woken for. A
//! task of their own runtime wakes them all, and nobody but that task has to be woken from elsewhere. Those who wait for
//! one and the same row are woken at once: that task would come a moment later.

use std::cell::RefCell;
use std::task::Waker;

use tokio::runtime::Handle;

/// So few are woken one by one: the task that wakes them comes a moment later.
const FEW: usize = 64;

thread_local! {
    static GATHERED: RefCell<Option<Wakes>> = const { RefCell::new(None) };
}

/// Those who are to be woken, and the runtime of one of them. They are woken when it is dropped.
#[derive(Debug, Default)]
struct Wakes {
    home: Option<Handle>,
    wakers: Wakers,
}

/// They are woken when it is dropped, so that nobody is forgotten by a runtime that has ended.
#[derive(Debug, Default)]
struct Wakers(Vec<Waker>);

/// Does something. Whoever it wakes because streams have changed is woken at its end.
pub(crate) fn together<T>(something: impl FnOnce() -> T) -> T {
    /// Wakes them whatever happens.
    struct Outermost;
    impl Drop for Outermost {
        fn drop(&mut self) {
            // What is woken may change streams itself.
            drop(GATHERED.take());
        }
    }
    let outermost = GATHERED.with_borrow_mut(|gathered| {
        let outermost = gathered.is_none();
        gathered.get_or_insert_default();
        outermost
    });
    let _outermost = outermost.then(|| Outermost);
    something()
}

/// Wakes those who wait. `home`: the runtime of one of them.
pub(super) fn wake(home: Option<Handle>, wakers: impl Iterator<Item = Waker>) {
    if GATHERED.with_borrow(Option::is_none) {
        return wakers.for_each(Waker::wake);
    }
    GATHERED.with_borrow_mut(|gathered| {
        let wakes = gathered.get_or_insert_default();
        wakes.wakers.0.extend(wakers);
        if wakes.home.is_none() {
            wakes.home = home;
        }
    });
}

/// Puts whoever the task at hand has woken last where another thread takes it from. It waits for this very thread otherwise,
/// while others have nothing to do.
pub(crate) fn hand_on_woken() {
    // Only what was woken last has that place.
    if let Ok(here) = Handle::try_current() {
        drop(here.spawn(std::future::ready(())));
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        let wakers = std::mem::take(&mut self.wakers);
        let Some(home) = self.home.take().filter(|_| wakers.0.len() > FEW) else { return };
        if Handle::try_current().is_ok_and(|here| here.id() == home.id()) {
            return;
        }
        drop(home.spawn(async move { drop(wakers) }));
    }
}

impl Drop for Wakers {
    fn drop(&mut self) {
        self.0.drain(..).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::thread::ThreadId;

    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Tells on which thread it was woken.
    struct Told(Sender<ThreadId>);

    impl Wake for Told {
        fn wake(self: Arc<Self>) {
            self.0.try_send(std::thread::current().id()).expect("there is room for all");
        }
    }

    fn wakers(count: usize) -> (Vec<Waker>, Receiver<ThreadId>) {
        let (sender, told) = channel(count);
        let wakers = (0..count).map(|_| Waker::from(Arc::new(Told(sender.clone())))).collect();
        (wakers, told)
    }

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).build().expect("threads start")
    }

    #[test]
    fn many_are_woken_by_their_own_runtime_and_few_at_once() {
        let home = runtime();
        let here = std::thread::current().id();
        let (few, mut told) = wakers(FEW);
        together(|| wake(Some(home.handle().clone()), few.into_iter()));
        (0..FEW).for_each(|_| assert_eq!(told.try_recv(), Ok(here)));
        let (many, mut told) = wakers(FEW + 1);
        together(|| wake(Some(home.handle().clone()), many.into_iter()));
        (0..=FEW).for_each(|_| assert_ne!(told.blocking_recv(), Some(here)));
        assert!(told.blocking_recv().is_none(), "each once");
    }

    #[test]
    fn those_whom_several_changes_wake_are_woken_behind_them() {
        let home = runtime();
        let (waiting, mut told) = wakers(100);
        let seen = AtomicUsize::new(0);
        together(|| {
            for waker in waiting {
                together(|| wake(Some(home.handle().clone()), std::iter::once(waker)));
                seen.fetch_add(usize::from(told.try_recv().is_ok()), Ordering::Relaxed);
            }
        });
        assert_eq!(seen.into_inner(), 0, "none before the end");
        (0..100).for_each(|_| assert!(told.blocking_recv().is_some()));
        assert!(told.blocking_recv().is_none(), "each once");
    }

    #[test]
    fn who_waits_is_woken_though_something_panics_or_its_runtime_has_ended() {
        let home = runtime();
        let (waiting, mut told) = wakers(1);
        let panics = || {
            together(|| {
                wake(None, waiting.into_iter());
                panic!("out of order");
            })
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert!(told.try_recv().is_ok());
        let handle = home.handle().clone();
        home.shutdown_background();
        let (waiting, mut told) = wakers(100);
        together(|| wake(Some(handle), waiting.into_iter()));
        (0..100).for_each(|_| assert!(told.blocking_recv().is_some()));
    }
}
