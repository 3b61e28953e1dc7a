//! Newline-delimited JSON to record batches, without an object tree per row.
//!
//! In two steps over a block of text: first the place of every wanted value is found, record by record
//! ([`layout`] for records that look like others, [`cursor`] for all); then each column is made from its places.
//! Fields that nobody reads are never decoded.
//!
//! - A missing field is null. Of a key that comes twice the last counts. White space and empty lines are skipped.
//! - A record with a value that does not fit its column, or that is no JSON, is rejected whole, with a reason.
//! - A text column takes every value: what is no string as its JSON text.
//! - Text must be UTF-8 in all its fields, read or not.

mod cells;
mod cursor;
mod layout;

use std::collections::HashMap;
use std::ops::Range;

use arrow::datatypes::SchemaRef;

use self::cells::JsonCells;
pub(crate) use self::cursor::{Fault, array, key_text, object, skip_space};
use self::layout::Layout;
use super::column::{Conversion, Span, Spans};
use super::scalar::TimestampUnit;
use super::{BATCH_ROWS, Decoded, MAX_RECORD_BYTES, Records, too_long};

/// Decodes JSON objects into the columns of a schema.
pub(crate) struct JsonDecoder {
    schema: SchemaRef,
    unit: TimestampUnit,
    /// The column of each key.
    columns: HashMap<Box<[u8]>, usize>,
    /// The column that takes the whole record.
    record: Option<usize>,
    layout: Layout,
    /// Off in tests that compare the two ways of reading.
    speculate: bool,
    /// For each record, the place of each column's value.
    cells: Vec<Span>,
    records: Records,
}

impl JsonDecoder {
    /// A decoder of the fields of `schema`, which are those wanted.
    pub(crate) fn new(schema: SchemaRef, unit: TimestampUnit) -> Self {
        let columns = schema.fields().iter().enumerate();
        let columns = columns.map(|(at, field)| (field.name().as_bytes().into(), at)).collect();
        Self {
            schema,
            unit,
            columns,
            record: None,
            layout: Layout::new(),
            speculate: true,
            cells: Vec::new(),
            records: Records::default(),
        }
    }

    /// The same with the whole record in the column of that name, if it is among those wanted.
    pub(crate) fn with_record(mut self, column: Option<&str>) -> Self {
        self.record = column.and_then(|column| self.columns.remove(column.as_bytes()));
        self
    }

    /// Decodes lines from the front of `block`, as many as a batch takes; a line without its line feed only when it
    /// is the `last`. Returns how many bytes were used.
    pub(crate) fn decode(&mut self, block: &[u8], last: bool) -> (usize, Decoded) {
        let mut at = 0;
        while self.records.len() < BATCH_ROWS && at < block.len() {
            if let Some(next) = self.follow(block, at) {
                at = next;
                continue;
            }
            let (end, next) = match memchr::memchr(b'\n', &block[at..]) {
                Some(length) => (at + length, at + length + 1),
                None if last => (block.len(), block.len()),
                None => break,
            };
            self.records.line += 1;
            if end - at > MAX_RECORD_BYTES {
                self.records.reject(&block[at..end], too_long());
                at = next;
                continue;
            }
            let bom = if self.records.line == 1 && block[at..end].starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
            self.read(block, at + bom..end);
            at = next;
        }
        (at, self.finish(block, at))
    }

    /// Decodes records that stand anywhere in `block`: the elements of an array. At most a batch of them.
    pub(crate) fn decode_elements(&mut self, block: &[u8], elements: &[Range<usize>]) -> Decoded {
        for element in elements {
            self.records.line += 1;
            self.read(block, element.clone());
        }
        self.finish(block, block.len())
    }

    /// Counts a line that was not decoded since it is too long, of which `start` is the beginning.
    pub(crate) fn reject_long(&mut self, start: &[u8]) {
        self.records.line += 1;
        self.records.reject(start, too_long());
    }

    /// From here on come the lines of another file.
    pub(crate) fn restart(&mut self) {
        self.records.line = 0;
    }

    /// Reads the line at `at` if it is laid out as others.
    #[inline]
    fn follow(&mut self, block: &[u8], at: usize) -> Option<usize> {
        if !self.speculate {
            return None;
        }
        let first = self.cells.len();
        self.cells.resize(first + self.schema.fields().len(), Span::MISSING);
        let next = self.layout.follow(block, at, &self.columns, &mut self.cells[first..]);
        match next.filter(|next| next - at <= MAX_RECORD_BYTES) {
            Some(next) => {
                self.records.line += 1;
                self.records.push(at..next - 1);
                Some(next)
            }
            None => {
                self.cells.truncate(first);
                None
            }
        }
    }

    /// Reads a record in full.
    fn read(&mut self, block: &[u8], line: Range<usize>) {
        let record = &block[line.clone()];
        let start = cursor::skip_space(record, 0);
        if start == record.len() {
            return;
        }
        let first = self.cells.len();
        self.cells.resize(first + self.schema.fields().len(), Span::MISSING);
        let (cells, columns) = (&mut self.cells[first..], &self.columns);
        let read = cursor::object(record, start, 0, |key, value| {
            if let Some(column) = columns.get(&*cursor::key_text(&record[key])) {
                cells[*column] = Span::new(line.start + value.start, line.start + value.end);
            }
            Ok(())
        });
        let behind = |end| {
            let rest = cursor::skip_space(record, end);
            if rest == record.len() { Ok(()) } else { Err(Fault { at: rest, what: "text behind the object" }) }
        };
        match read.and_then(behind) {
            Ok(()) => self.records.push(line),
            Err(fault) => {
                self.cells.truncate(first);
                self.records.reject(record, format!("not a JSON object: {fault}"));
            }
        }
    }

    /// Makes columns of what was found.
    fn finish(&mut self, block: &[u8], used: usize) -> Decoded {
        let mut conversion = Conversion { block, unit: self.unit, faults: Vec::new() };
        let width = self.schema.fields().len();
        if let Some(column) = self.record {
            for (row, place) in self.records.places().enumerate() {
                self.cells[row * width + column] = trimmed(block, place);
            }
        }
        // Most text is ASCII, and that is told faster.
        if !block[..used].is_ascii() && std::str::from_utf8(&block[..used]).is_err() {
            for (row, place) in self.records.places().enumerate() {
                if std::str::from_utf8(&block[place]).is_err() {
                    conversion.faults.push((row, "not valid UTF-8".to_owned()));
                    self.cells[row * width..][..width].fill(Span::MISSING);
                }
            }
        }
        let columns = self.schema.fields().iter().enumerate();
        let columns = columns
            .map(|(at, field)| conversion.column::<JsonCells>(field, Spans::column(&self.cells, at, width)))
            .collect();
        self.cells.clear();
        self.records.finish(&self.schema, columns, conversion.faults, block)
    }
}

/// A record without the white space around it.
fn trimmed(block: &[u8], place: Range<usize>) -> Span {
    let record = &block[place.clone()];
    let start = cursor::skip_space(record, 0);
    let end = record.len() - record.iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
    Span::new(place.start + start, place.start + end.max(start))
}

/// Whether the whole text is one JSON value.
pub(crate) fn check(text: &[u8]) -> Result<(), Fault> {
    let end = cursor::value(text, skip_space(text, 0), 0)?;
    let rest = skip_space(text, end);
    if rest == text.len() { Ok(()) } else { Err(Fault { at: rest, what: "text behind the value" }) }
}

#[cfg(test)]
mod tests;
