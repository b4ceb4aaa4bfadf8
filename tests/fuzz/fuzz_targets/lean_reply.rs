//! Whatever a Lean process prints and whatever a server answers is an outcome, and `proved` only with the whole positive
//! line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracker_proof::{Outcome, lean};

const NONCE: &str = "7";

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let says_so = text.contains("tk_7_0") && text.contains("axioms");
    for outcome in [lean::outcome_of(bytes, NONCE), lean::kimina::outcome_of(bytes, NONCE)] {
        assert!(outcome != Outcome::Proved || says_so, "{text}");
    }
});
