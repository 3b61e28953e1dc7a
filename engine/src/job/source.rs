//! The job of a source: reads its partitions, stamps the rows, commits them to the source's stream.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize};
use std::sync::{Arc, Mutex, RwLock};

use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::harm::Harm;
use super::hold::Hold;
use super::run::text_of;
use super::skipped::Skips;
use super::stamp::Stamp;
use super::writer::Writer;
use super::{Branch, COMMANDS, Demand, Inputs, Job, Status};
use crate::batch::{Memo, RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::Counters;
use crate::error::EngineError;
use crate::failpoint::Failpoint;
use crate::shared::{Lasting, Shared};
use crate::source::{
    ConnectorInfo, EventTimeSpec, PartitionReader, ReadEvent, Receipt, SourceDefinition, WatermarkSpec,
};
use crate::stream::{Durability, LogLimits, MemoryStream, Offset, Position, ProducerMark, Stream};
use crate::turn::Turn;

/// Decoded batches that wait for the job, per partition.
const READ_AHEAD: usize = 2;
/// How often the clock moves the watermark of a source that is idle.
const IDLE_STEP_NS: i64 = 200_000_000;
/// How often those who go by the arrival of rows are told the clock when none comes: windows of processing time close so
/// much late at the most, and a poll's time.
const CLOCK_STEP_NS: i64 = 200_000_000;

/// What a source's job has beside other jobs.
pub(crate) struct SourceJob {
    pub(crate) definition: SourceDefinition,
    pub(crate) info: ConnectorInfo,
    /// Columns that are read, by index. Fixed once the gate is open.
    columns: Mutex<BTreeSet<usize>>,
    /// Opens when reading may begin.
    gate: watch::Sender<bool>,
    /// Jobs that go by the arrival of rows.
    clocked: Arc<AtomicUsize>,
}

impl SourceJob {
    /// Adds columns to what is read. False: reading has begun, and some of them are not read.
    pub(crate) fn want(&self, columns: &BTreeSet<usize>) -> bool {
        let mut read = self.columns.lock().expect("no holder of this lock panics");
        if !*self.gate.borrow() {
            read.extend(columns);
        }
        read.is_superset(columns)
    }

    /// Tells the clock from now on also when no row comes, for as long as the lease lives.
    pub(crate) fn tell_clock(&self) -> ClockLease {
        self.clocked.fetch_add(1, Relaxed);
        ClockLease(self.clocked.clone())
    }

    /// Lets the job begin.
    pub(crate) fn open_gate(&self) {
        self.gate.send_replace(true);
    }
}

/// The wish of a job to be told the clock. Dropping it withdraws it.
pub(crate) struct ClockLease(Arc<AtomicUsize>);

impl Drop for ClockLease {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Columns without which a row has no event time.
fn time_columns(definition: &SourceDefinition) -> BTreeSet<usize> {
    let EventTimeSpec::Column { index, watermark } = &definition.event_time else { return BTreeSet::new() };
    let mut columns = BTreeSet::from([*index]);
    if let WatermarkSpec::Expr(expr) = watermark {
        let named = expr.column_refs().into_iter().filter_map(|column| definition.schema.index_of(&column.name).ok());
        columns.extend(named);
    }
    columns
}

/// The job of a source, not yet started. `columns`: what will be read at the least.
///
/// # Errors
/// [`EngineError::Disk`] when its log on disk cannot be opened.
pub(crate) async fn make_source(
    shared: &Arc<Shared>,
    definition: &SourceDefinition,
    mut columns: BTreeSet<usize>,
    partitions: u32,
    fingerprint: String,
) -> Result<Arc<Job>, EngineError> {
    let info = definition.connector.info();
    columns.extend(time_columns(definition));
    let number = shared.next_id();
    let output = open_output(shared, definition, &info, partitions).await?;
    let (commands, _) = mpsc::channel(COMMANDS);
    let source = SourceJob {
        definition: definition.clone(),
        info: info.clone(),
        columns: Mutex::new(columns),
        gate: watch::Sender::new(false),
        clocked: Arc::default(),
    };
    Ok(Arc::new(Job {
        id: format!("j{number}"),
        fingerprint,
        kind: "source",
        inputs: RwLock::new(Arc::new(Inputs::new(
            Vec::new(),
            format!("read {} source {}", info.connector, definition.name),
        ))),
        logged: true,
        can_wait: info.can_wait,
        rereadable: info.rereadable,
        key_columns: 0,
        labels: info.label.clone().into_iter().collect(),
        output,
        updates: None,
        late: None,
        demand: Demand::new(),
        hold: Hold::new(false),
        skips: Skips::none(),
        routed: AtomicBool::new(false),
        harm: Harm::default(),
        counters: Arc::new(Counters::default()),
        commands,
        cancel: CancellationToken::new(),
        started: shared.clock.now(),
        state_bytes: AtomicUsize::new(0),
        state: "its rows, for readers that come later".into(),
        lost_before: AtomicI64::new(EventTime::MIN.0),
        missing_before: EventTime::MIN,
        stream: Some(definition.name.clone()),
        source: Some(source),
        ledger: shared.ledger.clone(),
        status: Mutex::new(Status::Running),
        users: Mutex::default(),
    }))
}

/// The stream of a source: in memory, or where its log on disk ended.
async fn open_output(
    shared: &Arc<Shared>,
    definition: &SourceDefinition,
    info: &ConnectorInfo,
    partitions: u32,
) -> Result<Arc<MemoryStream>, EngineError> {
    let retention = LogLimits { bytes: definition.retention_bytes, age: definition.retention };
    let schema = physical_schema(&definition.schema);
    match &shared.logs {
        Some(logs) if definition.durability != Durability::Memory => {
            let (name, durability) = (definition.name.as_str(), definition.durability);
            let (replay, resumes) = (info.replay, definition.resumes);
            let (whole_windows, waits) = (false, false);
            let stream = Lasting {
                name,
                generation: 0,
                durability,
                schema,
                partitions,
                replay,
                retention,
                resumes,
                whole_windows,
                carried: None,
                waits,
            };
            let (stream, resumed) = logs.open(shared, stream).await?;
            definition.connector.resume(resumed.producers);
            Ok(stream)
        }
        None if definition.durability != Durability::Memory => Err(EngineError::NoLogFolder(definition.name.clone())),
        _ => {
            let start = Position { epoch: shared.new_epoch(), offsets: std::collections::BTreeMap::new() };
            let limits = shared.limits(retention);
            Ok(MemoryStream::new(schema, &start, partitions, info.replay, limits, shared.clock.clone()))
        }
    }
}

/// Starts a source's task. Readers were opened on all columns for a live source; a source that can be reread opens
/// them when its gate does, on the columns wanted by then.
pub(crate) fn start_source(shared: &Arc<Shared>, job: &Arc<Job>, readers: Option<Vec<Box<dyn PartitionReader>>>) {
    let (shared, job) = (shared.clone(), job.clone());
    let handle = shared.handle.clone();
    handle.spawn(async move {
        let cancel = job.cancel.clone();
        let result = tokio::select! {
            result = AssertUnwindSafe(read(&shared, &job, readers)).catch_unwind() => {
                result.unwrap_or_else(|panic| Err(EngineError::Crashed(text_of(panic.as_ref()))))
            }
            () = cancel.cancelled() => Ok(()),
        };
        match result {
            Ok(()) => job.set_status(Status::Ended),
            Err(error) => {
                tracing::warn!(source = job.display_name(), %error, "a source has failed");
                let error = Arc::new(error);
                job.set_status(Status::Failed(error.clone()));
                job.output.fail(error);
            }
        }
    });
}

async fn read(
    shared: &Arc<Shared>,
    job: &Arc<Job>,
    readers: Option<Vec<Box<dyn PartitionReader>>>,
) -> Result<(), EngineError> {
    let source = job.source.as_ref().expect("only sources' jobs come here");
    let mut gate = source.gate.subscribe();
    // The sender lives in the job, which this task keeps.
    let _ = gate.wait_for(|open| *open).await;
    let columns: Vec<usize> = source.columns.lock().expect("no holder of this lock panics").iter().copied().collect();
    let readers = match readers {
        Some(readers) => readers,
        None => source.definition.connector.open(&columns).await?,
    };
    if readers.len() != job.output.partitions() as usize {
        let message = "its partitions have changed since the query was made".to_owned();
        return Err(EngineError::Source { name: source.definition.name.clone(), message, retryable: true });
    }
    let info = &source.info;
    let live = !info.rereadable && !info.replay && !info.bounded;
    let stamp = Stamp::new(&source.definition.schema, &columns, &source.definition.event_time, live)?;
    let resumed = job.output.watermarks();
    let lanes = readers.into_iter().zip(0..).zip(resumed);
    let lanes = lanes.map(|((reader, partition), watermark)| Lane::new(shared, partition, reader, watermark)).collect();
    let writer = Writer::new(job.output.clone(), true)?;
    let idle_ns = i64::try_from(source.definition.idle_timeout.as_nanos()).unwrap_or(i64::MAX);
    let mut reading = Reading { shared: shared.clone(), job: job.clone(), stamp, writer, lanes, idle_ns };
    if info.bounded { reading.bounded().await } else { reading.live().await }
}

/// One partition.
struct Lane {
    partition: u32,
    events: mpsc::Receiver<Result<ReadEvent, EngineError>>,
    /// Decodes ahead; ends with the lane.
    _task: AbortOnDropHandle<()>,
    /// What the rows imply.
    rows_watermark: EventTime,
    /// What was told: ahead of the rows' while the partition is idle and the clock moves it.
    watermark: EventTime,
    last_rows: EventTime,
    /// When anything was told of it.
    last_told: EventTime,
    idle: bool,
    ended: bool,
}

impl Lane {
    /// `watermark`: what the rows imply that came before the process started.
    fn new(shared: &Arc<Shared>, partition: u32, mut reader: Box<dyn PartitionReader>, watermark: EventTime) -> Self {
        let (sender, events) = mpsc::channel(READ_AHEAD);
        let task = shared.handle.spawn(async move {
            let mut turn = Turn::begin();
            loop {
                let event = reader.next().await;
                let last = matches!(event, Err(_) | Ok(ReadEvent::End));
                if sender.send(event).await.is_err() || last {
                    return;
                }
                // Who waits for the event has been put where only this thread takes it from, and may have it at once,
                // while another thread reads on. Otherwise one thread does both, and all that follows: that is better
                // where reading takes a moment.
                turn.pass().await;
            }
        });
        Self {
            partition,
            events,
            _task: AbortOnDropHandle::new(task),
            rows_watermark: watermark,
            watermark,
            last_rows: shared.clock.now(),
            last_told: EventTime::MIN,
            idle: false,
            ended: false,
        }
    }
}

fn tell(receipts: Vec<Receipt>, result: &Result<(), Arc<EngineError>>) {
    for receipt in receipts {
        // A publisher that has gone does not want to know.
        let _ = receipt.told.send(result.clone());
    }
}

struct Reading {
    shared: Arc<Shared>,
    job: Arc<Job>,
    stamp: Stamp,
    writer: Writer,
    lanes: Vec<Lane>,
    idle_ns: i64,
}

impl Reading {
    /// Reads on where the watermark is least, so that windows close as soon as they can and state stays small.
    async fn bounded(&mut self) -> Result<(), EngineError> {
        loop {
            let running = self.lanes.iter().enumerate().filter(|(_, lane)| !lane.ended);
            let Some((at, _)) = running.min_by_key(|(_, lane)| lane.watermark) else { return Ok(()) };
            let event = self.lanes[at].events.recv().await;
            self.take(at, event).await?;
        }
    }

    /// Takes what comes first.
    async fn live(&mut self) -> Result<(), EngineError> {
        loop {
            let mut running: Vec<(usize, &mut Lane)> =
                self.lanes.iter_mut().enumerate().filter(|(_, lane)| !lane.ended).collect();
            if running.is_empty() {
                return Ok(());
            }
            let receives = running.iter_mut().map(|(at, lane)| {
                let at = *at;
                Box::pin(async move { (at, lane.events.recv().await) })
            });
            let ((at, event), _, _) = futures::future::select_all(receives).await;
            drop(running);
            self.take(at, event).await?;
        }
    }

    async fn take(&mut self, at: usize, event: Option<Result<ReadEvent, EngineError>>) -> Result<(), EngineError> {
        match event.transpose()? {
            Some(ReadEvent::Batch { rows, undecodable, rejects, bytes, receipts }) => {
                let counters = &self.job.counters;
                counters.rows_in.fetch_add(rows.num_rows() as u64 + undecodable, Relaxed);
                counters.undecodable.fetch_add(undecodable, Relaxed);
                counters.bytes_in.fetch_add(bytes, Relaxed);
                for reject in rejects {
                    counters.sample(&format!("{}: {}", reject.place, reject.reason), &reject.record);
                }
                let marks = receipts.iter().filter_map(|receipt| receipt.mark.clone()).collect();
                let stored = self.rows(at, &rows, marks).await;
                Failpoint::ReceiptBegins.pass();
                match stored {
                    Ok(()) => tell(receipts, &Ok(())),
                    // The disk is full: these rows are counted and their publisher is told; the next may find room.
                    Err(error) if error.retryable() => tell(receipts, &Err(Arc::new(error))),
                    // Who waits for a receipt is told by its end.
                    Err(error) => return Err(error),
                }
                Ok(())
            }
            Some(ReadEvent::Empty) => self.empty(at).await,
            Some(ReadEvent::End) | None => {
                self.lanes[at].ended = true;
                self.job.output.end(self.lanes[at].partition);
                Ok(())
            }
        }
    }

    async fn rows(
        &mut self,
        at: usize,
        rows: &arrow::array::RecordBatch,
        marks: Vec<ProducerMark>,
    ) -> Result<(), EngineError> {
        let now = self.shared.clock.now();
        let counters = self.job.counters.clone();
        let lane = &mut self.lanes[at];
        let started = std::time::Instant::now();
        let stamped = self.stamp.stamp(rows, lane.rows_watermark, now, &counters)?;
        counters.spend(started);
        let passed = stamped.rows.num_rows() as u64;
        let before = (lane.rows_watermark, lane.watermark);
        lane.rows_watermark = stamped.watermark;
        lane.watermark = lane.watermark.max(stamped.watermark);
        (lane.last_rows, lane.last_told, lane.idle) = (now, now, false);
        let batch = self.batch(at, stamped.rows, now);
        if let Err(error) = self.writer.write_marked(vec![batch], Vec::new(), marks).await {
            // Nobody has seen these rows: when they are sent again, they must not be late behind themselves.
            let lane = &mut self.lanes[at];
            (lane.rows_watermark, lane.watermark) = before;
            counters.dropped.fetch_add(passed, Relaxed);
            return Err(error);
        }
        counters.passed.fetch_add(passed, Relaxed);
        counters.rows_out.fetch_add(passed, Relaxed);
        Ok(())
    }

    /// A partition that was found empty for long enough no longer holds back the others; when all are so, the clock
    /// moves their watermarks on.
    async fn empty(&mut self, at: usize) -> Result<(), EngineError> {
        let now = self.shared.clock.now();
        if !self.idles(at, now) && !self.owes_clock(at, now) {
            return Ok(());
        }
        self.lanes[at].last_told = now;
        let none = arrow::array::RecordBatch::new_empty(self.stamp.schema().clone());
        let batch = self.batch(at, none, now);
        match self.writer.write(vec![batch], Vec::new()).await {
            Err(error) if error.retryable() => Ok(()),
            other => other,
        }
    }

    /// Whether somebody goes by the clock and was not told of it for a while.
    fn owes_clock(&self, at: usize, now: EventTime) -> bool {
        let wanted = self.job.source.as_ref().is_some_and(|source| source.clocked.load(Relaxed) > 0);
        wanted && now.0.saturating_sub(self.lanes[at].last_told.0) >= CLOCK_STEP_NS
    }

    /// Takes a partition for idle when it is time, and moves its watermark; whether that is to be told.
    fn idles(&mut self, at: usize, now: EventTime) -> bool {
        let lane = &self.lanes[at];
        let since = now.0.saturating_sub(lane.last_rows.0);
        if since < self.idle_ns {
            return false;
        }
        let all_idle = self.lanes.iter().all(|lane| lane.idle || lane.ended);
        let clocked = lane.rows_watermark.plus(since.saturating_sub(self.idle_ns));
        let moves = lane.rows_watermark > EventTime::MIN && !self.job.output.replay();
        let step = clocked.0.saturating_sub(lane.watermark.0) >= IDLE_STEP_NS;
        if lane.idle && !(all_idle && moves && step) {
            return false;
        }
        let lane = &mut self.lanes[at];
        if lane.idle {
            lane.watermark = lane.watermark.max(clocked);
        }
        lane.idle = true;
        true
    }

    fn batch(&self, at: usize, rows: arrow::array::RecordBatch, arrival: EventTime) -> StreamBatch {
        let lane = &self.lanes[at];
        StreamBatch {
            kind: RowKind::Append,
            partition: lane.partition,
            first: Offset(0),
            next: Offset(0),
            rows,
            watermark: lane.watermark,
            arrival,
            idle: lane.idle,
            memo: Memo::default(),
        }
    }
}

/// Has the sources of branches whose rows go by their arrival tell the clock.
pub(crate) fn clock_of(branches: &[Branch]) -> Vec<ClockLease> {
    let jobs = branches.iter().filter(|branch| branch.is_by_arrival()).flat_map(|branch| branch.job().chain());
    jobs.filter_map(|job| job.source.as_ref().map(SourceJob::tell_clock)).collect()
}
