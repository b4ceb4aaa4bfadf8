//! Keys: what reads is written back as it was.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracker_store::fuzz::key(bytes));
