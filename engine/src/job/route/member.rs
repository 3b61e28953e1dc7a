//! A job among those that filter the same stream.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use arrow::array::RecordBatch;
use tokio::time::Instant;

use super::carry::CARRY_WITHIN;
use super::gather::Portion;
use super::tail::Tail;
use crate::batch::{Memo, RowKind, StreamBatch};
use crate::clock::EventTime;
use crate::counters::add;
use crate::error::EngineError;
use crate::job::feed::{Begin, Feed};
use crate::job::stage::Stage;
use crate::job::writer::Writer;
use crate::job::{Job, Status};
use crate::shared::Shared;
use crate::stream::{Offset, Position, Stream};

/// Where a stream is in one of its partitions, and since which batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) next: Offset,
    pub(super) watermark: EventTime,
    pub(super) arrival: EventTime,
    pub(super) idle: bool,
    /// The number of the last batch; zero: there was none.
    pub(super) batch: u64,
}

/// What all have been shown.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shown {
    /// Batches.
    pub(super) batches: u64,
    pub(super) rows: u64,
    /// Time spent, divided by the jobs that there were.
    pub(super) busy_ns: u64,
}

pub(super) struct Member {
    pub(super) job: Arc<Job>,
    pub(super) tail: Tail,
    /// No rows of its output.
    none: RecordBatch,
    writer: Writer,
    /// The first offset that it gets, of each partition; empty once it has come to all of them.
    pub(super) first: Vec<Offset>,
    /// What its counters say.
    counted: Shown,
    /// The number of the last batch by which its output has come as far as the stream in all partitions.
    pub(super) told: u64,
    /// When that was.
    carried: Instant,
    /// The number of the last batch of which it got rows.
    pub(super) given: u64,
    /// It is to have a task of its own: what that reads.
    pub(super) leaving: Option<Box<Feed>>,
}

impl Member {
    /// `none`: no rows of the job's output.
    pub(super) fn new(
        job: Arc<Job>,
        (tail, none): (Tail, RecordBatch),
        first: Vec<Offset>,
        shown: Shown,
    ) -> Result<Self, EngineError> {
        let writer = Writer::new(job.output.clone(), false)?;
        Ok(Self {
            job,
            tail,
            none,
            writer,
            first,
            counted: shown,
            told: 0,
            carried: Instant::now(),
            given: 0,
            leaving: None,
        })
    }

    /// What it does with others, if it gets all rows that meet its conditions.
    pub(super) fn class(&self) -> Option<u32> {
        match self.tail {
            Tail::Shared(class) if self.first.is_empty() => Some(class),
            _ => None,
        }
    }

    /// How many rows at the front of a batch are not its own: it began behind them.
    pub(super) fn before(&self, batch: &StreamBatch) -> usize {
        let Some(first) = self.first.get(batch.partition as usize) else { return 0 };
        let rows = batch.rows.num_rows();
        if *first >= batch.next {
            return rows;
        }
        let dense = batch.next.0 - batch.first.0 == rows as u64;
        if dense { usize::try_from(first.0.saturating_sub(batch.first.0)).unwrap_or(rows) } else { 0 }
    }

    /// Rows that were shown were none of its own.
    pub(super) fn pass_by(&mut self, rows: usize) {
        self.counted.rows += rows as u64;
    }

    /// Whether it began behind a place of the stream.
    pub(super) fn began_behind(&self, places: &[Place]) -> bool {
        self.first.iter().zip(places).any(|(first, place)| *first > place.next)
    }

    /// Counts what it was shown, of which so many rows met its conditions.
    pub(super) fn count(&mut self, shown: Shown, met: usize) {
        let rows = shown.rows.saturating_sub(self.counted.rows);
        let counters = &self.job.counters;
        counters.rows_in.fetch_add(rows, Relaxed);
        counters.filtered.fetch_add(rows - (met as u64).min(rows), Relaxed);
        counters.spend_ns(shown.busy_ns.saturating_sub(self.counted.busy_ns));
        self.counted = shown;
    }

    /// Gives it what it is told of all batches that were shown until now. False: its reader makes it wait, and it is to
    /// get no more rows here.
    pub(super) fn give(&mut self, portions: Vec<Portion>, places: &[Place], shown: Shown) -> Result<bool, EngineError> {
        let (met, rows) = portions.iter().fold((0, 0), |(met, rows), it| (met + it.met, rows + it.rows.num_rows()));
        self.count(shown, met);
        let counters = &self.job.counters;
        add(&counters.passed, rows);
        add(&counters.rows_out, rows);
        let mut room = true;
        let mut portions = portions.into_iter().peekable();
        while let Some(portion) = portions.next() {
            let place = &places[portion.partition as usize];
            let last = portions.peek().is_none_or(|next| !next.is_with(&portion));
            let batch = StreamBatch {
                kind: RowKind::Append,
                partition: portion.partition,
                first: portion.first.max(self.writer.next(portion.partition)),
                next: if last { place.next } else { portion.next },
                rows: portion.rows,
                watermark: if last { place.watermark } else { portion.watermark },
                arrival: place.arrival,
                idle: place.idle,
                memo: Memo::default(),
            };
            room &= self.writer.put(batch)?;
        }
        self.given = shown.batches;
        // Those who always wait for rows are never brought up otherwise.
        let lags = places.len() > 1 && self.carried.elapsed() >= CARRY_WITHIN;
        if room && lags { self.carry(places, shown) } else { Ok(room) }
    }

    /// Brings its output as far as the stream is. False: its reader makes it wait.
    pub(super) fn carry(&mut self, places: &[Place], shown: Shown) -> Result<bool, EngineError> {
        self.count(shown, 0);
        for (partition, place) in (0..).zip(places) {
            let given = place.batch <= self.given && places.len() == 1;
            if !given && !self.carry_one(partition, place)? {
                return Ok(false);
            }
        }
        self.told = shown.batches;
        self.carried = Instant::now();
        Ok(true)
    }

    /// The same in one partition.
    pub(super) fn carry_one(&mut self, partition: u32, place: &Place) -> Result<bool, EngineError> {
        let at = self.writer.next(partition);
        if place.batch <= self.told || place.next < at {
            return Ok(true);
        }
        self.writer.offer(StreamBatch {
            kind: RowKind::Append,
            partition,
            first: at,
            next: place.next,
            rows: self.none.clone(),
            watermark: place.watermark,
            arrival: place.arrival,
            idle: place.idle,
            memo: Memo::default(),
        })
    }

    /// What a task of its own reads. `again`: the last batch, which it has not been given.
    pub(super) fn feed(
        &self,
        shared: &Shared,
        places: &[Place],
        holding: bool,
        again: Option<Arc<StreamBatch>>,
    ) -> Result<Feed, EngineError> {
        let inputs = self.job.inputs();
        let epoch = inputs.branches[0].stream().epoch();
        let first = |at: usize| self.first.get(at).copied().unwrap_or_default();
        let offsets = (0..).zip(places).map(|(at, place)| (at, (place.next.max(first(at as usize)), 0))).collect();
        let begin = Begin::Each(vec![Position { epoch, offsets }]);
        let begin = (&begin, EventTime::MAX, shared.clock.now());
        let mut feed = Feed::open(&inputs.branches, &Stage::Stateless, begin, holding, &self.job.counters)?;
        if let Some(batch) = again {
            let before = self.before(&batch);
            let own = match before {
                0 => batch,
                _ => {
                    let rows = batch.rows.slice(before, batch.rows.num_rows() - before);
                    Arc::new(StreamBatch { first: Offset(batch.first.0 + before as u64), ..batch.with_rows(rows) })
                }
            };
            feed.read_again(own);
        }
        Ok(feed)
    }

    /// Its input has ended.
    pub(super) fn end(&self) {
        (0..self.job.output.partitions()).for_each(|partition| self.job.output.end(partition));
        self.job.set_status(Status::Ended);
        self.job.routed.store(false, Release);
    }

    pub(super) fn fail(&self, error: Arc<EngineError>) {
        self.job.set_status(Status::Failed(error.clone()));
        self.job.output.fail(error);
        self.job.routed.store(false, Release);
    }
}
