//! The tracking protocol of `MLflow` over HTTP, answered from the store.
//!
//! [`Server::bind`] serves a [`Store`](tracker_store::Store): Python scripts that log to a tracking server write into a tracker folder
//! unchanged, and see the runs that are in it. Experiments, runs, series, files, models and traces are the store's own; nothing is kept
//! beside it.
//!
//! Invariants:
//! - A write that was acknowledged survives kill -9, and a loss of power a second later. A request is written whole or not at all, and nothing
//!   fails after it was written.
//! - No answer is larger in memory than a bounded part of it, where it may be large: lists of runs and files are streamed.
//! - What a client sends never panics, and is answered with the protocol's codes; the parameter that is wrong is named.
//! - Nobody but this machine is served without a token; no page of another site reaches the server through a browser.
//!
//! Not here: what is stored and how (`tracker-store`), the command line, a web page.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod answer;
mod api;
mod artifacts;
mod error;
mod experiments;
// Written for tests, and a tenth of this crate: no release has it.
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod inflate;
mod limits;
mod models;
mod registry;
mod routes;
mod runs;
mod search;
mod serve;
mod stream;
mod traces;
mod wire;

pub use error::Error;
pub use serve::{Options, Server, Stopper};

/// The version of the protocol that is spoken: what clients compare to know what a server can do.
pub const PROTOCOL_VERSION: &str = "3.17.2";

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
