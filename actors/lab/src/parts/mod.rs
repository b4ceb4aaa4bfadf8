//! What studies are made of. A part does one thing, records what it did, and is reusable by any study.
pub mod evaluate;
