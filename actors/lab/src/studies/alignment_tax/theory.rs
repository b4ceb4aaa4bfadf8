//! Why averages win, by the paper's theory, held against a simulation of what it is about.
//!
//! Of K classes every feature shows the right one or, with probability p, one drawn anew from all K. Two models have learnt
//! n features each, `n_shared` of them the same, from examples where all features show the right class: each is the
//! classifier of least norm that fits those. The theory says how much more often their average is right than either.
//!
//! Source: Lin et al. 2024 (arXiv 2309.06256), the theorem on averaging:
//! `ξ⁽¹⁾ − ξ⁽²⁾ = F_p(√2 (1−p) n / √(n + n_o)) − F_p((1−p) √n)`, where `F_p(x)` is the probability that all K−1 coordinates
//! of N(x·1, M) are above zero, `M_ii = p (K + 2 − pK) / K`, `M_ij = p (K + 1 − pK) / K`. It is the limit of large n; at
//! the n simulated here counts differ from it by less than 0.006, which is within their error.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Test examples of a simulation.
const N_TRIALS: usize = 20_000;

/// Two models and the world they are tested in.
#[derive(Clone, Copy, Debug)]
struct World {
    n_classes: usize,
    /// Features of a model.
    n: usize,
    /// Of them, those that the other model has too.
    n_shared: usize,
    /// Probability that a feature's class is drawn anew.
    p: f64,
}

/// A model: what each feature adds to the scores of all classes when it shows a class, `[feature, shown, scored]`.
type Linear = Vec<f64>;

impl World {
    /// `F_p(x)`. M is a multiple of the identity plus one of 1 1ᵀ, so given what all coordinates share they are independent,
    /// and the probability is an integral over one normal variable (trapezoids; error below 1e-9).
    fn accuracy(&self, x: f64) -> f64 {
        let (k, p) = (self.n_classes as f64, self.p);
        let (variance, covariance) = (p * (k + 2.0 - p * k) / k, p * (k + 1.0 - p * k) / k);
        let alone = (variance - covariance).sqrt();
        let step = 1.0 / 128.0;
        let at = |i: i32| {
            let z = f64::from(i) * step;
            let above = 0.5 * libm::erfc(-(x + covariance.sqrt() * z) / (alone * std::f64::consts::SQRT_2));
            (-0.5 * z * z).exp() * above.powi(self.n_classes as i32 - 1)
        };
        (-1100..=1100).map(at).sum::<f64>() * step / std::f64::consts::TAU.sqrt()
    }

    /// How often the average is right, and how often one model is.
    fn expected(&self) -> [f64; 2] {
        let (n, kept) = (self.n as f64, 1.0 - self.p);
        let average = std::f64::consts::SQRT_2 * kept * n / (n + self.n_shared as f64).sqrt();
        [self.accuracy(average), self.accuracy(kept * n.sqrt())]
    }

    /// The classifier of least norm that is right where the `learnt` features show the class and others nothing: Kaczmarz'
    /// projections from zero, which are done after one sweep since the K inputs are orthogonal.
    fn classifier(&self, learnt: std::ops::Range<usize>) -> Linear {
        let k = self.n_classes;
        let mut model = vec![0.0; (2 * self.n - self.n_shared) * k * k];
        for class in 0..k {
            let places = learnt.clone().map(|feature| (feature * k + class) * k);
            let scores = places.clone().fold(vec![0.0; k], |scores, at| plus(scores, &model[at..at + k]));
            for at in places {
                for (scored, weight) in model[at..at + k].iter_mut().enumerate() {
                    *weight += (f64::from(scored == class) - scores[scored]) / learnt.len() as f64;
                }
            }
        }
        model
    }

    /// Counts how often each of the models is right, on the same examples.
    fn simulated<const N: usize>(&self, models: &[Linear; N], rng: &mut ChaCha8Rng) -> [Vec<bool>; N] {
        let k = self.n_classes;
        let n_features = 2 * self.n - self.n_shared;
        let mut right: [Vec<bool>; N] = std::array::from_fn(|_| Vec::with_capacity(N_TRIALS));
        for _ in 0..N_TRIALS {
            let class = rng.random_range(0..k);
            let show = |_| if rng.random_bool(self.p) { rng.random_range(0..k) } else { class };
            let shown: Vec<usize> = (0..n_features).map(show).collect();
            // Features are seen through a little noise, which is all that decides between equal scores.
            let noise: Vec<f64> = (0..k).map(|_| 1e-6 * rng.random::<f64>()).collect();
            for (model, right) in models.iter().zip(&mut right) {
                let places = shown.iter().enumerate().map(|(feature, shown)| (feature * k + shown) * k);
                let scores = places.fold(noise.clone(), |scores, at| plus(scores, &model[at..at + k]));
                right.push((0..k).all(|other| other == class || scores[other] < scores[class]));
            }
        }
        right
    }
}

fn plus(mut sums: Vec<f64>, values: &[f64]) -> Vec<f64> {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    sums
}

fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n;
    (mean, (variance / n).sqrt())
}

const WORLDS: [World; 5] = [
    World { n_classes: 3, n: 600, n_shared: 0, p: 0.96 },
    World { n_classes: 3, n: 600, n_shared: 300, p: 0.96 },
    World { n_classes: 2, n: 500, n_shared: 100, p: 0.97 },
    World { n_classes: 5, n: 600, n_shared: 200, p: 0.965 },
    World { n_classes: 4, n: 400, n_shared: 400, p: 0.95 },
];

#[test]
fn averages_of_simulated_models_gain_what_the_formula_says() {
    for (nth, world) in WORLDS.into_iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(nth as u64);
        let ends =
            [world.classifier(0..world.n), world.classifier(world.n - world.n_shared..2 * world.n - world.n_shared)];
        let average = ends[0].iter().zip(&ends[1]).map(|(a, b)| 0.5 * (a + b)).collect();
        let [first, second] = ends;
        let right = world.simulated(&[average, first, second], &mut rng);
        let [average, one] = world.expected();
        let rate = |right: &[bool]| right.iter().map(|right| f64::from(*right)).collect::<Vec<_>>();
        let rates = right.map(|right| rate(&right));
        let gains: Vec<f64> = (0..N_TRIALS).map(|i| rates[0][i] - 0.5 * (rates[1][i] + rates[2][i])).collect();
        for (what, counted, expected) in [
            ("average", &rates[0], average),
            ("first", &rates[1], one),
            ("second", &rates[2], one),
            ("gain", &gains, average - one),
        ] {
            let (mean, error) = mean_and_error(counted);
            assert!((mean - expected).abs() <= 4.0 * error, "{world:?} {what}: {mean} ± {error}, {expected}");
        }
    }
}

#[test]
fn the_formula_has_the_values_that_are_known_without_it() {
    for world in WORLDS {
        let k = world.n_classes as f64;
        // Where nothing is kept of the class every answer is a guess, of K classes that are all alike.
        let guess = World { p: 1.0, ..world };
        assert!((guess.accuracy(0.0) - 1.0 / k).abs() < 1e-9, "{world:?}");
        assert!((world.accuracy(30.0) - 1.0).abs() < 1e-9 && world.accuracy(-30.0) < 1e-9);
        let [average, one] = world.expected();
        let gain = average - one;
        // Two models that have learnt the same are one.
        let holds = if world.n_shared == world.n { gain.abs() < 1e-12 } else { gain > 0.01 };
        assert!(holds, "{world:?}: {average} and {one}");
        // The fewer features are shared, the more there is to gain.
        let apart = World { n_shared: 0, ..world }.expected();
        assert!(apart[0] >= average && apart[1] == one);
    }
    // Of two classes M is one number, p (4 − 2p) / 2, and F_p a normal distribution.
    let two = World { n_classes: 2, n: 10, n_shared: 0, p: 0.5 };
    let normal = 0.5 * libm::erfc(-0.7 / (2.0 * 0.5 * (4.0 - 1.0) / 2.0_f64).sqrt());
    assert!((two.accuracy(0.7) - normal).abs() < 1e-9);
}

#[test]
fn the_simulated_classifiers_fit_their_examples_with_the_least_norm() {
    let world = World { n_classes: 3, n: 4, n_shared: 1, p: 0.5 };
    let model = world.classifier(3..7);
    for class in 0..3 {
        let scores =
            (3..7).fold(vec![0.0; 3], |scores, feature| plus(scores, &model[(feature * 3 + class) * 3..][..3]));
        assert!(
            scores.iter().enumerate().all(|(scored, s)| (s - f64::from(scored == class)).abs() < 1e-12),
            "{scores:?}"
        );
    }
    // By hand: the least-norm solution gives every feature 1 / n for the class it shows.
    let square: f64 = model.iter().map(|weight| weight * weight).sum();
    assert!((square - 3.0 * 4.0 / 16.0).abs() < 1e-12, "{square}");
}
