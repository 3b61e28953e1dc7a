//! Rows to text, for clients and files: one file a format.

pub mod csv;
pub mod json;
mod time;

pub use csv::{write_csv_header, write_csv_rows};
pub use json::{write_ndjson, write_rows_array};
