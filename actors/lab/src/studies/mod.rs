//! The studies: one a paper.
pub mod alignment_tax;
pub mod dpa;
pub mod er_prm;
pub mod goedel;
pub mod grm;
pub mod r_tuning;
pub mod random_features;
