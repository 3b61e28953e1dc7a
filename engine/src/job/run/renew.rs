//! A task whose operator is replaced by one that has restored its state, as after a restart: for tests.

use super::{Task, Work};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::late::Late;
use crate::job::stage::Setting;
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
        if let (Work::Operator(operator), Some(step)) = (&mut self.work, self.stage.stateful()) {
            let setting = Setting {
                inputs: self.feed.inputs(),
                sides: self.feed.sides(),
                // The state says what was not told.
                start: EventTime::MIN,
                missing_before: EventTime::MIN,
                forgets: !self.shared.config.lossless,
                state_limit_bytes: self.shared.config.query_state_bytes,
                counters: self.job.counters.clone(),
            };
            let mut fresh = step.operator(setting)?;
            fresh.restore(&mut state)?;
            fresh.track_late(self.job.late.as_ref().is_some_and(Late::is_wanted));
            *operator = fresh;
        }
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
