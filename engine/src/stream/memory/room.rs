//! Commits that wait until a reader that holds a stream has gone on: waking a thread takes as long as reading some batches,
//! so that they are woken when there is room for several.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::wakes::hand_on_woken;

/// A reader may stop before it has come so far that it wakes a commit, and have made room for it: it looks again so often.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Room {
    bell: Notify,
    /// How many commits may wait.
    wanting: AtomicUsize,
    /// Readers wake them from this entry on.
    mark: AtomicU64,
}

/// A commit that may wait for room.
pub(super) struct Wanting<'r>(&'r Room);

impl Room {
    /// From now on a commit may wait.
    pub(super) fn want(&self) -> Wanting<'_> {
        self.wanting.fetch_add(1, Ordering::SeqCst);
        Wanting(self)
    }

    /// A reader has said that it comes to this entry next, in the one order that all have of these: whoever wants room
    /// either sees it or is seen.
    pub(super) fn moved(&self, next: u64) {
        let mark = self.mark.load(Ordering::SeqCst);
        // Once: whoever waits on says again until when.
        if next >= mark
            && self.wanting.load(Ordering::SeqCst) > 0
            && self.mark.compare_exchange(mark, u64::MAX, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            self.bell.notify_waiters();
            hand_on_woken();
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

    /// Waits until a reader comes to this entry. Said while the log is locked.
    pub(super) fn until(&self, entry: u64) {
        self.0.mark.store(entry, Ordering::SeqCst);
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.0.wanting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_commit_is_woken_when_there_is_room_for_several_and_when_nobody_holds() {
        let room = Room::default();
        let wanting = room.want();
        let mut waits = Box::pin(wanting.room());
        waits.as_mut().enable();
        wanting.until(5);
        room.moved(4);
        assert!(waits.as_mut().now_or_never().is_none());
        room.moved(5);
        assert!(waits.now_or_never().is_some());
        let mut waits = Box::pin(wanting.room());
        waits.as_mut().enable();
        room.moved(6);
        assert!(waits.now_or_never().is_none(), "nobody has said that it waits again");
        let mut waits = Box::pin(wanting.room());
        waits.as_mut().enable();
        wanting.until(9);
        room.left();
        assert!(waits.now_or_never().is_some());
    }
}
