//! The Nexmark queries over generated files: whether their rows are DuckDB's, and what they cost.
//!
//! `cargo run --release -p squilla-tests --bin nexmark -- FOLDER [DELAY_S [NAME…]]`, where the folder holds
//! `bid-*.jsonl`, `auction-*.jsonl` and `person-*.jsonl` as the crate `nexmark` writes them, out of order by at most
//! DELAY_S seconds. `SQUILLA_DUCKDB_PYTHON` names a Python that has DuckDB.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;
use squilla_tests::nexmark::{self, Nexmark};
use squilla_tests::program::{duckdb, squilla};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: nexmark FOLDER [DELAY_S [NAME…]]");
        return ExitCode::FAILURE;
    };
    let delay_s = arguments.next().and_then(|delay| delay.parse().ok()).unwrap_or(0);
    let names: Vec<String> = arguments.collect();
    let own = tempfile::tempdir().expect("a folder for scripts");
    let side_input = nexmark::write_side_input(own.path());
    let sources = nexmark::sources(&folder, &side_input, delay_s);
    let tables = nexmark::tables(&folder, &side_input);
    println!("{:<8} {:>9} {:>8} {:>8} {:>9}  rows", "query", "rows", "CPU s", "wall s", "peak MB");
    let mut good = true;
    for case in nexmark::cases().iter().filter(|case| names.is_empty() || names.contains(&case.name)) {
        let answer = duckdb(&tables, std::slice::from_ref(&case.duckdb)).map(|mut answers| answers.remove(0));
        let checked = answer.and_then(|expected| case.check(&sources, own.path(), expected));
        let cost = cost(case, &sources, own.path());
        let number = |name: &str| cost[name].as_f64().unwrap_or(f64::NAN);
        let (rows, told) = match checked {
            Ok(rows) => (rows, "equal".to_owned()),
            Err(error) => (0, format!("DIFFER: {}", error.lines().take(4).collect::<Vec<_>>().join(" "))),
        };
        good &= rows > 0;
        let (cpu, wall, peak) = (number("cpu_s"), number("wall_s"), number("peak_memory_bytes") / 1e6);
        println!("{:<8} {rows:>9} {cpu:>8.2} {wall:>8.2} {peak:>9.0}  {told}", case.name);
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a run without output costs: the line of `--stats`.
fn cost(case: &Nexmark, sources: &[(&str, String)], folder: &std::path::Path) -> Value {
    let script = folder.join("cost.sql");
    std::fs::write(&script, case.script(sources)).expect("the script can be written");
    let run = Command::new(squilla())
        .args(["run", "--format", "null", "--stats"])
        .arg(&script)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let told = String::from_utf8_lossy(&run.stderr);
    told.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default()
}
