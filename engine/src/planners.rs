//! Threads that read and plan statements.

use squilla_query::PLANNING_STACK_BYTES;
use thread_priority::{ThreadPriority, ThreadPriorityValue, set_current_thread_priority};
use tokio::runtime::{Builder, Runtime};

use crate::error::EngineError;

/// How many there are, unless there are more cores: a statement that takes long is not in the way of others.
const THREADS: usize = 4;
/// Stack of each: room for any statement, and for whoever plans it. Pages that are not touched cost nothing.
const STACK_BYTES: usize = PLANNING_STACK_BYTES + (1 << 20);
/// Of these threads, from 0 to 99: a nice value of 5 on Unix. Beside a thread that computes they still get a quarter of
/// a core, so that a query starts soon on a busy machine.
const PRIORITY: u8 = 37;

/// The threads. They start as they are needed, and end when they have had nothing to do for ten seconds: starting one
/// for each statement takes longer than planning a simple one.
pub(crate) struct Planners {
    /// Taken when this is dropped.
    runtime: Option<Runtime>,
}

impl Planners {
    pub(crate) fn new() -> Result<Self, EngineError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(cores.max(THREADS))
            .thread_stack_size(STACK_BYTES)
            .thread_name("plan")
            .on_thread_start(give_way)
            .build()
            .map_err(|error| EngineError::Internal(Box::new(error)))?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// See [`crate::Engine::on_planner`].
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let runtime = self.runtime.as_ref().expect("it is there until this is dropped");
        runtime.spawn_blocking(work).await.map_err(|error| EngineError::Internal(Box::new(error)))
    }
}

impl Drop for Planners {
    fn drop(&mut self) {
        // Whoever drops it may not wait for what is being planned.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// From now on this thread gives way to those that handle rows and sockets. Where it cannot, it is as they are.
fn give_way() {
    if let Ok(priority) = ThreadPriorityValue::try_from(PRIORITY) {
        let _ = set_current_thread_priority(ThreadPriority::Crossplatform(priority));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_others_go_on() {
        let planners = Planners::new().expect("threads start");
        let panicked = planners.run(|| panic!("on purpose")).await;
        assert!(matches!(panicked, Err::<(), _>(EngineError::Internal(_))));
        let name = planners.run(|| std::thread::current().name().map(str::to_owned)).await;
        assert_eq!(name.expect("it runs").as_deref(), Some("plan"));
    }
}
