//! A task whose operator is replaced by one that has restored its state, as after a restart: for tests.

use super::{Task, Work};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::late::Late;
use crate::operator::{Part, State};

impl Task {
    /// Goes on with an operator that knows only what the one before it saved. Not while running results are read: what
    /// their readers were told is no part of a state.
    pub(super) fn renew(&mut self) -> Result<(), EngineError> {
        let mut state = State::default();
        self.feed.save(&mut state)?;
        if let Work::Operator(operator) = &mut self.work {
            operator.save(&mut state)?;
        }
        let mut state = state.into_parts().map(written).collect::<Result<State, EngineError>>()?;
        self.feed.renew(&self.branches)?;
        self.feed.restore(&mut state)?;
        // The state says what was not told.
        let start = (EventTime::MIN, EventTime::MIN);
        let mut fresh = Work::begun(&self.shared, &self.stage, &self.feed, start, &self.job.counters)?;
        if let Work::Operator(operator) = &mut fresh {
            operator.restore(&mut state)?;
            operator.track_late(self.job.late.as_ref().is_some_and(Late::is_wanted));
        }
        self.work = fresh;
        if !state.is_empty() {
            return Err(EngineError::State("it has more parts than were taken".into()));
        }
        Ok(())
    }
}

/// A part as it is once it was written and read again.
fn written(part: Part) -> Result<Part, EngineError> {
    let Part::Rows(rows) = part else { return Ok(part) };
    let mut writer = arrow_ipc::writer::StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(&rows)?;
    let bytes = writer.into_inner()?;
    let mut read = arrow_ipc::reader::StreamReader::try_new(bytes.as_slice(), None)?;
    let rows = read.next().ok_or_else(|| EngineError::State("columns that were not written".into()))??;
    Ok(Part::Rows(rows))
}
