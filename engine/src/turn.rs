//! How long a task goes on before it lets others go on.

use std::time::{Duration, Instant};

/// A thread that finds nothing to do, since all that there is goes on at once, was woken in vain: that costs as much as a
/// batch or two. Others wait so long at the most.
const TURN: Duration = Duration::from_micros(500);

/// See the module.
pub(crate) struct Turn(Instant);

impl Turn {
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// Lets others go on, if it is their turn.
    pub(crate) async fn pass(&mut self) {
        if self.0.elapsed() >= TURN {
            tokio::task::yield_now().await;
            self.0 = Instant::now();
        }
    }
}
