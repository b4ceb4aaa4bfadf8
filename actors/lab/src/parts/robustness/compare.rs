//! Families of models against the line of one of them, with intervals over images and models.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::line::{Line, effective};
use super::scale::Scale;
use crate::parts::bootstrap::Resampler;
use crate::parts::evaluate::{Estimate, interval};

/// Which models are compared, by their places, and how.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The scale of the line.
    pub scale: Scale,
    /// Half the smallest step of an accuracy.
    pub least: f64,
    /// The models the line goes through.
    pub reference: Vec<usize>,
    /// The models held against it; may be the same, whose effective robustness is a residual then.
    pub against: Vec<usize>,
    /// Whether models are drawn anew too.
    pub draws_models: bool,
}

/// A line and what is off it, each with its 95 % percentile interval.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The line through all.
    pub line: Line,
    /// Its intercept.
    pub intercept: Estimate,
    /// Its slope.
    pub slope: Estimate,
    /// Its R².
    pub r2: Estimate,
    /// Effective robustness of each of `against`, as shares.
    pub each: Vec<Estimate>,
    /// Their mean; `None` of none.
    pub mean: Option<Estimate>,
    /// Resamples in which the drawn models had no line, which intervals leave out.
    pub n_lineless: usize,
}

impl Comparison {
    fn point(&self, accuracy: [f64; 2]) -> [f64; 2] {
        accuracy.map(|accuracy| self.scale.z(accuracy, self.least))
    }

    /// The line through the models of these places.
    fn line(&self, accuracies: &[[f64; 2]], of: &[usize]) -> Option<Line> {
        let points: Vec<[f64; 2]> = of.iter().map(|at| self.point(accuracies[*at])).collect();
        Line::through(points.iter().copied())
    }

    /// Coordinates of the models the line goes through.
    #[must_use]
    pub fn points(&self, accuracies: &[[f64; 2]]) -> Vec<[f64; 2]> {
        self.reference.iter().map(|at| self.point(accuracies[*at])).collect()
    }

    fn off(&self, line: &Line, accuracies: &[[f64; 2]]) -> Vec<f64> {
        self.against.iter().map(|at| effective(line, self.scale, accuracies[*at], self.least)).collect()
    }

    /// Compares. `accuracies`: of all models, as shares; `drawn`: the same of images drawn anew, or the same again where there are no images.
    /// `None` if no line is told by the models of `reference`.
    #[must_use]
    pub fn compare(
        &self,
        accuracies: &[[f64; 2]],
        resampler: &Resampler,
        drawn: impl Fn(&mut ChaCha8Rng) -> Vec<[f64; 2]> + Sync,
    ) -> Option<Compared> {
        let line = self.line(accuracies, &self.reference)?;
        let each = self.off(&line, accuracies);
        let resamples: Vec<Option<(Line, Vec<f64>, f64)>> = resampler.each(|stream| {
            let accuracies = drawn(stream);
            let mut draw = |n: usize| -> Vec<usize> {
                let one = |at| if self.draws_models { stream.random_range(0..n as u32) as usize } else { at };
                (0..n).map(one).collect()
            };
            let reference: Vec<usize> = draw(self.reference.len()).into_iter().map(|at| self.reference[at]).collect();
            let places = draw(self.against.len());
            let line = self.line(&accuracies, &reference)?;
            let each = self.off(&line, &accuracies);
            let mean = places.iter().map(|at| each[*at]).sum::<f64>() / places.len() as f64;
            Some((line, each, mean))
        });
        let with_line: Vec<(Line, Vec<f64>, f64)> = resamples.iter().flatten().cloned().collect();
        if with_line.is_empty() {
            return None;
        }
        let of_line =
            |value: f64, of: fn(&Line) -> f64| interval(value, with_line.iter().map(|(l, ..)| of(l)).collect());
        let estimate =
            |(at, value): (usize, &f64)| interval(*value, with_line.iter().map(|(_, each, _)| each[at]).collect());
        let mean = each.iter().sum::<f64>() / each.len() as f64;
        Some(Compared {
            intercept: of_line(line.intercept, |line| line.intercept),
            slope: of_line(line.slope, |line| line.slope),
            r2: of_line(line.r2, |line| line.r2),
            mean: (!each.is_empty()).then(|| interval(mean, with_line.iter().map(|(.., mean)| *mean).collect())),
            each: each.iter().enumerate().map(estimate).collect(),
            n_lineless: resamples.len() - with_line.len(),
            line,
        })
    }
}

impl Comparison {
    /// How much more effective robustness the models of `after` have than those of `against`, pair by pair in their order, on average: the same
    /// checkpoints under another prompt set. `None` if there are none, not as many, or no line.
    #[must_use]
    pub fn paired(
        &self,
        after: &[usize],
        accuracies: &[[f64; 2]],
        resampler: &Resampler,
        drawn: impl Fn(&mut ChaCha8Rng) -> Vec<[f64; 2]> + Sync,
    ) -> Option<Estimate> {
        if after.len() != self.against.len() || after.is_empty() {
            return None;
        }
        let gain = |accuracies: &[[f64; 2]], reference: &[usize], pairs: &[usize]| {
            let line = self.line(accuracies, reference)?;
            let off = |at: usize| effective(&line, self.scale, accuracies[at], self.least);
            Some(pairs.iter().map(|at| off(after[*at]) - off(self.against[*at])).sum::<f64>() / pairs.len() as f64)
        };
        let all: Vec<usize> = (0..after.len()).collect();
        let value = gain(accuracies, &self.reference, &all)?;
        let resamples = resampler.each(|stream| {
            let accuracies = drawn(stream);
            let mut draw = |n: usize| -> Vec<usize> {
                let one = |at| if self.draws_models { stream.random_range(0..n as u32) as usize } else { at };
                (0..n).map(one).collect()
            };
            let reference: Vec<usize> = draw(self.reference.len()).into_iter().map(|at| self.reference[at]).collect();
            let pairs = draw(after.len());
            gain(&accuracies, &reference, &pairs)
        });
        let resamples: Vec<f64> = resamples.into_iter().flatten().collect();
        (!resamples.is_empty()).then(|| interval(value, resamples))
    }
}

#[cfg(test)]
mod tests {
    use super::super::grid::{Grid, Group};
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    fn comparison(reference: Vec<usize>, against: Vec<usize>, draws_models: bool) -> Comparison {
        Comparison { scale: Scale::Probit, least: 5e-5, reference, against, draws_models }
    }

    /// Models on a line of probits, the last two off it by −0.05 and 0.05.
    fn accuracies() -> Vec<[f64; 2]> {
        let on = |at: u32| {
            let common = 0.5 + 0.04 * f64::from(at);
            [common, Scale::Probit.accuracy(1.2 * Scale::Probit.z(common, 5e-5) - 0.6)]
        };
        let mut all: Vec<[f64; 2]> = (0..10).map(on).collect();
        all.push([all[3][0], all[3][1] - 0.05]);
        all.push([all[6][0], all[6][1] + 0.05]);
        all
    }

    #[test]
    fn a_family_on_a_line_is_found_with_it_and_others_by_how_far_they_are_off() {
        let (all, resampler) = (accuracies(), Resampler::new([1; 32], 400).unwrap());
        let gain =
            comparison((0..10).collect(), vec![10], true).paired(&[11], &all, &resampler, |_| all.clone()).unwrap();
        assert!((gain.value - 0.1).abs() < 1e-9 && (gain.low - 0.1).abs() < 1e-9, "{gain:?}");
        assert!(comparison((0..10).collect(), vec![10], true).paired(&[], &all, &resampler, |_| all.clone()).is_none());
        let found =
            comparison((0..10).collect(), vec![10, 11], true).compare(&all, &resampler, |_| all.clone()).unwrap();
        assert!((found.slope.value - 1.2).abs() < 1e-9 && (found.slope.high - found.slope.low) < 1e-9, "{found:?}");
        assert!((found.intercept.value + 0.6).abs() < 1e-9 && (found.r2.value - 1.0).abs() < 1e-12);
        assert!((found.each[0].value + 0.05).abs() < 1e-9 && (found.each[1].high - 0.05).abs() < 1e-9);
        let mean = found.mean.unwrap();
        // Two models drawn anew: both are one of them in half of all draws.
        assert!(mean.value.abs() < 1e-9 && (mean.low + 0.05).abs() < 1e-9 && (mean.high - 0.05).abs() < 1e-9);
    }

    #[test]
    fn models_that_tell_no_line_are_none_and_draws_without_one_are_counted() {
        let (all, resampler) = (accuracies(), Resampler::new([1; 32], 400).unwrap());
        let of =
            |reference: Vec<usize>| comparison(reference, vec![10], true).compare(&all, &resampler, |_| all.clone());
        assert!(of(vec![]).is_none() && of(vec![4]).is_none() && of(vec![4, 4]).is_none());
        // One of two models drawn twice: half of the draws.
        let found = of(vec![2, 7]).unwrap();
        assert!((150..250).contains(&found.n_lineless), "{}", found.n_lineless);
        let none = comparison((0..10).collect(), vec![], true).compare(&all, &resampler, |_| all.clone()).unwrap();
        assert!(none.mean.is_none() && none.each.is_empty());
    }

    #[test]
    fn intervals_over_images_are_those_of_proportions() {
        let mut stream = ChaCha8Rng::seed_from_u64(5);
        let images: Vec<(u32, Group)> =
            (0..2_000).map(|at| (at % 4, if at % 2 < 1 { Group::Common } else { Group::Counter })).collect();
        // Classes 0 and 2 are common only, 1 and 3 counter only: shift so that each class has both.
        let images: Vec<(u32, Group)> =
            images.iter().enumerate().map(|(at, (_, g))| ((at / 2 % 4) as u32, *g)).collect();
        let model =
            |p: f64, stream: &mut ChaCha8Rng| images.iter().map(|_| stream.random_bool(p)).collect::<Vec<bool>>();
        let models: Vec<Vec<bool>> = [0.6, 0.8, 0.7].iter().map(|p| model(*p, &mut stream)).collect();
        let grid = Grid::new(&images, &models).unwrap();
        let comparison = Comparison { least: grid.least(), ..comparison(vec![0, 1], vec![2], false) };
        let found = comparison
            .compare(&grid.balanced(), &Resampler::new([2; 32], 1000).unwrap(), |stream| grid.resampled(stream))
            .unwrap();
        let width = found.each[0].high - found.each[0].low;
        // The model's own counter accuracy alone has a standard error of √(.7 · .3 / 1000).
        let least = 2.0 * 1.96 * (0.7 * 0.3 / 1000.0_f64).sqrt();
        assert!(width > least && width < 3.0 * least, "{width} {least}");
        assert_eq!(found.n_lineless, 0);
    }
}
