//! The ledger: every row that comes in is passed on, absorbed, filtered, late, undecodable, without event time,
//! failed, dropped, or still buffered.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Failing and undecodable rows that are kept to be looked at, per job.
const SAMPLES: usize = 16;
/// Longest text of a sample, in bytes.
const SAMPLE_BYTES: usize = 2048;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts of one job. Written by the job's task, read by anyone.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: AtomicU64,)*
            busy_ns: AtomicU64,
            samples: Mutex<VecDeque<FailedSample>>,
        }

        /// The counts at one moment.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct CountersSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// The counts now.
            pub fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot { $($name: self.$name.load(Relaxed),)* }
            }

            /// Goes on with what was counted by then.
            pub(crate) fn resume(&self, then: &CountersSnapshot) {
                $(self.$name.store(then.$name, Relaxed);)*
            }

            /// Takes back what was counted since; rows that had been read and not processed by then with it.
            pub(crate) fn restore(&self, then: &CountersSnapshot) {
                $(self.$name.store(then.$name, Relaxed);)*
                let unprocessed = u64::try_from(then.unaccounted()).unwrap_or_default();
                self.rows_in.fetch_sub(unprocessed, Relaxed);
            }
        }

        impl std::ops::Add for CountersSnapshot {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($name: self.$name + other.$name,)* }
            }
        }
    };
}

counters! {
    /// Rows that came in. Of a source: records, decodable or not.
    rows_in,
    /// Rows passed on as they came (filtered and projected ones, a source's own).
    passed,
    /// Rows taken into state.
    absorbed,
    /// Rows that a predicate did not let through.
    filtered,
    /// Rows late for all their windows by the watermark.
    late,
    /// Rows late for all their windows since their partition was taken for idle.
    late_idle,
    /// Records that could not be decoded.
    undecodable,
    /// Rows whose event time is null.
    without_event_time,
    /// Rows set aside since an expression failed on them.
    failed,
    /// Rows lost since the job was overtaken by retention; of a source: since the disk did not take them.
    dropped,
    /// Rows that came while a stream that goes on after a restart did not run.
    missed,
    /// Gaps in what was read of which nobody knows how many rows they had. Apart from the sum of what came in.
    gaps,
    /// Rows left out of a sample; they are among the filtered.
    sampled,
    /// Rows that came while the job rested, when it was told to go on with those that came then.
    skipped,
    /// Rows read before a fresh query's first whole window: they belong to no window that it tells.
    before_start,
    /// Rows that came out. Apart from the sum of what came in: an aggregate makes its own.
    rows_out,
    /// Pairs of rows on which a join's condition failed: they are none, so that outer joins tell rows without another
    /// partner with nulls, and anti joins tell them. Apart from the sum of what came in: the rows were absorbed.
    pairs_failed,
    /// What was forgotten of what has no windows, since its time to live had passed: groups to which no row had come,
    /// and rows that waited for a partner. Apart from the sum of what came in.
    forgotten,
    /// Windows that a row was late for while another of its windows took it.
    late_assignments,
    /// Rows more than five minutes ahead of their arrival: kept, but the watermark does not follow them.
    ahead,
    /// Bytes that came in, of a source.
    bytes_in,
}

/// A row that was set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedSample {
    /// Why.
    pub reason: String,
    /// The row or record as text, cut to 2 KiB.
    pub row: String,
}

impl Counters {
    /// Keeps a sample of a failing row; the oldest goes when there are sixteen.
    pub fn sample(&self, reason: &str, row: &str) {
        let mut samples = self.samples.lock().expect("no holder of this lock panics");
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        let cut = |text: &str| text.chars().take(SAMPLE_BYTES).collect();
        samples.push_back(FailedSample { reason: cut(reason), row: cut(row) });
    }

    /// Rows that came in and were lost.
    pub(crate) fn lost(&self) -> u64 {
        let counts = [&self.undecodable, &self.without_event_time, &self.failed, &self.dropped, &self.skipped];
        counts.into_iter().map(|count| count.load(Relaxed)).sum()
    }

    /// Time was spent on a batch since then.
    pub(crate) fn spend(&self, since: Instant) {
        self.busy_ns.fetch_add(u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// So many nanoseconds were spent on batches.
    pub(crate) fn spend_ns(&self, ns: u64) {
        self.busy_ns.fetch_add(ns, Relaxed);
    }

    /// Time spent on batches, in microseconds.
    pub(crate) fn busy_us(&self) -> u64 {
        self.busy_ns.load(Relaxed) / 1_000
    }

    /// The samples kept, oldest first.
    pub fn samples(&self) -> Vec<FailedSample> {
        self.samples.lock().expect("no holder of this lock panics").iter().cloned().collect()
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, rows: usize) {
    counter.fetch_add(rows as u64, Relaxed);
}

impl CountersSnapshot {
    /// Rows in less all that is known of them: what is still buffered, zero once a job is at rest.
    pub fn unaccounted(&self) -> i128 {
        let known = self.passed
            + self.absorbed
            + self.filtered
            + self.late
            + self.late_idle
            + self.undecodable
            + self.without_event_time
            + self.failed
            + self.dropped
            + self.skipped
            + self.missed
            + self.before_start;
        i128::from(self.rows_in) - i128::from(known)
    }
}
