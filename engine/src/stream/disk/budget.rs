//! Bytes of all logs on disk.

use std::sync::atomic::{AtomicU64, Ordering};

use super::DiskError;

/// Bytes that all logs together may hold on disk.
#[derive(Debug)]
pub(crate) struct DiskBudget {
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

impl DiskBudget {
    pub(crate) fn new(limit_bytes: u64) -> Self {
        Self { limit_bytes, used_bytes: AtomicU64::new(0) }
    }

    /// Bytes held, and allowed.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.used_bytes.load(Ordering::Relaxed), self.limit_bytes)
    }

    pub(super) fn check(&self, wanted_bytes: u64) -> Result<(), DiskError> {
        let (used_bytes, limit_bytes) = self.bytes();
        if used_bytes + wanted_bytes > limit_bytes {
            return Err(DiskError::Budget { used_bytes, wanted_bytes, limit_bytes });
        }
        Ok(())
    }

    /// Takes note of a change of the bytes that somebody holds.
    pub(crate) fn change(&self, before: u64, now: u64) {
        if now >= before {
            self.used_bytes.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.used_bytes.fetch_sub(before - now, Ordering::Relaxed);
        }
    }
}
