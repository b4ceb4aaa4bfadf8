//! tracker-engine
