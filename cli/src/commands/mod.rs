//! One file a command family.

pub mod artifact;
pub mod backup;
pub mod completions;
pub mod convert;
pub mod devices;
pub mod exec;
pub mod fsck;
mod logged;
pub mod materialize;
pub mod measures;
pub mod merge;
pub mod migrate;
pub mod pareto;
pub mod query;
pub mod relabel;
pub mod report;
pub mod room;
pub mod run;
pub mod runs;
pub mod serve;
pub mod studies;
pub mod sweep;
pub mod table;
pub mod transfer;
pub mod verify;
