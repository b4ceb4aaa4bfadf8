//! What is trained for: from log-probabilities of tokens to a loss and its slopes.
//!
//! An objective sees the log-probabilities of a unit's predicted tokens and says what the unit adds to the step's loss,
//! and the derivative of that by each of them. The network's gradient is the device's business, so an objective is
//! written once, in closed form, for all devices.

use super::fit::{self, Preference};
use super::ppo::{self, Ppo};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::lm::Lm;
use crate::sample::{check_ids, check_len};
use crate::score::{self, Continuation};

/// A text, and which of its tokens are to be learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each, whether it is to be predicted from those before it. The first cannot be.
    pub mask: Vec<bool>,
}

impl Example {
    /// A prompt, which is read, and a completion, which is learnt.
    #[must_use]
    pub fn completion(prompt: &[u32], completion: &[u32]) -> Self {
        let mask = (0..prompt.len() + completion.len()).map(|at| at >= prompt.len().max(1)).collect();
        Self { ids: [prompt, completion].concat(), mask }
    }

    /// A text of which all but the first token is learnt.
    #[must_use]
    pub fn text(ids: &[u32]) -> Self {
        Self::completion(&[], ids)
    }
}

/// Settings of supervised fine-tuning held to a reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kd {
    /// λ, ≥ 0: how strongly.
    pub lambda: f64,
}

/// Two completions of one prompt, one better than the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Token ids; at least one.
    pub prompt: Vec<u32>,
    /// The better completion; at least one token.
    pub chosen: Vec<u32>,
    /// The worse one; at least one token.
    pub rejected: Vec<u32>,
}

/// Settings of direct preference optimisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dpo {
    /// β, > 0: how strongly the reference is kept to.
    pub beta: f64,
    /// Share of pairs taken to be the wrong way round, in [0, 0.5).
    pub smoothing: f64,
}

/// A sampled completion and how good it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Token ids; at least one.
    pub prompt: Vec<u32>,
    /// The tokens drawn; at least one.
    pub completion: Vec<u32>,
    /// Log-probability of each when it was drawn, at temperature 1: [`crate::Completion::log_probs`].
    pub log_probs: Vec<f32>,
    /// How much better than its group it was.
    pub advantage: f64,
}

/// Settings of group-relative policy optimisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grpo {
    /// ε, in (0, 1): how far a token's probability may move before it stops to count.
    pub clip: f64,
    /// Weight of the divergence from the reference, ≥ 0.
    pub kl: f64,
}

/// Advantages of one group: (reward − mean) / standard deviation, zero if all rewards are equal.
///
/// The deviation is the population's. Source: Shao et al. 2024, §4.1.2.
#[must_use]
pub fn advantages(rewards: &[f64]) -> Vec<f64> {
    let n = rewards.len() as f64;
    let mean = rewards.iter().sum::<f64>() / n;
    let std = (rewards.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>() / n).sqrt();
    // Rounding of the mean leaves equal rewards a deviation of some units in the last place.
    if std <= 1e-12 * mean.abs() {
        return vec![0.0; rewards.len()];
    }
    rewards.iter().map(|reward| (reward - mean) / std).collect()
}

/// One sequence.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) ids: Vec<u32>,
    /// Positions whose tokens are predicted; ascending, none is 0.
    pub(crate) predicted: Vec<usize>,
    /// Positions after whose tokens a head reads; ascending.
    pub(crate) reads: Vec<usize>,
}

/// Rows that belong together, and what is known of them beforehand.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unit {
    pub(crate) rows: Vec<Row>,
    pub(super) known: Known,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Known {
    Nothing,
    /// What each output should be, read after read; none where nobody knows.
    Labels(Vec<Option<f64>>),
    /// m, and ln p₀(chosen) − ln p₀(rejected).
    Preference {
        margin: f64,
        reference: f64,
    },
    /// Of each token drawn.
    Ppo(ppo::Known),
    /// ln p₀ of the predicted tokens.
    Tokens {
        reference: Vec<f32>,
    },
    /// ln p₀(chosen) − ln p₀(rejected).
    Pair {
        reference: f64,
    },
    Rollout {
        sampled: Vec<f32>,
        reference: Option<Vec<f32>>,
        advantage: f64,
    },
}

impl Unit {
    /// Tokens read.
    pub(crate) fn n_ids(&self) -> usize {
        self.rows.iter().map(|row| row.ids.len()).sum()
    }

    /// Tokens predicted.
    pub(crate) fn n_predicted(&self) -> usize {
        self.rows.iter().map(|row| row.predicted.len()).sum()
    }

    /// Positions a head reads at.
    pub(crate) fn n_reads(&self) -> usize {
        self.rows.iter().map(|row| row.reads.len()).sum()
    }
}

/// What is trained for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Objective {
    Sft,
    Kd(Kd),
    Dpo(Dpo),
    Grpo(Grpo),
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
            Self::Dpo(_) | Self::Grpo(_) | Self::Preference(_) | Self::Regression => units.count(),
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

pub(crate) fn sft_units(config: &Config, examples: &[Example]) -> Result<Vec<Unit>> {
    let unit = |(idx, example): (usize, &Example)| {
        let what = "example";
        check_ids(what, idx, &example.ids, config.vocab_size)?;
        check_len(what, idx, example.ids.len(), config.max_positions)?;
        if example.mask.len() != example.ids.len() {
            let expected = format!("{} entries, as many as ids", example.ids.len());
            return Err(Error::Range { what: "mask", expected, got: example.mask.len().to_string() });
        }
        if example.mask[0] {
            let expected = "`false` for the first token, which nothing predicts".to_owned();
            return Err(Error::Range { what: "mask", expected, got: "true".to_owned() });
        }
        let predicted: Vec<usize> = (0..example.ids.len()).filter(|at| example.mask[*at]).collect();
        if predicted.is_empty() {
            return Err(Error::Empty { what, idx, expected: "at least one predicted token" });
        }
        Ok(Unit { rows: vec![Row { ids: example.ids.clone(), predicted, reads: Vec::new() }], known: Known::Nothing })
    };
    examples.iter().enumerate().map(unit).collect()
}

pub(crate) fn kd_units(
    config: &Config,
    reference: &Lm,
    examples: &[Example],
    kd: Kd,
    n_threads: usize,
) -> Result<Vec<Unit>> {
    if !(kd.lambda.is_finite() && kd.lambda >= 0.0) {
        let got = kd.lambda.to_string();
        return Err(Error::Range { what: "lambda", expected: "a number, at least 0".into(), got });
    }
    let mut units = sft_units(config, examples)?;
    let rows = units.iter().map(|unit| &unit.rows[0]);
    let whole: Vec<Continuation<'_>> =
        rows.map(|row| Continuation { prompt: &row.ids[..1], completion: &row.ids[1..] }).collect();
    let scored = score::log_probs(reference, &whole, n_threads)?;
    for (unit, scored) in units.iter_mut().zip(scored) {
        unit.known = Known::Tokens { reference: unit.rows[0].predicted.iter().map(|at| scored[at - 1]).collect() };
    }
    Ok(units)
}

pub(super) fn row(config: &Config, what: &'static str, idx: usize, prompt: &[u32], completion: &[u32]) -> Result<Row> {
    check_ids(what, idx, prompt, config.vocab_size)?;
    check_ids(what, idx, completion, config.vocab_size)?;
    let ids = [prompt, completion].concat();
    check_len(what, idx, ids.len(), config.max_positions)?;
    Ok(Row { predicted: (prompt.len()..ids.len()).collect(), ids, reads: Vec::new() })
}

pub(crate) fn dpo_units<'a>(
    config: &Config,
    reference: Option<&Lm>,
    pairs: &'a [Pair],
    dpo: &Dpo,
    n_threads: usize,
) -> Result<Vec<Unit>> {
    if !(dpo.beta.is_finite() && dpo.beta > 0.0) {
        return Err(Error::Range { what: "beta", expected: "a positive number".into(), got: dpo.beta.to_string() });
    }
    if !(0.0..0.5).contains(&dpo.smoothing) {
        let got = dpo.smoothing.to_string();
        return Err(Error::Range { what: "smoothing", expected: "a number in [0, 0.5)".into(), got });
    }
    let sums: Vec<f64> = match reference {
        None => vec![0.0; 2 * pairs.len()],
        Some(reference) => {
            let of = |pair: &'a Pair| {
                let Pair { prompt, chosen, rejected } = pair;
                [Continuation { prompt, completion: chosen }, Continuation { prompt, completion: rejected }]
            };
            let continuations: Vec<Continuation<'_>> = pairs.iter().flat_map(of).collect();
            let log_probs = score::log_probs(reference, &continuations, n_threads)?;
            log_probs.iter().map(|row| row.iter().map(|log_prob| f64::from(*log_prob)).sum()).collect()
        }
    };
    let unit = |(idx, (pair, sums)): (usize, (&Pair, &[f64; 2]))| {
        let rows = vec![
            row(config, "pair", idx, &pair.prompt, &pair.chosen)?,
            row(config, "pair", idx, &pair.prompt, &pair.rejected)?,
        ];
        Ok(Unit { rows, known: Known::Pair { reference: sums[0] - sums[1] } })
    };
    pairs.iter().zip(sums.as_chunks().0).enumerate().map(unit).collect()
}

pub(crate) fn grpo_units<'a>(
    config: &Config,
    reference: Option<&Lm>,
    rollouts: &'a [Rollout],
    grpo: &Grpo,
    n_threads: usize,
) -> Result<Vec<Unit>> {
    if !(grpo.clip > 0.0 && grpo.clip < 1.0) {
        return Err(Error::Range { what: "clip", expected: "a number in (0, 1)".into(), got: grpo.clip.to_string() });
    }
    if !(grpo.kl.is_finite() && grpo.kl >= 0.0) || (grpo.kl > 0.0 && reference.is_none()) {
        let expected = "a number, at least 0, and 0 without a reference".to_owned();
        return Err(Error::Range { what: "kl", expected, got: grpo.kl.to_string() });
    }
    let references: Vec<Option<Vec<f32>>> = match reference {
        None => vec![None; rollouts.len()],
        Some(reference) => {
            let of = |rollout: &'a Rollout| {
                let Rollout { prompt, completion, .. } = rollout;
                Continuation { prompt, completion }
            };
            let continuations: Vec<Continuation<'_>> = rollouts.iter().map(of).collect();
            score::log_probs(reference, &continuations, n_threads)?.into_iter().map(Some).collect()
        }
    };
    let unit = |(idx, (rollout, reference)): (usize, (&Rollout, Option<Vec<f32>>))| {
        let row = row(config, "rollout", idx, &rollout.prompt, &rollout.completion)?;
        let n = rollout.completion.len();
        if rollout.log_probs.len() != n || rollout.log_probs.iter().any(|log_prob| !log_prob.is_finite()) {
            let expected = format!("{n} finite numbers in rollout {idx}");
            return Err(Error::Range { what: "log_probs", expected, got: format!("{:?}", rollout.log_probs) });
        }
        if !rollout.advantage.is_finite() {
            let got = rollout.advantage.to_string();
            return Err(Error::Range { what: "advantage", expected: "a finite number".into(), got });
        }
        let known = Known::Rollout { sampled: rollout.log_probs.clone(), reference, advantage: rollout.advantage };
        Ok(Unit { rows: vec![row], known })
    };
    rollouts.iter().zip(references).enumerate().map(unit).collect()
}

#[cfg(test)]
mod tests {
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
