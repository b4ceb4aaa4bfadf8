//! tracker-lm
