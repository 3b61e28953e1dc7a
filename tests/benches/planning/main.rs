//! How long planning takes: for large statements near every cap, for those of the case files, for drawn ones and torn
//! ones. Ends with failure when one takes longer than the limit.
//!
//! `cargo run --release -p squilla-tests --bin planning -- [DRAWN [SEED]]`: so many drawn statements, and as many torn ones.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use squilla_query::analyze;
use squilla_tests::names::Names;
use squilla_tests::random::Random;
use squilla_tests::statements::large::{LARGE, crowded, wide};
use squilla_tests::statements::written::written;
use squilla_tests::statements::{RELATIONS, Statements};
use squilla_tests::workspace_root;

/// How long planning may take. Builds without optimisation are some ten times slower.
const LIMIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2_000 } else { 200 });
/// A statement above the limit is planned so often again: others may share the machine.
const AGAIN: usize = 4;
const DRAWN: usize = 5_000;
/// Characters of a statement that are shown.
const SHOWN: usize = 400;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let drawn = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(DRAWN);
    let seed = arguments.next().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let wide = wide();
    let relations: Vec<&str> = RELATIONS.into_iter().chain([wide.as_str()]).collect();
    let names = Names::of(&relations);
    let written = written(&workspace_root());
    let mut random = Random::new(seed);
    println!("seed {seed}, at most {LIMIT:?} a statement");
    println!("{:<14} {:>6} {:>8} {:>9} {:>9} {:>9}", "statements", "count", "planned", "median", "p99", "max");
    let large = LARGE.iter().map(|(name, size, statement)| (*name, statement(*size))).chain(crowded()).collect();
    let plain = |all: Vec<String>| all.into_iter().map(|sql| ("", sql)).collect();
    let parts: [(&str, Vec<(&str, String)>); 4] = [
        ("large", large),
        ("of cases", plain(written.clone())),
        ("drawn", plain((0..drawn).map(|_| Statements::new(&mut random).statement()).collect())),
        ("torn", plain((0..drawn).map(|_| Statements::new(&mut random).torn(&written)).collect())),
    ];
    let good: Vec<bool> = parts.into_iter().map(|(name, statements)| measure(name, &statements, &names)).collect();
    if good.into_iter().all(|good| good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plans the statements and prints how long it took; false: longer than the limit.
fn measure(name: &str, statements: &[(&str, String)], names: &Names) -> bool {
    let mut planned = 0;
    let mut times: Vec<(Duration, usize)> = Vec::with_capacity(statements.len());
    for (index, (_, sql)) in statements.iter().enumerate() {
        let (mut least, right) = took(sql, names);
        planned += usize::from(right);
        for _ in 0..AGAIN {
            if least > LIMIT {
                least = least.min(took(sql, names).0);
            }
        }
        times.push((least, index));
    }
    times.sort();
    let part = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
    let ms = |time: Option<&(Duration, usize)>| time.map_or(0.0, |(time, _)| time.as_secs_f64() * 1e3);
    let (median, p99, max) = (ms(part(50)), ms(part(99)), ms(times.last()));
    println!("{name:<14} {:>6} {planned:>8} {median:>6.2} ms {p99:>6.2} ms {max:>6.2} ms", statements.len());
    let Some((longest, index)) = times.last() else { return true };
    let (shape, sql) = &statements[*index];
    println!("    the longest: {shape} {}", sql.chars().take(SHOWN).collect::<String>());
    if longest > &LIMIT {
        for (time, index) in times.iter().filter(|(time, _)| *time > LIMIT) {
            let (shape, sql) = &statements[*index];
            println!("    TOO LONG: {time:?}: {shape} {}", sql.chars().take(SHOWN).collect::<String>());
        }
    }
    longest <= &LIMIT
}

/// How long it took, and whether the statement is right.
fn took(sql: &str, names: &Names) -> (Duration, bool) {
    let started = Instant::now();
    let planned = analyze(sql, names).is_ok();
    (started.elapsed(), planned)
}
