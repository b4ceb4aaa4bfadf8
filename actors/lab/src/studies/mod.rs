//! The studies: one a paper.
pub mod goedel;
