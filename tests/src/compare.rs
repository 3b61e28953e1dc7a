//! Whether two answers say the same.

use serde_json::Value;

use crate::case::parse_time;

/// How far two numbers may be apart, relative to the larger one and, near zero, absolutely.
const TOLERANCE: f64 = 1e-9;
/// Differences that are shown.
const SHOWN: usize = 5;
const NS_PER_MS: i64 = 1_000_000;

/// Compares rows, objects of named values, as sets: rows are matched by `keys`, which must tell them apart. Columns of
/// `times` are RFC 3339 in `actual`, and milliseconds since 1970 in `expected`.
///
/// # Errors
/// The first differences.
pub fn same_rows(actual: Vec<Value>, expected: Vec<Value>, keys: &[&str], times: &[&str]) -> Result<(), String> {
    let mut actual = actual;
    for row in &mut actual {
        for time in times {
            if row[*time].is_null() {
                continue;
            }
            let text = row[*time].as_str().ok_or_else(|| format!("{row}: {time} is no text"))?;
            let ns = parse_time(text).ok_or_else(|| format!("{row}: {time} is no time"))?;
            row[*time] = Value::from(ns / NS_PER_MS);
        }
    }
    // 5 and 5.0 are one number, and sums may differ in their last digits.
    let text = |value: &Value| match value.as_f64() {
        Some(number) => format!("{number:.6}"),
        None => value.to_string(),
    };
    let key = |row: &Value| keys.iter().map(|key| text(&row[*key])).collect::<Vec<_>>();
    let sorted = |mut rows: Vec<Value>| {
        rows.sort_by_cached_key(key);
        rows
    };
    let (actual, expected) = (sorted(actual), sorted(expected));
    let mut found: Vec<String> = Vec::new();
    if actual.len() != expected.len() {
        found.push(format!("{} rows instead of {}", actual.len(), expected.len()));
    }
    for (actual, expected) in actual.iter().zip(&expected) {
        if !same(actual, expected) {
            found.push(format!("got      {actual}\n  instead of {expected}"));
            // Behind a row too many or too few all others differ.
            if found.len() >= SHOWN || key(actual) != key(expected) {
                break;
            }
        }
    }
    if found.is_empty() { Ok(()) } else { Err(found.join("\n  ")) }
}

/// Whether two values are the same: numbers nearly, whether they are written as numbers or as text.
pub fn same(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| same(value, other)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ if actual == expected => true,
        _ => match (number(actual), number(expected)) {
            (Some(a), Some(b)) => (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0),
            _ => false,
        },
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_compared_nearly_and_texts_exactly() {
        assert!(same(&json!({"a": 1.0, "b": "12.50"}), &json!({"a": 1.0 + 1e-12, "b": "12.5"})));
        assert!(!same(&json!({"a": 1.0}), &json!({"a": 1.0 + 1e-6})));
        assert!(!same(&json!({"a": "x"}), &json!({"a": "y"})));
        assert!(!same(&json!({"a": null}), &json!({"a": 0})));
    }

    #[test]
    fn a_missing_row_is_told() {
        let rows = |keys: &[i64]| keys.iter().map(|k| json!({"k": k})).collect::<Vec<_>>();
        assert!(same_rows(rows(&[2, 1]), rows(&[1, 2]), &["k"], &[]).is_ok());
        assert!(same_rows(rows(&[1]), rows(&[1, 2]), &["k"], &[]).is_err());
        assert!(same_rows(rows(&[1, 3]), rows(&[1, 2]), &["k"], &[]).is_err());
    }
}
