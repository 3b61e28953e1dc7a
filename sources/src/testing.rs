//! What tests of several files need.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema};
use squilla_engine::{Clock, ReadEvent, SourceDefinition};
use squilla_query::{CreateSource, OptionValue};

use crate::{Publishers, SourceEnv};

/// An environment with these folders.
pub(crate) fn env_with(clock: Arc<dyn Clock>, roots: Vec<PathBuf>) -> SourceEnv {
    let publishers = Arc::new(Publishers::default());
    SourceEnv { roots, publishers, faults: Arc::default(), clock }
}

/// A statement without a text.
pub(crate) fn create(name: &str, columns: Option<Vec<Field>>, options: &[(&str, &str)]) -> CreateSource {
    CreateSource {
        name: name.to_owned(),
        if_not_exists: false,
        schema: columns.map(|columns| Arc::new(Schema::new(columns))),
        arrivals: Vec::new(),
        watermark: None,
        key: None,
        options: options
            .iter()
            .map(|(name, value)| OptionValue { name: (*name).to_owned(), value: (*value).to_owned(), span: None })
            .collect(),
        sql: String::new(),
    }
}

/// All rows of a bounded source, partition after partition.
pub(crate) async fn read_all(definition: &SourceDefinition, columns: &[usize]) -> RecordBatch {
    let mut batches = Vec::new();
    for mut reader in definition.connector.open(columns).await.expect("opened") {
        loop {
            match reader.next().await.expect("read") {
                ReadEvent::Batch { rows, .. } => batches.push(rows),
                ReadEvent::Empty => {}
                ReadEvent::End => break,
            }
        }
    }
    let schema = Arc::new(definition.schema.project(columns).expect("columns"));
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if columns.is_empty() {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        return RecordBatch::try_new_with_options(schema, Vec::new(), &options).expect("no columns");
    }
    concat_batches(&schema, &batches).expect("batches of one schema")
}
