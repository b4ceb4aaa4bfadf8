//! What reward models are fitted to: soft labels at step tags, preferred completions, and several ratings with gaps.

use super::items::Pair;
use super::objective::{Seen, Signal, sigmoid, softplus};
use super::units::{Unit, pair_units, rating_units, tag_units};
use super::{Objective, OnStep, Reader, Training, Trunk, rule, run_with};
use crate::error::Result;
use crate::lm::Lm;
use crate::reward::{HeadKind, RewardModel};

/// A text with step tags, and how likely each step leads to the right end.
#[derive(Debug, Clone, PartialEq)]
pub struct TaggedExample {
    /// Token ids; at least one.
    pub ids: Vec<u32>,
    /// Positions of the tags, from 0, ascending; at least one. The head reads the hidden state after the token there.
    pub at: Vec<usize>,
    /// v of each, in [0, 1].
    pub labels: Vec<f64>,
}

/// A pair of completions, and by how much the better one was rated higher.
#[derive(Debug, Clone, PartialEq)]
pub struct RatedPair {
    /// The completions.
    pub pair: Pair,
    /// m, ≥ 0; 0 where only the order is known.
    pub margin: f64,
}

/// A completion and its ratings.
#[derive(Debug, Clone, PartialEq)]
pub struct RatedText {
    /// Token ids; at least one.
    pub prompt: Vec<u32>,
    /// Token ids; at least one.
    pub completion: Vec<u32>,
    /// One for each output of the head; none where nobody rated, and at least one that is there.
    pub labels: Vec<Option<f64>>,
}

/// What keeps the shared hidden states good for writing text. ℓ is the log-probability of a completion under the trunk's
/// own language head: a sum over its tokens.
#[derive(Debug, Clone)]
pub enum Regulariser {
    /// −ln σ(β [(ℓ(chosen) − ℓ₀(chosen)) − (ℓ(rejected) − ℓ₀(rejected))]), ℓ₀ under the reference, computed once.
    Dpo {
        /// β, > 0.
        beta: f64,
        /// What ℓ₀ is of.
        reference: Lm,
    },
    /// The same with ℓ₀ = 0.
    DpoWithoutReference {
        /// β, > 0.
        beta: f64,
    },
    /// −ln σ(β ℓ(chosen)).
    Sft {
        /// β, > 0.
        beta: f64,
    },
    /// −ℓ(chosen).
    Nll,
}

/// What a pair costs: (1 − α) L + α R, with
/// L = −(1 − s) ln σ(Δ − m) − s ln σ(m − Δ) − p ln σ(r(chosen)), Δ = r(chosen) − r(rejected), and R the regulariser.
///
/// The default is Bradley and Terry's model. Sources: Ouyang et al. 2022, eq. 1 (s = p = m = α = 0); Touvron et al. 2023,
/// eq. 2 (margins); Yang et al. 2024 (arXiv 2406.10216) (regularisers; its released code has p = 0.1).
#[derive(Debug, Clone)]
pub struct PairLoss {
    /// s: share of pairs taken to be the wrong way round, in [0, 0.5).
    pub smoothing: f64,
    /// p: how strongly chosen completions are to have positive rewards, ≥ 0.
    pub positive: f64,
    /// α, in [0, 1): weight of the regulariser. At 0 it is not computed.
    pub alpha: f64,
    /// R.
    pub regulariser: Regulariser,
}

impl Default for PairLoss {
    fn default() -> Self {
        Self { smoothing: 0.0, positive: 0.0, alpha: 0.0, regulariser: Regulariser::Sft { beta: 0.1 } }
    }
}

/// What a reward model is fitted to.
#[derive(Debug, Clone, Copy)]
pub enum FitObjective<'a> {
    /// −v ln p − (1 − v) ln(1 − p), mean over the tags of a step, in nats, with p the probability of a head of two tokens.
    ///
    /// Source: Zhang et al. 2024 (arXiv 2412.11006), training of the process reward model.
    Tags(&'a [TaggedExample]),
    /// [`PairLoss`], mean over the pairs of a step, in nats. The head has one output.
    Pairs(&'a [RatedPair], &'a PairLoss),
    /// Σ (output − label)² over the labels that are there, mean over the texts of a step.
    ///
    /// Source: Wang et al. 2024 (arXiv 2402.18571), with a bias.
    Ratings(&'a [RatedText]),
}

/// [`PairLoss`] as the objective needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Preference {
    pub(super) smoothing: f64,
    pub(super) positive: f64,
    pub(super) alpha: f64,
    pub(super) language: Language,
}

/// A regulariser whose reference has been asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Language {
    Dpo { beta: f64 },
    Sft { beta: f64 },
    Nll,
}

/// Fits a reward model. Weight decay, clipping and the reported norm are over head and trunk together; what holds weights
/// to their start ([`super::Anchor`]) is over the trunk alone.
///
/// An adapter ([`super::Training::adapter`]) is of the trunk, beside a head that is trained whole, and comes out merged.
///
/// Figures of a step: for tags `gap`, the mean of |p − v|; for pairs `accuracy` (the share with Δ > 0, so that ties count
/// as wrong), `margin` (the mean Δ) and, with α > 0, `regulariser` (the mean R).
///
/// # Errors
/// `Range` for a setting, a head of the wrong kind, a frozen trunk where nothing else learns, or one with an adapter; `Empty`, `Token`,
/// `TooLong` or `At` for an item; `NonFinite` if the training diverges; `Device` if the device fails.
pub fn fit(
    model: &RewardModel,
    objective: &FitObjective<'_>,
    trunk: Trunk,
    training: &Training,
    n_threads: usize,
    on_step: OnStep<'_>,
) -> Result<RewardModel> {
    let (objective, units) = objective.units(model, trunk, n_threads)?;
    let reader = Reader { head: model.head().clone(), trunk };
    let trained = run_with(model.trunk(), Some(&reader), &objective, &units, training, n_threads, on_step)?;
    Ok(RewardModel::new(trained.lm, trained.head.unwrap_or(reader.head)))
}

impl FitObjective<'_> {
    /// What the loop needs: checked against the head that is to learn.
    pub(crate) fn units(&self, model: &RewardModel, trunk: Trunk, n_threads: usize) -> Result<(Objective, Vec<Unit>)> {
        let is_two_token = matches!(model.kind(), HeadKind::TwoToken { .. });
        let frozen = trunk == Trunk::Frozen;
        rule(!(frozen && is_two_token), "trunk", "trained, as a head of two tokens has no weights of its own", &trunk)?;
        let config = model.trunk().config();
        Ok(match self {
            FitObjective::Tags(examples) => {
                rule(is_two_token, "head", "two tokens, to learn tags", model.kind())?;
                (Objective::Tags, tag_units(config, examples)?)
            }
            FitObjective::Pairs(pairs, loss) => {
                rule(model.kind().outputs().len() == 1, "head", "one output, to learn pairs", model.kind())?;
                let learns = !frozen || loss.alpha == 0.0;
                rule(learns, "alpha", "0, as the regulariser has nothing to change in a frozen trunk", &loss.alpha)?;
                pair_units(config, pairs, loss, n_threads)?
            }
            FitObjective::Ratings(texts) => {
                rule(!is_two_token, "head", "outputs without bounds, to learn ratings", model.kind())?;
                (Objective::Regression, rating_units(config, texts, &model.kind().outputs())?)
            }
        })
    }
}
pub(super) fn total(log_probs: &[f32]) -> f64 {
    log_probs.iter().map(|log_prob| f64::from(*log_prob)).sum()
}

pub(super) fn tags_signal(labels: &[Option<f64>], outputs: &[f32], weight: f64) -> Signal {
    let mut signal = Signal::default();
    let mut gap = 0.0;
    for (z, v) in outputs.iter().map(|z| f64::from(*z)).zip(labels.iter().flatten()) {
        signal.loss += (v * softplus(-z) + (1.0 - v) * softplus(z)) / weight;
        signal.output_slopes.push(((sigmoid(z) - v) / weight) as f32);
        gap += (sigmoid(z) - v).abs() / weight;
    }
    signal.figures = vec![("gap", gap)];
    signal
}

pub(super) fn regression_signal(labels: &[Option<f64>], outputs: &[f32], weight: f64) -> Signal {
    let mut signal = Signal::default();
    for (output, label) in outputs.iter().zip(labels) {
        let error = label.map_or(0.0, |label| f64::from(*output) - label);
        signal.loss += error * error / weight;
        signal.output_slopes.push((2.0 * error / weight) as f32);
    }
    signal
}

pub(super) fn preference_signal(
    preference: &Preference,
    margin: f64,
    reference: f64,
    n_chosen: usize,
    seen: Seen<'_>,
    weight: f64,
) -> Signal {
    let Preference { smoothing: s, positive, alpha, language } = *preference;
    let [chosen, rejected] = [0, 1].map(|at| f64::from(seen.outputs[at]));
    let gap = chosen - rejected;
    let h = gap - margin;
    let loss = (1.0 - s) * softplus(-h) + s * softplus(h) + positive * softplus(-chosen);
    let slope = s * sigmoid(h) - (1.0 - s) * sigmoid(-h);
    let share = (1.0 - alpha) / weight;
    let mut signal = Signal {
        loss: share * loss,
        slopes: Vec::new(),
        output_slopes: vec![(share * (slope - positive * sigmoid(-chosen))) as f32, (share * -slope) as f32],
        figures: vec![("accuracy", f64::from(gap > 0.0) / weight), ("margin", gap / weight)],
    };
    if alpha > 0.0 {
        let (of_chosen, of_rejected) = seen.log_probs.split_at(n_chosen);
        let (loss, slope) = match language {
            Language::Dpo { beta } => {
                let h = beta * (total(of_chosen) - total(of_rejected) - reference);
                (softplus(-h), -beta * sigmoid(-h))
            }
            Language::Sft { beta } => {
                let h = beta * total(of_chosen);
                (softplus(-h), -beta * sigmoid(-h))
            }
            Language::Nll => (-total(of_chosen), -1.0),
        };
        let share = alpha / weight;
        signal.loss += share * loss;
        let sign = |at: usize| if at < n_chosen { slope } else { -slope };
        signal.slopes = (0..seen.log_probs.len()).map(|at| (share * sign(at)) as f32).collect();
        signal.figures.push(("regulariser", loss / weight));
    }
    signal
}

#[cfg(test)]
mod tests {
    use super::super::units::{Known, Row};
    use super::*;

    /// Compares slopes with central differences of the loss.
    fn check_slopes(objective: Objective, unit: &Unit, log_probs: &[f32], outputs: &[f32]) {
        let loss = |log_probs: &[f32], outputs: &[f32]| objective.signal(unit, Seen { log_probs, outputs }, 3.0).loss;
        let h = 2f32.powi(-8);
        let quotient = |of: &[f32], at: usize, loss: &dyn Fn(&[f32]) -> f64| {
            let moved = |by: f32| {
                let mut moved = of.to_vec();
                moved[at] += by;
                loss(&moved)
            };
            (moved(h) - moved(-h)) / (2.0 * f64::from(h))
        };
        let signal = objective.signal(unit, Seen { log_probs, outputs }, 3.0);
        let check = |slopes: &[f32], of: &[f32], loss: &dyn Fn(&[f32]) -> f64| {
            assert_eq!(slopes.len(), of.len());
            for (at, slope) in slopes.iter().enumerate() {
                let (got, want) = (f64::from(*slope), quotient(of, at, loss));
                assert!((got - want).abs() < 1e-5 * (1.0 + want.abs()), "{objective:?} at {at}: {got} and {want}");
            }
        };
        check(&signal.slopes, log_probs, &|moved| loss(moved, outputs));
        check(&signal.output_slopes, outputs, &|moved| loss(log_probs, moved));
    }

    fn unit(known: Known, predicted: &[usize], n_reads: usize) -> Unit {
        let row = |n: &usize| Row { ids: vec![0; n + 1], predicted: (1..=*n).collect(), reads: vec![0; n_reads] };
        Unit { rows: predicted.iter().map(row).collect(), known }
    }

    fn preference(language: Language, alpha: f64) -> Preference {
        Preference { smoothing: 0.0, positive: 0.0, alpha, language }
    }

    #[test]
    fn slopes_are_the_derivatives_of_the_loss() {
        let labels = vec![Some(0.0), Some(0.3), Some(1.0)];
        check_slopes(Objective::Tags, &unit(Known::Labels(labels), &[0], 3), &[], &[1.5, -0.5, -2.0]);
        let labels = vec![Some(4.0), None, Some(-0.5)];
        check_slopes(Objective::Regression, &unit(Known::Labels(labels), &[0], 1), &[], &[1.5, -0.5, -2.0]);
        let log_probs = [-0.5, -1.25, -2.0, -0.125, -0.75];
        for language in [Language::Dpo { beta: 0.7 }, Language::Sft { beta: 0.3 }, Language::Nll] {
            for (alpha, smoothing, positive, margin) in
                [(0.0, 0.0, 0.0, 0.0), (0.0, 0.1, 0.0, 1.5), (0.0, 0.0, 0.1, 0.0), (0.25, 0.1, 0.2, 0.5)]
            {
                let preference = Preference { smoothing, positive, ..preference(language, alpha) };
                let is_dpo = matches!(language, Language::Dpo { .. });
                let (predicted, log_probs) = match (alpha > 0.0, is_dpo) {
                    (false, _) => ([0, 0], &log_probs[..0]),
                    (true, true) => ([2, 3], &log_probs[..]),
                    (true, false) => ([2, 0], &log_probs[..2]),
                };
                let unit = unit(Known::Preference { margin, reference: 0.3 }, &predicted, 1);
                check_slopes(Objective::Preference(preference), &unit, log_probs, &[0.5, -0.25]);
                check_slopes(Objective::Preference(preference), &unit, log_probs, &[-3.0, 2.0]);
            }
        }
    }

    #[test]
    fn losses_have_their_closed_form_where_it_is_known() {
        let ln = |x: f64| libm::log(x);
        let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} and {want}");
        // Even odds, whatever the label, cost ln 2; p = 3/4 with v = 1/2 costs −½ ln(3/16).
        let half = |v: f64, z: f32| tags_signal(&[Some(v)], &[z], 1.0);
        close(half(0.2, 0.0).loss, ln(2.0));
        assert!((half(0.5, 3f32.ln()).loss + 0.5 * ln(3.0 / 16.0)).abs() < 1e-7);
        assert_eq!(half(0.5, 0.0).output_slopes, [0.0], "the minimum is where p is the label");
        let pair = |preference: Preference, margin: f64, reference: f64, log_probs: &[f32], outputs: [f32; 2]| {
            let seen = Seen { log_probs, outputs: &outputs };
            preference_signal(&preference, margin, reference, 1, seen, 1.0)
        };
        let bt = preference(Language::Nll, 0.0);
        close(pair(bt, 0.0, 0.0, &[], [1.0, 1.0]).loss, ln(2.0));
        close(pair(bt, 2.0, 0.0, &[], [3.0, 1.0]).loss, ln(2.0));
        close(pair(bt, 0.0, 0.0, &[], [1.0, -1.0]).loss, ln(1.0 + libm::exp(-2.0)));
        let smooth = Preference { smoothing: 0.1, ..bt };
        close(
            pair(smooth, 0.0, 0.0, &[], [1.0, -1.0]).loss,
            0.9 * ln(1.0 + libm::exp(-2.0)) + 0.1 * ln(1.0 + libm::exp(2.0)),
        );
        let positive = Preference { positive: 0.1, ..bt };
        close(pair(positive, 0.0, 0.0, &[], [0.0, 0.0]).loss, 1.1 * ln(2.0));
        // R alone, at α close to its weight: with Δ = 0 the reward's part is (1 − α) ln 2.
        let r = |language, reference, log_probs: &[f32]| {
            let whole = pair(preference(language, 0.5), 0.0, reference, log_probs, [0.0, 0.0]).loss;
            (whole - 0.5 * ln(2.0)) / 0.5
        };
        close(r(Language::Nll, 0.0, &[-2.5]), 2.5);
        close(r(Language::Sft { beta: 2.0 }, 0.0, &[-1.0]), ln(1.0 + libm::exp(2.0)));
        close(r(Language::Dpo { beta: 2.0 }, 0.5, &[-1.0, -2.0]), ln(1.0 + libm::exp(-1.0)));
        close(r(Language::Dpo { beta: 2.0 }, 0.0, &[-1.0, -2.0]), ln(1.0 + libm::exp(-2.0)));
        close(regression_signal(&[Some(1.0), None, Some(-1.0)], &[3.0, f32::MAX, 0.0], 2.0).loss, 2.5);
    }

    /// GRM's recommended term is no mean likelihood: the sigmoid of a sum over tokens is saturated, so what is left of it is αβ times
    /// the gradient of the summed −ln π, which is 0.001 at the paper's α = 0.01 and β = 0.1.
    #[test]
    fn the_sft_term_of_a_likely_length_has_alpha_beta_times_the_slope_of_the_summed_likelihood() {
        let slopes = |language, alpha, log_probs: &[f32]| {
            let seen = Seen { log_probs, outputs: &[0.0, 0.0] };
            preference_signal(&preference(language, alpha), 0.0, 0.0, log_probs.len(), seen, 1.0).slopes
        };
        // A hundred tokens of two nats: σ(−βℓ) is 1 but for e⁻²⁰.
        for slope in slopes(Language::Sft { beta: 0.1 }, 0.01, &[-2.0; 100]) {
            assert!((f64::from(slope) + 0.001).abs() < 1e-9, "{slope}");
        }
        // At ℓ = 0 half of it is left, and plain likelihood has α whatever ℓ is.
        assert!((f64::from(slopes(Language::Sft { beta: 0.1 }, 0.01, &[0.0])[0]) + 0.0005).abs() < 1e-9);
        assert!((f64::from(slopes(Language::Nll, 0.01, &[-2.0])[0]) + 0.01).abs() < 1e-9);
    }

    /// A policy that is its reference times e^(r/β) has β times its log-ratio as reward, up to the prompt's constant: the DPO term
    /// is then the reward's own.
    #[test]
    fn the_dpo_term_of_the_optimal_policy_is_the_loss_of_the_reward() {
        let beta = 0.5;
        for ([chosen, rejected], constant) in [([1.0_f64, -0.5], 0.3), ([-2.0, 0.25], -1.5)] {
            let reference = [-3.0_f64, -4.0];
            let policy = [reference[0] + chosen / beta - constant, reference[1] + rejected / beta - constant];
            let log_probs = policy.map(|x| x as f32);
            let outputs = [chosen, rejected].map(|x| x as f32);
            let signal = |alpha: f64, outputs: [f32; 2]| {
                let seen = Seen { log_probs: &log_probs, outputs: &outputs };
                let preference = preference(Language::Dpo { beta }, alpha);
                preference_signal(&preference, 0.0, reference[0] - reference[1], 1, seen, 1.0).loss
            };
            let seen = Seen { log_probs: &[], outputs: &outputs };
            let of_reward = preference_signal(&preference(Language::Nll, 0.0), 0.0, 0.0, 0, seen, 1.0).loss;
            let of_policy = (signal(0.5, [0.0, 0.0]) - 0.5 * libm::log(2.0)) / 0.5;
            assert!((of_policy - of_reward).abs() < 1e-6, "{of_policy} and {of_reward}");
        }
    }

    #[test]
    fn ties_are_no_accuracy() {
        let bt = preference(Language::Nll, 0.0);
        let seen = Seen { log_probs: &[], outputs: &[1.0, 1.0] };
        assert_eq!(preference_signal(&bt, 0.0, 0.0, 0, seen, 1.0).figures[0], ("accuracy", 0.0));
    }
}
