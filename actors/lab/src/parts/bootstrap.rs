//! Intervals of curves: prompts are drawn anew, with replacement, and the mean curve of each draw is computed.
//!
//! Invariants: a resample is named by the seed it was given and its number, so that two methods resampled under one seed are
//! resampled together, and neither the number of threads nor the order of work changes a bit.

use rand::{Rng as _, RngExt};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::evaluate::{Estimate, interval};

/// One curve a prompt, each of as many points: f64 `[n_prompts, n_points]`, all finite.
#[derive(Clone, Debug, PartialEq)]
pub struct CurveSet {
    n_points: usize,
    /// Row-major.
    values: Vec<f64>,
}

impl CurveSet {
    /// Curves of prompts, in the order of the prompts.
    ///
    /// # Errors
    /// `Value` if there is none, they are empty or of different lengths, or a value is not finite.
    pub fn new(curves: impl IntoIterator<Item = Vec<f64>>) -> Result<Self> {
        let wrong = |message: String| Error::Value { key: "curves".into(), message };
        let (mut n_points, mut values) = (0, Vec::new());
        for (prompt, curve) in curves.into_iter().enumerate() {
            if prompt == 0 {
                n_points = curve.len();
            }
            if curve.is_empty() || curve.len() != n_points {
                return Err(wrong(format!(
                    "prompt {prompt}: expected {} points, got {}",
                    n_points.max(1),
                    curve.len()
                )));
            }
            if let Some(at) = curve.iter().position(|x| !x.is_finite()) {
                return Err(wrong(format!("prompt {prompt}, point {at}: expected a finite number, got {}", curve[at])));
            }
            values.extend(curve);
        }
        if values.is_empty() {
            Err(wrong("expected at least one prompt, got none".into()))
        } else {
            Ok(Self { n_points, values })
        }
    }

    /// How many prompts there are.
    #[must_use]
    pub fn n_prompts(&self) -> usize {
        self.values.len() / self.n_points
    }

    /// The curve of one prompt; empty past the last.
    #[must_use]
    pub fn curve(&self, prompt: usize) -> &[f64] {
        self.values.chunks_exact(self.n_points).nth(prompt).unwrap_or_default()
    }

    /// The mean curve.
    #[must_use]
    pub fn mean(&self) -> Vec<f64> {
        self.weighted(&vec![1; self.n_prompts()])
    }

    /// `self − before`, prompt by prompt.
    ///
    /// # Errors
    /// `Value` if they have not the same shape.
    pub fn less(&self, before: &Self) -> Result<Self> {
        if (self.n_points, self.values.len()) != (before.n_points, before.values.len()) {
            return Err(Error::Value {
                key: "curves".into(),
                message: format!(
                    "expected the same prompts and points for both, got {} × {} and {} × {}",
                    self.n_prompts(),
                    self.n_points,
                    before.n_prompts(),
                    before.n_points
                ),
            });
        }
        let values = self.values.iter().zip(&before.values).map(|(after, before)| after - before).collect();
        Ok(Self { n_points: self.n_points, values })
    }

    /// The mean of curves, each counted as often as it was drawn; in the order of prompts.
    fn weighted(&self, counts: &[u32]) -> Vec<f64> {
        let mut sum = vec![0.0; self.n_points];
        let mut total = 0.0;
        for (curve, count) in self.values.chunks_exact(self.n_points).zip(counts) {
            if *count == 0 {
                continue;
            }
            let count = f64::from(*count);
            total += count;
            for (sum, value) in sum.iter_mut().zip(curve) {
                *sum += count * value;
            }
        }
        for sum in &mut sum {
            *sum /= total;
        }
        sum
    }
}

/// Draws prompts anew.
#[derive(Clone, Copy, Debug)]
pub struct Resampler {
    seed: [u8; 32],
    n_resamples: u32,
}

impl Resampler {
    /// The resampler of a stage: one seed for all that asks for it, so that what is compared is compared on the same draws.
    ///
    /// # Errors
    /// As [`Resampler::new`].
    pub fn of(lab: &Lab, stage: &str, n_resamples: u32) -> Result<Self> {
        let mut seed = [0; 32];
        lab.seeds().stream(stage, 0, 0).fill_bytes(&mut seed);
        Self::new(seed, n_resamples)
    }

    /// A resampler under the name of a work item (see [`crate::lab::Lab::seeds`]).
    ///
    /// # Errors
    /// `Value` for fewer than 40 resamples, of which no 95 % interval can be read.
    pub fn new(seed: [u8; 32], n_resamples: u32) -> Result<Self> {
        const LEAST: u32 = 40;
        if n_resamples < LEAST {
            let message = format!("expected at least {LEAST}, got {n_resamples}");
            return Err(Error::Value { key: "n_resamples".into(), message });
        }
        Ok(Self { seed, n_resamples })
    }

    /// What `of` draws from the stream of each resample, in the order of resamples.
    pub fn each<T: Send>(&self, of: impl Fn(&mut ChaCha8Rng) -> T + Sync) -> Vec<T> {
        (0..self.n_resamples).into_par_iter().map(|nth| of(&mut self.stream(nth))).collect()
    }

    /// The stream of a resample.
    fn stream(&self, nth: u32) -> ChaCha8Rng {
        let mut stream = ChaCha8Rng::from_seed(self.seed);
        stream.set_stream(u64::from(nth));
        stream
    }

    /// How often each prompt is in a resample.
    fn counts(&self, nth: u32, n_prompts: usize) -> Vec<u32> {
        let mut stream = self.stream(nth);
        let mut counts = vec![0; n_prompts];
        for _ in 0..n_prompts {
            counts[stream.random_range(0..n_prompts)] += 1;
        }
        counts
    }

    /// What `of` finds in groups of items, each counted as often as it was drawn, with intervals over resamples; each group of so
    /// many items is drawn by itself. It finds as many numbers every time. One that is not there for the items as they are has no
    /// estimate, and resamples in which it is not there are left out of its interval.
    pub fn counted(
        &self,
        sizes: &[usize],
        of: impl Fn(&[Vec<u32>]) -> Vec<Option<f64>> + Sync,
    ) -> Vec<Option<Estimate>> {
        let draw = |nth: u32| {
            let mut stream = ChaCha8Rng::from_seed(self.seed);
            stream.set_stream(u64::from(nth));
            let mut counts = |n: usize| {
                let mut counts = vec![0; n];
                for _ in 0..n {
                    counts[stream.random_range(0..n)] += 1;
                }
                counts
            };
            of(&sizes.iter().map(|n| counts(*n)).collect::<Vec<_>>())
        };
        let resamples: Vec<Vec<Option<f64>>> = (0..self.n_resamples).into_par_iter().map(draw).collect();
        let once: Vec<Vec<u32>> = sizes.iter().map(|n| vec![1; *n]).collect();
        let estimate = |(at, value): (usize, Option<f64>)| {
            let found: Vec<f64> = resamples.iter().filter_map(|found| found.get(at).copied().flatten()).collect();
            value.filter(|_| !found.is_empty()).map(|value| interval(value, found))
        };
        of(&once).into_iter().enumerate().map(estimate).collect()
    }

    /// The mean curve with its 95 % percentile interval at each point, pointwise.
    #[must_use]
    pub fn bands(&self, curves: &CurveSet) -> Vec<Estimate> {
        self.statistics(curves, |mean| mean)
    }

    /// The mean of `after − before` with its interval, prompts resampled together.
    ///
    /// # Errors
    /// `Value` if they have not the same shape.
    pub fn paired(&self, before: &CurveSet, after: &CurveSet) -> Result<Vec<Estimate>> {
        Ok(self.bands(&after.less(before)?))
    }

    /// What `of` finds in the mean curve, such as where it peaks, with intervals over resamples. It finds as many numbers in
    /// every curve; should it find fewer in one, the numbers past those have no estimate.
    pub fn statistics(&self, curves: &CurveSet, of: impl Fn(Vec<f64>) -> Vec<f64> + Sync) -> Vec<Estimate> {
        let n_prompts = curves.n_prompts();
        let resample = |nth: u32| of(curves.weighted(&self.counts(nth, n_prompts)));
        let resamples: Vec<Vec<f64>> = (0..self.n_resamples).into_par_iter().map(resample).collect();
        let values = of(curves.mean());
        let n_found = resamples.iter().map(Vec::len).min().unwrap_or(0).min(values.len());
        let estimate = |at: usize| interval(values[at], resamples.iter().map(|found| found[at]).collect());
        (0..n_found).into_par_iter().map(estimate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(n_prompts: usize, n_points: usize, seed: u64) -> CurveSet {
        let mut stream = ChaCha8Rng::seed_from_u64(seed);
        CurveSet::new((0..n_prompts).map(|_| (0..n_points).map(|_| stream.random_range(-1.0..1.0)).collect())).unwrap()
    }

    /// Bit for bit what drawing prompts one by one and averaging gives, up to the order of addition.
    #[test]
    fn bands_are_those_of_drawing_one_by_one() {
        let set = curves(30, 3, 1);
        let resampler = Resampler::new([7; 32], 200).unwrap();
        let bands = resampler.bands(&set);
        for (at, band) in bands.iter().enumerate() {
            let point = |prompt: usize| set.values[prompt * 3 + at];
            let mut means: Vec<f64> = (0..200)
                .map(|nth| {
                    let mut stream = ChaCha8Rng::from_seed([7; 32]);
                    stream.set_stream(nth);
                    (0..30).map(|_| point(stream.random_range(0..30_usize))).sum::<f64>() / 30.0
                })
                .collect();
            means.sort_by(f64::total_cmp);
            assert!((band.low - means[5]).abs() < 1e-14 && (band.high - means[194]).abs() < 1e-14, "{band:?}");
            assert!((band.value - (0..30).map(point).sum::<f64>() / 30.0).abs() < 1e-14);
        }
    }

    #[test]
    fn intervals_cover_about_as_often_as_they_say_and_are_as_wide_as_theirs_is() {
        let covered = (0..200_u8)
            .filter(|trial| {
                let set = curves(80, 1, u64::from(*trial));
                let band = Resampler::new([*trial; 32], 400).unwrap().bands(&set)[0];
                band.low <= 0.0 && 0.0 <= band.high
            })
            .count();
        assert!((178..=199).contains(&covered), "covered {covered} of 200");
        // A uniform on (−1, 1) has variance 1/3.
        let band = Resampler::new([1; 32], 2000).unwrap().bands(&curves(400, 1, 9))[0];
        let expected = 2.0 * 1.96 * (1.0_f64 / 3.0 / 400.0).sqrt();
        assert!(((band.high - band.low) / expected - 1.0).abs() < 0.15);
    }

    #[test]
    fn a_constant_gain_is_seen_exactly_and_pairing_narrows_intervals() {
        let before = curves(100, 4, 3);
        let gain = |x: &f64| x + 0.25;
        let after = CurveSet { values: before.values.iter().map(gain).collect(), ..before };
        let resampler = Resampler::new([3; 32], 100).unwrap();
        for gain in resampler.paired(&before, &after).unwrap() {
            assert!((gain.low - 0.25).abs() < 1e-12 && (gain.high - 0.25).abs() < 1e-12);
        }
        assert!(resampler.paired(&before, &curves(100, 3, 3)).is_err());
        assert!(resampler.paired(&before, &curves(99, 4, 3)).is_err());
    }

    #[test]
    fn bits_depend_on_the_seed_and_not_on_the_threads() {
        let set = curves(50, 20, 4);
        let resampler = Resampler::new([5; 32], 64).unwrap();
        let bands = |n: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            pool.install(|| resampler.bands(&set))
        };
        assert_eq!(bands(1), bands(3));
        assert_ne!(bands(1), Resampler::new([6; 32], 64).unwrap().bands(&set));
    }

    #[test]
    fn a_statistic_of_the_curve_has_an_interval() {
        // Every prompt peaks at point 1, by different heights.
        let set = CurveSet::new((0..40).map(|i| vec![0.0, 1.0 + f64::from(i) / 40.0, 0.5])).unwrap();
        let peak = |curve: Vec<f64>| {
            let at = crate::parts::best_of::first_greatest(&curve).unwrap_or(0);
            vec![at as f64, curve[at] - curve[2]]
        };
        let found = Resampler::new([5; 32], 64).unwrap().statistics(&set, peak);
        assert_eq!(found[0], Estimate::exactly(1.0));
        assert!(found[1].low < found[1].value && found[1].value < found[1].high);
    }

    #[test]
    fn counting_items_as_often_as_drawn_gives_the_bands_of_their_mean() {
        let set = curves(30, 1, 6);
        let values: Vec<f64> = (0..30).map(|at| set.curve(at)[0]).collect();
        let resampler = Resampler::new([7; 32], 200).unwrap();
        let mean = |counts: &[u32]| counts.iter().zip(&values).map(|(n, x)| f64::from(*n) * x).sum::<f64>() / 30.0;
        let found = resampler.counted(&[30], |counts| vec![Some(mean(&counts[0])), None]);
        let band = resampler.bands(&set)[0];
        let got = found[0].unwrap();
        assert!((got.low - band.low).abs() < 1e-12 && (got.high - band.high).abs() < 1e-12, "{got:?} {band:?}");
        assert_eq!(found[1], None);
        // A number that is not there in every resample has an interval over the others.
        let rare = resampler.counted(&[4, 30], |counts| vec![(counts[0][0] > 0).then(|| f64::from(counts[0][0]))]);
        assert!(rare[0].is_some_and(|rare| rare.value == 1.0 && rare.low == 1.0 && rare.high >= 2.0), "{rare:?}");
        assert_eq!(resampler.counted(&[0], |_| vec![None]), [None]);
    }

    #[test]
    fn curves_that_are_none_are_refused() {
        assert!(CurveSet::new([]).is_err() && CurveSet::new([vec![]]).is_err());
        assert!(CurveSet::new([vec![1.0], vec![1.0, 2.0]]).is_err());
        let error = CurveSet::new([vec![1.0, 2.0], vec![1.0, f64::NAN]]).unwrap_err().to_string();
        assert!(error.contains("prompt 1, point 1") && error.contains("NaN"), "{error}");
        assert!(Resampler::new([0; 32], 39).is_err());
    }
}
