//! What cannot be grouped, and what to write instead.

use std::collections::HashMap;

use super::{Binder, WindowColumn, Windowed};
use crate::diagnostic::{Diagnostic, Span};
use crate::parse::unsupported;
use crate::plan::{FillValue, NamedExpr, WindowKind};

impl Binder<'_> {
    /// False, and told, when FILL stands without windows.
    pub(super) fn may_fill_alone(&mut self, fill: Option<FillValue>, at: Option<Span>) -> bool {
        if fill.is_some() {
            self.refuse("FILL is about windows, and there are none", at, "GROUP BY country, tumble('10s') FILL (0)");
        }
        fill.is_none()
    }

    /// False, and told, when rows of such windows cannot be grouped, or not with FILL.
    pub(super) fn may_group(&mut self, window: &Windowed, fill: Option<FillValue>, at: Option<Span>) -> bool {
        let uneven = window.spec.is_made_by_rows() || matches!(window.spec.kind, WindowKind::Cumulate { .. });
        if uneven && window.grouped {
            let message = "rows of such windows cannot be grouped by the same windows again: each has its own bounds";
            self.refuse(message, at, "GROUP BY tumble('1m') groups them by their ends");
            return false;
        }
        if fill.is_some() && (uneven || window.grouped) {
            let message = "FILL is available with tumble and hop windows over rows";
            self.refuse(message, at, "leave FILL out, or GROUP BY tumble('10s')");
            return false;
        }
        true
    }
}

/// An aggregate over windows that GROUP BY does not name.
pub(super) fn without_window(
    columns: &HashMap<String, WindowColumn>,
    keys: &[NamedExpr],
    at: Option<Span>,
) -> Diagnostic {
    let mut names: Vec<&str> =
        columns.iter().filter(|(_, column)| **column != WindowColumn::Time).map(|(name, _)| name.as_str()).collect();
    names.sort_unstable_by(|left, right| right.cmp(left));
    names.extend(keys.iter().map(|key| key.name.as_str()));
    let help = if names.is_empty() {
        "select window_start and window_end in the sub-query, and group by them".to_owned()
    } else {
        format!("write GROUP BY {}", names.join(", "))
    };
    unsupported("GROUP BY must name the window that rows are in", at).help(help)
}
