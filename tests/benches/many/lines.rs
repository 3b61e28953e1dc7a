//! The same rows as lines of JSON in files.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
use squilla_engine::Connector;
use squilla_sources::encode::write_ndjson;
use squilla_tests::files::connector;
use tempfile::TempDir;

use super::generator::{BATCH_ROWS, BATCHES, COLUMNS, STEP_NS, ids, others};

const NAMES: [&str; 6] = ["ts", "id", "kind", "region", "price", "qty"];
/// How often the rows come again.
const FILES: usize = 16;

/// Files that are the same one under several names, since rows come again and again.
pub(crate) struct Lines {
    folder: TempDir,
}

impl Lines {
    pub(crate) const ROWS: usize = FILES * BATCHES * BATCH_ROWS;

    pub(crate) fn write() -> Self {
        let folder = tempfile::tempdir().expect("a folder for files");
        let name = |at: usize| -> PathBuf { folder.path().join(format!("{at}.jsonl")) };
        let mut lines = Vec::new();
        let others = others(BATCH_ROWS);
        for (at, ids) in ids(BATCH_ROWS).into_iter().enumerate() {
            let first = (at * BATCH_ROWS) as i64;
            let times = (first..first + BATCH_ROWS as i64).map(|at| at * STEP_NS);
            let times: ArrayRef = Arc::new(TimestampNanosecondArray::from_iter_values(times));
            let columns = [times, ids].into_iter().chain(others[at % others.len()].iter().cloned());
            let rows = RecordBatch::try_from_iter(NAMES.into_iter().zip(columns)).expect("the columns are as long");
            write_ndjson(&rows, 0..BATCH_ROWS, None, &mut lines);
        }
        std::fs::write(name(0), lines).expect("the file can be written");
        (1..FILES).for_each(|at| std::fs::hard_link(name(0), name(at)).expect("a file may have two names"));
        Self { folder }
    }

    pub(crate) async fn connector(&self) -> Arc<dyn Connector> {
        let path = self.folder.path().join("*.jsonl");
        connector(&format!("CREATE SOURCE s ({COLUMNS}) WITH (connector = 'file', path = '{}')", path.display())).await
    }
}
