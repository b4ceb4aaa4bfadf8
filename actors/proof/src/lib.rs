//! tracker-proof
