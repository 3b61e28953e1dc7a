//! The process dies: at every failpoint, and at any other moment. What it acknowledged is there afterwards, and the
//! streams that it computes are what they would be without a crash.
//!
//! `SQUILLA_SEED` repeats a run; `SQUILLA_KILL_MINUTES` and `SQUILLA_DISCONNECT_MINUTES` say how long the random ones take.

mod calm;
mod compare;
mod disconnect;
mod oracle;
mod publish;
mod random;
mod read;
mod server;
mod several;
mod statement;
mod suite;

use std::time::{Duration, Instant};

use random::{Random, seed};
use squilla_engine::failpoint::Failpoint;
use suite::{End, Figures, Suite};

/// Requests of each publisher to a process that is not killed before.
const REQUESTS: usize = 12;
/// Passings of a failpoint before the process dies there, at the most.
const PASSINGS: u64 = 12;
/// Processes that end when they are asked to before others are killed: each takes a last snapshot of each stream, and
/// those that are too many are removed.
const PROCESSES: usize = 3;
/// Failpoints of which an ordinary run takes a sample.
const SAMPLE: usize = 12;
/// How often each failpoint is taken in a long run, each time with another seed.
const SEEDS: u64 = 4;
/// Random kills go on with streams that begin anew when these have been compared, lest they grow for an hour.
const COMPARED_AFTER: Duration = Duration::from_secs(300);

fn is_long() -> bool {
    std::env::var("SQUILLA_LONG").is_ok_and(|long| long == "1")
}

/// How long a test runs: the variable's minutes, or those of a long run, else seconds.
fn duration(variable: &str, long_minutes: u64, seconds: u64) -> Duration {
    let minutes = std::env::var(variable).ok().map(|text| text.parse::<f64>().expect("minutes are a number"));
    match minutes {
        Some(minutes) => Duration::from_secs_f64(minutes * 60.0),
        None if is_long() => Duration::from_secs(long_minutes * 60),
        None => Duration::from_secs(seconds),
    }
}

/// Kills a process at each of the failpoints, on the same folder.
async fn die_at(points: &[Failpoint], seed: u64) -> Figures {
    let mut suite = Suite::new(seed);
    let mut random = Random::new(seed);
    for _ in 0..PROCESSES {
        suite.process(None, REQUESTS, End::Asked).await;
    }
    for point in points {
        if *point == Failpoint::TailCut {
            // Passed only by a process that follows one which has died amid a write.
            let torn = armed(Failpoint::AppendTorn, random.within(1..PASSINGS));
            suite.process(Some(&torn), REQUESTS, End::Asked).await;
        }
        let first = armed(*point, random.within(1..PASSINGS));
        if suite.process(Some(&first), REQUESTS, End::Asked).await.is_none() && *point != Failpoint::TailCut {
            // It is not passed as often as that.
            let ended = suite.process(Some(&armed(*point, 1)), REQUESTS, End::Asked).await;
            assert_eq!(ended.as_deref(), Some(point.name()), "it ends the process");
        }
    }
    suite.verify().await
}

fn armed(point: Failpoint, passing: u64) -> String {
    format!("{}:{passing}", point.name())
}

/// What was not lost and not doubled: else the test has failed before.
fn print(what: &str, figures: &Figures) {
    let Figures { kills, sent, acknowledged, duplicates, windows, counts, gaps, epochs } = figures;
    println!(
        "{what}: {kills} kills, {sent} rows published ({duplicates} requests again that had been taken), {acknowledged} \
         acknowledged, lost 0, doubled 0, {windows} windows of {counts} rows compared; of the buffered stream {gaps} \
         gaps and {epochs} new epochs were told"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_the_process_dies_at_a_failpoint() {
    let seed = seed();
    for round in 0..if is_long() { SEEDS } else { 1 } {
        let seed = seed.wrapping_add(round);
        let mut points = Failpoint::ALL.to_vec();
        Random::new(seed).shuffle(&mut points);
        if !is_long() {
            points.truncate(SAMPLE);
        }
        println!("seed {seed}: {:?}", points.iter().map(|point| point.name()).collect::<Vec<_>>());
        print("failpoints", &die_at(&points, seed).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failpoint_is_passed() {
    let mut suite = Suite::new(1);
    for _ in 0..PROCESSES {
        suite.process(None, 1, End::Asked).await;
    }
    let torn = armed(Failpoint::AppendTorn, 40);
    assert_eq!(suite.process(Some(&torn), REQUESTS, End::Asked).await.as_deref(), Some("append_torn"));
    suite.process(None, REQUESTS, End::Asked).await;
    let figures = suite.verify().await;
    print("all failpoints passed", &figures);
    let missing: Vec<&str> =
        Failpoint::ALL.iter().map(|point| point.name()).filter(|name| !suite.passed.contains(*name)).collect();
    assert!(missing.is_empty(), "not passed: {missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_the_process_is_killed_at_random() {
    let seed = seed();
    let mut random = Random::new(seed);
    let (began, lasts) = (Instant::now(), duration("SQUILLA_KILL_MINUTES", 60, 8));
    let mut total = Figures::default();
    while began.elapsed() < lasts {
        let mut suite = Suite::new(random.number());
        let end = lasts.min(began.elapsed() + COMPARED_AFTER);
        suite.process(None, 1, End::Asked).await;
        while began.elapsed() < end {
            let after = Duration::from_millis(random.within(20..2_000));
            suite.process(None, usize::MAX, End::Killed(after)).await;
        }
        total.add(&suite.verify().await);
    }
    print(&format!("{} min of random kills", began.elapsed().as_secs() / 60), &total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_at_random_gets_every_row_once() {
    let lasts = duration("SQUILLA_DISCONNECT_MINUTES", 10, 5);
    let report = disconnect::clients_hang_up(seed(), lasts).await;
    let seconds = lasts.as_secs();
    println!("{seconds} s of disconnects: {}, each of {} rows once", report.disconnects, report.rows);
    assert!(report.disconnects > 10, "they hung up {} times", report.disconnects);
}
