//! Pareto fronts of runs and checkpoints: which points no other beats, how deep the others lie, what volume is dominated,
//! and files to look at.
//!
//! [`Points`] are compared by [`non_dominated`], [`ranks`], [`crowding`](crowding()), [`hypervolume`](hypervolume()) and
//! [`epsilon_front`]; a [`Front`] is a table of rows with all of these, and writes itself as CSV, JSON, Parquet, SVG, PNG or
//! HTML.
//!
//! # Invariants
//! - Ties are kept: equal points do not dominate each other and share rank and crowding distance.
//! - No result depends on the order of points but that of rows; equal fronts give equal bytes in every format.
//! - A file appears under its name when it is whole.
//!
//! # Not here
//! Runs, stores and lineage: whoever has them fills in [`Candidate`]s.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking"))]

mod axis;
mod canvas;
mod chart;
mod crowding;
mod divide;
mod dominance;
mod error;
mod export;
mod hypervolume;
mod objective;
mod order;
mod plot;
mod prune;
mod staircase;
mod table;

pub use chart::{Chart, Mark, Point, Scale, Series};
pub use crowding::crowding;
pub use dominance::{epsilon_front, non_dominated, ranks};
pub use error::{Error, Result};
pub use export::{Format, write_whole};
pub use hypervolume::{contributions, hypervolume, worst};
pub use objective::{Direction, MAX_OBJECTIVES, Objective, Points};
pub use plot::FONT;
pub use table::{Candidate, Front, Options, Reason, Rejected, Row};

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
