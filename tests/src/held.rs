//! Queries over record batches in memory, in an engine of their own, and what they cost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use async_trait::async_trait;
use squilla_engine::{
    Connector, ConnectorInfo, EngineConfig, EngineError, PartitionReader, ReadEvent, SubscriptionEvent, SystemClock,
};
use squilla_engine::{Policy, SubscribeOptions};

use crate::lab::Lab;
use crate::measure::{forget_peak, own_cpu_s, peak_bytes, resident_bytes};

/// How often state is looked at, while a query runs.
const LOOK: Duration = Duration::from_millis(20);

/// The batches of a partition, with all columns of the source.
pub type Batches = Box<dyn Iterator<Item = RecordBatch> + Send>;

/// What gives a partition's batches to whoever opens it.
pub type Partition = Box<dyn Fn() -> Batches + Send + Sync>;

/// A source of batches, each partition of which is read anew by whoever opens it.
pub struct Held {
    partitions: Vec<Partition>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({} partitions)", self.partitions.len())
    }
}

impl Held {
    /// One that reads these partitions.
    pub fn new(partitions: Vec<Partition>) -> Self {
        Self { partitions }
    }

    /// One that hands over batches that are there already, by turns to so many partitions.
    pub fn of(batches: &[RecordBatch], partitions: usize) -> Self {
        let part = |at: usize| -> Partition {
            let own: Arc<Vec<RecordBatch>> = Arc::new(batches.iter().skip(at).step_by(partitions).cloned().collect());
            Box::new(move || {
                let own = Arc::clone(&own);
                Box::new((0..own.len()).map(move |at| own[at].clone()))
            })
        };
        Self::new((0..partitions).map(part).collect())
    }
}

#[async_trait]
impl Connector for Held {
    fn info(&self) -> ConnectorInfo {
        ConnectorInfo {
            connector: "held",
            label: None,
            bounded: true,
            rereadable: true,
            can_wait: true,
            replay: false,
            options: Vec::new(),
        }
    }

    async fn open(&self, columns: &[usize]) -> Result<Vec<Box<dyn PartitionReader>>, EngineError> {
        let reader = |batches: &Partition| -> Box<dyn PartitionReader> {
            Box::new(Reader { columns: columns.to_vec(), batches: batches() })
        };
        Ok(self.partitions.iter().map(reader).collect())
    }
}

struct Reader {
    columns: Vec<usize>,
    batches: Batches,
}

#[async_trait]
impl PartitionReader for Reader {
    async fn next(&mut self) -> Result<ReadEvent, EngineError> {
        let Some(batch) = self.batches.next() else { return Ok(ReadEvent::End) };
        let (rows, none) = (batch.project(&self.columns)?, Vec::new);
        Ok(ReadEvent::Batch { rows, undecodable: 0, rejects: none(), bytes: 0, receipts: Vec::new() })
    }
}

/// What a query has told and cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    /// Rows of its result.
    pub rows: u64,
    /// Seconds of processors.
    pub cpu_s: f64,
    /// Seconds that passed.
    pub wall_s: f64,
    /// The most bytes of state that its jobs said they hold.
    pub state_bytes: usize,
    /// The most memory of this process beyond what it held before.
    pub grown_bytes: f64,
}

/// Runs a query over one source, from its start to its end, on so many threads.
///
/// # Panics
/// If the statements are refused, or the query fails.
pub fn run(create: &str, held: Held, select: &str, threads: usize) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let mut config = EngineConfig { lossless: true, compute_threads: threads, ..EngineConfig::default() };
        (config.query_state_bytes, config.process_state_bytes) = (64 << 30, 64 << 30);
        let lab = Lab::new(config, Arc::new(SystemClock)).expect("an engine starts");
        let mut held = Some(Arc::new(held));
        let mut connect = |_: &str, _: &_| -> Result<Arc<dyn Connector>, String> {
            Ok(held.take().ok_or("there is one source only")?)
        };
        lab.execute(create, &mut connect).await.expect("the source is right");
        let query = lab.query(select);
        let options = SubscribeOptions { policy: Some(Policy::Block), ..SubscribeOptions::default() };
        forget_peak();
        let (before, cpu_s, started) = (resident_bytes(), own_cpu_s(), Instant::now());
        let mut subscription = lab.engine.subscribe(&query, options).await.expect("the query runs");
        lab.engine.start_sources();
        let mut told = Told::default();
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                event = subscription.next() => match event {
                    SubscriptionEvent::Rows { batch, skip, .. } => told.rows += (batch.rows.num_rows() - skip) as u64,
                    SubscriptionEvent::Progress(_) => {}
                    SubscriptionEvent::Complete(_) => break,
                    other => panic!("{other:?}"),
                },
                _ = looks.tick() => {
                    let bytes = lab.engine.jobs().iter().map(|job| job.state_bytes).sum();
                    told.state_bytes = told.state_bytes.max(bytes);
                }
            }
        }
        told.cpu_s = own_cpu_s() - cpu_s;
        told.wall_s = started.elapsed().as_secs_f64();
        told.grown_bytes = peak_bytes() - before;
        drop(subscription);
        lab.engine.shutdown().await;
        told
    })
}
