//! What most operators carry from batch to batch beside their own state, as it is stored.

use super::progress::Progress;
use super::state::State;
use crate::clock::EventTime;
use crate::error::EngineError;

/// How far an operator whose output is one partition has come.
pub(super) struct Carried<'o> {
    pub(super) progress: &'o mut Progress,
    /// The offset of the next row told.
    pub(super) next: &'o mut u64,
    /// The output's watermark, and whether the output was marked idle.
    pub(super) watermark: &'o mut i64,
    pub(super) idle: &'o mut bool,
    pub(super) arrival: &'o mut EventTime,
}

impl Carried<'_> {
    /// Puts it behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn save(&self, state: &mut State) -> Result<(), EngineError> {
        let Self { progress, next, watermark, idle, arrival } = self;
        state.put(&(&**progress, **next, **watermark, **idle, **arrival))
    }

    /// Takes it from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when it is not there, or of an input of other partitions.
    pub(super) fn restore(self, state: &mut State) -> Result<(), EngineError> {
        let progress;
        (progress, *self.next, *self.watermark, *self.idle, *self.arrival) = state.take()?;
        self.progress.resume(progress)
    }
}
