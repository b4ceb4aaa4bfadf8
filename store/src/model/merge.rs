//! How checkpoints are merged, and which of them no other beats.

use serde::{Deserialize, Serialize};

use super::{Content, Relation};
use crate::error::{Error, Result};
use crate::id::{Digest, Kind, NodeId};

/// What a merge is: all that is needed to make its weights again, bit for bit, from those of its parents.
///
/// A [`Checkpoint`](super::Checkpoint) whose `manifest` is the digest of a recipe is *virtual*: its files need not be
/// written anywhere. [`Recording::put_virtual`](crate::Recording::put_virtual) makes one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The text of the recipe in canonical form: what a merge engine reads.
    pub text: String,
    /// The name of the method in the registry of methods: `linear`, `ties`.
    pub method: String,
    /// What each parent counts for, block by block. Never a bare ratio, so there is no question whose it is.
    pub weights: Vec<RecipeWeight>,
    /// The parents, all checkpoints, in the order the recipe names them.
    pub parents: Vec<NodeId>,
    /// What becomes of tensors in no block (embeddings, norms, head), in words the merge engine reads.
    pub others: String,
    /// The seed of random masks; 0 if the method draws none.
    pub seed: u64,
}

/// What one parent counts for in one block of a merge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipeWeight {
    /// The digest of the parent, which is one of the recipe's.
    pub parent: Digest,
    /// The block of the model: `layers 0..4`; empty for all of it.
    pub block: String,
    /// The weight; finite.
    pub weight: f64,
}

impl Content for Recipe {
    const KIND: Kind = Kind::Recipe;

    /// Derived from each parent.
    fn ups(&self) -> Vec<(Relation, NodeId)> {
        once_each(self.parents.iter().map(|parent| (Relation::DerivedFrom, *parent)))
    }

    fn check(&self) -> Result<()> {
        if self.text.is_empty() || self.method.is_empty() {
            return Err(Error::invalid("a recipe", "one with a text and a method", &self.method));
        }
        if self.parents.is_empty() {
            return Err(Error::invalid("the parents of a recipe", "at least one checkpoint", "none"));
        }
        if let Some(parent) = self.parents.iter().find(|parent| parent.kind() != Kind::Checkpoint) {
            return Err(Error::invalid("a parent of a recipe", "a checkpoint", parent));
        }
        for weight in &self.weights {
            if !weight.weight.is_finite() {
                return Err(Error::invalid("a weight of a recipe", "a finite number", weight.weight));
            }
            if !self.parents.iter().any(|parent| parent.digest() == Some(weight.parent)) {
                return Err(Error::invalid("the parent of a weight", "a parent of the recipe", weight.parent));
            }
        }
        Ok(())
    }
}

/// Which way an objective is better. The number of a goal is stored and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Less is better.
    Minimize,
    /// More is better.
    Maximize,
}

/// One thing a front trades against the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// Its name: the key of a metric, `reward`.
    pub name: String,
    /// Which way is better.
    pub goal: Goal,
}

/// A set of points with several objectives, and which of them no other beats.
///
/// Its points are edges `includes`: the ancestors of a front are its points and what they came from, and among the
/// descendants of a point are the fronts it is in. Run ids in it are part of its identity, unlike those in other contents:
/// a front over other runs is another front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Front {
    /// What people call it.
    pub name: String,
    /// The objectives, at least one.
    pub objectives: Vec<Objective>,
    /// How much better a point must be to count, for each objective, in its unit, ≥ 0; empty if any amount does.
    pub epsilon: Vec<f64>,
    /// The points, those off the front too.
    pub points: Vec<FrontPoint>,
    /// The point the hypervolume is measured from, one number for each objective; empty if none was measured.
    pub reference: Vec<f64>,
    /// The volume between the front and `reference`, in the product of the objectives' units.
    pub hypervolume: Option<f64>,
}

/// One point of a front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontPoint {
    /// What has these values: a checkpoint, a model behind an endpoint, or a run.
    pub node: NodeId,
    /// One number for each objective, as measured; never NaN.
    pub values: Vec<f64>,
    /// The front it is on when those before it are taken away: 0 for the first.
    pub rank: u32,
    /// The crowding distance within its rank, ≥ 0; infinite at the ends.
    pub crowding: f64,
    /// Whether no other point beats it.
    pub is_pareto: bool,
}

impl Content for Front {
    const KIND: Kind = Kind::Front;

    /// Includes each point.
    fn ups(&self) -> Vec<(Relation, NodeId)> {
        once_each(self.points.iter().map(|point| (Relation::Includes, point.node)))
    }

    fn check(&self) -> Result<()> {
        let n = self.objectives.len();
        if n == 0 || self.objectives.iter().any(|objective| objective.name.is_empty()) {
            return Err(Error::invalid("the objectives of a front", "at least one, all named", n));
        }
        let is_short = |numbers: &[f64]| numbers.len() != n;
        if !self.epsilon.is_empty() && (is_short(&self.epsilon) || self.epsilon.iter().any(|e| is_negative(*e))) {
            let got = format!("{:?}", self.epsilon);
            return Err(Error::invalid("the epsilon of a front", format!("empty, or `{n}` numbers ≥ 0"), got));
        }
        if !self.reference.is_empty() && (is_short(&self.reference) || self.reference.iter().any(|r| r.is_nan())) {
            let got = format!("{:?}", self.reference);
            return Err(Error::invalid("the reference of a front", format!("empty, or `{n}` numbers"), got));
        }
        if self.hypervolume.is_some_and(is_negative) || self.hypervolume.is_some() == self.reference.is_empty() {
            let expected = "a number ≥ 0 if there is a reference point, else none";
            return Err(Error::invalid("the hypervolume of a front", expected, format!("{:?}", self.hypervolume)));
        }
        for point in &self.points {
            if !matches!(point.node.kind(), Kind::Checkpoint | Kind::Endpoint | Kind::Run) {
                return Err(Error::invalid("a point of a front", "a checkpoint, an endpoint or a run", point.node));
            }
            if is_short(&point.values) || point.values.iter().any(|value| value.is_nan()) {
                let expected = format!("`{n}` numbers, none NaN");
                return Err(Error::invalid(
                    format!("the values of `{}`", point.node),
                    expected,
                    format!("{:?}", point.values),
                ));
            }
            if is_negative(point.crowding) {
                return Err(Error::invalid(format!("the crowding of `{}`", point.node), "≥ 0", point.crowding));
            }
        }
        Ok(())
    }
}

/// Whether it is below 0, or NaN.
fn is_negative(number: f64) -> bool {
    number.is_nan() || number < 0.0
}

/// The edges in order, repeated ones once.
fn once_each(edges: impl Iterator<Item = (Relation, NodeId)>) -> Vec<(Relation, NodeId)> {
    let mut seen = std::collections::BTreeSet::new();
    edges.filter(|(_, node)| seen.insert(*node)).collect()
}
