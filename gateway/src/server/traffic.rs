//! What the server itself counts.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use squilla_engine::Gap;

/// Counts since the start, written by every connection.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Sockets that are open.
    pub(crate) sockets: AtomicI64,
    /// Subscriptions that run, over any protocol.
    pub(crate) subscriptions: AtomicI64,
    /// Frames of rows handed to clients.
    pub(crate) frames: AtomicU64,
    /// Rows handed to clients.
    pub(crate) rows: AtomicU64,
    /// Bytes handed to clients by subscriptions.
    pub(crate) bytes: AtomicU64,
    /// Frames that had to be encoded; the others were found ready.
    pub(crate) encoded: AtomicU64,
    /// Gaps told.
    pub(crate) gaps: AtomicU64,
    /// Rows in those of the gaps whose size is known.
    pub(crate) gap_rows: AtomicU64,
    /// Connections turned away since there were too many.
    pub(crate) turned_away: AtomicU64,
}

impl Traffic {
    /// Counts what was handed to a client.
    pub(crate) fn sent(&self, rows: usize, bytes: usize) {
        self.frames.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows as u64, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts a gap.
    pub(crate) fn gap(&self, gap: &Gap) {
        self.gaps.fetch_add(1, Relaxed);
        self.gap_rows.fetch_add(gap.rows.unwrap_or(0), Relaxed);
    }
}

/// Counts one more for as long as it lives.
pub(crate) struct Present<'a>(&'a AtomicI64);

impl<'a> Present<'a> {
    /// Counts one more.
    pub(crate) fn new(count: &'a AtomicI64) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
