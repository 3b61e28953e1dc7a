//! For how long what has no windows is remembered: an hour of event time, or what `STATE TTL` says.

use super::Binder;
use crate::diagnostic::Diagnostic;
use crate::parse::StateTtl;
use crate::plan::RUNNING_TTL_NS;

/// A time to live, and whether anything lives by it.
#[derive(Clone, Copy, Default)]
pub(super) struct TimeToLive {
    /// In nanoseconds; `None`: nothing was said.
    said_ns: Option<i64>,
    used: bool,
}

impl TimeToLive {
    /// What a clause says.
    pub(super) fn of(clause: Option<StateTtl>) -> Self {
        Self { said_ns: clause.map(|clause| clause.ttl_ns), used: false }
    }

    /// A clause that says nothing of this query.
    pub(super) fn unused(self, clause: Option<StateTtl>) -> Option<Diagnostic> {
        let clause = clause.filter(|_| !self.used)?;
        let message = "STATE TTL says for how long rows and groups without windows are remembered: here are none";
        let mistake = Diagnostic::new("invalid", message).at(clause.span);
        Some(
            mistake
                .help("leave it out: windows are forgotten when they have closed, and rows as they come are not kept"),
        )
    }
}

impl Binder<'_> {
    /// The time to live of a step without windows, in nanoseconds.
    pub(super) fn ttl_ns(&mut self) -> i64 {
        self.time_to_live.used = true;
        self.time_to_live.said_ns.unwrap_or(RUNNING_TTL_NS)
    }
}
