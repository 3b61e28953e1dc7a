//! What a sink is to the engine.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::batch::RowKind;
use crate::error::EngineError;
use crate::shared::Shared;
use crate::subscription::{Subscription, SubscriptionEvent};

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

/// How often what was written is made durable.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// A running sink. Dropping it ends it.
pub struct SinkHandle {
    result: watch::Receiver<Option<Result<SinkSummary, Arc<EngineError>>>>,
    _task: AbortOnDropHandle<()>,
}

/// What a sink took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SinkSummary {
    /// Rows written.
    pub rows: u64,
}

impl SinkHandle {
    /// Waits until the sink's bounded inputs have ended and all its rows are durable.
    ///
    /// # Errors
    /// What ended it.
    pub async fn finished(&mut self) -> Result<SinkSummary, Arc<EngineError>> {
        match self.result.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or_else(|| Err(Arc::new(EngineError::Stopped))),
            Err(_) => Err(Arc::new(EngineError::Stopped)),
        }
    }
}

/// Starts to feed a sink.
pub(crate) fn spawn_sink(shared: &Arc<Shared>, subscription: Subscription, sink: Box<dyn Sink>) -> SinkHandle {
    let (sender, result) = watch::channel(None);
    let task = shared.handle.spawn(async move {
        let result = feed(subscription, sink).await;
        if let Err(error) = &result {
            tracing::warn!(%error, "a sink has ended");
        }
        sender.send_replace(Some(result));
    });
    SinkHandle { result, _task: AbortOnDropHandle::new(task) }
}

async fn feed(mut subscription: Subscription, mut sink: Box<dyn Sink>) -> Result<SinkSummary, Arc<EngineError>> {
    let mut rows = 0;
    let mut flush = tokio::time::interval(FLUSH_INTERVAL);
    let mut dirty = false;
    loop {
        tokio::select! {
            biased;
            _ = flush.tick() => if std::mem::take(&mut dirty) {
                sink.flush().await?;
            },
            event = subscription.next() => match event {
                SubscriptionEvent::Rows { batch, skip, .. } => {
                    let visible = batch.visible();
                    let told = visible.slice(skip, visible.num_rows() - skip);
                    sink.write(batch.kind, &told).await?;
                    rows += told.num_rows() as u64;
                    dirty = true;
                }
                SubscriptionEvent::Gap(gap) => tracing::warn!(?gap, "a sink has lost rows"),
                SubscriptionEvent::Progress(_) => {}
                SubscriptionEvent::Complete(_) => {
                    sink.flush().await?;
                    return Ok(SinkSummary { rows });
                }
                SubscriptionEvent::Failed(error) => return Err(error),
            },
        }
    }
}
