//! No bytes make planning panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| squilla_tests::fuzz::plan(data));
