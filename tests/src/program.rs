//! Runs the real binary, and DuckDB to compare with.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::workspace_root;

/// Where the binary `squilla` of this build is.
///
/// # Panics
/// If it has not been built.
pub fn squilla() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    // Benchmarks lie beside it, tests in the folder `deps` below.
    let mut places = own.ancestors().skip(1).take(2).map(|folder| folder.join("squilla"));
    places.find(|place| place.is_file()).expect("tests/run builds the binary, or cargo build --workspace --bins")
}

/// Runs a script and gives the rows of its last `SELECT`, each a JSON object.
///
/// # Errors
/// What the program told on standard error.
pub fn run_script(script: &str, folder: &Path) -> Result<Vec<Value>, String> {
    let path = folder.join("script.sql");
    std::fs::write(&path, script).map_err(|error| error.to_string())?;
    let output = Command::new(squilla())
        .args(["run", "--format", "ndjson"])
        .arg(&path)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("{}\nof: {script}", String::from_utf8_lossy(&output.stderr)));
    }
    let rows = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    rows.lines().map(|line| serde_json::from_str(line).map_err(|error| format!("{error} in: {line}"))).collect()
}

/// A table of newline JSON files.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The files.
    pub files: Vec<PathBuf>,
    /// Columns and DuckDB's types for them.
    pub columns: Vec<(&'static str, &'static str)>,
}

/// The rows that DuckDB gives for each query, each a JSON object.
///
/// # Errors
/// What DuckDB told on standard error.
///
/// # Panics
/// If `SQUILLA_DUCKDB_PYTHON` does not name a Python that has DuckDB: `tests/run rust` installs it and sets this.
pub fn duckdb(tables: &[Table], queries: &[String]) -> Result<Vec<Vec<Value>>, String> {
    let python = std::env::var("SQUILLA_DUCKDB_PYTHON").expect(
        "SQUILLA_DUCKDB_PYTHON names no Python with DuckDB: `tests/run rust` installs one and sets it; afterwards \
         it is target/test-venv/bin/python",
    );
    let tables: BTreeMap<&str, Value> = tables
        .iter()
        .map(|table| {
            let columns: BTreeMap<_, _> = table.columns.iter().copied().collect();
            (table.name, json!({ "files": table.files, "columns": columns }))
        })
        .collect();
    let mut child = Command::new(python)
        .arg(workspace_root().join("tests/oracle/duckdb_run.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let task = json!({ "tables": tables, "queries": queries }).to_string();
    let mut input = child.stdin.take().expect("standard input is piped");
    input.write_all(task.as_bytes()).map_err(|error| error.to_string())?;
    drop(input);
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).map_err(|error| error.to_string())?;
    text.lines().map(as_objects).collect()
}

fn as_objects(line: &str) -> Result<Vec<Value>, String> {
    #[derive(serde::Deserialize)]
    struct Answer {
        columns: Vec<String>,
        rows: Vec<Vec<Value>>,
    }
    let answer: Answer = serde_json::from_str(line).map_err(|error| format!("{error} in: {line}"))?;
    let object = |row: Vec<Value>| Value::Object(answer.columns.iter().cloned().zip(row).collect());
    Ok(answer.rows.into_iter().map(object).collect())
}
