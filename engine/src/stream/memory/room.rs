//! Commits that wait until a reader that holds a stream has gone on.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Room {
    bell: Notify,
    /// How many commits may wait.
    wanting: AtomicUsize,
}

/// A commit that may wait for room.
pub(super) struct Wanting<'r>(&'r Room);

impl Room {
    /// From now on a commit may wait.
    pub(super) fn want(&self) -> Wanting<'_> {
        self.wanting.fetch_add(1, Ordering::SeqCst);
        Wanting(self)
    }

    /// A reader has said where it is, in the one order that all have of these: whoever wants room either sees it or is
    /// seen.
    pub(super) fn moved(&self) {
        if self.wanting.load(Ordering::SeqCst) > 0 {
            self.bell.notify_waiters();
        }
    }

    /// A reader holds no longer.
    pub(super) fn left(&self) {
        self.bell.notify_waiters();
    }
}

impl Wanting<'_> {
    /// Ready when there may be room.
    pub(super) fn room(&self) -> Notified<'_> {
        self.0.bell.notified()
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.0.wanting.fetch_sub(1, Ordering::SeqCst);
    }
}
