//! `http`: rows that clients publish.
//!
//! A body is decoded where it is published, so that the publisher learns what was rejected and why; its rows then
//! wait in a queue for the one reader. A full queue refuses the body: nothing that was accepted is lost.

mod numbered;

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use bytes::Bytes;
use squilla_engine::{
    Connector, ConnectorInfo, EngineError, PartitionReader, ProducerMark, Producers, ReadEvent, Receipt,
};
use squilla_query::{CreateSource, Diagnostic};
use tokio::sync::{Notify, oneshot};

use crate::define::{Made, WATERMARK_DELAY, record_column, relaxed, timestamp_unit};
use crate::format::column::is_decodable;
use crate::format::json::{self, JsonDecoder};
use crate::format::scalar::TimestampUnit;
use crate::format::{BATCH_ROWS, Decoded};
use crate::options::Options;
use crate::{Numbered, PublishError, PublishReject, PublishReport, Publishers, SourceEnv};

use numbered::Numbers;

/// Rows that wait for the reader at the most: about a second of a busy source.
const QUEUE_ROWS: usize = 262_144;
/// Bytes of rows that wait at the most.
const QUEUE_BYTES: usize = 64 << 20;
/// Bodies that wait at the most: small ones cost more than their rows.
const QUEUE_BODIES: usize = 65_536;
/// Rejected records of a body that are told.
const TOLD_REJECTS: usize = 100;
/// How long a reader waits for rows.
const WAIT: Duration = Duration::from_millis(100);
/// Bodies from this size on are decoded on a thread that may be busy, in bytes.
const LARGE_BODY: usize = 128 << 10;

pub(super) const DESCRIPTION: &str =
    "takes rows that clients publish by POST /api/v1/streams/{name}/events: NDJSON or a JSON array";
pub(super) const OPTIONS: [(&str, &str); 3] = [
    ("format", "'json', which is the only one"),
    ("record_column", "of JSON: the JSON column that takes each record as a whole"),
    ("timestamp_unit", "what numbers read as TIMESTAMP count: 's', 'ms' (unless said), 'us' or 'ns'"),
];

/// Takes what is published.
#[derive(Debug)]
pub(crate) struct HttpConnector {
    name: String,
    queue: Arc<Queue>,
    registry: Arc<Publishers>,
    options: Vec<(String, String)>,
}

pub(crate) fn define(
    create: &CreateSource,
    env: &SourceEnv,
    options: &mut Options<'_>,
    receipts: bool,
) -> Result<Made, Vec<Diagnostic>> {
    options.choice("format", (), &[("json", ()), ("ndjson", ()), ("jsonl", ())]);
    let unit = timestamp_unit(options);
    let record = record_column(create, options);
    if options.has_mistakes() {
        return Err(Vec::new());
    }
    let Some(declared) = &create.schema else {
        let message = format!("the columns of \"{}\" are not known before its first events", create.name);
        return Err(vec![Diagnostic::new("needs_events", message).help("publish some, or declare the columns")]);
    };
    let wrong = declared.fields().iter().find(|field| !is_decodable(field.data_type(), true));
    if let Some(field) = wrong {
        let message = format!("column \"{}\" cannot have type {} here", field.name(), field.data_type());
        return Err(vec![
            Diagnostic::new("unsupported", message).help("declare it as VARCHAR, and cast it in the query"),
        ]);
    }
    let schema = relaxed(declared);
    let queue = Arc::new(Queue {
        schema: schema.clone(),
        unit,
        record,
        receipts,
        waiting: Mutex::default(),
        arrived: Notify::new(),
        numbers: Numbers::default(),
    });
    env.publishers.register(&create.name, &queue);
    let connector = HttpConnector {
        name: create.name.clone(),
        queue,
        registry: env.publishers.clone(),
        options: create.options.iter().map(|option| (option.name.clone(), option.value.clone())).collect(),
    };
    Ok(Made { schema, connector: Arc::new(connector), delay: WATERMARK_DELAY })
}

#[async_trait]
impl Connector for HttpConnector {
    fn info(&self) -> ConnectorInfo {
        ConnectorInfo {
            connector: "http",
            label: None,
            bounded: false,
            rereadable: false,
            can_wait: false,
            replay: false,
            options: self.options.clone(),
        }
    }

    fn resume(&self, producers: Producers) {
        self.queue.numbers.resume(producers);
    }

    async fn open(&self, columns: &[usize]) -> Result<Vec<Box<dyn PartitionReader>>, EngineError> {
        // A source of the same name may have been dropped and live on in a job that lingers.
        self.registry.take_over(&self.name, &self.queue);
        self.queue.waiting().ended = false;
        let schema = Arc::new(self.queue.schema.project(columns)?);
        Ok(vec![Box::new(HttpReader {
            name: self.name.clone(),
            queue: self.queue.clone(),
            columns: columns.to_vec(),
            schema,
        })])
    }
}

/// The rows of one source that wait for their reader.
#[derive(Debug)]
pub(crate) struct Queue {
    schema: SchemaRef,
    unit: TimestampUnit,
    /// The column that takes each record as a whole.
    record: Option<String>,
    /// Publishers wait until their rows are committed.
    receipts: bool,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    numbers: Numbers,
}

#[derive(Debug, Default)]
struct Waiting {
    /// There was a reader, and there is none any more.
    ended: bool,
    batches: VecDeque<Share>,
    rows: usize,
    bytes: usize,
}

/// A part of a body.
#[derive(Debug)]
struct Share {
    decoded: Decoded,
    body_bytes: u64,
    receipt: Option<Receipt>,
}

type Committed = oneshot::Receiver<Result<(), Arc<EngineError>>>;

impl Queue {
    /// Queues the rows of a body. What comes tells that they are committed.
    fn publish(
        &self,
        body: &[u8],
        numbered: Option<&Numbered>,
    ) -> Result<(PublishReport, Vec<Committed>), PublishError> {
        let mut decoded = self.decode(body)?;
        if numbered.is_some() {
            decoded = self.together(decoded)?;
        }
        let mut report = PublishReport { accepted: 0, rejected: 0, errors: Vec::new() };
        let mut bytes = 0;
        for batch in &decoded {
            report.accepted += batch.rows.num_rows() as u64;
            report.rejected += batch.undecodable;
            bytes += batch.rows.get_array_memory_size();
            for reject in &batch.rejects {
                if report.errors.len() < TOLD_REJECTS {
                    report.errors.push(PublishReject { line: reject.line, reason: reject.reason.clone() });
                }
            }
        }
        let rows = usize::try_from(report.accepted).expect("rows in memory");
        let mark = numbered.map(|Numbered { producer, sequence }| {
            let (accepted, rejected) = (report.accepted, report.rejected);
            ProducerMark { producer: producer.clone(), sequence: *sequence, accepted, rejected }
        });
        let committed = self.push(decoded, [rows, bytes, body.len()], mark)?;
        Ok((report, committed))
    }

    fn push(
        &self,
        decoded: Vec<Decoded>,
        [rows, bytes, body_bytes]: [usize; 3],
        mut mark: Option<ProducerMark>,
    ) -> Result<Vec<Committed>, PublishError> {
        let mut waiting = self.waiting();
        if waiting.ended {
            return Err(PublishError::NotStored(ENDED.to_owned()));
        }
        // A body that is larger than the queue can be taken by an empty one only.
        let is_full = waiting.rows + rows > QUEUE_ROWS
            || waiting.bytes + bytes > QUEUE_BYTES
            || waiting.batches.len() >= QUEUE_BODIES;
        if is_full && !waiting.batches.is_empty() {
            return Err(PublishError::Full { limit: QUEUE_ROWS });
        }
        waiting.rows += rows;
        waiting.bytes += bytes;
        let share = body_bytes as u64 / decoded.len().max(1) as u64;
        let mut committed = Vec::new();
        for decoded in decoded {
            let receipt = self.receipts.then(oneshot::channel).map(|(told, result)| {
                committed.push(result);
                Receipt { told, mark: mark.take() }
            });
            waiting.batches.push_back(Share { decoded, body_bytes: share, receipt });
        }
        drop(waiting);
        self.arrived.notify_one();
        Ok(committed)
    }

    fn decode(&self, body: &[u8]) -> Result<Vec<Decoded>, PublishError> {
        let mut decoder = JsonDecoder::new(self.schema.clone(), self.unit).with_record(self.record.as_deref());
        let mut decoded = Vec::new();
        if let Some(elements) = elements(body)? {
            for elements in elements.chunks(BATCH_ROWS) {
                decoded.push(decoder.decode_elements(body, elements));
            }
            return Ok(decoded);
        }
        let mut at = 0;
        while at < body.len() {
            let (used, batch) = decoder.decode(&body[at..], true);
            at += used;
            decoded.push(batch);
        }
        Ok(decoded)
    }

    /// What waits, up to a batch.
    fn pop(&self) -> Vec<Share> {
        let mut waiting = self.waiting();
        let mut taken = Vec::new();
        let mut rows = 0;
        while let Some(share) = waiting.batches.front() {
            rows += share.decoded.rows.num_rows();
            if rows > BATCH_ROWS && !taken.is_empty() {
                break;
            }
            let share = waiting.batches.pop_front().expect("it was looked at above");
            waiting.rows -= share.decoded.rows.num_rows();
            waiting.bytes -= share.decoded.rows.get_array_memory_size();
            taken.push(share);
        }
        taken
    }

    /// Nobody reads on: who waits for a receipt learns it.
    fn end(&self) {
        *self.waiting() = Waiting { ended: true, ..Waiting::default() };
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no holder of this lock panics")
    }
}

/// Why nothing more is taken.
const ENDED: &str = "the source has ended";

/// The places of the objects of an array, or of one object over several lines; `None`: the body is lines.
fn elements(body: &[u8]) -> Result<Option<Vec<Range<usize>>>, PublishError> {
    let start = json::skip_space(body, 0);
    let malformed = |fault: json::Fault| PublishError::Malformed(fault.to_string());
    match body.get(start) {
        None => Err(PublishError::Malformed("it is empty".to_owned())),
        Some(b'[') => {
            let mut elements = Vec::new();
            let end = json::array(body, start, 0, |element| {
                elements.push(element);
                Ok(())
            });
            let rest = json::skip_space(body, end.map_err(malformed)?);
            if rest < body.len() {
                return Err(PublishError::Malformed(format!("text behind the array at byte {}", rest + 1)));
            }
            Ok(Some(elements))
        }
        Some(_) => {
            let line = memchr::memchr(b'\n', &body[start..]).map_or(body.len(), |length| start + length);
            if json::object(&body[..line], start, 0, |_, _| Ok(())).is_ok() {
                return Ok(None);
            }
            // The first line is no object: perhaps the object has more lines.
            match json::object(body, start, 0, |_, _| Ok(())) {
                Ok(end) if json::skip_space(body, end) == body.len() => Ok(Some(std::iter::once(start..end).collect())),
                _ => Ok(None),
            }
        }
    }
}

struct HttpReader {
    name: String,
    queue: Arc<Queue>,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl HttpReader {
    fn event(&self, taken: Vec<Share>) -> Result<ReadEvent, EngineError> {
        let (mut undecodable, mut bytes) = (0, 0);
        let mut rejects = Vec::new();
        let mut batches: Vec<RecordBatch> = Vec::with_capacity(taken.len());
        let of = format!("a body published to {}", self.name);
        let mut receipts = Vec::new();
        for Share { decoded, body_bytes, receipt } in taken {
            undecodable += decoded.undecodable;
            bytes += body_bytes;
            receipts.extend(receipt);
            rejects.extend(decoded.rejects.into_iter().map(|reject| reject.into_reject(&of)));
            batches.push(decoded.rows.project(&self.columns)?);
        }
        let rows = if batches.len() == 1 { batches.swap_remove(0) } else { concat_batches(&self.schema, &batches)? };
        Ok(ReadEvent::Batch { rows, undecodable, rejects, bytes, receipts })
    }
}

impl Drop for HttpReader {
    fn drop(&mut self) {
        self.queue.end();
    }
}

#[async_trait]
impl PartitionReader for HttpReader {
    async fn next(&mut self) -> Result<ReadEvent, EngineError> {
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            let taken = self.queue.pop();
            if !taken.is_empty() {
                return self.event(taken);
            }
            // Rows that arrive in between leave a permit.
            if tokio::time::timeout_at(deadline, self.queue.arrived.notified()).await.is_err() {
                return Ok(ReadEvent::Empty);
            }
        }
    }
}

/// The `http` sources by name.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<HashMap<String, Weak<Queue>>>);

impl Registry {
    fn find(&self, source: &str) -> Option<Arc<Queue>> {
        self.0.lock().expect("no holder of this lock panics").get(source)?.upgrade()
    }
}

impl Publishers {
    /// Makes a queue known while someone holds it. One that is known already and alive is kept.
    fn register(&self, source: &str, queue: &Arc<Queue>) {
        let mut known = self.registry.0.lock().expect("no holder of this lock panics");
        known.retain(|_, queue| queue.strong_count() > 0);
        known.entry(source.to_owned()).or_insert_with(|| Arc::downgrade(queue));
    }

    /// As [`Publishers::register`], in place of whoever is known by that name.
    fn take_over(&self, source: &str, queue: &Arc<Queue>) {
        let mut known = self.registry.0.lock().expect("no holder of this lock panics");
        known.insert(source.to_owned(), Arc::downgrade(queue));
    }

    /// Decodes a body (NDJSON, a JSON array of objects, or one object) against the columns of the source and queues
    /// its rows. Rows that do not decode are rejected one by one and counted by the source. A stream that lasts
    /// answers when the rows are committed: if it is durable, when they are on disk.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was taken then, but for [`PublishError::NotStored`].
    pub async fn publish(&self, source: &str, body: Bytes) -> Result<PublishReport, PublishError> {
        let queue = self.registry.find(source).ok_or_else(|| PublishError::Unknown(source.to_owned()))?;
        let (report, committed) = decoding(body, move |body| queue.publish(body, None)).await?;
        settled(committed).await?;
        Ok(report)
    }
}

/// Decodes a body, which takes a while if it is large.
async fn decoding<T: Send + 'static>(body: Bytes, decode: impl FnOnce(&[u8]) -> T + Send + 'static) -> T {
    if body.len() < LARGE_BODY {
        return decode(&body);
    }
    let decoded = tokio::task::spawn_blocking(move || decode(&body)).await;
    decoded.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// The first cause of an error: what a publisher can wait for to change.
fn reason(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}

/// Returns when all is committed.
async fn settled(committed: Vec<Committed>) -> Result<(), PublishError> {
    for told in committed {
        match told.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(PublishError::NotStored(reason(error.as_ref()))),
            Err(_) => return Err(PublishError::NotStored(ENDED.to_owned())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
