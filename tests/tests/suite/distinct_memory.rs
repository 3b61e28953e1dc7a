//! Distinct counts of many groups cost some bytes a value, not a set a group.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use squilla_tests::program::squilla;

/// Groups, each of [`VALUES`] values, in an order in which neighbours are of different groups.
const GROUPS: u64 = 200_000;
const VALUES: u64 = 2;
/// Steps between neighbours: they share no factor with the number of rows, so that each row comes once.
const STEP: u64 = 123_457;
/// A million groups of two values took 107 bytes a group; a hash set a group takes several hundred.
const MAX_BYTES_A_GROUP: f64 = 250.0;

#[test]
fn distinct_counts_of_many_groups_cost_bytes_and_no_sets() {
    let folder = tempfile::tempdir().expect("a folder for data");
    let rows = GROUPS * VALUES;
    let mut text = String::from("g,v,ts\n");
    for row in (0..rows).map(|row| row * STEP % rows) {
        let (group, value) = (row / VALUES, row % VALUES * 1_000 + row / VALUES % 97);
        writeln!(text, "{group},{value},{}", 1_700_000_000_000_u64 + row % 1_000).expect("text can be written");
    }
    fs::write(folder.path().join("rows.csv"), text).expect("the data can be written");
    let [plain, distinct] = ["count(v)", "count(DISTINCT v)"].map(|call| peak_bytes(call, folder.path()));
    let bytes = (distinct - plain) / GROUPS as f64;
    assert!(bytes < MAX_BYTES_A_GROUP, "{bytes} bytes a group: {distinct} beside {plain}");
}

/// The most memory that a count by groups takes.
fn peak_bytes(call: &str, folder: &Path) -> f64 {
    let script = folder.join("script.sql");
    let text = format!(
        "CREATE SOURCE s (g BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2 seconds')\n  \
         WITH (connector = 'file', path = 'rows.csv', format = 'csv');\n\
         SELECT g, {call} AS n FROM s GROUP BY g, tumble('1h');\n"
    );
    fs::write(&script, text).expect("the script can be written");
    let output = Command::new(squilla())
        .args(["run", "--format", "null", "--stats"])
        .arg(&script)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let told = String::from_utf8_lossy(&output.stderr);
    let stats: Value = told.lines().rev().find_map(|line| serde_json::from_str(line).ok()).expect("--stats are told");
    assert_eq!(stats["rows_out"].as_u64(), Some(GROUPS), "{told}");
    stats["peak_memory_bytes"].as_f64().expect("a number")
}
