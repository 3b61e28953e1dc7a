//! Snapshots of jobs: what a job keeps, how far it has read and what it has told, as of one moment between two batches.
//!
//! A snapshot is two files in a folder of the stream's: the state, and a manifest that says what the state is of and
//! checks it. The manifest comes last, under another name until it is whole, and each file is on disk before the next is
//! begun: whenever the power fails, the snapshots whose manifests are there are whole. Three are kept, so that a damaged
//! one leaves the one before it. (Files are written as logs are, through a `Volume`: `object_store` as DataFusion has it
//! cannot sync what it writes.)

mod file;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use crate::clock::EventTime;
use crate::counters::CountersSnapshot;
use crate::error::EngineError;
use crate::operator::State;
use crate::stream::{DiskBudget, DiskError, Position, Volume};

/// How many are kept.
const KEPT: usize = 3;

/// One moment of a job.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) point: Point,
    /// What its operators keep; nothing, of a job that has not begun.
    pub(crate) state: State,
}

/// What is known of a snapshot beside its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Text that is equal for jobs whose states fit.
    pub(crate) plan: String,
    /// How far it has read each input. In place of rows to be skipped stand marks: see `feed::exact`.
    pub(crate) inputs: Vec<Position>,
    /// The end of its log; `None`: it has none.
    pub(crate) end: Option<Position>,
    pub(crate) begins: Begins,
    pub(crate) counters: CountersSnapshot,
    /// It has not read anything: there is no state.
    pub(crate) fresh: bool,
}

/// Where a job began, as it was found when it was created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begins {
    /// For each step the event time before which it tells nothing, and that before which its inputs lack results.
    pub(crate) steps: Vec<(EventTime, EventTime)>,
    /// Windows that start before it may be partial; `None`: none is.
    pub(crate) complete_from: Option<EventTime>,
    /// Results with earlier event times are not told; `None`: all are.
    pub(crate) untold: Option<EventTime>,
    /// Results of windows with earlier event times were told by the query before; `None`: none was.
    #[serde(default)]
    pub(crate) told: Option<EventTime>,
    /// It took over from another query while the log went on: its watermark does not go back.
    #[serde(default)]
    pub(crate) goes_on: bool,
}

/// The snapshots of one job. All calls block but [`Snapshots::generations`] and [`Snapshots::lies_in`].
#[derive(Debug)]
pub(crate) struct Snapshots {
    volume: Arc<dyn Volume>,
    folder: PathBuf,
    /// Those that there are, oldest first.
    generations: Mutex<Vec<u64>>,
    damaged: AtomicU64,
    /// Its bytes are among those of all logs: written in any case, they leave less for rows.
    budget: Arc<DiskBudget>,
    bytes: AtomicU64,
    /// The stream is dropped: no more are written. Held while one is.
    dropped: Mutex<bool>,
}

impl Snapshots {
    /// Those in a folder.
    ///
    /// # Errors
    /// [`DiskError`] when it cannot be made or read.
    pub(crate) fn open(volume: Arc<dyn Volume>, folder: PathBuf, budget: Arc<DiskBudget>) -> Result<Self, DiskError> {
        volume.create_folder(&folder)?;
        let mut generations = file::generations(volume.as_ref(), &folder)?;
        let surplus = generations.len().saturating_sub(KEPT);
        for generation in generations.drain(..surplus) {
            // It was removed before, and is there again since the power failed.
            file::remove(volume.as_ref(), &folder, generation)?;
        }
        let bytes = generations.iter().map(|generation| file::bytes(volume.as_ref(), &folder, *generation)).sum();
        budget.change(0, bytes);
        Ok(Self {
            volume,
            folder,
            generations: Mutex::new(generations),
            damaged: AtomicU64::new(0),
            budget,
            bytes: AtomicU64::new(bytes),
            dropped: Mutex::new(false),
        })
    }

    /// Those that there are, newest first.
    pub(crate) fn generations(&self) -> Vec<u64> {
        self.generations.lock().expect("no holder of this lock panics").iter().rev().copied().collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// [`EngineError::State`] when it is damaged, which is counted; [`EngineError::Disk`] when it cannot be read.
    pub(crate) fn read(&self, generation: u64) -> Result<Snapshot, EngineError> {
        let found = file::read(self.volume.as_ref(), &self.folder, generation);
        if let Err(error) = &found {
            let damaged = self.damaged.fetch_add(1, Ordering::Relaxed) + 1;
            let folder = self.folder.display();
            tracing::error!(%folder, generation, damaged, %error, "a snapshot cannot be used: the one before it is");
        }
        found
    }

    /// Adds one, and removes those that are too many; nothing once the stream is dropped. Its number.
    ///
    /// # Errors
    /// [`EngineError::Disk`] when it cannot be written: those before it stay.
    pub(crate) fn write(&self, snapshot: Snapshot) -> Result<u64, EngineError> {
        let dropped = self.dropped.lock().expect("no holder of this lock panics");
        if *dropped {
            return Ok(0);
        }
        let generation = self.generations().first().map_or(1, |newest| newest + 1);
        file::write(self.volume.as_ref(), &self.folder, generation, snapshot)?;
        let gone: Vec<u64> = {
            let mut generations = self.generations.lock().expect("no holder of this lock panics");
            generations.push(generation);
            let surplus = generations.len().saturating_sub(KEPT);
            generations.drain(..surplus).collect()
        };
        self.book(generation, true);
        self.remove(gone)?;
        Ok(generation)
    }

    /// Removes those that are of no use any more.
    ///
    /// # Errors
    /// [`EngineError::Disk`].
    pub(crate) fn forget(&self, which: impl Fn(u64) -> bool) -> Result<(), EngineError> {
        let dropped = self.dropped.lock().expect("no holder of this lock panics");
        if *dropped {
            return Ok(());
        }
        let gone = {
            let mut generations = self.generations.lock().expect("no holder of this lock panics");
            generations.extract_if(.., |generation| which(*generation)).collect()
        };
        self.remove(gone)
    }

    fn remove(&self, gone: Vec<u64>) -> Result<(), EngineError> {
        for generation in gone {
            self.book(generation, false);
            let removed = file::remove(self.volume.as_ref(), &self.folder, generation);
            removed.map_err(|error| EngineError::Disk(Arc::new(error)))?;
        }
        Ok(())
    }

    /// Counts the bytes of one that is there from now on, or no longer.
    fn book(&self, generation: u64, is_there: bool) {
        let bytes = file::bytes(self.volume.as_ref(), &self.folder, generation);
        if is_there {
            self.budget.change(0, bytes);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        } else {
            self.budget.change(bytes, 0);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Has no more written, after the one that is being written: its folder goes, and may be another stream's then.
    pub(crate) fn end(&self) {
        *self.dropped.lock().expect("no holder of this lock panics") = true;
    }

    /// Whether it lies in a folder.
    pub(crate) fn lies_in(&self, folder: &Path) -> bool {
        self.folder.starts_with(folder)
    }

    /// How many could not be used.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        self.budget.change(self.bytes.load(Ordering::Relaxed), 0);
    }
}
