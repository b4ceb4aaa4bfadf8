//! Figures from stored counts: pass@k and paired comparisons, each with an interval.
//!
//! Intervals are percentile bootstraps over items (statements, prompts), 95 %, from a seeded stream.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tracker_store::Claim;

/// A number with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// Point estimate.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Estimate {
    /// A number that was counted or computed, which has no interval.
    #[must_use]
    pub fn exactly(value: f64) -> Self {
        Self { value, low: value, high: value }
    }
}

/// A claim that a number lies above `bound`, all of its interval. What could not be measured does not hold.
#[must_use]
pub fn claim_above(id: &str, statement: &str, estimate: Option<Estimate>, bound: f64) -> Claim {
    let low = estimate.map(|estimate| estimate.low);
    Claim {
        id: id.to_owned(),
        statement: statement.to_owned(),
        holds: low.is_some_and(|low| low > bound),
        value: estimate.map_or(0.0, |estimate| estimate.value),
        low,
        high: estimate.map(|estimate| estimate.high),
        bound: Some(bound),
    }
}

/// Resamples behind every interval.
pub const N_RESAMPLES: usize = 2_000;

/// Unbiased pass@k of one item from `c` correct among `n` samples, in `[0, 1]`: 1 − C(n−c,k)/C(n,k).
///
/// `None` when fewer than `k` samples count (`k > n`) or `k` is 0: there is nothing to estimate from.
/// Source: Chen et al. 2021 (arXiv 2107.03374), eq. 1.
#[must_use]
pub fn pass_at_k(n: u32, c: u32, k: u32) -> Option<f64> {
    if k == 0 || k > n || c > n {
        return None;
    }
    if n - c < k {
        return Some(1.0);
    }
    Some(1.0 - (n - c + 1..=n).map(|i| 1.0 - f64::from(k) / f64::from(i)).product::<f64>())
}

/// The share `hits / n` with its Wilson score interval (Wilson 1927); `None` if `n` is 0.
#[must_use]
pub fn proportion(hits: usize, n: usize) -> Option<Estimate> {
    const Z: f64 = 1.959_963_984_540_054;
    if n == 0 {
        return None;
    }
    let (n, value) = (n as f64, hits as f64 / n as f64);
    let (middle, width) = (value + Z * Z / (2.0 * n), Z * (value * (1.0 - value) / n + Z * Z / (4.0 * n * n)).sqrt());
    let scale = 1.0 + Z * Z / n;
    Some(Estimate { value, low: ((middle - width) / scale).max(0.0), high: ((middle + width) / scale).min(1.0) })
}

/// Mean of `xs` with a percentile bootstrap interval over its items; `None` if `xs` is empty.
#[must_use]
pub fn mean(xs: &[f64], stream: &mut ChaCha8Rng) -> Option<Estimate> {
    if xs.is_empty() {
        return None;
    }
    let average = |sum: f64| sum / xs.len() as f64;
    let resample = |stream: &mut ChaCha8Rng| (0..xs.len()).map(|_| xs[stream.random_range(0..xs.len())]).sum();
    let means = (0..N_RESAMPLES).map(|_| average(resample(stream))).collect();
    Some(interval(average(xs.iter().sum()), means))
}

/// A value with the percentile interval of its resamples, of which there is at least one.
#[must_use]
pub fn interval(value: f64, mut resamples: Vec<f64>) -> Estimate {
    resamples.sort_by(f64::total_cmp);
    let at = |q: f64| resamples[((resamples.len() - 1) as f64 * q).round() as usize];
    Estimate { value, low: at(0.025), high: at(0.975) }
}

/// The 97.5 % quantile of Student's t distribution, by degrees of freedom from 1 (Student 1908; standard tables).
const STUDENT: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

/// Mean of independent repeats with Student's interval; the value alone if there is one, `None` if there is none.
///
/// Beyond eleven repeats the quantile of ten degrees of freedom is kept, which makes the interval a little too wide.
#[must_use]
pub fn over_repeats(xs: &[f64]) -> Option<Estimate> {
    let n = xs.len() as f64;
    let value = xs.iter().sum::<f64>() / n;
    match xs.len() {
        0 => None,
        1 => Some(Estimate::exactly(value)),
        len => {
            let variance = xs.iter().map(|x| (x - value).powi(2)).sum::<f64>() / (n - 1.0);
            let half = STUDENT[(len - 2).min(STUDENT.len() - 1)] * (variance / n).sqrt();
            Some(Estimate { value, low: value - half, high: value + half })
        }
    }
}

/// Mean of `after[i] − before[i]`, resampled over items together; `None` if empty or of unequal length.
#[must_use]
pub fn paired_gain(before: &[f64], after: &[f64], stream: &mut ChaCha8Rng) -> Option<Estimate> {
    if before.len() != after.len() {
        return None;
    }
    let gains: Vec<f64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
    mean(&gains, stream)
}

/// Mean of `values[repeat][item]` with a percentile bootstrap interval in which repeats and items are drawn anew together;
/// `None` if there are none, or repeats have not the same items.
///
/// One repeat is drawn as itself, which leaves the interval over items.
#[must_use]
pub fn crossed(values: &[Vec<f64>], stream: &mut ChaCha8Rng) -> Option<Estimate> {
    let n_items = values.first()?.len();
    if n_items == 0 || values.iter().any(|repeat| repeat.len() != n_items) {
        return None;
    }
    let total = (values.len() * n_items) as f64;
    let resample = |stream: &mut ChaCha8Rng| {
        let items: Vec<usize> = (0..n_items).map(|_| stream.random_range(0..n_items)).collect();
        let sum = |repeat: &Vec<f64>| items.iter().map(|item| repeat[*item]).sum::<f64>();
        (0..values.len()).map(|_| sum(&values[stream.random_range(0..values.len())])).sum::<f64>() / total
    };
    let means = (0..N_RESAMPLES).map(|_| resample(stream)).collect();
    Some(interval(values.iter().flatten().sum::<f64>() / total, means))
}

/// Mean of `first[repeat][item]` less that of `second`, whose items are others; repeats, which are the same of both, are drawn
/// anew together, items of each by themselves. `None` as in [`crossed`], or for another number of repeats.
#[must_use]
pub fn gap(first: &[Vec<f64>], second: &[Vec<f64>], stream: &mut ChaCha8Rng) -> Option<Estimate> {
    let sizes = [first.first()?.len(), second.first()?.len()];
    let both = [first, second];
    let is_even = both.iter().zip(sizes).all(|(of, n)| n > 0 && of.iter().all(|repeat| repeat.len() == n));
    if first.len() != second.len() || !is_even {
        return None;
    }
    let average = |of: &[Vec<f64>], repeats: &[usize], items: &[usize]| {
        let sum: f64 = repeats.iter().map(|at| items.iter().map(|item| of[*at][*item]).sum::<f64>()).sum();
        sum / (repeats.len() * items.len()) as f64
    };
    let less = |repeats: &[usize], items: &[Vec<usize>; 2]| {
        average(first, repeats, &items[0]) - average(second, repeats, &items[1])
    };
    let all = |n: usize| (0..n).collect::<Vec<usize>>();
    let mut draw = |n: usize| (0..n).map(|_| stream.random_range(0..n)).collect::<Vec<usize>>();
    let resamples = (0..N_RESAMPLES).map(|_| less(&draw(first.len()), &sizes.map(&mut draw))).collect();
    Some(interval(less(&all(first.len()), &sizes.map(all)), resamples))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn a_share_has_wilsons_interval() {
        let Estimate { value, low, high } = proportion(8, 10).unwrap();
        assert!((value - 0.8).abs() < 1e-12 && (low - 0.490_162).abs() < 1e-6 && (high - 0.943_318).abs() < 1e-6);
        let Estimate { low, high, .. } = proportion(0, 20).unwrap();
        assert!(low == 0.0 && (high - 0.161_125).abs() < 1e-6, "{high}");
        assert_eq!(proportion(0, 0), None);
    }

    #[test]
    fn an_interval_over_repeats_and_items_sees_both() {
        let mut stream = ChaCha8Rng::seed_from_u64(5);
        let wide = |e: Estimate| e.high - e.low;
        // Repeats differ by 1, items by nothing; then the other way round.
        let repeats: Vec<Vec<f64>> = (0..4).map(|r| vec![f64::from(r % 2); 50]).collect();
        let items: Vec<Vec<f64>> = (0..4).map(|_| (0..50).map(|i| f64::from(i % 2)).collect()).collect();
        let (of_repeats, of_items) = (crossed(&repeats, &mut stream).unwrap(), crossed(&items, &mut stream).unwrap());
        assert_eq!((of_repeats.value, of_items.value), (0.5, 0.5));
        // Standard deviations of 0.5/√4 and 0.5/√50.
        assert!((0.75..=1.0).contains(&wide(of_repeats)), "{of_repeats:?}");
        assert!((wide(of_items) / (2.0 * 1.96 * 0.5 / 50f64.sqrt()) - 1.0).abs() < 0.2, "{of_items:?}");
        assert_eq!(crossed(&[vec![0.25], vec![0.25]], &mut stream), Some(Estimate::exactly(0.25)));
        assert!(crossed(&[], &mut stream).is_none() && crossed(&[vec![]], &mut stream).is_none());
        assert!(crossed(&[vec![1.0], vec![1.0, 2.0]], &mut stream).is_none());
    }

    #[test]
    fn a_gap_between_other_items_is_a_difference_of_means() {
        let mut stream = ChaCha8Rng::seed_from_u64(5);
        // Repeats differ by 1 in both, which cancels; items differ by nothing.
        let first: Vec<Vec<f64>> = (0..4).map(|r| vec![f64::from(r) + 0.75; 30]).collect();
        let second: Vec<Vec<f64>> = (0..4).map(|r| vec![f64::from(r); 7]).collect();
        let found = gap(&first, &second, &mut stream).unwrap();
        assert!([found.value, found.low, found.high].iter().all(|x| (x - 0.75).abs() < 1e-12), "{found:?}");
        // Of one repeat, the variance is that of two independent means: 0.25/100 + 0.25/50.
        let halves = |n: u32| vec![(0..n).map(|i| f64::from(i % 2)).collect::<Vec<f64>>()];
        let found = gap(&halves(100), &halves(50), &mut stream).unwrap();
        let width = 2.0 * 1.96 * (0.25_f64 / 100.0 + 0.25 / 50.0).sqrt();
        assert!(found.value == 0.0 && ((found.high - found.low) / width - 1.0).abs() < 0.2, "{found:?}");
        assert!(gap(&first, &halves(5), &mut stream).is_none() && gap(&[], &[], &mut stream).is_none());
        assert!(gap(&[vec![]], &[vec![1.0]], &mut stream).is_none());
    }

    fn choose(n: u32, k: u32) -> f64 {
        (0..k).map(|i| f64::from(n - i) / f64::from(i + 1)).product()
    }

    #[test]
    fn pass_at_k_has_its_known_values() {
        assert_eq!(pass_at_k(4, 1, 2), Some(0.5));
        assert_eq!(pass_at_k(16, 0, 8), Some(0.0));
        assert_eq!(pass_at_k(8, 1, 8), Some(1.0));
        assert_eq!(pass_at_k(8, 5, 4), Some(1.0));
        assert_eq!((pass_at_k(8, 1, 9), pass_at_k(8, 1, 0), pass_at_k(0, 0, 1)), (None, None, None));
    }

    #[test]
    fn pass_at_k_is_the_ratio_of_binomials() {
        for n in 1..=20 {
            for c in 0..=n {
                for k in 1..=n {
                    let misses = if n - c < k { 0.0 } else { choose(n - c, k) };
                    let got = pass_at_k(n, c, k).unwrap();
                    assert!((got - (1.0 - misses / choose(n, k))).abs() < 1e-12, "n={n} c={c} k={k}");
                }
            }
        }
    }

    #[test]
    fn an_interval_holds_the_mean_and_covers_as_often_as_it_says() {
        let mut stream = ChaCha8Rng::seed_from_u64(5);
        let covered = (0..200)
            .filter(|_| {
                let xs: Vec<f64> = (0..100).map(|_| f64::from(u8::from(stream.random_bool(0.3)))).collect();
                let e = mean(&xs, &mut stream).unwrap();
                assert!(e.low <= e.value && e.value <= e.high);
                e.low <= 0.3 && 0.3 <= e.high
            })
            .count();
        assert!((178..=200).contains(&covered), "covered {covered} of 200");
    }

    #[test]
    fn repeats_have_students_interval() {
        let e = over_repeats(&[1.0, 2.0, 3.0]).unwrap();
        // t(2) · s / √3 with s = 1.
        assert!((e.value - 2.0).abs() < 1e-12 && (e.high - e.value - 4.303 / 3f64.sqrt()).abs() < 1e-9);
        assert_eq!(over_repeats(&[0.5]), Some(Estimate { value: 0.5, low: 0.5, high: 0.5 }));
        assert_eq!(over_repeats(&[]), None);
    }

    #[test]
    fn pairing_needs_equal_lengths_and_sees_a_constant_gain_exactly() {
        let mut stream = ChaCha8Rng::seed_from_u64(5);
        assert_eq!(paired_gain(&[0.0], &[0.0, 1.0], &mut stream), None);
        let e = paired_gain(&[0.1, 0.5], &[0.35, 0.75], &mut stream).unwrap();
        assert!((e.low - 0.25).abs() < 1e-12 && (e.high - 0.25).abs() < 1e-12);
        assert_eq!(mean(&[], &mut stream), None);
    }
}
