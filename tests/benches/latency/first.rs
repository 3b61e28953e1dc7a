//! How long a statement waits for its first row, in the process of the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use squilla_engine::{SubscribeOptions, SubscriptionEvent};
use squilla_gateway::Service;
use squilla_query::Params;

/// The stream that statements are asked of.
pub(crate) const CREATE_STREAM: &str = "CREATE SOURCE steps (number BIGINT, name VARCHAR) WITH (connector = 'http')";
/// It runs: rows come so often.
const EVERY: Duration = Duration::from_millis(1);
/// Statements that are timed.
const STATEMENTS: usize = 200;

/// How long each of some statements took from its text to its first row, sorted. Each is one that runs nowhere yet.
pub(crate) async fn statements_to_first_rows(service: &Arc<Service>) -> Vec<Duration> {
    let runs = Arc::new(AtomicBool::new(true));
    let (service_of_rows, still) = (service.clone(), runs.clone());
    let handle = tokio::runtime::Handle::current();
    // A thread of its own: timers of the runtime are right to a millisecond only.
    let rows = std::thread::spawn(move || {
        let mut number = 0;
        while still.load(Relaxed) {
            let body = format!("{{\"number\":{number},\"name\":\"a step\"}}\n");
            handle.block_on(service_of_rows.publish("steps", body.into())).expect("its queue has room");
            number += 1;
            std::thread::park_timeout(EVERY);
        }
    });
    let mut waits = Vec::new();
    for at in 0..STATEMENTS {
        let sql = format!("SELECT number, name, {at} AS question FROM steps WHERE name <> 'no step {at}'");
        let asked = Instant::now();
        let query = service.query(&sql, &Params::new()).await.expect("the statement is right");
        let options = SubscribeOptions::default();
        let mut subscription = service.engine().subscribe(&query, options).await.expect("it starts");
        while !matches!(subscription.next().await, SubscriptionEvent::Rows { .. }) {}
        waits.push(asked.elapsed());
        subscription.unsubscribe();
    }
    runs.store(false, Relaxed);
    rows.join().expect("it does not fail");
    waits.sort();
    waits
}
