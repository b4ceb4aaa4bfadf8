//! tracker-tests
