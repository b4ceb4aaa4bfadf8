//! The socket: frames as each side reads them, and a holder that is sent anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tracker_engine::fuzz::frames(bytes);
    tracker_engine::fuzz::holder(bytes);
});
