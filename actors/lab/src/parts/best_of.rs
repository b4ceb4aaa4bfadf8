//! Best of n: scores of steps become one score, the greatest is chosen, and what choosing from n brings is known exactly.
//!
//! Invariants: equal scores are won by the first; a score that is no number is an error, never a loser; a curve is the mean
//! over all subsets of the samples, not over the first n.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tracker_store::{NodeId, Selection};

use crate::error::{Error, Result};

/// How equal scores are decided; what a record of a selection says of it.
pub const TIES: &str = "first";

/// How the scores of a candidate's steps become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregator {
    /// The least.
    Min,
    /// The last.
    Last,
    /// The mean.
    Mean,
    /// The product.
    Product,
}

impl Aggregator {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Min, Self::Last, Self::Mean, Self::Product];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::Last => "last",
            Self::Mean => "mean",
            Self::Product => "product",
        }
    }

    /// The score of a candidate from those of its steps, in order; 0 if no step was found in it.
    ///
    /// # Errors
    /// `Value` for a step whose score is not finite.
    pub fn score(self, steps: &[f64]) -> Result<f64> {
        if let Some(at) = steps.iter().position(|score| !score.is_finite()) {
            return Err(not_finite(&format!("the score of step {at}"), steps[at]));
        }
        let Some(last) = steps.last() else { return Ok(0.0) };
        Ok(match self {
            Self::Min => steps.iter().copied().fold(f64::INFINITY, f64::min),
            Self::Last => *last,
            Self::Mean => steps.iter().sum::<f64>() / steps.len() as f64,
            Self::Product => steps.iter().product(),
        })
    }
}

impl fmt::Display for Aggregator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Aggregator {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|aggregator| aggregator.name() == text).ok_or_else(|| Error::Value {
            key: "aggregator".into(),
            message: format!("expected min, last, mean or product, got `{text}`"),
        })
    }
}

/// The first of the greatest.
///
/// # Errors
/// `Value` if there is none, or one is not finite.
pub fn first_greatest(scores: &[f64]) -> Result<usize> {
    let mut best = 0;
    for (at, score) in scores.iter().enumerate() {
        if !score.is_finite() {
            return Err(not_finite(&format!("the score of candidate {at}"), *score));
        }
        if *score > scores[best] {
            best = at;
        }
    }
    if scores.is_empty() { Err(nothing("candidates")) } else { Ok(best) }
}

/// The selection of the candidate with the greatest score, as it is recorded; equal scores are won by the first.
///
/// # Errors
/// As [`first_greatest`]; `Value` if there are not as many scores as candidates.
pub fn select(candidates: Vec<NodeId>, scores: Vec<f64>, rule: String, scorer: Option<NodeId>) -> Result<Selection> {
    if candidates.len() != scores.len() {
        return Err(Error::Value {
            key: "scores".into(),
            message: format!("expected as many as candidates ({}), got {}", candidates.len(), scores.len()),
        });
    }
    let chosen = first_greatest(&scores)? as u32;
    Ok(Selection { candidates, scores, rule, ties: TIES.into(), chosen, scorer })
}

/// The candidate chosen by a vote over answers, each weighted by its candidate's score: of those with the answer of the
/// greatest total the one with the greatest score. Equal totals are won by the answer that came first, equal scores by
/// the first. With equal scores it is the majority's vote.
///
/// # Errors
/// `Value` if there is no candidate, the lengths differ, or a score is negative or not finite.
pub fn weighted_vote<A: Ord>(answers: &[A], scores: &[f64]) -> Result<usize> {
    if answers.len() != scores.len() {
        return Err(Error::Value {
            key: "answers".into(),
            message: format!("expected as many as scores ({}), got {}", scores.len(), answers.len()),
        });
    }
    if let Some(score) = scores.iter().find(|score| **score < 0.0) {
        return Err(Error::Value { key: "scores".into(), message: format!("expected weights of a vote, got {score}") });
    }
    first_greatest(scores)?;
    let mut totals: Vec<(&A, f64)> = Vec::new();
    let mut place = std::collections::BTreeMap::new();
    for (answer, score) in answers.iter().zip(scores) {
        let at = *place.entry(answer).or_insert_with(|| {
            totals.push((answer, 0.0));
            totals.len() - 1
        });
        totals[at].1 += score;
    }
    let (elected, _) = totals[first_greatest(&totals.iter().map(|(_, total)| *total).collect::<Vec<_>>())?];
    let of_elected = |at: &usize| answers[*at] == *elected;
    let mut chosen = None;
    for at in (0..answers.len()).filter(of_elected) {
        if chosen.is_none_or(|best: usize| scores[at] > scores[best]) {
            chosen = Some(at);
        }
    }
    chosen.ok_or_else(|| nothing("candidates"))
}

/// The KL divergence of best-of-n from the policy it draws from, in nats: `ln n − (n − 1)/n`; an upper bound, exact where no
/// two samples have one score. Source: Stiennon et al. 2020; Beirami et al. 2024 (arXiv 2401.01879).
#[must_use]
pub fn kl(n: usize) -> f64 {
    let n = n.max(1) as f64;
    libm::log(n) - (n - 1.0) / n
}

/// Best-of-n curves of prompts with `n_samples` samples each.
///
/// The sample of rank i by score (from 1, ascending; of equal scores the first ranks highest) is the best of a subset of n
/// with probability C(i−1, n−1)/C(N, n), so the mean of any value over all subsets is a weighted sum. Weights come from
/// the recurrence down from n/N, which neither overflows nor cancels.
pub struct Curves {
    n_samples: usize,
    /// For each n, the weights of ranks n..=N, descending.
    weights: Vec<Vec<f64>>,
}

impl Curves {
    /// The weights for `n_samples` samples a prompt: half their square of numbers.
    ///
    /// # Errors
    /// `Value` if there are none, or more than 8192.
    pub fn new(n_samples: usize) -> Result<Self> {
        const MOST: usize = 8192;
        if n_samples == 0 || n_samples > MOST {
            return Err(Error::Value {
                key: "n_samples".into(),
                message: format!("expected 1 to {MOST} samples a prompt, got {n_samples}"),
            });
        }
        let weights = (1..=n_samples).map(|n| {
            let mut weight = n as f64 / n_samples as f64;
            let mut of_n = Vec::with_capacity(n_samples - n + 1);
            for rank in (n..=n_samples).rev() {
                of_n.push(weight);
                weight *= (rank - n) as f64 / (rank as f64 - 1.0).max(1.0);
            }
            of_n
        });
        Ok(Self { n_samples, weights: weights.collect() })
    }

    /// The probability that the sample of this rank (1 is the lowest score) is the best of a random subset of n.
    #[must_use]
    pub fn weight(&self, n: usize, rank: usize) -> f64 {
        let of_n = n.checked_sub(1).and_then(|at| self.weights.get(at));
        let at = self.n_samples.checked_sub(rank);
        of_n.zip(at).and_then(|(of_n, at)| of_n.get(at)).copied().unwrap_or(0.0)
    }

    /// The mean value of the best-of-n by `scores`, for n from 1 to the number of samples. `values` is what is looked at:
    /// correctness, a gold reward, or the scores themselves.
    ///
    /// # Errors
    /// `Value` for other lengths than the number of samples, and for what is not finite.
    pub fn curve(&self, scores: &[f64], values: &[f64]) -> Result<Vec<f64>> {
        for (what, row) in [("scores", scores), ("values", values)] {
            if row.len() != self.n_samples {
                return Err(Error::Value {
                    key: what.into(),
                    message: format!("expected {} samples a prompt, got {}", self.n_samples, row.len()),
                });
            }
            if let Some(at) = row.iter().position(|x| !x.is_finite()) {
                return Err(not_finite(&format!("{what}: sample {at}"), row[at]));
            }
        }
        // Best first: by score descending, of equal scores the first.
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // Zero is added so that −0 and 0 are one score.
        order.sort_by(|a, b| (scores[*b] + 0.0).total_cmp(&(scores[*a] + 0.0)).then(a.cmp(b)));
        let ranked: Vec<f64> = order.into_iter().map(|at| values[at]).collect();
        let dot = |of_n: &Vec<f64>| of_n.iter().zip(&ranked).map(|(weight, value)| weight * value).sum();
        Ok(self.weights.iter().map(dot).collect())
    }
}

/// The value of the best of the first n by score, for each n: what GRM plots. Depends on the order of the samples, and
/// varies more than [`Curves::curve`], whose mean it shares.
///
/// # Errors
/// `Value` if the lengths differ, or a score is not finite.
pub fn best_of_first(scores: &[f64], values: &[f64]) -> Result<Vec<f64>> {
    if scores.len() != values.len() {
        return Err(Error::Value {
            key: "values".into(),
            message: format!("expected as many as scores ({}), got {}", scores.len(), values.len()),
        });
    }
    (1..=scores.len()).map(|n| first_greatest(&scores[..n]).map(|at| values[at])).collect()
}

fn not_finite(what: &str, got: f64) -> Error {
    Error::Value { key: "scores".into(), message: format!("{what}: expected a finite number, got {got}") }
}

fn nothing(what: &str) -> Error {
    Error::Value { key: what.into(), message: "expected at least one, got none".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn aggregators_have_their_values() {
        let steps = [0.5, 0.25, 0.75];
        let scores = Aggregator::ALL.map(|aggregator| aggregator.score(&steps).unwrap());
        assert_eq!(scores, [0.25, 0.75, 0.5, 0.09375]);
        for aggregator in Aggregator::ALL {
            assert_eq!(aggregator.score(&[]).unwrap(), 0.0);
            assert!(aggregator.score(&[0.5, f64::NAN]).is_err() && aggregator.score(&[f64::INFINITY]).is_err());
            assert_eq!(aggregator.name().parse::<Aggregator>().unwrap(), aggregator);
        }
        assert!("median".parse::<Aggregator>().is_err());
    }

    #[test]
    fn ties_take_the_first_and_what_is_no_number_is_refused() {
        assert_eq!(first_greatest(&[0.0, 1.0, 1.0]).unwrap(), 1);
        assert_eq!(first_greatest(&[2.0; 5]).unwrap(), 0);
        assert_eq!(first_greatest(&[-0.0, 0.0]).unwrap(), 0);
        assert!(first_greatest(&[]).is_err() && first_greatest(&[1.0, f64::NAN]).is_err());
        assert!(first_greatest(&[f64::NAN]).is_err());
    }

    #[test]
    fn a_vote_is_weighted_and_its_ties_take_the_first() {
        assert_eq!(weighted_vote(&["a", "b", "b"], &[0.5, 0.2, 0.2]).unwrap(), 0);
        assert_eq!(weighted_vote(&["a", "b", "b"], &[0.3, 0.1, 0.25]).unwrap(), 2);
        assert_eq!(weighted_vote(&["b", "a", "a", "b"], &[1.0; 4]).unwrap(), 0);
        assert_eq!(weighted_vote(&["c", "a", "a"], &[1.0; 3]).unwrap(), 1, "the majority");
        assert_eq!(weighted_vote(&["a", "b"], &[0.0, 0.0]).unwrap(), 0);
        assert!(weighted_vote::<&str>(&[], &[]).is_err() && weighted_vote(&["a"], &[1.0, 2.0]).is_err());
        assert!(weighted_vote(&["a"], &[-1.0]).is_err() && weighted_vote(&["a"], &[f64::NAN]).is_err());
    }

    #[test]
    fn kl_has_its_known_values() {
        for (n, expected) in [(4, 0.636), (16, 1.835), (64, 3.175), (405, 5.006)] {
            assert!((kl(n) - expected).abs() < 5e-4, "{n}: {}", kl(n));
        }
        assert_eq!(kl(1), 0.0);
        assert!(kl(402) <= 5.0 && kl(403) > 5.0, "up to KL 5 there are 402 points");
    }

    #[test]
    fn weights_are_the_ratio_of_binomials_and_a_distribution_for_many_samples() {
        fn choose(n: usize, k: usize) -> f64 {
            (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product()
        }
        let curves = Curves::new(20).unwrap();
        for n in 1..=20 {
            for rank in 1..=20 {
                let expected = if rank < n { 0.0 } else { choose(rank - 1, n - 1) / choose(20, n) };
                assert!((curves.weight(n, rank) - expected).abs() < 1e-14, "{n} {rank}");
            }
        }
        let many = Curves::new(2048).unwrap();
        for n in [1, 2, 7, 100, 1024, 2047, 2048] {
            let weights: Vec<f64> = (1..=2048).map(|rank| many.weight(n, rank)).collect();
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-11, "{n}");
            assert!(weights.iter().all(|weight| *weight >= 0.0));
        }
        assert!(Curves::new(0).is_err() && Curves::new(10_000).is_err());
        assert_eq!((many.weight(0, 5), many.weight(3, 2), many.weight(3, 9999)), (0.0, 0.0, 0.0));
    }

    #[test]
    fn the_curve_of_a_thousand_samples_meets_its_ends() {
        let scores: Vec<f64> = (0..1024).map(|i| f64::from((i * 389) % 1024)).collect();
        let curve = Curves::new(1024).unwrap().curve(&scores, &scores).unwrap();
        // The mean of the best of n of 0..N is n(N+1)/(n+1) − 1.
        for n in [1_usize, 2, 3, 10, 512, 1024] {
            let expected = n as f64 * 1025.0 / (n as f64 + 1.0) - 1.0;
            assert!((curve[n - 1] - expected).abs() < 1e-8, "{n}: {} {expected}", curve[n - 1]);
        }
    }

    #[test]
    fn a_curve_of_something_else_is_refused() {
        let curves = Curves::new(2).unwrap();
        assert!(curves.curve(&[1.0], &[1.0]).is_err() && curves.curve(&[1.0, f64::NAN], &[1.0, 1.0]).is_err());
        assert!(curves.curve(&[1.0, 2.0], &[1.0, f64::INFINITY]).is_err());
        assert!(best_of_first(&[1.0], &[]).is_err());
        assert_eq!(best_of_first(&[1.0, 3.0, 2.0], &[10.0, 20.0, 30.0]).unwrap(), [10.0, 20.0, 20.0]);
    }

    proptest! {
        /// Against every subset, ties included: known answer 2.
        #[test]
        fn the_estimator_is_the_mean_over_all_subsets(
            samples in prop::collection::vec((0..4_u8, -3.0..3.0_f64), 1..=8),
        ) {
            let scores: Vec<f64> = samples.iter().map(|(score, _)| [-0.0, 0.0, 0.5, -1.5][*score as usize]).collect();
            let values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
            let curve = Curves::new(samples.len()).unwrap().curve(&scores, &values).unwrap();
            for n in 1..=samples.len() {
                let (mut sum, mut count) = (0.0, 0.0);
                for subset in 0_u32..1 << samples.len() {
                    if subset.count_ones() as usize != n {
                        continue;
                    }
                    let members: Vec<usize> = (0..samples.len()).filter(|at| subset >> at & 1 == 1).collect();
                    let best = first_greatest(&members.iter().map(|at| scores[*at]).collect::<Vec<_>>()).unwrap();
                    sum += values[members[best]];
                    count += 1.0;
                }
                prop_assert!((curve[n - 1] - sum / count).abs() < 1e-12, "n {}", n);
            }
        }
    }
}
