//! The windows of a plan: their form and where they lie.

use crate::calendar::Calendar;

/// The windows that rows are put in. All times are nanoseconds of event time; windows are half-open and aligned to
/// 1970-01-01T00:00:00Z plus the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowSpec {
    /// The form.
    pub kind: WindowKind,
    /// How far boundaries are shifted; may be negative.
    pub offset_ns: i64,
}

/// The form of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WindowKind {
    /// Each row is in one window.
    Tumble {
        /// Length, above zero.
        size_ns: i64,
    },
    /// A window starts every slide; a row is in each that covers it (in none where slide > size leaves room).
    Hop {
        /// Length, above zero.
        size_ns: i64,
        /// Distance from start to start, above zero.
        slide_ns: i64,
    },
    /// A row is in the windows that start at the latest multiple of the size and end a step, two steps and so on later,
    /// as far as they cover it.
    Cumulate {
        /// Length of the longest, a multiple of the step.
        size_ns: i64,
        /// How much longer than the one before it a window is, above zero.
        step_ns: i64,
    },
    /// Each row is in one window, of a length by the calendar.
    Calendar(Calendar),
    /// See [`crate::GatherKind::Session`].
    Session {
        /// The longest pause within a session.
        gap_ns: i64,
    },
    /// See [`crate::GatherKind::Count`].
    Count {
        /// Rows of a window.
        rows: u64,
        /// A window starts with every so manieth row.
        slide: u64,
    },
}

impl WindowSpec {
    /// Length of a window, of cumulating windows that of the longest; the gap of sessions; zero for windows by count.
    pub fn size_ns(&self) -> i64 {
        match self.kind {
            WindowKind::Tumble { size_ns } | WindowKind::Hop { size_ns, .. } | WindowKind::Cumulate { size_ns, .. } => {
                size_ns
            }
            WindowKind::Calendar(calendar) => calendar.nominal_ns(),
            WindowKind::Session { gap_ns } => gap_ns,
            WindowKind::Count { .. } => 0,
        }
    }

    /// Distance from the end of a window to that of the next; the gap of sessions; zero for windows by count.
    pub fn slide_ns(&self) -> i64 {
        match self.kind {
            WindowKind::Tumble { size_ns } => size_ns,
            WindowKind::Hop { slide_ns, .. } => slide_ns,
            WindowKind::Cumulate { step_ns, .. } => step_ns,
            WindowKind::Calendar(calendar) => calendar.nominal_ns(),
            WindowKind::Session { gap_ns } => gap_ns,
            WindowKind::Count { .. } => 0,
        }
    }

    /// True for windows that the rows themselves make: they cannot be told of a row when it comes.
    pub fn is_made_by_rows(&self) -> bool {
        matches!(self.kind, WindowKind::Session { .. } | WindowKind::Count { .. })
    }
}
