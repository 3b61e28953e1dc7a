//! What all jobs of an engine share.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::engine::EngineConfig;
use crate::error::EngineError;
use crate::job::Registry;
use crate::stream::LogLimits;

/// See the module.
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) clock: Arc<dyn Clock>,
    /// The compute runtime.
    pub(crate) handle: Handle,
    pub(crate) registry: Arc<Registry>,
    ids: AtomicU64,
    state_bytes: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(config: EngineConfig, clock: Arc<dyn Clock>, handle: Handle, registry: Arc<Registry>) -> Self {
        Self { config, clock, handle, registry, ids: AtomicU64::new(1), state_bytes: AtomicUsize::new(0) }
    }

    /// A number that no other caller gets.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// A log's incarnation.
    pub(crate) fn new_epoch(&self) -> u64 {
        RandomState::new().hash_one(self.next_id())
    }

    /// How much a log keeps. Where nobody is overtaken and nobody comes later (`lossless`), what has been read is not
    /// kept.
    pub(crate) fn limits(&self, limits: LogLimits) -> LogLimits {
        if self.config.lossless { LogLimits::HAND_OFF } else { limits }
    }

    /// Books a change of a job's state against the process's budget.
    ///
    /// # Errors
    /// [`EngineError::StateBudget`] when the job's growth takes the process over it.
    pub(crate) fn book_state(&self, before: usize, now: usize) -> Result<(), EngineError> {
        if now <= before {
            self.state_bytes.fetch_sub(before - now, Ordering::Relaxed);
            return Ok(());
        }
        let used_bytes = self.state_bytes.fetch_add(now - before, Ordering::Relaxed) + (now - before);
        let limit_bytes = self.config.process_state_bytes;
        if used_bytes > limit_bytes {
            return Err(EngineError::StateBudget { scope: "process", used_bytes, limit_bytes });
        }
        Ok(())
    }
}
