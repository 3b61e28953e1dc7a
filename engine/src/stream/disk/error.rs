//! What can go wrong with a log on disk.

use std::io;
use std::path::PathBuf;

use arrow::datatypes::DataType;
use thiserror::Error;

/// Why a log on disk cannot be used.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The budget for all logs is used up.
    #[error("the logs on disk hold {used_bytes} bytes, and {wanted_bytes} more are over their budget of {limit_bytes}")]
    Budget {
        /// Bytes held.
        used_bytes: u64,
        /// Bytes to be added.
        wanted_bytes: u64,
        /// Bytes allowed.
        limit_bytes: u64,
    },
    /// The disk is full.
    #[error("the disk is full")]
    Full(#[source] io::Error),
    /// The disk failed.
    #[error("the disk cannot be read or written")]
    Io(#[source] io::Error),
    /// The disk failed while it was to make rows last: what is on it is not known until the log is opened again.
    #[error("\"{}\" could not be synced", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is of another version of the format.
    #[error("\"{}\" has format {found}: use the squilla that wrote it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u8,
    },
    /// The log has other columns or partitions than the stream.
    #[error("the log in \"{}\" is of other {what}", folder.display())]
    Other {
        /// Its folder.
        folder: PathBuf,
        /// `columns` or `partitions`.
        what: &'static str,
    },
    /// A commit is too large for a record.
    #[error("{bytes} bytes of rows are over a record's limit of {limit_bytes}")]
    TooLarge {
        /// Its bytes.
        bytes: u64,
        /// Bytes allowed.
        limit_bytes: u64,
    },
    /// A column's type cannot be stored.
    #[error("column \"{column}\" is a {data_type}, which no log on disk keeps")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// A record's checksum is right and its content is not.
    #[error("a record cannot be read: {0}")]
    Unreadable(String),
    /// The writer has ended.
    #[error("the log is closed")]
    Closed,
}

impl DiskError {
    /// Whether the same append may succeed later.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Budget { .. } | Self::Full(_))
    }
}

impl From<io::Error> for DiskError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Full(error)
            }
            _ => Self::Io(error),
        }
    }
}

impl From<arrow::error::ArrowError> for DiskError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Unreadable(error.to_string())
    }
}
