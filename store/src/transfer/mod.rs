//! Runs from one store to another: exports and imports.
//!
//! An export is a bundle with the records of some runs, of every run they came from, and of all contents and artifacts that either
//! name; the parts of a run lie together, runs by id, with the logged models and traces that are the run's. Versions of registered models
//! that came of these are a part of no run, the last. An import gives runs to the one code that writes recordings, so what it makes is
//! what the runs themselves made; models and traces follow once all runs are there, and then the registered models.
//!
//! Invariants: what is exported is closed under lineage, so a walk up from anything in it gives the same after the import; a run comes
//! whole or not at all, save very large ones, which say that they are not finished until they are; so does a logged model, a trace, a
//! version; importing again changes nothing; a run that is there with other contents is refused before anything is written, a model or a trace
//! that is there with others stays and is told.

mod closure;
mod export;
#[cfg(test)]
mod forged_test;
mod import;
mod logged;
mod part;
mod registry;
mod sections;
mod survey;
mod unit;
mod units;

pub use export::Exported;
pub use import::{Arrival, Imported, ImportedRun};
pub(crate) use import::{check_mark, check_tag};
pub use units::Kept;
