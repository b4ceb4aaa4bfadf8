//! Lean.
pub(crate) mod scan;
