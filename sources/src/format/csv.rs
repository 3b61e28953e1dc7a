//! Comma-separated values (RFC 4180) to record batches.
//!
//! A record may span lines inside of double quotes. An empty field without quotes is null. A record that is broken
//! (an open quote, a wrong number of fields, a value that does not fit its column) is rejected alone: reading goes on
//! at the line behind the one where it began.

use std::borrow::Cow;
use std::ops::Range;

use arrow::datatypes::SchemaRef;

use super::column::{Cells, Conversion, Misfit, Span, Spans};
use super::scalar::{self, TimestampUnit};
use super::{BATCH_ROWS, Decoded, MAX_RECORD_BYTES, Records, too_long};

/// How a CSV file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CsvLayout {
    /// The first record names the columns. Without it they come in the order of the declared ones.
    pub(crate) header: bool,
    pub(crate) delimiter: u8,
}

/// Decodes records into the columns of a schema.
pub(crate) struct CsvDecoder {
    schema: SchemaRef,
    unit: TimestampUnit,
    layout: CsvLayout,
    /// For each field of a record its column, `None` when nobody wants it. `None` as a whole until the header is read.
    columns: Option<Vec<Option<usize>>>,
    /// For each record, the place of each column's value.
    cells: Vec<Span>,
    records: Records,
    /// The fields of the record that is being read.
    fields: Vec<Range<usize>>,
}

/// Where a record ends.
enum Split {
    /// Behind its line feed.
    Next(usize),
    /// Not in this block.
    Beyond,
    /// It is malformed.
    Broken(&'static str),
}

impl CsvDecoder {
    /// A decoder of the fields of `wanted`, some of those of the `whole` schema.
    pub(crate) fn new(wanted: SchemaRef, whole: &SchemaRef, unit: TimestampUnit, layout: CsvLayout) -> Self {
        let named = |field: &arrow::datatypes::FieldRef| wanted.index_of(field.name()).ok();
        let columns = (!layout.header).then(|| whole.fields().iter().map(named).collect());
        let (cells, records, fields) = (Vec::new(), Records::default(), Vec::new());
        Self { schema: wanted, unit, layout, columns, cells, records, fields }
    }

    /// As the JSON decoder's.
    pub(crate) fn decode(&mut self, block: &[u8], last: bool) -> (usize, Decoded) {
        let mut at = 0;
        if self.records.line == 0 && block.starts_with(b"\xef\xbb\xbf") {
            at = 3;
        }
        while self.records.len() < BATCH_ROWS && at < block.len() {
            self.fields.clear();
            let next = match split(block, at, last, self.layout.delimiter, &mut self.fields) {
                Split::Next(next) => next,
                Split::Beyond => break,
                Split::Broken(what) => {
                    let Some(next) = self.skip_line(block, at, last, what) else { break };
                    next
                }
            };
            if !self.fields.is_empty() {
                self.records.line += 1;
                self.read(block, at, next);
                let inside = block[at..next].trim_ascii_end();
                self.records.line += memchr::memchr_iter(b'\n', inside).count() as u64;
            }
            at = next;
        }
        (at, self.finish(block, at))
    }

    /// Counts a record that was not decoded since it is too long, of which `start` is the beginning.
    pub(crate) fn reject_long(&mut self, start: &[u8]) {
        self.records.line += 1;
        self.records.reject(start, too_long());
    }

    /// From here on comes another file, with a header of its own.
    pub(crate) fn restart(&mut self) {
        self.records.line = 0;
        if self.layout.header {
            self.columns = None;
        }
    }

    /// Rejects the line at `at`; `None` when it has no end yet.
    fn skip_line(&mut self, block: &[u8], at: usize, last: bool, what: &str) -> Option<usize> {
        let next = match memchr::memchr(b'\n', &block[at..]) {
            Some(length) => at + length + 1,
            None if last => block.len(),
            None => return None,
        };
        self.fields.clear();
        self.records.line += 1;
        self.records.reject(&block[at..next], what.to_owned());
        Some(next)
    }

    /// Takes the record whose fields were found.
    fn read(&mut self, block: &[u8], start: usize, end: usize) {
        let Some(columns) = &self.columns else {
            let name = |place: &Range<usize>| self.schema.index_of(&field_text(&block[place.clone()])).ok();
            self.columns = Some(self.fields.iter().map(name).collect());
            return;
        };
        if self.fields.len() == 1 && self.fields[0].is_empty() {
            return;
        }
        if end - start > MAX_RECORD_BYTES {
            self.records.reject(&block[start..end], too_long());
            return;
        }
        if self.fields.len() != columns.len() {
            let reason = format!("expected {} fields, found {}", columns.len(), self.fields.len());
            self.records.reject(&block[start..end], reason);
            return;
        }
        let first = self.cells.len();
        self.cells.resize(first + self.schema.fields().len(), Span::MISSING);
        for (column, place) in columns.iter().zip(&self.fields) {
            if let Some(column) = column {
                self.cells[first + column] = Span::new(place.start, place.end);
            }
        }
        self.records.push(start..end);
    }

    fn finish(&mut self, block: &[u8], used: usize) -> Decoded {
        let mut conversion = Conversion { block, unit: self.unit, faults: Vec::new() };
        let width = self.schema.fields().len();
        if std::str::from_utf8(&block[..used]).is_err() {
            for (row, place) in self.records.places().enumerate() {
                if std::str::from_utf8(&block[place]).is_err() {
                    conversion.faults.push((row, "not valid UTF-8".to_owned()));
                    self.cells[row * width..][..width].fill(Span::MISSING);
                }
            }
        }
        let columns = self.schema.fields().iter().enumerate();
        let columns = columns
            .map(|(at, field)| conversion.column::<CsvCells>(field, Spans::column(&self.cells, at, width)))
            .collect();
        self.cells.clear();
        self.records.finish(&self.schema, columns, conversion.faults, block)
    }
}

/// Finds the fields of the record at `at`.
fn split(block: &[u8], mut at: usize, last: bool, delimiter: u8, fields: &mut Vec<Range<usize>>) -> Split {
    let start = at;
    loop {
        let field = at;
        if block.get(at) == Some(&b'"') {
            at += 1;
            loop {
                match memchr::memchr(b'"', &block[at..]) {
                    Some(skip) if block.get(at + skip + 1) == Some(&b'"') => at += skip + 2,
                    Some(skip) => {
                        at += skip + 1;
                        break;
                    }
                    None if last || block.len() - start > MAX_RECORD_BYTES => return Split::Broken("open quote"),
                    None => return Split::Beyond,
                }
            }
            // A quote at the very end may be the first of two.
            if at == block.len() && !last {
                return Split::Beyond;
            }
        } else {
            match memchr::memchr2(delimiter, b'\n', &block[at..]) {
                Some(skip) => at += skip,
                None if last => at = block.len(),
                None => return Split::Beyond,
            }
        }
        let mut end = at;
        match &block[at..] {
            [] => {}
            [b'\r', b'\n', ..] => at += 1,
            [b'\r'] if last => at += 1,
            [b'\r'] => return Split::Beyond,
            [b'\n', ..] => end -= usize::from(end > field && block[end - 1] == b'\r'),
            [byte, ..] if *byte == delimiter => {}
            _ => return Split::Broken("text behind a closing quote"),
        }
        fields.push(field..end);
        match block.get(at) {
            Some(byte) if *byte == delimiter => at += 1,
            Some(_) => return Split::Next(at + 1),
            None => return Split::Next(at),
        }
    }
}

/// Records as text, for whoever looks at a few of them.
pub(crate) struct CsvRecords<'a> {
    block: &'a [u8],
    at: usize,
    delimiter: u8,
}

impl<'a> CsvRecords<'a> {
    pub(crate) fn new(block: &'a [u8], delimiter: u8) -> Self {
        Self { block, at: if block.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 }, delimiter }
    }
}

impl Iterator for CsvRecords<'_> {
    type Item = Result<Vec<String>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.block.len() {
            return None;
        }
        let mut fields = Vec::new();
        let record = match split(self.block, self.at, true, self.delimiter, &mut fields) {
            Split::Next(next) => {
                self.at = next;
                Ok(fields.into_iter().map(|place| field_text(&self.block[place])).collect())
            }
            Split::Beyond => Err("it has no end"),
            Split::Broken(what) => Err(what),
        };
        if record.is_err() {
            let line = memchr::memchr(b'\n', &self.block[self.at..]);
            self.at = line.map_or(self.block.len(), |length| self.at + length + 1);
        }
        Some(record)
    }
}

fn field_text(raw: &[u8]) -> String {
    let mut text = Vec::with_capacity(raw.len());
    unquote(raw, &mut text);
    String::from_utf8_lossy(&text).trim().to_owned()
}

fn unquote(raw: &[u8], out: &mut Vec<u8>) {
    let [b'"', inside @ .., b'"'] = raw else {
        out.extend_from_slice(raw);
        return;
    };
    let mut inside = inside;
    while let Some(at) = memchr::memchr(b'"', inside) {
        out.extend_from_slice(&inside[..=at]);
        inside = &inside[(at + 2).min(inside.len())..];
    }
    out.extend_from_slice(inside);
}

/// How fields are read.
struct CsvCells;

/// The text of a field that holds a number or the like: such text has no quotes inside.
fn plain(raw: &[u8]) -> &[u8] {
    match raw {
        [b'"', inside @ .., b'"'] => inside.trim_ascii(),
        raw => raw.trim_ascii(),
    }
}

impl Cells for CsvCells {
    fn is_null(raw: &[u8]) -> bool {
        raw.is_empty()
    }

    fn found(raw: &[u8]) -> String {
        format!("\"{}\"", String::from_utf8_lossy(&raw[..raw.len().min(40)]))
    }

    #[inline]
    fn plain_integer(raw: &[u8]) -> Option<i64> {
        scalar::plain_integer(raw)
    }

    fn integer(raw: &[u8]) -> Result<i128, Misfit> {
        scalar::integer(plain(raw)).map_err(|unfit| match unfit {
            scalar::Unfit::NotANumber => Misfit::Expected("a whole number"),
            unfit => unfit.into(),
        })
    }

    fn float(raw: &[u8]) -> Result<f64, Misfit> {
        let text = std::str::from_utf8(plain(raw)).map_err(|_| Misfit::Expected("a number"))?;
        let value: f64 = text.parse().map_err(|_| Misfit::Expected("a number"))?;
        // What is written in digits and yet infinite does not fit.
        if value.is_infinite() && text.bytes().any(|byte| byte.is_ascii_digit()) {
            Err(Misfit::Range)
        } else {
            Ok(value)
        }
    }

    fn boolean(raw: &[u8]) -> Result<bool, Misfit> {
        match plain(raw).to_ascii_lowercase().as_slice() {
            b"true" | b"t" | b"1" | b"yes" => Ok(true),
            b"false" | b"f" | b"0" | b"no" => Ok(false),
            _ => Err(Misfit::Expected("true or false")),
        }
    }

    fn decimal(raw: &[u8], scale: i8) -> Result<i128, Misfit> {
        Ok(scalar::scaled(plain(raw), scale.into(), true)?)
    }

    fn date(raw: &[u8]) -> Result<i32, Misfit> {
        scalar::date(plain(raw)).ok_or(Misfit::Expected("a date such as 2024-02-29"))
    }

    fn timestamp(raw: &[u8], unit: TimestampUnit) -> Result<i64, Misfit> {
        scalar::timestamp_or_number(plain(raw), unit).ok_or(Misfit::Expected("an RFC 3339 timestamp or a number"))
    }

    fn text(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
        unquote(raw, out);
        Ok(())
    }

    fn json(raw: &[u8]) -> Result<Cow<'_, [u8]>, Misfit> {
        let mut text = Vec::with_capacity(raw.len());
        unquote(raw, &mut text);
        match super::json::check(&text) {
            Ok(()) => Ok(Cow::Owned(text)),
            Err(fault) => Err(Misfit::Invalid(fault.what)),
        }
    }

    fn object(_: &[u8], _: impl FnMut(&[u8], Range<usize>)) -> Result<(), Misfit> {
        unreachable!("nested columns of CSV are refused at definition")
    }

    fn array(_: &[u8], _: impl FnMut(Range<usize>)) -> Result<(), Misfit> {
        unreachable!("nested columns of CSV are refused at definition")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]))
    }

    fn decoder(header: bool) -> CsvDecoder {
        let layout = CsvLayout { header, delimiter: b',' };
        CsvDecoder::new(schema(), &schema(), TimestampUnit::Millisecond, layout)
    }

    fn ids(rows: &RecordBatch) -> Vec<Option<i64>> {
        rows.column(0).as_primitive::<Int64Type>().iter().collect()
    }

    fn names(rows: &RecordBatch) -> Vec<Option<&str>> {
        rows.column(1).as_string::<i32>().iter().collect()
    }

    #[test]
    fn the_header_names_the_columns_and_quotes_hold_anything() {
        let text = "\u{feff}name,extra,\"id\"\r\n\"a, \"\"b\"\"\nc\",x,1\r\n\r\n,,2\r\nd,y,";
        let (used, decoded) = decoder(true).decode(text.as_bytes(), true);
        assert_eq!((used, decoded.undecodable), (text.len(), 0));
        assert_eq!(ids(&decoded.rows), [Some(1), Some(2), None]);
        assert_eq!(names(&decoded.rows), [Some("a, \"b\"\nc"), None, Some("d")]);
    }

    #[test]
    fn a_broken_record_does_not_lose_its_neighbours() {
        let text = "1,a\n2\nx,c\n4,\"d\n5,e\"f\n6,f\n7,\"g";
        let (used, decoded) = decoder(false).decode(text.as_bytes(), true);
        assert_eq!(used, text.len());
        assert_eq!(ids(&decoded.rows), [Some(1), Some(5), Some(6)]);
        let told: Vec<_> = decoded.rejects.iter().map(|reject| (reject.line, reject.reason.as_str())).collect();
        assert_eq!(
            told,
            [
                (2, "expected 2 fields, found 1"),
                (3, "column \"id\": expected a whole number, found \"x\""),
                (4, "text behind a closing quote"),
                (7, "open quote"),
            ]
        );
        assert_eq!(names(&decoded.rows), [Some("a"), Some("e\"f"), Some("f")]);
    }

    #[test]
    fn records_wait_for_their_end_at_every_cut() {
        let text = "1,\"a\"\"\n\"\r\n2,b\r\n3,c";
        for cut in 0..text.len() {
            let mut decoder = decoder(false);
            let (used, first) = decoder.decode(&text.as_bytes()[..cut], false);
            let (_, second) = decoder.decode(&text.as_bytes()[used..], true);
            let mut seen = ids(&first.rows);
            seen.extend(ids(&second.rows));
            assert_eq!(seen, [Some(1), Some(2), Some(3)], "cut at {cut}");
        }
    }
}
