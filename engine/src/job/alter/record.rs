//! What records of a log on disk tell of where a stream goes on.

use std::collections::BTreeMap;

use crate::clock::EventTime;
use crate::job::Branch;
use crate::stream::Position;

/// Stands among the inputs of a record, for the event time before which results of windows were told.
const TOLD_UNTIL: &str = "\0told until";

/// That event time, as it is recorded.
pub(in crate::job) fn told_until(moment: EventTime) -> (String, Position) {
    let epoch = u64::from_ne_bytes(moment.0.to_ne_bytes());
    (TOLD_UNTIL.to_owned(), Position { epoch, offsets: BTreeMap::new() })
}

/// That event time, if one was recorded.
pub(in crate::job) fn recorded_until(inputs: &[(String, Position)]) -> Option<EventTime> {
    let found = inputs.iter().find(|(name, _)| name == TOLD_UNTIL);
    found.map(|(_, position)| EventTime(i64::from_ne_bytes(position.epoch.to_ne_bytes())))
}

/// Where each branch, straight from a log, was read to by a record; `None`: the record tells nothing of that log.
pub(in crate::job) fn recorded(branches: &[Branch], inputs: &[(String, Position)]) -> Vec<Option<Position>> {
    let names: Vec<String> = branches.iter().map(|branch| branch.job().display_name()).collect();
    let in_order = names.len() <= inputs.len() && names.iter().zip(inputs).all(|(name, (known, _))| name == known);
    let place = |at: usize| {
        let by_name = || inputs.iter().find(|(name, _)| *name == names[at]);
        let found = if in_order { inputs.get(at) } else { by_name() };
        let output = &branches[at].job().output;
        found.map(|(_, position)| output.carry(position)).filter(|place| output.knows(place))
    };
    (0..branches.len()).map(place).collect()
}
