//! `RewardBench`'s sections with intervals: which pairs of which subset were ordered right, by several reward models.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::parts::evaluate::{Estimate, N_RESAMPLES, interval};
use crate::parts::rows::{Section, reward_bench_sections};

/// The name of the score over all sections.
pub const SCORE: &str = "score";

/// Scores in [0, 1] of the sections all of whose subsets are there, in `RewardBench`'s order, then, if all four are there, their
/// mean. `subsets`: of each pair; `right`: `[repeat][pair]`, 1 where the better answer got the higher score. Intervals are 95 %
/// bootstraps in which repeats, and pairs within each subset, are drawn anew together.
///
/// # Errors
/// `Value` for a subset that is not `RewardBench`'s, or repeats that have not the same pairs.
pub fn sections(
    subsets: &[String],
    right: &[Vec<f64>],
    stream: &mut ChaCha8Rng,
) -> Result<Vec<(&'static str, Estimate)>> {
    if right.is_empty() || right.iter().any(|repeat| repeat.len() != subsets.len()) {
        let lengths: Vec<usize> = right.iter().map(Vec::len).collect();
        let message = format!("expected {} pairs in each of at least one repeat, got {lengths:?}", subsets.len());
        return Err(Error::Value { key: "right".into(), message });
    }
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, subset) in subsets.iter().enumerate() {
        places.entry(subset).or_default().push(at);
    }
    let repeats: Vec<usize> = (0..right.len()).collect();
    let whole = scores(&places, right, &repeats)?;
    let mut resamples: Vec<Vec<f64>> = vec![Vec::with_capacity(N_RESAMPLES); whole.len()];
    for _ in 0..N_RESAMPLES {
        let drawn = places.iter().map(|(subset, at)| {
            (*subset, (0..at.len()).map(|_| at[stream.random_range(0..at.len())]).collect::<Vec<usize>>())
        });
        let drawn: BTreeMap<&str, Vec<usize>> = drawn.collect();
        let repeats: Vec<usize> = (0..right.len()).map(|_| stream.random_range(0..right.len())).collect();
        for (all, (_, score)) in resamples.iter_mut().zip(scores(&drawn, right, &repeats)?) {
            all.push(score);
        }
    }
    Ok(whole.into_iter().zip(resamples).map(|((name, score), all)| (name, interval(score, all))).collect())
}

/// Which sections cannot be scored, and the subsets they lack.
///
/// # Errors
/// `Value` for a subset that is not `RewardBench`'s.
pub fn lacking(subsets: &[String]) -> Result<Vec<Section>> {
    let there = subsets.iter().map(|subset| (subset.clone(), 0.0)).collect();
    Ok(reward_bench_sections(&there)?.into_iter().filter(|section| section.score.is_none()).collect())
}

fn scores(
    places: &BTreeMap<&str, Vec<usize>>,
    right: &[Vec<f64>],
    repeats: &[usize],
) -> Result<Vec<(&'static str, f64)>> {
    let accuracy = |at: &Vec<usize>| {
        let sum: f64 = repeats.iter().map(|repeat| at.iter().map(|at| right[*repeat][*at]).sum::<f64>()).sum();
        sum / (repeats.len() * at.len()) as f64
    };
    let accuracies = places.iter().map(|(subset, at)| ((*subset).to_owned(), accuracy(at))).collect();
    let sections = reward_bench_sections(&accuracies)?;
    let n_sections = sections.len();
    let mut all: Vec<(&'static str, f64)> =
        sections.into_iter().filter_map(|section| Some((section.name, section.score?))).collect();
    if all.len() == n_sections {
        all.push((SCORE, all.iter().map(|(_, score)| score).sum::<f64>() / n_sections as f64));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    fn chat(n: usize) -> Vec<String> {
        let subsets = ["alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med"];
        subsets.iter().flat_map(|subset| vec![(*subset).to_owned(); n]).collect()
    }

    #[test]
    fn subsets_weigh_by_published_counts_however_many_pairs_there_are() {
        // Only alpacaeval-easy is right, of 100 + 95 + 95 + 28 + 40; the second repeat has half of it.
        let mut subsets = chat(4);
        subsets.extend(vec!["alpacaeval-easy".to_owned(); 8]);
        let repeat = |share: f64| subsets.iter().map(|s| if s == "alpacaeval-easy" { share } else { 0.0 }).collect();
        let stream = &mut ChaCha8Rng::seed_from_u64(1);
        let found = sections(&subsets, &[repeat(1.0), repeat(0.5)], stream).unwrap();
        assert_eq!(found.len(), 1);
        let (name, Estimate { value, low, high }) = found[0];
        assert_eq!(name, "Chat");
        assert!((value - 0.75 * 100.0 / 358.0).abs() < 1e-12, "{value}");
        assert!((low - 0.5 * 100.0 / 358.0).abs() < 1e-12 && (high - 100.0 / 358.0).abs() < 1e-12, "{low} {high}");
        let lacking = lacking(&subsets).unwrap();
        assert_eq!(
            lacking.iter().map(|section| section.name).collect::<Vec<_>>(),
            ["Chat Hard", "Safety", "Reasoning"]
        );
        assert_eq!(lacking[2].missing.first(), Some(&"math-prm"));
    }

    #[test]
    fn the_interval_is_over_pairs_within_subsets_too() {
        let subsets = chat(40);
        let right: Vec<f64> = (0..subsets.len()).map(|at| f64::from(u8::from(at % 2 == 0))).collect();
        let found = sections(&subsets, &[right], &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        let Estimate { value, low, high } = found[0].1;
        // Of proportions of 40 at one half, weighted: a standard error of 0.5/√40 · √Σw².
        let weights = [100.0, 95.0, 95.0, 28.0, 40.0].map(|w: f64| w / 358.0);
        let error = 0.5 / 40f64.sqrt() * weights.iter().map(|w| w * w).sum::<f64>().sqrt();
        assert!((value - 0.5).abs() < 1e-12);
        assert!(((high - low) / (2.0 * 1.96 * error) - 1.0).abs() < 0.1, "{low} {high} {error}");
    }

    #[test]
    fn unknown_subsets_and_uneven_repeats_are_refused() {
        let stream = &mut ChaCha8Rng::seed_from_u64(1);
        let error = sections(&["math".to_owned()], &[vec![1.0]], stream).unwrap_err().to_string();
        assert!(error.contains("subset math"), "{error}");
        assert!(sections(&chat(1), &[vec![1.0]], stream).is_err());
        assert!(sections(&chat(1), &[], stream).is_err());
    }
}
