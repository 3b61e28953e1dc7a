//! What a run did: counted from the ledgers of its jobs and from what the system says of the process.

use std::time::Instant;

use serde::Serialize;
use squilla_engine::{CountersSnapshot, Engine, JobInfo};

/// Kind of the jobs that read from outside, as [`squilla_engine::JobInfo::kind`] has it.
const SOURCE_KIND: &str = "source";

/// The line that `--stats` prints.
#[derive(Debug, Serialize)]
pub(super) struct Stats {
    /// Records that the sources read, decodable or not.
    events_in: u64,
    /// Rows written to standard output and by sinks.
    rows_out: u64,
    /// Rows that came too late for all their windows.
    late: u64,
    /// Rows that were undecodable, without event time, failed or overtaken.
    dropped: u64,
    /// Seconds since the start.
    wall_s: f64,
    /// Seconds of processor time, of user and system.
    cpu_s: f64,
    /// Most memory that the process held, in bytes.
    peak_memory_bytes: u64,
}

/// The counts of all jobs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) events_in: u64,
    sum: CountersSnapshot,
}

impl Totals {
    /// The counts now. `left`: jobs that may be gone since.
    pub(super) fn of(engine: &Engine, left: &[JobInfo]) -> Self {
        let mut totals = Self::default();
        let jobs = engine.jobs();
        let gone = left.iter().filter(|job| jobs.iter().all(|other| other.id != job.id));
        for job in jobs.iter().chain(gone) {
            if job.kind == SOURCE_KIND {
                totals.events_in += job.counters.rows_in;
            }
            totals.sum = totals.sum + job.counters;
        }
        totals
    }

    fn late(&self) -> u64 {
        self.sum.late + self.sum.late_idle
    }

    fn dropped(&self) -> u64 {
        self.sum.undecodable + self.sum.without_event_time + self.sum.failed + self.sum.dropped
    }

    /// What of the input is not in the answer, in a sentence; `None` when all is.
    pub(super) fn notice(&self, engine: &Engine, gap_rows: u64) -> Option<String> {
        let counts = [
            (self.late(), "late"),
            (self.sum.undecodable, "undecodable"),
            (self.sum.without_event_time, "without event time"),
            (self.sum.failed, "failed"),
            (self.sum.dropped + gap_rows, "dropped"),
        ];
        let parts: Vec<String> =
            counts.iter().filter(|(rows, _)| *rows > 0).map(|(rows, what)| format!("{rows} {what}")).collect();
        let rows = (!parts.is_empty()).then(|| format!("rows not in the result: {}", parts.join(", ")));
        let failed = self.sum.pairs_failed;
        let pairs = (failed > 0).then(|| format!("pairs on which a join's condition failed: {failed}"));
        let said: Vec<String> = rows.into_iter().chain(pairs).collect();
        if said.is_empty() {
            return None;
        }
        let sample = first_sample(engine).map(|reason| format!("; first: {reason}")).unwrap_or_default();
        Some(format!("note: {}{sample}", said.join("; ")))
    }
}

/// Why the first record was set aside.
fn first_sample(engine: &Engine) -> Option<String> {
    let jobs = engine.jobs().into_iter().map(|job| job.id);
    let mut samples = jobs.filter_map(|job| engine.failed_samples(&job).ok()).flatten();
    samples.next().map(|sample| sample.reason)
}

impl Stats {
    /// What was done since the start.
    pub(super) fn since(started: Instant, totals: &Totals, rows_out: u64, gap_rows: u64) -> Self {
        let usage = Usage::now();
        Self {
            events_in: totals.events_in,
            rows_out,
            late: totals.late(),
            dropped: totals.dropped() + gap_rows,
            wall_s: started.elapsed().as_secs_f64(),
            cpu_s: usage.cpu_s,
            peak_memory_bytes: usage.peak_memory_bytes,
        }
    }
}

struct Usage {
    cpu_s: f64,
    peak_memory_bytes: u64,
}

impl Usage {
    fn now() -> Self {
        // SAFETY: `rusage` is plain numbers, for which all zeros is a value; the call only writes to it.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
            usage
        };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        // Linux counts the peak in KiB, macOS in bytes.
        let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
        Self {
            cpu_s: seconds(usage.ru_utime) + seconds(usage.ru_stime),
            peak_memory_bytes: own_peak().unwrap_or(u64::try_from(usage.ru_maxrss).unwrap_or(0) * unit),
        }
    }
}

/// The peak since this program began. `getrusage` counts that of whoever started it too, where it was forked.
fn own_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_used_something() {
        let usage = Usage::now();
        assert!(usage.peak_memory_bytes > 1 << 20);
        assert!(usage.cpu_s >= 0.0);
    }
}
