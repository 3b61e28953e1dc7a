//! Frames of rows: encoded once for all subscribers of a batch.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use axum::extract::ws::Utf8Bytes;
use squilla_engine::{Position, RowKind, StreamBatch};
use squilla_sources::encode::json::write_rows_array;
use tokio::sync::Semaphore;

use super::limits::{FRAME_BYTES, INLINE_ROWS, LARGEST_FRAME_BYTES, RECENT_AGE, RECENT_BYTES};
use super::moment;

/// What a frame takes beside its text, in bytes: itself, and the positions with it.
const FRAME_OVERHEAD_BYTES: usize = 1_024;

/// One message of type `rows`.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// The whole message.
    pub(crate) text: Utf8Bytes,
    /// Rows in it.
    pub(crate) rows: usize,
    /// Where a client is that has read it.
    pub(crate) position: Position,
    /// Where in the message the part begins that does not depend on channel and position.
    shared_from: usize,
}

/// What a subscriber reads of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The channel that the frames name.
    pub(crate) channel: u64,
    /// The batch.
    pub(crate) batch: Arc<StreamBatch>,
    /// Rows of it that the subscriber has already.
    pub(crate) skip: usize,
    /// Behind the batch.
    pub(crate) position: Position,
    /// The rows belong to a snapshot.
    pub(crate) snapshot: bool,
}

/// A batch that cannot be sent: one of its rows is larger than [`LARGEST_FRAME_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge {
    /// Bytes of the row.
    pub(crate) bytes: usize,
}

/// A batch, encoded, with what it was encoded for.
#[derive(Debug)]
struct Encoded {
    channel: u64,
    skip: usize,
    position: Position,
    snapshot: bool,
    frames: Arc<[Frame]>,
    bytes: usize,
}

/// What hangs on a batch: its encoding for as long as someone keeps it.
struct Slot {
    /// One subscriber encodes, the others wait.
    turn: Semaphore,
    encoded: Mutex<Weak<Encoded>>,
}

impl Default for Slot {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), encoded: Mutex::default() }
    }
}

/// Encodes batches, and keeps the latest encodings for subscribers who come a little later.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// In the order in which they were encoded, and when that was.
    kept: VecDeque<(Instant, Arc<Encoded>)>,
    bytes: usize,
}

impl Frames {
    /// The frames of a part of a batch, and whether they had to be encoded.
    pub(crate) async fn of(&self, part: &Part) -> Result<(Arc<[Frame]>, bool), TooLarge> {
        let Some(slot) = part.batch.memo.get_or_init(Slot::default) else {
            return encode(part.clone()).await.map(|frames| (frames, true));
        };
        if let Some(frames) = slot.find(part) {
            return Ok((frames, false));
        }
        let _turn = slot.turn.acquire().await.expect("the semaphore is never closed");
        if let Some(frames) = slot.find(part) {
            return Ok((frames, false));
        }
        let frames = encode(part.clone()).await?;
        let encoded = Arc::new(Encoded {
            channel: part.channel,
            skip: part.skip,
            position: part.position.clone(),
            snapshot: part.snapshot,
            bytes: frames.iter().map(|frame| frame.text.len() + FRAME_OVERHEAD_BYTES).sum(),
            frames: frames.clone(),
        });
        *slot.encoded.lock().expect("no holder of this lock panics") = Arc::downgrade(&encoded);
        self.recent.lock().expect("no holder of this lock panics").keep(encoded, Instant::now());
        Ok((frames, true))
    }
}

impl Recent {
    fn keep(&mut self, encoded: Arc<Encoded>, now: Instant) {
        self.bytes += encoded.bytes;
        self.kept.push_back((now, encoded));
        while let Some((since, oldest)) = self.kept.front()
            && (self.bytes > RECENT_BYTES || now.duration_since(*since) > RECENT_AGE)
        {
            self.bytes -= oldest.bytes;
            self.kept.pop_front();
        }
    }
}

impl Slot {
    /// The frames, if rows of just this part were encoded before: as they are, or under another channel or position.
    fn find(&self, part: &Part) -> Option<Arc<[Frame]>> {
        let encoded = self.encoded.lock().expect("no holder of this lock panics").upgrade()?;
        if encoded.skip != part.skip || encoded.snapshot != part.snapshot {
            return None;
        }
        if encoded.channel == part.channel && encoded.position == part.position {
            return Some(encoded.frames.clone());
        }
        let mut done = part.skip;
        let again = encoded.frames.iter().map(|frame| {
            done += frame.rows;
            let shared = &frame.text.as_str()[frame.shared_from..];
            Frame::new(part, done, frame.rows, shared)
        });
        Some(again.collect())
    }
}

impl Frame {
    /// A frame that ends before row `end` of the batch.
    fn new(part: &Part, end: usize, rows: usize, shared: &str) -> Self {
        let position = part.position_at(end);
        let watermark = match moment::text(part.batch.watermark) {
            Some(moment) => format!("\"{moment}\""),
            None => "null".to_owned(),
        };
        let mut text = format!(
            "{{\"type\":\"rows\",\"channel\":{},\"position\":\"{position}\",\"watermark\":{watermark}",
            part.channel
        );
        let shared_from = text.len();
        text.push_str(shared);
        Self { text: text.into(), rows, position, shared_from }
    }
}

impl Part {
    /// Where a client is that has the rows before row `end` of the batch.
    pub(crate) fn position_at(&self, end: usize) -> Position {
        let mut position = self.position.clone();
        // A client that comes back amid running results gets a snapshot: its place in the batch says nothing.
        if end < self.batch.rows.num_rows() && self.batch.kind == RowKind::Append && !self.snapshot {
            position.offsets.insert(self.batch.partition, (self.batch.first, end as u64));
        }
        position
    }
}

/// How rows of a kind are marked for clients that keep the latest row of each key; `None`: as they come.
pub(crate) fn op(kind: RowKind) -> Option<&'static str> {
    match kind {
        RowKind::Append => None,
        RowKind::Update => Some("u"),
        RowKind::Final => Some("f"),
        RowKind::Delete => Some("d"),
    }
}

async fn encode(part: Part) -> Result<Arc<[Frame]>, TooLarge> {
    if part.batch.rows.num_rows() - part.skip <= INLINE_ROWS {
        return encode_now(&part);
    }
    tokio::task::spawn_blocking(move || encode_now(&part)).await.expect("encoding does not panic")
}

fn encode_now(part: &Part) -> Result<Arc<[Frame]>, TooLarge> {
    let rows = part.batch.visible();
    let mut frames = Vec::new();
    let mut text = Vec::new();
    let mut waiting: Vec<Range<usize>> = std::iter::once(part.skip..rows.num_rows()).collect();
    while let Some(range) = waiting.pop() {
        text.clear();
        write_shared(part, &rows, range.clone(), &mut text);
        if text.len() > FRAME_BYTES && range.len() > 1 {
            waiting.extend(pieces(range, text.len().div_ceil(FRAME_BYTES)).into_iter().rev());
            continue;
        }
        if text.len() > LARGEST_FRAME_BYTES {
            return Err(TooLarge { bytes: text.len() });
        }
        let shared = std::str::from_utf8(&text).expect("JSON is written as UTF-8");
        frames.push(Frame::new(part, range.end, range.len(), shared));
    }
    Ok(frames.into())
}

/// A range cut in `count` pieces of nearly the same length, none of them empty.
fn pieces(range: Range<usize>, count: usize) -> Vec<Range<usize>> {
    let length = range.len().div_ceil(count.clamp(2, range.len().max(2)));
    let starts = range.clone().step_by(length);
    starts.map(|start| start..(start + length).min(range.end)).collect()
}

/// What follows channel, position and watermark.
fn write_shared(part: &Part, rows: &arrow::array::RecordBatch, range: Range<usize>, text: &mut Vec<u8>) {
    if part.snapshot {
        text.extend_from_slice(b",\"snapshot\":true");
    }
    if let Some(op) = op(part.batch.kind) {
        text.extend_from_slice(b",\"ops\":[");
        for at in 0..range.len() {
            text.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
            text.extend_from_slice(op.as_bytes());
            text.push(b'"');
        }
        text.push(b']');
    }
    text.extend_from_slice(b",\"rows\":");
    write_rows_array(rows, range, text);
    text.push(b'}');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{RecordBatch, StringArray, TimestampNanosecondArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use squilla_engine::{EventTime, Memo, Offset, physical_schema};

    use super::*;

    fn part(rows: usize, width: usize, kind: RowKind) -> Part {
        let visible = Schema::new(vec![Field::new("text", DataType::Utf8, false)]);
        let text = StringArray::from_iter_values((0..rows).map(|row| format!("{}{row}", "0".repeat(width - 1))));
        let moments = || Arc::new(TimestampNanosecondArray::from(vec![0; rows]));
        let rows = RecordBatch::try_new(physical_schema(&visible), vec![Arc::new(text), moments(), moments()])
            .expect("columns fit");
        let next = Offset(100 + rows.num_rows() as u64);
        let batch = StreamBatch {
            kind,
            partition: 1,
            first: Offset(100),
            next,
            rows,
            watermark: EventTime(0),
            arrival: EventTime(0),
            idle: false,
            memo: Memo::default(),
        };
        let offsets = BTreeMap::from([(0, (Offset(7), 0)), (1, (next, 0))]);
        Part { channel: 5, batch: Arc::new(batch), skip: 0, position: Position { epoch: 1, offsets }, snapshot: false }
    }

    fn json(frame: &Frame) -> serde_json::Value {
        serde_json::from_str(frame.text.as_str()).expect("a frame is JSON")
    }

    #[tokio::test]
    async fn a_batch_is_encoded_once_for_all_of_its_channel() {
        let frames = Frames::default();
        let part = part(2, 1, RowKind::Append);
        let (first, encoded) = frames.of(&part).await.expect("small enough");
        assert!(encoded);
        let (second, encoded) = frames.of(&part).await.expect("small enough");
        assert!(!encoded);
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(
            first[0].text.as_str(),
            r#"{"type":"rows","channel":5,"position":"1:0=7,1=102","watermark":"1970-01-01T00:00:00Z","rows":[["0"],["1"]]}"#
        );
    }

    #[tokio::test]
    async fn another_channel_gets_the_same_rows_under_its_number() {
        let frames = Frames::default();
        let part = part(2, 1, RowKind::Update);
        frames.of(&part).await.expect("small enough");
        let (again, encoded) = frames.of(&Part { channel: 9, ..part }).await.expect("small enough");
        assert!(!encoded);
        assert_eq!(json(&again[0])["channel"], 9);
        assert_eq!(json(&again[0])["ops"], serde_json::json!(["u", "u"]));
        assert_eq!(json(&again[0])["rows"], serde_json::json!([["0"], ["1"]]));
    }

    #[tokio::test]
    async fn a_large_batch_is_split_and_each_frame_says_where_it_ends() {
        let frames = Frames::default();
        let part = Part { skip: 3, ..part(3_000, 1_000, RowKind::Append) };
        let (frames, _) = frames.of(&part).await.expect("small enough");
        assert!(frames.len() >= 3);
        assert!(frames.iter().all(|frame| frame.text.len() <= FRAME_BYTES + 200));
        assert_eq!(frames.iter().map(|frame| frame.rows).sum::<usize>(), 2_997);
        let (last, inside) = frames.split_last().expect("frames");
        assert_eq!(json(last)["position"], "1:0=7,1=3100");
        assert_eq!(json(&inside[0])["position"], format!("1:0=7,1=100+{}", 3 + inside[0].rows));
        assert_eq!(json(&inside[0])["rows"][0][0].as_str().expect("text").trim_start_matches('0'), "3");
    }

    #[tokio::test]
    async fn a_row_beyond_the_limit_is_refused() {
        let part = part(1, LARGEST_FRAME_BYTES, RowKind::Append);
        assert!(matches!(Frames::default().of(&part).await, Err(TooLarge { .. })));
    }

    fn encoded(bytes: usize) -> Arc<Encoded> {
        let part = part(1, 1, RowKind::Append);
        let frames = encode_now(&part).expect("small enough");
        Arc::new(Encoded { channel: 1, skip: 0, position: part.position, snapshot: false, frames, bytes })
    }

    #[test]
    fn encodings_are_kept_within_the_limit() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        (0..10).for_each(|_| recent.keep(encoded(RECENT_BYTES / 4), now));
        assert_eq!(recent.kept.len(), 4);
    }

    #[test]
    fn encodings_are_kept_for_a_short_time() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        recent.keep(encoded(10), now);
        recent.keep(encoded(20), now + RECENT_AGE);
        assert_eq!((recent.kept.len(), recent.bytes), (2, 30));
        recent.keep(encoded(40), now + RECENT_AGE * 2);
        assert_eq!((recent.kept.len(), recent.bytes), (2, 60));
    }
}
