//! `generator`: synthetic plays of a streaming service, from a seed.
//!
//! Rates differ by orders of magnitude between titles, devices and countries. About one play in a hundred fails;
//! faults make some fail more often, from the start or while it runs ([`crate::FaultControl`]).
//!
//! - `rate` rows a second (default 1,000), evenly; `0` or `'max'`: as fast as they are read.
//! - `rows = N` ends it after N rows: then it is bounded, starts at 2026-01-01T00:00:00Z unless `start` says otherwise,
//!   is as fast as it is read unless `rate` says otherwise, and gives the same rows each time.
//! - The event time advances by 1/rate a row; without a rate, by 100 µs in bounded sources, and is the clock's in
//!   others. `disorder` makes each row earlier by up to so much; the watermark stays behind by as much unless a
//!   WATERMARK clause says otherwise, so that no row is late.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use squilla_engine::{Clock, Connector, ConnectorInfo, EngineError, EventTime, PartitionReader, ReadEvent};
use squilla_query::{CreateSource, Diagnostic};

use super::plays::{self, Plays};
use crate::SourceEnv;
use crate::define::{Made, refuse_columns};
use crate::faults::{Fault, FaultControl, Faults};
use crate::format::BATCH_ROWS;
use crate::format::scalar;
use crate::options::Options;

/// Rows a second unless the definition says otherwise.
const RATE: u64 = 1_000;
/// Fastest rate that can be asked for, in rows a second.
const MAX_RATE: u64 = 100_000_000;
/// Event-time rate of bounded sources without a rate, in rows a second.
const UNPACED_RATE: u64 = 10_000;
/// Where bounded sources start: 2026-01-01T00:00:00Z.
const BOUNDED_START: i64 = 1_767_225_600_000_000_000;
/// How often rows are made at slow rates: rows wait no longer than this.
const TICK_NS: i64 = 15_000_000;
/// How far behind its rate a source may be before it lets rows go by.
const MAX_BEHIND_NS: i64 = 1_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;

pub(super) const DESCRIPTION: &str = "makes synthetic plays of a streaming service, from a seed";
pub(super) const OPTIONS: [(&str, &str); 6] = [
    ("rate", "rows a second, 1000 unless said; 'max': as fast as they are read"),
    ("rows", "ends after so many rows, which are the same each time"),
    ("disorder", "how much earlier than the row before a row's event time may be: '0s' unless said"),
    ("seed", "a number; another one gives other rows"),
    ("start", "event time of the first row"),
    ("faults", "plays that fail more often: 'device=tv, country=BR, rate=0.5; …'"),
];

/// How fast rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rate {
    Max,
    PerSecond(u64),
}

/// Makes plays.
#[derive(Debug)]
pub(crate) struct Generator {
    name: String,
    rate: Rate,
    rows: Option<u64>,
    disorder: Duration,
    seed: u64,
    start: Option<i64>,
    clock: Arc<dyn Clock>,
    faults: Arc<Faults>,
    control: Arc<FaultControl>,
    options: Vec<(String, String)>,
}

pub(crate) fn define(
    create: &CreateSource,
    env: &SourceEnv,
    options: &mut Options<'_>,
) -> Result<Made, Vec<Diagnostic>> {
    let rows = options.integer("rows");
    let rate = rate(options, rows);
    let disorder = options.duration("disorder", Duration::ZERO);
    let seed = options.integer("seed").unwrap_or(0);
    let start = start(options);
    let initial = faults(options, seed);
    refuse_columns(create, "generator")?;
    if options.has_mistakes() {
        return Err(Vec::new());
    }
    let faults = Arc::new(Faults::default());
    faults.set(initial);
    env.faults.register(&create.name, &faults);
    let connector = Generator {
        name: create.name.clone(),
        rate,
        rows,
        disorder,
        seed,
        start,
        clock: env.clock.clone(),
        faults,
        control: env.faults.clone(),
        options: create.options.iter().map(|option| (option.name.clone(), option.value.clone())).collect(),
    };
    Ok(Made { schema: plays::schema(), connector: Arc::new(connector), delay: disorder })
}

fn rate(options: &mut Options<'_>, rows: Option<u64>) -> Rate {
    let Some(text) = options.text("rate") else {
        return if rows.is_some() { Rate::Max } else { Rate::PerSecond(RATE) };
    };
    match text.trim().replace('_', "").parse() {
        Ok(0) => Rate::Max,
        Ok(rate) if rate <= MAX_RATE => Rate::PerSecond(rate),
        _ if text.trim().eq_ignore_ascii_case("max") => Rate::Max,
        _ => {
            let message = format!("option \"rate\" has value \"{text}\"");
            options.bad_value("rate", message, format!("write rows a second, at most {MAX_RATE}, or 'max'"));
            Rate::Max
        }
    }
}

fn start(options: &mut Options<'_>) -> Option<i64> {
    let text = options.text("start")?;
    let start = scalar::timestamp(text.trim().as_bytes());
    if start.is_none() {
        let message = format!("option \"start\" has value \"{text}\", which is not a timestamp");
        options.bad_value("start", message, "write a timestamp like '2026-01-01T00:00:00Z'");
    }
    start
}

/// `title=Amber Harbor, device=tv, country=BR, rate=0.5; …`
fn faults(options: &mut Options<'_>, seed: u64) -> Vec<Fault> {
    const HELP: &str = "write 'device=tv, country=BR, rate=0.5'; several are set apart by semicolons";
    let Some(text) = options.text("faults") else { return Vec::new() };
    let plays = Plays::new(seed, 0);
    let mut faults = Vec::new();
    for part in text.split(';').filter(|part| !part.trim().is_empty()) {
        let mut fault = Fault { title: None, device: None, country: None, failure_rate: -1.0 };
        for pair in part.split(',') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.trim().to_owned();
            match name.trim() {
                "title" => fault.title = Some(value),
                "device" => fault.device = Some(value),
                "country" => fault.country = Some(value),
                "rate" | "failure_rate" => fault.failure_rate = value.parse().unwrap_or(-1.0),
                other => {
                    options.bad_value("faults", format!("a fault has no \"{other}\""), HELP);
                    return faults;
                }
            }
        }
        if !(0.0..=1.0).contains(&fault.failure_rate) {
            options.bad_value("faults", "a fault needs a rate from 0 to 1", HELP);
        } else if let Some(word) = plays.unknown(&fault) {
            options.bad_value("faults", format!("no play has \"{word}\""), HELP);
        }
        faults.push(fault);
    }
    faults
}

#[async_trait]
impl Connector for Generator {
    fn info(&self) -> ConnectorInfo {
        let bounded = self.rows.is_some();
        ConnectorInfo {
            connector: "generator",
            label: Some("synthetic".to_owned()),
            bounded,
            rereadable: bounded,
            can_wait: bounded || self.rate == Rate::Max,
            replay: bounded || self.start.is_some(),
            options: self.options.clone(),
        }
    }

    async fn open(&self, columns: &[usize]) -> Result<Vec<Box<dyn PartitionReader>>, EngineError> {
        self.control.take_over(&self.name, &self.faults);
        let opened = self.clock.now().0;
        let start = self.start.unwrap_or(if self.rows.is_some() { BOUNDED_START } else { opened });
        Ok(vec![Box::new(GeneratorReader {
            plays: Plays::new(self.seed, self.disorder.as_nanos().try_into().unwrap_or(u64::MAX >> 1)),
            schema: Arc::new(plays::schema().project(columns)?),
            columns: columns.to_vec(),
            rate: self.rate,
            rows: self.rows.unwrap_or(u64::MAX),
            is_clocked: self.rows.is_none() && self.start.is_none() && self.rate == Rate::Max,
            start,
            next: 0,
            due_since: opened,
            due_rows: 0,
            clock: self.clock.clone(),
            faults: self.faults.clone(),
        })])
    }
}

struct GeneratorReader {
    plays: Plays,
    schema: SchemaRef,
    columns: Vec<usize>,
    rate: Rate,
    rows: u64,
    /// The event time is the clock's.
    is_clocked: bool,
    start: i64,
    /// Number of the next row.
    next: u64,
    /// From this moment rows come at the rate, and so many have come since.
    due_since: i64,
    due_rows: u64,
    clock: Arc<dyn Clock>,
    faults: Arc<Faults>,
}

impl GeneratorReader {
    fn times(&self, rows: usize) -> Vec<i64> {
        if self.is_clocked {
            return vec![self.clock.now().0; rows];
        }
        let rate = match self.rate {
            Rate::Max => UNPACED_RATE,
            Rate::PerSecond(rate) => rate,
        };
        let past = u128::from(self.next) * u128::from(SECOND_NS.unsigned_abs());
        let base = self.start.saturating_add(i64::try_from(past / u128::from(rate)).unwrap_or(i64::MAX));
        let rest = u64::try_from(past % u128::from(rate)).expect("less than the rate");
        // Below 10^8 + 8,192 * 10^9.
        let time = |at: u64| (rest + at * SECOND_NS.unsigned_abs()) / rate;
        (0..rows as u64).map(|at| base.saturating_add(time(at).cast_signed())).collect()
    }

    fn make(&mut self, rows: usize) -> Result<ReadEvent, EngineError> {
        let times = self.times(rows);
        let columns = self.plays.columns(self.next, &times, &self.columns, &self.faults.get());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        self.next += rows as u64;
        self.due_rows += rows as u64;
        // Nothing was read from outside.
        Ok(ReadEvent::Batch { rows: batch, undecodable: 0, rejects: Vec::new(), bytes: 0, receipts: Vec::new() })
    }

    /// Rows that are due by now.
    fn due(&mut self, rate: u64) -> u64 {
        let past = self.clock.now().0.saturating_sub(self.due_since).max(0);
        let count = |past: i64| {
            let rows = u128::from(past.unsigned_abs()) * u128::from(rate) / u128::from(SECOND_NS.unsigned_abs());
            u64::try_from(rows).unwrap_or(u64::MAX)
        };
        let due = count(past).saturating_sub(self.due_rows);
        if due > count(MAX_BEHIND_NS).max(1) {
            // Nobody read for long, or the machine is too slow: the rate counts anew.
            self.due_since += past - MAX_BEHIND_NS;
            self.due_rows = 0;
            if self.rows == u64::MAX {
                // The event time stays with the clock.
                self.next += due - count(MAX_BEHIND_NS);
            }
            return count(MAX_BEHIND_NS);
        }
        due
    }
}

#[async_trait]
impl PartitionReader for GeneratorReader {
    async fn next(&mut self) -> Result<ReadEvent, EngineError> {
        let left = self.rows - self.next.min(self.rows);
        if left == 0 {
            return Ok(ReadEvent::End);
        }
        let rows = match self.rate {
            Rate::Max => left,
            Rate::PerSecond(rate) => {
                let mut due = self.due(rate);
                if due == 0 {
                    let now = self.clock.now().0;
                    let a_row = SECOND_NS / i64::try_from(rate).expect("rates are limited");
                    let wait = a_row.clamp(TICK_NS, 100_000_000);
                    self.clock.sleep_until(EventTime(now.saturating_add(wait))).await;
                    due = self.due(rate);
                }
                due.min(left)
            }
        };
        if rows == 0 {
            return Ok(ReadEvent::Empty);
        }
        self.make(usize::try_from(rows).unwrap_or(BATCH_ROWS).min(BATCH_ROWS))
    }
}

#[cfg(test)]
mod tests;
