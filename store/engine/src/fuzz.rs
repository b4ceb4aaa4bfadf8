//! What a fuzzer may throw bytes at; `tests/fuzz` does, and so do this crate's own properties.

use crate::shared;

/// Bytes as a client would read them from a holder, and a holder from a client.
pub fn frames(bytes: &[u8]) {
    shared::read_any(bytes);
}

/// Bytes sent, after a greeting, to a holder that serves a store in memory; it must answer or hang up, and serve the next.
///
/// # Panics
/// If the holder panics, or spoils what it holds for others.
pub fn holder(bytes: &[u8]) {
    shared::serve_bytes(bytes);
}
