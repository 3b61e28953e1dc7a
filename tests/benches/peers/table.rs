//! The costs side by side, and what is asked of them.

use squilla_tests::measure::{Cost, Goals};

/// Of DuckDB's CPU seconds so much may be taken.
const OF_DUCKDB: f64 = 1.0;
/// The same where little is computed with what is read, and columns that nobody reads can be skipped.
const OF_DUCKDB_HALF: f64 = 0.5;
const HALVED: [&str; 3] = ["q2", "tumble", "q5"];
const OF_FLINK: f64 = 1.0 / 6.0;
/// Wall time as a share of CPU time, with two processors.
const WALL: f64 = 0.6;
/// Memory that is granted even where DuckDB takes less.
const LEAST_PEAK_BYTES: f64 = 256.0 * 1024.0 * 1024.0;
const MIB: f64 = 1024.0 * 1024.0;

/// What a query has cost.
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: &'static str,
    /// Rows that Squilla and DuckDB have told.
    pub(crate) rows: [Option<u64>; 2],
    /// Squilla's cost.
    pub(crate) squilla: Cost,
    /// DuckDB's.
    pub(crate) duckdb: Cost,
    /// Flink's; `None`: it was not asked.
    pub(crate) flink: Option<Cost>,
}

/// Prints a table as Markdown has it, and notes what is missed. Wall time is asked for on a `quiet` machine only.
pub(crate) fn print(rows: &[Row], quiet: bool, goals: &mut Goals) {
    let titles = [
        "query",
        "rows",
        "CPU s",
        "DuckDB",
        "Flink",
        "of DuckDB",
        "of Flink",
        "wall s",
        "of CPU",
        "MiB",
        "DuckDB",
        "Flink",
        "of the limit",
    ];
    println!("| {} |", titles.join(" | "));
    println!("|---|{}", "---:|".repeat(titles.len() - 1));
    for row in rows {
        println!("| {} |", cells(row, quiet, goals).join(" | "));
    }
}

fn cells(row: &Row, quiet: bool, goals: &mut Goals) -> Vec<String> {
    let Row { name, squilla, duckdb, flink, .. } = row;
    if row.rows[0] != row.rows[1] {
        goals.miss(format!("{name}: {:?} rows, but DuckDB's are {:?}", row.rows[0], row.rows[1]));
    }
    let most = if HALVED.contains(name) { OF_DUCKDB_HALF } else { OF_DUCKDB };
    let of_duckdb = goals.at_most(&format!("{name}, CPU of DuckDB's"), squilla.cpu_s / duckdb.cpu_s, most);
    let none = || "-".to_owned();
    let of_flink = flink.map_or_else(none, |flink| {
        goals.at_most(&format!("{name}, CPU of Flink's"), squilla.cpu_s / flink.cpu_s, OF_FLINK)
    });
    let of_cpu = squilla.wall_s / squilla.cpu_s;
    let of_cpu = match quiet {
        true => goals.at_most(&format!("{name}, wall of CPU"), of_cpu, WALL),
        false => format!("{of_cpu:.2} (busy)"),
    };
    let limit = duckdb.peak_bytes.max(LEAST_PEAK_BYTES);
    let of_limit = goals.at_most(&format!("{name}, memory of the limit"), squilla.peak_bytes / limit, 1.0);
    let mib = |cost: &Cost| format!("{:.0}", cost.peak_bytes / MIB);
    vec![
        (*name).to_owned(),
        row.rows[0].map_or_else(none, |rows| rows.to_string()),
        format!("{:.2}", squilla.cpu_s),
        format!("{:.2}", duckdb.cpu_s),
        flink.map_or_else(none, |flink| format!("{:.1}", flink.cpu_s)),
        of_duckdb,
        of_flink,
        format!("{:.2}", squilla.wall_s),
        of_cpu,
        mib(squilla),
        mib(duckdb),
        flink.as_ref().map_or_else(none, mib),
        of_limit,
    ]
}
