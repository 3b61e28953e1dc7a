//! `UNTIL`: what can come to an end.

use crate::diagnostic::{Diagnostic, Span};
use crate::plan::Plan;
use crate::statement::{Emit, Until};

/// Refuses an end where results are never final.
pub(super) fn check(until: Option<(Until, Option<Span>)>, plan: &Plan, emit: Emit) -> Result<(), Vec<Diagnostic>> {
    let Some((_, span)) = until else { return Ok(()) };
    if plan.is_changing() {
        let message = "UNTIL is for rows and for windows: this result changes with every row, and none of it is final";
        return Err(vec![
            Diagnostic::new("unsupported", message)
                .at(span)
                .help("group by a window, as in GROUP BY tumble('1m'), or leave UNTIL out"),
        ]);
    }
    if emit != Emit::OnWindowClose {
        let message = "UNTIL tells what is final, and EMIT asks for what is not";
        return Err(vec![
            Diagnostic::new("unsupported", message).at(span).help("leave EMIT out: windows are told when they close"),
        ]);
    }
    Ok(())
}
