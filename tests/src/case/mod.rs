//! Case files: what streams there are, what comes in, what is asked, and what must come out.
//!
//! A case is a text file of sections. A line `=== name` opens one; before the first stands what the case shows, in
//! lines that start with `#`.
//!
//! | section | holds |
//! |---|---|
//! | `sql` | statements. The connector of a `CREATE SOURCE` does not matter: its rows are the input's |
//! | `input NAME [PARTITION]` | bounded input of a source, a line a row, values in the order of the columns |
//! | `timeline` | instead of input: rows of live sources and moves of the clock, in order |
//! | `rows` | the columns of the last `SELECT`, then its rows |
//! | `ledger` | what was counted beside the rows that went through, for sources and for all other jobs |
//! | `error` | instead of rows and ledger: what the first statement that is refused is told |
//!
//! Values are separated by commas; `null` is null; text needs quotes only where it would be misread. `00:00:05` is
//! that time of 2026-01-01. `!` and a reason stand for a record that does not decode. `#` starts a remark; that of a row
//! which comes too late begins with `late`. The order of rows within a window does not matter, unless the query orders
//! them.
//!
//! In a timeline a line `bids 1: values` is a row of partition 1 of `bids`, and `clock 00:01:00` moves the wall clock,
//! which starts at 00:00:00, and polls all sources once, empty.

mod remark;
mod run;
mod values;

pub mod replay;

use std::fmt::Write as _;
use std::path::Path;

pub use run::{Outcome, run};
pub use values::{parse_line, parse_time, render_value};

/// A case file, read.
#[derive(Debug, Default, Clone)]
pub struct Case {
    /// The statements, as one script.
    pub sql: String,
    /// Bounded inputs: source, partition, lines.
    pub inputs: Vec<(String, u32, Vec<String>)>,
    /// Steps of live sources; empty when the inputs are bounded.
    pub timeline: Vec<Step>,
    /// What must come out, as text.
    pub expected: String,
    /// What stands before the expectation.
    head: String,
}

/// A step of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A row comes.
    Row {
        /// Name of the source.
        source: String,
        /// Its partition.
        partition: u32,
        /// The values.
        line: String,
    },
    /// The wall clock moves to this moment, in nanoseconds since 1970.
    Clock(i64),
}

/// How a case is run, which must change nothing of its results and counts.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Rows that a source hands over at once.
    pub batch_rows: usize,
    /// Threads that the engine computes on.
    pub threads: usize,
    /// Whether jobs go on, after every batch, with what they restore of their saved state.
    pub restores: bool,
}

/// Every case is run in each of these.
pub const SETTINGS: [Setting; 5] = [
    Setting { batch_rows: 1, threads: 2, restores: false },
    Setting { batch_rows: 7, threads: 1, restores: false },
    Setting { batch_rows: 8192, threads: 4, restores: false },
    Setting { batch_rows: 1, threads: 1, restores: true },
    Setting { batch_rows: 7, threads: 2, restores: true },
];

/// Runs the case of a file in every setting and compares with what it expects. With `UPDATE_CASES=1` in the
/// environment what it expects is written anew.
///
/// # Errors
/// The difference, to be shown.
pub fn check(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let case = Case::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut first: Option<Outcome> = None;
    for setting in SETTINGS {
        let outcome = run(&case, setting).map_err(|error| format!("{} with {setting:?}: {error}", path.display()))?;
        let Some(first) = &first else {
            first = Some(outcome);
            continue;
        };
        if *first != outcome {
            let (small, large) = (first.explain(), outcome.explain());
            return Err(format!(
                "{}: {:?} and {setting:?} give different results\n{}",
                path.display(),
                SETTINGS[0],
                difference(&small, &large)
            ));
        }
    }
    let first = first.expect("there is a batch size");
    remark::check(&case, first.late()).map_err(|error| format!("{}: {error}", path.display()))?;
    let actual = first.render();
    if actual.trim() == case.expected.trim() {
        return Ok(());
    }
    if std::env::var_os("UPDATE_CASES").is_some_and(|value| value == "1") {
        let text = format!("{}\n\n{actual}", case.head.trim_end());
        return std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()));
    }
    Err(format!(
        "{}: not what it expects (UPDATE_CASES=1 writes it anew)\n{}",
        path.display(),
        difference(case.expected.trim(), actual.trim())
    ))
}

/// The lines of two texts, those that only one has marked by `-` and `+`.
pub fn difference(expected: &str, actual: &str) -> String {
    let expected_lines: Vec<&str> = expected.lines().collect();
    let actual_lines: Vec<&str> = actual.lines().collect();
    let same_start = expected_lines.iter().zip(&actual_lines).take_while(|(a, b)| a == b).count();
    let same_end = expected_lines[same_start..]
        .iter()
        .rev()
        .zip(actual_lines[same_start..].iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let mut out = String::new();
    let mut put = |mark: char, lines: &[&str]| {
        for line in lines {
            let _ = writeln!(out, "{mark} {line}");
        }
    };
    put(' ', &expected_lines[..same_start]);
    put('-', &expected_lines[same_start..expected_lines.len() - same_end]);
    put('+', &actual_lines[same_start..actual_lines.len() - same_end]);
    put(' ', &expected_lines[expected_lines.len() - same_end..]);
    out
}

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// What cannot be read, with its line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut case = Self::default();
        let mut section: Vec<String> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            if let Some(name) = line.strip_prefix("=== ") {
                section = name.split_whitespace().map(str::to_owned).collect();
                case.open(&section).map_err(|error| format!("line {}: {error}", at + 1))?;
            }
            let is_result = section.first().is_some_and(|name| matches!(name.as_str(), "rows" | "ledger" | "error"));
            let target = if is_result { &mut case.expected } else { &mut case.head };
            target.push_str(line);
            target.push('\n');
            if !line.starts_with("=== ") {
                case.take(&section, line).map_err(|error| format!("line {}: {error}", at + 1))?;
            }
        }
        if case.sql.trim().is_empty() { Err("there is no sql section".to_owned()) } else { Ok(case) }
    }

    fn open(&mut self, section: &[String]) -> Result<(), String> {
        let words: Vec<&str> = section.iter().map(String::as_str).collect();
        match words[..] {
            ["sql" | "timeline" | "rows" | "ledger" | "error"] => Ok(()),
            ["input", source] => self.open_input(source, 0),
            ["input", source, partition] => {
                let partition = partition.parse().map_err(|_| format!("\"{partition}\" is no partition"))?;
                self.open_input(source, partition)
            }
            _ => Err(format!("no section \"{}\"", words.join(" "))),
        }
    }

    fn open_input(&mut self, source: &str, partition: u32) -> Result<(), String> {
        let next = self.inputs.iter().filter(|(name, ..)| name == source).count();
        if next != partition as usize {
            return Err(format!("the next partition of \"{source}\" is {next}, not {partition}"));
        }
        self.inputs.push((source.to_owned(), partition, Vec::new()));
        Ok(())
    }

    fn take(&mut self, section: &[String], line: &str) -> Result<(), String> {
        let blank = line.trim().is_empty() || line.trim_start().starts_with('#');
        match section.first().map(String::as_str) {
            None if !blank => Err("before the first section stand remarks only".to_owned()),
            Some("sql") => {
                self.sql.push_str(line);
                self.sql.push('\n');
                Ok(())
            }
            Some("input") if !blank => {
                self.inputs.last_mut().expect("the section opened an input").2.push(line.to_owned());
                Ok(())
            }
            Some("timeline") if !blank => {
                self.timeline.push(parse_step(line)?);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn parse_step(line: &str) -> Result<Step, String> {
    if let Some(time) = line.trim().strip_prefix("clock ") {
        let time = time.split('#').next().unwrap_or_default().trim();
        return parse_time(time).map(Step::Clock).ok_or_else(|| format!("\"{time}\" is no time"));
    }
    let (place, values) = line.split_once(": ").ok_or("a step is \"source partition: values\" or \"clock time\"")?;
    let (source, partition) = place.trim().split_once(' ').unwrap_or((place.trim(), "0"));
    let partition = partition.trim().parse().map_err(|_| format!("\"{partition}\" is no partition"))?;
    Ok(Step::Row { source: source.to_owned(), partition, line: values.to_owned() })
}
