//! Rank correlation, and rewards from which a length bias is taken out by it.
//!
//! Nothing in the tree computes ranks with ties, and what there is elsewhere is a page of code, so it stands here.

use crate::error::{Error, Result};

/// Ranks from 1, ascending; equal values share the mean of their ranks.
#[must_use]
pub fn ranks(xs: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..xs.len()).collect();
    // Zero is added so that −0 and 0 are equal.
    order.sort_by(|a, b| (xs[*a] + 0.0).total_cmp(&(xs[*b] + 0.0)));
    let mut ranks = vec![0.0; xs.len()];
    for group in order.chunk_by(|a, b| xs[*a] == xs[*b]) {
        let below = order.partition_point(|at| xs[*at] < xs[group[0]]) as f64;
        for at in group {
            ranks[*at] = below + f64::midpoint(group.len() as f64, 1.0);
        }
    }
    ranks
}

/// Spearman's ρ with ties: the correlation of ranks, in [−1, 1]; `None` if either side has one value only.
///
/// # Errors
/// `Value` if the lengths differ, are below 2, or a value is not finite.
pub fn spearman(xs: &[f64], ys: &[f64]) -> Result<Option<f64>> {
    check(xs, ys)?;
    let (a, b) = (ranks(xs), ranks(ys));
    let mean = f64::midpoint(xs.len() as f64, 1.0);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(&b) {
        ab += (x - mean) * (y - mean);
        aa += (x - mean) * (x - mean);
        bb += (y - mean) * (y - mean);
    }
    Ok((aa > 0.0 && bb > 0.0).then(|| (ab / (aa * bb).sqrt()).clamp(-1.0, 1.0)))
}

/// Kendall's τ-b, in [−1, 1]; `None` if either side has one value only. In O(n log n): pairs out of order are counted by a
/// merge sort (Knight 1966).
///
/// # Errors
/// As [`spearman`].
pub fn kendall(xs: &[f64], ys: &[f64]) -> Result<Option<f64>> {
    check(xs, ys)?;
    let n_pairs = |n: usize| (n * (n - 1) / 2) as f64;
    let mut order: Vec<usize> = (0..xs.len()).collect();
    let by = |at: usize, other: usize, of: &[f64]| (of[at] + 0.0).total_cmp(&(of[other] + 0.0));
    order.sort_by(|a, b| by(*a, *b, xs).then(by(*a, *b, ys)));
    let tied = |same: &dyn Fn(usize, usize) -> bool, order: &[usize]| -> f64 {
        order.chunk_by(|a, b| same(*a, *b)).map(|group| n_pairs(group.len())).sum()
    };
    let same_x = tied(&|a, b| xs[a] == xs[b], &order);
    let same_both = tied(&|a, b| xs[a] == xs[b] && ys[a] == ys[b], &order);
    let mut sorted: Vec<f64> = order.iter().map(|at| ys[*at]).collect();
    let n_swaps = inversions(&mut sorted) as f64;
    let same_y: f64 = sorted.chunk_by(|a, b| a == b).map(|group| n_pairs(group.len())).sum();
    let all = n_pairs(xs.len());
    let score = all - same_x - same_y + same_both - 2.0 * n_swaps;
    let scale = (all - same_x) * (all - same_y);
    Ok((scale > 0.0).then(|| (score / scale.sqrt()).clamp(-1.0, 1.0)))
}

/// Sorts, and counts the pairs that stood in the wrong order.
fn inversions(xs: &mut [f64]) -> u64 {
    if xs.len() < 2 {
        return 0;
    }
    let (left, right) = xs.split_at_mut(xs.len() / 2);
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        if right[j] < left[i] {
            count += (left.len() - i) as u64;
            merged.push(right[j]);
            j += 1;
        } else {
            merged.push(left[i]);
            i += 1;
        }
    }
    merged.extend_from_slice(&left[i..]);
    merged.extend_from_slice(&right[j..]);
    xs.copy_from_slice(&merged);
    count
}

/// A reward less its share of verbosity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correction {
    /// What verbosity is multiplied by before it is taken off.
    pub lambda: f64,
    /// The rank correlation with verbosity that is left on the reference set; `None` if nothing is left to rank.
    pub left: Option<f64>,
    /// Whether a value of the grid was enough. If not, λ is 1.
    pub is_resolved: bool,
}

impl Correction {
    /// The corrected reward.
    #[must_use]
    pub fn of(&self, reward: f64, verbosity: f64) -> f64 {
        reward - self.lambda * verbosity
    }
}

/// How many values λ is tried at.
const N_LAMBDAS: u32 = 24;
/// The greatest of them.
const MAX_LAMBDA: f64 = 0.95;
/// The rank correlation that is small enough.
const SMALL: f64 = 0.03;

/// The correction of each dimension of a reward on a reference set: the first λ of 24 from 0 to 0.95 at which the rank
/// correlation of `r − λ·verbosity` with verbosity is at most 0.03; 1 if none is enough, and 1 for verbosity itself,
/// which is thereby zero. `rewards`: f64 `[n, k]` as rows; `verbosity`: the column of it. Source: `ArmoRM` (arXiv 2406.12845).
///
/// # Errors
/// `Value` for rows of different lengths, fewer than 2, values that are not finite, and no such column.
pub fn verbosity_corrections(rewards: &[Vec<f64>], verbosity: usize) -> Result<Vec<Correction>> {
    let n_dims = rewards.first().map_or(0, Vec::len);
    if verbosity >= n_dims || rewards.iter().any(|row| row.len() != n_dims) {
        return Err(Error::Value {
            key: "rewards".into(),
            message: format!("expected rows of one length, longer than {verbosity}, got {n_dims} in the first"),
        });
    }
    let column = |dim: usize| -> Vec<f64> { rewards.iter().map(|row| row[dim]).collect() };
    let words = column(verbosity);
    let of_dim = |dim: usize| {
        if dim == verbosity {
            return Ok(Correction { lambda: 1.0, left: None, is_resolved: true });
        }
        let raw = column(dim);
        let left = |lambda: f64| {
            let corrected: Vec<f64> = raw.iter().zip(&words).map(|(r, v)| r - lambda * v).collect();
            spearman(&corrected, &words)
        };
        for nth in 0..N_LAMBDAS {
            let lambda = MAX_LAMBDA * f64::from(nth) / f64::from(N_LAMBDAS - 1);
            let left = left(lambda)?;
            if left.is_none_or(|left| left <= SMALL) {
                return Ok(Correction { lambda, left, is_resolved: true });
            }
        }
        Ok(Correction { lambda: 1.0, left: left(1.0)?, is_resolved: false })
    };
    (0..n_dims).map(of_dim).collect()
}

fn check(xs: &[f64], ys: &[f64]) -> Result<()> {
    let is_finite = |xs: &[f64]| xs.iter().all(|x| x.is_finite());
    if xs.len() != ys.len() || xs.len() < 2 || !is_finite(xs) || !is_finite(ys) {
        return Err(Error::Value {
            key: "values".into(),
            message: format!(
                "expected as many finite numbers on both sides, at least two; got {} and {}",
                xs.len(),
                ys.len()
            ),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranks_of_equal_values_are_shared() {
        assert_eq!(ranks(&[10.0, 20.0, 10.0, 5.0]), [2.5, 4.0, 2.5, 1.0]);
        assert_eq!(ranks(&[0.0, -0.0, 1.0]), [1.5, 1.5, 3.0]);
        assert!(ranks(&[]).is_empty());
    }

    #[test]
    fn correlations_have_known_values() {
        // Without ties ρ is 1 − 6 Σd² / n(n² − 1): here Σd² = 8, n = 5.
        let (xs, ys) = ([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 5.0, 3.0]);
        assert!((spearman(&xs, &ys).unwrap().unwrap() - (1.0 - 48.0 / 120.0)).abs() < 1e-15);
        // 7 pairs agree, 3 do not.
        assert!((kendall(&xs, &ys).unwrap().unwrap() - 0.4).abs() < 1e-15);
        // With ties, by hand: ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4.
        let (xs, ys) = ([1.0, 2.0, 2.0, 3.0], [1.0, 3.0, 2.0, 4.0]);
        assert!((spearman(&xs, &ys).unwrap().unwrap() - 4.5 / (4.5_f64 * 5.0).sqrt()).abs() < 1e-15);
        assert!((kendall(&xs, &ys).unwrap().unwrap() - 5.0 / 30_f64.sqrt()).abs() < 1e-15);
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]).unwrap(), None);
        assert_eq!(kendall(&[1.0, 1.0], &[1.0, 2.0]).unwrap(), None);
        for (xs, ys) in [(vec![1.0], vec![1.0]), (vec![1.0, 2.0], vec![1.0]), (vec![1.0, f64::NAN], vec![1.0, 2.0])] {
            assert!(spearman(&xs, &ys).is_err() && kendall(&xs, &ys).is_err());
        }
    }

    proptest! {
        #[test]
        fn kendall_is_the_count_over_all_pairs(pairs in prop::collection::vec((0..5_i32, 0..5_i32), 2..30)) {
            let xs: Vec<f64> = pairs.iter().map(|(x, _)| f64::from(*x)).collect();
            let ys: Vec<f64> = pairs.iter().map(|(_, y)| f64::from(*y)).collect();
            let (mut score, mut n_x, mut n_y) = (0, 0, 0);
            for i in 0..pairs.len() {
                for j in 0..i {
                    let (dx, dy) = ((pairs[i].0 - pairs[j].0).signum(), (pairs[i].1 - pairs[j].1).signum());
                    score += dx * dy;
                    n_x += dx * dx;
                    n_y += dy * dy;
                }
            }
            let expected = (n_x * n_y > 0).then(|| f64::from(score) / f64::from(n_x * n_y).sqrt());
            match (kendall(&xs, &ys).unwrap(), expected) {
                (Some(got), Some(expected)) => prop_assert!((got - expected).abs() < 1e-12),
                (got, expected) => prop_assert_eq!(got, expected),
            }
        }

        #[test]
        fn ranks_are_all_that_counts(xs in prop::collection::vec(-3.0..3.0_f64, 2..20), seed in 0..100_u64) {
            let ys: Vec<f64> = xs.iter().enumerate().map(|(i, x)| x + ((i as u64 * 7919 + seed) % 13) as f64).collect();
            let moved: Vec<f64> = xs.iter().map(|x| x.exp()).collect();
            let turned: Vec<f64> = ys.iter().map(|y| -y).collect();
            prop_assert_eq!(spearman(&xs, &ys).unwrap(), spearman(&moved, &ys).unwrap());
            prop_assert_eq!(kendall(&xs, &ys).unwrap(), kendall(&moved, &ys).unwrap());
            prop_assert!((spearman(&xs, &ys).unwrap().unwrap() + spearman(&xs, &turned).unwrap().unwrap()).abs() < 1e-12);
        }
    }

    #[test]
    fn verbosity_is_taken_off_by_the_first_lambda_that_is_enough() {
        // Noise that no rank of the verbosity explains.
        let noise = |i: u32| f64::from(i.wrapping_mul(2_654_435_761) % 1009) / 1009.0;
        let row = |i: u32| {
            let words = f64::from(i) / 200.0;
            vec![noise(i), noise(i + 5000) + 0.5 * words, 3.0 * words + 0.01 * noise(i + 9000), words]
        };
        let rewards: Vec<Vec<f64>> = (0..200).map(row).collect();
        let corrections = verbosity_corrections(&rewards, 3).unwrap();
        let words: Vec<f64> = rewards.iter().map(|row| row[3]).collect();
        for (dim, correction) in corrections.iter().enumerate().take(2) {
            assert!(correction.is_resolved && correction.left.unwrap() <= SMALL, "{dim}: {correction:?}");
            let step = MAX_LAMBDA / f64::from(N_LAMBDAS - 1);
            let nth = correction.lambda / step;
            assert!((nth - nth.round()).abs() < 1e-9);
            if nth > 0.5 {
                let less: Vec<f64> = rewards.iter().map(|row| row[dim] - (correction.lambda - step) * row[3]).collect();
                assert!(spearman(&less, &words).unwrap().unwrap() > SMALL, "the λ before was not enough");
            }
        }
        assert!((0.3..0.95).contains(&corrections[1].lambda), "{:?}", corrections[1]);
        assert!(!corrections[2].is_resolved && corrections[2].lambda == 1.0 && corrections[2].left.unwrap() > 0.9);
        assert_eq!(corrections[3].of(0.7, 0.7), 0.0);
        assert!(verbosity_corrections(&rewards, 4).is_err() && verbosity_corrections(&[], 0).is_err());
        assert!(verbosity_corrections(&[vec![1.0], vec![]], 0).is_err());
    }
}
