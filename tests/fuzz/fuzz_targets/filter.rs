//! Filters and orders, and the questions they make.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| tracker_store::fuzz::filter(text));
