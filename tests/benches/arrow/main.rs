//! Windows over record batches in memory, beside what computes the same in batch: tumble and q5 of Nexmark beside
//! DataFusion's aggregate, hc beside DuckDB. Ends with failure when a goal is missed by more than 15 %.
//!
//! `cargo run --release -p squilla-tests --bin arrow -- [EVENTS [RUNS]]`: ten million and three unless said; medians are told.
//! `SQUILLA_DUCKDB_PYTHON` names a Python that has DuckDB and pyarrow; without it one is installed in `target/peers`.

mod batch;

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitCode};

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use squilla_tests::generated::{bid_schema, bids};
use squilla_tests::held::{Held, run};
use squilla_tests::measure::{Goals, load, median};
use squilla_tests::{install, nexmark, workspace_root};

const EVENTS: usize = 10_000_000;
const RUNS: usize = 3;
const BATCH_ROWS: usize = 8_192;
/// Partitions of the bids, as files of the benchmark have them.
const PARTITIONS: usize = 2;
const SOURCE: &str = "CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, \
                      date_time TIMESTAMP, WATERMARK FOR date_time AS date_time) WITH (connector = 'file', path = 'none')";

/// Rows of the result, and seconds of processors and of the clock.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    pub(crate) rows: u64,
    pub(crate) cpu_s: f64,
    pub(crate) wall_s: f64,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let (events, runs) = (arguments.next().unwrap_or(EVENTS), arguments.next().unwrap_or(RUNS));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let batches: Vec<RecordBatch> = bids(events, BATCH_ROWS).collect();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    println!("{rows} bids in memory, {threads} threads, load {} at the start", load());
    let mut goals = Goals::default();
    for (name, inner) in [("tumble", "tumble"), ("q5", "q5inner")] {
        let mut costs = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..runs {
            costs[0].push(squilla(&batches, name, threads));
            costs[1].push(squilla(&batches, inner, threads));
            costs[2].push(batch::aggregate(&batches, name, threads));
        }
        let [whole, inner, peer] = costs.map(|costs| typical(&costs));
        assert_eq!(inner.rows, peer.rows, "the same groups in the same windows");
        if name == "q5" {
            println!("{name:8} with the most of each window: {:6.2} CPU s, {:6.2} s", whole.cpu_s, whole.wall_s);
        }
        tell(&mut goals, name, "DataFusion", inner, peer);
    }
    let folder = tempfile::tempdir().expect("a folder for the batches");
    match duckdb(&batches, folder.path(), threads, runs) {
        Ok(peer) => {
            let costs: Vec<Took> = (0..runs).map(|_| squilla(&batches, "hc", threads)).collect();
            tell(&mut goals, "hc", "DuckDB", typical(&costs), peer);
        }
        Err(error) => goals.miss(format!("hc beside DuckDB: {error}")),
    }
    println!("load {} at the end", load());
    goals.told()
}

fn tell(goals: &mut Goals, name: &str, other: &str, own: Took, peer: Took) {
    let cpu = goals.at_most(&format!("{name}, CPU of {other}'s"), own.cpu_s / peer.cpu_s, 1.0);
    println!(
        "{name:8} {:6.2} CPU s, {:6.2} s; {other:10} {:6.2} CPU s, {:6.2} s; of its CPU: {cpu}, {} rows",
        own.cpu_s, own.wall_s, peer.cpu_s, peer.wall_s, own.rows
    );
}

fn typical(costs: &[Took]) -> Took {
    let of = |figure: fn(&Took) -> f64| median(costs.iter().map(figure).collect());
    Took { rows: costs[0].rows, cpu_s: of(|took| took.cpu_s), wall_s: of(|took| took.wall_s) }
}

fn squilla(batches: &[RecordBatch], name: &str, threads: usize) -> Took {
    let cases = nexmark::cases();
    let case = cases.iter().find(|case| case.name == name).expect("the case is there");
    let told = run(SOURCE, Held::of(batches, PARTITIONS), case.squilla.trim_end_matches(';'), threads);
    Took { rows: told.rows, cpu_s: told.cpu_s, wall_s: told.wall_s }
}

/// What hc costs DuckDB over a table in memory, without what loads it.
fn duckdb(batches: &[RecordBatch], folder: &Path, threads: usize, runs: usize) -> Result<Took, String> {
    let python = match std::env::var_os("SQUILLA_DUCKDB_PYTHON") {
        Some(python) => python.into(),
        None => install::duckdb(&install::home()?)?,
    };
    let path = folder.join("bid.parquet");
    write(batches, &path).map_err(|error| error.to_string())?;
    let cases = nexmark::cases();
    let case = cases.iter().find(|case| case.name == "hc").expect("the case is there");
    let query = case.duckdb.replace("date_time - date_time % 10000", "time_bucket(INTERVAL '10 seconds', date_time)");
    let table = json!({ "files": [path], "columns": {} });
    let task = json!({ "tables": { "bid": table }, "query": query, "threads": threads, "in_memory": true });
    let task_path = folder.join("task.json");
    std::fs::write(&task_path, task.to_string()).map_err(|error| error.to_string())?;
    let once = || -> Result<Took, String> {
        let mut command = Command::new(&python);
        command.arg(workspace_root().join("tests/oracle/duckdb_cost.py")).arg(&task_path);
        let output = command.output().map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
        let number = |name: &str| answer[name].as_f64().ok_or(format!("no {name} was told"));
        let rows = answer["rows"].as_u64().ok_or("no rows were told")?;
        Ok(Took { rows, cpu_s: number("cpu_s")?, wall_s: number("wall_s")? })
    };
    let costs: Vec<Took> = (0..runs).map(|_| once()).collect::<Result<_, _>>()?;
    Ok(typical(&costs))
}

fn write(batches: &[RecordBatch], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let properties = WriterProperties::builder().set_compression(Compression::UNCOMPRESSED).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, bid_schema(), Some(properties))?;
    batches.iter().try_for_each(|batch| writer.write(batch))?;
    writer.close()?;
    Ok(())
}
