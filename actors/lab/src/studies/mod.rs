//! The studies: one a paper.
pub mod alignment_tax;
pub mod correlation_qa;
pub mod counter_animal;
pub mod dpa;
pub mod er_prm;
pub mod goedel;
pub mod grm;
pub mod r_tuning;
pub mod random_features;
pub mod self_moa;
