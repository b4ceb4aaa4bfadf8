//! Runs from one store to another: exports and imports.
//!
//! An export is a bundle with the records of some runs, of every run they came from, and of all contents and artifacts that either
//! name; the parts of a run lie together, runs by id. An import gives them to the one code that writes recordings, so what it makes is
//! what the runs themselves made.
//!
//! Invariants: what is exported is closed under lineage, so a walk up from anything in it gives the same after the import; a run comes
//! whole or not at all, save very large ones, which say that they are not finished until they are; importing again changes nothing;
//! a run that is there with other contents is refused before anything is written.

mod closure;
mod export;
mod import;
mod logged;
mod part;
mod sections;
mod units;

pub use export::Exported;
pub use import::{Arrival, Imported, ImportedRun};
pub use units::Kept;
