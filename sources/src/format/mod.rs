//! Text in, record batches out: one file a format.

pub(crate) mod column;
pub(crate) mod csv;
pub(crate) mod json;
pub(crate) mod parquet;
pub(crate) mod scalar;

use std::ops::Range;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use squilla_engine::Reject;

use self::csv::CsvDecoder;
use self::json::JsonDecoder;

/// Rows of a batch at the most.
pub(crate) const BATCH_ROWS: usize = 8_192;

/// Longest record that is read, in bytes.
pub(crate) const MAX_RECORD_BYTES: usize = 16 << 20;

/// Longest text of a rejected record that is kept, in bytes.
const REJECT_BYTES: usize = 2_048;

/// Rejected records of a batch whose reasons are kept: as many as the answer to a publish tells.
const REJECTS: usize = 100;

/// What a piece of text holds.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) rows: RecordBatch,
    /// Records that are not among the rows.
    pub(crate) undecodable: u64,
    /// The first of those.
    pub(crate) rejects: Vec<Rejected>,
}

/// A record that did not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejected {
    /// From 1: the line, or the element of an array.
    pub(crate) line: u64,
    pub(crate) reason: String,
    /// Its text, cut.
    pub(crate) record: String,
}

impl Rejected {
    /// The same, with the place in words.
    pub(crate) fn into_reject(self, of: &str) -> Reject {
        Reject { place: format!("line {} of {of}", self.line), reason: self.reason, record: self.record }
    }
}

/// A decoder of lines.
pub(crate) enum TextDecoder {
    Json(JsonDecoder),
    Csv(CsvDecoder),
}

impl TextDecoder {
    /// See [`JsonDecoder::decode`].
    pub(crate) fn decode(&mut self, block: &[u8], last: bool) -> (usize, Decoded) {
        match self {
            Self::Json(decoder) => decoder.decode(block, last),
            Self::Csv(decoder) => decoder.decode(block, last),
        }
    }

    /// From here on comes another file.
    pub(crate) fn restart(&mut self) {
        match self {
            Self::Json(decoder) => decoder.restart(),
            Self::Csv(decoder) => decoder.restart(),
        }
    }

    /// Counts a record that is longer than [`MAX_RECORD_BYTES`], of which `start` is the beginning.
    pub(crate) fn reject_long(&mut self, start: &[u8]) {
        match self {
            Self::Json(decoder) => decoder.reject_long(start),
            Self::Csv(decoder) => decoder.reject_long(start),
        }
    }
}

fn too_long() -> String {
    format!("longer than {MAX_RECORD_BYTES} bytes")
}

/// The records of a batch that is being made, and those that were rejected.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// Lines read so far.
    pub(crate) line: u64,
    /// Of each record that is a row so far: its place in the block, and its line.
    rows: Vec<(Range<u32>, u64)>,
    undecodable: u64,
    rejects: Vec<Rejected>,
}

impl Records {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    #[inline]
    pub(crate) fn push(&mut self, place: Range<usize>) {
        self.rows.push((place.start as u32..place.end as u32, self.line));
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Range<usize>> {
        self.rows.iter().map(|(place, _)| place.start as usize..place.end as usize)
    }

    /// Counts a record that is no row.
    pub(crate) fn reject(&mut self, record: &[u8], reason: String) {
        self.reject_at(self.line, record, reason);
    }

    fn reject_at(&mut self, line: u64, record: &[u8], reason: String) {
        self.undecodable += 1;
        if self.rejects.len() < REJECTS {
            let record = String::from_utf8_lossy(&record[..record.len().min(REJECT_BYTES)]).trim_end().to_owned();
            self.rejects.push(Rejected { line, reason, record });
        }
    }

    /// The batch: the columns without the records that `faults` names.
    pub(crate) fn finish(
        &mut self,
        schema: &SchemaRef,
        columns: Vec<ArrayRef>,
        mut faults: Vec<(usize, String)>,
        block: &[u8],
    ) -> Decoded {
        let mut rows = self.rows.len();
        let mut columns = columns;
        if !faults.is_empty() {
            // Stable: of a record's faults, the first column's is told.
            faults.sort_by_key(|(row, _)| *row);
            faults.dedup_by_key(|(row, _)| *row);
            let mut keep = vec![true; rows];
            for (row, reason) in &mut faults {
                keep[*row] = false;
                let (place, line) = self.rows[*row].clone();
                let record = &block[place.start as usize..place.end as usize];
                self.reject_at(line, record, std::mem::take(reason));
            }
            rows -= faults.len();
            let keep = BooleanArray::from(keep);
            for column in &mut columns {
                *column = arrow::compute::filter(column, &keep).expect("every type can be filtered");
            }
        }
        self.rows.clear();
        let mut rejects = std::mem::take(&mut self.rejects);
        rejects.sort_by_key(|reject| reject.line);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows = RecordBatch::try_new_with_options(schema.clone(), columns, &options)
            .expect("columns are made from the schema");
        Decoded { rows, undecodable: std::mem::take(&mut self.undecodable), rejects }
    }
}
