//! When to look through state without windows for what to forget.

use super::state::State;
use crate::error::EngineError;

/// State is looked through so many times in the time that it lives.
const STEPS: i64 = 8;

/// Times at which state is looked through: whole steps of event time, so that it does not matter how rows were
/// batched.
pub(super) struct Forgetting {
    ttl: Option<i64>,
    next: i64,
}

impl Forgetting {
    /// For state that lives `ttl_ns` nanoseconds of event time; `None`: for ever.
    pub(super) fn new(ttl_ns: Option<i64>) -> Self {
        Self { ttl: ttl_ns, next: i64::MIN }
    }

    /// Puts when it is time again behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn save(&self, state: &mut State) -> Result<(), EngineError> {
        state.put(&self.next)
    }

    /// Takes it from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.next = state.take()?;
        Ok(())
    }

    /// When it is time, the event time up to which what was touched last is to be forgotten.
    pub(super) fn due(&mut self, watermark: i64) -> Option<i64> {
        let ttl = self.ttl?;
        if watermark == i64::MIN || watermark == i64::MAX || watermark < self.next {
            return None;
        }
        let step = (ttl / STEPS).max(1);
        let now = watermark.div_euclid(step).saturating_mul(step);
        self.next = now.saturating_add(step);
        Some(now.saturating_sub(ttl))
    }
}
