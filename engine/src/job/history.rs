//! Where a job's input can be read back: the logs below it, and the steps from there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use squilla_query::{WindowKind, WindowSpec};

use super::feed::Feed;
use super::{Begin, Branch, Job, OpSpec, Pipeline};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::counters::Counters;
use crate::error::EngineError;
use crate::stream::{Gap, Offset, Position, Read, Start, Stream, StreamReader};

/// A log below a job and the stateless steps between them.
pub(crate) struct Base {
    pub(crate) job: Arc<Job>,
    pub(crate) branch: Branch,
    /// What number the log's first partition has in the job's numbering.
    pub(crate) first_partition: u32,
}

/// The part of a log that lies before the live rows.
pub(super) struct History {
    pub(super) reader: Box<dyn StreamReader>,
    pub(super) until: Vec<Offset>,
    pub(super) pipeline: Pipeline,
    pub(super) first_partition: u32,
}

impl History {
    /// Some rows, or `None` when the live rows follow.
    pub(super) async fn step(&mut self, counters: &Counters) -> Result<Option<Vec<StreamBatch>>, EngineError> {
        let position = self.reader.position();
        let reached = (0..)
            .zip(&self.until)
            .all(|(partition, until)| position.offsets.get(&partition).is_some_and(|(offset, _)| offset >= until));
        if reached {
            return Ok(None);
        }
        // What lies before the live rows is there, in memory or on disk.
        match self.reader.next().await {
            Read::Batch(batch) => {
                let until = self.until.get(batch.partition as usize).copied().unwrap_or_default();
                let Some(before) = before(&batch, until) else { return Ok(Some(Vec::new())) };
                let mut batches = self.pipeline.process(before)?;
                for batch in &mut batches {
                    batch.partition += self.first_partition;
                }
                Ok(Some(batches))
            }
            Read::Gap(gap) => {
                overtaken(counters, self.lost(&gap));
                Ok(Some(Vec::new()))
            }
            Read::EndOfPartition(_) => Ok(Some(Vec::new())),
            Read::End | Read::Failed(_) => Ok(None),
        }
    }

    /// Rows that are still to be read, those included that its steps will leave out.
    pub(super) fn left_rows(&self) -> u64 {
        let position = self.reader.position();
        let left = |(partition, until): (u32, &Offset)| {
            let (offset, skip) = position.offsets.get(&partition).copied().unwrap_or_default();
            until.0.saturating_sub(offset.0 + skip)
        };
        (0..).zip(&self.until).map(left).sum()
    }

    /// Rows of a gap that lie before the live rows, whose reader tells the others; `None`: nobody knows.
    fn lost(&self, gap: &Gap) -> Option<u64> {
        let rows = gap.rows?;
        let from = gap.from.as_ref()?;
        let beyond = |(partition, until): (u32, &Offset)| {
            let (from, to) = (from.offsets.get(&partition)?.0, gap.to.offsets.get(&partition)?.0);
            Some(to.0.saturating_sub(until.0.max(from.0)))
        };
        let beyond: u64 = (0..).zip(&self.until).filter_map(beyond).sum();
        Some(rows.saturating_sub(beyond))
    }
}

/// What of a batch lies before an offset; the live rows are the others. `None`: nothing does, or nobody knows what: then
/// the live rows are all of it.
fn before(batch: &StreamBatch, until: Offset) -> Option<StreamBatch> {
    if batch.next <= until {
        return Some(batch.with_rows(batch.rows.clone()));
    }
    let rows = usize::try_from(until.0.saturating_sub(batch.first.0)).unwrap_or(usize::MAX);
    let dense = batch.next.0 - batch.first.0 == batch.rows.num_rows() as u64;
    if rows == 0 || !dense {
        return None;
    }
    // The first of the others tells the watermark that these imply.
    let watermark = EventTime(batch.watermarks()[rows]);
    Some(StreamBatch { next: until, watermark, ..batch.with_rows(batch.rows.slice(0, rows)) })
}

/// Counts rows that were gone before they were read.
pub(super) fn overtaken(counters: &Counters, rows: Option<u64>) {
    counters.gaps.fetch_add(u64::from(rows.is_none()), Relaxed);
    counters.rows_in.fetch_add(rows.unwrap_or(0), Relaxed);
    counters.dropped.fetch_add(rows.unwrap_or(0), Relaxed);
}

/// The logs below a branch's input. Stateless jobs keep none: what they read does.
pub(crate) fn bases(branch: &Branch) -> Vec<Base> {
    if branch.job().logged {
        let (input, updates) = (branch.input.clone(), branch.updates);
        let plain = Branch { input, updates, late: branch.late, fresh: false, right: branch.right, ops: Vec::new() };
        return vec![Base { job: branch.job().clone(), branch: plain, first_partition: 0 }];
    }
    let mut found = Vec::new();
    let mut first = 0;
    for below in &branch.job().inputs().branches {
        for mut base in bases(below) {
            base.branch.ops.extend(below.ops.iter().cloned());
            base.first_partition += first;
            found.push(base);
        }
        first += below.job().output.partitions();
    }
    found
}

/// Branches straight from the logs that give what these branches give.
pub(crate) fn from_logs(branches: &[Branch]) -> Vec<Branch> {
    let mut straight = Vec::new();
    for branch in branches {
        for base in bases(branch) {
            let ops: Vec<OpSpec> = base.branch.ops.iter().chain(&branch.ops).cloned().collect();
            let Branch { input, updates, late, .. } = base.branch;
            straight.push(Branch { input, updates, late, fresh: false, right: branch.right, ops });
        }
    }
    straight
}

/// The position of a job's output as positions of the branches' inputs.
pub(crate) fn split_position(position: &Position, branches: &[Branch]) -> Vec<Position> {
    let mut first = 0;
    let mut parts = Vec::new();
    for branch in branches {
        let partitions = branch.job().output.partitions();
        let offsets: BTreeMap<_, _> =
            position.offsets.range(first..first + partitions).map(|(p, place)| (p - first, *place)).collect();
        let known = branches.len() == 1 || position.epoch == joint_epoch(branches);
        let epoch = if branches.len() == 1 { position.epoch } else { branch.job().output.epoch() };
        parts.push(Position { epoch: if known { epoch } else { position.epoch }, offsets });
        first += partitions;
    }
    parts
}

/// The position of a stateless job's output as one in a log below it.
pub(crate) fn position_in(base: &Base, position: &Position) -> Position {
    let first = base.first_partition;
    let own = |partition: u32| position.offsets.get(&(first + partition)).copied().unwrap_or((Offset(0), 0));
    let offsets = (0..base.job.output.partitions()).map(|partition| (partition, own(partition))).collect();
    Position { epoch: base.job.output.epoch(), offsets }
}

/// A position of a branch's input as positions in the logs below it: those of `from_logs`.
pub(crate) fn positions_below(branch: &Branch, position: &Position) -> Vec<Position> {
    if branch.job().logged {
        return vec![position.clone()];
    }
    bases(branch).iter().map(|base| position_in(base, position)).collect()
}

/// Where a branch begins to read. `parts`: a position of the job's, branch by branch.
pub(crate) fn start_of(begin: &Begin, branch: &Branch, at: usize, parts: &[Position]) -> Start {
    match begin {
        Begin::Fresh if branch.fresh => Start::Earliest,
        Begin::Fresh => Start::Latest,
        Begin::Earliest | Begin::After(EventTime::MIN, _) => Start::Earliest,
        Begin::At(Start::Position(_)) => Start::Position(parts[at].clone()),
        Begin::At(start) => start.clone(),
        Begin::Each(positions) => Start::Position(positions[at].clone()),
        Begin::After(moment, _) => Start::Timestamp(*moment),
    }
}

/// The epoch of a stateless job's output: that of its only input, or one made of all of them.
pub(crate) fn joint_epoch(branches: &[Branch]) -> u64 {
    let mut epochs = branches.iter().map(|branch| branch.job().output.epoch());
    if branches.len() == 1 {
        return epochs.next().unwrap_or_default();
    }
    epochs.fold(branches.len() as u64, |joint, epoch| joint.rotate_left(21).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ epoch)
}

/// Where a fresh windowed query begins: at the start of the first window that is open now. `MIN`: at the first row.
pub(crate) fn first_open_window(window: &WindowSpec, grace_ns: i64, watermark: EventTime) -> EventTime {
    if watermark == EventTime::MIN || watermark == EventTime::MAX {
        return EventTime::MIN;
    }
    if let WindowKind::Calendar(calendar) = window.kind {
        let (first, last) = calendar.range();
        return EventTime(calendar.floor(watermark.0.saturating_sub(grace_ns).clamp(first, last)));
    }
    let slide = i128::from(window.slide_ns());
    let (size, cycle) = match window.kind {
        WindowKind::Cumulate { size_ns, .. } => (slide, i128::from(size_ns)),
        _ => (i128::from(window.size_ns()), slide),
    };
    // The least start S on the grid with S + size + grace > watermark.
    let closed_to = i128::from(watermark.0) - size - i128::from(grace_ns) - i128::from(window.offset_ns);
    let start = (closed_to.div_euclid(slide) + 1) * slide + i128::from(window.offset_ns);
    // Cumulating windows reach back to the start of their cycle.
    let offset = i128::from(window.offset_ns);
    let start = (start - offset).div_euclid(cycle) * cycle + offset;
    i64::try_from(start).map_or(EventTime::MIN, EventTime)
}

/// The moment from which on windows are whole, read from these logs at `start`; `MIN` when all are.
/// `by_arrival`: moments are those at which rows arrived.
pub(crate) fn complete_from<'a>(
    bases: impl Iterator<Item = &'a Base>,
    start: EventTime,
    by_arrival: bool,
) -> EventTime {
    let lost = bases.map(|base| {
        let facts = base.job.output.facts();
        if by_arrival { facts.evicted_arrival } else { facts.evicted_event_time }
    });
    let lost = lost.max().unwrap_or(EventTime::MIN);
    if lost >= start && lost > EventTime::MIN { lost.plus(1) } else { EventTime::MIN }
}

/// A place so long ago as the moment that it is: windows that start before it are partial.
pub(crate) fn at_moment<'b>(begin: &Begin, bases: impl Iterator<Item = &'b Base>) -> Begin {
    let Begin::At(Start::Ago(ago)) = begin else { return begin.clone() };
    let clock = bases.map(|base| base.job.output.facts().clock).max();
    let ago_ns = i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX);
    match clock {
        Some(clock) if clock > EventTime::MIN => Begin::At(Start::Timestamp(clock.plus(-ago_ns))),
        _ => Begin::Earliest,
    }
}

/// A stateless job's positions are its inputs'.
pub(crate) fn stateless_start(branches: &[Branch], feed: &Feed) -> Position {
    let mut offsets = BTreeMap::new();
    let mut first = 0;
    for (branch, position) in branches.iter().zip(feed.positions()) {
        offsets.extend(position.offsets.iter().map(|(partition, place)| (first + partition, *place)));
        first += branch.job().output.partitions();
    }
    Position { epoch: joint_epoch(branches), offsets }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
    use arrow::datatypes::Schema;

    use super::*;
    use crate::batch::{Memo, RowKind, physical_schema};

    #[test]
    fn of_a_batch_in_which_the_live_rows_begin_the_rows_before_them_are_history() {
        let column = |from: i64| -> ArrayRef { Arc::new(TimestampNanosecondArray::from_iter_values(from..from + 4)) };
        let rows = RecordBatch::try_new(physical_schema(&Schema::empty()), vec![column(100), column(50)]);
        let batch = StreamBatch {
            kind: RowKind::Append,
            partition: 0,
            first: Offset(10),
            next: Offset(14),
            rows: rows.expect("the columns fit"),
            watermark: EventTime(60),
            arrival: EventTime(0),
            idle: false,
            memo: Memo::default(),
        };
        let head = before(&batch, Offset(13)).expect("three rows");
        assert_eq!((head.first, head.next, head.watermark), (Offset(10), Offset(13), EventTime(53)));
        assert_eq!(head.event_times(), [100, 101, 102]);
        let whole = before(&batch, Offset(14)).expect("all rows");
        assert_eq!((whole.rows.num_rows(), whole.watermark), (4, EventTime(60)));
        assert!(before(&batch, Offset(10)).is_none(), "all of it is live");
        let filtered = StreamBatch { next: Offset(20), ..batch };
        assert!(before(&filtered, Offset(13)).is_none(), "the live reader gives all of it");
    }

    #[test]
    fn the_first_open_window_is_the_first_whose_end_and_grace_lie_behind_the_watermark() {
        let tumble = WindowSpec { kind: WindowKind::Tumble { size_ns: 10 }, offset_ns: 0 };
        assert_eq!(first_open_window(&tumble, 0, EventTime(25)), EventTime(20));
        assert_eq!(first_open_window(&tumble, 0, EventTime(30)), EventTime(30));
        assert_eq!(first_open_window(&tumble, 6, EventTime(35)), EventTime(20));
        assert_eq!(first_open_window(&tumble, 0, EventTime(-1)), EventTime(-10));
        let hop = WindowSpec { kind: WindowKind::Hop { size_ns: 10, slide_ns: 2 }, offset_ns: 1 };
        assert_eq!(first_open_window(&hop, 0, EventTime(25)), EventTime(17));
        assert_eq!(first_open_window(&hop, 0, EventTime::MIN), EventTime::MIN);
        let kind = WindowKind::Cumulate { size_ns: 10, step_ns: 2 };
        let cumulate = WindowSpec { kind, offset_ns: 1 };
        assert_eq!(first_open_window(&cumulate, 0, EventTime(26)), EventTime(21));
        assert_eq!(first_open_window(&cumulate, 0, EventTime(31)), EventTime(31));
    }
}
