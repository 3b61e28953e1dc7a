//! `file`: a file, a folder or a pattern; each file is a partition, in the order of names.
//!
//! - `mode = 'once'` (default) reads to the end and ends. A last line without a line feed counts.
//! - `mode = 'follow'` reads to the end and goes on with what is appended. A file that was replaced (rotation by
//!   rename) is read to its end first, then the new one from its start; one that became shorter is read again from its
//!   start. Files that come into the folder later are read once the source is opened anew.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use flate2::read::MultiGzDecoder;
use squilla_engine::{Connector, ConnectorInfo, EngineError, PartitionReader};
use squilla_query::{CreateSource, Diagnostic};

use super::failed;
use super::text_file::TextFile;
use crate::define::{Made, WATERMARK_DELAY, record_column, relaxed, timestamp_unit};
use crate::event_time::{check_unit, with_event_time};
use crate::format::TextDecoder;
use crate::format::column::is_decodable;
use crate::format::csv::{CsvDecoder, CsvLayout};
use crate::format::json::JsonDecoder;
use crate::format::parquet;
use crate::format::scalar::TimestampUnit;
use crate::options::{Options, suggest};
use crate::paths::FileSet;
use crate::{SourceEnv, infer};

/// How much of the first file is looked at for its columns, in bytes.
const INFER_BYTES: u64 = 1 << 20;

pub(super) const DESCRIPTION: &str = "reads NDJSON, CSV or Parquet files, once or following what is appended";
pub(super) const OPTIONS: [(&str, &str); 7] = [
    ("path", "a file, a folder, or a pattern like 'logs/*.json'; each file is a partition"),
    ("mode", "'once' ends at the end, 'follow' goes on with what is appended"),
    ("format", "'json' for NDJSON, 'csv' or 'parquet'; by the file's ending unless said"),
    ("header", "of CSV: whether the first record names the columns, 'true' unless said"),
    ("delimiter", "of CSV: what stands between fields, ',' unless said"),
    ("record_column", "of JSON: the JSON column that takes each record as a whole"),
    ("timestamp_unit", "what numbers read as TIMESTAMP count: 's', 'ms' (unless said), 'us' or 'ns'"),
];

/// The formats of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv(CsvLayout),
    Parquet,
}

/// Reads files.
#[derive(Debug)]
pub(crate) struct FileConnector {
    name: String,
    files: FileSet,
    roots: Vec<PathBuf>,
    format: Format,
    schema: SchemaRef,
    unit: TimestampUnit,
    /// The column that takes each record as a whole.
    record: Option<String>,
    follow: bool,
    options: Vec<(String, String)>,
}

pub(crate) fn define(
    create: &CreateSource,
    env: &SourceEnv,
    options: &mut Options<'_>,
) -> Result<Made, Vec<Diagnostic>> {
    let files = FileSet::from_option(options, &env.roots);
    let follow = options.choice("mode", false, &[("once", false), ("follow", true)]);
    let unit = timestamp_unit(options);
    let record = record_column(create, options);
    let listed = files.as_ref().map(|files| files.list(&env.roots));
    let first = match &listed {
        Some(Ok(listed)) => listed.first(),
        Some(Err(message)) => {
            options.bad_value("path", message.clone(), "check the path");
            None
        }
        None => None,
    };
    let format = format(options, first.map(PathBuf::as_path));
    let (Some(files), Some(first), Some(format)) = (files, first, format) else { return Err(Vec::new()) };
    if record.is_some() && format != Format::Json {
        options.bad_value("record_column", "only records of JSON come as a whole", "write format = 'json'");
    }
    if follow && (format == Format::Parquet || is_compressed(first)) {
        options.bad_value("mode", "only plain text files can be followed", "write mode = 'once'");
    }
    if options.has_mistakes() {
        return Err(Vec::new());
    }
    let schema = match &create.schema {
        Some(declared) => declared_schema(relaxed(declared), format, first)?,
        None => {
            let schema = with_event_time(&inferred_schema(first, format)?, create);
            check_unit(&schema, create)?;
            schema
        }
    };
    let connector = FileConnector {
        name: create.name.clone(),
        files,
        roots: env.roots.clone(),
        format,
        schema: schema.clone(),
        unit,
        record,
        follow,
        options: create.options.iter().map(|option| (option.name.clone(), option.value.clone())).collect(),
    };
    Ok(Made { schema, connector: Arc::new(connector), delay: WATERMARK_DELAY })
}

/// The format by option, or by the file's ending.
fn format(options: &mut Options<'_>, first: Option<&Path>) -> Option<Format> {
    let header = options.boolean("header", true);
    let delimiter = options.text("delimiter");
    let known = [("json", "json"), ("ndjson", "json"), ("jsonl", "json"), ("csv", "csv"), ("parquet", "parquet")];
    let format = match options.choice("format", None, &known.map(|(word, format)| (word, Some(format)))) {
        Some(format) => format,
        None if options.text("format").is_some() => return None,
        None => {
            let name = first?.file_name()?.to_string_lossy().to_ascii_lowercase();
            match name.trim_end_matches(".gz").rsplit('.').next() {
                Some("json" | "ndjson" | "jsonl") => "json",
                Some("csv" | "tsv") => "csv",
                Some("parquet") => "parquet",
                _ => {
                    let message = format!("the format of \"{name}\" cannot be told by its ending");
                    options.bad_value("path", message, "add format = 'json', 'csv' or 'parquet'");
                    return None;
                }
            }
        }
    };
    match format {
        "json" => Some(Format::Json),
        "parquet" => Some(Format::Parquet),
        _ => {
            let tabs = first.is_some_and(|first| first.to_string_lossy().trim_end_matches(".gz").ends_with(".tsv"));
            let delimiter = match delimiter.map(str::as_bytes) {
                None => {
                    if tabs {
                        b'\t'
                    } else {
                        b','
                    }
                }
                Some(b"\\t" | b"tab") => b'\t',
                Some([byte]) if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => *byte,
                Some(_) => {
                    options.bad_value("delimiter", "a delimiter is one character", "write ',', ';' or '\\t'");
                    return None;
                }
            };
            Some(Format::Csv(CsvLayout { header, delimiter }))
        }
    }
}

fn declared_schema(schema: SchemaRef, format: Format, first: &Path) -> Result<SchemaRef, Vec<Diagnostic>> {
    let undecodable = schema.fields().iter().filter(|field| match format {
        Format::Json => !is_decodable(field.data_type(), true),
        Format::Csv(_) => !is_decodable(field.data_type(), false),
        Format::Parquet => false,
    });
    let mut mistakes: Vec<Diagnostic> = undecodable
        .map(|field| {
            let message = format!("column \"{}\" cannot have type {} here", field.name(), field.data_type());
            Diagnostic::new("unsupported", message).help("declare it as VARCHAR, and cast it in the query")
        })
        .collect();
    // Fields of JSON come and go; columns of the others are there from the start.
    let names = match format {
        Format::Csv(layout) if layout.header => infer::csv_header(&beginning(first).unwrap_or_default(), layout),
        Format::Parquet => {
            parquet::schema(first).map(|schema| schema.fields().iter().map(|field| field.name().clone()).collect())
        }
        Format::Json | Format::Csv(_) => Ok(schema.fields().iter().map(|field| field.name().clone()).collect()),
    };
    match names {
        Err(why) => {
            let message = format!("\"{}\" cannot be read: {why}", first.display());
            mistakes.push(Diagnostic::new("bad_option", message).help("check the file, or the format option"));
        }
        Ok(names) => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            for field in schema.fields().iter().filter(|field| !names.contains(&field.name().as_str())) {
                let message = format!("\"{}\" has no column \"{}\"", first.display(), field.name());
                mistakes.push(Diagnostic::new("unknown_column", message).help(suggest(field.name(), &names)));
            }
        }
    }
    if mistakes.is_empty() { Ok(schema) } else { Err(mistakes) }
}

fn inferred_schema(first: &Path, format: Format) -> Result<SchemaRef, Vec<Diagnostic>> {
    let inferred = match format {
        Format::Parquet => parquet::schema(first),
        Format::Json => beginning(first).and_then(|text| infer::json_lines(&text)),
        Format::Csv(layout) => beginning(first).and_then(|text| infer::csv(&text, layout)),
    };
    inferred.map_err(|why| {
        let message = format!("the columns of \"{}\" cannot be inferred: {why}", first.display());
        vec![Diagnostic::new("not_inferred", message).help("declare them: CREATE SOURCE name (column type, …)")]
    })
}

/// The first lines of a file, whole ones unless it has one line only.
fn beginning(path: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let file = open_text(path).map_err(|error| error.to_string())?;
    file.take(INFER_BYTES).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 == INFER_BYTES
        && let Some(end) = memchr::memrchr(b'\n', &text)
    {
        text.truncate(end + 1);
    }
    Ok(text)
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gz"))
}

/// Opens a text file, decompressed if its name ends in `.gz`.
fn open_text(path: &Path) -> std::io::Result<Box<dyn Read + Send>> {
    let file = File::open(path)?;
    Ok(if is_compressed(path) { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

#[async_trait]
impl Connector for FileConnector {
    fn info(&self) -> ConnectorInfo {
        ConnectorInfo {
            connector: "file",
            label: None,
            bounded: !self.follow,
            rereadable: true,
            can_wait: true,
            replay: false,
            options: self.options.clone(),
        }
    }

    async fn open(&self, columns: &[usize]) -> Result<Vec<Box<dyn PartitionReader>>, EngineError> {
        let wanted = Arc::new(self.schema.project(columns)?);
        let files = self.files.list(&self.roots).map_err(|message| failed(&self.name, message, true))?;
        let count = files.len();
        let mut readers: Vec<Box<dyn PartitionReader>> = Vec::with_capacity(count);
        for path in files {
            let refused = |error: std::io::Error| failed(&self.name, format!("{}: {error}", path.display()), true);
            let decoder = match self.format {
                Format::Json => {
                    let decoder = JsonDecoder::new(wanted.clone(), self.unit);
                    TextDecoder::Json(decoder.with_record(self.record.as_deref()))
                }
                Format::Csv(layout) => {
                    TextDecoder::Csv(CsvDecoder::new(wanted.clone(), &self.schema, self.unit, layout))
                }
                Format::Parquet => {
                    let opened = parquet::open(&self.name, &path, &wanted, self.unit);
                    readers.push(Box::new(opened.map_err(|message| failed(&self.name, message, false))?));
                    continue;
                }
            };
            readers.push(if self.follow {
                Box::new(TextFile::follow(&self.name, &path, decoder, count).map_err(refused)?)
            } else {
                Box::new(TextFile::once(&self.name, &path, open_text(&path).map_err(refused)?, decoder, count))
            });
        }
        Ok(readers)
    }
}

#[cfg(test)]
mod tests;
