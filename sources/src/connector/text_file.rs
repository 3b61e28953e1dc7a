//! Reads one text file in large blocks, to its end or on and on.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use squilla_engine::{EngineError, PartitionReader, ReadEvent};

use super::failed;
use crate::format::{Decoded, MAX_RECORD_BYTES, TextDecoder};

/// How much is read at once, in bytes: large enough that a batch of short lines comes from one read, small enough
/// to stay in the processor's cache.
const BLOCK_BYTES: usize = 1 << 20;
/// The same, of many files that are read at once, and what all their blocks may take together.
const LEAST_BLOCK_BYTES: usize = 64 << 10;
const ALL_BLOCKS_BYTES: usize = 64 << 20;

/// How often a followed file is looked at. Four times before an empty poll is told.
const POLL: Duration = Duration::from_millis(25);
const POLLS: u32 = 4;

/// A reader of one file.
pub(crate) struct TextFile {
    source: String,
    name: String,
    input: Input,
    decoder: TextDecoder,
    /// Bytes read and not decoded yet are `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    block_bytes: usize,
    /// The buffer has no whole record: more must be read first.
    starved: bool,
    /// What comes up to the next line feed belongs to a record that is too long.
    skipping: bool,
}

enum Input {
    Once(Box<dyn Read + Send>),
    Follow { path: PathBuf, file: File, position: u64 },
    Ended,
}

impl TextFile {
    /// Reads to the end. `files`: how many are read at once.
    pub(crate) fn once(
        source: &str,
        path: &Path,
        input: Box<dyn Read + Send>,
        decoder: TextDecoder,
        files: usize,
    ) -> Self {
        Self::new(source, path, Input::Once(input), decoder, files)
    }

    /// Reads to the end and on.
    pub(crate) fn follow(source: &str, path: &Path, decoder: TextDecoder, files: usize) -> io::Result<Self> {
        let input = Input::Follow { path: path.to_owned(), file: File::open(path)?, position: 0 };
        Ok(Self::new(source, path, input, decoder, files))
    }

    fn new(source: &str, path: &Path, input: Input, decoder: TextDecoder, files: usize) -> Self {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Self {
            source: source.to_owned(),
            name,
            input,
            decoder,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            block_bytes: (ALL_BLOCKS_BYTES / files).clamp(LEAST_BLOCK_BYTES, BLOCK_BYTES),
            starved: true,
            skipping: false,
        }
    }

    /// Decodes what is there. `None`: no whole record is.
    fn decode(&mut self, last: bool) -> Option<ReadEvent> {
        if self.skipping {
            self.skip_long(last);
        }
        let block = &self.buffer[self.start..self.end];
        if block.is_empty() {
            return None;
        }
        let (used, decoded) = self.decoder.decode(block, last);
        if used == 0 && block.len() > MAX_RECORD_BYTES {
            self.decoder.reject_long(block);
            let bytes = block.len() as u64;
            self.skip_long(last);
            let (_, rejected) = self.decoder.decode(&[], last);
            return Some(self.event(bytes, rejected));
        }
        self.start += used;
        (used > 0).then(|| self.event(used as u64, decoded))
    }

    fn event(&self, bytes: u64, decoded: Decoded) -> ReadEvent {
        let rejects = decoded.rejects.into_iter().map(|reject| reject.into_reject(&self.name)).collect();
        ReadEvent::Batch { rows: decoded.rows, undecodable: decoded.undecodable, rejects, bytes, receipts: Vec::new() }
    }

    /// Lets go of a record that is too long, up to its line feed.
    fn skip_long(&mut self, last: bool) {
        match memchr::memchr(b'\n', &self.buffer[self.start..self.end]) {
            Some(length) => {
                self.start += length + 1;
                self.skipping = false;
            }
            None => {
                self.start = self.end;
                self.skipping = !last;
            }
        }
    }

    /// Reads one more block. False: there is no more for now.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < self.end + self.block_bytes {
            self.buffer.resize(self.end + self.block_bytes, 0);
        }
        let room = &mut self.buffer[self.end..];
        let read = loop {
            let read = match &mut self.input {
                Input::Once(input) => input.read(room),
                Input::Follow { file, .. } => file.read(room),
                Input::Ended => Ok(0),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.end += read;
        if let Input::Follow { position, .. } = &mut self.input {
            *position += read as u64;
        }
        Ok(read > 0)
    }

    /// What a followed file's end means: it was replaced or cut, or there is nothing new.
    fn look_around(&mut self) -> io::Result<Change> {
        let Input::Follow { path, file, position } = &mut self.input else { return Ok(Change::Nothing) };
        let there = match std::fs::metadata(&*path) {
            Ok(there) => there,
            // Between a rotation's rename and the new file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Change::Nothing),
            Err(error) => return Err(error),
        };
        let held = file.metadata()?;
        if (there.dev(), there.ino()) != (held.dev(), held.ino()) {
            // The old one may have grown since it was read last.
            return Ok(if held.len() > *position { Change::Nothing } else { Change::Replaced });
        }
        Ok(if held.len() < *position { Change::Cut } else { Change::Nothing })
    }

    /// Opens what is at the path now, from its start.
    fn reopen(&mut self) -> io::Result<()> {
        if let Input::Follow { path, file, position } = &mut self.input {
            *file = File::open(path)?;
            *position = 0;
        }
        self.decoder.restart();
        (self.start, self.end) = (0, 0);
        self.skipping = false;
        Ok(())
    }

    /// The next event without waiting; `None`: nothing is there for now.
    fn step(&mut self) -> io::Result<Option<ReadEvent>> {
        loop {
            if !self.starved
                && let Some(event) = self.decode(false)
            {
                return Ok(Some(event));
            }
            self.starved = !self.fill()?;
            if !self.starved {
                continue;
            }
            match &self.input {
                Input::Ended => return Ok(Some(self.decode(true).unwrap_or(ReadEvent::End))),
                Input::Once(_) => self.input = Input::Ended,
                Input::Follow { .. } => match self.look_around()? {
                    Change::Nothing => return Ok(None),
                    Change::Cut => self.reopen()?,
                    Change::Replaced => {
                        let rest = self.decode(true);
                        if self.start == self.end {
                            self.reopen()?;
                        }
                        if let Some(event) = rest {
                            return Ok(Some(event));
                        }
                    }
                },
            }
        }
    }
}

enum Change {
    Nothing,
    Cut,
    Replaced,
}

#[async_trait]
impl PartitionReader for TextFile {
    async fn next(&mut self) -> Result<ReadEvent, EngineError> {
        for _ in 0..POLLS {
            let step = self.step().map_err(|error| failed(&self.source, format!("{}: {error}", self.name), true))?;
            if let Some(event) = step {
                return Ok(event);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(ReadEvent::Empty)
    }
}
