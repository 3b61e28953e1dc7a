//! Threads that help a job with a piece of work that can be split.
//!
//! A job runs on one thread of the compute runtime. What it splits is done by that thread and by others of the runtime
//! that have nothing else to do; whoever comes first takes the next part, so that nobody ever waits for a part that has
//! not begun, and threads that are all busy cost nothing but a look. There are no threads beside those of the runtime: one
//! more than there are cores is put where another runs, while a third has nothing to do. After R. D. Blumofe and C. E.
//! Leiserson, "Scheduling Multithreaded Computations by Work Stealing" (Journal of the ACM 46, 1999).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::runtime::Handle;

use crate::stream::hand_on_woken;
use crate::turn::Turn;

/// A part of some work.
pub(crate) type Part<T> = Box<dyn FnOnce() -> T + Send>;

/// Invitations that wait at the most, a helper: beyond, all are busy and more would come too late.
const WAITING_PER_HELPER: usize = 4;

/// See the module.
pub(crate) struct Crew {
    helpers: usize,
    runtime: Handle,
    /// Invitations that nobody has followed.
    waiting: Arc<AtomicUsize>,
}

/// One work: its parts that nobody has taken, and what the others gave.
struct Work<T> {
    parts: Mutex<VecDeque<(usize, Part<T>)>>,
    done: Mutex<Done<T>>,
    all_done: Condvar,
}

struct Done<T> {
    given: Vec<Option<std::thread::Result<T>>>,
    left: usize,
}

impl Crew {
    /// The threads of a runtime, of which there are so many.
    pub(crate) fn new(runtime: Handle, threads: usize) -> Self {
        Self { helpers: threads.saturating_sub(1), runtime, waiting: Arc::default() }
    }

    /// So many threads of their own, which stay until the process ends.
    #[cfg(test)]
    pub(crate) fn apart(threads: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).build();
        Self::new(Box::leak(Box::new(runtime.expect("threads start"))).handle().clone(), threads)
    }

    /// How many threads work, the caller's among them.
    pub(crate) fn threads(&self) -> usize {
        self.helpers + 1
    }

    /// Does all parts, and gives what they give in their order.
    ///
    /// # Panics
    /// As a part does.
    pub(crate) fn all<T: Send + 'static>(&self, parts: Vec<Part<T>>) -> Vec<T> {
        let count = parts.len();
        if count <= 1 || self.helpers == 0 {
            return parts.into_iter().map(|part| part()).collect();
        }
        let work = Arc::new(Work {
            parts: Mutex::new(parts.into_iter().enumerate().collect()),
            done: Mutex::new(Done { given: (0..count).map(|_| None).collect(), left: count }),
            all_done: Condvar::new(),
        });
        self.invite(&work, self.helpers.min(count - 1));
        while work.help() {}
        let mut done = work.done.lock().unwrap_or_else(PoisonError::into_inner);
        while done.left > 0 {
            done = work.all_done.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
        let given = std::mem::take(&mut done.given);
        drop(done);
        let given = given.into_iter().map(|given| given.expect("none is left"));
        given.map(|given| given.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    }

    /// Has a helper do something, which must not panic, again and again until it says that there is no more; others have
    /// their turn in between. False: all are busy, and it is not done.
    pub(crate) fn call(&self, mut something: impl FnMut() -> bool + Send + 'static) -> bool {
        if self.waiting.fetch_add(1, Relaxed) >= WAITING_PER_HELPER * self.helpers {
            self.waiting.fetch_sub(1, Relaxed);
            return false;
        }
        let waiting = Arc::clone(&self.waiting);
        self.runtime.spawn(async move {
            waiting.fetch_sub(1, Relaxed);
            let mut turn = Turn::begin();
            while something() {
                turn.pass().await;
            }
        });
        // It lies where only this thread takes it from, which goes on.
        hand_on_woken();
        true
    }

    fn invite<T: Send + 'static>(&self, work: &Arc<Work<T>>, helpers: usize) {
        for _ in 0..helpers {
            let work = Arc::clone(work);
            if !self.call(move || work.help()) {
                return;
            }
        }
    }
}

impl<T> Work<T> {
    /// Does a part that nobody has taken; false: there is none.
    fn help(&self) -> bool {
        let next = self.parts.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((at, part)) = next else { return false };
        let given = catch_unwind(AssertUnwindSafe(part));
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.given[at] = Some(given);
        done.left -= 1;
        if done.left == 0 {
            self.all_done.notify_all();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn parts_are_done_at_once_and_given_in_their_order() {
        let crew = Crew::apart(3);
        // Passed only when three threads are there together.
        let together = Arc::new(Barrier::new(3));
        let part = |at: usize| -> Part<usize> {
            let together = Arc::clone(&together);
            Box::new(move || {
                together.wait();
                at
            })
        };
        for _ in 0..10 {
            assert_eq!(crew.all((0..3).map(part).collect()), [0, 1, 2]);
        }
    }

    #[test]
    fn a_crew_of_one_does_all_itself() {
        let own = std::thread::current().id();
        let crew = Crew::apart(1);
        let parts = (0..4).map(|at| -> Part<_> { Box::new(move || (at, std::thread::current().id())) });
        assert_eq!(crew.all(parts.collect()), [0, 1, 2, 3].map(|at| (at, own)));
    }

    #[test]
    fn a_part_that_panics_takes_the_caller_with_it_and_nobody_else() {
        let crew = Crew::apart(2);
        let parts: Vec<Part<()>> = vec![Box::new(|| ()), Box::new(|| panic!("out of order")), Box::new(|| ())];
        let panic = catch_unwind(AssertUnwindSafe(|| crew.all(parts))).expect_err("it panics");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"out of order"));
        assert_eq!(
            crew.all((0..9).map(|at| -> Part<_> { Box::new(move || at) }).collect()),
            [0, 1, 2, 3, 4, 5, 6, 7, 8]
        );
    }
}
