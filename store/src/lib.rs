//! What is recorded, and how it is found again.
//!
//! A [`Store`] is one folder: records and indexes in an ordered key-value engine, files beside it. Writers stage what
//! they know in a [`Recording`] and commit it whole; readers ask for rows, series, artifacts, [`query`](Store::query)
//! answers and [`walk`](Store::walk) the lineage.
//!
//! Invariants:
//! - Records are the truth. Whatever else lies in the store (reverse edges, indexes, summaries) follows from them and is
//!   written in the same batch.
//! - Writing the same thing twice changes nothing; writing another thing in its place is an error.
//! - Two runs of one plan have the same [record digest](Store::record_digest), whatever the order of writes.
//! - The wall clock is read in one place and enters no identity.
//!
//! Not here: what studies compute, how engines keep bytes, the command line.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod artifact;
mod backup;
mod bundle;
mod clients;
mod clock;
mod commit;
mod convert;
mod error;
mod fsck;
// Written for tests: no release has it.
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
#[cfg(test)]
mod golden;
mod id;
mod inputs;
mod keys;
mod lineage;
mod model;
mod query;
mod reader;
mod record_digest;
mod recording;
mod records;
mod registry;
mod resolve;
mod rows;
mod runs;
mod series;
mod store;
#[doc(hidden)]
pub mod testing;
mod traces;
mod transfer;

pub use artifact::{
    Collect, Collected, Draft, FileEntry, FileReader, Group, Holder, Known, LooseFile, LooseFolder, Manifest,
    Renumbered, Share, Usage, Version, Weights,
};
pub use backup::{Restored, Saved};
pub use bundle::{BUNDLE_FORMAT, Bundle, Counts, Damage, Progress, Purpose, RunFacts, Section, Target, Watch};
pub use clock::Timestamp;
pub use error::{Error, Result};
pub use fsck::{CheckProgress, Checked, Finding, Level, Repaired, Trouble, fsck, repair};
pub use id::{Digest, ExperimentId, Kind, NodeId, RowKey, RunId, Slot, StageId};
pub use inputs::Way;
pub use lineage::{Graph, GraphEdge, GraphNode, Toward, Walk};
pub use model::{
    Assessment, AssessmentKind, Checkpoint, Claim, ClientRun, Content, Cost, Dataset, Edge, Ending, Endpoint,
    Experiment, Figure, Finish, Front, FrontPoint, Goal, LoggedModel, Measured, ModelState, ModelVersion, NewRun,
    Objective, Outcome, Plan, Problem, Program, Recipe, RecipeWeight, RegisteredModel, Relation, Reward, Run,
    RunChange, RunInput, Sample, Sampling, Selection, Span, Stage, Statement, Status, Tally, Trace, Verdict, Verifier,
    Votes,
};
pub use query::{Filter, Grouped, Grouping, Life, Page, Query, Row, Table, Value};
pub use recording::Recording;
pub use registry::{Measurement, NewLoggedModel, NewModelVersion};
pub use rows::Rows;
pub use series::{Bucket, History, Point, Series};
pub use store::Store;
pub use tracker_engine::{Converted, Durability, Kind as EngineKind, Options as EngineOptions, Step as ConversionStep};
pub use transfer::{Arrival, Exported, Imported, ImportedRun, Kept};

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
