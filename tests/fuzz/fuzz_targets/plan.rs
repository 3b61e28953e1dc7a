//! No bytes make planning panic.
#![no_main]

// The modules themselves instead of their crate: that one needs the engine and all sources.
#[path = "../../src/names.rs"]
mod names;
#[expect(dead_code, reason = "a fuzzer needs a part of what the suites share")]
#[path = "../../src/random.rs"]
mod random;
#[expect(dead_code, reason = "a fuzzer needs a part of what the suites share")]
#[path = "../../src/statements/mod.rs"]
mod statements;

#[path = "../../src/fuzz.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::plan(data));
