//! A thin runtime of supervised, bounded, observable workers over actix.
//!
//! A [`Worker`] handles one message at a time on a thread it never leaves. A [`Pool`] is a number of workers behind one
//! bounded queue. A [`Runtime`] houses pools, guards them from a thread of its own, and shuts them down.
//!
//! Invariants, whatever a handler does:
//! - every ask ends: in a reply, or in an [`AskError`] that says why there is none;
//! - at most `capacity` messages of a pool exist at once, however many handles ask;
//! - a panic or a timeout costs the message it happened on and no other, and the worker is rebuilt by its factory;
//! - a pool that keeps losing workers closes with the reason instead of looping;
//! - outcomes of [`Pool::ask_all`] come in the order of the questions.
//!
//! Not here: what messages mean (`tracker-lab`), stores, networks between machines, priorities, and publish–subscribe.

#![doc = ""]
#![doc = include_str!("../README.md")]

mod books;
mod desk;
mod error;
mod guardian;
mod host;
mod ledger;
mod pool;
mod retry;
mod runtime;
mod shield;
mod status;
mod worker;

pub use error::{AskError, Error, Fault, FaultKind, Result, Retryable};
pub use pool::{Admission, Asked, Pool, PoolOptions, Restarts};
pub use retry::{Retry, retry};
pub use runtime::{Cancel, Handle, Runtime};
pub use status::{Activity, Counts, Phase, Status, Stopped, WorkerStatus};
pub use worker::{Turn, Worker};
