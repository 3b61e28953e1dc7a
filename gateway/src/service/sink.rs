//! Sinks that run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use squilla_engine::{EngineError, SinkHandle, SinkSummary};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::catalog::Store;

/// How a sink's run came out; `None` while it runs.
type Outcome = Option<Result<SinkSummary, Arc<EngineError>>>;

/// The runs of sinks, by the sink's name. Dropping it ends them.
#[derive(Default)]
pub(super) struct SinkRuns {
    runs: Mutex<HashMap<String, Run>>,
}

struct Run {
    outcome: watch::Receiver<Outcome>,
    task: AbortHandle,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SinkRuns {
    /// Takes over a sink that was started. When its inputs have ended this is noted under `id` in the store.
    pub(super) fn watch(&self, name: &str, id: i64, mut handle: SinkHandle, store: Store) {
        let (tell, outcome) = watch::channel(None);
        let shown = name.to_owned();
        let task = tokio::spawn(async move {
            let result = handle.finished().await;
            match &result {
                Ok(_) => {
                    if let Err(error) = store.set_finished(id).await {
                        tracing::error!(sink = shown, %error, "that the sink has finished could not be stored");
                    }
                }
                Err(error) if matches!(**error, EngineError::Stopped) => {}
                Err(error) => tracing::error!(sink = shown, %error, "the sink has failed"),
            }
            // Who hears of the end may close the catalog and open it again.
            drop(store);
            tell.send_replace(Some(result));
        });
        let run = Run { outcome, task: task.abort_handle() };
        self.runs.lock().expect("no holder of this lock panics").insert(name.to_owned(), run);
    }

    /// Ends a run, if there is one.
    pub(super) fn stop(&self, name: &str) {
        self.runs.lock().expect("no holder of this lock panics").remove(name);
    }

    /// How a run stands; `None`: there is none.
    pub(super) fn outcome(&self, name: &str) -> Option<Outcome> {
        let runs = self.runs.lock().expect("no holder of this lock panics");
        runs.get(name).map(|run| run.outcome.borrow().clone())
    }

    /// Waits for the end of a run.
    pub(super) async fn finished(&self, name: &str) -> Result<SinkSummary, Arc<EngineError>> {
        let outcome = {
            let runs = self.runs.lock().expect("no holder of this lock panics");
            runs.get(name).map(|run| run.outcome.clone())
        };
        let Some(mut outcome) = outcome else {
            return Err(Arc::new(EngineError::UnknownRelation(name.to_owned())));
        };
        match outcome.wait_for(Option::is_some).await {
            Ok(result) => result.clone().expect("it was waited for"),
            Err(_) => Err(Arc::new(EngineError::Stopped)),
        }
    }
}
