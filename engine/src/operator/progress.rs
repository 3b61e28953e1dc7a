//! How far the input partitions have come.

use serde::{Deserialize, Serialize};

use super::state::check_count;
use crate::error::EngineError;

/// Watermarks of the partitions of an input, and what follows for all of them together.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Progress {
    partitions: Vec<Partition>,
    watermark: i64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Partition {
    watermark: i64,
    idle: bool,
    ended: bool,
}

impl Progress {
    /// Partitions of which nothing is known yet: each holds back the others until its first batch.
    pub(crate) fn new(partitions: u32) -> Self {
        let unknown = Partition { watermark: i64::MIN, idle: false, ended: false };
        Self { partitions: vec![unknown; partitions as usize], watermark: i64::MIN }
    }

    /// Goes on as another of as many partitions was.
    ///
    /// # Errors
    /// [`EngineError::State`] when it was of another number of partitions.
    pub(crate) fn resume(&mut self, other: Self) -> Result<(), EngineError> {
        check_count("partitions", other.partitions.len(), self.partitions.len())?;
        *self = other;
        Ok(())
    }

    /// A partition has come to a watermark, or was found idle at it.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when there is no such partition.
    pub(crate) fn advance(&mut self, partition: u32, watermark: i64, idle: bool) -> Result<(), EngineError> {
        let known = self.partition(partition)?;
        known.watermark = known.watermark.max(watermark);
        known.idle = idle;
        self.follow();
        Ok(())
    }

    /// A partition has ended.
    ///
    /// # Errors
    /// As [`Progress::advance`].
    pub(crate) fn end(&mut self, partition: u32) -> Result<(), EngineError> {
        self.partition(partition)?.ended = true;
        self.follow();
        Ok(())
    }

    /// The least watermark of the partitions that are neither idle nor ended; of the idle ones when there are no
    /// others; `i64::MAX` when all have ended. Never goes back.
    pub(crate) fn watermark(&self) -> i64 {
        self.watermark
    }

    /// True when no partition is left.
    pub(crate) fn has_ended(&self) -> bool {
        self.partitions.iter().all(|partition| partition.ended)
    }

    /// True when partitions are left and all of them are idle.
    pub(crate) fn is_idle(&self) -> bool {
        let mut left = self.partitions.iter().filter(|partition| !partition.ended).peekable();
        left.peek().is_some() && left.all(|partition| partition.idle)
    }

    /// True when a partition is idle that has not ended.
    pub(crate) fn has_idle(&self) -> bool {
        self.partitions.iter().any(|partition| partition.idle && !partition.ended)
    }

    fn partition(&mut self, partition: u32) -> Result<&mut Partition, EngineError> {
        let count = self.partitions.len();
        self.partitions
            .get_mut(partition as usize)
            .ok_or_else(|| EngineError::Plan(format!("partition {partition} where there are {count}")))
    }

    fn follow(&mut self) {
        let left = || self.partitions.iter().filter(|partition| !partition.ended);
        let active = left().filter(|partition| !partition.idle).map(|partition| partition.watermark).min();
        let least = active.or_else(|| left().map(|partition| partition.watermark).min()).unwrap_or(i64::MAX);
        self.watermark = self.watermark.max(least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_active_partition_holds_back() {
        let mut progress = Progress::new(3);
        progress.advance(0, 10, false).expect("known");
        progress.advance(1, 20, false).expect("known");
        assert_eq!(progress.watermark(), i64::MIN);
        progress.end(2).expect("known");
        assert_eq!(progress.watermark(), 10);
        progress.advance(0, 10, true).expect("known");
        assert_eq!((progress.watermark(), progress.is_idle()), (20, false));
        // Back again, it is behind; what was told stays told.
        progress.advance(0, 12, false).expect("known");
        assert_eq!(progress.watermark(), 20);
        progress.advance(0, 12, true).expect("known");
        progress.advance(1, 30, true).expect("known");
        assert_eq!((progress.watermark(), progress.is_idle()), (20, true));
        progress.end(0).expect("known");
        progress.end(1).expect("known");
        assert_eq!((progress.watermark(), progress.is_idle()), (i64::MAX, false));
        assert!(progress.advance(3, 0, false).is_err());
    }
}
