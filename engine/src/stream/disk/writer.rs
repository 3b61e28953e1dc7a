//! The thread that writes all logs: takes what waits, writes it, syncs once for all that wants to be on disk.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::notes::Notes;
use super::record::{Encoder, Header};
use super::{DiskError, DiskLog, Durability};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::failpoint::Failpoint;
use crate::stream::{Position, ProducerMark};

/// Bytes of rows that wait to be written: who commits more waits.
const QUEUE_BYTES: usize = 16 << 20;
/// Commits that wait to be written.
const QUEUE_COMMITS: usize = 4096;
/// Commits that are written before they are synced together.
const GROUP_COMMITS: usize = 512;
/// How long written rows may wait until they are synced: with the time that this takes, less than 200 ms.
const SYNC_AFTER: Duration = Duration::from_millis(100);

/// One commit to be appended.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) log: Arc<DiskLog>,
    /// All of one partition.
    pub(crate) batches: Vec<Arc<StreamBatch>>,
    /// The number that the log gave.
    pub(crate) commit: u64,
    /// How far the inputs were read.
    pub(crate) inputs: Vec<(String, Position)>,
    /// The publishers' requests that it holds.
    pub(crate) marks: Vec<ProducerMark>,
    /// When it is made.
    pub(crate) now: EventTime,
}

impl Append {
    /// Its records, behind each other in `out` in place of what is there. `marks` are noted with the first.
    pub(super) fn encode(
        &self,
        encoder: &mut Encoder,
        marks: &[ProducerMark],
        out: &mut Vec<u8>,
    ) -> Result<Vec<Header>, DiskError> {
        out.clear();
        let mut headers = Vec::with_capacity(self.batches.len());
        for (at, batch) in self.batches.iter().enumerate() {
            let last = at + 1 == self.batches.len();
            let mut notes = Notes::default();
            if at == 0 {
                notes.marks = marks.into();
            }
            if last {
                notes.inputs = self.inputs.as_slice().into();
            }
            headers.push(encoder.encode(batch, self.commit, notes, last, out)?);
        }
        Ok(headers)
    }
}

type Done = oneshot::Sender<Result<(), Arc<DiskError>>>;

enum Work {
    Append {
        append: Append,
        /// Told when the rows are written; on disk, if the log is durable.
        done: Option<Done>,
        _room: OwnedSemaphorePermit,
    },
    /// Sync a log, and say that it is closed if `close`.
    Flush { log: Arc<DiskLog>, close: bool, done: Done },
}

/// See the module. Dropping it writes and syncs what waits.
#[derive(Debug)]
pub(crate) struct DiskWriter {
    work: Option<mpsc::Sender<Work>>,
    room: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl DiskWriter {
    /// Starts the thread.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (work, waiting) = mpsc::channel(QUEUE_COMMITS);
        let thread = std::thread::Builder::new().name("disk".into()).spawn(move || Writing::default().run(waiting))?;
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        Ok(Self { work: Some(work), room, thread: Mutex::new(Some(thread)) })
    }

    /// Hands over a commit. Waits for room. `wait`: until it is written, and on disk if the log is durable.
    pub(crate) async fn append(&self, append: Append, wait: bool) -> Result<(), Arc<DiskError>> {
        let bytes: usize = append.batches.iter().map(|batch| batch.bytes()).sum();
        let permits = u32::try_from(bytes.clamp(1, QUEUE_BYTES)).expect("the queue is counted in 32 bits");
        let closed = || Arc::new(DiskError::Closed);
        let room = self.room.clone().acquire_many_owned(permits).await.map_err(|_| closed())?;
        let (done, told) = oneshot::channel();
        let work = Work::Append { append, done: wait.then_some(done), _room: room };
        self.sender()?.send(work).await.map_err(|_| closed())?;
        if wait { told.await.map_err(|_| closed())? } else { Ok(()) }
    }

    /// Returns when what was handed over before is on disk. `close`: the log gets no more.
    pub(crate) async fn flush(&self, log: &Arc<DiskLog>, close: bool) -> Result<(), Arc<DiskError>> {
        let (done, told) = oneshot::channel();
        let closed = || Arc::new(DiskError::Closed);
        self.sender()?.send(Work::Flush { log: log.clone(), close, done }).await.map_err(|_| closed())?;
        told.await.map_err(|_| closed())?
    }

    fn sender(&self) -> Result<&mpsc::Sender<Work>, Arc<DiskError>> {
        self.work.as_ref().ok_or_else(|| Arc::new(DiskError::Closed))
    }
}

impl Drop for DiskWriter {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.lock().ok().and_then(|mut thread| thread.take())
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes the logs has panicked");
        }
    }
}

/// What the thread has at hand.
#[derive(Default)]
struct Writing {
    encoder: Encoder,
    buffer: Vec<u8>,
    /// Logs with rows that are not synced, and since when; by address.
    unsynced: BTreeMap<usize, (Arc<DiskLog>, Instant)>,
    /// Who waits for the next sync.
    waiting: Vec<(Arc<DiskLog>, u64, Done)>,
}

impl Writing {
    fn run(mut self, mut work: mpsc::Receiver<Work>) {
        let timer = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let timer = timer.expect("a runtime without input and output starts always");
        loop {
            let next = match self.due() {
                None => work.blocking_recv(),
                Some(due) => match timer.block_on(async { tokio::time::timeout_at(due.into(), work.recv()).await }) {
                    Ok(next) => next,
                    Err(_) => {
                        self.sync(Instant::now());
                        continue;
                    }
                },
            };
            let Some(first) = next else { break };
            self.take(first);
            for _ in 1..GROUP_COMMITS {
                let Ok(next) = work.try_recv() else { break };
                self.take(next);
            }
            self.group_commit();
        }
        self.sync(Instant::now() + SYNC_AFTER);
    }

    fn due(&self) -> Option<Instant> {
        self.unsynced.values().map(|(_, since)| *since + SYNC_AFTER).min()
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Append { append, done, _room } => self.append(append, done),
            Work::Flush { log, close, done } => {
                self.group_commit();
                self.unsynced.remove(&address(&log));
                let result = if close { log.close() } else { log.sync() };
                // Who asked may have gone.
                let _ = done.send(result.map_err(Arc::new));
            }
        }
    }

    fn append(&mut self, append: Append, done: Option<Done>) {
        let result = append.log.append(&mut self.encoder, &append, &mut self.buffer).map_err(Arc::new);
        let log = append.log;
        if let (Err(error), false) = (&result, log.refusing() || log.is_removed()) {
            tracing::error!(%error, folder = %log.options.folder.display(), "a log on disk takes no rows");
        }
        log.refusing.store(result.is_err(), Ordering::Relaxed);
        if result.is_err() && done.is_none() {
            let rows: usize = append.batches.iter().map(|batch| batch.rows.num_rows()).sum();
            log.unstored_rows.fetch_add(rows as u64, Ordering::Relaxed);
        }
        match (result, log.durability()) {
            (Ok(()), Durability::Durable) => {
                if let Some(done) = done {
                    self.waiting.push((log, append.commit, done));
                }
            }
            (result, _) => {
                if result.is_ok() {
                    log.publish(append.commit);
                    self.unsynced.entry(address(&log)).or_insert_with(|| (log, Instant::now()));
                }
                if let Some(done) = done {
                    let _ = done.send(result);
                }
            }
        }
    }

    /// Syncs the durable logs that were written, once each, and tells all who wait.
    fn group_commit(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        while let Some((log, _, _)) = waiting.first() {
            let log = log.clone();
            let result = log.sync().map_err(Arc::new);
            let (these, others) = waiting.into_iter().partition(|(other, _, _)| Arc::ptr_eq(other, &log));
            let these: Vec<(Arc<DiskLog>, u64, Done)> = these;
            Failpoint::CommitLasts.pass();
            if let (Ok(()), Some(last)) = (&result, these.iter().map(|(_, commit, _)| *commit).max()) {
                log.publish(last);
            }
            for (_, _, done) in these {
                let _ = done.send(result.clone());
            }
            Failpoint::CommitTold.pass();
            waiting = others;
        }
    }

    /// Syncs the buffered logs whose time has come.
    fn sync(&mut self, now: Instant) {
        let due: Vec<usize> =
            self.unsynced.iter().filter(|(_, (_, since))| *since + SYNC_AFTER <= now).map(|(at, _)| *at).collect();
        for at in due {
            if let Some((log, _)) = self.unsynced.remove(&at)
                && let Err(error) = log.sync()
            {
                tracing::error!(%error, "a log on disk failed");
            }
        }
    }
}

fn address(log: &Arc<DiskLog>) -> usize {
    Arc::as_ptr(log).addr()
}
