//! Reads the records of a file one after the other, past damage.

use std::io;
use std::sync::Arc;

use arrow::buffer::{Buffer, MutableBuffer};

use super::record::{ALIGNMENT, HEADER_BYTES, Header};
use super::volume::VolumeFile;

/// Bytes that are read at once, where a record is not larger.
const CHUNK_BYTES: u64 = 1 << 20;

/// What lies at a place.
#[derive(Debug)]
pub(super) enum Found {
    /// A whole record.
    Record { header: Header, payload: Buffer },
    /// Bytes that are no record. A record follows, unless `to` is the end.
    Damage { to: u64 },
    /// Nothing more.
    End,
}

/// A place in a file. The columns of what it finds share the bytes that it read.
#[derive(Debug)]
pub(super) struct Scan {
    file: Arc<dyn VolumeFile>,
    pub(super) at: u64,
    /// Where what may be read ends.
    pub(super) end: u64,
    chunk: Buffer,
    chunk_at: u64,
}

impl Scan {
    /// From `at`, where a record begins, to `end`.
    pub(super) fn new(file: Arc<dyn VolumeFile>, at: u64, end: u64) -> Self {
        Self { file, at, end, chunk: MutableBuffer::new(0).into(), chunk_at: at }
    }

    /// The next record or damage, and goes behind it.
    pub(super) fn next(&mut self) -> io::Result<Found> {
        if self.at >= self.end {
            return Ok(Found::End);
        }
        let at = self.at;
        match self.record()? {
            Some((header, payload)) => {
                self.at = at + header.record_bytes();
                Ok(Found::Record { header, payload })
            }
            None => {
                self.at = self.resume()?;
                Ok(Found::Damage { to: self.at })
            }
        }
    }

    /// Passes over a record without reading its rows; `None`: the next bytes are no header, or the end.
    pub(super) fn skip(&mut self) -> io::Result<Option<Header>> {
        let header = self.header()?.filter(|header| header.record_bytes() <= self.end - self.at);
        if let Some(header) = &header {
            self.at += header.record_bytes();
        }
        Ok(header)
    }

    /// The header at the place, without going on.
    pub(super) fn header(&mut self) -> io::Result<Option<Header>> {
        if self.end.saturating_sub(self.at) < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let bytes = self.bytes(self.at, HEADER_BYTES as u64)?;
        Ok(Header::read(bytes.as_slice().try_into().expect("as many bytes as were asked for")))
    }

    fn record(&mut self) -> io::Result<Option<(Header, Buffer)>> {
        let Some(header) = self.header()?.filter(|header| header.record_bytes() <= self.end - self.at) else {
            return Ok(None);
        };
        let payload = self.bytes(self.at + HEADER_BYTES as u64, header.record_bytes() - HEADER_BYTES as u64)?;
        Ok(header.fits(&payload).then_some((header, payload)))
    }

    /// The next place behind damage at which a whole record lies, else the end.
    fn resume(&mut self) -> io::Result<u64> {
        let damaged = self.at;
        while self.end - self.at > ALIGNMENT as u64 {
            self.at += ALIGNMENT as u64;
            if self.record()?.is_some() {
                let found = self.at;
                self.at = damaged;
                return Ok(found);
            }
        }
        Ok(self.end)
    }

    fn bytes(&mut self, at: u64, length: u64) -> io::Result<Buffer> {
        let chunk_end = self.chunk_at + self.chunk.len() as u64;
        if at < self.chunk_at || at + length > chunk_end {
            let wanted = length.max(CHUNK_BYTES).min(self.end - at);
            let mut chunk = MutableBuffer::from_len_zeroed(usize::try_from(wanted).unwrap_or(usize::MAX));
            self.file.read_exact_at(chunk.as_slice_mut(), at)?;
            self.chunk = chunk.into();
            self.chunk_at = at;
        }
        let from = usize::try_from(at - self.chunk_at).expect("within a chunk");
        Ok(self.chunk.slice_with_length(from, usize::try_from(length).expect("within a chunk")))
    }
}
