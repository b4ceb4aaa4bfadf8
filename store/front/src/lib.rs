//! Pareto fronts of runs and checkpoints: which points no other beats, how deep the others lie, what volume is dominated,
//! and files to look at.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking"))]

mod crowding;
mod divide;
mod dominance;
mod error;
mod export { pub const EXTENSIONS: [&str; 1] = ["csv"]; }
mod hypervolume;
mod objective;
mod order;
mod prune;
mod staircase;

pub use crowding::crowding;
pub use dominance::{epsilon_front, non_dominated, ranks};
pub use error::{Error, Result};
pub use hypervolume::{contributions, hypervolume, worst};
pub use objective::{Direction, MAX_OBJECTIVES, Objective, Points};
