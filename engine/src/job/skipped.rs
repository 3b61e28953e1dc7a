//! Rows that a stream of windows was told to skip. Its windows are made of the inputs' logs again when its job is made
//! anew, or the process starts again: the rows lie there still, and are left out again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::run::JobSpec;
use super::stage::{Stage, Stateful};
use super::{Begin, Branch, Job};
use crate::batch::{Memo, StreamBatch};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;
use crate::stream::{Offset, Position};

/// Stretches that are known apart at the most. Beyond that the two oldest are taken for one, with what lies between:
/// someone would have to have the stream skip so often before a window closes.
const MAX_STRETCHES: usize = 1000;

/// How the entries of a record begin that tell of a stretch: where it begins, where it ends, and what its rows may be.
const FROM: &str = "\0skipped from ";
const TO: &str = "\0skipped to ";
const LOST: &str = "\0skipped before ";
/// The entry of a record that tells of a snapshot.
const TAKEN: &str = "\0taken";

/// A stretch of an input's log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Skipped {
    /// The input's name.
    input: String,
    /// Which of the job's branches.
    at: usize,
    from: Position,
    to: Position,
    /// All of its rows have earlier event times.
    pub(super) lost_before: EventTime,
    /// They were counted.
    counted: bool,
}

impl Skipped {
    /// The stretches of one of the branches.
    pub(super) fn of(all: &[Self], at: usize, branches: &[Branch]) -> Vec<Self> {
        let named = |at: usize| branches.get(at).map(|branch| branch.job().display_name());
        let own = named(at);
        // Of a query that is another by now the branches may have other numbers.
        let belongs = |skipped: &&Self| {
            let there = named(skipped.at).is_some_and(|name| name == skipped.input);
            own.as_ref() == Some(&skipped.input) && (skipped.at == at || !there)
        };
        all.iter().filter(belongs).cloned().collect()
    }

    /// The same, not to be counted a second time.
    pub(super) fn counted(self) -> Self {
        Self { counted: true, ..self }
    }

    /// Those that a record of the stream's log tells of.
    pub(super) fn recorded(inputs: &[(String, Position)]) -> Vec<Self> {
        let mut found = Vec::new();
        for entries in inputs.windows(3) {
            let [(from, begins), (to, ends), (lost, moment)] = entries else { continue };
            let Some((at, input)) = from.strip_prefix(FROM).and_then(|rest| rest.split_once(' ')) else { continue };
            if !to.starts_with(TO) || !lost.starts_with(LOST) {
                continue;
            }
            let lost_before = EventTime(i64::from_ne_bytes(moment.epoch.to_ne_bytes()));
            let (input, at) = (input.to_owned(), at.parse().unwrap_or_default());
            found.push(Self { input, at, from: begins.clone(), to: ends.clone(), lost_before, counted: false });
        }
        found
    }

    /// As a record tells it.
    fn record(&self) -> [(String, Position); 3] {
        let Self { at, input, .. } = self;
        let moment = Position { epoch: u64::from_ne_bytes(self.lost_before.0.to_ne_bytes()), offsets: BTreeMap::new() };
        [
            (format!("{FROM}{at} {input}"), self.from.clone()),
            (format!("{TO}{at} {input}"), self.to.clone()),
            (format!("{LOST}{at} {input}"), moment),
        ]
    }

    /// What of a batch does not lie in the stretch.
    fn leave_out(&self, batch: &StreamBatch) -> Option<Result<StreamBatch, EngineError>> {
        let place = |position: &Position| position.offsets.get(&batch.partition).map(|(offset, skip)| offset.0 + skip);
        let (from, to) = (place(&self.from)?, place(&self.to)?);
        let (first, rows) = (batch.first.0, batch.rows.num_rows());
        if rows == 0 || to <= first || from >= batch.next.0 {
            return None;
        }
        let within = |offset: u64| usize::try_from(offset.saturating_sub(first)).map_or(rows, |row| row.min(rows));
        let (head, tail) = (within(from), within(to));
        let parts = [batch.rows.slice(0, head), batch.rows.slice(tail, rows - tail)];
        let kept = arrow::compute::concat_batches(&batch.rows.schema(), &parts);
        Some(kept.map(|kept| StreamBatch { memo: Memo::default(), ..batch.with_rows(kept) }).map_err(EngineError::from))
    }
}

/// Leaves stretches out of a batch, and counts what they have of it.
pub(super) fn leave_out(
    skipped: &[Skipped],
    mut batch: StreamBatch,
    counters: &Arc<Counters>,
) -> Result<StreamBatch, EngineError> {
    for stretch in skipped {
        if let Some(kept) = stretch.leave_out(&batch) {
            let kept = kept?;
            let gone = batch.rows.num_rows() - kept.rows.num_rows();
            if !stretch.counted {
                add(&counters.rows_in, gone);
                add(&counters.skipped, gone);
            }
            batch = kept;
        }
    }
    Ok(batch)
}

/// What the job kept when its input's log was replaced by another: on disk beside the stream that it works for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Which of the snapshots there.
    pub(super) generation: u64,
    /// Rows of the log that is gone have earlier event times.
    pub(super) before: EventTime,
}

impl Taken {
    /// What a record of the stream's log tells of.
    pub(super) fn recorded(inputs: &[(String, Position)]) -> Option<Self> {
        let (_, position) = inputs.iter().find(|(name, _)| name == TAKEN)?;
        let before = EventTime(i64::from_ne_bytes(position.epoch.to_ne_bytes()));
        Some(Self { generation: position.offsets.get(&0)?.0.0, before })
    }

    /// As a record tells it.
    fn record(self) -> (String, Position) {
        let epoch = u64::from_ne_bytes(self.before.0.to_ne_bytes());
        (TAKEN.to_owned(), Position { epoch, offsets: [(0, (Offset(self.generation), 0))].into() })
    }
}

/// What a job has skipped.
pub(crate) struct Skips {
    /// Which rows it would read again; `None`: none.
    step: Option<Arc<dyn Stateful>>,
    known: Mutex<Vec<Skipped>>,
    /// `None`: all that windows are made of is in the inputs' logs.
    taken: Mutex<Option<Taken>>,
}

impl Skips {
    /// Of a job that begins now.
    pub(super) fn of(spec: &JobSpec) -> Self {
        let step = match &spec.stage {
            Stage::Stateful(step) if step.resume(EventTime::MIN).is_some() => Some(step.clone()),
            _ => None,
        };
        let known = match &spec.begin {
            Begin::After(_, known) => known.clone(),
            _ => Vec::new(),
        };
        Self { step, known: Mutex::new(known), taken: Mutex::default() }
    }

    /// Of a job that skips nothing.
    pub(super) fn none() -> Self {
        Self { step: None, known: Mutex::default(), taken: Mutex::default() }
    }

    /// Whether the job, made anew, reads rows of its inputs again.
    pub(crate) fn reads_again(&self) -> bool {
        self.step.is_some()
    }

    pub(super) fn all(&self) -> Vec<Skipped> {
        self.known.lock().expect("no holder of this lock panics").clone()
    }

    /// The job has skipped what lies between these places in the logs of its branches.
    pub(super) fn add(&self, branches: &[Branch], from: Vec<Position>, to: Vec<Position>, lost_before: EventTime) {
        if self.step.is_none() {
            return;
        }
        let mut known = self.known.lock().expect("no holder of this lock panics");
        for (at, ((branch, from), to)) in branches.iter().zip(from).zip(to).enumerate() {
            let input = branch.job().display_name();
            if from.offsets == to.offsets {
                continue;
            }
            known.push(Skipped { input, at, from, to, lost_before, counted: true });
        }
        while known.len() > MAX_STRETCHES {
            let oldest = known.remove(0);
            let Some(next) = known.iter_mut().find(|next| (next.at, &next.input) == (oldest.at, &oldest.input)) else {
                continue;
            };
            next.from = oldest.from;
            next.counted = false;
        }
    }

    /// Those that matter once the job's reader has told all results up to a watermark, as records tell them.
    fn to_record(&self, told: EventTime) -> Vec<(String, Position)> {
        let mut known = self.known.lock().expect("no holder of this lock panics");
        let Some(start) = self.step.as_ref().and_then(|step| step.resume(told)) else { return Vec::new() };
        known.retain(|skipped| skipped.lost_before > start);
        let mut taken = self.taken.lock().expect("no holder of this lock panics");
        taken.take_if(|taken| taken.before <= start);
        known.iter().flat_map(Skipped::record).chain(taken.map(Taken::record)).collect()
    }

    /// There is a snapshot of what the job keeps, without which its windows cannot be made again.
    pub(super) fn take(&self, taken: Taken) {
        *self.taken.lock().expect("no holder of this lock panics") = Some(taken);
    }

    /// The job goes on from a snapshot, and has skipped this.
    pub(super) fn go_on(&self, taken: Taken, skipped: Vec<Skipped>) {
        self.take(taken);
        *self.known.lock().expect("no holder of this lock panics") = skipped;
    }
}

impl Job {
    /// What the jobs have skipped whose results it tells.
    pub(super) fn skipped_below(&self) -> Vec<Skipped> {
        let inputs = self.inputs();
        inputs.branches.iter().flat_map(|branch| branch.job().skips.all()).map(Skipped::counted).collect()
    }

    /// The same, as records of its log tell it.
    pub(super) fn skipped_to_record(&self) -> Vec<(String, Position)> {
        let told = self.output.watermarks().into_iter().min().unwrap_or(EventTime::MIN);
        let inputs = self.inputs();
        inputs.branches.iter().flat_map(|branch| branch.job().skips.to_record(told)).collect()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
    use arrow::datatypes::Schema;

    use super::*;
    use crate::batch::{RowKind, physical_schema};

    fn at(offset: u64) -> Position {
        Position { epoch: 7, offsets: [(0, (Offset(offset), 0))].into() }
    }

    fn stretch(from: u64, to: u64) -> Skipped {
        let (input, lost_before) = ("a b".to_owned(), EventTime(-5));
        Skipped { input, at: 3, from: at(from), to: at(to), lost_before, counted: false }
    }

    #[test]
    fn a_stretch_is_recorded_as_it_is() {
        let other = ("x".to_owned(), at(1));
        let both = [stretch(1, 2), stretch(5, 9)];
        let entries: Vec<_> = std::iter::once(other).chain(both.iter().flat_map(Skipped::record)).collect();
        assert_eq!(Skipped::recorded(&entries), both);
        let taken = Taken { generation: 4, before: EventTime(-9) };
        assert_eq!((Taken::recorded(&entries), Taken::recorded(&[taken.record()])), (None, Some(taken)));
    }

    #[test]
    fn rows_of_a_stretch_are_left_out_wherever_it_lies_in_a_batch() {
        let column: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter_values(10..15));
        let rows = RecordBatch::try_new(physical_schema(&Schema::empty()), vec![column.clone(), column]);
        let batch = StreamBatch {
            kind: RowKind::Append,
            partition: 0,
            first: Offset(10),
            next: Offset(15),
            rows: rows.expect("the columns fit"),
            watermark: EventTime(0),
            arrival: EventTime(0),
            idle: false,
            memo: Memo::default(),
        };
        for (from, to, left) in [
            (0, 10, vec![10, 11, 12, 13, 14]),
            (0, 11, vec![11, 12, 13, 14]),
            (11, 13, vec![10, 13, 14]),
            (14, 99, vec![10, 11, 12, 13]),
            (10, 15, vec![]),
            (15, 99, vec![10, 11, 12, 13, 14]),
        ] {
            let counters = Arc::new(Counters::default());
            let again = batch.with_rows(batch.rows.clone());
            let kept = leave_out(&[stretch(from, to)], again, &counters).expect("it is cut");
            assert_eq!(kept.event_times(), left, "without {from} to {to}");
            assert_eq!(counters.snapshot().skipped, 5 - left.len() as u64);
        }
    }
}
