//! What is trained for: from log-probabilities of tokens to a loss and its slopes.
//!
//! An objective sees the log-probabilities of a unit's predicted tokens and says what the unit adds to the step's loss,
//! and the derivative of that by each of them. The network's gradient is the device's business, so an objective is
//! written once, in closed form, for all devices.

use super::fit::{self, Preference};
use super::items::{Dpo, Grpo, Kd};
use super::ppo::{self, Ppo};
use super::units::{Known, Unit};

/// What is trained for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Objective {
    Sft,
    Kd(Kd),
    Dpo(Dpo),
    Grpo(Grpo),
    Least,
    Tags,
    Preference(Preference),
    Regression,
    Ppo(Ppo),
}

/// What the network says of a unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// Of the predicted tokens, row after row.
    pub(crate) log_probs: &'a [f32],
    /// Of the head, read after read, row after row.
    pub(crate) outputs: &'a [f32],
}

/// What a unit adds to a step.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Signal {
    pub(crate) loss: f64,
    /// Derivative of the loss by each log-probability.
    pub(crate) slopes: Vec<f32>,
    /// Derivative of the loss by each output.
    pub(crate) output_slopes: Vec<f32>,
    /// Share of the step's means.
    pub(crate) figures: Vec<(&'static str, f64)>,
}

impl Objective {
    /// What the loss of a step with these units is a mean over: tokens, tags, pairs, rollouts or labelled texts.
    pub(crate) fn weight<'a>(&self, units: impl Iterator<Item = &'a Unit>) -> f64 {
        let n: usize = match self {
            Self::Sft | Self::Kd(_) | Self::Ppo(_) => units.map(Unit::n_predicted).sum(),
            Self::Tags => units.map(Unit::n_reads).sum(),
            Self::Dpo(_) | Self::Grpo(_) | Self::Least | Self::Preference(_) | Self::Regression => units.count(),
        };
        n as f64
    }

    /// A unit's part; `weight` is the step's.
    pub(crate) fn signal(&self, unit: &Unit, seen: Seen<'_>, weight: f64) -> Signal {
        let log_probs = seen.log_probs;
        match (self, &unit.known) {
            (Self::Tags, Known::Labels(labels)) => fit::tags_signal(labels, seen.outputs, weight),
            (Self::Regression, Known::Labels(labels)) => fit::regression_signal(labels, seen.outputs, weight),
            (Self::Preference(preference), Known::Preference { margin, reference }) => {
                fit::preference_signal(preference, *margin, *reference, unit.rows[0].predicted.len(), seen, weight)
            }
            (Self::Ppo(ppo), Known::Ppo(known)) => ppo::signal(ppo, known, seen, weight),
            (Self::Kd(kd), Known::Tokens { reference }) => kd_signal(*kd, reference, log_probs, weight),
            (Self::Least, _) => least_signal(log_probs, unit.rows[0].predicted.len(), weight),
            (Self::Dpo(dpo), Known::Pair { reference }) => {
                dpo_signal(dpo, *reference, log_probs, unit.rows[0].predicted.len(), weight)
            }
            (Self::Grpo(grpo), Known::Rollout { sampled, reference, advantage }) => {
                grpo_signal(grpo, sampled, reference.as_deref(), *advantage, log_probs, weight)
            }
            _ => {
                let total: f64 = log_probs.iter().map(|log_prob| f64::from(*log_prob)).sum();
                let slopes = vec![(-1.0 / weight) as f32; log_probs.len()];
                Signal { loss: -total / weight, slopes, ..Signal::default() }
            }
        }
    }
}

fn kd_signal(kd: Kd, reference: &[f32], log_probs: &[f32], weight: f64) -> Signal {
    let mut signal = Signal::default();
    let mut distance = 0.0;
    for (log_prob, reference) in log_probs.iter().zip(reference) {
        let p = libm::exp(f64::from(*log_prob));
        let gap = p - libm::exp(f64::from(*reference));
        signal.loss += (kd.lambda * gap * gap - f64::from(*log_prob)) / weight;
        signal.slopes.push(((2.0 * kd.lambda * gap * p - 1.0) / weight) as f32);
        distance += gap * gap / weight;
    }
    signal.figures = vec![("distance", distance)];
    signal
}

fn dpo_signal(dpo: &Dpo, reference: f64, log_probs: &[f32], n_chosen: usize, weight: f64) -> Signal {
    let total = |log_probs: &[f32]| log_probs.iter().map(|log_prob| f64::from(*log_prob)).sum::<f64>();
    let (chosen, rejected) = log_probs.split_at(n_chosen);
    let h = dpo.beta * (total(chosen) - total(rejected) - reference);
    let s = dpo.smoothing;
    let loss = (1.0 - s) * softplus(-h) + s * softplus(h);
    let slope = (s * sigmoid(h) - (1.0 - s) * sigmoid(-h)) * dpo.beta / weight;
    let slopes = (0..log_probs.len()).map(|at| if at < n_chosen { slope } else { -slope } as f32).collect();
    let figures = vec![("accuracy", f64::from(h > 0.0) / weight), ("margin", h / weight)];
    Signal { loss: loss / weight, slopes, figures, ..Signal::default() }
}

/// The smaller of two completions' −Σ ln p, the first of equals; the other is not moved.
fn least_signal(log_probs: &[f32], n_first: usize, weight: f64) -> Signal {
    let loss = |log_probs: &[f32]| -log_probs.iter().map(|log_prob| f64::from(*log_prob)).sum::<f64>();
    let (first, second) = log_probs.split_at(n_first);
    let takes_second = loss(second) < loss(first);
    let slope = |at: usize| if (at >= n_first) == takes_second { (-1.0 / weight) as f32 } else { 0.0 };
    Signal {
        loss: loss(first).min(loss(second)) / weight,
        slopes: (0..log_probs.len()).map(slope).collect(),
        figures: vec![("second", f64::from(takes_second) / weight)],
        ..Signal::default()
    }
}

fn grpo_signal(
    grpo: &Grpo,
    sampled: &[f32],
    reference: Option<&[f32]>,
    advantage: f64,
    log_probs: &[f32],
    weight: f64,
) -> Signal {
    let each = 1.0 / (weight * log_probs.len() as f64);
    let mut signal = Signal::default();
    let (mut ratios, mut clipped, mut divergence) = (0.0, 0.0, 0.0);
    for (at, (log_prob, sampled)) in log_probs.iter().zip(sampled).enumerate() {
        let log_prob = f64::from(*log_prob);
        let ratio = libm::exp(log_prob - f64::from(*sampled));
        let bounded = ratio.clamp(1.0 - grpo.clip, 1.0 + grpo.clip);
        let (free, held) = (ratio * advantage, bounded * advantage);
        signal.loss -= free.min(held) * each;
        let mut slope = if free <= held { -free } else { 0.0 };
        ratios += ratio * each;
        clipped += f64::from(free > held) * each;
        if let Some(reference) = reference {
            let gap = f64::from(reference[at]) - log_prob;
            let kl = libm::expm1(gap) - gap;
            signal.loss += grpo.kl * kl * each;
            slope -= grpo.kl * libm::expm1(gap);
            divergence += kl * each;
        }
        signal.slopes.push((slope * each) as f32);
    }
    signal.figures = vec![("ratio", ratios), ("clipped", clipped), ("kl", divergence)];
    signal
}

/// ln(1 + e^x).
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + libm::log1p(libm::exp(-x.abs()))
}

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}
#[cfg(test)]
mod tests {
    use super::super::items::{Example, advantages};
    use super::super::units::Row;
    use super::*;

    fn seen(log_probs: &[f32]) -> Seen<'_> {
        Seen { log_probs, outputs: &[] }
    }

    fn unit(known: Known, lens: &[usize]) -> Unit {
        let rows =
            lens.iter().map(|n| Row { ids: vec![0; n + 1], predicted: (1..=*n).collect(), ..Row::default() }).collect();
        Unit { rows, known }
    }

    /// Compares slopes with central differences of the loss.
    fn check_slopes(objective: &Objective, unit: &Unit, log_probs: &[f32]) {
        let signal = objective.signal(unit, seen(log_probs), 3.0);
        assert_eq!(signal.slopes.len(), log_probs.len());
        for at in 0..log_probs.len() {
            let h = 2f32.powi(-8);
            let loss = |delta: f32| {
                let mut moved = log_probs.to_vec();
                moved[at] += delta;
                objective.signal(unit, seen(&moved), 3.0).loss
            };
            let want = (loss(h) - loss(-h)) / (2.0 * f64::from(h));
            let got = f64::from(signal.slopes[at]);
            assert!((got - want).abs() < 1e-5 * (1.0 + want.abs()), "{objective:?} at {at}: {got} and {want}");
        }
    }

    #[test]
    fn slopes_are_the_derivatives_of_the_loss() {
        let log_probs = [-0.5, -1.25, -2.0, -0.125, -0.75];
        check_slopes(&Objective::Sft, &unit(Known::Nothing, &[5]), &log_probs);
        for smoothing in [0.0, 0.2] {
            let dpo = Objective::Dpo(Dpo { beta: 0.7, smoothing });
            check_slopes(&dpo, &unit(Known::Pair { reference: 0.3 }, &[2, 3]), &log_probs);
        }
        // The first is the smaller, and the second.
        check_slopes(&Objective::Least, &unit(Known::Nothing, &[2, 3]), &log_probs);
        check_slopes(&Objective::Least, &unit(Known::Nothing, &[3, 2]), &log_probs);
        for advantage in [-1.5, 0.8] {
            for reference in [None, Some(vec![-0.6, -1.0, -2.5, -0.25, -0.5])] {
                // Ratios inside and on both sides of the clipping range.
                let sampled = vec![-0.5, -0.5, -3.0, -0.25, -1.0];
                let known = Known::Rollout { sampled, reference, advantage };
                check_slopes(&Objective::Grpo(Grpo { clip: 0.2, kl: 0.4 }), &unit(known, &[5]), &log_probs);
            }
        }
    }

    #[test]
    fn losses_have_their_closed_form_where_it_is_known() {
        let even = Objective::Dpo(Dpo { beta: 0.1, smoothing: 0.0 });
        let signal = even.signal(&unit(Known::Pair { reference: 0.0 }, &[1, 1]), seen(&[-1.0, -1.0]), 1.0);
        assert!((signal.loss - 2f64.ln()).abs() < 1e-12);
        assert!((f64::from(signal.slopes[0]) + 0.05).abs() < 1e-8);
        let known = Known::Rollout { sampled: vec![-1.0, -2.0], reference: Some(vec![-1.0, -2.0]), advantage: 1.5 };
        let signal = Objective::Grpo(Grpo { clip: 0.2, kl: 1.0 }).signal(&unit(known, &[2]), seen(&[-1.0, -2.0]), 1.0);
        assert!((signal.loss + 1.5).abs() < 1e-12);
        assert_eq!(signal.figures, [("ratio", 1.0), ("clipped", 0.0), ("kl", 0.0)]);
        assert_eq!(signal.slopes, [-0.75, -0.75]);
    }

    #[test]
    fn the_smaller_of_two_losses_counts_and_only_it_is_moved() {
        let of = |log_probs: &[f32]| Objective::Least.signal(&unit(Known::Nothing, &[1, 1]), seen(log_probs), 2.0);
        for (log_probs, loss, slopes, second) in [
            ([-0.5, -1.0], 0.25, [-0.5, 0.0], 0.0),
            ([-1.0, -0.5], 0.25, [0.0, -0.5], 0.5),
            ([-1.0, -1.0], 0.5, [-0.5, 0.0], 0.0),
        ] {
            let signal = of(&log_probs);
            assert_eq!((signal.loss, signal.slopes.as_slice()), (loss, slopes.as_slice()), "{log_probs:?}");
            assert_eq!(signal.figures, [("second", second)]);
        }
    }

    #[test]
    fn advantages_have_mean_zero_and_deviation_one_or_are_zero() {
        assert_eq!(advantages(&[8.0, -8.0, -8.0, 8.0]), [1.0, -1.0, -1.0, 1.0]);
        assert_eq!(advantages(&[0.1; 3]), [0.0; 3]);
        assert!(advantages(&[]).is_empty());
    }

    #[test]
    fn distillation_adds_the_squared_distance_of_probabilities_and_its_slope_is_the_difference_quotient() {
        let (kd, reference) = (Kd { lambda: 3.0 }, [-1.0_f32, -0.25]);
        let signal = |log_probs: [f32; 2]| kd_signal(kd, &reference, &log_probs, 2.0);
        let at = [-0.5_f32, -2.0];
        let expected: f64 = at
            .iter()
            .zip(reference)
            .map(|(p, r)| (3.0 * (f64::from(*p).exp() - f64::from(r).exp()).powi(2) - f64::from(*p)) / 2.0)
            .sum();
        assert!((signal(at).loss - expected).abs() < 1e-12);
        for token in 0..2 {
            let moved = |by: f32| {
                let mut at = at;
                at[token] += by;
                signal(at).loss
            };
            let quotient = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((f64::from(signal(at).slopes[token]) - quotient).abs() < 1e-3);
        }
        let plain = kd_signal(Kd { lambda: 0.0 }, &reference, &at, 2.0);
        assert_eq!((plain.loss, plain.slopes), (1.25, vec![-0.5, -0.5]));
    }

    #[test]
    fn a_prompt_is_read_and_its_completion_learnt() {
        let example = Example::completion(&[1, 5], &[6, 2]);
        assert_eq!(example, Example { ids: vec![1, 5, 6, 2], mask: vec![false, false, true, true] });
        assert_eq!(Example::text(&[1, 5, 6]).mask, [false, true, true]);
    }
}
