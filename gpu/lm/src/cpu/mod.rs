//! The decoder on the CPU: inference with a key-value cache, and gradients.
//!
//! Invariants:
//! - Every number is computed by one fixed sequence of operations, whatever else is in the batch, however the batch is
//!   split, and whichever vector width the machine has (sums run in index order or in sixteen fixed lanes; products are
//!   fused multiply-adds; `exp`, `sin` and `cos` are our own or libm's). So a sequence's logits are the same bits alone
//!   and in company, sampled, scored and trained on.
//! - Sums over the vocabulary go block by block ([`math`]), so that no row of logits need exist.
//! - Nothing here starts a thread: callers give each thread its own [`Work`].
//!
//! burn's CPU backend computes the same network (`net`, and the tests hold the two together); this path exists because
//! it decodes several times faster and because burn's results depend on the batch.

mod attention;
mod cache;
mod gemm;
mod grad;
mod log_prob;
mod math;
mod model;
mod readout;
mod tower;

pub(crate) use cache::{Cache, Segment};
pub(crate) use gemm::{Left, Out, Panels, multiply};
pub(crate) use grad::{Learned, Reads, Tape, Target};
pub(crate) use math::{AdamStep, adamw, add, layer_norm, log_sum_exp, sum_of_squares, tempered};
pub(crate) use model::{Model, Seq, Work};
pub(crate) use readout::{Reading, Readout};
pub(crate) use tower::{Activation, Shape as TowerShape, Tower, TowerAt, TowerWork, apply, norm_at};
