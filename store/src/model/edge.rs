//! Edges: what came from what.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::NodeId;

/// How a node depends on another, read from the dependent one. The number of a relation is stored and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Relation {
    /// A run, a figure or a claim used it.
    Used = 1,
    /// A run made it.
    GeneratedBy = 2,
    /// It was made from it; for merges with weight and block.
    DerivedFrom = 3,
    /// A checkpoint was trained on it.
    TrainedOn = 4,
    /// A scorer gave it.
    ScoredBy = 5,
    /// A verifier gave it.
    VerifiedBy = 6,
    /// A dataset has it, at a place; a front has it as a point.
    Includes = 7,
    /// A sample answers it.
    Answers = 8,
    /// A policy wrote it.
    WrittenBy = 9,
    /// A verdict, a reward or a figure is about it.
    About = 10,
}

impl Relation {
    /// Every relation, in stored order.
    pub const ALL: [Self; 10] = [
        Self::Used,
        Self::GeneratedBy,
        Self::DerivedFrom,
        Self::TrainedOn,
        Self::ScoredBy,
        Self::VerifiedBy,
        Self::Includes,
        Self::Answers,
        Self::WrittenBy,
        Self::About,
    ];

    /// Its name, in snake case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::GeneratedBy => "generated_by",
            Self::DerivedFrom => "derived_from",
            Self::TrainedOn => "trained_on",
            Self::ScoredBy => "scored_by",
            Self::VerifiedBy => "verified_by",
            Self::Includes => "includes",
            Self::Answers => "answers",
            Self::WrittenBy => "written_by",
            Self::About => "about",
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|relation| *relation as u8 == number)
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Relation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|relation| relation.name() == text).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|relation| relation.name()).collect();
            Error::invalid("relation", format!("one of {}", names.join(", ")), text)
        })
    }
}

/// One node came from another: `from` is the later one, `to` what it depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// The dependent node.
    pub from: NodeId,
    /// How it depends.
    pub relation: Relation,
    /// What it depends on.
    pub to: NodeId,
    /// The place among the edges of this relation, where order matters; else 0.
    pub order: u32,
    /// The weight of a merge, if it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub weight: Option<f64>,
    /// The block of a model the weight is for; empty for all of it.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub block: String,
}

impl Edge {
    /// A plain edge.
    #[must_use]
    pub fn new(from: NodeId, relation: Relation, to: NodeId) -> Self {
        Self { from, relation, to, order: 0, weight: None, block: String::new() }
    }

    /// The same at a place in order.
    #[must_use]
    pub fn at(mut self, order: u32) -> Self {
        self.order = order;
        self
    }

    /// The same with the weight `block` has in a merge; an empty `block` is the whole model.
    #[must_use]
    pub fn weighted(mut self, weight: f64, block: impl Into<String>) -> Self {
        self.weight = Some(weight);
        self.block = block.into();
        self
    }
}
