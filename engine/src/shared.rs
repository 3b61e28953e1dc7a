//! What all jobs of an engine share.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use arrow::datatypes::SchemaRef;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::engine::EngineConfig;
use crate::error::EngineError;
use crate::job::{Registry, Routers, Snapshots};
use crate::ledger::Ledger;
use crate::operator::Crew;
use crate::stream::{
    Carried, Disk, DiskBudget, DiskError, DiskLog, DiskOptions, DiskWriter, Durability, LogLimits, MemoryStream,
    RealVolume, Resumed, Volume,
};

/// See the module.
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) clock: Arc<dyn Clock>,
    /// The compute runtime.
    pub(crate) handle: Handle,
    pub(crate) registry: Arc<Registry>,
    /// What those have lost that have ended.
    pub(crate) ledger: Arc<Ledger>,
    /// Where streams that last lie; `None`: nowhere.
    pub(crate) logs: Option<Logs>,
    /// The tasks that filter streams for many queries.
    pub(crate) routers: Routers,
    /// The tasks of which snapshots are taken: when the engine stops they take a last one.
    pub(crate) kept: TaskTracker,
    /// Helps jobs with large pieces of work; `None`: there is one thread.
    pub(crate) crew: Option<Arc<Crew>>,
    stops: AtomicBool,
    ids: AtomicU64,
    state_bytes: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(
        config: EngineConfig,
        clock: Arc<dyn Clock>,
        handle: Handle,
        registry: Arc<Registry>,
        logs: Option<Logs>,
    ) -> Self {
        let ledger = Arc::new(Ledger::new(clock.now()));
        let crew = (config.compute_threads > 1).then(|| Arc::new(Crew::new(handle.clone(), config.compute_threads)));
        Self {
            config,
            clock,
            handle,
            registry,
            ledger,
            logs,
            routers: Routers::default(),
            kept: TaskTracker::new(),
            crew,
            stops: AtomicBool::new(false),
            ids: AtomicU64::new(1),
            state_bytes: AtomicUsize::new(0),
        }
    }

    /// Says that the engine stops: tasks that are cancelled from now on are to go on one day.
    pub(crate) fn stop(&self) {
        self.stops.store(true, Ordering::Relaxed);
        self.kept.close();
    }

    pub(crate) fn stops(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
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

/// The logs on disk of an engine.
pub(crate) struct Logs {
    folder: PathBuf,
    volume: Arc<dyn Volume>,
    budget: Arc<DiskBudget>,
    writer: Arc<DiskWriter>,
    open: Mutex<Vec<Weak<DiskLog>>>,
    snapshots: Mutex<Vec<Weak<Snapshots>>>,
    /// Folders that are being removed.
    removals: Mutex<Vec<(PathBuf, JoinHandle<()>)>>,
}

/// A stream that lasts.
pub(crate) struct Lasting<'a> {
    pub(crate) name: &'a str,
    /// Which of its logs.
    pub(crate) generation: u32,
    pub(crate) durability: Durability,
    pub(crate) schema: SchemaRef,
    pub(crate) partitions: u32,
    pub(crate) replay: bool,
    /// What is kept on disk; in memory no more than that.
    pub(crate) retention: LogLimits,
    /// It was there when the process started: what it holds is kept.
    pub(crate) resumes: bool,
    /// Results of a window that are not all there are cut when it goes on.
    pub(crate) whole_windows: bool,
    /// The logs that it takes the place of.
    pub(crate) carried: Option<Carried>,
    /// Who writes it waits for room on the disk.
    pub(crate) waits: bool,
}

impl Logs {
    pub(crate) fn new(folder: PathBuf, limit_bytes: u64) -> std::io::Result<Self> {
        Ok(Self {
            folder,
            volume: Arc::new(RealVolume),
            budget: Arc::new(DiskBudget::new(limit_bytes)),
            writer: Arc::new(DiskWriter::start()?),
            open: Mutex::default(),
            snapshots: Mutex::default(),
            removals: Mutex::default(),
        })
    }

    /// Bytes that all logs hold, and may hold.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.budget.bytes()
    }

    /// Opens the log of a stream, or begins it.
    ///
    /// # Errors
    /// [`EngineError::Disk`].
    pub(crate) async fn open(
        &self,
        shared: &Shared,
        stream: Lasting<'_>,
    ) -> Result<(Arc<MemoryStream>, Resumed), EngineError> {
        let options = DiskOptions {
            folder: self.folder_of(stream.name, stream.generation),
            schema: stream.schema,
            partitions: stream.partitions,
            durability: stream.durability,
            age: stream.retention.age,
            bytes: stream.retention.bytes as u64,
            epoch: shared.new_epoch(),
            whole_windows: stream.whole_windows,
            carried: stream.carried,
        };
        // It would remove what comes now.
        self.removed(|folder| *folder == options.folder).await;
        let (volume, budget, resumes) = (self.volume.clone(), self.budget.clone(), stream.resumes);
        let opening = tokio::task::spawn_blocking(move || {
            if !resumes {
                // What a dropped stream of that name left.
                DiskLog::remove(volume.as_ref(), &options.folder)?;
            }
            DiskLog::open(volume, budget, options)
        });
        let opened = opening.await.map_err(|error| EngineError::Internal(Box::new(error)))?;
        let (log, resumed) = opened.map_err(|error| EngineError::Disk(Arc::new(error)))?;
        if resumed.cut_bytes > 0 || resumed.damaged_rows > 0 {
            let (bytes, rows) = (resumed.cut_bytes, resumed.damaged_rows);
            tracing::warn!(
                stream = stream.name,
                bytes,
                rows,
                "a log was cut by these bytes at its end; rows are damaged"
            );
        }
        self.open.lock().expect("no holder of this lock panics").push(Arc::downgrade(&log));
        let disk = Disk { log, writer: self.writer.clone() };
        let limits = LogLimits {
            bytes: stream.retention.bytes.min(LogLimits::NAMED.bytes),
            age: stream.retention.age.min(LogLimits::NAMED.age),
        };
        let clock = shared.clock.clone();
        let opened = MemoryStream::on_disk(disk, &resumed, stream.replay, limits, clock, stream.waits);
        Ok((opened, resumed))
    }

    /// The snapshots of a stream, in the folder of one of its logs.
    ///
    /// # Errors
    /// [`EngineError::Disk`].
    pub(crate) async fn snapshots(&self, name: &str, generation: u32) -> Result<Arc<Snapshots>, EngineError> {
        let (volume, folder) = (self.volume.clone(), self.folder_of(name, generation).join("snapshots"));
        let budget = self.budget.clone();
        let opening = tokio::task::spawn_blocking(move || Snapshots::open(volume, folder, budget));
        let opened = opening.await.map_err(|error| EngineError::Internal(Box::new(error)))?;
        let opened = opened.map(Arc::new).map_err(|error| EngineError::Disk(Arc::new(error)))?;
        let mut snapshots = self.snapshots.lock().expect("no holder of this lock panics");
        snapshots.retain(|snapshots| snapshots.strong_count() > 0);
        snapshots.push(Arc::downgrade(&opened));
        Ok(opened)
    }

    /// Removes one of a stream's logs and what lies with it, soon.
    pub(crate) fn remove(&self, name: &str, generation: u32) {
        let folder = self.folder_of(name, generation);
        let (volume, gone) = (self.volume.clone(), folder.clone());
        let mut snapshots: Vec<_> = {
            let snapshots = self.snapshots.lock().expect("no holder of this lock panics");
            snapshots.iter().filter_map(Weak::upgrade).collect()
        };
        snapshots.retain(|snapshots| snapshots.lies_in(&folder));
        let open: Vec<Arc<DiskLog>> = {
            let mut open = self.open.lock().expect("no holder of this lock panics");
            open.retain(|log| log.strong_count() > 0);
            open.iter().filter_map(Weak::upgrade).filter(|log| log.lies_in(&folder)).collect()
        };
        open.iter().for_each(|log| log.give_back());
        let removal = tokio::task::spawn_blocking(move || {
            snapshots.iter().for_each(|snapshots| snapshots.end());
            open.iter().for_each(|log| log.end());
            if let Err(error) = DiskLog::remove(volume.as_ref(), &gone) {
                tracing::error!(%error, folder = %gone.display(), "a dropped stream's log cannot be removed");
            }
        });
        let mut removals = self.removals.lock().expect("no holder of this lock panics");
        removals.retain(|(_, removal)| !removal.is_finished());
        removals.push((folder, removal));
    }

    /// Waits for the removal of folders.
    async fn removed(&self, which: impl Fn(&PathBuf) -> bool) {
        let removals: Vec<_> = {
            let mut removals = self.removals.lock().expect("no holder of this lock panics");
            removals.extract_if(.., |(folder, _)| which(folder)).collect()
        };
        for (_, removal) in removals {
            // What went wrong was told.
            let _ = removal.await;
        }
    }

    /// Removes all but these logs: a process may end between two steps of making a stream, of dropping one, or of
    /// beginning its log anew.
    ///
    /// # Errors
    /// [`EngineError::Disk`].
    pub(crate) async fn remove_all_but(&self, logs: &[(&str, u32)]) -> Result<(), EngineError> {
        let kept: HashSet<PathBuf> = logs.iter().map(|(name, generation)| self.folder_of(name, *generation)).collect();
        let (volume, folder) = (self.volume.clone(), self.folder.clone());
        let removing = tokio::task::spawn_blocking(move || -> Result<(), DiskError> {
            volume.create_folder(&folder)?;
            let found = volume.list(&folder)?.into_iter().map(|name| folder.join(name));
            for orphan in found.filter(|found| !kept.contains(found)) {
                tracing::info!(folder = %orphan.display(), "the log of a stream that is not there is removed");
                DiskLog::remove(volume.as_ref(), &orphan)?;
            }
            Ok(())
        });
        let removed = removing.await.map_err(|error| EngineError::Internal(Box::new(error)))?;
        removed.map_err(|error| EngineError::Disk(Arc::new(error)))
    }

    /// Returns when all that readers have seen is on disk. Nothing is appended afterwards.
    pub(crate) async fn close(&self) {
        let open: Vec<_> = self.open.lock().expect("no holder of this lock panics").drain(..).collect();
        self.removed(|_| true).await;
        for log in open.iter().filter_map(Weak::upgrade) {
            if let Err(error) = self.writer.flush(&log, true).await {
                tracing::error!(%error, "a log on disk cannot be closed");
            }
        }
    }

    /// Names are written so that each is a folder's: letters, digits, `_` and `-` stay, other bytes are `%` and two
    /// digits. Behind that of a log that was begun anew stand a dot and its number.
    fn folder_of(&self, name: &str, generation: u32) -> PathBuf {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        let escaped: String = name
            .bytes()
            .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
            .collect();
        self.folder.join(if generation == 0 { escaped } else { format!("{escaped}.{generation}") })
    }
}
