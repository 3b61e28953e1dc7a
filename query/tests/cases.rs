//! Text → plan and text → diagnostics: data files under `tests/cases/plan` and `tests/cases/diagnostics`.
//!
//! A file starts with the catalog (lines `source bids (price BIGINT, …) time ts`), then come cases: `### name`, the
//! SQL, `---`, what is expected. `UPDATE_CASES=1` writes what is found instead.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::Schema;
use squilla_query::{
    Catalog, Diagnostic, Emit, LateStream, ParamValue, Params, Query, Relation, RelationKind, Statement, TimeAttribute,
    analyze,
};

struct TestCatalog(Vec<Relation>);

impl Catalog for TestCatalog {
    fn relation(&self, name: &str) -> Option<Relation> {
        self.0.iter().find(|relation| relation.name == name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|relation| relation.name.clone()).collect()
    }
}

/// `source bids (price BIGINT, ts TIMESTAMP) time ts [replay]`, `stream …`, `table t (id BIGINT PRIMARY KEY)`, `view name AS SELECT …`, `sink name`.
fn relation(line: &str) -> Relation {
    let (kind, rest) = line.split_once(' ').expect("a kind");
    if kind == "view" {
        let (name, sql) = rest.split_once(" AS ").expect("AS");
        let kind = RelationKind::View { sql: sql.to_owned() };
        return build(name, kind, Arc::new(Schema::empty()), "");
    }
    if kind == "sink" {
        return build(rest.trim(), RelationKind::Sink, Arc::new(Schema::empty()), "");
    }
    let (name, rest) = rest.split_once(' ').expect("a name");
    let close = rest.rfind(')').expect("columns");
    let made = if kind == "table" { "TABLE" } else { "SOURCE" };
    let statement = format!("CREATE {made} {name} {} WITH (connector = 'x')", &rest[..=close]);
    let created = analyze(&statement, &TestCatalog(Vec::new())).expect("the columns are read");
    let Statement::CreateSource(created) = created else { panic!("{line}") };
    let schema = created.visible(created.schema.as_ref().expect("columns"));
    let kind = match created.key {
        Some(key) => RelationKind::Table { key: key.columns },
        None if kind == "stream" => RelationKind::Stream,
        None => RelationKind::Source,
    };
    build(name, kind, schema, &rest[close + 1..])
}

fn build(name: &str, kind: RelationKind, schema: Arc<Schema>, rest: &str) -> Relation {
    let mut words = rest.split_whitespace();
    let mut time = TimeAttribute::Arrival;
    let (mut replay, mut late) = (false, None);
    while let Some(word) = words.next() {
        match word {
            "time" => match words.next().expect("a column") {
                "window" => time = TimeAttribute::WindowTime,
                column => time = TimeAttribute::Column(column.to_owned()),
            },
            "replay" => replay = true,
            "late" => {
                let own = schema.fields().iter().map(|field| field.as_ref().clone());
                let fields: Vec<_> = own.chain(squilla_query::late_fields()).collect();
                late = Some(LateStream { schema: Arc::new(Schema::new(fields)), time: TimeAttribute::Arrival });
            }
            other => panic!("{other}"),
        }
    }
    Relation { name: name.to_owned(), kind, schema, time, windows: None, late, replay }
}

fn show_query(query: &Query) -> String {
    let mut out = query.plan.to_string();
    if let Emit::Every(interval) = query.emit {
        out.push_str(&format!("\nemit every {interval:?} by {}", query.key.join(", ")));
    }
    if let Some(limit) = query.limit {
        out.push_str(&format!("\nreader takes {limit}"));
    }
    let fields = query.plan.schema().fields().iter().map(|field| {
        format!("{} {}{}", field.name(), field.data_type(), if field.is_nullable() { "" } else { " NOT NULL" })
    });
    out.push_str(&format!("\n=> {}", fields.collect::<Vec<_>>().join(", ")));
    out
}

fn show(statement: &Statement) -> String {
    match statement {
        Statement::Select(query) => show_query(query),
        Statement::Explain { query, analyze } => {
            let analyze = analyze.map_or_else(String::new, |time| format!(" analyze for {time:?}"));
            format!("explain{analyze}\n{}", show_query(query))
        }
        Statement::CreateStream(stream) => format!("create stream {}\n{}", stream.name, show_query(&stream.query)),
        Statement::CreateView(view) => {
            format!("create view {} as [{}]\n{}", view.name, view.query.sql, show_query(&view.query))
        }
        Statement::InsertInto(insert) => format!("insert into {}\n{}", insert.sink, show_query(&insert.query)),
        Statement::CreateSink(sink) => {
            let options: Vec<String> =
                sink.options.iter().map(|option| format!("{} = {}", option.name, option.value)).collect();
            let query = sink.query.as_ref().map(|query| format!("\n{}", show_query(query))).unwrap_or_default();
            format!("create sink {} ({}){query}", sink.name, options.join(", "))
        }
        Statement::CreateSource(source) => {
            let mut out = format!("create source {}", source.name);
            if source.if_not_exists {
                out.push_str(" if not exists");
            }
            for field in source.schema.iter().flat_map(|schema| schema.fields()) {
                let null = if field.is_nullable() { "" } else { " NOT NULL" };
                out.push_str(&format!("\n  {} {}{null}", field.name(), field.data_type()));
            }
            for column in &source.arrivals {
                out.push_str(&format!("\n  {} tells the arrival, behind {} columns", column.name, column.at));
            }
            if let Some(watermark) = &source.watermark {
                out.push_str(&format!("\n  watermark for {} as [{}]", watermark.column, watermark.expression));
            }
            if let Some(key) = &source.key {
                out.push_str(&format!("\n  key {}", key.columns.join(", ")));
            }
            for option in &source.options {
                out.push_str(&format!("\n  with {} = [{}]", option.name, option.value));
            }
            out
        }
        other => format!("{other:?}"),
    }
}

fn show_mistakes(sql: &str, mistakes: &[Diagnostic]) -> String {
    mistakes.iter().map(|mistake| mistake.render(sql)).collect::<Vec<_>>().join("\n")
}

/// Runs all cases of a file; gives the file as it should be.
fn run(file: &Path, text: &str) -> String {
    let mut parts = text.split("\n### ");
    let head = parts.next().unwrap_or_default();
    let relations = head.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(relation).collect();
    let catalog = TestCatalog(relations);
    let mut out = head.trim_end().to_owned();
    out.push('\n');
    for part in parts {
        let (name, body) = part.split_once('\n').unwrap_or_else(|| panic!("{}: {part}", file.display()));
        let sql = body.split("\n---\n").next().expect("SQL").trim_end().trim_end_matches("\n---");
        let found = match analyze(sql, &catalog) {
            Ok(statement) => show(&statement),
            Err(mistakes) => {
                assert!(!mistakes.is_empty(), "{name}: an error tells a mistake");
                for mistake in &mistakes {
                    assert_ne!(mistake.code, "internal", "{name}: {mistake:?}");
                    let span = mistake.span.unwrap_or_else(|| panic!("{name}: no span: {mistake:?}"));
                    assert!(span.start < span.end && span.end <= sql.len(), "{name}: {mistake:?}");
                }
                show_mistakes(sql, &mistakes)
            }
        };
        out.push_str(&format!("\n### {name}\n{sql}\n---\n{found}\n"));
    }
    out
}

fn check(folder: &str, at_least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases").join(folder);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("cases").map(|entry| entry.expect("entry").path()).collect();
    files.sort();
    let mut cases = 0;
    for file in files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "txt")) {
        let text = std::fs::read_to_string(file).expect("readable");
        let found = run(file, &text);
        cases += found.matches("\n### ").count();
        if std::env::var_os("UPDATE_CASES").is_some() {
            std::fs::write(file, found).expect("writable");
        } else if found != text {
            let line = found.lines().zip(text.lines()).position(|(found, text)| found != text);
            let at = line.map_or(0, |line| line + 1);
            let show = |text: &str| text.lines().skip(at.saturating_sub(6)).take(16).collect::<Vec<_>>().join("\n");
            panic!(
                "{}:{at} differs; UPDATE_CASES=1 rewrites it\n--- expected\n{}\n--- found\n{}",
                file.display(),
                show(&text),
                show(&found)
            );
        }
    }
    assert!(cases >= at_least, "{cases} cases in {}", folder.display());
}

#[test]
fn plans() {
    check("plan", 40);
}

#[test]
fn diagnostics() {
    check("diagnostics", 40);
}

/// No statement takes longer, whatever it holds. Builds without optimisation are slower.
const LONGEST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 200 });

fn nexmark() -> TestCatalog {
    TestCatalog(vec![
        relation("source bids (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, ts TIMESTAMP) time ts"),
        relation("stream hot (window_start TIMESTAMP, window_end TIMESTAMP, n BIGINT) time window"),
        relation("view dear AS SELECT * FROM bids WHERE price > 1000"),
        relation("sink out"),
    ])
}

fn timed(sql: &str, catalog: &TestCatalog) -> Result<Statement, Vec<Diagnostic>> {
    let start = Instant::now();
    let result = analyze(sql, catalog);
    let took = start.elapsed();
    let shown: String = sql.chars().take(300).collect();
    assert!(took < LONGEST, "{took:?} for {shown}");
    if let Err(mistakes) = &result {
        assert!(mistakes.iter().all(|mistake| mistake.code != "internal"), "{shown}: {mistakes:?}");
        let _ = show_mistakes(sql, mistakes);
    }
    result
}

fn code(result: &Result<Statement, Vec<Diagnostic>>) -> &'static str {
    result.as_ref().err().map_or("", |mistakes| mistakes[0].code)
}

#[test]
fn what_kills_a_planner_is_refused_at_once() {
    let catalog = nexmark();
    for sql in [
        format!("SELECT {} FROM bids", vec!["1"; 2_048].join("+")),
        format!("SELECT {} FROM bids", vec!["price"; 20_000].join("+")),
        format!("SELECT price FROM bids WHERE {}", vec!["price=1"; 20_000].join(" OR ")),
        vec!["SELECT price FROM bids"; 5_000].join(" UNION ALL "),
        format!("SELECT {}1{} FROM bids", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT {} price FROM bids", "NOT ".repeat(10_000)),
        format!("SELECT price FROM {}bids{}", "(SELECT * FROM ".repeat(100), ")".repeat(100)),
        format!("SELECT price::{} FROM bids", vec!["bigint"; 600].join("::")),
        format!("SELECT {} FROM bids", "x".repeat(70_000)),
        format!("CREATE SOURCE s (a {}) WITH (a = b)", "ARRAY<".repeat(400)),
        format!("CREATE SOURCE s (a BIGINT{}) WITH (a = b)", "[]".repeat(400)),
        "SELECT repeat('x', 500000000) FROM bids".to_owned(),
    ] {
        let result = timed(&sql, &catalog);
        assert_eq!(code(&result), "limit", "{}: {result:?}", &sql[..sql.len().min(60)]);
    }
    let double = |n: usize| format!("c{n} AS (SELECT * FROM c{} UNION ALL SELECT * FROM c{})", n - 1, n - 1);
    let doubled: Vec<String> = (1..30).map(double).collect();
    let result =
        timed(&format!("WITH c0 AS (SELECT price FROM bids), {} SELECT * FROM c29", doubled.join(", ")), &catalog);
    assert_eq!(code(&result), "limit");
    let squared = |n: usize| format!("c{n} AS (SELECT p + p AS p FROM c{})", n - 1);
    let squared: Vec<String> = (1..30).map(squared).collect();
    let sql = format!("WITH c0 AS (SELECT price AS p FROM bids), {} SELECT p FROM c29 WHERE p > 3", squared.join(", "));
    assert!(timed(&sql, &catalog).is_ok());
}

#[test]
fn what_the_caps_let_through_fits_an_ordinary_stack() {
    let catalog = nexmark();
    let nest = |open: &str, inner: &str, close: &str, times: usize| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    for expr in [
        vec!["price"; 500].join("+"),
        vec!["price"; 500].join("-"),
        vec!["channel"; 500].join("||"),
        format!("CASE WHEN {} THEN 1 END", vec!["price<>1"; 400].join(" OR ")),
        format!("CASE WHEN {} THEN 1 END", vec!["price<>1"; 400].join(" AND ")),
        nest("abs(", "price", ")", 49),
        nest("(1 + ", "price", ")", 49),
        nest("CASE WHEN price > 1 THEN ", "2", " ELSE 3 END", 48),
        format!("price{}", "::bigint".repeat(450)),
        format!("price IN ({})", vec!["7"; 1_900].join(",")),
        nest("- ", "price", "", 45),
        nest("NOT ", "price > 1", "", 45),
    ] {
        let sql = format!("SELECT {expr} AS x, price FROM bids WHERE price > 1 GROUP BY price");
        let plain = format!("SELECT {expr} AS x FROM bids");
        let Ok(Statement::Select(query)) = timed(&plain, &catalog) else {
            panic!("{plain}: {:?}", timed(&plain, &catalog));
        };
        let again = query.clone();
        assert_eq!(again, query);
        assert!(!again.plan.to_string().is_empty());
        assert!(!format!("{:?}", again.plan).is_empty());
        let _ = timed(&sql, &catalog);
    }
    let unions = vec!["SELECT price, ts FROM dear"; 33].join(" UNION ALL ");
    assert!(timed(&unions, &catalog).is_ok());
    let deep = nest("(SELECT * FROM ", "bids", ")", 48);
    assert!(timed(&format!("SELECT price FROM {deep} WHERE price > 1"), &catalog).is_ok());
}

/// Whole statements, cut short and shuffled below.
const SEEDS: [&str; 8] = [
    "SELECT auction, count(*) AS n FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE price > 5 \
     GROUP BY auction, window_start, window_end HAVING count(*) > 2 EMIT EVERY INTERVAL '1' SECOND",
    "CREATE SOURCE IF NOT EXISTS b (a BIGINT, ts TIMESTAMP(3) NOT NULL, s STRUCT<x INT, y VARCHAR[]>, WATERMARK FOR ts \
     AS ts - INTERVAL '2 seconds') WITH (connector = 'file', 'path' = 'b.ndjson', rate = -1.5)",
    "WITH a (x) AS (SELECT price * 2 FROM bids), b AS (SELECT x FROM a UNION ALL SELECT n FROM hot) SELECT x, window FROM \
     b GROUP BY x, hop('2s', '10s')",
    "CREATE SINK o WITH (connector = 'file', path = 'x') AS SELECT DISTINCT price, window_start FROM HOP(dear, ts, '1s', \
     '3s') EMIT ON WINDOW CLOSE GRACE INTERVAL '1 minute'",
    "SELECT CASE WHEN price > 1 THEN channel ELSE 'é' END, ts - INTERVAL '1 hour', [1, 2][1], extract(hour from ts), \
     \"auction\"::varchar, b.* FROM bids AS b WHERE channel ILIKE '%a_' AND price BETWEEN 1 AND 2 OR NOT price IS NULL",
    "INSERT INTO out SELECT array_append([1, 2], price), substring(channel from 1 for 2), position('a' in \
     channel), trim(both 'x' from channel), cast(price as decimal(10, 2)) FROM bids",
    "DROP STREAM IF EXISTS hot CASCADE",
    "KILL QUERY q7",
];

#[test]
fn no_text_makes_it_panic_or_hang() {
    let catalog = nexmark();
    let mut state = 0x5eed_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("fits")
    };
    for seed in SEEDS {
        let _ = timed(seed, &catalog);
        let cuts: Vec<usize> = seed.char_indices().map(|(at, _)| at).collect();
        for _ in 0..40 {
            let (from, to) = (cuts[next(cuts.len())], cuts[next(cuts.len())]);
            let _ = timed(&seed[..to], &catalog);
            let _ = timed(&seed[from..], &catalog);
            let mut words: Vec<&str> = seed.split_inclusive([' ', '(', ')', ',', '.']).collect();
            let (a, b) = (next(words.len()), next(words.len()));
            words.swap(a, b);
            let _ = timed(&words.concat(), &catalog);
            let other = SEEDS[next(SEEDS.len())];
            let other: Vec<&str> = other.split_inclusive([' ', '(', ')', ',']).collect();
            words[a] = other[next(other.len())];
            let _ = timed(&words.concat(), &catalog);
        }
    }
    let alphabet: Vec<char> =
        "SELECT FROM ()*,.;'\"`$@#%^&-+=/\\[]{}<>|!?:~é\u{1F980}\u{0}\n\t019abcxyz_".chars().collect();
    for _ in 0..300 {
        let text: String = (0..next(80)).map(|_| alphabet[next(alphabet.len())]).collect();
        let _ = timed(&text, &catalog);
        let _ = squilla_query::split_statements(&text);
        let _ = timed(&format!("SELECT {text} FROM bids"), &catalog);
    }
}

#[test]
fn every_function_is_described() {
    let functions = squilla_query::functions();
    assert!(functions.len() > 250, "{}", functions.len());
    for name in
        ["tumble", "hop", "count", "approx_distinct", "date_trunc", "array_length", "regexp_like", "now", "random"]
    {
        assert!(functions.iter().any(|function| function.name == name), "{name}");
    }
}

#[test]
fn a_watermark_is_bound_to_the_sources_columns() {
    let sql = |watermark: &str| {
        let sql = format!("CREATE SOURCE s (ts TIMESTAMP, n BIGINT, WATERMARK FOR {watermark}) WITH (connector = 'x')");
        analyze(&sql, &TestCatalog(Vec::new())).map_err(|mistakes| show_mistakes(&sql, &mistakes))
    };
    let Ok(Statement::CreateSource(source)) = sql("ts AS ts - INTERVAL '2' SECOND") else { panic!("is a source") };
    let (schema, clause) = (source.schema.expect("declared"), source.watermark.expect("there"));
    assert_eq!((clause.column.as_str(), clause.expression.as_str()), ("ts", "ts - INTERVAL '2' SECOND"));
    let bound = squilla_query::bind_watermark(&clause, &schema).expect("binds");
    assert!(bound.to_string().starts_with("ts - "), "{bound}");
    for wrong in
        ["n AS n", "ts AS n", "ts AS tz - INTERVAL '1s'", "tz AS tz", "ts AS now()", "ts AS max(ts)", "ts AS ts -"]
    {
        assert!(sql(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn values_take_the_place_of_parameters() {
    let catalog = nexmark();
    let params = |list: &[(&str, ParamValue)]| -> Params {
        list.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    };
    let text = |text: &str| ParamValue::Text(text.to_owned());
    let sql = "CREATE VIEW v AS SELECT auction FROM bids WHERE price > $least::BIGINT AND channel = $name -- $no\n";
    let given = params(&[("least", ParamValue::Number("-7".into())), ("name", text("it's; DROP"))]);
    let Ok(Statement::CreateView(view)) = squilla_query::analyze_with(sql, &given, &catalog) else { panic!("a view") };
    assert!(view.query.sql.contains("price > (-7)::BIGINT AND channel = 'it''s; DROP'"), "{}", view.query.sql);
    assert!(view.query.plan.to_string().contains("channel = 'it''s; DROP'"), "{}", view.query.plan);
    let windows = "SELECT count(*) AS n FROM bids GROUP BY tumble($size)";
    let window = |size| squilla_query::analyze_with(windows, &params(&[("size", size)]), &catalog);
    assert!(window(text("10s")).is_ok());
    let told = |result: Result<Statement, Vec<squilla_query::Diagnostic>>| {
        let mistakes = result.expect_err("it is refused");
        mistakes.iter().map(|mistake| (mistake.code, mistake.span.map(|span| span.start))).collect::<Vec<_>>()
    };
    assert_eq!(told(window(text("ten"))), [("invalid", Some(47))]);
    assert_eq!(told(window(ParamValue::Number("1e999".into()))), [("parameter", Some(47))]);
    let two = "SELECT $a, $b FROM bids";
    assert_eq!(told(analyze(two, &catalog)), [("parameter", Some(7)), ("parameter", Some(11))]);
    let one = params(&[("a", ParamValue::Null), ("c", ParamValue::Boolean(true))]);
    assert_eq!(told(squilla_query::analyze_with(two, &one, &catalog)), [("parameter", Some(11)), ("parameter", None)]);
    assert_eq!(ParamValue::typed("-1.5e3"), ParamValue::Number("-1.5e3".into()));
    assert_eq!(ParamValue::typed("nan"), text("nan"));
}
