//! Rows on standard output: as NDJSON, CSV, aligned columns, or only counted.

mod batches;
mod json_rows;
mod table;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

pub(crate) use batches::BatchWriter;
pub(crate) use json_rows::{Column, JsonRowWriter};

/// What is gathered before it is written, in bytes: large enough that system calls do not count.
const BUFFER_BYTES: usize = 256 << 10;

/// Standard output with a large buffer, that is written when it is full or when [`Output::flush`] says so.
pub(crate) struct Output {
    to: Box<dyn Write>,
    buffer: Vec<u8>,
}

impl Output {
    /// Standard output, without the line buffer that Rust's has.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub(crate) fn stdout() -> io::Result<Self> {
        Ok(Self::to(Box::new(File::from(io::stdout().as_fd().try_clone_to_owned()?))))
    }

    /// Another place.
    pub(crate) fn to(to: Box<dyn Write>) -> Self {
        Self { to, buffer: Vec::with_capacity(BUFFER_BYTES) }
    }

    /// Where to append what is to be written; call [`Output::appended`] behind it.
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes when enough is gathered.
    fn appended(&mut self) -> io::Result<()> {
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes all that is gathered.
    ///
    /// # Errors
    /// Those of the write; a broken pipe among them.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.to.write_all(&self.buffer)?;
        self.buffer.clear();
        self.to.flush()
    }
}

#[cfg(test)]
mod testing {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::Output;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    pub(super) struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        pub(super) fn output(&self) -> Output {
            Output::to(Box::new(self.clone()))
        }

        pub(super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("text")
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
