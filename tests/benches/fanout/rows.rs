//! The rows that are delivered, and how they are found again in a message.

/// Rows of a message.
pub(crate) const MESSAGE_ROWS: u64 = 10;
/// What a row holds beside its number and moment.
const NOTE: &str = "a reading of a sensor, somewhere, sometime";

/// Whom clients read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A server that only broadcasts.
    Bare,
    /// Squilla; `idle`: a query that gives nothing.
    Squilla {
        /// No row passes.
        idle: bool,
    },
}

/// Numbers and notes of a message's rows. Numbers go up by one without end.
pub(crate) fn message_rows(first: u64) -> impl Iterator<Item = (u64, &'static str)> {
    (first..first + MESSAGE_ROWS).map(|number| (number, NOTE))
}

/// Rows in a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Number of the first one.
    pub(crate) first: u64,
    /// Number behind the last one.
    pub(crate) end: u64,
    /// When the first one was due, in microseconds.
    pub(crate) due: u64,
}

/// Finds the first and the last row of a message, at the same cost whichever server sent it; `None`: it has no rows.
pub(crate) fn rows_of(text: &str) -> Option<Rows> {
    let rows = &text[text.find("\"rows\":[[")? + "\"rows\":[[".len()..];
    let mut values = rows.split([',', ']']);
    let (first, due) = (values.next()?.parse().ok()?, values.next()?.parse().ok()?);
    let last = &text[text.rfind('[')? + 1..];
    let last: u64 = last.split(',').next()?.parse().ok()?;
    Some(Rows { first, end: last + 1, due })
}
