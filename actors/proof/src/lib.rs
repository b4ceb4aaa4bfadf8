//! Statements, proofs, and those who can tell whether they are right.
//!
//! [`Formula`] and [`Statement`] are the propositional fragment as values; [`kernel`] checks proofs exactly, first-order ones too;
//! [`lean`] asks the real Lean 4 about any statement. Both are a [`Verifier`]. [`search`] finds short proofs,
//! [`corpus`] makes graded problems, [`english`] says formulas in English and reads them back.
//!
//! Invariants: foreign text of any length or content gives an [`Outcome`], never a panic; only a complete positive
//! answer is [`Outcome::Proved`]; everything random is drawn from a seed, but for the names Lean must not guess.
//! Not here: storage, actors, language models; this crate imports nothing of ours.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on fails"))]

pub mod corpus;
pub mod english;
pub mod error;
pub mod formula;
pub mod kernel;
pub mod lean;
pub mod prelude;
pub mod rows;
pub mod search;
pub mod statement;
mod syntax;
pub mod verifier;

pub use error::{Error, Result};
pub use formula::{Formula, Style};
pub use statement::Statement;
pub use verifier::{Build, Candidate, Compiled, Limits, Outcome, Verdict, Verifier};
