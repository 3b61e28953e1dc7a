//! How far the two inputs of a join have come.

use super::super::late::Tardy;
use super::super::progress::Progress;
use super::super::state::State;
use super::pairs::{LEFT, RIGHT};
use crate::batch::StreamBatch;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Watermarks of both inputs, whose partitions are numbered through.
pub(super) struct Sides {
    /// For each partition its side and its number there.
    places: Vec<(usize, u32)>,
    progress: [Progress; 2],
    partitions: [u32; 2],
    /// The last watermark of each side before its end.
    last: [i64; 2],
}

impl Sides {
    /// `right`: for each partition whether it is the right input's.
    pub(super) fn new(right: &[bool]) -> Self {
        let mut partitions = [0; 2];
        let places = right.iter().map(|right| {
            let side = if *right { RIGHT } else { LEFT };
            partitions[side] += 1;
            (side, partitions[side] - 1)
        });
        let places = places.collect();
        Self { places, progress: partitions.map(Progress::new), partitions, last: [i64::MIN; 2] }
    }

    /// Puts how far both have come behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn save(&self, state: &mut State) -> Result<(), EngineError> {
        state.put(&(&self.progress, self.last))
    }

    /// Takes it from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next, or of inputs of other partitions.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        let (progress, last): ([Progress; 2], [i64; 2]) = state.take()?;
        self.last = last;
        self.progress.iter_mut().zip(progress).try_for_each(|(own, other)| own.resume(other))
    }

    /// Which side a partition is of.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when there is no such partition.
    pub(super) fn side(&self, partition: u32) -> Result<usize, EngineError> {
        self.place(partition).map(|(side, _)| side)
    }

    fn place(&self, partition: u32) -> Result<(usize, u32), EngineError> {
        let count = self.places.len();
        let place = self.places.get(partition as usize).copied();
        place.ok_or_else(|| EngineError::Plan(format!("partition {partition} where there are {count}")))
    }

    /// A batch has been read.
    ///
    /// # Errors
    /// As [`Sides::side`].
    pub(super) fn advance(&mut self, batch: &StreamBatch) -> Result<(), EngineError> {
        let (side, partition) = self.place(batch.partition)?;
        self.progress[side].advance(partition, batch.watermark.0, batch.idle)?;
        self.follow(side);
        Ok(())
    }

    fn follow(&mut self, side: usize) {
        let watermark = self.progress[side].watermark();
        if watermark != i64::MAX {
            self.last[side] = watermark;
        }
    }

    /// A partition has ended.
    ///
    /// # Errors
    /// As [`Sides::side`].
    pub(super) fn end(&mut self, partition: u32) -> Result<(), EngineError> {
        let (side, partition) = self.place(partition)?;
        self.progress[side].end(partition)?;
        self.follow(side);
        Ok(())
    }

    /// The watermark of a side, the last one once it has ended.
    pub(super) fn last_watermark(&self, side: usize) -> i64 {
        self.last[side]
    }

    /// The watermark of a side; `i64::MAX` when it has ended.
    pub(super) fn watermark(&self, side: usize) -> i64 {
        if self.partitions[side] == 0 { i64::MAX } else { self.progress[side].watermark() }
    }

    /// The least watermark of both.
    pub(super) fn least(&self) -> i64 {
        self.watermark(LEFT).min(self.watermark(RIGHT))
    }

    /// True when one side has partitions left and all that are left are idle, and nothing moves on the other.
    pub(super) fn is_idle(&self) -> bool {
        let still = |side: usize| self.progress[side].is_idle() || self.progress[side].has_ended();
        still(LEFT) && still(RIGHT) && (self.progress[LEFT].is_idle() || self.progress[RIGHT].is_idle())
    }

    /// For each row whether it is in time; `None`: all are. A row is late by its own watermark, or, with a partition
    /// that was taken for idle, by its side's: those go to `tardy`. Counts the others. Rows before `start` are not wanted
    /// at all.
    pub(super) fn judge(
        &self,
        side: usize,
        batch: &StreamBatch,
        start: i64,
        tardy: &mut Vec<Tardy>,
        counters: &Counters,
    ) -> Option<arrow::array::BooleanArray> {
        let reached = self.watermark(side);
        let (times, watermarks) = (batch.event_times(), batch.watermarks());
        let good = |(time, watermark): (&i64, &i64)| *time >= start && time >= watermark && *time >= reached;
        if times.iter().zip(watermarks).all(good) {
            return None;
        }
        let (mut late, mut late_idle, mut before) = (0, 0, 0);
        let keep = (0u32..).zip(times.iter().zip(watermarks)).map(|(row, (time, watermark))| {
            let count = if *time < start {
                &mut before
            } else if time < watermark {
                tardy.push((row, false));
                &mut late
            } else if *time < reached {
                tardy.push((row, true));
                &mut late_idle
            } else {
                return true;
            };
            *count += 1;
            false
        });
        let keep: Vec<bool> = keep.collect();
        add(&counters.late, late);
        add(&counters.late_idle, late_idle);
        add(&counters.before_start, before);
        Some(keep.into())
    }
}
