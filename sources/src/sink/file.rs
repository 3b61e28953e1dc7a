//! `file`: rows as NDJSON.
//!
//! Rows go behind what the file holds; with `append = 'false'` each query that feeds the sink empties it first. The
//! file is made when it is not there, its folder must be. Running results and withdrawals say what they are in `op`: `update`, `final` or `delete`. A flush brings all rows to the disk;
//! after a failure between flushes, rows may be missing or be there twice.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use squilla_engine::{EngineError, RowKind, Sink};
use tokio::task::spawn_blocking;

use crate::encode::write_ndjson;
use crate::options::Options;
use crate::paths;

/// Text that is gathered before it is written, in bytes.
const BUFFER_BYTES: usize = 256 << 10;

/// Reads the options: where to write, and whether behind what is there.
pub(super) fn define(options: &mut Options<'_>, roots: &[PathBuf]) -> Option<(PathBuf, bool)> {
    options.choice("format", (), &[("json", ()), ("ndjson", ()), ("jsonl", ())]);
    let append = options.boolean("append", true);
    let path = options.required("path", "write path = 'rows.ndjson'")?;
    match paths::writable(path, roots) {
        Ok(path) => Some((path, append)),
        Err(mistake) => {
            options.bad_value("path", mistake.message, mistake.help);
            None
        }
    }
}

/// A sink that opens its file with the first rows: a definition alone changes nothing.
pub(super) fn sink(path: PathBuf, append: bool) -> Box<dyn Sink> {
    Box::new(FileSink { path, append, file: None, buffer: Vec::new() })
}

struct FileSink {
    path: PathBuf,
    append: bool,
    file: Option<File>,
    buffer: Vec<u8>,
}

impl FileSink {
    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            // Emptied and yet in append mode: several queries may feed one file.
            options.create(true).append(true);
            let file = options.open(&self.path)?;
            if !self.append {
                file.set_len(0)?;
            }
            self.file = Some(file);
        }
        Ok(self.file.as_mut().expect("it was opened above"))
    }

    fn refused(&self, error: &io::Error) -> EngineError {
        EngineError::Sink(format!("{}: {error}", self.path.display()))
    }

    fn write_buffer(&mut self) -> Result<(), EngineError> {
        let buffer = std::mem::take(&mut self.buffer);
        let written = self.file().and_then(|file| file.write_all(&buffer));
        self.buffer = buffer;
        self.buffer.clear();
        written.map_err(|error| self.refused(&error))
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn write(&mut self, kind: RowKind, rows: &RecordBatch) -> Result<(), EngineError> {
        let op = match kind {
            RowKind::Append => None,
            RowKind::Update => Some("update"),
            RowKind::Final => Some("final"),
            RowKind::Delete => Some("delete"),
        };
        write_ndjson(rows, 0..rows.num_rows(), op, &mut self.buffer);
        if self.buffer.len() >= BUFFER_BYTES { self.write_buffer() } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), EngineError> {
        self.write_buffer()?;
        // Bringing rows to the disk takes milliseconds, which no thread of the engine can spare.
        let file = self.file().and_then(|file| file.try_clone()).map_err(|error| self.refused(&error))?;
        let synced = spawn_blocking(move || file.sync_data()).await;
        synced.map_err(io::Error::other).flatten().map_err(|error| self.refused(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use squilla_engine::{EventTime, ManualClock};
    use squilla_query::{CreateSink, OptionValue};

    use super::*;
    use crate::testing::env_with;

    fn create(options: &[(&str, &str)]) -> CreateSink {
        let option = |(name, value): &(&str, &str)| OptionValue {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            span: None,
        };
        let options = options.iter().map(option).collect();
        CreateSink { name: "out".to_owned(), if_not_exists: false, options, query: None, sql: String::new() }
    }

    fn rows(values: Vec<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values));
        RecordBatch::try_from_iter([("n", column)]).expect("one column")
    }

    #[tokio::test]
    async fn rows_go_behind_what_is_there_unless_it_is_emptied() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("there");
        let env = env_with(Arc::new(ManualClock::new(EventTime(0))), vec![root.clone()]);
        let schema = rows(vec![]).schema();
        let text = || std::fs::read_to_string(root.join("out.ndjson"));

        let to = [("connector", "file"), ("path", "out.ndjson")];
        let mut sink = crate::define_sink(&create(&to), &schema, &env).await.expect("a sink");
        assert!(text().is_err(), "a definition writes nothing");
        sink.write(RowKind::Append, &rows(vec![1, 2])).await.expect("written");
        sink.flush().await.expect("durable");
        assert_eq!(text().expect("there"), "{\"n\":1}\n{\"n\":2}\n");

        let mut sink = crate::define_sink(&create(&to), &schema, &env).await.expect("a sink");
        sink.write(RowKind::Update, &rows(vec![3])).await.expect("written");
        sink.flush().await.expect("durable");
        assert_eq!(text().expect("there"), "{\"n\":1}\n{\"n\":2}\n{\"op\":\"update\",\"n\":3}\n");

        let emptied = [("connector", "file"), ("path", "out.ndjson"), ("append", "false")];
        let mut sink = crate::define_sink(&create(&emptied), &schema, &env).await.expect("a sink");
        sink.flush().await.expect("durable");
        assert_eq!(text().expect("there"), "");
    }

    #[tokio::test]
    async fn mistakes() {
        let folder = tempfile::tempdir().expect("a folder");
        let env = env_with(Arc::new(ManualClock::new(EventTime(0))), vec![folder.path().to_owned()]);
        let schema = rows(vec![]).schema();
        let mistake = async |options: &[(&str, &str)]| {
            let refused = crate::define_sink(&create(options), &schema, &env).await;
            refused.err().expect("a mistake")[0].help.clone()
        };
        assert_eq!(mistake(&[]).await, "write WITH (connector = 'file', path = '…')");
        assert_eq!(mistake(&[("connector", "fiel")]).await, "did you mean \"file\"?");
        assert_eq!(mistake(&[("connector", "file")]).await, "write path = 'rows.ndjson'");
        let none = mistake(&[("connector", "file"), ("path", "none/out.ndjson")]).await;
        assert_eq!(none, "write the path of a file in a folder that is there");
    }
}
