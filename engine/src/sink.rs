//! What a sink is to the engine.

use arrow::array::RecordBatch;
use async_trait::async_trait;

use crate::batch::RowKind;
use crate::error::EngineError;

/// Takes a query's rows out. Delivery is at least once.
#[async_trait]
pub trait Sink: Send {
    /// Writes rows (visible columns only). The engine waits: a slow sink holds back sources that can wait.
    ///
    /// # Errors
    /// [`EngineError::Sink`]; the query then ends with it.
    async fn write(&mut self, kind: RowKind, rows: &RecordBatch) -> Result<(), EngineError>;

    /// Makes what was written durable. Called every second while rows come, and once at the end.
    ///
    /// # Errors
    /// [`EngineError::Sink`].
    async fn flush(&mut self) -> Result<(), EngineError>;
}
