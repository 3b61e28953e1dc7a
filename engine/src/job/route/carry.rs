//! Jobs that get no rows are brought up to where the stream is, a few at a time.

use std::time::Duration;

use tokio::time::Instant;

/// How often some jobs are brought up.
const STEP: Duration = Duration::from_millis(10);
/// So few are brought up with each batch: that they wait costs more.
const FEW: usize = 16;
/// Jobs that are brought up in one step, at the least: about 0.1 ms.
const STEP_JOBS: usize = 64;
/// All are brought up within so long.
pub(super) const CARRY_WITHIN: Duration = Duration::from_secs(1);
/// Steps in which that is done.
const ROUND_STEPS: usize = (CARRY_WITHIN.as_millis() / STEP.as_millis()) as usize;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Carry {
    next: Instant,
    /// The first job that has not had its turn in this round.
    cursor: usize,
    /// Batches by the beginning of this round, and of the last that is through.
    begun: u64,
    through: u64,
}

impl Carry {
    pub(super) fn new() -> Self {
        Self { next: Instant::now(), cursor: 0, begun: 0, through: 0 }
    }

    /// When the next step is due; `None`: nobody waits for one.
    pub(super) fn due(&self, batches: u64) -> Option<Instant> {
        (self.through < batches).then_some(self.next)
    }

    /// Whether all have their turn now, after each batch.
    pub(super) fn at_once(jobs: usize) -> bool {
        jobs <= FEW
    }

    /// The places of those that have their turn now. `places`: how many there are, of which `jobs` are taken.
    pub(super) fn step(&mut self, batches: u64, places: usize, jobs: usize) -> std::ops::Range<usize> {
        let now = Instant::now();
        self.next = now + STEP;
        if self.cursor == 0 {
            self.begun = batches;
        }
        let count = if Self::at_once(jobs) { places } else { (places / ROUND_STEPS + 1).max(STEP_JOBS) };
        let from = self.cursor.min(places);
        let until = (from + count).min(places);
        self.cursor = until;
        if until == places {
            (self.cursor, self.through) = (0, self.begun);
        }
        from..until
    }

    /// A step is waited for from now on.
    pub(super) fn begin(&mut self, batches: u64) {
        if self.through + 1 == batches && self.cursor == 0 {
            self.next = Instant::now() + STEP;
        }
    }
}
