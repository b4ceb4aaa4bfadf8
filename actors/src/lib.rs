//! tracker-actors
