//! What others notice while queries come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use squilla_engine::{EngineConfig, SubscribeOptions, Subscription, SubscriptionEvent};
use squilla_tests::lab::Lab;
use tokio::runtime::{Builder, Runtime};

use super::generator::{BATCH_ROWS, Pace};
use super::{at_most, generated, subscribe};

/// What the stream brings.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// Rows at once, and how often.
    rows: usize,
    every: Duration,
    /// The column of which each reader waits for another value.
    column: &'static str,
    /// How often each case is watched in turn, so that what the machine does beside hits all alike; the median counts.
    rounds: usize,
}

/// As many as one core makes, of which each reader gets one in a million.
const SATURATING: Load = Load { rows: BATCH_ROWS, every: Duration::ZERO, column: "id", rounds: 21 };
/// 20,000 rows a second, of which each reader gets one in a hundred: threads sleep most of the time.
const LIGHT: Load = Load { rows: 20, every: Duration::from_millis(1), column: "kind", rounds: 7 };
/// Those who are watched.
const READERS: u64 = 20;
/// How long each case is watched, and from when on: threads, logs and the allocator have to warm up.
const WATCHED: Duration = Duration::from_secs(1);
const WARM: Duration = Duration::from_millis(250);
const NEW_PER_SECOND: u32 = 100;
const KNOWN_PER_SECOND: u32 = 1_000;

/// Measures and prints.
pub(crate) fn report() -> bool {
    // As the server's, which reads for some clients while others begin and end.
    let clients = Builder::new_multi_thread().enable_all().thread_name("clients").build().expect("threads start");
    let [alone, new, known] = measure(&clients, LIGHT);
    println!(
        "of 20,000 rows/s 99 % are read within {alone:?}, beside {NEW_PER_SECOND} new queries a second {new:?}, beside \
         {KNOWN_PER_SECOND} known {known:?}"
    );
    let [alone, new, known] = measure(&clients, SATURATING);
    println!("of as many as can be made 99 % are read within {alone:?}");
    let ratio = |p99: Duration| p99.as_secs_f64() / alone.as_secs_f64();
    let new = at_most(&format!("{NEW_PER_SECOND} new queries a second: {new:?}"), ratio(new), 1.2);
    let known = at_most(&format!("{KNOWN_PER_SECOND} known queries a second: {known:?}"), ratio(known), 1.2);
    new && known
}

/// The 99th percentiles without others, beside new queries, and beside known ones.
fn measure(clients: &Runtime, load: Load) -> [Duration; 3] {
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..load.rounds {
        for (times, churn) in
            times.iter_mut().zip([None, Some((NEW_PER_SECOND, true)), Some((KNOWN_PER_SECOND, false))])
        {
            times.push(clients.block_on(watch(load, churn)));
        }
    }
    times.map(median)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The 99th percentile from a row's making to its reading, while so many queries a second come and go.
async fn watch(load: Load, churn: Option<(u32, bool)>) -> Duration {
    let start = Instant::now();
    let pace = Pace::Steady { rows: load.rows, every: load.every, start };
    let lab = Arc::new(generated(EngineConfig::default(), pace).await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut readers = Vec::new();
    for value in 0..READERS {
        let reader = subscribe(&lab, &format!("SELECT ts FROM s WHERE {} = {value}", load.column)).await;
        readers.push(tokio::spawn(read(reader, start)));
    }
    let comings = churn.map(|(per_second, new)| tokio::spawn(come_and_go(lab.clone(), stop.clone(), per_second, new)));
    let all = join_all(readers).await;
    stop.store(true, Ordering::Relaxed);
    if let (Some(comings), Some((per_second, _))) = (comings, churn) {
        let came = comings.await.expect("it does not panic");
        let wanted = (WARM + WATCHED).as_secs_f64() * f64::from(per_second);
        if f64::from(came) < wanted * 0.9 {
            println!("only {came} queries came in {:?}", WARM + WATCHED);
        }
    }
    lab.engine.shutdown().await;
    let mut all: Vec<Duration> = all.into_iter().flat_map(|times| times.expect("a reader does not panic")).collect();
    all.sort_unstable();
    all[all.len() * 99 / 100]
}

/// How long each row took that was made since it was warm.
async fn read(mut reader: Subscription, start: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    while start.elapsed() < WARM + WATCHED {
        if let SubscriptionEvent::Rows { batch, skip, .. } = reader.next().await {
            let now = start.elapsed();
            let made = batch.event_times()[skip..].iter().map(|made| Duration::from_nanos(made.unsigned_abs()));
            times.extend(made.filter(|made| *made >= WARM).map(|made| now.saturating_sub(made)));
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
