//! What share of the rows the results of windows are made of.

use std::collections::VecDeque;

use squilla_query::Query;

use crate::clock::EventTime;

/// Moments that are remembered: an hour at one a second. Of windows that began before them the share is that of all that
/// came since the query's jobs began.
const MOMENTS: usize = 3_600;
const MILLISECOND_NS: i64 = 1_000_000;

/// Rows that came into a query's jobs, and those of them that were lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) came: u64,
    pub(super) lost: u64,
}

impl Seen {
    /// Share of those that were not lost.
    pub(super) fn share(self) -> f64 {
        self.share_since(Self::default())
    }

    /// Share of those that were not lost, of what came since a moment before.
    fn share_since(self, before: Self) -> f64 {
        let (came, lost) = (self.came.saturating_sub(before.came), self.lost.saturating_sub(before.lost));
        // What is lost between two counts of what came shows up in the second alone.
        let came = came.max(lost);
        if came == 0 { 1.0 } else { 1.0 - lost as f64 / came as f64 }
    }
}

/// See the module. Lost rows have no event time that anybody knows: a window is taken to lack what was lost from when
/// its first rows could come until it was told.
#[derive(Debug)]
pub(super) struct Completeness {
    /// Length of the query's windows; zero: not known.
    window_ns: i64,
    /// The share that was told last.
    pub(super) told: f64,
    /// The greatest event time by then, and what had been seen; oldest first.
    moments: VecDeque<(EventTime, Seen)>,
}

impl Completeness {
    /// That of a query's results.
    pub(super) fn of(query: &Query) -> Self {
        let windows = query.plan.named_windows(&|_| None);
        Self { window_ns: windows.map_or(0, |windows| windows.spec.size_ns()), told: 1.0, moments: VecDeque::new() }
    }

    /// Notes the share of results whose event time is at the least `first`; whether it is another than the last.
    pub(super) fn tell(&mut self, first: EventTime, seen: Seen) -> bool {
        // A result's event time is a millisecond before its window's end.
        let share = self.share(first.plus(MILLISECOND_NS - self.window_ns), seen);
        std::mem::replace(&mut self.told, share) != share
    }

    /// Notes how things stand.
    pub(super) fn note(&mut self, latest: EventTime, seen: Seen) {
        if self.moments.back().is_some_and(|(known, last)| *known >= latest && *last == seen) {
            return;
        }
        if self.moments.len() >= MOMENTS {
            self.moments.pop_front();
        }
        self.moments.push_back((latest, seen));
    }

    /// The share of rows that windows saw which start at `start` or later.
    fn share(&self, start: EventTime, seen: Seen) -> f64 {
        let behind = self.moments.partition_point(|(latest, _)| *latest <= start);
        let before = behind.checked_sub(1).map_or(Seen::default(), |last| self.moments[last].1);
        seen.share_since(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_windows() -> Completeness {
        Completeness { window_ns: 2_000_000, told: 1.0, moments: VecDeque::new() }
    }

    fn seen(came: u64, lost: u64) -> Seen {
        Seen { came, lost }
    }

    #[test]
    fn windows_lack_what_was_lost_while_they_were_open() {
        let mut completeness = of_windows();
        for (second, lost) in [(0, 0), (1, 0), (2, 50), (3, 50), (4, 50)] {
            completeness.note(EventTime(second), seen(100 * second.unsigned_abs(), lost));
        }
        let now = seen(400, 50);
        assert_eq!(completeness.share(EventTime(1), now), 1.0 - 50.0 / 300.0);
        assert_eq!(completeness.share(EventTime(2), now), 1.0, "it began when all that was lost was lost");
        assert_eq!(completeness.share(EventTime(0), now), 1.0 - 50.0 / 400.0);
        assert_eq!(completeness.share(EventTime(-5), now), 1.0 - 50.0 / 400.0, "as far as is known");
        assert_eq!(completeness.share(EventTime(9), now), 1.0);
        assert_eq!(of_windows().share(EventTime(0), seen(0, 0)), 1.0);
        assert_eq!(of_windows().share(EventTime(0), seen(0, 3)), 0.0);
        // A window of two milliseconds, the first of which is that of `EventTime(0)`.
        assert!(completeness.tell(EventTime(1_000_000), now) && !completeness.tell(EventTime(1_000_000), now));
        assert_eq!(completeness.told, 1.0 - 50.0 / 400.0);
    }

    #[test]
    fn moments_are_bounded() {
        let mut completeness = of_windows();
        for second in 0..10_000 {
            completeness.note(EventTime(second), seen(second.unsigned_abs(), 0));
            completeness.note(EventTime(second), seen(second.unsigned_abs(), 0));
        }
        assert_eq!(completeness.moments.len(), MOMENTS);
    }
}
