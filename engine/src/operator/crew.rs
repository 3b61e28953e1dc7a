//! Threads that help a job with a piece of work that can be split.
//!
//! A job runs on one thread of the compute runtime. What it splits is done by that thread and by those of the crew that
//! have nothing else to do; whoever comes first takes the next part, so that nobody ever waits for a part that has not
//! begun, and a crew whose threads are all busy costs nothing but a look. After R. D. Blumofe and C. E. Leiserson,
//! "Scheduling Multithreaded Computations by Work Stealing" (Journal of the ACM 46, 1999).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A part of some work.
pub(crate) type Part<T> = Box<dyn FnOnce() -> T + Send>;

/// Invitations that wait at the most, a helper: beyond, all are busy and more would come too late.
const WAITING_PER_HELPER: usize = 4;

/// See the module. Its threads are started with the first work, and end with it.
pub(crate) struct Crew {
    helpers: usize,
    board: Arc<Board>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Where helpers look for work.
#[derive(Default)]
struct Board {
    notes: Mutex<Notes>,
    noted: Condvar,
}

#[derive(Default)]
struct Notes {
    invitations: VecDeque<Box<dyn FnOnce() + Send>>,
    ended: bool,
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
    /// A crew that works with `threads` threads, the caller's among them.
    pub(crate) fn new(threads: usize) -> Self {
        Self { helpers: threads.saturating_sub(1), board: Arc::default(), threads: Mutex::default() }
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
        work.help();
        let mut done = work.done.lock().unwrap_or_else(PoisonError::into_inner);
        while done.left > 0 {
            done = work.all_done.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
        let given = std::mem::take(&mut done.given);
        drop(done);
        let given = given.into_iter().map(|given| given.expect("none is left"));
        given.map(|given| given.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    }

    /// Has a helper do something, which must not panic. False: all are busy, and it is not done.
    pub(crate) fn call(&self, something: impl FnOnce() + Send + 'static) -> bool {
        self.begin();
        let mut notes = self.board.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.invitations.len() >= WAITING_PER_HELPER * self.helpers {
            return false;
        }
        notes.invitations.push_back(Box::new(something));
        self.board.noted.notify_one();
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

    /// Starts the threads, if they have not been. Those that cannot be started are done without.
    fn begin(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if !threads.is_empty() {
            return;
        }
        for _ in 0..self.helpers {
            let board = Arc::clone(&self.board);
            let thread = std::thread::Builder::new().name("crew".into()).spawn(move || board.serve());
            threads.extend(thread);
        }
    }
}

impl Board {
    /// Follows invitations until the end.
    fn serve(&self) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(invitation) = notes.invitations.pop_front() {
                drop(notes);
                invitation();
                notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            } else if notes.ended {
                return;
            } else {
                notes = self.noted.wait(notes).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl<T> Work<T> {
    /// Does parts as long as there are any that nobody has taken.
    fn help(&self) {
        loop {
            let next = self.parts.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((at, part)) = next else { return };
            let given = catch_unwind(AssertUnwindSafe(part));
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.given[at] = Some(given);
            done.left -= 1;
            if done.left == 0 {
                self.all_done.notify_all();
            }
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.board.notes.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.board.noted.notify_all();
        for thread in self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // Parts that panic are caught.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn parts_are_done_at_once_and_given_in_their_order() {
        let crew = Crew::new(3);
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
        let crew = Crew::new(1);
        let parts = (0..4).map(|at| -> Part<_> { Box::new(move || (at, std::thread::current().id())) });
        assert_eq!(crew.all(parts.collect()), [0, 1, 2, 3].map(|at| (at, own)));
    }

    #[test]
    fn a_part_that_panics_takes_the_caller_with_it_and_nobody_else() {
        let crew = Crew::new(2);
        let parts: Vec<Part<()>> = vec![Box::new(|| ()), Box::new(|| panic!("out of order")), Box::new(|| ())];
        let panic = catch_unwind(AssertUnwindSafe(|| crew.all(parts))).expect_err("it panics");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"out of order"));
        assert_eq!(
            crew.all((0..9).map(|at| -> Part<_> { Box::new(move || at) }).collect()),
            [0, 1, 2, 3, 4, 5, 6, 7, 8]
        );
    }
}
