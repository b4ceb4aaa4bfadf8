//! Requests of clients of the tracking protocol, some at a time, to a server over a store in memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tracker_server::fuzz::routes(bytes));
