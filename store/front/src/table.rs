//! A front as a table: rows with their place on it, and what was not comparable.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::objective::{Objective, Points};
use crate::{crowding, epsilon_front, hypervolume, non_dominated, ranks, worst};

/// What may become a row: a checkpoint of a run, what it reached, and where it came from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Candidate {
    /// Its run.
    pub run: String,
    /// Its checkpoint.
    pub checkpoint: String,
    /// A value an objective, `[m]`; None where it was not measured.
    pub values: Vec<Option<f64>>,
    /// Low and high end of each value, `[m]`, or empty.
    pub intervals: Vec<Option<(f64, f64)>>,
    /// Settings to tell points apart by.
    pub params: BTreeMap<String, String>,
    /// Content address of the weights.
    pub artifact_digest: String,
    /// Where the ancestry of the weights begins.
    pub lineage_root: String,
    /// The method it belongs to; points of a family share a colour.
    pub family: Option<String>,
}

/// A point with its place among the others.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// Its run.
    pub run: String,
    /// Its checkpoint.
    pub checkpoint: String,
    /// A value an objective, `[m]`, in the objectives' own directions; never NaN.
    pub values: Vec<f64>,
    /// Low and high end of each value, `[m]`.
    pub intervals: Vec<Option<(f64, f64)>>,
    /// Whether no other point dominates it.
    pub is_pareto: bool,
    /// Whether it is kept in the thinned front; None where no epsilon was given.
    pub is_kept: Option<bool>,
    /// Depth: 0 on the front.
    pub rank: u32,
    /// Crowding distance within its rank, in 0..=∞.
    pub crowding: f64,
    /// Settings to tell points apart by.
    pub params: BTreeMap<String, String>,
    /// Content address of the weights.
    pub artifact_digest: String,
    /// Where the ancestry of the weights begins.
    pub lineage_root: String,
    /// The method it belongs to.
    pub family: Option<String>,
}

/// Why a candidate is no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The objective was not measured.
    Missing,
    /// The objective is NaN.
    NotANumber,
}

impl Reason {
    /// `missing` or `NaN`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotANumber => "NaN",
        }
    }
}

/// A candidate that cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its run.
    pub run: String,
    /// Its checkpoint.
    pub checkpoint: String,
    /// The first objective that stands in its way.
    pub objective: String,
    /// What is wrong with it.
    pub reason: Reason,
}

/// How a front is computed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Where the hypervolume ends, `[m]` in the objectives' own values; by default the worst finite value of each objective
    /// over all rows, which gives the points at that edge no volume.
    pub reference: Option<Vec<f64>>,
    /// Widths of ε-dominance, `[m]`, each at least 0; by default the front is not thinned.
    pub epsilon: Option<Vec<f64>>,
}

/// Points of some objectives, each with its place.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Front {
    /// What is compared, m of them.
    pub objectives: Vec<Objective>,
    /// Where the hypervolume ends, `[m]`; None where no row has finite values to choose it from.
    pub reference: Option<Vec<f64>>,
    /// Whether the reference is the worst of each objective, for want of a given one.
    pub is_default_reference: bool,
    /// Exact hypervolume up to the reference.
    pub hypervolume: Option<f64>,
    /// Widths of ε-dominance, `[m]`.
    pub epsilon: Option<Vec<f64>>,
    /// The points, in the order of the candidates.
    pub rows: Vec<Row>,
    /// The candidates that are no points, in their order.
    pub rejected: Vec<Rejected>,
}

impl Front {
    /// Compares candidates: front, ranks, crowding and hypervolume. Those with a missing or NaN objective are set apart.
    ///
    /// # Errors
    /// `Objectives` and `SameName` for what is compared; `Values`, `Intervals` and `Interval` for a candidate, by name;
    /// `Reference` and `Epsilon` for the options.
    pub fn new(objectives: Vec<Objective>, candidates: Vec<Candidate>, options: Options) -> Result<Self> {
        for (i, objective) in objectives.iter().enumerate() {
            if objectives[..i].iter().any(|o| o.name == objective.name) {
                return Err(Error::SameName(objective.name.clone()));
            }
        }
        let directions: Vec<_> = objectives.iter().map(|o| o.direction).collect();
        let (mut rows, mut rejected, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for candidate in candidates {
            check(&candidate, &objectives)?;
            let values: Vec<f64> = candidate.values.iter().map(|v| v.unwrap_or(f64::NAN)).collect();
            if let Some(at) = values.iter().position(|v| v.is_nan()) {
                rejected.push(Rejected {
                    run: candidate.run,
                    checkpoint: candidate.checkpoint,
                    objective: objectives[at].name.clone(),
                    reason: if candidate.values[at].is_none() { Reason::Missing } else { Reason::NotANumber },
                });
                continue;
            }
            all.extend_from_slice(&values);
            rows.push(row(candidate, values));
        }
        let points = Points::new(&directions, all)?;
        let is_default_reference = options.reference.is_none();
        let reference = options.reference.or_else(|| worst(&points));
        let hypervolume = reference.as_ref().map(|r| hypervolume(&points, r)).transpose()?;
        let kept = options.epsilon.as_ref().map(|e| epsilon_front(&points, e)).transpose()?;
        let (on, rank) = (non_dominated(&points), ranks(&points));
        let distance = crowding(&points, &rank);
        for (i, row) in rows.iter_mut().enumerate() {
            row.is_pareto = on[i];
            row.rank = rank[i];
            row.crowding = distance[i];
            row.is_kept = kept.as_ref().map(|k| k[i]);
        }
        Ok(Self { objectives, reference, is_default_reference, hypervolume, epsilon: options.epsilon, rows, rejected })
    }

    /// The rows that no other dominates.
    pub fn pareto(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|r| r.is_pareto)
    }

    /// Names of the families, sorted, each once.
    #[must_use]
    pub fn families(&self) -> Vec<&str> {
        let mut families: Vec<&str> = self.rows.iter().filter_map(|r| r.family.as_deref()).collect();
        families.sort_unstable();
        families.dedup();
        families
    }
}

/// What of a candidate makes no sense at all.
fn check(candidate: &Candidate, objectives: &[Objective]) -> Result<()> {
    let m = objectives.len();
    let name = || format!("{} {}", candidate.run, candidate.checkpoint);
    if candidate.values.len() != m {
        return Err(Error::Values { row: name(), expected: m, got: candidate.values.len() });
    }
    if !candidate.intervals.is_empty() && candidate.intervals.len() != m {
        return Err(Error::Intervals { row: name(), expected: m, got: candidate.intervals.len() });
    }
    for (interval, objective) in candidate.intervals.iter().zip(objectives) {
        if let Some((low, high)) = interval
            && (low.is_nan() || high.is_nan() || low > high)
        {
            return Err(Error::Interval { row: name(), objective: objective.name.clone(), low: *low, high: *high });
        }
    }
    Ok(())
}

fn row(candidate: Candidate, values: Vec<f64>) -> Row {
    let mut intervals = candidate.intervals;
    intervals.resize(values.len(), None);
    Row {
        run: candidate.run,
        checkpoint: candidate.checkpoint,
        values,
        intervals,
        is_pareto: false,
        is_kept: None,
        rank: 0,
        crowding: 0.0,
        params: candidate.params,
        artifact_digest: candidate.artifact_digest,
        lineage_root: candidate.lineage_root,
        family: candidate.family,
    }
}
