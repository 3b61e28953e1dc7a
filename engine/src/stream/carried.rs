//! A log that takes the place of another of the same stream: who goes on with it finds where it was.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Offset, Position};
use crate::clock::EventTime;

/// Logs before it that are remembered at the most: places in older ones are unknown.
const MAX_LOGS: usize = 1000;

/// The logs that a log takes the place of. Its offsets go on behind theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carried {
    /// Their epochs, oldest first, and where each ended.
    logs: Vec<(u64, BTreeMap<u32, Offset>)>,
    /// The latest event time of their rows.
    latest: EventTime,
}

impl Carried {
    /// One log more, which ends at a place; `before`: those before it.
    pub(crate) fn behind(before: Option<&Self>, end: &Position, latest: EventTime) -> Self {
        let mut carried = before.cloned().unwrap_or_else(|| Self { logs: Vec::new(), latest: EventTime::MIN });
        let ends = end.offsets.iter().map(|(partition, (offset, _))| (*partition, *offset)).collect();
        carried.logs.push((end.epoch, ends));
        let surplus = carried.logs.len().saturating_sub(MAX_LOGS);
        carried.logs.drain(..surplus);
        carried.latest = carried.latest.max(latest);
        carried
    }

    /// The latest event time of rows that are in those logs alone.
    pub(crate) fn latest(&self) -> EventTime {
        self.latest
    }

    /// The first offset behind all of them.
    pub(crate) fn first(&self, partition: u32) -> Offset {
        self.logs.last().and_then(|(_, ends)| ends.get(&partition)).copied().unwrap_or_default()
    }

    /// How many partitions they have.
    pub(crate) fn partitions(&self) -> usize {
        self.logs.last().map_or(0, |(_, ends)| ends.len())
    }

    /// The first place behind them.
    pub(crate) fn start(&self, epoch: u64) -> Position {
        let ends = self.logs.last().map(|(_, ends)| ends.clone()).unwrap_or_default();
        Position { epoch, offsets: ends.into_iter().map(|(partition, end)| (partition, (end, 0))).collect() }
    }

    /// Whether a place lies in one of them.
    pub(crate) fn holds(&self, position: &Position) -> bool {
        let within = |ends: &BTreeMap<u32, Offset>| {
            let before =
                |(partition, (offset, _)): (&u32, &(Offset, u64))| ends.get(partition).is_some_and(|end| offset <= end);
            position.offsets.iter().all(before)
        };
        self.logs.iter().any(|(epoch, ends)| *epoch == position.epoch && within(ends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_the_logs_before_are_known_up_to_where_they_ended() {
        let at = |epoch, offset| Position { epoch, offsets: [(0, (Offset(offset), 0))].into() };
        let first = Carried::behind(None, &at(1, 10), EventTime(5));
        let both = Carried::behind(Some(&first), &at(2, 15), EventTime(3));
        assert_eq!(
            (both.first(0), both.first(1), both.latest(), both.partitions()),
            (Offset(15), Offset(0), EventTime(5), 1)
        );
        assert_eq!(both.start(3), at(3, 15));
        let known = [at(1, 10), at(2, 15), at(1, 11), at(2, 16), at(3, 15)].map(|place| both.holds(&place));
        assert_eq!(known, [true, true, false, false, false]);
    }
}
