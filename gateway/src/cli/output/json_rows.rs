//! Rows that a server sent, arrays of JSON values, on their way to standard output.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Output;
use super::table::{TableBlocks, cell};
use crate::cli::args::Format;

/// A column as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: String,
    /// Its Arrow type.
    #[serde(rename = "type")]
    pub(crate) data_type: String,
}

/// Writes the rows of one result.
pub(crate) struct JsonRowWriter {
    format: Format,
    keyed: bool,
    names: Vec<String>,
    /// Before each value of a JSON object: `{"name":` or `,"name":`.
    keys: Vec<String>,
    header_written: bool,
    table: TableBlocks,
}

impl JsonRowWriter {
    /// For these columns. `keyed`: rows replace each other, so each is written with what it does.
    pub(crate) fn new(format: Format, columns: &[Column], keyed: bool) -> Self {
        let op = keyed.then(|| Column { name: "op".to_owned(), data_type: "Utf8".to_owned() });
        let columns: Vec<Column> = op.into_iter().chain(columns.iter().cloned()).collect();
        let right = columns.iter().map(|column| is_numeric(&column.data_type)).collect();
        let names: Vec<String> = columns.into_iter().map(|column| column.name).collect();
        let key_of = |(at, name): (usize, &String)| {
            let quoted = serde_json::Value::from(name.as_str());
            format!("{}{quoted}:", if at == 0 { "{" } else { "," })
        };
        let keys = names.iter().enumerate().map(key_of).collect();
        let table = TableBlocks::new(names.clone(), right);
        Self { format, keyed, names, keys, header_written: false, table }
    }

    /// Writes one row; `op` is what it does, for keyed results.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn write(&mut self, op: Option<&str>, row: &[&RawValue], output: &mut Output) -> io::Result<()> {
        let op = self.keyed.then(|| op.unwrap_or_default());
        match self.format {
            Format::Ndjson => self.write_object(op, row, output.buffer()),
            Format::Csv => {
                self.write_csv_header(output.buffer());
                write_csv_row(
                    op.map(csv_text).into_iter().chain(row.iter().map(|value| csv_cell(value))),
                    output.buffer(),
                );
            }
            Format::Table => {
                self.table.push(op.map(str::to_owned).into_iter().chain(row.iter().map(|value| cell(value))).collect());
                if self.table.is_full() {
                    self.table.render(output.buffer());
                }
            }
            Format::Null => {}
        }
        output.appended()
    }

    /// Shows all that came, aligned columns included: those are gathered until then, to find their widths.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn show(&mut self, output: &mut Output) -> io::Result<()> {
        if self.format == Format::Table {
            self.table.render(output.buffer());
        }
        output.flush()
    }

    /// Nothing will come any more: as [`JsonRowWriter::show`]; a result without rows still shows its header.
    ///
    /// # Errors
    /// Those of the output.
    pub(crate) fn end(&mut self, output: &mut Output) -> io::Result<()> {
        match self.format {
            Format::Csv => self.write_csv_header(output.buffer()),
            Format::Table => self.table.end(output.buffer()),
            Format::Ndjson | Format::Null => {}
        }
        output.flush()
    }

    fn write_object(&self, op: Option<&str>, row: &[&RawValue], out: &mut Vec<u8>) {
        let op = op.map(|op| serde_json::Value::from(op).to_string());
        let values = op.as_deref().into_iter().chain(row.iter().map(|value| value.get()));
        if self.keys.is_empty() {
            out.push(b'{');
        }
        for (key, value) in self.keys.iter().zip(values) {
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(b"}\n");
    }

    fn write_csv_header(&mut self, out: &mut Vec<u8>) {
        if !self.header_written {
            self.header_written = true;
            write_csv_row(self.names.iter().map(|name| csv_text(name)), out);
        }
    }
}

fn is_numeric(data_type: &str) -> bool {
    ["Int", "UInt", "Float", "Decimal"].iter().any(|numeric| data_type.starts_with(numeric))
}

fn write_csv_row(cells: impl Iterator<Item = String>, out: &mut Vec<u8>) {
    for (at, cell) in cells.enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(out, "{comma}{cell}").expect("memory takes it");
    }
    out.push(b'\n');
}

/// A JSON value as CSV: null is empty, the empty string is `""`.
fn csv_cell(value: &RawValue) -> String {
    match value.get() {
        "null" => String::new(),
        text => csv_text(&serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned())),
    }
}

fn csv_text(text: &str) -> String {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Kept;
    use super::*;

    const ROWS: &str = r#"[["a,b",1,null],["",2.5,[1,"x"]]]"#;

    fn written(format: Format, keyed: bool) -> String {
        let columns = [("key", "Utf8"), ("n", "Float64"), ("l", "List(Utf8)")]
            .map(|(name, data_type)| Column { name: name.to_owned(), data_type: data_type.to_owned() });
        let kept = Kept::default();
        let mut output = kept.output();
        let mut writer = JsonRowWriter::new(format, &columns, keyed);
        let rows: Vec<Vec<&RawValue>> = serde_json::from_str(ROWS).expect("rows");
        for row in &rows {
            writer.write(keyed.then_some("f"), row, &mut output).expect("memory takes it");
        }
        writer.end(&mut output).expect("memory takes it");
        kept.text()
    }

    #[test]
    fn each_format_has_its_shape() {
        assert_eq!(
            written(Format::Ndjson, false),
            "{\"key\":\"a,b\",\"n\":1,\"l\":null}\n{\"key\":\"\",\"n\":2.5,\"l\":[1,\"x\"]}\n"
        );
        assert_eq!(written(Format::Csv, false), "key,n,l\n\"a,b\",1,\n\"\",2.5,\"[1,\"\"x\"\"]\"\n");
        assert_eq!(
            written(Format::Table, false),
            " key |   n | l\n-----+-----+---------\n a,b |   1 | null\n     | 2.5 | [1,\"x\"]\n"
        );
        assert_eq!(written(Format::Null, false), "");
    }

    #[test]
    fn keyed_rows_say_what_they_do() {
        assert!(written(Format::Ndjson, true).starts_with("{\"op\":\"f\",\"key\":\"a,b\""));
        assert!(written(Format::Csv, true).starts_with("op,key,n,l\nf,"));
    }
}
