//! A record: one batch at its place, its rows in Arrow's IPC format, with checksums.
//!
//! ```text
//! header, 128 bytes: magic, CRC-32C of the header, CRC-32C of the payload, lengths of the payload's parts, rows,
//!                    first and next offset, commit, watermark, arrival, latest event time, kind and flags
//! payload:           what it notes beside its rows as JSON, the IPC message, the IPC body; each padded to 64 bytes
//! ```
//! Records begin at multiples of 64 bytes, so that columns can be used where they were read to.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_ipc::{MetadataVersion, root_as_message};

use super::DiskError;
use super::notes::Notes;
use crate::batch::{Memo, RowKind, StreamBatch};
use crate::clock::EventTime;
use crate::stream::Offset;

/// Bytes of a record's header.
pub(super) const HEADER_BYTES: usize = 128;
/// All parts begin at multiples of this many bytes.
pub(super) const ALIGNMENT: usize = 64;
/// The most that a record may hold: lengths above it are damage.
pub(super) const MAX_PAYLOAD_BYTES: u64 = 1 << 31;

const MAGIC: [u8; 4] = *b"sqrc";

/// What is known of a record without its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: RowKind,
    pub(super) idle: bool,
    /// The last record of its commit: without it the commit is not whole.
    pub(super) last: bool,
    pub(super) rows: u32,
    pub(super) first: Offset,
    pub(super) next: Offset,
    /// The commit's number in its stream, through all partitions.
    pub(super) commit: u64,
    pub(super) watermark: EventTime,
    pub(super) arrival: EventTime,
    /// The greatest event time of the rows; `MIN`: there are none.
    pub(super) latest: EventTime,
    notes_bytes: u32,
    message_bytes: u32,
    body_bytes: u32,
    payload_crc: u32,
}

impl Header {
    /// Bytes of the whole record.
    pub(super) fn record_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + self.payload_bytes()
    }

    fn payload_bytes(&self) -> u64 {
        u64::from(self.notes_bytes) + u64::from(self.message_bytes) + u64::from(self.body_bytes)
    }

    fn write(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut at = 8;
        let mut put = |value: &[u8]| {
            bytes[at..at + value.len()].copy_from_slice(value);
            at += value.len();
        };
        put(&self.payload_crc.to_le_bytes());
        put(&self.notes_bytes.to_le_bytes());
        put(&self.message_bytes.to_le_bytes());
        put(&self.body_bytes.to_le_bytes());
        put(&self.rows.to_le_bytes());
        put(&[kind_byte(self.kind), u8::from(self.idle), u8::from(self.last), 0]);
        put(&self.first.0.to_le_bytes());
        put(&self.next.0.to_le_bytes());
        put(&self.commit.to_le_bytes());
        for moment in [self.watermark, self.arrival, self.latest] {
            put(&moment.0.to_le_bytes());
        }
        bytes[..4].copy_from_slice(&MAGIC);
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header that lies there; `None`: no header, or a damaged one.
    pub(super) fn read(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let crc = u32::from_le_bytes(bytes[4..8].try_into().ok()?);
        if bytes[..4] != MAGIC || crc != crc32c::crc32c(&bytes[8..]) {
            return None;
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let moment = |at: usize| EventTime(u64_at(at).cast_signed());
        let header = Self {
            payload_crc: u32_at(8),
            notes_bytes: u32_at(12),
            message_bytes: u32_at(16),
            body_bytes: u32_at(20),
            rows: u32_at(24),
            kind: kind_of(bytes[28])?,
            idle: bytes[29] == 1,
            last: bytes[30] == 1,
            first: Offset(u64_at(32)),
            next: Offset(u64_at(40)),
            commit: u64_at(48),
            watermark: moment(56),
            arrival: moment(64),
            latest: moment(72),
        };
        (header.payload_bytes() <= MAX_PAYLOAD_BYTES && header.first <= header.next).then_some(header)
    }

    /// Whether this is the payload that was written.
    pub(super) fn fits(&self, payload: &[u8]) -> bool {
        payload.len() as u64 == self.payload_bytes() && crc32c::crc32c(payload) == self.payload_crc
    }

    /// The batch of a payload that fits.
    pub(super) fn batch(&self, partition: u32, payload: &Buffer, schema: &SchemaRef) -> Result<StreamBatch, DiskError> {
        let (notes, message) = (self.notes_bytes as usize, self.message_bytes as usize);
        let rows = if message == 0 {
            RecordBatch::new_empty(schema.clone())
        } else {
            let message_part = &payload[notes..notes + message];
            let body = payload.slice(notes + message);
            let unreadable = |error: String| DiskError::Unreadable(error);
            let parsed = root_as_message(message_part).map_err(|error| unreadable(error.to_string()))?;
            let batch = parsed.header_as_record_batch().ok_or_else(|| unreadable("no record batch".into()))?;
            let none = HashMap::new();
            arrow_ipc::reader::read_record_batch(&body, batch, schema.clone(), &none, None, &MetadataVersion::V5)?
        };
        Ok(StreamBatch {
            kind: self.kind,
            partition,
            first: self.first,
            next: self.next,
            rows,
            watermark: self.watermark,
            arrival: self.arrival,
            idle: self.idle,
            memo: Memo::default(),
        })
    }

    /// What its payload notes beside the rows.
    pub(super) fn notes(&self, payload: &[u8]) -> Result<Notes<'static>, DiskError> {
        Notes::read(payload.get(..self.notes_bytes as usize).unwrap_or_default())
    }
}

/// Writes records. Keeps buffers between them.
pub(super) struct Encoder {
    options: IpcWriteOptions,
    generator: IpcDataGenerator,
    context: IpcWriteContext,
}

impl Default for Encoder {
    fn default() -> Self {
        let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5);
        Self {
            options: options.expect("64 is an alignment of Arrow's"),
            generator: IpcDataGenerator::default(),
            context: IpcWriteContext::default(),
        }
    }
}

impl Encoder {
    /// Appends the record of a batch. `last`: see [`Header`].
    pub(super) fn encode(
        &mut self,
        batch: &StreamBatch,
        commit: u64,
        notes: Notes<'_>,
        last: bool,
        out: &mut Vec<u8>,
    ) -> Result<Header, DiskError> {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        notes.write(out)?;
        let notes_end = pad(out);
        if batch.rows.num_rows() > 0 {
            let mut tracker = DictionaryTracker::new(false);
            let (_, encoded) = self.generator.encode(&batch.rows, &mut tracker, &self.options, &mut self.context)?;
            out.extend_from_slice(&encoded.ipc_message);
            let message_end = pad(out);
            out.extend_from_slice(&encoded.arrow_data);
            return self.finish(batch, commit, last, out, [start, notes_end, message_end]);
        }
        self.finish(batch, commit, last, out, [start, notes_end, notes_end])
    }

    fn finish(
        &self,
        batch: &StreamBatch,
        commit: u64,
        last: bool,
        out: &mut Vec<u8>,
        [start, notes_end, message_end]: [usize; 3],
    ) -> Result<Header, DiskError> {
        let end = pad(out);
        let payload = start + HEADER_BYTES;
        if (end - payload) as u64 > MAX_PAYLOAD_BYTES {
            out.truncate(start);
            return Err(DiskError::TooLarge { bytes: (end - payload) as u64, limit_bytes: MAX_PAYLOAD_BYTES });
        }
        let length = |from: usize, to: usize| u32::try_from(to - from).expect("parts of a bounded payload");
        let latest = batch.event_times().iter().copied().max();
        let header = Header {
            kind: batch.kind,
            idle: batch.idle,
            last,
            rows: u32::try_from(batch.rows.num_rows()).expect("rows of a bounded payload"),
            first: batch.first,
            next: batch.next,
            commit,
            watermark: batch.watermark,
            arrival: batch.arrival,
            latest: latest.map_or(EventTime::MIN, EventTime),
            notes_bytes: length(payload, notes_end),
            message_bytes: length(notes_end, message_end),
            body_bytes: length(message_end, end),
            payload_crc: crc32c::crc32c(&out[payload..]),
        };
        out[start..payload].copy_from_slice(&header.write());
        Ok(header)
    }
}

/// Fills up to the alignment; the length then.
fn pad(out: &mut Vec<u8>) -> usize {
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out.len()
}

fn kind_byte(kind: RowKind) -> u8 {
    match kind {
        RowKind::Append => 0,
        RowKind::Update => 1,
        RowKind::Final => 2,
        RowKind::Delete => 3,
    }
}

fn kind_of(byte: u8) -> Option<RowKind> {
    [RowKind::Append, RowKind::Update, RowKind::Final, RowKind::Delete].get(usize::from(byte)).copied()
}
