//! Runs a query in each engine, as a process of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use squilla_tests::install::Flink;
use squilla_tests::measure::Cost;
use squilla_tests::nexmark::{self, Nexmark};
use squilla_tests::program::squilla;

/// DuckDB's text where that of the case is not the fastest.
const DUCKDB: &str = include_str!("duckdb.sql");
const FLINK: &str = include_str!("flink.sql");
/// What Java 17 must open to Flink.
const OPENS: [&str; 8] = [
    "java.util",
    "java.util.concurrent",
    "java.lang",
    "java.lang.invoke",
    "java.net",
    "java.nio",
    "java.time",
    "sun.nio.ch",
];
/// Lines of a failure that are shown.
const SHOWN_LINES: usize = 30;

/// The engines, and what they read.
pub(crate) struct Peers<'a> {
    /// The folder of the files.
    pub(crate) data: &'a Path,
    /// A folder for scripts and output.
    pub(crate) own: &'a Path,
    /// Threads of DuckDB and Flink.
    pub(crate) threads: usize,
    /// A Python with DuckDB.
    pub(crate) python: PathBuf,
    /// `None`: it is not asked.
    pub(crate) flink: Option<Flink>,
}

/// A run.
pub(crate) struct Ran {
    /// What it cost.
    pub(crate) cost: Cost,
    /// Rows of the result.
    pub(crate) rows: u64,
}

impl Peers<'_> {
    /// # Errors
    /// What the binary tells.
    pub(crate) fn squilla(&self, case: &Nexmark) -> Result<Ran, String> {
        let script = self.own.join("script.sql");
        let sources = nexmark::sources(self.data, Path::new("side_input.jsonl"), 0);
        fs::write(&script, case.script(&sources)).map_err(|error| error.to_string())?;
        let mut command = Command::new(squilla());
        command.args(["run", "--format", "null", "--stats"]).arg(&script);
        let (cost, _, told) = self.run(&mut command)?;
        let stats: Option<Value> = told.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        let rows = stats.and_then(|stats| stats["rows_out"].as_u64()).ok_or("no --stats were told")?;
        Ok(Ran { cost, rows })
    }

    /// # Errors
    /// What Python tells.
    pub(crate) fn duckdb(&self, case: &Nexmark) -> Result<Ran, String> {
        let query = section(DUCKDB, &case.name).unwrap_or(&case.duckdb);
        let words: Vec<&str> = query.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let tables = nexmark::tables(self.data, Path::new("side_input.jsonl"));
        let tables = tables.iter().filter(|table| words.contains(&table.name)).map(|table| {
            let columns: serde_json::Map<_, _> =
                table.columns.iter().map(|(name, kind)| ((*name).to_owned(), json!(kind))).collect();
            (table.name.to_owned(), json!({ "files": table.files, "columns": columns }))
        });
        let tables: serde_json::Map<_, _> = tables.collect();
        let task = json!({ "tables": tables, "query": query, "threads": self.threads, "in_memory": false });
        let path = self.own.join("task.json");
        fs::write(&path, task.to_string()).map_err(|error| error.to_string())?;
        let script = squilla_tests::workspace_root().join("tests/oracle/duckdb_cost.py");
        let (cost, answer, _) = self.run(Command::new(&self.python).arg(script).arg(&path))?;
        let answer: Value = serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        Ok(Ran { cost, rows: answer["rows"].as_u64().ok_or("no rows were told")? })
    }

    /// # Errors
    /// What Java tells.
    ///
    /// # Panics
    /// If Flink was not installed.
    pub(crate) fn flink(&self, name: &str) -> Result<Cost, String> {
        let flink = self.flink.as_ref().expect("it is asked only when it was installed");
        let script = self.own.join("flink.sql");
        fs::write(&script, self.flink_script(name)?).map_err(|error| error.to_string())?;
        let mut command = Command::new("java");
        command.args(["-Xms4g", "-Xmx6g", "-XX:+UseParallelGC"]);
        command.args(OPENS.map(|package| format!("--add-opens=java.base/{package}=ALL-UNNAMED")));
        command.args(["-cp", &flink.class_path, "RunFlink"]).arg(&script).arg(self.threads.to_string());
        self.run(&mut command).map(|(cost, ..)| cost)
    }

    fn flink_script(&self, name: &str) -> Result<String, String> {
        let text = section(FLINK, name).ok_or(format!("Flink is not asked {name}"))?;
        let (columns, query) = text.split_once(";\n").ok_or(format!("no columns of {name}"))?;
        let mut query = query.to_owned();
        let mut script = String::new();
        for table in nexmark::tables(self.data, Path::new("side_input.jsonl")) {
            let window = format!("TABLE(TUMBLE(TABLE {}, DESCRIPTOR(ts), INTERVAL '10' SECOND))", table.name);
            query = query.replace(&format!("{{{}}}", table.name), &window);
            if table.name == "side_input" {
                continue;
            }
            let kind = |kind: &str| if kind == "VARCHAR" { "STRING".to_owned() } else { kind.to_owned() };
            let columns: Vec<String> =
                table.columns.iter().map(|(name, own)| format!("{name} {}", kind(own))).collect();
            script += &format!(
                "CREATE TABLE {name} ({}, ts AS TO_TIMESTAMP_LTZ(date_time, 3), WATERMARK FOR ts AS ts) \
                 WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = 'file://{}', \
                 'source.path.regex-pattern' = '.*/{name}-[0-9]+\\.jsonl')\n;\n",
                columns.join(", "),
                self.data.display(),
                name = table.name,
            );
        }
        script += &format!("CREATE TABLE told ({columns}) WITH ('connector' = 'blackhole')\n;\n");
        Ok(script + "INSERT INTO told " + &query)
    }

    /// What it cost, standard output and standard error.
    fn run(&self, command: &mut Command) -> Result<(Cost, String, String), String> {
        let (output, told) = (self.own.join("output"), self.own.join("told"));
        let cost = Cost::of(command, &output, &told);
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let (output, told) = (read(&output), read(&told));
        match cost {
            Ok(cost) => Ok((cost, output, told)),
            Err(error) => {
                let lines: Vec<&str> = told.lines().collect();
                let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
                Err(format!("{}: {error}\n{shown}", command.get_program().display()))
            }
        }
    }
}

/// What stands behind the line with a name.
fn section<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("-- === {name}\n"))?;
    Some(rest.split("\n-- ===").next().unwrap_or(rest).trim())
}
