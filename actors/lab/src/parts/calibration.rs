//! How well confidence tells right answers from wrong ones, and how true it is: average precision and calibration error.
//!
//! Invariants: equal scores are one threshold, so the order of items never matters; items may be counted as often as a resample
//! drew them. scikit-learn's `average_precision_score` gives the same numbers.

use crate::error::{Error, Result};

/// Items in the order of their scores, the greatest first; equal scores together.
#[derive(Clone, Debug)]
pub struct Ranked {
    order: Vec<usize>,
    /// Where each group of equal scores ends in `order`.
    ends: Vec<usize>,
}

impl Ranked {
    /// Ranks items by scores, f64 `[n_items]`, all finite.
    ///
    /// # Errors
    /// `Value` naming the place of a score that is not finite.
    pub fn new(scores: &[f64]) -> Result<Self> {
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            let message = format!("item {at}: expected a finite number, got {}", scores[at]);
            return Err(Error::Value { key: "scores".into(), message });
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // Zero is added so that −0 and 0 are equal.
        order.sort_by(|a, b| (scores[*b] + 0.0).total_cmp(&(scores[*a] + 0.0)));
        let mut ends = Vec::new();
        for group in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
            ends.push(ends.last().copied().unwrap_or(0) + group.len());
        }
        Ok(Self { order, ends })
    }

    /// Σ (Rₙ − Rₙ₋₁) Pₙ over thresholds, in [0, 1]: precision P and recall R of `right` among items that score at least as much.
    /// `counts`: how often each item counts. 0 where no item is right; `None` where no item counts.
    ///
    /// Source: Zhang et al. 2024 (arXiv 2311.09677), eq. 4, with scikit-learn's treatment of ties.
    #[must_use]
    pub fn average_precision(&self, right: &[bool], counts: &[u32]) -> Option<f64> {
        let n_right = |items: &[usize]| -> f64 {
            items.iter().filter(|at| right[**at]).map(|at| f64::from(counts[*at])).sum::<f64>()
        };
        let n_items = |items: &[usize]| -> f64 { items.iter().map(|at| f64::from(counts[*at])).sum::<f64>() };
        let (all, positives) = (n_items(&self.order), n_right(&self.order));
        if all == 0.0 {
            return None;
        }
        if positives == 0.0 {
            return Some(0.0);
        }
        let (mut start, mut n, mut hits, mut area) = (0, 0.0, 0.0, 0.0);
        for end in &self.ends {
            let group = &self.order[start..*end];
            let new = n_right(group);
            n += n_items(group);
            hits += new;
            if n > 0.0 {
                area += new / positives * (hits / n);
            }
            start = *end;
        }
        Some(area)
    }
}

/// Average precision of `scores` for `right`, every item once; see [`Ranked::average_precision`].
///
/// # Errors
/// `Value` for a score that is not finite, or another number of scores than of items.
pub fn average_precision(scores: &[f64], right: &[bool]) -> Result<Option<f64>> {
    same_length(scores.len(), right.len())?;
    Ok(Ranked::new(scores)?.average_precision(right, &vec![1; right.len()]))
}

fn same_length(scores: usize, items: usize) -> Result<()> {
    if scores == items {
        return Ok(());
    }
    Err(Error::Value { key: "scores".into(), message: format!("expected {items}, one an item, got {scores}") })
}

/// Items whose confidence lies within `[low, high)`; the last bin has its upper end too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Items, each as often as it counts.
    pub n: f64,
    /// Share of them that is right; 0 of none.
    pub accuracy: f64,
    /// Their mean confidence; 0 of none.
    pub confidence: f64,
}

/// Confidence in bins.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Bins of equal width over [0, 1], in order.
    pub bins: Vec<Bin>,
}

impl Calibration {
    /// Puts items into `n_bins` bins of equal width. `confidences`: f64 `[n_items]`, in [0, 1]; `counts`: how often each counts.
    ///
    /// # Errors
    /// `Value` for no bin, for a confidence outside [0, 1], naming its place, or another number of them than of items.
    pub fn new(confidences: &[f64], right: &[bool], counts: &[u32], n_bins: u32) -> Result<Self> {
        let wrong = |key: &str, message: String| Error::Value { key: key.into(), message };
        same_length(confidences.len(), right.len())?;
        if n_bins == 0 {
            return Err(wrong("n_bins", "expected at least 1, got `0`".into()));
        }
        if let Some(at) = confidences.iter().position(|c| !(0.0..=1.0).contains(c)) {
            let message = format!("item {at}: expected a number from 0 to 1, got {}", confidences[at]);
            return Err(wrong("confidences", message));
        }
        let edge = |nth: u32| f64::from(nth) / f64::from(n_bins);
        let mut bins: Vec<Bin> = (0..n_bins)
            .map(|nth| Bin { low: edge(nth), high: edge(nth + 1), n: 0.0, accuracy: 0.0, confidence: 0.0 })
            .collect();
        for ((confidence, is_right), count) in confidences.iter().zip(right).zip(counts) {
            let count = f64::from(*count);
            let at = bins.partition_point(|bin| bin.high <= *confidence).min(bins.len() - 1);
            bins[at].n += count;
            bins[at].accuracy += count * f64::from(u8::from(*is_right));
            bins[at].confidence += count * confidence;
        }
        for bin in bins.iter_mut().filter(|bin| bin.n > 0.0) {
            bin.accuracy /= bin.n;
            bin.confidence /= bin.n;
        }
        Ok(Self { bins })
    }

    /// Expected calibration error, `Σ (n_b / n) |accuracy − confidence|`, in [0, 1]; `None` where no item counts.
    #[must_use]
    pub fn error(&self) -> Option<f64> {
        let n: f64 = self.bins.iter().map(|bin| bin.n).sum();
        let gap = |bin: &Bin| bin.n / n * (bin.accuracy - bin.confidence).abs();
        (n > 0.0).then(|| self.bins.iter().map(gap).sum())
    }
}

/// Distinct answers with how often each was given, in the order in which they first were.
#[must_use]
pub fn tally<T: AsRef<str>>(answers: &[T]) -> Vec<(&str, u32)> {
    let mut all: Vec<(&str, u32)> = Vec::new();
    for answer in answers.iter().map(AsRef::as_ref) {
        match all.iter_mut().find(|(other, _)| *other == answer) {
            Some((_, count)) => *count += 1,
            None => all.push((answer, 1)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ap(scores: &[f64], right: &[u8]) -> f64 {
        let right: Vec<bool> = right.iter().map(|x| *x == 1).collect();
        average_precision(scores, &right).unwrap().unwrap()
    }

    #[test]
    fn average_precision_has_its_known_values() {
        // All equal: one threshold, the base rate. Perfect: 1. The worst order of one among four: 1/4.
        assert_eq!(ap(&[0.5; 4], &[1, 0, 0, 1]), 0.5);
        assert_eq!(ap(&[0.9, 0.8, 0.2, 0.1], &[1, 1, 0, 0]), 1.0);
        assert_eq!(ap(&[0.9, 0.8, 0.2, 0.1], &[0, 0, 0, 1]), 0.25);
        assert_eq!((ap(&[0.3], &[1]), ap(&[0.3], &[0])), (1.0, 0.0));
        // sklearn.metrics.average_precision_score of these, scikit-learn 1.9.1:
        // ([0,0,1,1], [.1,.4,.35,.8]); ([1,0,1,0,1,0,0,1], [.9,.9,.7,.7,.7,.2,.1,.1]); ([0,0,0], [.1,.2,.3])
        assert!((ap(&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1]) - 0.833_333_333_333_333_3).abs() < 1e-15);
        let tied = ap(&[0.9, 0.9, 0.7, 0.7, 0.7, 0.2, 0.1, 0.1], &[1, 0, 1, 0, 1, 0, 0, 1]);
        assert!((tied - 0.55).abs() < 1e-15, "{tied}");
        assert_eq!(ap(&[0.1, 0.2, 0.3], &[0, 0, 0]), 0.0);
        assert_eq!(ap(&[0.0, -0.0], &[1, 0]), 0.5, "−0 and 0 are equal");
        assert_eq!(average_precision(&[], &[]).unwrap(), None);
        let error = average_precision(&[0.1, f64::NAN], &[true, false]).unwrap_err().to_string();
        assert!(error.contains("item 1") && error.contains("NaN"), "{error}");
        assert!(average_precision(&[0.1], &[true, false]).is_err());
    }

    proptest! {
        #[test]
        fn counting_an_item_twice_is_having_it_twice_and_order_never_matters(
            items in prop::collection::vec((0_u8..6, any::<bool>(), 0_u32..3), 1..30),
        ) {
            let scores: Vec<f64> = items.iter().map(|(score, _, _)| f64::from(*score)).collect();
            let right: Vec<bool> = items.iter().map(|(_, right, _)| *right).collect();
            let counts: Vec<u32> = items.iter().map(|(_, _, count)| *count).collect();
            let got = Ranked::new(&scores).unwrap().average_precision(&right, &counts);
            let mut spread: Vec<(f64, bool)> =
                items.iter().flat_map(|(s, r, n)| vec![(f64::from(*s), *r); *n as usize]).collect();
            spread.reverse();
            let (scores, right): (Vec<f64>, Vec<bool>) = spread.into_iter().unzip();
            let expected = average_precision(&scores, &right).unwrap();
            prop_assert_eq!(got.is_some(), expected.is_some());
            if let (Some(got), Some(expected)) = (got, expected) {
                prop_assert!((got - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn calibration_error_is_that_of_a_sum_by_hand() {
        // Two bins: {.2, .4} with one right, {.5, .9, 1} with two right: 2/5 |.5 − .3| + 3/5 |2/3 − .8|.
        let confidences = [0.2, 0.4, 0.5, 0.9, 1.0];
        let right = [true, false, false, true, true];
        let of = |n_bins| Calibration::new(&confidences, &right, &[1; 5], n_bins);
        let two = of(2).unwrap();
        assert!((two.error().unwrap() - (0.4 * 0.2 + 0.6 * (0.8 - 2.0 / 3.0))).abs() < 1e-12);
        assert_eq!((two.bins[0].n, two.bins[1].n, two.bins[1].low), (2.0, 3.0, 0.5));
        // One bin: |3/5 − .6| = 0, so the number of bins is part of the measure.
        assert!(of(1).unwrap().error().unwrap() < 1e-12);
        // Edges belong to the bin above, the last one to the last bin.
        let edges = Calibration::new(&[0.0, 0.7, 1.0], &[true; 3], &[1; 3], 10).unwrap();
        let full: Vec<usize> = (0..10).filter(|at| edges.bins[*at].n > 0.0).collect();
        assert_eq!(full, [0, 7, 9]);
        assert_eq!(Calibration::new(&[], &[], &[], 10).unwrap().error(), None);
        assert!(of(0).unwrap_err().to_string().contains("n_bins"));
        let error = Calibration::new(&[0.5, 1.5], &[true; 2], &[1; 2], 10).unwrap_err().to_string();
        assert!(error.contains("item 1") && error.contains("1.5"), "{error}");
    }
}
