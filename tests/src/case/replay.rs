//! Sources that hand over rows as a test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use squilla_engine::{Connector, ConnectorInfo, EngineError, PartitionReader, ReadEvent, Reject};
use tokio::sync::{mpsc, watch};

/// Events that a live partition holds for its reader at the most.
const QUEUE_EVENTS: usize = 1024;

/// What is handed over at once.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Rows with all columns of the source.
    pub rows: RecordBatch,
    /// Reasons of the records that did not decode.
    pub undecodable: Vec<String>,
}

impl Delivery {
    fn event(&self, columns: &[usize]) -> Result<ReadEvent, EngineError> {
        let schema = Arc::new(self.rows.schema().project(columns)?);
        let arrays = columns.iter().map(|column| self.rows.column(*column).clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(schema, arrays, &options)?;
        let reject =
            |reason: &String| Reject { place: "a test".to_owned(), reason: reason.clone(), record: "?".to_owned() };
        let rejects = self.undecodable.iter().map(reject).collect();
        Ok(ReadEvent::Batch {
            rows,
            undecodable: self.undecodable.len() as u64,
            rejects,
            bytes: 0,
            receipts: Vec::new(),
        })
    }
}

/// Bounded partitions that can be read again from their start, as files.
#[derive(Debug)]
pub struct Replay {
    /// What each partition holds.
    pub partitions: Vec<Vec<Delivery>>,
}

#[async_trait]
impl Connector for Replay {
    fn info(&self) -> ConnectorInfo {
        info(true)
    }

    async fn open(&self, columns: &[usize]) -> Result<Vec<Box<dyn PartitionReader>>, EngineError> {
        let reader = |deliveries: &Vec<Delivery>| -> Box<dyn PartitionReader> {
            Box::new(ReplayReader { columns: columns.to_vec(), deliveries: deliveries.clone().into() })
        };
        Ok(self.partitions.iter().map(reader).collect())
    }
}

fn info(bounded: bool) -> ConnectorInfo {
    ConnectorInfo {
        connector: "replay",
        label: None,
        bounded,
        rereadable: bounded,
        can_wait: true,
        replay: false,
        options: Vec::new(),
    }
}

struct ReplayReader {
    columns: Vec<usize>,
    deliveries: VecDeque<Delivery>,
}

#[async_trait]
impl PartitionReader for ReplayReader {
    async fn next(&mut self) -> Result<ReadEvent, EngineError> {
        match self.deliveries.pop_front() {
            Some(delivery) => delivery.event(&self.columns),
            None => Ok(ReadEvent::End),
        }
    }
}

/// Live partitions, whose rows come when the test sends them. They can be opened once.
#[derive(Debug)]
pub struct Live {
    readers: Mutex<Vec<(mpsc::Receiver<Told>, watch::Sender<u64>)>>,
}

/// The test's end of a partition of a [`Live`] source.
#[derive(Debug)]
pub struct Feeder {
    queue: mpsc::Sender<Told>,
    handled: watch::Receiver<u64>,
    told: u64,
}

/// What a [`Feeder`] tells.
#[derive(Debug)]
enum Told {
    Rows(Delivery),
    Empty,
    End,
}

impl Live {
    /// A source and what feeds its partitions.
    pub fn new(partitions: usize) -> (Self, Vec<Feeder>) {
        let mut readers = Vec::new();
        let mut feeders = Vec::new();
        for _ in 0..partitions {
            let (queue, queued) = mpsc::channel(QUEUE_EVENTS);
            let (handle, handled) = watch::channel(0);
            readers.push((queued, handle));
            feeders.push(Feeder { queue, handled, told: 0 });
        }
        (Self { readers: Mutex::new(readers) }, feeders)
    }
}

impl Feeder {
    async fn tell(&mut self, told: Told) {
        self.told += 1;
        self.queue.send(told).await.expect("the engine reads its sources until they end");
    }

    /// Rows come.
    pub async fn rows(&mut self, delivery: Delivery) {
        self.tell(Told::Rows(delivery)).await;
    }

    /// The partition is polled, and nothing is there.
    pub async fn empty(&mut self) {
        self.tell(Told::Empty).await;
    }

    /// Nothing will ever come again.
    pub async fn end(&mut self) {
        self.tell(Told::End).await;
    }

    /// Waits until the engine has asked again behind all that was told.
    pub async fn handled(&mut self) {
        let told = self.told;
        self.handled.wait_for(|handled| *handled >= told).await.expect("the engine reads its sources until they end");
    }
}

#[async_trait]
impl Connector for Live {
    fn info(&self) -> ConnectorInfo {
        info(false)
    }

    async fn open(&self, columns: &[usize]) -> Result<Vec<Box<dyn PartitionReader>>, EngineError> {
        let readers = std::mem::take(&mut *self.readers.lock().expect("no holder of this lock panics"));
        assert!(!readers.is_empty(), "a live source is opened once");
        let reader = |(queue, handled)| -> Box<dyn PartitionReader> {
            Box::new(LiveReader { columns: columns.to_vec(), queue, handled, given: 0 })
        };
        Ok(readers.into_iter().map(reader).collect())
    }
}

struct LiveReader {
    columns: Vec<usize>,
    queue: mpsc::Receiver<Told>,
    handled: watch::Sender<u64>,
    /// Events handed over.
    given: u64,
}

#[async_trait]
impl PartitionReader for LiveReader {
    async fn next(&mut self) -> Result<ReadEvent, EngineError> {
        self.handled.send_replace(self.given);
        let told = self.queue.recv().await;
        self.given += 1;
        match told {
            Some(Told::Rows(delivery)) => delivery.event(&self.columns),
            Some(Told::Empty) => Ok(ReadEvent::Empty),
            Some(Told::End) | None => Ok(ReadEvent::End),
        }
    }
}

/// Cuts rows into deliveries of so many records, rows and undecodable ones together.
///
/// # Errors
/// Lines that do not fit the columns.
pub fn deliveries(schema: &SchemaRef, lines: &[String], batch_rows: usize) -> Result<Vec<Delivery>, String> {
    let cut = |lines: &[String]| {
        let mut rows = Vec::new();
        let mut undecodable = Vec::new();
        for line in lines {
            match line.trim().strip_prefix('!') {
                Some(reason) => undecodable.push(reason.trim().to_owned()),
                None => rows.push(super::values::parse_line(line)?),
            }
        }
        Ok(Delivery { rows: super::values::batch(schema, &rows)?, undecodable })
    };
    lines.chunks(batch_rows).map(cut).collect()
}
