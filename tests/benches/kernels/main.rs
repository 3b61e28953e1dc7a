//! Where a row's time goes: what decoding, filtering, gathering in panes, merging panes and encoding cost each, alone.
//!
//! `cargo run --release -p squilla-tests --bin kernels -- [NAME…]` tells nanoseconds of processors a row. With `--check` it runs itself
//! under callgrind instead, and ends with failure when a kernel takes over 15 % more instructions a row than
//! `tests/benches/kernels/bounds.txt` says; with `--record` what it finds is written there.

mod check;
mod kernel;

use std::process::ExitCode;

use squilla_tests::measure::{median, own_cpu_s};

use kernel::{Kernel, NAMES};

/// Measurements of which the median is told, and how long each takes a processor at least.
const TIMES: usize = 7;
const LEAST_S: f64 = 0.2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--check"] => check::check(false),
        ["--record"] => check::check(true),
        ["--rounds", rounds, name] => {
            let mut kernel = Kernel::new(name);
            (0..rounds.parse::<u64>().expect("a number of rounds")).for_each(|_| kernel.round());
            println!("{}", kernel.rows());
            ExitCode::SUCCESS
        }
        _ => {
            for name in NAMES.into_iter().filter(|name| arguments.is_empty() || arguments.contains(name)) {
                let mut kernel = Kernel::new(name);
                kernel.round();
                let each_ns = median((0..TIMES).map(|_| time(&mut kernel)).collect());
                println!("{name:8} {each_ns:8.1} ns a row, {:8.2} M rows/s", 1e3 / each_ns);
            }
            ExitCode::SUCCESS
        }
    }
}

/// Nanoseconds of processors a row.
fn time(kernel: &mut Kernel) -> f64 {
    let (began_s, mut rounds) = (own_cpu_s(), 0);
    while own_cpu_s() - began_s < LEAST_S {
        kernel.round();
        rounds += 1;
    }
    (own_cpu_s() - began_s) * 1e9 / (rounds * kernel.rows()) as f64
}
