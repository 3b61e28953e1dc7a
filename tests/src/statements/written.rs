//! Statements of the case files.

use std::fs;
use std::path::Path;

use squilla_query::split_statements;

/// All statements of the cases in the folder of the workspace, sorted.
///
/// # Panics
/// If the files cannot be read.
pub fn written(root: &Path) -> Vec<String> {
    let folders = ["rows", "nexmark"].map(|name| root.join("tests/cases").join(name));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("the folder of cases"));
    let mut statements = Vec::new();
    for file in files {
        let text = fs::read_to_string(file.expect("a file").path()).expect("a case can be read");
        for part in ["=== sql\n", "=== squilla\n"] {
            let sql = text.split_once(part).map(|(_, rest)| rest.split("\n=== ").next().unwrap_or(rest));
            let cut = sql.map(|sql| split_statements(sql).unwrap_or_default()).unwrap_or_default();
            statements.extend(cut.into_iter().map(|statement| statement.sql));
        }
    }
    statements.sort();
    statements
}
