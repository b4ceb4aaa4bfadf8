//! What studies are made of. A part does one thing, records what it did, and is reusable by any study.

pub mod attempt;
pub mod author;
pub mod best_of;
pub mod bootstrap;
pub mod correlate;
pub mod direction;
pub mod endpoint;
pub mod evaluate;
pub mod formalise;
pub mod front;
pub mod generate;
pub mod interpolate;
pub mod judge;
pub mod jury;
pub mod labels;
pub mod model;
pub mod problems;
pub mod prompt;
pub mod rate;
pub mod record;
pub mod skills;
pub mod statements;
pub mod steps;
pub mod train;
pub mod truth;
pub mod verify;
