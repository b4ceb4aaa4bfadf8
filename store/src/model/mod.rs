//! What is recorded: the nouns of the store, as plain values.
//!
//! These are what callers see and what JSON shows. How they lie in the store is in `records`; nothing here knows of keys
//! or bytes.

mod content;
mod edge;
mod logged;
mod merge;
mod row;
mod run;
mod trace;

pub use content::{Checkpoint, Content, Dataset, Endpoint, Problem, Program, Sampling, Statement, Verifier, Votes};
pub use edge::{Edge, Relation};
pub use logged::{LoggedModel, Measured, ModelState, ModelVersion, RegisteredModel, RunInput};
pub use merge::{Front, FrontPoint, Goal, Objective, Recipe, RecipeWeight};
pub use row::{Claim, Cost, Figure, Finish, Outcome, Reward, Sample, Selection, Tally, Verdict};
pub use run::{ClientRun, Ending, Experiment, NewRun, Plan, Run, RunChange, Stage, Status};
pub use trace::{Assessment, AssessmentKind, Span, Trace};
