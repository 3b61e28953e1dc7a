//! What others notice while queries come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use squilla_engine::{EngineConfig, SubscribeOptions, Subscription, SubscriptionEvent};
use squilla_tests::lab::Lab;
use tokio::runtime::Runtime;

use super::generator::Pace;
use super::{at_most, generated, subscribe};

/// The load: 20,000 rows/s, 20 at a time.
const ROWS: usize = 20;
const EVERY: Duration = Duration::from_millis(1);
/// Those who are watched, each of one kind in a hundred.
const READERS: u64 = 20;
/// How long each case is watched.
const WATCHED: Duration = Duration::from_secs(6);
/// How often it is watched; the median counts.
const ROUNDS: usize = 3;
const NEW_PER_SECOND: u32 = 100;
const KNOWN_PER_SECOND: u32 = 1_000;

/// Measures and prints.
pub(crate) fn report(clients: &Runtime) -> bool {
    let (mut alone, mut new, mut known) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(clients.block_on(watch(None)));
        new.push(clients.block_on(watch(Some((NEW_PER_SECOND, true)))));
        known.push(clients.block_on(watch(Some((KNOWN_PER_SECOND, false)))));
    }
    let [alone, new, known] = [alone, new, known].map(median);
    println!("99 % of rows are read within {alone:?}");
    let ratio = |p99: Duration| p99.as_secs_f64() / alone.as_secs_f64();
    let new = at_most(&format!("{NEW_PER_SECOND} new queries a second: {new:?}"), ratio(new), 1.2);
    let known = at_most(&format!("{KNOWN_PER_SECOND} known queries a second: {known:?}"), ratio(known), 1.2);
    new && known
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The 99th percentile from a row's making to its reading, while so many queries a second come and go.
async fn watch(churn: Option<(u32, bool)>) -> Duration {
    let start = Instant::now();
    let lab = Arc::new(generated(EngineConfig::default(), Pace::Steady { rows: ROWS, every: EVERY, start }).await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for kind in 0..READERS {
        let reader = subscribe(&lab, &format!("SELECT ts FROM s WHERE kind = {kind}")).await;
        readers.push(tokio::spawn(read(reader, start)));
    }
    let comings = churn.map(|(per_second, new)| tokio::spawn(come_and_go(lab.clone(), stop.clone(), per_second, new)));
    let all = join_all(readers).await;
    stop.store(true, Ordering::Relaxed);
    if let (Some(comings), Some((per_second, _))) = (comings, churn) {
        let came = comings.await.expect("it does not panic");
        let wanted = WATCHED.as_secs_f64() * f64::from(per_second);
        if f64::from(came) < wanted * 0.9 {
            println!("only {came} queries came in {WATCHED:?}");
        }
    }
    lab.engine.shutdown().await;
    let mut all: Vec<Duration> = all.into_iter().flat_map(|times| times.expect("a reader does not panic")).collect();
    all.sort_unstable();
    all[all.len() * 99 / 100]
}

/// How long each row took.
async fn read(mut reader: Subscription, start: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    while start.elapsed() < WATCHED {
        if let SubscriptionEvent::Rows { batch, skip, .. } = reader.next().await {
            let now = start.elapsed();
            let made = batch.event_times()[skip..].iter().map(|made| Duration::from_nanos(made.unsigned_abs()));
            times.extend(made.map(|made| now.saturating_sub(made)));
        }
    }
    times
}

/// Starts queries and stops them a tenth of a second later; how many.
async fn come_and_go(lab: Arc<Lab>, stop: Arc<AtomicBool>, per_second: u32, new: bool) -> u32 {
    let known = lab.query("SELECT id, price FROM s WHERE id = 7 AND price > 3");
    let mut open = std::collections::VecDeque::new();
    let (mut came, mut due) = (0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep_until(due.into()).await;
        due += Duration::from_secs(1) / per_second;
        let own = if new {
            let sql = format!("SELECT id, price FROM s WHERE id = {came} AND price > {came}");
            let planner = lab.clone();
            // As the gateway plans: its sockets are served meanwhile.
            let planned = lab.engine.on_planner(move || planner.query(&sql)).await;
            Some(planned.expect("it can be planned"))
        } else {
            None
        };
        let query = own.as_ref().unwrap_or(&known);
        let subscription = lab.engine.subscribe(query, SubscribeOptions::default()).await.expect("the query runs");
        open.push_back(subscription);
        came += 1;
        if open.len() > per_second as usize / 10
            && let Some(oldest) = open.pop_front()
        {
            oldest.unsubscribe();
        }
    }
    came
}
