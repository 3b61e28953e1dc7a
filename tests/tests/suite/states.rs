//! Aggregates of values of every type go on from their saved states, whatever the types of those are.

use squilla_query::{analyze, functions};
use squilla_tests::case::{Case, SETTINGS, difference, run};
use squilla_tests::names::Names;

const SOURCE: &str = "CREATE SOURCE s (k BIGINT, i BIGINT, x DOUBLE, t VARCHAR, b BOOLEAN, e JSON, ts TIMESTAMP, WATERMARK FOR \
                      ts AS ts - INTERVAL '2 seconds') WITH (connector = 'replay')";

/// Values of a type each.
const VALUES: [&str; 22] = [
    "CAST(i AS TINYINT)",
    "arrow_cast(i, 'UInt16')",
    "arrow_cast(i, 'UInt64')",
    "CAST(x AS REAL)",
    "x",
    "t",
    "arrow_cast(t, 'LargeUtf8')",
    "arrow_cast(t, 'Utf8View')",
    "arrow_cast(t, 'Binary')",
    "arrow_cast(t, 'BinaryView')",
    "arrow_cast(t, 'Dictionary(Int32, Utf8)')",
    "CAST(x AS DECIMAL(12, 2))",
    "CAST(x AS DECIMAL(50, 3))",
    "CAST(ts AS DATE)",
    "CAST(ts AS TIME)",
    "arrow_cast(ts, 'Timestamp(Microsecond, Some(\"UTC\"))')",
    "ts - TIMESTAMP '2026-01-01'",
    "b",
    "e",
    "make_array(i, k)",
    "named_struct('a', i, 'b', t)",
    "NULL",
];

/// Calls of a function with a value.
fn calls(name: &str, value: &str) -> Vec<String> {
    let more = match name {
        "string_agg" | "listagg" => ", ','",
        "nth_value" | "approx_top_k" | "approx_most_frequent" => ", 2",
        pair if pair.starts_with("corr") || pair.starts_with("covar") || pair.starts_with("regr") => ", x",
        place if place.contains("percentile") || place.contains("quantile") => {
            return vec![format!("{name}(0.5) WITHIN GROUP (ORDER BY {value})")];
        }
        _ => "",
    };
    vec![
        format!("{name}({value}{more})"),
        format!("{name}(DISTINCT {value}{more})"),
        format!("{name}({value}{more} ORDER BY x)"),
    ]
}

fn input() -> String {
    let row = |at: i64| {
        let (i, x) = (at * 7 % 5, (at * 3 % 11) as f64 / 10.0);
        let i = if at % 6 == 5 { "null".to_owned() } else { i.to_string() };
        let t = if at % 7 == 3 { "null".to_owned() } else { format!("t{}", at % 4) };
        format!("{}, {i}, {x}, {t}, {}, {{}}, 00:00:{:02}", at % 3, at % 2 == 0, at / 2 + at % 3)
    };
    (0..40).map(row).collect::<Vec<_>>().join("\n")
}

/// Calls of one type's values, in a query.
fn query(calls: &[String]) -> String {
    let named = calls.iter().enumerate().map(|(at, call)| format!("{call} AS a{at}"));
    let calls = named.collect::<Vec<_>>().join(", ");
    format!("SELECT k, window_end, {calls} FROM s GROUP BY k, hop('2s', '6s')")
}

/// That all calls give the same with restored states; how many there are that give anything at all.
fn same(calls: &[String]) -> usize {
    let text = format!("=== sql\n{SOURCE};\n{};\n\n=== input s\n{}\n=== rows\n", query(calls), input());
    let case = Case::parse(&text).expect("a case");
    let told = |setting: usize| run(&case, SETTINGS[setting]).map_or_else(|error| error, |told| told.render());
    let expected = told(1);
    if !expected.contains("=== rows\n") {
        // One of them is not for values of the type.
        let (left, right) = calls.split_at(calls.len() / 2);
        return if left.is_empty() { 0 } else { same(left) + same(right) };
    }
    let found = told(4);
    assert!(found == expected, "{calls:#?}\n{}", difference(&expected, &found));
    calls.len()
}

#[test]
fn aggregates_of_all_types_go_on_from_their_states() {
    let names = Names::of(&[SOURCE]);
    let mut done = 0;
    for value in VALUES {
        let aggregates = functions().into_iter().filter(|function| function.kind == "aggregate");
        let mut all: Vec<String> = aggregates.flat_map(|function| calls(&function.name, value)).collect();
        all.retain(|call| analyze(&query(std::slice::from_ref(call)), &names).is_ok());
        done += all.chunks(32).map(same).sum::<usize>();
    }
    assert!(done > 700, "{done} calls");
}
