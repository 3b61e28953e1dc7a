//! Rows that wait to be told: under load those of several batches of the stream are told together, so that who gets a row
//! now and then is not woken for each.

use std::ops::RangeInclusive;
use std::time::Duration;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::operator::{Crew, CrewPart};
use crate::stream::Offset;

use super::columns::{join, pick};
use super::tail::TOGETHER_ROWS;

/// How long rows wait at the most, and at the least. They wait only while more rows come without a pause.
pub(super) const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(250);
/// A pause, at the least and at the most: nothing has come for so long.
pub(super) const PAUSE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(25);
/// Rows wait so many times as long as telling took: with what their readers do it takes a small part of the time.
pub(super) const WAIT_TO_TELL: u32 = 25;
/// Bytes of rows that wait, at the most.
pub(super) const WAIT_BYTES: usize = 16 << 20;
/// So few jobs are told at once: that they wait costs more.
const FEW: usize = 16;
/// Rows that a job gets of one batch, in the mean, from which on they are told at once.
const MANY_ROWS: usize = 64;

/// So many times [`TOGETHER_ROWS`] rows are picked by several threads: about 0.2 ms.
const MANY_CHUNKS: usize = 32;
/// Parts for each of them: one that comes late finds some left.
const PARTS_EACH: usize = 4;

/// Whether rows of a batch that more is to follow are worth waiting: `rows` of them go to so many `jobs`.
pub(super) fn is_worth_it(rows: usize, jobs: usize) -> bool {
    jobs > FEW && rows < jobs * MANY_ROWS
}

/// Whether batches that come after such a time press on whoever tells their rows to so many jobs, each of which takes so
/// long: told at once, they would fall behind.
pub(super) fn presses(jobs: usize, each: Duration, since: Duration) -> bool {
    each.saturating_mul(u32::try_from(jobs).unwrap_or(u32::MAX)) > since
}

/// Rows of one batch that go to several jobs.
#[derive(Debug)]
struct Piece {
    rows: RecordBatch,
    partition: u32,
    /// The offsets of the batch.
    first: Offset,
    next: Offset,
    watermark: EventTime,
}

/// Rows of a piece that lie behind each other and go to one job. There are a hundred thousand of them at a time: it is
/// kept small.
#[derive(Debug, Clone, Copy)]
struct Run {
    slot: u32,
    piece: u32,
    row: u32,
    count: u32,
}

/// What a job is told at once of a partition, but for the rows.
#[derive(Debug, Clone, Copy)]
struct Head {
    slot: u32,
    partition: u32,
    first: Offset,
    next: Offset,
    watermark: EventTime,
    rows: usize,
}

/// Rows that come to lie in common buffers, and whose they are in turn.
#[derive(Debug, Default)]
struct Chunk {
    rows: Vec<u32>,
    heads: Vec<Head>,
}

/// Rows of several jobs whose columns are the same.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pieces: Vec<Piece>,
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

    /// How many there are of one batch and job.
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { pieces: self.pieces.len(), runs: self.runs.len() }
    }

    /// Takes back what was put since.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.pieces.truncate(mark.pieces);
        self.runs.truncate(mark.runs);
    }

    /// Puts rows that were chosen of a batch, of which so many go to each of these jobs in turn.
    pub(super) fn put(&mut self, batch: StreamBatch, jobs: impl Iterator<Item = (u32, u32)>) {
        let (piece, mut row) = (self.pieces.len() as u32, 0);
        self.runs.extend(jobs.map(|(slot, count)| {
            let run = Run { slot, piece, row, count };
            row += count;
            run
        }));
        let StreamBatch { partition, first, next, watermark, rows, .. } = batch;
        self.pieces.push(Piece { rows, partition, first, next, watermark });
    }

    /// What one job is told, in buffers of its own.
    pub(super) fn take_of(&mut self, slot: u32) -> Vec<Portion> {
        let mut own: Vec<Run> = self.runs.extract_if(.., |run| run.slot == slot).collect();
        own.sort_by_key(|run| self.partition(run));
        let mut told = Vec::with_capacity(own.len());
        for run in own {
            let rows: UInt32Array = (run.row..run.row + run.count).collect::<Vec<_>>().into();
            told.push(self.head(&[run]).portion(picked(&self.pieces[run.piece as usize].rows, &rows)));
        }
        if self.runs.is_empty() {
            self.pieces.clear();
        }
        told
    }

    /// What all are told, those of a job behind each other. Many are picked by all of the crew.
    pub(super) fn take(&mut self, crew: Option<&Crew>) -> Vec<Portion> {
        let Some(schema) = self.pieces.first().map(|piece| piece.rows.schema()) else { return Vec::new() };
        self.sort();
        let told = self.told(&schema, crew);
        self.pieces.clear();
        self.runs.clear();
        told
    }

    /// Brings the rows of a job and partition behind each other, in their order.
    fn sort(&mut self) {
        let partitions = self.pieces.iter().any(|piece| piece.partition != self.pieces[0].partition);
        if partitions {
            let Self { pieces, runs } = self;
            runs.sort_by_key(|run| (run.slot, pieces[run.piece as usize].partition));
        } else if !self.runs.is_sorted_by_key(|run| run.slot) {
            // Numbers sort several times faster, and no two are alike.
            let numbered = (0..).zip(&self.runs).map(|(at, run): (u64, _)| u64::from(run.slot) << 32 | at);
            let mut order: Vec<u64> = numbered.collect();
            order.sort_unstable();
            self.runs = order.into_iter().map(|at| self.runs[at as u32 as usize]).collect();
        }
    }

    fn told(&self, schema: &SchemaRef, crew: Option<&Crew>) -> Vec<Portion> {
        let Self { pieces, runs } = self;
        let small = pieces.iter().all(|piece| piece.rows.num_rows() <= 2 * TOGETHER_ROWS);
        if (small || runs.len() == 1) && runs.iter().zip(&runs[1..]).all(|(a, b)| !self.are_with(a, b)) {
            return self.slices();
        }
        let joined = match pieces.as_slice() {
            [only] => Ok(only.rows.clone()),
            _ => join(schema, pieces.iter().map(|piece| &piece.rows)),
        };
        // Types that cannot be put together stay as they are.
        let Ok(all) = joined else { return self.slices() };
        let begin = |next: &mut u32, piece: &Piece| {
            let first = *next;
            *next += piece.rows.num_rows() as u32;
            Some(first)
        };
        let begins: Vec<u32> = pieces.iter().scan(0, begin).collect();
        let mut chunks = vec![Chunk::default()];
        for portion in runs.chunk_by(|a, b| self.are_with(a, b)) {
            if chunks.last().is_none_or(|chunk| chunk.rows.len() >= TOGETHER_ROWS) {
                chunks.push(Chunk { rows: Vec::with_capacity(2 * TOGETHER_ROWS), heads: Vec::new() });
            }
            let Some(chunk) = chunks.last_mut() else { continue };
            for run in portion {
                let first = begins[run.piece as usize] + run.row;
                chunk.rows.extend(first..first + run.count);
            }
            chunk.heads.push(self.head(portion));
        }
        match crew {
            Some(crew) if chunks.len() >= MANY_CHUNKS => {
                let each = chunks.len().div_ceil(PARTS_EACH * crew.threads());
                let part = |chunks: Vec<Chunk>| -> CrewPart<Vec<Portion>> {
                    let all = all.clone();
                    Box::new(move || Chunk::fill(chunks, &all))
                };
                let mut parts = Vec::new();
                while !chunks.is_empty() {
                    parts.push(part(chunks.drain(..each.min(chunks.len())).collect()));
                }
                crew.all(parts).into_iter().flatten().collect()
            }
            _ => Chunk::fill(chunks, &all),
        }
    }

    /// Rows as they lie.
    fn slices(&self) -> Vec<Portion> {
        let rows = |run: &Run| self.pieces[run.piece as usize].rows.slice(run.row as usize, run.count as usize);
        self.runs.iter().map(|run| self.head(&[*run]).portion(rows(run))).collect()
    }

    /// Of rows of one job and partition.
    fn head(&self, runs: &[Run]) -> Head {
        let piece = |run: &Run| &self.pieces[run.piece as usize];
        let (Piece { partition, first, .. }, last) = (piece(&runs[0]), piece(&runs[runs.len() - 1]));
        Head {
            slot: runs[0].slot,
            partition: *partition,
            first: *first,
            next: last.next,
            watermark: last.watermark,
            rows: runs.iter().map(|run| run.count as usize).sum(),
        }
    }

    fn partition(&self, run: &Run) -> u32 {
        self.pieces[run.piece as usize].partition
    }

    /// Whether both are of the same job and partition.
    fn are_with(&self, a: &Run, b: &Run) -> bool {
        a.slot == b.slot && self.partition(a) == self.partition(b)
    }
}

impl Portion {
    /// Whether both are of the same job and partition.
    pub(super) fn is_with(&self, other: &Self) -> bool {
        (self.slot, self.partition) == (other.slot, other.partition)
    }
}

impl Head {
    fn portion(self, rows: RecordBatch) -> Portion {
        let Self { slot, partition, first, next, watermark, rows: met } = self;
        Portion { slot, partition, first, next, watermark, rows, met }
    }
}

impl Chunk {
    /// Puts the rows of each in common buffers.
    fn fill(chunks: Vec<Self>, all: &RecordBatch) -> Vec<Portion> {
        let mut told = Vec::with_capacity(chunks.iter().map(|chunk| chunk.heads.len()).sum());
        for Self { rows, heads } in chunks {
            let picked = picked(all, &rows.into());
            let mut row = 0;
            for head in heads {
                told.push(head.portion(picked.slice(row, head.rows)));
                row += head.rows;
            }
        }
        told
    }
}

fn picked(all: &RecordBatch, rows: &UInt32Array) -> RecordBatch {
    pick(all, rows).expect("rows that were picked of larger batches can be picked again")
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
