//! Values as case files write them.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef, TimestampNanosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::sync::Arc;

/// The day of a time that is written without one, in nanoseconds since 1970: 2026-01-01.
const DAY_NS: i64 = 20_454 * 86_400 * 1_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;

/// The values of a line; `None` is null. Remarks are left out.
///
/// # Errors
/// A quoted text that does not end.
pub fn parse_line(line: &str) -> Result<Vec<Option<String>>, String> {
    split_line(line).map(|(values, _)| values)
}

/// The remark behind a line's values; `None`: there is none.
pub(super) fn parse_remark(line: &str) -> Option<String> {
    split_line(line).ok().and_then(|(_, remark)| remark.map(str::to_owned))
}

fn split_line(line: &str) -> Result<(Vec<Option<String>>, Option<&str>), String> {
    let mut values = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let (value, after) = if rest.starts_with('"') {
            let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let text = stream.next().expect("there is a quote").map_err(|error| format!("{line}: {error}"))?;
            (Some(text), rest[stream.byte_offset()..].trim_start())
        } else {
            let end = rest.find([',', '#']).unwrap_or(rest.len());
            let text = rest[..end].trim();
            ((text != "null").then(|| text.to_owned()), &rest[end..])
        };
        values.push(value);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() || after.starts_with('#') => return Ok((values, after.strip_prefix('#'))),
            None => return Err(format!("{line}: a comma is missing before {after}")),
        }
    }
}

/// A moment in nanoseconds since 1970, from `00:00:05.5` (of 2026-01-01) or RFC 3339; `None` when it is neither.
pub fn parse_time(text: &str) -> Option<i64> {
    let text = full_time(text);
    let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let times = cast_with_options(&array, &squilla_query::timestamp_type(), &options).ok()?;
    times.is_valid(0).then(|| times.as_primitive::<TimestampNanosecondType>().value(0))
}

fn full_time(text: &str) -> String {
    let is_short = text.len() >= 8 && text.as_bytes()[2] == b':' && text.as_bytes()[5] == b':';
    if is_short { format!("2026-01-01T{text}") } else { text.to_owned() }
}

/// A batch of these columns from lines of values.
///
/// # Errors
/// A line with too many or too few values, or a value that its column cannot hold.
pub(super) fn batch(schema: &SchemaRef, rows: &[Vec<Option<String>>]) -> Result<RecordBatch, String> {
    let width = schema.fields().len();
    if let Some(row) = rows.iter().find(|row| row.len() != width) {
        return Err(format!("{} values for {width} columns: {row:?}", row.len()));
    }
    let mut columns = Vec::with_capacity(width);
    for (at, field) in schema.fields().iter().enumerate() {
        let is_time = matches!(field.data_type(), DataType::Timestamp(..));
        let texts: StringArray = rows
            .iter()
            .map(|row| row[at].as_deref().map(|text| if is_time { full_time(text) } else { text.to_owned() }))
            .collect();
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let texts: ArrayRef = Arc::new(texts);
        let column = cast_with_options(&texts, field.data_type(), &options)
            .map_err(|error| format!("column \"{}\": {error}", field.name()))?;
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|error| error.to_string())
}

/// A value of a column as case files write it.
///
/// # Panics
/// If the column is of a type that cannot be shown, or has no such row.
pub fn render_value(column: &dyn Array, row: usize) -> String {
    if column.is_null(row) {
        return "null".to_owned();
    }
    if column.data_type() == &squilla_query::timestamp_type() {
        return render_time(column.as_primitive::<TimestampNanosecondType>().value(row));
    }
    let options = FormatOptions::new().with_null("null");
    let text = ArrayFormatter::try_new(column, &options).expect("the type can be shown").value(row).to_string();
    let is_text = matches!(column.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let misread = text.is_empty() || text == "null" || text.trim() != text || text.contains([',', '#', '"', '\n']);
    if is_text && misread { serde_json::Value::from(text).to_string() } else { text }
}

/// A moment as `00:00:05.5` when it is on the day that such times mean, otherwise in full.
pub(super) fn render_time(ns: i64) -> String {
    let array = arrow::array::TimestampNanosecondArray::from(vec![ns]);
    let options = FormatOptions::new().with_display_error(true);
    let text = ArrayFormatter::try_new(&array, &options).expect("a time can be shown").value(0).to_string();
    let same_day = (DAY_NS..DAY_NS + 86_400 * SECOND_NS).contains(&ns);
    if same_day { text.split('T').nth(1).unwrap_or(&text).to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_at_commas_outside_quotes() {
        let values = parse_line(r#"1, null, "a, \"b\" #", plain , "" # remark, with comma"#).expect("it can be read");
        let values: Vec<Option<&str>> = values.iter().map(Option::as_deref).collect();
        assert_eq!(values, [Some("1"), None, Some("a, \"b\" #"), Some("plain"), Some("")]);
        assert!(parse_line("\"a").is_err());
        assert!(parse_line("\"a\" b").is_err());
    }

    #[test]
    fn short_times_are_of_one_day() {
        assert_eq!(parse_time("00:00:01"), Some(DAY_NS + SECOND_NS));
        assert_eq!(parse_time("2026-01-01T00:00:01.5Z"), Some(DAY_NS + SECOND_NS * 3 / 2));
        assert_eq!(parse_time("tomorrow"), None);
        assert_eq!(render_time(DAY_NS + SECOND_NS * 3 / 2), "00:00:01.500");
        assert_eq!(render_time(-SECOND_NS), "1969-12-31T23:59:59");
    }
}
