//! What the own steps of a feed's branches remember.

use super::{Feed, pipeline_of};
use crate::error::EngineError;
use crate::job::Branch;
use crate::operator::State;

impl Feed {
    /// Puts it, as far as appended rows depend on it, behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(crate) fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.branches.iter_mut().try_for_each(|inlet| inlet.pipeline.save(state))
    }

    /// Takes it from the front of a state, before the first batch.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(crate) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.branches.iter_mut().try_for_each(|inlet| inlet.pipeline.restore(state))
    }

    /// Makes the steps anew, of branches whose rows are appended.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when they cannot be made.
    pub(crate) fn renew(&mut self, branches: &[Branch]) -> Result<(), EngineError> {
        let inlets = self.branches.iter_mut().zip(branches).filter(|(_, branch)| !branch.updates);
        for (inlet, branch) in inlets {
            inlet.pipeline = pipeline_of(branch, &self.counters)?;
        }
        Ok(())
    }
}
