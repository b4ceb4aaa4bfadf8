//! Agreement of two judges beyond chance: Cohen's κ of yes and no, with an interval in which items are drawn anew.
//!
//! Source: Cohen 1960, "A coefficient of agreement for nominal scales", eq. 1.

use crate::error::{Error, Result};
use crate::parts::bootstrap::{CurveSet, Resampler};
use crate::parts::evaluate::Estimate;

/// How often two judges said what of the same things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// `counts[first][second]`, 0 for no and 1 for yes.
    pub counts: [[u64; 2]; 2],
}

impl Agreement {
    /// The counts of pairs of verdicts.
    pub fn of(pairs: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let mut counts = [[0; 2]; 2];
        for (first, second) in pairs {
            counts[usize::from(first)][usize::from(second)] += 1;
        }
        Self { counts }
    }

    /// How many things were judged.
    #[must_use]
    pub fn n(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// `κ = (p_o − p_e) / (1 − p_e)`, in [−1, 1]; none if there is nothing, or both judges said one and the same of everything, where
    /// agreement is what chance gives.
    #[must_use]
    pub fn kappa(&self) -> Option<f64> {
        let [[no, b], [c, yes]] = self.counts.map(|row| row.map(|n| n as f64));
        kappa([no, b, c, yes])
    }
}

/// κ of shares or counts `[neither, second alone, first alone, both]`.
fn kappa([neither, second, first, both]: [f64; 4]) -> Option<f64> {
    let n = neither + second + first + both;
    let observed = (neither + both) / n;
    let expected = ((first + both) * (second + both) + (neither + second) * (neither + first)) / (n * n);
    // Both say one thing throughout: 1 up to rounding.
    (n > 0.0 && expected < 1.0 - 1e-12).then(|| (observed - expected) / (1.0 - expected))
}

/// κ with its 95 % interval. `pairs` holds what both judges said of each thing, and the item it belongs to: items, in
/// `0..n_items`, are drawn anew whole, since verdicts on one item depend on each other. None where κ is none.
///
/// # Errors
/// `Value` if a pair belongs to no item.
pub fn estimate(
    pairs: impl IntoIterator<Item = (usize, bool, bool)>,
    n_items: usize,
    resampler: &Resampler,
) -> Result<Option<Estimate>> {
    let mut items = vec![[0.0; 4]; n_items];
    for (item, first, second) in pairs {
        let counts = items.get_mut(item).ok_or_else(|| Error::Value {
            key: "pairs".into(),
            message: format!("expected an item below {n_items}, got {item}"),
        })?;
        counts[2 * usize::from(first) + usize::from(second)] += 1.0;
    }
    items.retain(|counts| counts.iter().any(|n| *n > 0.0));
    if items.is_empty() {
        return Ok(None);
    }
    let curves = CurveSet::new(items.into_iter().map(Vec::from))?;
    // In resamples where both say one thing throughout, agreement is perfect as far as can be seen.
    let found = |mean: Vec<f64>| vec![<[f64; 4]>::try_from(mean).ok().and_then(kappa).unwrap_or(1.0)];
    let is_defined = <[f64; 4]>::try_from(curves.mean()).ok().and_then(kappa).is_some();
    Ok(resampler.statistics(&curves, found).into_iter().next().filter(|_| is_defined))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    fn of(counts: [[u64; 2]; 2]) -> Option<f64> {
        Agreement { counts }.kappa()
    }

    /// `sklearn.metrics.cohen_kappa_score(a, b)` of a and b with these counts: `a = [0]*(n00+n01) + [1]*(n10+n11)`,
    /// `b = [0]*n00 + [1]*n01 + [0]*n10 + [1]*n11`.
    #[test]
    fn kappa_has_the_values_sklearn_gives() {
        for (counts, expected) in KNOWN {
            let found = of(counts).unwrap();
            assert!((found - expected).abs() < 1e-12, "{counts:?}: {found}, expected {expected}");
        }
    }

    const KNOWN: [([[u64; 2]; 2], f64); 5] = [
        ([[15, 5], [10, 20]], 0.4),
        ([[45, 15], [25, 15]], 0.130_434_782_608_695_62),
        ([[0, 7], [9, 0]], -0.969_230_769_230_769_3),
        ([[10, 0], [0, 3]], 1.0),
        ([[1000, 1], [2, 50]], 0.969_376_181_474_480_1),
    ];

    #[test]
    fn nothing_and_one_verdict_throughout_have_no_kappa() {
        assert_eq!(of([[0, 0], [0, 0]]), None);
        assert_eq!(of([[0, 0], [0, 9]]), None);
        assert_eq!(of([[0, 9], [0, 0]]), Some(0.0));
        assert_eq!(Agreement::of([(true, false), (true, true)]).counts, [[0, 0], [1, 1]]);
        let resampler = Resampler::new([1; 32], 40).unwrap();
        assert_eq!(estimate([], 3, &resampler).unwrap(), None);
        assert_eq!(estimate([(0, true, true), (2, true, true)], 3, &resampler).unwrap(), None);
        assert!(estimate([(3, true, true)], 3, &resampler).is_err());
    }

    #[test]
    fn the_interval_covers_and_is_wider_where_items_repeat_themselves() {
        // Judges who agree with probability 0.8 on yes and no of equal shares: κ = 0.6.
        let trial = |seed: u64, repeats: usize| {
            let mut stream = ChaCha8Rng::seed_from_u64(seed);
            let pairs: Vec<(usize, bool, bool)> = (0..200)
                .flat_map(|item| {
                    let first = stream.random_bool(0.5);
                    let second = first == stream.random_bool(0.8);
                    vec![(item, first, second); repeats]
                })
                .collect();
            estimate(pairs, 200, &Resampler::new([seed as u8; 32], 200).unwrap()).unwrap().unwrap()
        };
        let covered = (0..100).filter(|seed| {
            let found = trial(*seed, 1);
            found.low <= 0.6 && 0.6 <= found.high
        });
        assert!((86..=100).contains(&covered.count()));
        // Saying a thing six times adds no knowledge.
        let (once, often) = (trial(3, 1), trial(3, 6));
        let pairs = [(once.value, often.value), (once.low, often.low), (once.high, often.high)];
        assert!(pairs.iter().all(|(once, often)| (once - often).abs() < 1e-12), "{once:?} {often:?}");
    }
}
