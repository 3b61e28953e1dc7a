//! Instructions a row, as callgrind counts them: they do not depend on what else the machine does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use squilla_tests::measure::Goals;
use squilla_tests::workspace_root;

use crate::kernel::NAMES;

/// What is before the first round and behind the last is in both counts.
const FEW_ROUNDS: u64 = 1;
const MANY_ROUNDS: u64 = 3;

/// Counts, and compares with the bounds; or records them.
pub(crate) fn check(record: bool) -> ExitCode {
    let mut goals = Goals::default();
    let bounds = bounds();
    let mut found = String::from("# Instructions a row, of x86-64 without further extensions: kernels --record\n");
    for name in NAMES {
        match instructions(name) {
            Ok(count) => {
                found += &format!("{name} {count:.1}\n");
                let bound = bounds.get(name).copied().unwrap_or(if record { count } else { 0.0 });
                println!(
                    "{name:8} {count:8.1} instructions a row, of the bound: {}",
                    goals.at_most(name, count / bound, 1.0)
                );
            }
            Err(error) => goals.miss(format!("{name}: {error}")),
        }
    }
    if record {
        std::fs::write(path(), found).expect("the bounds can be written");
        return ExitCode::SUCCESS;
    }
    goals.told()
}

fn path() -> PathBuf {
    workspace_root().join("tests/benches/kernels/bounds.txt")
}

fn bounds() -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
    lines.filter_map(|(name, bound)| Some((name.to_owned(), bound.parse().ok()?))).collect()
}

fn instructions(name: &str) -> Result<f64, String> {
    let (few, _) = count(name, FEW_ROUNDS)?;
    let (many, rows) = count(name, MANY_ROUNDS)?;
    Ok((many - few) / ((MANY_ROUNDS - FEW_ROUNDS) as f64 * rows))
}

/// Instructions of so many rounds and all around them, and rows of a round.
fn count(name: &str, rounds: u64) -> Result<(f64, f64), String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(own);
    command.args(["--rounds", &rounds.to_string(), name]);
    let output = command.output().map_err(|error| format!("valgrind: {error}: apt-get install valgrind"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    let number = |text: &str| text.trim().parse().ok();
    let collected = told.lines().find_map(|line| number(line.split_once("Collected :")?.1));
    let rows = number(&String::from_utf8_lossy(&output.stdout));
    collected.zip(rows).ok_or_else(|| format!("callgrind counted nothing:\n{told}"))
}
