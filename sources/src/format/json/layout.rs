//! Speculation: a record is laid out as one before it.
//!
//! A [`Layout`] remembers the bytes between the values of a record: braces, keys, colons, commas and white space. A
//! record that has the same bytes between its values has the same fields in the same order, so that the wanted
//! values are found without looking at keys one by one. A record that departs from the layout anywhere is left to the
//! full reader. After Y. Li et al., "Mison: A Fast JSON Parser for Data Analytics" (VLDB 2017), and S. Palkar et al.,
//! "Filter Before You Parse" (VLDB 2018).
//!
//! Both read the same from every valid record. Of an invalid one, the only thing that goes unnoticed here is an
//! unknown escape or a control character (but a line feed) inside a string that nobody reads.

use std::ops::Range;

use super::cursor;
use crate::format::column::Span;

/// A value that nobody wants.
const UNWANTED: u32 = u32::MAX;

/// The bytes around the values of a record.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Of each field, how many bytes of `text` stand before its value, and in which cell the value goes.
    fields: Vec<(u32, u32)>,
    /// What stands before each value, then what stands behind the last.
    text: Vec<u8>,
}

impl Layout {
    /// The layout of a record that the full reader has read: the line's place, and its values in order with their
    /// cells.
    pub(super) fn learn(block: &[u8], line: Range<usize>, values: &[(Range<usize>, Option<usize>)]) -> Self {
        let mut layout = Self::default();
        let mut at = line.start;
        for (value, cell) in values {
            let before = &block[at..value.start];
            layout.text.extend_from_slice(before);
            let cell = cell.map_or(UNWANTED, |cell| u32::try_from(cell).expect("columns are few"));
            layout.fields.push((u32::try_from(before.len()).expect("lines are short"), cell));
            at = value.end;
        }
        layout.text.extend_from_slice(&block[at..line.end]);
        layout.text.push(b'\n');
        layout
    }

    /// Reads the line at `at` if it is laid out like this, and says where the next begins. `None`: it is not, and
    /// `cells` hold anything.
    #[inline]
    pub(super) fn follow(&self, block: &[u8], mut at: usize, cells: &mut [Span]) -> Option<usize> {
        let mut text = self.text.as_slice();
        for (length, cell) in &self.fields {
            let (before, rest) = text.split_at(*length as usize);
            text = rest;
            if !block.get(at..)?.starts_with(before) {
                return None;
            }
            at += before.len();
            let end = skip_value(block, at)?;
            if *cell != UNWANTED {
                cells[*cell as usize] = Span::new(at, end);
            }
            at = end;
        }
        block[at..].starts_with(text).then(|| at + text.len())
    }
}

#[inline]
fn skip_value(block: &[u8], at: usize) -> Option<usize> {
    match block.get(at)? {
        b'"' => skip_string(block, at + 1),
        b'-' | b'0'..=b'9' => cursor::number(block, at).ok(),
        _ => {
            let end = cursor::value(block, at, 1).ok()?;
            // White space inside of a value may be a line feed, which ends the record.
            memchr::memchr(b'\n', &block[at..end]).is_none().then_some(end)
        }
    }
}

#[inline]
fn skip_string(block: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr3(b'"', b'\\', b'\n', block.get(at..)?)?;
        match block[at] {
            b'"' => return Some(at + 1),
            b'\\' if block.get(at + 1) != Some(&b'\n') => at += 2,
            _ => return None,
        }
    }
}
