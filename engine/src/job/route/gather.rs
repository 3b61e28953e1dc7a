//! Rows that wait to be told: under load those of several batches of the stream are told together, so that who gets a row
//! now and then is not woken for each.

use std::ops::RangeInclusive;
use std::time::Duration;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};

use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::stream::Offset;

use super::tail::TOGETHER_ROWS;

/// How long rows wait at the most, and at the least. They wait only while more rows come without a pause.
pub(super) const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(250);
/// A pause: nothing has come for so long.
pub(super) const PAUSE: Duration = Duration::from_millis(1);
/// Rows wait so many times as long as telling took: it takes a small part of the time.
pub(super) const WAIT_TO_TELL: u32 = 10;
/// Bytes of rows that wait, at the most.
pub(super) const WAIT_BYTES: usize = 16 << 20;
/// So few jobs are told at once: that they wait costs more.
const FEW: usize = 16;
/// Rows that a job gets of one batch, in the mean, from which on they are told at once.
const MANY_ROWS: usize = 64;

/// Whether rows of a batch that more is to follow are worth waiting: `rows` of them go to so many `jobs`.
pub(super) fn is_worth_it(rows: usize, jobs: usize) -> bool {
    jobs > FEW && rows < jobs * MANY_ROWS
}

/// Whether batches that come after such a time press on whoever tells their rows to so many jobs, each of which takes so
/// long: told at once, they would fall behind.
pub(super) fn presses(jobs: usize, each: Duration, since: Duration) -> bool {
    each.saturating_mul(u32::try_from(jobs).unwrap_or(u32::MAX)) > since
}

/// Rows of one batch that lie behind each other and go to one job.
#[derive(Debug, Clone, Copy)]
struct Run {
    slot: u32,
    partition: u32,
    /// The offsets of the batch that they come from.
    first: Offset,
    next: Offset,
    watermark: EventTime,
    piece: u32,
    row: u32,
    count: u32,
}

/// Rows of several jobs whose columns are the same.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pieces: Vec<RecordBatch>,
    runs: Vec<Run>,
}

/// Where it was before rows were put.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pieces: usize,
    runs: usize,
}

/// What a job is told at once of a partition.
#[derive(Debug, Clone)]
pub(super) struct Portion {
    pub(super) slot: u32,
    pub(super) partition: u32,
    /// The first offset of the batch that its first row comes from.
    pub(super) first: Offset,
    /// Behind the batch that its last row comes from, and the watermark there.
    pub(super) next: Offset,
    pub(super) watermark: EventTime,
    pub(super) rows: RecordBatch,
    /// How many rows met its conditions; those on which a column failed are not among `rows`.
    pub(super) met: usize,
}

impl Gathered {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { pieces: self.pieces.len(), runs: self.runs.len() }
    }

    /// Takes back what was put since.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.pieces.truncate(mark.pieces);
        self.runs.truncate(mark.runs);
    }

    /// Puts rows of a batch, of which so many go to each of these jobs in turn.
    pub(super) fn put(&mut self, batch: &StreamBatch, jobs: &[(u32, usize)]) {
        let (piece, mut row) = (self.pieces.len() as u32, 0);
        for (slot, count) in jobs {
            let count = *count as u32;
            let StreamBatch { partition, first, next, watermark, .. } = *batch;
            self.runs.push(Run { slot: *slot, partition, first, next, watermark, piece, row, count });
            row += count;
        }
        self.pieces.push(batch.rows.clone());
    }

    /// What one job is told, in buffers of its own.
    pub(super) fn take_of(&mut self, slot: u32) -> Vec<Portion> {
        let mut own: Vec<Run> = self.runs.extract_if(.., |run| run.slot == slot).collect();
        own.sort_by_key(|run| run.partition);
        let mut told = Vec::with_capacity(own.len());
        for run in own {
            let rows: UInt32Array = (run.row..run.row + run.count).collect::<Vec<_>>().into();
            told.push(run.portion(picked(&self.pieces[run.piece as usize], &rows)));
        }
        if self.runs.is_empty() {
            self.pieces.clear();
        }
        told
    }

    /// What all are told, those of a job behind each other.
    pub(super) fn take(&mut self) -> Vec<Portion> {
        let (pieces, mut runs) = (std::mem::take(&mut self.pieces), std::mem::take(&mut self.runs));
        let Some(schema) = pieces.first().map(RecordBatch::schema) else { return Vec::new() };
        // Sorting is stable: the rows of a job stay in their order.
        let sorted = runs.is_sorted_by_key(|run| (run.slot, run.partition));
        if !sorted {
            runs.sort_by_key(|run| (run.slot, run.partition));
        }
        let small = pieces.iter().all(|piece| piece.num_rows() <= 2 * TOGETHER_ROWS);
        let alone = |(a, b): (&Run, &Run)| (a.slot, a.partition) != (b.slot, b.partition);
        if (small || runs.len() == 1) && runs.iter().zip(&runs[1..]).all(alone) {
            return slices(&pieces, &runs);
        }
        let all = match pieces.as_slice() {
            [only] => only.clone(),
            // Types that cannot be put together stay as they are.
            _ => match concat_batches(&schema, &pieces) {
                Ok(all) => all,
                Err(_) => return slices(&pieces, &runs),
            },
        };
        let begin = |next: &mut u32, piece: &RecordBatch| {
            let first = *next;
            *next += piece.num_rows() as u32;
            Some(first)
        };
        let begins: Vec<u32> = pieces.iter().scan(0, begin).collect();
        let mut told = Vec::with_capacity(runs.len());
        let (mut picked, mut portions): (Vec<u32>, Vec<(Run, usize)>) = (Vec::new(), Vec::new());
        for portion in runs.chunk_by(|a, b| (a.slot, a.partition) == (b.slot, b.partition)) {
            let from = picked.len();
            for run in portion {
                let first = begins[run.piece as usize] + run.row;
                picked.extend(first..first + run.count);
            }
            let Run { next, watermark, .. } = portion[portion.len() - 1];
            portions.push((Run { next, watermark, ..portion[0] }, picked.len() - from));
            if picked.len() >= TOGETHER_ROWS {
                pick(&all, std::mem::take(&mut picked), &mut portions, &mut told);
            }
        }
        pick(&all, picked, &mut portions, &mut told);
        told
    }
}

impl Portion {
    /// Whether both are of the same job and partition.
    pub(super) fn is_with(&self, other: &Self) -> bool {
        (self.slot, self.partition) == (other.slot, other.partition)
    }
}

impl Run {
    fn portion(&self, rows: RecordBatch) -> Portion {
        let met = rows.num_rows();
        let Self { slot, partition, first, next, watermark, .. } = *self;
        Portion { slot, partition, first, next, watermark, rows, met }
    }
}

/// Rows as they lie.
fn slices(pieces: &[RecordBatch], runs: &[Run]) -> Vec<Portion> {
    let rows = |run: &Run| pieces[run.piece as usize].slice(run.row as usize, run.count as usize);
    runs.iter().map(|run| run.portion(rows(run))).collect()
}

/// Puts these rows, of so many for each, in common buffers.
fn pick(all: &RecordBatch, rows: Vec<u32>, portions: &mut Vec<(Run, usize)>, told: &mut Vec<Portion>) {
    let picked = picked(all, &rows.into());
    let mut row = 0;
    for (run, count) in portions.drain(..) {
        told.push(run.portion(picked.slice(row, count)));
        row += count;
    }
}

fn picked(all: &RecordBatch, rows: &UInt32Array) -> RecordBatch {
    take_record_batch(all, rows).expect("rows that were picked of larger batches can be picked again")
}

/// Rows as jobs have computed them, those of a job and a partition together.
pub(super) fn join_own(mut own: Vec<Portion>) -> Vec<Portion> {
    own.sort_by_key(|portion| (portion.slot, portion.partition));
    let mut told: Vec<Portion> = Vec::with_capacity(own.len());
    for portions in own.chunk_by(Portion::is_with) {
        let (first, last) = (&portions[0], &portions[portions.len() - 1]);
        match concat_batches(&first.rows.schema(), portions.iter().map(|portion| &portion.rows)) {
            Ok(rows) if portions.len() > 1 => {
                let met = portions.iter().map(|portion| portion.met).sum();
                let (next, watermark) = (last.next, last.watermark);
                told.push(Portion { next, watermark, rows, met, ..*first });
            }
            // Types that cannot be put together stay as they are.
            Ok(_) | Err(_) => told.extend_from_slice(portions),
        }
    }
    told
}

#[cfg(test)]
pub(super) mod tests;
