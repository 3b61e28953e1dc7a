//! What runs cost, and whether that is what was asked for.

use std::fs::File;
use std::io::{Error, Result};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

/// A figure may be so much beyond what is asked for, for all that shares the machine.
const LEEWAY: f64 = 1.15;

/// What a run has cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Seconds of processors, in the program and for it in the system, of all threads.
    pub cpu_s: f64,
    /// Seconds that passed.
    pub wall_s: f64,
    /// The most memory that it held at once, in bytes.
    pub peak_bytes: f64,
}

impl Cost {
    /// Runs a program to its end, with its output in files of these names: what it cost, from its start.
    ///
    /// # Errors
    /// When it cannot be run, or fails.
    pub fn of(command: &mut Command, output: &std::path::Path, told: &std::path::Path) -> Result<Self> {
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(File::create(output)?).stderr(File::create(told)?).spawn()?;
        let usage = wait(&child)?;
        let wall_s = started.elapsed().as_secs_f64();
        Ok(Self { cpu_s: cpu_s(&usage), wall_s, peak_bytes: usage.ru_maxrss as f64 * 1024.0 })
    }

    /// The median of each figure.
    ///
    /// # Panics
    /// If there are none.
    pub fn median(costs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(costs.iter().map(figure).collect());
        Self { cpu_s: of(|cost| cost.cpu_s), wall_s: of(|cost| cost.wall_s), peak_bytes: of(|cost| cost.peak_bytes) }
    }
}

/// Waits for a program's end.
fn wait(child: &Child) -> Result<libc::rusage> {
    let process = libc::pid_t::try_from(child.id()).expect("a process has an id of the system");
    let mut status = 0;
    // SAFETY: `rusage` is plain numbers, for which all zeros is a value; the call only writes to it and to the status.
    let (ended, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(process, &raw mut status, 0, &raw mut usage), usage)
    };
    match (ended == process, libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (false, ..) => Err(Error::last_os_error()),
        (true, true, 0) => Ok(usage),
        _ => Err(Error::other(format!("it has ended with status {status}"))),
    }
}

/// Seconds of processors that this process has taken so far.
pub fn own_cpu_s() -> f64 {
    // SAFETY: as in `wait`.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    cpu_s(&usage)
}

/// Bytes of memory that this process holds now.
///
/// # Panics
/// Where `/proc` is none of Linux.
pub fn resident_bytes() -> f64 {
    status_bytes("VmRSS:")
}

/// The most bytes of memory that this process has held since [`forget_peak`], or since its start.
///
/// # Panics
/// As [`resident_bytes`].
pub fn peak_bytes() -> f64 {
    status_bytes("VmHWM:")
}

/// Measures the peak from now on.
///
/// # Panics
/// As [`resident_bytes`].
pub fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux tells a process's memory");
}

fn status_bytes(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells a process's memory");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it tells this");
    let kib: f64 = line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number of KiB");
    kib * 1024.0
}

fn cpu_s(usage: &libc::rusage) -> f64 {
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// The figure in the middle.
///
/// # Panics
/// If there are none.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// How many processes want to run on this machine, in the last minute.
pub fn load() -> String {
    let told = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    told.split(' ').next().unwrap_or("unknown").to_owned()
}

/// What was asked for and is not so.
#[derive(Debug, Default)]
pub struct Goals {
    missed: Vec<String>,
}

impl Goals {
    /// A figure and what is asked of it, as text; one that is missed is marked and remembered.
    pub fn at_most(&mut self, what: &str, figure: f64, goal: f64) -> String {
        let cell = format!("{figure:.2} (<= {goal:.2})");
        if figure <= goal * LEEWAY {
            return cell;
        }
        self.missed.push(format!("{what}: {cell}"));
        format!("{cell} !")
    }

    /// The same where more is better.
    pub fn at_least(&mut self, what: &str, figure: f64, goal: f64) -> String {
        let cell = format!("{figure:.2} (>= {goal:.2})");
        if figure * LEEWAY >= goal {
            return cell;
        }
        self.missed.push(format!("{what}: {cell}"));
        format!("{cell} !")
    }

    /// Something else was wrong.
    pub fn miss(&mut self, what: String) {
        self.missed.push(what);
    }

    /// Says what was missed; the program's exit code.
    pub fn told(self) -> ExitCode {
        if self.missed.is_empty() {
            println!("all that is asked for is reached");
            return ExitCode::SUCCESS;
        }
        println!("missed by more than 15 %:");
        self.missed.iter().for_each(|missed| println!("  {missed}"));
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_missed_by_more_than_the_leeway() {
        let mut goals = Goals::default();
        assert_eq!(goals.at_most("a", 1.1, 1.0), "1.10 (<= 1.00)");
        assert_eq!(goals.at_least("b", 1.6, 1.7), "1.60 (>= 1.70)");
        assert_eq!(goals.at_most("c", 1.2, 1.0), "1.20 (<= 1.00) !");
        assert_eq!(goals.missed, ["c: 1.20 (<= 1.00)"]);
    }

    #[test]
    fn a_program_has_its_cost() {
        let folder = tempfile::tempdir().expect("a folder");
        let (output, told) = (folder.path().join("output"), folder.path().join("told"));
        let cost = Cost::of(Command::new("sh").args(["-c", "echo a; echo b >&2"]), &output, &told).expect("it runs");
        assert!(cost.peak_bytes > 0.0 && cost.wall_s > 0.0);
        assert_eq!(std::fs::read_to_string(output).expect("it was written"), "a\n");
        Cost::of(Command::new("false").arg("x"), &told, &told).expect_err("it fails");
    }
}
