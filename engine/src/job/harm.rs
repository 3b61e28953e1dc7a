//! What has befallen a job: crashes, and the rows at which it stopped for good.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;

use crate::clock::EventTime;
use crate::stream::Offset;

/// How long a job waits before it is started again after its first crash; doubled with each further one. There is no
/// jitter: the jobs of one process do not wait for each other.
pub(crate) const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
/// How long it waits at the most.
pub(crate) const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// A job that has run for so long since its last crash waits as after its first one, in nanoseconds.
pub(crate) const STEADY_NS: i64 = 300 * 1_000_000_000;
/// Crashes at the same rows after which a job of a named stream stops there.
pub(crate) const CRASHES: u32 = 3;
/// Rows that are kept to be looked at of those at which a job stopped.
const SAMPLE_ROWS: usize = 16;

/// Rows at which a job crashed again and again, and stopped.
#[derive(Debug, Clone)]
pub struct Quarantine {
    /// The job.
    pub job: String,
    /// When it stopped.
    pub since: EventTime,
    /// Why it crashed the last time.
    pub reason: String,
    /// The source or stream that the rows come from.
    pub input: String,
    /// Their partition there.
    pub partition: u32,
    /// The offset of the first of them.
    pub first: Offset,
    /// The offset behind the last one.
    pub next: Offset,
    /// The first few of them, with their visible columns.
    pub rows: RecordBatch,
}

/// Crashes of a job so far.
#[derive(Default)]
pub(crate) struct Harm {
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Facts {
    restarts: u64,
    reason: Option<String>,
    waits: bool,
    quarantine: Option<Arc<Quarantine>>,
}

impl Harm {
    /// It has crashed, and waits to be started again.
    pub(crate) fn crashed(&self, reason: &str) {
        let mut facts = self.facts();
        facts.restarts += 1;
        facts.reason = Some(reason.to_owned());
        facts.waits = true;
    }

    /// It was started again.
    pub(crate) fn restarted(&self) {
        self.facts().waits = false;
    }

    /// It stops at these rows; `None`: it tries them again.
    pub(crate) fn quarantine(&self, rows: Option<Quarantine>) {
        self.facts().quarantine = rows.map(Arc::new);
    }

    /// The rows at which it stopped.
    pub(crate) fn quarantined(&self) -> Option<Arc<Quarantine>> {
        self.facts().quarantine.clone()
    }

    /// How often it was started again, and why the last time.
    pub(crate) fn restarts(&self) -> (u64, Option<String>) {
        let facts = self.facts();
        (facts.restarts, facts.reason.clone())
    }

    /// How it stands, in words; `None`: it runs.
    pub(crate) fn text(&self) -> Option<String> {
        let facts = self.facts();
        if let Some(quarantine) = &facts.quarantine {
            let Quarantine { input, partition, first, next, reason, .. } = quarantine.as_ref();
            let place = format!("{input}, partition {partition}, offsets {} to {}", first.0, next.0);
            return Some(format!("quarantined at {place}: {reason}"));
        }
        facts.waits.then(|| format!("restarting: {}", facts.reason.as_deref().unwrap_or_default()))
    }

    fn facts(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.facts.lock().expect("no holder of this lock panics")
    }
}

impl Quarantine {
    /// The first few rows of a batch, as they are kept.
    pub(crate) fn sample(rows: &RecordBatch) -> RecordBatch {
        rows.slice(0, rows.num_rows().min(SAMPLE_ROWS))
    }
}

/// Rows of a feed's partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: u32,
    pub(crate) first: Offset,
    pub(crate) next: Offset,
}

impl Place {
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.partition == other.partition && self.first < other.next && other.first < self.next
    }
}

/// Crashes one behind the other.
#[derive(Default)]
pub(crate) struct Crashes {
    /// Where the last one was; `None`: between batches.
    place: Option<Place>,
    at_place: u32,
    in_a_row: u32,
    last: Option<EventTime>,
}

impl Crashes {
    /// Another crash; how many there were at its place.
    pub(crate) fn add(&mut self, place: Option<Place>, now: EventTime) -> u32 {
        let same = match (&self.place, &place) {
            (Some(before), Some(now)) => before.overlaps(now),
            (None, None) => self.last.is_some(),
            _ => false,
        };
        let steady = self.last.is_some_and(|last| now.0.saturating_sub(last.0) >= STEADY_NS);
        self.at_place = if same { self.at_place + 1 } else { 1 };
        self.in_a_row = if steady { 1 } else { self.in_a_row + 1 };
        (self.place, self.last) = (place, Some(now));
        self.at_place
    }

    /// The rows that are to be tried one by one: those of a second crash.
    pub(crate) fn suspects(&self) -> Option<Place> {
        self.place.filter(|_| self.at_place > 1)
    }

    /// How long to wait.
    pub(crate) fn back_off(&self) -> Duration {
        let doubled = 2_u32.saturating_pow(self.in_a_row.saturating_sub(1));
        FIRST_BACK_OFF.saturating_mul(doubled).min(LONGEST_BACK_OFF)
    }

    /// What was tried in vain is tried again as if for the first time.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(first: u64, next: u64) -> Option<Place> {
        Some(Place { partition: 0, first: Offset(first), next: Offset(next) })
    }

    #[test]
    fn crashes_count_by_their_place_and_back_off_by_their_number() {
        let (mut crashes, second) = (Crashes::default(), 1_000_000_000);
        assert_eq!(crashes.add(place(0, 100), EventTime(0)), 1);
        assert_eq!((crashes.suspects(), crashes.back_off()), (None, FIRST_BACK_OFF));
        assert_eq!(crashes.add(place(50, 150), EventTime(second)), 2);
        assert_eq!((crashes.suspects(), crashes.back_off()), (place(50, 150), FIRST_BACK_OFF * 2));
        assert_eq!(crashes.add(place(60, 61), EventTime(2 * second)), 3);
        assert_eq!(crashes.add(place(70, 71), EventTime(3 * second)), 1, "another place");
        assert_eq!(crashes.back_off(), FIRST_BACK_OFF * 8);
        for at in 4..40 {
            crashes.add(place(at as u64 * 100, at as u64 * 100 + 1), EventTime(at * second));
        }
        assert_eq!(crashes.back_off(), LONGEST_BACK_OFF);
        assert_eq!(crashes.add(None, EventTime(1_000 * second)), 1);
        assert_eq!(crashes.back_off(), FIRST_BACK_OFF, "it was steady");
        assert_eq!(crashes.add(None, EventTime(1_001 * second)), 2, "between batches");
        crashes.forget();
        assert_eq!(crashes.add(None, EventTime(1_002 * second)), 1);
    }
}
