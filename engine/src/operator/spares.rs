//! Tables of keys whose groups have been told, for groups to come.
//!
//! A table begins small and grows by doubling: of one that is used anew for each pane, a fifth of the time that finding
//! groups takes went into growing. The next pane most often has about as many groups as the last.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::numbered_keys::NumberedKeys;

/// Tables kept at the most: of a pane or two a thread.
const MAX_SPARES: usize = 8;
/// Groups up to which a table is kept: beyond, growing is little beside all else, and the memory is.
const MAX_GROUPS: usize = 262_144;
/// A table is cut down to so many times the groups that it had last.
const ROOM: usize = 2;

/// See the module.
#[derive(Default)]
pub(super) struct Spares {
    /// `None`: none are kept.
    kept: Mutex<Option<Vec<NumberedKeys>>>,
}

impl Spares {
    /// Keeps tables from now on, or none any more.
    pub(super) fn keep(&self, on: bool) {
        *self.lock() = on.then(Vec::new);
    }

    /// Forgets what is kept.
    pub(super) fn clear(&self) {
        if let Some(kept) = self.lock().as_mut() {
            kept.clear();
        }
    }

    /// A table without keys.
    pub(super) fn take(&self) -> Option<NumberedKeys> {
        self.lock().as_mut()?.pop()
    }

    /// Takes a table whose keys, so many, have been taken out.
    pub(super) fn give(&self, mut spent: NumberedKeys, groups: usize) {
        if groups == 0 || groups > MAX_GROUPS || self.lock().as_ref().is_none_or(|kept| kept.len() >= MAX_SPARES) {
            return;
        }
        spent.clear(ROOM * groups);
        if let Some(kept) = self.lock().as_mut() {
            kept.push(spent);
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.lock().iter().flatten().map(NumberedKeys::bytes).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<NumberedKeys>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
