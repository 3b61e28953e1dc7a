//! A source of rows that are there already, as Arrow batches: what is measured is what is done with them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use squilla_engine::{Connector, ConnectorInfo, EngineError, PartitionReader, ReadEvent};

/// What it gives: an id among a million, a kind among a hundred, a region among twenty, and two numbers below 1,000.
pub(crate) const COLUMNS: &str = "ts TIMESTAMP, id BIGINT, kind BIGINT, region VARCHAR, price DOUBLE, qty BIGINT, \
                                  WATERMARK FOR ts AS ts";
pub(crate) const IDS: u64 = 1_000_000;
pub(crate) const KINDS: u64 = 100;
pub(crate) const REGIONS: u64 = 20;

/// Rows of a batch at saturation.
pub(crate) const BATCH_ROWS: usize = 8_192;
/// Batches whose ids differ; they come again and again, later.
pub(crate) const BATCHES: usize = 61;
/// Batches whose other columns differ: with the ids ten megabytes, which stay near, as what a source has just made does.
const OTHERS: usize = 16;
/// Event time between two rows, in nanoseconds.
pub(crate) const STEP_NS: i64 = 1_000;

/// How it gives its rows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As fast as they are taken, so many batches.
    Saturating { batches: usize },
    /// So many rows at once, so often, until nobody is left. The event time is the time since `start`.
    Steady { rows: usize, every: Duration, start: Instant },
}

#[derive(Debug)]
pub(crate) struct Generator {
    pub(crate) pace: Pace,
    pub(crate) schema: SchemaRef,
}

#[async_trait]
impl Connector for Generator {
    fn info(&self) -> ConnectorInfo {
        let saturating = matches!(self.pace, Pace::Saturating { .. });
        ConnectorInfo {
            connector: "generator",
            label: None,
            bounded: saturating,
            rereadable: false,
            can_wait: saturating,
            replay: false,
            options: Vec::new(),
        }
    }

    async fn open(&self, columns: &[usize]) -> Result<Vec<Box<dyn PartitionReader>>, EngineError> {
        let rows = match self.pace {
            Pace::Saturating { .. } => BATCH_ROWS,
            Pace::Steady { rows, .. } => rows,
        };
        let (ids, others) = (ids(rows), others(rows));
        let schema = Arc::new(self.schema.project(columns)?);
        let columns = columns.to_vec();
        Ok(vec![Box::new(Reader { pace: self.pace, schema, columns, ids, others, given: 0, due: Instant::now() })])
    }
}

struct Reader {
    pace: Pace,
    schema: SchemaRef,
    columns: Vec<usize>,
    ids: Vec<ArrayRef>,
    /// All columns behind the id.
    others: Vec<Vec<ArrayRef>>,
    given: usize,
    due: Instant,
}

#[async_trait]
impl PartitionReader for Reader {
    async fn next(&mut self) -> Result<ReadEvent, EngineError> {
        let times = match self.pace {
            Pace::Saturating { batches } if self.given == batches => return Ok(ReadEvent::End),
            Pace::Saturating { .. } => {
                let first = (self.given * BATCH_ROWS) as i64;
                TimestampNanosecondArray::from_iter_values((first..first + BATCH_ROWS as i64).map(|at| at * STEP_NS))
            }
            Pace::Steady { rows, every, start } => {
                tokio::time::sleep_until(self.due.into()).await;
                self.due += every;
                let now = i64::try_from(start.elapsed().as_nanos()).expect("not that long");
                TimestampNanosecondArray::from_value(now, rows)
            }
        };
        let mut all: Vec<ArrayRef> = vec![Arc::new(times), self.ids[self.given % BATCHES].clone()];
        all.extend(self.others[self.given % OTHERS].iter().cloned());
        self.given += 1;
        let columns = self.columns.iter().map(|at| all[*at].clone()).collect();
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        Ok(ReadEvent::Batch { rows, undecodable: 0, rejects: Vec::new(), bytes: 0, receipts: Vec::new() })
    }
}

/// Ids of all batches.
pub(crate) fn ids(rows: usize) -> Vec<ArrayRef> {
    let mut random = Random(7);
    (0..BATCHES).map(|_| whole(&mut random, rows, IDS)).collect()
}

/// The columns behind the id, of all batches.
pub(crate) fn others(rows: usize) -> Vec<Vec<ArrayRef>> {
    let mut random = Random(11);
    (0..OTHERS).map(|_| values(&mut random, rows)).collect()
}

fn values(random: &mut Random, rows: usize) -> Vec<ArrayRef> {
    let (kinds, quantities) = (whole(random, rows, KINDS), whole(random, rows, 1_000));
    let regions = StringArray::from_iter_values((0..rows).map(|_| format!("region {}", random.below(REGIONS))));
    let prices = Float64Array::from_iter_values((0..rows).map(|_| random.below(1_000_000) as f64 / 1_000.0));
    vec![kinds, Arc::new(regions), Arc::new(prices), quantities]
}

fn whole(random: &mut Random, rows: usize, below: u64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values((0..rows).map(|_| random.below(below).cast_signed())))
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % limit
    }
}
