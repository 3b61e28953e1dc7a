use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{Field, Int32Type, IntervalMonthDayNano, Schema};

use super::*;

fn rows(columns: Vec<(&str, ArrayRef)>) -> String {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
            .expect("columns of one length");
    let mut out = Vec::new();
    write_rows_array(&batch, 0..batch.num_rows(), &mut out);
    let text = String::from_utf8(out).expect("text");
    serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    text
}

fn one(column: impl Array + 'static) -> String {
    rows(vec![("c", Arc::new(column))])
}

#[test]
fn numbers_beyond_what_javascript_holds_are_strings() {
    let limit = (1_i64 << 53) - 1;
    assert_eq!(
        one(Int64Array::from(vec![Some(limit), Some(limit + 1), Some(-limit - 1), Some(i64::MIN), None])),
        r#"[[9007199254740991],["9007199254740992"],["-9007199254740992"],["-9223372036854775808"],[null]]"#
    );
    assert_eq!(one(UInt64Array::from(vec![7, u64::MAX])), r#"[[7],["18446744073709551615"]]"#);
    assert_eq!(one(Int8Array::from(vec![-128])), "[[-128]]");
}

#[test]
fn floats_are_the_shortest_that_read_back() {
    assert_eq!(
        one(Float64Array::from(vec![0.1, 1e300, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY])),
        r#"[[0.1],[1e+300],[-0.0],["NaN"],["Infinity"],["-Infinity"]]"#
    );
    assert_eq!(one(Float32Array::from(vec![0.1, f32::NAN])), r#"[[0.1],["NaN"]]"#);
}

#[test]
fn decimals_are_exact_numbers() {
    let array = Decimal128Array::from(vec![123_456, -5, 0]).with_precision_and_scale(10, 2).expect("fits");
    assert_eq!(one(array), "[[1234.56],[-0.05],[0.00]]");
    let array = Decimal128Array::from(vec![12]).with_precision_and_scale(10, -2).expect("fits");
    assert_eq!(one(array), "[[1200]]");
}

#[test]
fn times_are_text() {
    assert_eq!(
        one(TimestampNanosecondArray::from(vec![1_700_000_000_000_000_000, 1_700_000_000_123_000_000])),
        r#"[["2023-11-14T22:13:20Z"],["2023-11-14T22:13:20.123Z"]]"#
    );
    assert_eq!(one(Date32Array::from(vec![0, -1])), r#"[["1970-01-01"],["1969-12-31"]]"#);
    assert_eq!(one(Time64MicrosecondArray::from(vec![3_661_500_000])), r#"[["01:01:01.5"]]"#);
    assert_eq!(one(DurationMillisecondArray::from(vec![1_500])), r#"[["PT1.5S"]]"#);
    let interval = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3_000_000_000)]);
    assert_eq!(one(interval), r#"[["P1M2DT3S"]]"#);
}

#[test]
fn text_is_escaped_and_binary_is_hexadecimal() {
    assert_eq!(one(StringArray::from(vec!["a\"\\\n\u{1}é😀"])), "[[\"a\\\"\\\\\\n\\u0001é😀\"]]");
    assert_eq!(one(StringViewArray::from(vec!["view"])), r#"[["view"]]"#);
    assert_eq!(one(BinaryArray::from(vec![&[0x0f_u8, 0xff][..]])), r#"[["0fff"]]"#);
}

#[test]
fn nested_values_nest() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None, Some(vec![])]);
    assert_eq!(one(list.clone()), "[[[1,null]],[null],[[]]]");
    assert_eq!(one(list.slice(2, 1)), "[[[]]]");
    let inner = StructArray::from(vec![
        (Arc::new(Field::new("a", DataType::Int32, true)), Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef),
        (Arc::new(Field::new("b", DataType::Utf8, true)), Arc::new(StringArray::from(vec![None, Some("x")]))),
    ]);
    assert_eq!(one(inner.clone()), r#"[[{"a":1,"b":null}],[{"a":2,"b":"x"}]]"#);
    assert_eq!(one(inner.slice(1, 1)), r#"[[{"a":2,"b":"x"}]]"#);
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("y")].into_iter().collect();
    assert_eq!(one(dictionary), r#"[["x"],[null],["y"]]"#);
    let mut map = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
    map.keys().append_value(7);
    map.values().append_value("x");
    map.append(true).expect("one key a value");
    assert_eq!(one(map.finish()), r#"[[{"7":"x"}]]"#);
}

#[test]
fn lines_name_their_columns() {
    let schema = Arc::new(Schema::new(vec![
        Field::new("a\"b", DataType::Int64, true),
        Field::new("c", DataType::Boolean, true),
    ]));
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![1, 2, 3])), Arc::new(BooleanArray::from(vec![true, false, true]))];
    let batch = RecordBatch::try_new(schema, columns).expect("columns fit");
    let mut out = Vec::new();
    write_ndjson(&batch, 1..3, None, &mut out);
    write_ndjson(&batch, 0..1, Some("update"), &mut out);
    let none = batch.project(&[]).expect("no columns");
    write_ndjson(&none, 0..1, None, &mut out);
    write_ndjson(&none, 0..1, Some("delete"), &mut out);
    assert_eq!(
        String::from_utf8(out).expect("text"),
        "{\"a\\\"b\":2,\"c\":false}\n{\"a\\\"b\":3,\"c\":true}\n{\"op\":\"update\",\"a\\\"b\":1,\"c\":true}\n{}\n{\"op\":\"delete\"}\n"
    );
}
