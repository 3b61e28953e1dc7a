//! Columns of data that nobody declared, from its first records.
//!
//! Whole numbers become BIGINT, with fractions among them DOUBLE; strings that are all RFC 3339 timestamps become
//! TIMESTAMP, all dates DATE; objects and arrays become nested columns. What is mixed, or always null, becomes text.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::format::csv::{CsvLayout, CsvRecords};
use crate::format::json;
use crate::format::scalar;

/// Records that are looked at.
const RECORDS: usize = 1_000;

/// Most columns that are inferred, nested ones included.
const MAX_COLUMNS: usize = 2_000;

/// What the values seen so far have in common.
#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Nulls only.
    Null,
    Boolean,
    Integer,
    Float,
    Timestamp,
    Date,
    Text,
    List(Box<Kind>),
    /// In the order in which the fields were seen first.
    Struct(Vec<(String, Kind)>),
}

impl Kind {
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Null, kind) | (kind, Self::Null) => kind,
            (Self::Integer, Self::Float) | (Self::Float, Self::Integer) => Self::Float,
            (Self::Timestamp, Self::Date) | (Self::Date, Self::Timestamp) => Self::Timestamp,
            (Self::List(one), Self::List(other)) => Self::List(Box::new(one.merge(*other))),
            (Self::Struct(mut fields), Self::Struct(others)) => {
                for (name, kind) in others {
                    add(&mut fields, name, kind);
                }
                Self::Struct(fields)
            }
            (one, other) if one == other => one,
            _ => Self::Text,
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Integer => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Timestamp => squilla_query::timestamp_type(),
            Self::Date => DataType::Date32,
            Self::Null | Self::Text => DataType::Utf8,
            Self::List(element) => DataType::List(Arc::new(Field::new("item", element.data_type(), true))),
            // A struct without fields holds nothing: its text at least can be read.
            Self::Struct(fields) if fields.is_empty() => DataType::Utf8,
            Self::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::List(element) => element.width(),
            Self::Struct(fields) => fields.iter().map(|(_, kind)| kind.width()).sum::<usize>() + 1,
            _ => 1,
        }
    }
}

fn field((name, kind): &(String, Kind)) -> Field {
    Field::new(name, kind.data_type(), true)
}

fn add(fields: &mut Vec<(String, Kind)>, name: String, kind: Kind) {
    match fields.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = std::mem::replace(known, Kind::Null).merge(kind),
        None => fields.push((name, kind)),
    }
}

fn schema(fields: &[(String, Kind)]) -> Result<SchemaRef, String> {
    let width: usize = fields.iter().map(|(_, kind)| kind.width()).sum();
    if width == 0 {
        return Err("there is no record with a field".to_owned());
    }
    if width > MAX_COLUMNS {
        return Err(format!("{width} columns are more than {MAX_COLUMNS}"));
    }
    Ok(Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>())))
}

/// Columns of NDJSON. Lines that are no JSON are passed over, unless all are.
pub(crate) fn json_lines(text: &[u8]) -> Result<SchemaRef, String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let mut fields = Vec::new();
    let (mut good, mut wrong) = (0, None);
    for (number, line) in lines.enumerate().take(RECORDS) {
        match json_record(line, &mut fields) {
            Ok(()) => good += 1,
            Err(fault) => wrong = wrong.or(Some(format!("record {} is no JSON object: {fault}", number + 1))),
        }
    }
    match wrong {
        Some(wrong) if good == 0 => Err(wrong),
        _ => schema(&fields),
    }
}

/// Columns of NDJSON or of a JSON array of objects.
pub(crate) fn json_body(body: &[u8]) -> Result<SchemaRef, String> {
    let start = json::skip_space(body, 0);
    if body.get(start) != Some(&b'[') {
        return json_lines(body);
    }
    let mut fields = Vec::new();
    let mut records = 0;
    let seen = json::array(body, start, 0, |element| {
        records += 1;
        if records <= RECORDS { json_record(&body[element], &mut fields) } else { Ok(()) }
    });
    seen.map_err(|fault| format!("not a JSON array of objects: {fault}"))?;
    schema(&fields)
}

fn json_record(record: &[u8], fields: &mut Vec<(String, Kind)>) -> Result<(), json::Fault> {
    let start = json::skip_space(record, 0);
    let mut seen = Vec::new();
    let end = json::object(record, start, 0, |key, value| {
        let name = String::from_utf8_lossy(&json::key_text(&record[key])).into_owned();
        seen.push((name, json_kind(&record[value])));
        Ok(())
    })?;
    if json::skip_space(record, end) != record.len() {
        return Err(json::Fault { at: end, what: "text behind the object" });
    }
    for (name, kind) in seen {
        add(fields, name, kind);
    }
    Ok(())
}

/// The kind of a value that was checked.
fn json_kind(raw: &[u8]) -> Kind {
    match raw {
        b"null" => Kind::Null,
        b"true" | b"false" => Kind::Boolean,
        [b'"', inside @ .., b'"'] => text_kind(inside),
        [b'[', ..] => {
            let mut element = Kind::Null;
            let seen = json::array(raw, 0, 0, |place| {
                element = std::mem::replace(&mut element, Kind::Null).merge(json_kind(&raw[place]));
                Ok(())
            });
            if seen.is_ok() { Kind::List(Box::new(element)) } else { Kind::Text }
        }
        [b'{', ..] => {
            let mut fields = Vec::new();
            match json_record(raw, &mut fields) {
                Ok(()) => Kind::Struct(fields),
                Err(_) => Kind::Text,
            }
        }
        number => number_kind(number),
    }
}

fn text_kind(text: &[u8]) -> Kind {
    if scalar::date(text).is_some() {
        Kind::Date
    } else if scalar::timestamp(text).is_some() {
        Kind::Timestamp
    } else {
        Kind::Text
    }
}

fn number_kind(text: &[u8]) -> Kind {
    if scalar::plain_integer(text).is_some() { Kind::Integer } else { Kind::Float }
}

/// Names of the columns of CSV with a header.
pub(crate) fn csv_header(text: &[u8], layout: CsvLayout) -> Result<Vec<String>, String> {
    let names = CsvRecords::new(text, layout.delimiter).next().ok_or("it is empty")??;
    match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        Some((_, name)) => Err(format!("two columns are called \"{name}\"")),
        None => Ok(names),
    }
}

/// Columns of CSV.
pub(crate) fn csv(text: &[u8], layout: CsvLayout) -> Result<SchemaRef, String> {
    let mut records = CsvRecords::new(text, layout.delimiter);
    let mut fields: Vec<(String, Kind)> = Vec::new();
    if layout.header {
        let names = csv_header(text, layout)?;
        fields = names.into_iter().map(|name| (name, Kind::Null)).collect();
        records.next();
    }
    for record in records.take(RECORDS) {
        let Ok(values) = record else { continue };
        if fields.is_empty() {
            fields = (1..=values.len()).map(|number| (format!("column_{number}"), Kind::Null)).collect();
        }
        if values.len() == fields.len() {
            for ((_, kind), value) in fields.iter_mut().zip(values) {
                *kind = std::mem::replace(kind, Kind::Null).merge(csv_kind(value.trim()));
            }
        }
    }
    schema(&fields)
}

fn csv_kind(text: &str) -> Kind {
    match text {
        "" => Kind::Null,
        "true" | "false" | "TRUE" | "FALSE" | "True" | "False" => Kind::Boolean,
        _ if scalar::plain_integer(text.as_bytes()).is_some() => Kind::Integer,
        // `inf` and `nan` are more often words.
        _ if text.bytes().any(|byte| byte.is_ascii_digit()) && text.parse::<f64>().is_ok() => Kind::Float,
        _ => text_kind(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(schema: &Schema) -> Vec<(String, String)> {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().to_string())).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, data_type)| ((*name).to_owned(), (*data_type).to_owned())).collect()
    }

    #[test]
    fn kinds_of_json_are_merged_over_records() {
        let text = concat!(
            "{\"id\":1,\"x\":1,\"at\":\"2024-01-01T00:00:00Z\",\"day\":\"2024-01-01\",\"mix\":1,\"n\":null}\n",
            "{\"id\":2,\"x\":1.5,\"at\":\"2024-01-01 00:00:01\",\"mix\":\"a\",\"in\":{\"a\":[1]}}\n",
            "broken\n",
            "{\"in\":{\"b\":true,\"a\":[2.5]},\"flag\":false}\n",
        );
        let found = json_lines(text.as_bytes()).expect("columns");
        assert_eq!(
            types(&found)[..6],
            pairs(&[
                ("id", "Int64"),
                ("x", "Float64"),
                ("at", "Timestamp(ns)"),
                ("day", "Date32"),
                ("mix", "Utf8"),
                ("n", "Utf8"),
            ])
        );
        let DataType::Struct(inner) = found.field(6).data_type() else { panic!("a struct") };
        assert_eq!(inner.len(), 2);
        assert!(matches!(inner[0].data_type(), DataType::List(element) if *element.data_type() == DataType::Float64));
        assert_eq!(found.field(7).name(), "flag");
    }

    #[test]
    fn arrays_are_bodies_too() {
        let found = json_body(b" [ {\"a\":1}, {\"b\":\"x\"} ] ").expect("columns");
        assert_eq!(types(&found), pairs(&[("a", "Int64"), ("b", "Utf8")]));
        assert!(json_body(b"[1]").is_err());
        assert!(json_body(b"").is_err());
        assert!(json_body(b"nonsense").expect_err("no JSON").contains("record 1"));
    }

    #[test]
    fn kinds_of_csv() {
        let layout = CsvLayout { header: true, delimiter: b';' };
        let found = csv(b"a;b;c;d\n1;1.5;x;\n2;2;2024-01-01;\n", layout).expect("columns");
        assert_eq!(types(&found), pairs(&[("a", "Int64"), ("b", "Float64"), ("c", "Utf8"), ("d", "Utf8")]));
        let found = csv(b"1,a\n", CsvLayout { header: false, delimiter: b',' }).expect("columns");
        assert_eq!(types(&found), pairs(&[("column_1", "Int64"), ("column_2", "Utf8")]));
    }
}
