//! Devices, and the kernels that run on them: arrays in, arrays out.
//!
//! A [`Device`] is the CPU or one graphics adapter; [`Device::kernels`] is the same set of operations on either. Each
//! kernel is a `.wgsl` file beside its CPU twin in `kernels/`, and one suite (`tests/kernels.rs`) holds the two together.
//!
//! # Invariants
//! - Weighted sums are bit-equal on every device that opens: a start-up self-test refuses the others. The other kernels
//!   agree within the tolerance stated on them.
//! - A device fault (validation, lost device, out of memory, a panic in the driver layer) is an [`Error::Device`]:
//!   never zeros, never a panic of the caller.
//! - `auto` takes a real graphics processor or the CPU, never a software adapter: plain Rust is faster than those.
//!
//! # Not here
//! Files, runs and stores; the language model (`tracker-lm`, on burn, picks its own backend from [`Device::adapter`]).

mod device;
mod error;
mod gpu;
mod kernels;
mod self_test;

pub use device::{Adapter, Choice, Device, Kind, devices};
pub use error::{Error, Result};
pub use kernels::Kernels;
pub use kernels::direction_argmax::Best;
pub use kernels::mix::{Held, Piece};
pub use kernels::normal::normals;
pub use kernels::truth_table::{MAX_ATOMS, MAX_DEPTH, MAX_OPS, Op, Program, Tables};

/// Compiles and runs the README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
