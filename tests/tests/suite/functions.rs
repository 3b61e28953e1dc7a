//! Every function that completion and help name can be called: with arguments as its documentation says, it is planned
//! and gives a row.

use squilla_query::{FunctionInfo, analyze, functions};
use squilla_tests::case::{Case, SETTINGS, run};
use squilla_tests::names::Names;

const SOURCE: &str = "CREATE SOURCE s (i BIGINT, j BIGINT, x DOUBLE, t VARCHAR, b BOOLEAN, e JSON, ts TIMESTAMP, WATERMARK FOR \
                      ts AS ts) WITH (connector = 'replay')";
const INPUT: &str =
    "3, 2, 0.5, abc, true, \"{\\\"a\\\": [1, 2]}\", 00:00:01\n4, 1, 0.25, cab, false, \"{\\\"a\\\": []}\", 00:00:02\n";

/// Arguments of the kinds that functions take, most usual first; the first that can be planned and gives a row counts.
const ARGUMENTS: [&str; 53] = [
    "i",
    "x",
    "t",
    "",
    "ts",
    "b",
    "make_array(i, j)",
    "e",
    "t, i",
    "t, t",
    "x, j",
    "i, j",
    "x, x",
    "t, '%Y'",
    "'day', ts",
    "ts, '%Y-%m-%d'",
    "t, 'a'",
    "make_array(i, j), i",
    "i, make_array(i, j)",
    "make_array(i, j), make_array(j, i)",
    "make_array(t), '-'",
    "make_array(make_array(i))",
    "make_array(i, j), 1, 2",
    "make_array(i, j), i, j",
    "make_array(i, j), i, j, 1",
    "map(make_array('a'), make_array(i))",
    "map(make_array('a'), make_array(i)), 'a'",
    "make_array('a'), make_array(i)",
    "named_struct('a', i)",
    "named_struct('a', i), 'a'",
    "'a', i",
    "e, 'a'",
    "t, 'a', 'b'",
    "t, 1, 2",
    "t, 'b', 1",
    "t, 5, '*'",
    "t, 1, 'x'",
    "t, 'a', 2, 3",
    "t, 'hex'",
    "'616263', 'hex'",
    "t, 'sha256'",
    "INTERVAL '1 minute', ts",
    "i, 'Int32'",
    "'Int32', i",
    "2026, 1, 2",
    "1, 2, 3",
    "'2026-01-02'",
    "'2026-01-02T03:04:05Z'",
    "'01:02:03'",
    "1, 3",
    "ts, ts, INTERVAL '1 day'",
    "make_array(i, j), v -> v > 2",
    "x, 0.5",
];

/// What is called in another way, or of which the documentation says more.
const CALLS: [(&str, &str); 31] = [
    (
        "standard_error",
        "SELECT standard_error(sum(i)) AS v FROM s TABLESAMPLE BERNOULLI (99.999) GROUP BY tumble('1h')",
    ),
    (
        "approx_percentile_cont",
        "SELECT approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS v FROM s GROUP BY tumble('1h')",
    ),
    (
        "approx_percentile_cont_with_weight",
        "SELECT approx_percentile_cont_with_weight(i, 0.5) WITHIN GROUP (ORDER BY x) AS v FROM s GROUP BY tumble('1h')",
    ),
    ("percentile_cont", "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS v FROM s GROUP BY tumble('1h')"),
    ("quantile_cont", "SELECT quantile_cont(0.5) WITHIN GROUP (ORDER BY x) AS v FROM s GROUP BY tumble('1h')"),
    ("grouping", "SELECT t, grouping(t) AS v FROM s GROUP BY ROLLUP (t), tumble('1h')"),
    ("count_window", "SELECT i, count(*) AS v FROM s GROUP BY i, count_window(1)"),
    ("cumulate", "SELECT count(*) AS v FROM s GROUP BY cumulate('1s', '1m')"),
    ("hop", "SELECT count(*) AS v FROM s GROUP BY hop('1s', '1m')"),
    ("tumble", "SELECT count(*) AS v FROM s GROUP BY tumble('1s')"),
    ("session", "SELECT count(*) AS v FROM s GROUP BY session('1s')"),
    ("since", "SELECT i FROM s SINCE EARLIEST"),
    ("unnest", "SELECT unnest(make_array(i, j)) AS v FROM s"),
    ("lag", "SELECT lag(count(*)) OVER (PARTITION BY b ORDER BY window_end) AS v FROM s GROUP BY b, tumble('1s')"),
    ("ewma", "SELECT ewma(count(*), 0.5) AS v FROM s GROUP BY tumble('1s')"),
    ("ewma_lower", "SELECT ewma_lower(count(*), 0.5) AS v FROM s GROUP BY tumble('1s')"),
    ("ewma_upper", "SELECT ewma_upper(count(*), 0.5, 2, 3) AS v FROM s GROUP BY tumble('1s')"),
    ("robust_zscore", "SELECT robust_zscore(count(*), 5, 3) AS v FROM s GROUP BY tumble('1s')"),
    ("rate_of_change", "SELECT rate_of_change(count(*)) AS v FROM s GROUP BY tumble('1s')"),
    ("row_number", FIRST),
    ("rank", FIRST),
    ("dense_rank", FIRST),
    // Of a named stream, which the rows of this test are none of; its cases are `late_stream*.case`.
    ("late", ""),
    ("nth_value", "SELECT nth_value(i, 1 ORDER BY ts) AS v FROM s GROUP BY tumble('1h')"),
    ("array_fold", "SELECT array_fold(make_array(i, j), 0, (a, v) -> a + v) AS v FROM s"),
    ("array_reduce", "SELECT array_reduce(make_array(i, j), 0, (a, v) -> a + v) AS v FROM s"),
    ("list_fold", "SELECT list_fold(make_array(i, j), 0, (a, v) -> a + v) AS v FROM s"),
    ("list_reduce", "SELECT list_reduce(make_array(i, j), 0, (a, v) -> a + v) AS v FROM s"),
    ("reduce", "SELECT reduce(make_array(i, j), 0, (a, v) -> a + v) AS v FROM s"),
    ("to_char", "SELECT to_char(ts, '%Y') AS v FROM s"),
    ("date_format", "SELECT date_format(ts, '%Y') AS v FROM s"),
];

const FIRST: &str = "SELECT i FROM (SELECT *, NAME() OVER (PARTITION BY window_start, window_end ORDER BY x) AS place FROM \
                     TUMBLE(TABLE s, DESCRIPTOR(ts), '1h')) WHERE place <= 1";

/// Queries that call a function, each in another way.
fn queries(function: &FunctionInfo) -> Vec<String> {
    let name = &function.name;
    if let Some((_, call)) = CALLS.iter().find(|(called, _)| called == name) {
        return vec![call.replace("NAME", name)];
    }
    let groups = if function.kind == "aggregate" { " GROUP BY tumble('1h')" } else { "" };
    ARGUMENTS.iter().map(|arguments| format!("SELECT {name}({arguments}) AS v FROM s{groups}")).collect()
}

/// Runs a query over the rows of the test, with jobs that restore what they saved; why it gave none.
fn gives_rows(sql: &str) -> Result<(), String> {
    let case = Case::parse(&format!("=== sql\n{SOURCE};\n{sql};\n\n=== input s\n{INPUT}\n=== rows\n"))?;
    let told = run(&case, SETTINGS[4])?.render();
    if has_rows(&told) { Ok(()) } else { Err(told) }
}

/// Whether a rendered outcome has lines below its columns.
fn has_rows(told: &str) -> bool {
    let rows = told.split_once("=== rows\n").map_or("", |(_, rest)| rest.split("\n=== ").next().unwrap_or(rest));
    rows.lines().filter(|line| !line.trim().is_empty()).count() > 1
}

#[test]
fn every_function_that_is_named_can_be_called() {
    let names = Names::of(&[SOURCE]);
    let mut broken = Vec::new();
    for function in functions() {
        let mut why = "nothing that it documents can be planned".to_owned();
        let works = queries(&function).iter().any(|sql| {
            if sql.is_empty() {
                return true;
            }
            if let Err(found) = analyze(sql, &names) {
                if queries(&function).len() == 1 {
                    why = format!("{sql}: {}", found[0].message);
                }
                return false;
            }
            gives_rows(sql).map_err(|told| why = format!("{sql}: {}", told.trim())).is_ok()
        });
        if !works {
            broken.push(format!("{} ({}): {why}", function.name, function.syntax.lines().next().unwrap_or_default()));
        }
    }
    assert!(broken.is_empty(), "{} functions cannot be called:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn every_function_is_documented() {
    let bare: Vec<String> = functions()
        .into_iter()
        .filter(|function| function.syntax.ends_with("(…)") || function.description.is_empty())
        .map(|function| function.name)
        .collect();
    assert!(bare.is_empty(), "without syntax or description: {bare:?}");
}
