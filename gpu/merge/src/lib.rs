//! Merging checkpoints: a recipe and Hugging Face folders in, a Hugging Face folder out, in bounded memory.
//!
//! [`Recipe`] is the text; [`Merge::plan`] opens the headers and finds every problem before a byte of weight is read;
//! [`Merge::run`] streams tensors through a method of the [registry](methods) and publishes the folder whole.
//!
//! # Invariants
//! - Sums are f32 (f64 where signs are elected) and rounded once to the output's type.
//! - Random masks are keyed by (seed, tensor, element): the bytes do not depend on threads.
//! - A weight belongs to a named parent; there is no bare ratio. Embeddings, final norm and head have a stated policy.
//! - The output appears under its name when it is whole; a killed merge goes on after the last whole tensor.
//!
//! # Not here
//! Stores and runs; graphics devices (`tracker-gpu`).
#![allow(
    clippy::inline_always,
    reason = "what is not inlined into a vectorised function is compiled without its vectors"
)]
#![allow(clippy::needless_range_loop, reason = "loops over lanes of several arrays read best by their index")]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking"))]

mod chat;
mod error;
mod folder;
mod gather;
mod lanes;
mod layout;
mod method;
mod near;
mod output;
mod plan;
mod recipe;
mod run;
mod setting;
mod share;
mod space;
mod threads;
mod vocabulary;

pub use blake3::Hash;
pub use error::{Error, Result};
pub use folder::{Folder, Stamp};
pub use method::{Arg, Base, MethodInfo, methods};
pub use plan::{Merge, Summary};
pub use recipe::Recipe;
pub use run::{Merged, OnTensor};
pub use share::Share;
