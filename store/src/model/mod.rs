//! What is recorded: the nouns of the store, as plain values.
//!
//! These are what callers see and what JSON shows. How they lie in the store is in `records`; nothing here knows of keys
//! or bytes.

mod content;
mod edge;
mod merge;
mod row;
mod run;

pub use content::{Checkpoint, Content, Dataset, Endpoint, Problem, Program, Sampling, Statement, Verifier, Votes};
pub use edge::{Edge, Relation};
pub use merge::{Front, FrontPoint, Goal, Objective, Recipe, RecipeWeight};
pub use row::{Claim, Cost, Figure, Finish, Outcome, Reward, Sample, Selection, Tally, Verdict};
pub use run::{Ending, Experiment, NewRun, Plan, Run, Stage, Status};
