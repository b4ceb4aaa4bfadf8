//! Win rates that length does not buy: a logistic model of stored preferences, read with the lengths made equal.
//!
//! logit P(model wins on x) = `θ + φ tanh(Δ_x / sd(Δ)) + ψ γ_x`, where `Δ_x` is how many characters longer the model's answer to
//! instruction x is than the baseline's, and `γ_x` how hard x is; the length-controlled win rate is the mean of P with φ set to 0
//! (Dubois et al. 2024, arXiv 2404.04475, eq. 2).
//!
//! What differs from `AlpacaEval`'s program: the penalty is a small ridge on all three weights where theirs is an L1 penalty chosen by
//! cross-validation; γ comes from the preferences at hand (those of the *other* models on the same instruction) where theirs is a
//! file fitted to their leaderboard; gamed baselines are not added. So numbers are comparable within a run, not with a leaderboard.
//!
//! Not here: who judged.

use nalgebra::{DMatrix, DVector};

use crate::error::{Error, Result};

/// λ of the penalty ½λ‖weights‖²: it keeps weights finite where all preferences go one way.
const RIDGE: f64 = 0.01;
/// Most steps of Newton's method, and the step that is small enough.
const MAX_STEPS: usize = 100;
const ENOUGH: f64 = 1e-12;
/// Pseudo-preferences that draw the difficulty of an instruction few models were judged on to the middle.
const PRIOR: f64 = 1.0;

/// What the model is, as the definition of its figures.
pub const DEFINITION: &str = "mean of the logistic model of preferences with the length term 0: logit = theta + phi tanh(characters longer / \
    standard deviation) + psi difficulty; ridge 0.01; difficulty from the preferences of the other arms, z-scored";

/// One judged comparison of a model's answer with the baseline's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// How far the model's answer was preferred, in [0, 1]; ½ is a tie.
    pub preference: f64,
    /// Characters of the model's answer less those of the baseline's.
    pub longer: f64,
}

/// A fitted model.
#[derive(Clone, Debug, PartialEq)]
pub struct Controlled {
    /// θ, φ and, where difficulty is known, ψ.
    pub weights: Vec<f64>,
    /// The mean preference, in [0, 1].
    pub raw: f64,
    /// The mean prediction at equal lengths, in [0, 1].
    pub controlled: f64,
}

/// How hard each instruction is, from preferences `[models][instructions]`: the negative logit of the mean preference, drawn to ½,
/// z-scored. None if it is the same everywhere, or there is no model.
#[must_use]
pub fn difficulty(preferences: &[&[f64]]) -> Option<Vec<f64>> {
    let n = preferences.first()?.len();
    let hard = |at: usize| {
        let sum: f64 = preferences.iter().filter_map(|of| of.get(at)).sum();
        let mean = (sum + 0.5 * PRIOR) / (preferences.len() as f64 + PRIOR);
        libm::log((1.0 - mean) / mean)
    };
    super::regress::z_scores(&(0..n).map(hard).collect::<Vec<f64>>()).ok()
}

/// The model of one arm's comparisons; `difficulty` has one number an instruction.
///
/// # Errors
/// `Value` for no comparison, a preference outside [0, 1], a length that is not finite, or as many difficulties as there are not.
pub fn fit(judged: &[Judged], difficulty: Option<&[f64]>) -> Result<Controlled> {
    let wrong = |message: String| Error::Value { key: "judgements".into(), message };
    if judged.is_empty() {
        return Err(wrong("expected at least one, got none".into()));
    }
    if let Some(at) = judged.iter().position(|one| !(0.0..=1.0).contains(&one.preference) || !one.longer.is_finite()) {
        return Err(wrong(format!("{at}: expected a preference in [0, 1] and a length, got {:?}", judged[at])));
    }
    if let Some(all) = difficulty.filter(|all| all.len() != judged.len()) {
        return Err(wrong(format!("expected a difficulty for each of {}, got {}", judged.len(), all.len())));
    }
    let n = judged.len();
    let lengths: Vec<f64> = judged.iter().map(|one| one.longer).collect();
    let middle = lengths.iter().sum::<f64>() / n as f64;
    let deviation = (lengths.iter().map(|x| (x - middle).powi(2)).sum::<f64>() / (n as f64 - 1.0).max(1.0)).sqrt();
    // Of lengths that never differ nothing can be told, and there is nothing to control.
    let scaled = |x: f64| if deviation > 0.0 { libm::tanh(x / deviation) } else { 0.0 };
    let n_weights = if difficulty.is_some() { 3 } else { 2 };
    let x = DMatrix::from_fn(n, n_weights, |row, at| match at {
        0 => 1.0,
        1 => scaled(lengths[row]),
        _ => difficulty.map_or(0.0, |all| all[row]),
    });
    let y: Vec<f64> = judged.iter().map(|one| one.preference).collect();
    let weights = newton(&x, &y)?;
    let even = |row: usize| {
        let logit: f64 = (0..n_weights).filter(|at| *at != 1).map(|at| weights[at] * x[(row, at)]).sum();
        logistic(logit)
    };
    Ok(Controlled {
        raw: y.iter().sum::<f64>() / n as f64,
        controlled: (0..n).map(even).sum::<f64>() / n as f64,
        weights: weights.iter().copied().collect(),
    })
}

/// The weights with the least penalised loss −Σ (y ln p + (1 − y) ln(1 − p)) + ½λ‖w‖², which is strictly convex.
fn newton(x: &DMatrix<f64>, y: &[f64]) -> Result<DVector<f64>> {
    let n_weights = x.ncols();
    let loss = |w: &DVector<f64>| {
        let of_row = |(row, y): (usize, &f64)| {
            let z = (x.row(row) * w)[0];
            // ln(1 + eᶻ) − yz, without an overflow.
            z.max(0.0) + libm::log1p(libm::exp(-z.abs())) - y * z
        };
        y.iter().enumerate().map(of_row).sum::<f64>() + 0.5 * RIDGE * w.norm_squared()
    };
    let mut weights = DVector::zeros(n_weights);
    let mut now = loss(&weights);
    for _ in 0..MAX_STEPS {
        let mut slope = &weights * RIDGE;
        let mut curve = DMatrix::identity(n_weights, n_weights) * RIDGE;
        for (row, y) in y.iter().enumerate() {
            let features = x.row(row).transpose();
            let p = logistic(features.dot(&weights));
            slope += &features * (p - y);
            curve += &features * features.transpose() * (p * (1.0 - p));
        }
        let step = curve.cholesky().map(|factor| factor.solve(&slope));
        let step = step.ok_or_else(|| Error::Internal("a penalised curvature is not positive".into()))?;
        // Halved until it goes down: far from the end a whole step may overshoot.
        let mut share = 1.0;
        let (next, then) = loop {
            let next = &weights - &step * share;
            let then = loss(&next);
            if then <= now || share < 1e-10 {
                break (next, then);
            }
            share *= 0.5;
        };
        let moved = (&next - &weights).norm();
        (weights, now) = (next, then);
        if moved < ENOUGH {
            break;
        }
    }
    Ok(weights)
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn judged(preferences: &[f64], longer: &[f64]) -> Vec<Judged> {
        preferences.iter().zip(longer).map(|(p, l)| Judged { preference: *p, longer: *l }).collect()
    }

    /// scipy 1.17.1, `minimize(loss, zeros(3), method="BFGS", options={"gtol": 1e-10})` of the same penalised loss.
    #[test]
    fn weights_are_those_of_a_general_minimiser() {
        let preferences = [1.0, 0.75, 0.0, 0.5, 1.0, 0.25, 0.0, 1.0];
        let longer = [120.0, 40.0, -60.0, 10.0, 300.0, -20.0, -150.0, 5.0];
        let hard = [-1.0, 0.5, 1.2, 0.3, -0.4, 0.8, 0.1, -1.5];
        let found = fit(&judged(&preferences, &longer), Some(&hard)).unwrap();
        let expected = [0.579_203_3, 4.399_173_3, -1.918_304_7];
        assert!(found.weights.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-5), "{found:?}");
    }

    #[test]
    fn length_alone_buys_no_wins() {
        let mut stream = ChaCha8Rng::seed_from_u64(2);
        let longer: Vec<f64> = (0..400).map(|_| stream.random_range(-50.0..350.0)).collect();
        // A judge that only sees length: longer answers win, and most are longer.
        let p: Vec<f64> = longer.iter().map(|l| logistic(2.0 * libm::tanh(l / 115.0))).collect();
        let found = fit(&judged(&p, &longer), None).unwrap();
        assert!(found.raw > 0.7, "{found:?}");
        assert!((found.controlled - 0.5).abs() < 0.01, "{found:?}");
        // Turned round: who is better in truth stays so.
        let better: Vec<f64> = longer.iter().map(|l| logistic(1.0 + 2.0 * libm::tanh(l / 115.0))).collect();
        let found = fit(&judged(&better, &longer), None).unwrap();
        assert!((found.controlled - logistic(1.0)).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn at_equal_lengths_the_rate_is_the_mean_preference() {
        let preferences = [1.0, 0.5, 0.25, 1.0, 0.0, 1.0];
        let found = fit(&judged(&preferences, &[7.0; 6]), None).unwrap();
        // But for the penalty, which draws to ½.
        assert!((found.controlled - found.raw).abs() < 1e-3 && found.controlled < found.raw, "{found:?}");
        assert_eq!(found.weights[1], 0.0);
    }

    #[test]
    fn preferences_that_all_go_one_way_have_finite_weights() {
        let found = fit(&judged(&[1.0; 20], &(0..20).map(f64::from).collect::<Vec<_>>()), None).unwrap();
        assert!(found.weights.iter().all(|w| w.is_finite()) && found.controlled > 0.9 && found.controlled < 1.0);
        assert_eq!(found.raw, 1.0);
    }

    #[test]
    fn an_instruction_others_fail_is_hard_and_one_without_others_is_not_known() {
        let hard = difficulty(&[&[1.0, 0.5, 0.0], &[1.0, 0.5, 0.0]]).unwrap();
        assert!(hard[0] < hard[1] && hard[1] < hard[2] && hard[1].abs() < 1e-12, "{hard:?}");
        assert!(difficulty(&[]).is_none() && difficulty(&[&[0.5, 0.5]]).is_none());
    }

    #[test]
    fn judgements_that_are_none_are_refused() {
        for (all, hard, said) in [
            (vec![], None, "at least one"),
            (judged(&[1.5], &[0.0]), None, "in [0, 1]"),
            (judged(&[f64::NAN], &[0.0]), None, "in [0, 1]"),
            (judged(&[0.5], &[f64::INFINITY]), None, "a length"),
            (judged(&[0.5], &[1.0]), Some([1.0, 2.0]), "for each of 1"),
        ] {
            let error = fit(&all, hard.as_ref().map(<[f64; 2]>::as_slice)).unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
