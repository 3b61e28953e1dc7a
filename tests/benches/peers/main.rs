//! Nexmark beside the engines that could be used instead: what each query costs Squilla, DuckDB in batch, and Flink, as
//! whole processes over the same newline JSON files. Ends with failure when a goal is missed by more than 15 %.
//!
//! `cargo run --release -p squilla-tests --bin peers -- [--flink] [--events N] [--runs N] [--data DIR] [--home DIR] [NAME…]`
//!
//! - `--flink`: Flink, too; needs a JDK of version 17, and takes a minute or two for each run.
//! - `--events`: of how many events files are made, where there are none; 10,000,000 unless said (2.6 GB).
//! - `--runs`: of so many runs of Squilla and DuckDB the medians are told; 3 unless said. Flink runs once.
//! - `--home`: where DuckDB and Flink are installed, and the files lie; `target/peers` unless said. `--data`: where files
//!   lie that are there already.
//!
//! Wall time is judged only if next to nothing else wanted a processor in the minute before. CPU seconds and memory depend
//! on that little.
//!
//! It needs the binary (`cargo build --release`), Python 3 with venv, and the package index that pip uses.

mod peer;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use squilla_tests::generated::write_files;
use squilla_tests::install;
use squilla_tests::measure::{Cost, Goals, load};
use squilla_tests::nexmark;

use peer::{Peers, Ran};
use table::Row;

/// In the order in which they are told.
const QUERIES: [&str; 9] = ["q0", "q1", "q2", "tumble", "q5", "q7", "q8", "q11", "hc"];
const EVENTS: usize = 10_000_000;
const RUNS: usize = 3;
/// Processes that want to run, in the minute before, up to which a machine is quiet.
const QUIET_LOAD: f64 = 0.7;
/// Events between two signs of life while files are made.
const SIGN_EVENTS: usize = 1_000_000;

/// What the arguments ask for.
struct Wanted {
    flink: bool,
    events: usize,
    runs: usize,
    data: Option<PathBuf>,
    home: PathBuf,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let wanted = match Wanted::read(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(told) => {
            eprintln!("{told}\nusage: peers [--flink] [--events N] [--runs N] [--data DIR] [--home DIR] [NAME…]");
            return ExitCode::FAILURE;
        }
    };
    match run(&wanted) {
        Ok(goals) => goals.told(),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

impl Wanted {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut wanted =
            Self { flink: false, events: EVENTS, runs: RUNS, data: None, home: install::home()?, names: Vec::new() };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            let number = |text: String| text.parse().ok().filter(|n| *n > 0).ok_or(format!("\"{text}\" is no number"));
            match argument.as_str() {
                "--flink" => wanted.flink = true,
                "--events" => wanted.events = number(value()?)?,
                "--runs" => wanted.runs = number(value()?)?,
                "--data" => wanted.data = Some(value()?.into()),
                "--home" => wanted.home = value()?.into(),
                name if QUERIES.contains(&name) => wanted.names.push(argument),
                other => return Err(format!("\"{other}\" is neither an option nor one of {}", QUERIES.join(" "))),
            }
        }
        Ok(wanted)
    }

    fn queries(&self) -> impl Iterator<Item = &'static str> {
        QUERIES.into_iter().filter(|name| self.names.is_empty() || self.names.iter().any(|own| own == name))
    }

    /// The folder of the files, which are made when they are not there.
    fn files(&self) -> Result<PathBuf, String> {
        let folder = self.data.clone().unwrap_or_else(|| self.home.join(format!("events-{}", self.events)));
        if !folder.is_dir() {
            std::fs::create_dir_all(&self.home).map_err(|error| format!("{}: {error}", self.home.display()))?;
            write_files(self.events, &folder, |events| {
                if events % SIGN_EVENTS == 0 {
                    eprintln!("{events} of {} events written below {}", self.events, folder.display());
                }
            })
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        }
        folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))
    }
}

fn run(wanted: &Wanted) -> Result<Goals, String> {
    let data = wanted.files()?;
    let own = tempfile::tempdir().map_err(|error| error.to_string())?;
    let peers = Peers {
        data: &data,
        own: own.path(),
        threads: std::thread::available_parallelism().map_or(2, usize::from),
        python: install::duckdb(&wanted.home)?,
        flink: if wanted.flink { Some(install::flink(&wanted.home)?) } else { None },
    };
    let quiet = load().parse().is_ok_and(|load: f64| load < QUIET_LOAD);
    println!("{} threads, load {} at the start", peers.threads, load());
    let cases = nexmark::cases();
    let started = Instant::now();
    let mut rows = Vec::new();
    for name in wanted.queries() {
        let case = cases.iter().find(|case| case.name == name).ok_or(format!("no case {name}"))?;
        let (mut squilla, mut duckdb) = (Vec::new(), Vec::new());
        let mut told = [None, None];
        // By turns, so that what else the machine does meets both.
        for round in 1..=wanted.runs {
            let at = || format!("{:4.0} s: {name}, {round} of {}", started.elapsed().as_secs_f64(), wanted.runs);
            eprintln!("{}, Squilla", at());
            keep(peers.squilla(case)?, &mut squilla, &mut told[0]);
            eprintln!("{}, DuckDB", at());
            keep(peers.duckdb(case)?, &mut duckdb, &mut told[1]);
        }
        let flink = match &peers.flink {
            Some(_) => {
                eprintln!("{:4.0} s: {name}, Flink", started.elapsed().as_secs_f64());
                Some(peers.flink(name)?)
            }
            None => None,
        };
        let (squilla, duckdb) = (Cost::median(&squilla), Cost::median(&duckdb));
        rows.push(Row { name, rows: told, squilla, duckdb, flink });
    }
    let mut goals = Goals::default();
    table::print(&rows, quiet, &mut goals);
    println!("load {} at the end", load());
    Ok(goals)
}

fn keep(ran: Ran, costs: &mut Vec<Cost>, rows: &mut Option<u64>) {
    costs.push(ran.cost);
    *rows = Some(ran.rows);
}
