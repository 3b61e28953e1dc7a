//! The queries of the Nexmark benchmark, as case files in both dialects: `tests/cases/nexmark`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::compare::same_rows;
use crate::program::{Table, run_script};
use crate::workspace_root;

/// Keys of the table that q13 looks up.
const SIDE_KEYS: i64 = 100;

/// A query in both dialects.
#[derive(Debug)]
pub struct Nexmark {
    /// Name of its file.
    pub name: String,
    /// As Squilla is asked.
    pub squilla: String,
    /// As DuckDB is asked, where times are milliseconds since 1970.
    pub duckdb: String,
    /// Columns that hold times.
    pub times: Vec<String>,
}

/// All of them, by name.
///
/// # Panics
/// If a file cannot be read or lacks a part.
pub fn cases() -> Vec<Nexmark> {
    let folder = workspace_root().join("tests/cases/nexmark");
    let files = fs::read_dir(&folder).expect("the folder of cases");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Nexmark {
    let text = fs::read_to_string(path).expect("a case can be read");
    let part = |name: &str| {
        let (_, rest) = text.split_once(&format!("=== {name}\n"))?;
        Some(rest.split("\n=== ").next().unwrap_or(rest).trim().to_owned())
    };
    let needed = |name: &str| part(name).unwrap_or_else(|| panic!("{}: no part {name}", path.display()));
    Nexmark {
        name: path.file_stem().expect("a file has a name").to_string_lossy().into_owned(),
        squilla: needed("squilla"),
        duckdb: needed("duckdb"),
        times: part("times").map_or_else(Vec::new, |times| times.split(", ").map(str::to_owned).collect()),
    }
}

/// What defines the sources over the files of a folder, which are late by no more than `delay_s` seconds, and the
/// table; by name.
pub fn sources(folder: &Path, side_input: &Path, delay_s: u32) -> Vec<(&'static str, String)> {
    let source = |name: &'static str, columns: &str| {
        let sql = format!(
            "CREATE SOURCE {name} ({columns}, date_time TIMESTAMP, extra VARCHAR, \
             WATERMARK FOR date_time AS date_time - INTERVAL '{delay_s} seconds') \
             WITH (connector = 'file', path = '{}/{name}-*.jsonl', format = 'json', timestamp_unit = 'ms');\n",
            folder.display()
        );
        (name, sql)
    };
    let side_input = format!(
        "CREATE TABLE side_input (key BIGINT, value VARCHAR, PRIMARY KEY (key)) \
         WITH (connector = 'file', path = '{}', format = 'json');\n",
        side_input.display()
    );
    vec![
        source("bid", "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR"),
        source("auction", "id BIGINT, item_name VARCHAR, expires TIMESTAMP, seller BIGINT, category BIGINT"),
        source("person", "id BIGINT, name VARCHAR, city VARCHAR, state VARCHAR"),
        ("side_input", side_input),
    ]
}

/// Writes the table that q13 looks up into a folder, and tells its file.
///
/// # Panics
/// If it cannot be written.
pub fn write_side_input(folder: &Path) -> PathBuf {
    let rows = (0..SIDE_KEYS).map(|key| format!("{{\"key\":{key},\"value\":\"value {key}\"}}\n"));
    let path = folder.join("side_input.jsonl");
    fs::write(&path, rows.collect::<String>()).expect("the table can be written");
    path
}

/// The same for DuckDB.
///
/// # Panics
/// If the folder cannot be read.
pub fn tables(folder: &Path, side_input: &Path) -> Vec<Table> {
    let text = |name| (name, "VARCHAR");
    let number = |name| (name, "BIGINT");
    let table = |name: &'static str, mut columns: Vec<(&'static str, &'static str)>| {
        columns.extend([number("date_time"), text("extra")]);
        let files = fs::read_dir(folder).expect("the folder of data").map(|file| file.expect("a file").path());
        let prefix = format!("{name}-");
        let own = |path: &PathBuf| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&prefix));
        Table { name, files: files.filter(own).collect(), columns }
    };
    let bid = vec![number("auction"), number("bidder"), number("price"), text("channel"), text("url")];
    let auction = vec![number("id"), text("item_name"), number("expires"), number("seller"), number("category")];
    let person = vec![number("id"), text("name"), text("city"), text("state")];
    let side = vec![number("key"), text("value")];
    let side = Table { name: "side_input", files: vec![side_input.to_owned()], columns: side };
    vec![table("bid", bid), table("auction", auction), table("person", person), side]
}

impl Nexmark {
    /// The query behind what defines those of the sources that it names.
    pub fn script(&self, sources: &[(&str, String)]) -> String {
        let words: Vec<&str> = self.squilla.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let read = sources.iter().filter(|(name, _)| words.contains(name)).map(|(_, sql)| sql.as_str());
        read.chain([self.squilla.as_str(), "\n"]).collect()
    }

    /// Runs the query in this build's binary over `sources`, and compares its rows with DuckDB's.
    ///
    /// # Errors
    /// What differs, or why the query does not run.
    pub fn check(&self, sources: &[(&str, String)], folder: &Path, expected: Vec<Value>) -> Result<usize, String> {
        let Some(Value::Object(first)) = expected.first() else {
            return Err("a query without rows shows nothing".into());
        };
        let keys: Vec<String> = first.keys().cloned().collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let times: Vec<&str> = self.times.iter().map(String::as_str).collect();
        let actual = run_script(&self.script(sources), folder)?;
        let rows = actual.len();
        same_rows(actual, expected, &keys, &times).map(|()| rows)
    }
}
