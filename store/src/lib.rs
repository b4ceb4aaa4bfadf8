//! tracker-store
