//! Filters and orders of clients of the tracking protocol, asked of everything that can be searched.
//!
//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz mlflow_filter -- -dict=tests/fuzz/mlflow_filter.dict`
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| tracker_server::fuzz::filter(text));
