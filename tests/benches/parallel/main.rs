//! What a second worker is worth: tumble, q5 and hc of Nexmark on one and on two, over record batches in memory and over
//! files of JSON, in two partitions each. Ends with failure when a goal is missed by more than 15 %.
//!
//! `cargo run --release -p squilla-tests --bin parallel -- [EVENTS [RUNS]]`: ten million and five unless said; medians are
//! told. Without files: `EVENTS RUNS arrow`. On a machine with work of its own the second worker has less to do it with:
//! the load is told beside.

use std::path::Path;
use std::process::{Command, ExitCode};

use arrow::array::RecordBatch;
use squilla_tests::generated::{bids, write_files};
use squilla_tests::held::{Held, run};
use squilla_tests::measure::{Cost, Goals, load, median};
use squilla_tests::nexmark::{self, Nexmark};
use squilla_tests::program::squilla;

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EVENTS: usize = 10_000_000;
const RUNS: usize = 5;
const BATCH_ROWS: usize = 8_192;
const PARTITIONS: usize = 2;
/// How many times as fast two workers are.
const SPEED_UP: f64 = 1.7;
/// Seconds that pass of those that processors work.
const OF_CPU: f64 = 0.6;
const NAMES: [&str; 3] = ["tumble", "q5", "hc"];
const SOURCE: &str = "CREATE SOURCE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, \
                      date_time TIMESTAMP, WATERMARK FOR date_time AS date_time) WITH (connector = 'file', path = 'none')";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| arguments.get(at).map_or(default, |text| text.parse().expect("a number"));
    let (events, runs) = (number(0, EVENTS), number(1, RUNS));
    let in_memory = arguments.get(2).is_some_and(|what| what == "arrow");
    let all = nexmark::cases();
    let cases: Vec<&Nexmark> = all.iter().filter(|case| NAMES.contains(&case.name.as_str())).collect();
    assert_eq!(cases.len(), NAMES.len(), "the cases are there");
    let mut goals = Goals::default();
    println!("{events} events, medians of {runs} runs, load {} at the start", load());
    let batches: Vec<RecordBatch> = bids(events, BATCH_ROWS).collect();
    for case in &cases {
        compare(&mut goals, "memory", &case.name, runs, |workers| of_batches(&batches, case, workers));
    }
    drop(batches);
    if !in_memory {
        let folder = tempfile::tempdir_in(".").expect("a folder below this one");
        let data = folder.path().join("data");
        write_files(events, &data, |_| ()).expect("files can be written");
        let data = data.canonicalize().expect("it was written");
        for case in &cases {
            compare(&mut goals, "files", &case.name, runs, |workers| of_files(&data, folder.path(), case, workers));
        }
    }
    println!("load {} at the end", load());
    goals.told()
}

/// Runs a query by turns on one worker and on two, and tells what the second is worth.
fn compare(goals: &mut Goals, of: &str, name: &str, runs: usize, once: impl Fn(usize) -> (f64, f64)) {
    let (mut walls, mut cpus) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..runs {
        for workers in [1, 2] {
            let (cpu_s, wall_s) = once(workers);
            cpus[workers - 1].push(cpu_s);
            walls[workers - 1].push(wall_s);
        }
    }
    let [one, two] = walls.map(median);
    let [cpu_one, cpu_two] = cpus.map(median);
    let speed_up = goals.at_least(&format!("{name} of {of}, speed-up"), one / two, SPEED_UP);
    let of_cpu = goals.at_most(&format!("{name} of {of}, clock of CPU"), two / cpu_two, OF_CPU);
    println!(
        "{of:7} {name:8} one {one:6.2} s ({cpu_one:6.2} CPU s), two {two:6.2} s ({cpu_two:6.2} CPU s): speed-up \
         {speed_up}, clock of CPU {of_cpu}"
    );
}

fn of_batches(batches: &[RecordBatch], case: &Nexmark, workers: usize) -> (f64, f64) {
    let told = run(SOURCE, Held::of(batches, PARTITIONS), case.squilla.trim_end_matches(';'), workers);
    (told.cpu_s, told.wall_s)
}

/// The program takes as many workers as it has processors.
fn of_files(data: &Path, folder: &Path, case: &Nexmark, workers: usize) -> (f64, f64) {
    let side_input = nexmark::write_side_input(folder);
    let script = folder.join("script.sql");
    std::fs::write(&script, case.script(&nexmark::sources(data, &side_input, 0))).expect("the script can be written");
    let processors = if workers == 1 { "0" } else { "0,1" };
    let mut command = Command::new("taskset");
    command.args(["-c", processors]).arg(squilla()).args(["run", "--format", "null"]).arg(&script);
    let cost = Cost::of(&mut command, &folder.join("output"), &folder.join("told")).expect("the query runs");
    (cost.cpu_s, cost.wall_s)
}
