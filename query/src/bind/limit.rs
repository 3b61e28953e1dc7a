//! `LIMIT` of a whole query: what has first rows.

use crate::diagnostic::Diagnostic;
use crate::parse::LimitSyntax;
use crate::plan::Plan;
use crate::statement::Emit;

/// Refuses a number of rows where rows replace each other.
pub(super) fn check(limit: Option<LimitSyntax>, plan: &Plan, emit: Emit) -> Result<(), Vec<Diagnostic>> {
    let Some(limit) = limit else { return Ok(()) };
    if plan.is_changing() {
        let message = "LIMIT takes the first rows, and this result has none: its rows replace each other as it changes";
        return Err(vec![Diagnostic::new("unsupported", message).at(limit.span).help(
            "group by a window too, as in GROUP BY k, tumble('10s') LIMIT 10; ORDER BY n DESC LIMIT 10 then takes the \
             first ones of each window",
        )]);
    }
    if emit != Emit::OnWindowClose {
        let message = "LIMIT counts rows that are final, and EMIT asks for those that are not";
        return Err(vec![Diagnostic::new("unsupported", message).at(limit.span).help(
            "leave EMIT out: windows are told when they close; ORDER BY n DESC LIMIT 10 goes with EMIT: the first ones of \
             each window so far",
        )]);
    }
    Ok(())
}
