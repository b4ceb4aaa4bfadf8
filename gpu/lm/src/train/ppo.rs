//! Proximal policy optimisation with a value head on the policy's own hidden states.

use super::objective::{Objective, Seen, Signal};
use super::units::{Known as KnownOf, Row, Unit};
use super::{OnStep, Reader, Training, Trunk, positive, rule, run_with};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::lm::Lm;
use crate::reward::{self, HeadKind, RewardModel, Tagged};
use crate::sample::{check_ids, check_len};
use crate::score::{self, Continuation};

/// Settings of proximal policy optimisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ppo {
    /// ε, in (0, 1): how far a token's probability may move before it stops to count.
    pub clip: f64,
    /// > 0: how far a value may move before it stops to count.
    pub value_clip: f64,
    /// Weight of the value loss, ≥ 0.
    pub value_coefficient: f64,
    /// γ, in [0, 1].
    pub gamma: f64,
    /// λ, in [0, 1].
    pub lambda: f64,
    /// Weight of ln p(token) − ln p₀(token) taken off each token's reward, ≥ 0.
    pub kl: f64,
}

impl Default for Ppo {
    /// TRL 0.8.5's settings, without a penalty.
    fn default() -> Self {
        Self { clip: 0.2, value_clip: 0.2, value_coefficient: 0.1, gamma: 1.0, lambda: 0.95, kl: 0.0 }
    }
}

/// A sampled completion and its reward.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredRollout {
    /// Token ids; at least one.
    pub prompt: Vec<u32>,
    /// The tokens drawn; at least one.
    pub completion: Vec<u32>,
    /// Log-probability of each when it was drawn, at temperature 1: [`crate::Completion::log_probs`].
    pub log_probs: Vec<f32>,
    /// Of the whole completion; given at its last token.
    pub reward: f64,
}

/// What is known of a rollout's tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Known {
    pub(super) sampled: Vec<f32>,
    pub(super) values: Vec<f64>,
    pub(super) advantages: Vec<f64>,
    pub(super) returns: Vec<f64>,
}

/// Generalised advantages of one completion: Aₜ = δₜ + γλ Aₜ₊₁ with δₜ = rₜ + γ Vₜ₊₁ − Vₜ and V = A = 0 after the end.
/// The return of a token, what its value should have been, is Aₜ + Vₜ.
///
/// Source: Schulman et al. 2016, eq. 16.
///
/// # Errors
/// `Range` if there is not one value for each reward.
pub fn gae(rewards: &[f64], values: &[f64], gamma: f64, lambda: f64) -> Result<Vec<f64>> {
    let expected = "as many as rewards";
    rule(rewards.len() == values.len(), "values", expected, &(rewards.len(), values.len()))?;
    let mut advantages = vec![0.0; rewards.len()];
    let (mut advantage, mut next) = (0.0, 0.0);
    for at in (0..rewards.len()).rev() {
        advantage = rewards[at] + gamma * next - values[at] + gamma * lambda * advantage;
        (advantages[at], next) = (advantage, values[at]);
    }
    Ok(advantages)
}

/// Shifts and scales numbers to mean 0 and variance 1: (x − mean) / sqrt(variance + 1e-8), the variance with n − 1 below.
///
/// # Errors
/// `Range` if there are fewer than two.
pub fn whiten(values: &mut [f64]) -> Result<()> {
    rule(values.len() > 1, "advantages", "of at least two tokens", &values.len())?;
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let scale = 1.0 / (variance + 1e-8).sqrt();
    for value in values {
        *value = (*value - mean) * scale;
    }
    Ok(())
}

/// Proximal policy optimisation: the mean over the tokens of a step of
/// max(−r A, −clip(r, 1 − ε, 1 + ε) A) + c ½ max((V − R)², (clip(V, V₀ ± `value_clip`) − R)²), with r = p(token) / q(token), q the
/// probability when it was sampled, V the head's output after the token before, V₀ the same before this call, A its advantage
/// ([`gae`], then [`whiten`] over all tokens of the call) and R its return.
///
/// `policy` has a head with one output. Its language model is the policy, and all of it is trained, as long as `training`
/// says: TRL passes four times over a batch.
///
/// Source: Schulman et al. 2017, eq. 7 and 9, as TRL 0.8.5 computes them. Without a reference `kl` must be 0.
///
/// # Errors
/// As [`super::fit()`]; `Range` also if `kl` is not 0 and there is no reference.
pub fn ppo(
    policy: &RewardModel,
    reference: Option<&Lm>,
    rollouts: &[ScoredRollout],
    settings: &Ppo,
    training: &Training,
    n_threads: usize,
    on_step: OnStep<'_>,
) -> Result<RewardModel> {
    let is_value = policy.kind().outputs().len() == 1 && !matches!(policy.kind(), HeadKind::TwoToken { .. });
    rule(is_value, "head", "one output without bounds, for values", policy.kind())?;
    settings.check(reference.is_some())?;
    let units = units(policy, reference, rollouts, settings, n_threads)?;
    let reader = Reader { head: policy.head().clone(), trunk: Trunk::Trained };
    let objective = Objective::Ppo(*settings);
    let trained = run_with(policy.trunk(), Some(&reader), &objective, &units, training, n_threads, on_step)?;
    Ok(RewardModel::new(trained.lm, trained.head.unwrap_or(reader.head)))
}

impl Ppo {
    fn check(&self, has_reference: bool) -> Result<()> {
        let share = |x: &f64| (0.0..=1.0).contains(x);
        let at_least_0 = |x: f64| x.is_finite() && x >= 0.0;
        rule(self.clip > 0.0 && self.clip < 1.0, "clip", "a number in (0, 1)", &self.clip)?;
        rule(positive(self.value_clip), "value_clip", "a positive number", &self.value_clip)?;
        let coefficient = self.value_coefficient;
        rule(at_least_0(coefficient), "value_coefficient", "a number, at least 0", &coefficient)?;
        rule(share(&self.gamma), "gamma", "a number in [0, 1]", &self.gamma)?;
        rule(share(&self.lambda), "lambda", "a number in [0, 1]", &self.lambda)?;
        let kl = at_least_0(self.kl) && (self.kl == 0.0 || has_reference);
        rule(kl, "kl", "a number, at least 0, and 0 without a reference", &self.kl)
    }
}

fn row(config: &Config, idx: usize, rollout: &ScoredRollout) -> Result<Row> {
    let what = "rollout";
    let ScoredRollout { prompt, completion, log_probs, reward } = rollout;
    check_ids(what, idx, prompt, config.vocab_size)?;
    check_ids(what, idx, completion, config.vocab_size)?;
    let ids = [prompt.as_slice(), completion].concat();
    check_len(what, idx, ids.len(), config.max_positions)?;
    let n = completion.len();
    if log_probs.len() != n || log_probs.iter().any(|log_prob| !log_prob.is_finite()) {
        let expected = format!("{n} finite numbers in rollout {idx}");
        return Err(Error::Range { what: "log_probs", expected, got: format!("{log_probs:?}") });
    }
    if !reward.is_finite() {
        let expected = format!("a finite number in rollout {idx}");
        return Err(Error::Range { what: "reward", expected, got: reward.to_string() });
    }
    let predicted: Vec<usize> = (prompt.len()..ids.len()).collect();
    Ok(Row { ids, reads: predicted.iter().map(|at| at - 1).collect(), predicted })
}

fn units(
    policy: &RewardModel,
    reference: Option<&Lm>,
    rollouts: &[ScoredRollout],
    settings: &Ppo,
    n_threads: usize,
) -> Result<Vec<Unit>> {
    let config = policy.trunk().config();
    let rows: Vec<Row> =
        rollouts.iter().enumerate().map(|(idx, rollout)| row(config, idx, rollout)).collect::<Result<_>>()?;
    let whole: Vec<Continuation<'_>> =
        rollouts.iter().map(|ScoredRollout { prompt, completion, .. }| Continuation { prompt, completion }).collect();
    let tagged: Vec<Tagged<'_>> = whole
        .iter()
        .zip(&rows)
        .map(|(continuation, row)| Tagged { continuation: *continuation, at: &row.reads })
        .collect();
    let values = reward::outputs(policy, &tagged, n_threads)?;
    let references = match reference.filter(|_| settings.kl > 0.0) {
        Some(reference) => Some(score::log_probs(reference, &whole, n_threads)?),
        None => None,
    };
    let mut all = Vec::with_capacity(rollouts.len());
    for (idx, rollout) in rollouts.iter().enumerate() {
        let mut rewards = vec![0.0; rollout.completion.len()];
        if let Some(references) = &references {
            let both = rollout.log_probs.iter().zip(&references[idx]);
            for (reward, (own, reference)) in rewards.iter_mut().zip(both) {
                *reward = -settings.kl * (f64::from(*own) - f64::from(*reference));
            }
        }
        if let Some(last) = rewards.last_mut() {
            *last += rollout.reward;
        }
        let values: Vec<f64> = values[idx].iter().map(|value| f64::from(*value)).collect();
        let advantages = gae(&rewards, &values, settings.gamma, settings.lambda)?;
        let returns = advantages.iter().zip(&values).map(|(advantage, value)| advantage + value).collect();
        all.push(Known { sampled: rollout.log_probs.clone(), values, advantages, returns });
    }
    let mut flat: Vec<f64> = all.iter().flat_map(|known| &known.advantages).copied().collect();
    if !rollouts.is_empty() {
        whiten(&mut flat)?;
    }
    let mut flat = flat.into_iter();
    for known in &mut all {
        known.advantages.iter_mut().zip(flat.by_ref()).for_each(|(to, from)| *to = from);
    }
    let unit = |(row, known)| Unit { rows: vec![row], known: KnownOf::Ppo(known) };
    Ok(rows.into_iter().zip(all).map(unit).collect())
}

pub(super) fn signal(ppo: &Ppo, known: &Known, seen: Seen<'_>, weight: f64) -> Signal {
    let each = 1.0 / weight;
    let mut signal = Signal::default();
    let (mut ratios, mut clipped, mut policy_loss, mut value_loss) = (0.0, 0.0, 0.0, 0.0);
    for (at, (log_prob, value)) in seen.log_probs.iter().zip(seen.outputs).enumerate() {
        let advantage = known.advantages[at];
        let ratio = libm::exp(f64::from(*log_prob) - f64::from(known.sampled[at]));
        let (free, held) = (-ratio * advantage, -ratio.clamp(1.0 - ppo.clip, 1.0 + ppo.clip) * advantage);
        policy_loss += free.max(held) * each;
        signal.slopes.push((if free >= held { free * each } else { 0.0 }) as f32);
        ratios += ratio * each;
        clipped += f64::from(held > free) * each;

        let (value, before, goal) = (f64::from(*value), known.values[at], known.returns[at]);
        let bounded = value.clamp(before - ppo.value_clip, before + ppo.value_clip);
        let (free, held) = ((value - goal).powi(2), (bounded - goal).powi(2));
        value_loss += 0.5 * free.max(held) * each;
        let slope = if free >= held { value - goal } else { 0.0 };
        signal.output_slopes.push((ppo.value_coefficient * slope * each) as f32);
    }
    signal.loss = policy_loss + ppo.value_coefficient * value_loss;
    signal.figures =
        vec![("ratio", ratios), ("clipped", clipped), ("policy_loss", policy_loss), ("value_loss", value_loss)];
    signal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_are_the_discounted_sum_of_errors() {
        let (rewards, values) = ([0.5, -1.0, 0.0, 2.0], [0.1, 0.7, -0.3, 0.4]);
        let (gamma, lambda) = (0.9, 0.8);
        let value = |at: usize| values.get(at).copied().unwrap_or(0.0);
        let error = |at: usize| rewards[at] + gamma * value(at + 1) - value(at);
        for (t, got) in gae(&rewards, &values, gamma, lambda).expect("same lengths").iter().enumerate() {
            let want: f64 = (t..4).map(|at| (gamma * lambda).powi((at - t) as i32) * error(at)).sum();
            assert!((got - want).abs() < 1e-12, "{t}: {got} and {want}");
        }
        // λ = 1: what is still to come, less what was expected.
        let monte_carlo = gae(&rewards, &values, 1.0, 1.0).expect("same lengths");
        assert!((monte_carlo[0] - (1.5 - 0.1)).abs() < 1e-12);
        assert!(matches!(gae(&rewards, &values[1..], 1.0, 1.0), Err(Error::Range { what: "values", .. })));
        assert!(gae(&[], &[], 1.0, 1.0).expect("nothing of nothing").is_empty());
    }

    #[test]
    fn whitened_numbers_have_mean_zero_and_deviation_one() {
        let mut values = [1.0, 2.0, 3.0];
        whiten(&mut values).expect("three");
        assert!(values.iter().zip([-1.0, 0.0, 1.0]).all(|(got, want)| (got - want).abs() < 1e-7), "{values:?}");
        let mut same = [4.0; 5];
        whiten(&mut same).expect("five");
        assert_eq!(same, [0.0; 5]);
        assert!(matches!(whiten(&mut [1.0]), Err(Error::Range { what: "advantages", .. })));
    }

    /// Ratios and values inside the clipping range and on both sides of it, with both signs of what they are to the loss.
    fn known() -> Known {
        Known {
            sampled: vec![-0.5, -0.5, -3.0, -0.25, -1.0, -3.0],
            values: vec![0.0, 0.5, -0.5, 0.1, 0.0, 0.3],
            advantages: vec![1.0, -0.5, 2.0, 0.7, -1.5, -0.3],
            returns: vec![1.0, -1.0, 0.0, 2.0, -0.4, -0.3],
        }
    }

    const LOG_PROBS: [f32; 6] = [-0.5, -1.25, -2.0, -0.125, -0.75, -2.0];
    const VALUES: [f32; 6] = [0.1, 0.0, 0.0, 0.6, 0.5, -0.4];

    #[test]
    fn slopes_are_the_derivatives_of_the_loss() {
        let ppo = Ppo { value_coefficient: 0.3, ..Ppo::default() };
        let loss = |log_probs: &[f32], outputs: &[f32]| signal(&ppo, &known(), Seen { log_probs, outputs }, 4.0).loss;
        let got = signal(&ppo, &known(), Seen { log_probs: &LOG_PROBS, outputs: &VALUES }, 4.0);
        let h = 2f32.powi(-8);
        for at in 0..6 {
            let moved = |of: &[f32], by: f32| {
                let mut moved = of.to_vec();
                moved[at] += by;
                moved
            };
            let by_log_prob = loss(&moved(&LOG_PROBS, h), &VALUES) - loss(&moved(&LOG_PROBS, -h), &VALUES);
            let by_value = loss(&LOG_PROBS, &moved(&VALUES, h)) - loss(&LOG_PROBS, &moved(&VALUES, -h));
            for (slope, rise) in [(got.slopes[at], by_log_prob), (got.output_slopes[at], by_value)] {
                let want = rise / (2.0 * f64::from(h));
                assert!((f64::from(slope) - want).abs() < 2e-5 * (1.0 + want.abs()), "{at}: {slope} and {want}");
            }
        }
        assert!(got.slopes.contains(&0.0) && got.output_slopes.contains(&0.0), "some are clipped: {got:?}");
    }

    #[test]
    fn the_loss_is_the_clipped_one_token_by_token() {
        let ppo = Ppo::default();
        let known = known();
        let got = signal(&ppo, &known, Seen { log_probs: &LOG_PROBS, outputs: &VALUES }, 6.0);
        let mut want = 0.0;
        for at in 0..6 {
            let ratio = libm::exp(f64::from(LOG_PROBS[at]) - f64::from(known.sampled[at]));
            let a = known.advantages[at];
            let bounded = 0.8f64.max(ratio.min(1.2));
            let policy = if -ratio * a > -bounded * a { -ratio * a } else { -bounded * a };
            let (v, v0, goal) = (f64::from(VALUES[at]), known.values[at], known.returns[at]);
            let near = (v0 - 0.2).max(v.min(v0 + 0.2));
            let value = ((v - goal) * (v - goal)).max((near - goal) * (near - goal));
            want += (policy + 0.1 * 0.5 * value) / 6.0;
        }
        assert!((got.loss - want).abs() < 1e-12, "{} and {want}", got.loss);
    }
}
