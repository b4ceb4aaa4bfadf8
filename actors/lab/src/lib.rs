//! Studies and what they are made of.
//!
//! A [`Study`] is one straight function over a [`Lab`](lab::Lab); [`Session`] runs it. `parts` hold the machinery, shared by
//! all studies; a study adds nouns. Everything a study does is recorded through the lab's one recorder.
//!
//! Invariants: a work item's seed follows from what it is, never from time or order; what a killed run recorded is read
//! back, not done again; on the CPU device equal plans give equal record digests.
//! Not here: the command line, how bytes are kept, how arrays are computed.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking"))]

mod cost;
mod error;
mod event;
pub mod lab;
pub mod parts;
pub mod plan;
mod plot;
mod relabel;
mod seed;
mod session;
pub mod studies;
mod study;
pub mod sweep;
pub mod verify;

pub use error::{Error, Result};
pub use event::{Event, Events};
pub use plan::{Overlay, Plan, Preset};
pub use plot::{Fit, Found, Plot, Points};
pub use relabel::{Change, Relabel, Relabelled, Winners};
pub use session::{Finished, Session, resume_command};
pub use study::{Entry, Study, studies, study};
