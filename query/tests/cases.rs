//! Text → plan and text → diagnostics: data files under `tests/cases/plan` and `tests/cases/diagnostics`.
//!
//! A file starts with the catalog (lines `source bids (price BIGINT, …) time ts`), then come cases: `### name`, the
//! SQL, `---`, what is expected. `UPDATE_CASES=1` writes what is found instead.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::Schema;
use squilla_query::{
    Catalog, CreateSource, Diagnostic, Emit, Query, Relation, RelationKind, Statement, TimeAttribute, analyze,
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

/// `source bids (price BIGINT, ts TIMESTAMP) time ts [replay]`, `stream …`, `view name AS SELECT …`, `sink name`.
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
    let statement = format!("CREATE SOURCE {name} {} WITH (connector = 'x')", &rest[..=close]);
    let created = analyze(&statement, &TestCatalog(Vec::new())).expect("the columns are read");
    let Statement::CreateSource(CreateSource { schema: Some(schema), .. }) = created else { panic!("{line}") };
    let kind = if kind == "stream" { RelationKind::Stream } else { RelationKind::Source };
    build(name, kind, schema, &rest[close + 1..])
}

fn build(name: &str, kind: RelationKind, schema: Arc<Schema>, rest: &str) -> Relation {
    let mut words = rest.split_whitespace();
    let mut time = TimeAttribute::Arrival;
    let mut replay = false;
    while let Some(word) = words.next() {
        match word {
            "time" => match words.next().expect("a column") {
                "window" => time = TimeAttribute::WindowTime,
                column => time = TimeAttribute::Column(column.to_owned()),
            },
            "replay" => replay = true,
            other => panic!("{other}"),
        }
    }
    Relation { name: name.to_owned(), kind, schema, time, replay }
}

fn show_query(query: &Query) -> String {
    let mut out = query.plan.to_string();
    if let Emit::Every(interval) = query.emit {
        out.push_str(&format!("\nemit every {interval:?} by {}", query.key.join(", ")));
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
        Statement::Explain(query) => format!("explain\n{}", show_query(query)),
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
            if let Some(watermark) = &source.watermark {
                out.push_str(&format!("\n  watermark for {} as [{}]", watermark.column, watermark.expression));
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
    check("plan", 1);
}

#[test]
fn diagnostics() {
    check("diagnostics", 1);
}
