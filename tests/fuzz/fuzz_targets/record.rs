//! Records of every kind, and codes of blocks of points.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracker_store::fuzz::record(bytes));
