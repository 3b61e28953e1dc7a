//! Rows as comma-separated values (RFC 4180, lines end with a line feed).
//!
//! Values are written as in JSON, without its quotes. Null is an empty field; an empty text is `""`.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use super::json::Column;

/// Appends the names of the columns.
pub fn write_csv_header(schema: &Schema, out: &mut Vec<u8>) {
    for (at, field) in schema.fields().iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_field(field.name().as_bytes(), out);
    }
    out.push(b'\n');
}

/// Appends rows, one a record.
pub fn write_csv_rows(batch: &RecordBatch, rows: Range<usize>, out: &mut Vec<u8>) {
    let columns: Vec<Column<'_>> = batch.columns().iter().map(Column::new).collect();
    let mut value = Vec::new();
    for row in rows {
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            value.clear();
            column.write(row, &mut value);
            match value.first() {
                _ if value == b"null" => {}
                Some(b'"') => {
                    let text: String = serde_json::from_slice(&value).expect("a JSON string");
                    write_field(text.as_bytes(), out);
                }
                _ => write_field(&value, out),
            }
        }
        out.push(b'\n');
    }
}

fn write_field(text: &[u8], out: &mut Vec<u8>) {
    let plain = !text.is_empty() && !text.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r'));
    if plain {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    #[test]
    fn quotes_only_what_needs_them() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MAX)]))),
            ("a,b", Arc::new(StringArray::from(vec![Some("x\"y\nz"), Some(""), None]))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .expect("columns of one length");
        let mut out = Vec::new();
        write_csv_header(batch.schema_ref(), &mut out);
        write_csv_rows(&batch, 0..3, &mut out);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, "n,\"a,b\"\n1,\"x\"\"y\nz\"\n,\"\"\n9223372036854775807,\n");
    }
}
