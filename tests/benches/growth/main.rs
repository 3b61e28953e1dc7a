//! What a query costs as its input, its keys and its windows grow: events, keys in one window with the bytes that each
//! takes, and hopping windows of ever more slides. Batches are made in memory. Ends with failure when a goal is missed by
//! more than 15 %.
//!
//! `cargo run --release -p squilla-tests --bin growth -- [EVENTS [KEYS]]`: up to so many, a hundred million and ten million
//! unless said.

mod batches;

use std::process::ExitCode;

use squilla_tests::held::{Held, Told, run};
use squilla_tests::measure::{Cost, Goals, load, median};

use batches::{SOURCE, disordered_keys, rows};

/// Keys of the queries that are not about keys.
const FEW_KEYS: u64 = 1_000;
/// An event of many costs as much as one of a hundredth of them.
const EVENTS_GOAL: f64 = 1.0;
/// A key of the most costs a little more than one of a tenth of them: less of their table is in a cache.
const KEYS_GOAL: f64 = 1.3;
/// A slide of a window of a hundred times as many slides costs twice as much at the most.
const SLIDES_GOAL: f64 = 2.0;
/// Event time from row to row, in nanoseconds.
const STEP_NS: i64 = 1_000_000;
/// Slides, of a second each, over which windows hop.
const SLIDES: u64 = 2_000;
/// Runs of which the median is told, where they are short.
const RUNS: usize = 3;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let events: u64 = arguments.next().unwrap_or(100_000_000);
    let keys: u64 = arguments.next().unwrap_or(10_000_000);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    println!("{threads} threads, load {} at the start", load());
    let mut goals = Goals::default();
    of_events(events, threads, &mut goals);
    of_keys(keys, threads, &mut goals);
    of_slides(threads, &mut goals);
    println!("load {} at the end", load());
    goals.told()
}

fn of_events(most: u64, threads: usize, goals: &mut Goals) {
    println!("\nevents, count and sum by {FEW_KEYS} keys and windows of 10 s");
    let select = "SELECT window_start, k, count(*), sum(v) FROM s GROUP BY k, tumble('10s')";
    let mut first = None;
    for events in [most / 100, most / 10, most] {
        let runs = if events < most { RUNS } else { 1 };
        let held = || Held::new((0..2).map(|part| rows(events / 2, part, FEW_KEYS, STEP_NS)).collect());
        let cost = typical((0..runs).map(|_| run(SOURCE, held(), select, threads)));
        let each_ns = cost.cpu_s * 1e9 / events as f64;
        let ratio = each_ns / *first.get_or_insert(each_ns);
        let told = goals.at_most(&format!("an event of {events}"), ratio, EVENTS_GOAL);
        println!("{events:>11} events: {:7.2} CPU s, {each_ns:5.0} ns an event, of the first: {told}", cost.cpu_s);
    }
}

fn of_keys(most: u64, threads: usize, goals: &mut Goals) {
    for (name, calls) in
        [("count", "count(*)"), ("sum, avg and max", "sum(v), avg(v), max(v)"), ("distinct", "count(DISTINCT v)")]
    {
        println!("\nkeys in one window, two rows each: {name}");
        let select = format!("SELECT k, {calls} FROM s GROUP BY k, tumble('1 day')");
        let mut before = None;
        for keys in [most / 100, most / 10, most] {
            let runs: Vec<Told> =
                (0..RUNS).map(|_| run(SOURCE, Held::new(vec![disordered_keys(keys)]), &select, threads)).collect();
            assert!(runs.iter().all(|told| told.rows == keys), "each key is told once");
            // Short runs may end before anybody has looked at their state.
            let state = runs.iter().map(|told| told.state_bytes).max().unwrap_or_default() as f64 / keys as f64;
            let cost = typical(runs.into_iter());
            let (each_ns, grown) = (cost.cpu_s * 1e9 / keys as f64, cost.peak_bytes / keys as f64);
            let ratio = each_ns / before.replace(each_ns).unwrap_or(each_ns);
            // Fewer fit in a cache.
            let ratio = match keys == most {
                true => goals.at_most(&format!("{name}: a key of {keys}"), ratio, KEYS_GOAL),
                false => format!("{ratio:.2}"),
            };
            println!(
                "{keys:>11} keys: {:7.2} CPU s, {each_ns:5.0} ns a key, of those before: {ratio}; {state:4.0} bytes of state a \
                 key, the process grew by {grown:4.0}",
                cost.cpu_s
            );
        }
    }
}

fn of_slides(threads: usize, goals: &mut Goals) {
    for (name, calls) in [("count and sum", "count(*), sum(v)"), ("max and distinct", "max(v), count(DISTINCT v % 8)")]
    {
        println!("\nhopping windows by {FEW_KEYS} keys, a second a slide, {SLIDES} slides: {name}");
        let mut first = None;
        for seconds in [5, 50, 500] {
            let select = format!("SELECT window_start, k, {calls} FROM s GROUP BY k, hop('1s', '{seconds}s')");
            let held =
                || Held::new(vec![rows(2 * FEW_KEYS * SLIDES, 0, FEW_KEYS, 1_000_000_000 / (2 * FEW_KEYS) as i64)]);
            let cost = typical((0..RUNS).map(|_| run(SOURCE, held(), &select, threads)));
            // The windows at both ends are told, too.
            let each_us = cost.cpu_s * 1e6 / (SLIDES + seconds - 1) as f64;
            let ratio = each_us / *first.get_or_insert(each_us);
            let told = goals.at_most(&format!("{name}: windows of {seconds} slides"), ratio, SLIDES_GOAL);
            println!("{seconds:>11} slides: {:7.2} CPU s, {each_us:6.0} µs a window, of the first: {told}", cost.cpu_s);
        }
    }
}

fn typical(told: impl Iterator<Item = Told>) -> Cost {
    let costs: Vec<Told> = told.collect();
    let of = |figure: fn(&Told) -> f64| median(costs.iter().map(figure).collect());
    Cost { cpu_s: of(|told| told.cpu_s), wall_s: of(|told| told.wall_s), peak_bytes: of(|told| told.grown_bytes) }
}
