//! Late rows as a stream beside a job's output, and the job that gathers those of a named stream: `LATE(name)`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use squilla_query::{LATE_BY_IDLE, LATE_BY_WATERMARK, late_fields, late_name};

use super::branch::{Branch, OpSpec};
use super::feed::Begin;
use super::run::{JobSpec, spawn_job};
use super::stage::Stage;
use super::writer::Writer;
use super::{Job, Lease};
use crate::batch::{Memo, RowKind, StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::operator::{LateRows, Progress};
use crate::shared::Shared;
use crate::stream::{LogLimits, MemoryStream, Offset, Position, Stream};

/// How far the watermark of late rows is behind that of the rows that they came among, in nanoseconds: windows over late
/// rows wait so long for them.
const DELAY_NS: i64 = 300 * 1_000_000_000;
/// How often that watermark is carried on when no row is late, in nanoseconds by the rows' arrival.
const CARRY_NS: i64 = 1_000_000_000;
const MS: i64 = 1_000_000;

/// The late rows of a job, for its readers.
pub(crate) struct Late {
    pub(crate) stream: Arc<MemoryStream>,
    wanted: AtomicBool,
}

impl Late {
    /// Those of a job, if there can be any. Nobody wants them yet. The columns of the rows, which are those of the job's
    /// inputs, come before the schema's.
    pub(crate) fn of(shared: &Shared, stage: &Stage, partitions: u32, replay: bool) -> Option<Self> {
        stage.stateful().filter(|step| step.judges_lateness())?;
        let schema = physical_schema(&Schema::new(late_fields().to_vec()));
        let start = Position { epoch: shared.new_epoch(), offsets: std::collections::BTreeMap::new() };
        let limits = shared.limits(LogLimits::HAND_OFF);
        let stream = MemoryStream::new(schema, &start, partitions, replay, limits, shared.clock.clone());
        Some(Self { stream, wanted: AtomicBool::new(false) })
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }
}

/// Writes a job's late rows.
pub(crate) struct LateTap {
    writer: Writer,
    stream: Arc<MemoryStream>,
    progress: Progress,
    /// The watermark that each partition was told.
    told: Vec<i64>,
    /// When it was carried on last.
    carried: EventTime,
    /// For each partition what its rows were read from.
    inputs: Vec<String>,
}

impl LateTap {
    /// Of a job, if rows can be late for it.
    pub(crate) fn new(job: &Job) -> Result<Option<Self>, EngineError> {
        let Some(late) = &job.late else { return Ok(None) };
        let mut inputs = Vec::new();
        for branch in &job.inputs().branches {
            let mut names = Vec::new();
            name_inputs(branch.job(), &mut names);
            inputs.extend(vec![names.join(" + "); branch.stream().partitions() as usize]);
        }
        let partitions = late.stream.partitions();
        Ok(Some(Self {
            writer: Writer::new(late.stream.clone(), true)?,
            stream: late.stream.clone(),
            progress: Progress::new(partitions),
            told: vec![i64::MIN; partitions as usize],
            carried: EventTime::MIN,
            inputs,
        }))
    }

    /// A partition has come to a watermark, or was found idle at it.
    pub(crate) fn advance(&mut self, partition: u32, watermark: EventTime, idle: bool) -> Result<(), EngineError> {
        self.progress.advance(partition, watermark.0, idle)
    }

    /// Writes rows, and now and then how far the watermark has come.
    pub(crate) async fn write(&mut self, late: Vec<LateRows>, arrival: EventTime) -> Result<(), EngineError> {
        let mut batches = Vec::with_capacity(late.len());
        for rows in late {
            batches.push(self.batch(&rows, arrival)?);
        }
        if arrival.0.saturating_sub(self.carried.0) >= CARRY_NS {
            self.carried = arrival;
            let reached = delayed(self.progress.watermark());
            for (partition, told) in (0u32..).zip(&mut self.told).filter(|(_, told)| **told < reached) {
                *told = reached;
                let rows = RecordBatch::new_empty(self.stream.schema().clone());
                batches.push(at(partition, rows, reached, arrival));
            }
        }
        self.writer.write(batches, Vec::new()).await
    }

    /// A partition has ended: none of its rows will be late any more.
    pub(crate) fn end(&mut self, partition: u32) -> Result<(), EngineError> {
        self.progress.end(partition)?;
        self.stream.end(partition);
        Ok(())
    }

    fn batch(&mut self, late: &LateRows, arrival: EventTime) -> Result<StreamBatch, EngineError> {
        let place = late.partition as usize;
        let count = late.rows.num_rows();
        let before = StreamBatch { rows: late.rows.clone(), ..at(late.partition, late.rows.clone(), 0, arrival) };
        let (times, own) = (before.event_times(), before.watermarks());
        let by = |row: usize| if late.idle[row] { late.told_at } else { own[row] };
        let reasons = late.idle.iter().map(|idle| if *idle { LATE_BY_IDLE } else { LATE_BY_WATERMARK });
        // Rounded up: a row is late by at least a millisecond.
        let behind = (0..count).map(|row| by(row).saturating_sub(times[row]).saturating_add(MS - 1) / MS);
        let marks: Vec<i64> = own.iter().map(|watermark| delayed(*watermark)).collect();
        let watermark = marks.iter().copied().max().unwrap_or(i64::MIN).max(delayed(self.progress.watermark()));
        self.told[place] = self.told[place].max(watermark);
        let visible = late.rows.num_columns() - 2;
        let mut columns: Vec<ArrayRef> = late.rows.columns()[..visible].to_vec();
        columns.push(late.rows.column(visible).clone());
        columns.push(Arc::new(StringArray::from_iter_values(reasons)));
        columns.push(Arc::new(Int64Array::from_iter_values(behind)));
        columns.push(Arc::new(TimestampNanosecondArray::from_iter_values((0..count).map(by))));
        columns.push(Arc::new(TimestampNanosecondArray::from_value(arrival.0, count)));
        columns.push(Arc::new(StringArray::from(vec![self.inputs[place].as_str(); count])));
        columns.push(late.rows.column(visible).clone());
        columns.push(Arc::new(TimestampNanosecondArray::from(marks)));
        let schema = late.rows.schema();
        // Columns that nobody reads have come without their type.
        let own = schema.fields().iter().zip(&columns).take(visible);
        let own = own.map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true));
        let fields: Vec<Field> = own.chain(late_fields()).collect();
        let rows = RecordBatch::try_new(physical_schema(&Schema::new(fields)), columns)?;
        Ok(at(late.partition, rows, self.told[place], arrival))
    }
}

/// The watermark of late rows.
fn delayed(watermark: i64) -> i64 {
    if watermark == i64::MAX { i64::MAX } else { watermark.saturating_sub(DELAY_NS) }
}

/// Rows of a partition. Offsets are given as they are written.
fn at(partition: u32, rows: RecordBatch, watermark: i64, arrival: EventTime) -> StreamBatch {
    StreamBatch {
        kind: RowKind::Append,
        partition,
        first: Offset(0),
        next: Offset(0),
        rows,
        watermark: EventTime(watermark),
        arrival,
        idle: false,
        memo: Memo::default(),
    }
}

/// The sources and named streams that a job's rows come from.
pub(super) fn name_inputs(job: &Job, names: &mut Vec<String>) {
    match &job.stream {
        Some(name) if names.contains(name) => {}
        Some(name) => names.push(name.clone()),
        None => job.inputs().branches.iter().for_each(|branch| name_inputs(branch.job(), names)),
    }
}

/// The jobs of a named stream for which rows can be late, below first.
fn judges(job: &Arc<Job>, found: &mut Vec<Arc<Job>>) {
    for below in job.inputs().branches.iter().map(Branch::job).filter(|below| below.stream.is_none()) {
        judges(below, found);
    }
    if job.late.is_some() && !found.iter().any(|known| Arc::ptr_eq(known, job)) {
        found.push(job.clone());
    }
}

/// Starts to gather what is late for the jobs of a named stream, under `schema`.
///
/// # Errors
/// [`EngineError::Plan`] when nothing can be.
pub(crate) fn start_late(
    shared: &Arc<Shared>,
    stream: &str,
    job: &Arc<Job>,
    schema: &SchemaRef,
) -> Result<Lease, EngineError> {
    let mut judging = Vec::new();
    judges(job, &mut judging);
    if judging.is_empty() {
        return Err(EngineError::Plan(format!("no row is ever late for stream \"{stream}\"")));
    }
    let number = shared.next_id();
    let branches = judging.iter().map(|judge| {
        if let Some(late) = &judge.late {
            late.wanted.store(true, Ordering::Relaxed);
        }
        let input = Arc::new(Lease::new(judge.clone(), &format!("j{number}"), &shared.registry));
        let ops = vec![OpSpec::Conform(schema.clone())];
        Branch { input, updates: false, late: true, fresh: true, right: false, ops }
    });
    let (branches, name) = (branches.collect(), late_name(stream));
    let (begin, stage) = (Begin::Earliest, Stage::Late);
    let (needed, private, holding, output) = (EventTime::MAX, true, false, None);
    let (user, stream, paused) = (stream, Some(name), false);
    let spec = JobSpec { number, branches, stage, begin, needed, stream, private, holding, output, paused };
    spawn_job(shared, spec, user)
}
