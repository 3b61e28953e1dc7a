use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampNanosecondType};
use proptest::prelude::*;

use super::*;

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    let fields = fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn decoder(schema: &SchemaRef, speculate: bool) -> JsonDecoder {
    let mut decoder = JsonDecoder::new(schema.clone(), TimestampUnit::Millisecond);
    decoder.speculate = speculate;
    decoder
}

/// All rows and rejects of a text, in blocks of any size.
fn decode(schema: &SchemaRef, text: &[u8], speculate: bool) -> (RecordBatch, Vec<(u64, String)>) {
    let mut decoder = decoder(schema, speculate);
    let (mut at, mut batches, mut rejects) = (0, Vec::new(), Vec::new());
    while at < text.len() {
        let (used, decoded) = decoder.decode(&text[at..], true);
        assert!(used > 0, "the last block is used up");
        at += used;
        assert_eq!(decoded.undecodable, decoded.rejects.len() as u64);
        rejects.extend(decoded.rejects.into_iter().map(|reject| (reject.line, reject.reason)));
        batches.push(decoded.rows);
    }
    (arrow::compute::concat_batches(schema, &batches).expect("one schema"), rejects)
}

/// One value of one column, by both ways: as Arrow prints it, or why not.
fn value(data_type: &DataType, json: &str) -> Result<String, String> {
    let schema = schema(&[("c", data_type.clone())]);
    // The second and third record have the layout of the first.
    let text = format!("{{\"c\":{json}}}\n{{\"c\":{json}}}\n{{\"c\":null}}\n");
    let (rows, rejects) = decode(&schema, text.as_bytes(), true);
    assert_eq!(decode(&schema, text.as_bytes(), false), (rows.clone(), rejects.clone()));
    match rejects.first() {
        Some((_, reason)) => Err(reason.clone()),
        None => Ok(arrow::util::display::array_value_to_string(rows.column(0), 1).expect("printable")),
    }
}

#[test]
fn values_at_the_edges() {
    let reads = |data_type: DataType, json: &str, text: &str| {
        assert_eq!(value(&data_type, json).as_deref(), Ok(text), "{json} as {data_type}");
    };
    reads(DataType::Int64, "9223372036854775807", "9223372036854775807");
    reads(DataType::Int64, "\"-9223372036854775808\"", "-9223372036854775808");
    reads(DataType::Int64, "1e3", "1000");
    reads(DataType::Int8, "-128", "-128");
    reads(DataType::UInt64, "18446744073709551615", "18446744073709551615");
    reads(DataType::Float64, "-1.5e-3", "-0.0015");
    reads(DataType::Float64, "\"NaN\"", "NaN");
    reads(DataType::Boolean, "true", "true");
    reads(DataType::Decimal128(10, 2), "12.345", "12.35");
    reads(DataType::Decimal128(10, 2), "\"-0.10\"", "-0.10");
    reads(DataType::Date32, "\"2024-02-29\"", "2024-02-29");
    let timestamp = squilla_query::timestamp_type();
    reads(timestamp.clone(), "1700000000123", "2023-11-14T22:13:20.123");
    reads(timestamp.clone(), "\"2023-11-14 22:13:20+01:00\"", "2023-11-14T21:13:20");
    for text in [DataType::Utf8, DataType::LargeUtf8] {
        reads(text.clone(), r#""a\"\u00e9\ud83d\ude00\n""#, "a\"é😀\n");
        reads(text.clone(), r#"{"a": [1, "x"]}"#, r#"{"a": [1, "x"]}"#);
        reads(text, "1.50", "1.50");
    }
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    reads(list.clone(), "[1, null, 3]", "[1, , 3]");
    reads(list, "[]", "[]");
    let fields = vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8, true)];
    reads(DataType::Struct(fields.into()), r#"{"b":"x","z":[{}],"a":1}"#, "{a: 1, b: x}");
}

#[test]
fn values_that_do_not_fit_are_rejected_with_a_reason() {
    let refuses = |data_type: DataType, json: &str, reason: &str| {
        assert_eq!(value(&data_type, json), Err(format!("column \"c\": {reason}")), "{json} as {data_type}");
    };
    refuses(DataType::Int64, "9223372036854775808", "the number 9223372036854775808 is out of range");
    refuses(DataType::Int64, "1.5", "expected a whole number, found the number 1.5");
    refuses(DataType::Int64, "\"7\"", "expected a whole number, found a string");
    refuses(DataType::Int64, "{}", "expected a whole number, found an object");
    refuses(DataType::UInt8, "-1", "the number -1 is out of range");
    refuses(DataType::Float64, "1e999", "the number 1e999 is out of range");
    refuses(DataType::Float32, "1e99", "the number 1e99 is out of range");
    refuses(DataType::Boolean, "1", "expected true or false, found the number 1");
    refuses(DataType::Decimal128(4, 2), "100", "the number 100 is out of range");
    refuses(DataType::Date32, "\"2023-02-29\"", "expected a date such as \"2024-02-29\", found a string");
    let expected = "expected an RFC 3339 timestamp or a number, found a string";
    refuses(squilla_query::timestamp_type(), "\"soon\"", expected);
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
    assert!(value(&list, "[1,\"x\"]").expect_err("a string").starts_with("column \"c[]\""));
}

#[test]
fn bad_records_do_not_touch_their_neighbours() {
    let schema = schema(&[("a", DataType::Int64), ("b", DataType::Utf8)]);
    let text = b"\xef\xbb\xbf{\"a\":1,\"b\":\"x\"}\r\n\n  \n{\"a\":2,\"b\":\"\xff\"}\n{\"a\":\"q\",\"b\":\"y\"}\n{\"a\":3,\"b\":\"z\n\
        {\"a\":4,\"b\":\"z\"} x\n[1]\n{\"a\":5,\"a\":6}\n{\"\\u0061\":7}\n{\"a\":8,\"b\":\"w\"}";
    let (rows, rejects) = decode(&schema, text, true);
    assert_eq!(decode(&schema, text, false), (rows.clone(), rejects.clone()));
    assert_eq!(rows.column(0).as_primitive::<Int64Type>().values(), &[1, 6, 7, 8]);
    let told: Vec<_> = rejects.iter().map(|(line, reason)| (*line, reason.as_str())).collect();
    assert_eq!(
        told,
        [
            (4, "not valid UTF-8"),
            (5, "column \"a\": expected a whole number, found a string"),
            (6, "not a JSON object: the text ends inside a string at byte 14"),
            (7, "not a JSON object: text behind the object at byte 17"),
            (8, "not a JSON object: expected an object at byte 1"),
        ]
    );
}

#[test]
fn a_column_that_must_not_be_null_rejects_records_without_it() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
    let (rows, rejects) = decode(&schema, b"{\"a\":1}\n{\"b\":1}\n{\"a\":null}\n", true);
    assert_eq!((rows.num_rows(), rejects.len()), (1, 2));
    assert_eq!(rejects[0].1, "column \"a\": must not be null");
}

#[test]
fn records_alone_are_counted_when_no_column_is_wanted() {
    let mut decoder = decoder(&schema(&[]), true);
    let (used, decoded) = decoder.decode(b"{\"a\":1}\n{\"a\":2}\nx\n{\"a\":3", false);
    assert_eq!((used, decoded.rows.num_rows(), decoded.undecodable), (18, 2, 1));
}

#[test]
fn batches_are_bounded() {
    let text = "{\"a\":1}\n".repeat(BATCH_ROWS + 1);
    let (used, decoded) = decoder(&schema(&[("a", DataType::Int64)]), true).decode(text.as_bytes(), true);
    assert_eq!((used, decoded.rows.num_rows()), (8 * BATCH_ROWS, BATCH_ROWS));
}

#[test]
fn whole_numbers_count_the_unit_that_was_said() {
    let schema = schema(&[("ts", squilla_query::timestamp_type())]);
    let mut decoder = JsonDecoder::new(schema, TimestampUnit::Second);
    let (_, decoded) = decoder.decode(b"{\"ts\":2}\n", true);
    assert_eq!(decoded.rows.column(0).as_primitive::<TimestampNanosecondType>().value(0), 2_000_000_000);
}

/// Any JSON value as text, with white space of any kind between its parts.
fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        (-1000..1000i64, 0..30u32).prop_map(|(value, exponent)| format!("{value}e{exponent}")),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| value.to_string()),
        ".{0,12}".prop_map(|text| serde_json::to_string(&text).expect("text")),
        Just(r#""\u00e9\ud83d\ude00\\\"\/\b""#.to_owned()),
        Just(r#""2023-11-14T22:13:20Z""#.to_owned()),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(" , "))),
            prop::collection::vec(("[abxyz]", inner), 0..4).prop_map(|fields| {
                let fields: Vec<String> =
                    fields.into_iter().map(|(key, value)| format!("\"{key}\" :{value}")).collect();
                format!("{{ {}}}", fields.join(","))
            }),
        ]
    })
}

/// Lines that mostly look alike, some of them broken.
fn any_lines() -> impl Strategy<Value = Vec<u8>> {
    let record = prop::collection::vec(any_value(), 4).prop_flat_map(|values| {
        let plain = |values: &[String]| {
            format!("{{\"a\":{},\"b\":{},\"skip\":{},\"c\":{}}}", values[0], values[1], values[2], values[3])
        };
        let text = plain(&values);
        let length = text.len();
        prop_oneof![
            8 => Just(text.clone().into_bytes()),
            1 => Just(format!("{{\"b\": {} , \"a\":{}}} ", values[0], values[1]).into_bytes()),
            1 => Just(format!("{{\"a\":{},\"a\":{},\"\\u0062\":1}}", values[0], values[1]).into_bytes()),
            1 => Just(format!("{text}\r").into_bytes()),
            1 => (0..length).prop_map({
                let text = text.clone();
                move |cut| text.as_bytes()[..cut].to_vec()
            }),
            1 => (0..length, any::<u8>()).prop_map(move |(at, byte)| {
                let mut bytes = text.clone().into_bytes();
                bytes[at] = byte;
                bytes
            }),
        ]
    });
    prop::collection::vec(record, 1..12).prop_map(|records| records.join(&b'\n'))
}

fn wanted() -> SchemaRef {
    let inner = vec![Field::new("x", DataType::Utf8, true), Field::new("y", DataType::Float64, true)];
    schema(&[("a", DataType::Int64), ("b", DataType::Utf8), ("c", DataType::Struct(inner.into()))])
}

fn is_valid(line: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_ways_read_the_same(text in any_lines()) {
        for schema in [wanted(), schema(&[("skip", DataType::Utf8)]), schema(&[("c", DataType::Float64)]), schema(&[])] {
            if schema.fields().is_empty() {
                continue;
            }
            let (fast, fast_rejects) = decode(&schema, &text, true);
            let (full, full_rejects) = decode(&schema, &text, false);
            let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
            // What is JSON fares alike. What is not, both reject, but for a broken string that nobody reads.
            let valid = |(line, _): &&(u64, String)| is_valid(lines[*line as usize - 1]);
            let both = (fast_rejects.iter().filter(valid), full_rejects.iter().filter(valid));
            prop_assert!(both.0.eq(both.1), "{fast_rejects:?} against {full_rejects:?}");
            for (line, _) in &fast_rejects {
                prop_assert!(full_rejects.iter().any(|(full, _)| full == line), "line {line}");
            }
            if fast_rejects.len() == full_rejects.len() {
                prop_assert_eq!(fast, full);
            }
        }
    }

    #[test]
    fn the_full_reader_takes_what_serde_takes(line in any_value()) {
        let text = format!("{{\"a\":{line}}}");
        let (rows, rejects) = decode(&schema(&[("other", DataType::Int64)]), text.as_bytes(), false);
        let valid = is_valid(text.as_bytes());
        prop_assert_eq!(rows.num_rows() == 1, valid);
        prop_assert_eq!(rejects.is_empty(), valid);
    }
}

#[test]
fn keys_without_end_are_read_and_not_remembered() {
    let mut text = String::new();
    for record in 0..6_000 {
        text.push_str(&format!("{{\"k{record}\":1,\"a\":{record},\"{}\":2}}\n", "z".repeat(record % 700)));
    }
    let (rows, rejects) = decode(&schema(&[("a", DataType::Int64)]), text.as_bytes(), true);
    assert!(rejects.is_empty());
    assert!(rows.column(0).as_primitive::<Int64Type>().values().iter().copied().eq(0..6_000));
}

#[test]
fn a_json_column_takes_any_value_as_it_is() {
    let reads = |json: &str, text: &str| assert_eq!(value(&DataType::Utf8View, json).as_deref(), Ok(text), "{json}");
    reads(r#""a\"\u00e9""#, r#""a\"\u00e9""#);
    reads(r#"{"a": [1, "x"]}"#, r#"{"a": [1, "x"]}"#);
    reads("1.50", "1.50");
    reads("null", "");
    let wrong = value(&DataType::Utf8View, r#"{"a": "\x"}"#).expect_err("an unknown escape");
    assert!(wrong.contains("unknown escape"), "{wrong}");
}

#[test]
fn a_column_takes_the_whole_record() {
    let fields = vec![Field::new("n", DataType::Int64, true), Field::new("all", DataType::Utf8View, true)];
    let decoder = || JsonDecoder::new(Arc::new(Schema::new(fields.clone())), TimestampUnit::Millisecond);
    let text = b"{\"n\": 1, \"all\": 2}\n {\"x\": [] } \r\n{\"n\": \"no\"}\n";
    let (_, decoded) = decoder().with_record(Some("all")).decode(text, true);
    let shown: Vec<_> = (0..2)
        .map(|row| arrow::util::display::array_value_to_string(decoded.rows.column(1), row).expect("printable"))
        .collect();
    assert_eq!(shown, [r#"{"n": 1, "all": 2}"#, r#"{"x": [] }"#]);
    assert_eq!((decoded.rows.num_rows(), decoded.undecodable), (2, 1));
    assert_eq!(decoder().decode(text, true).1.rows.num_rows(), 2);
}
