//! Training: a model and examples in, another model out.
//!
//! One loop serves every objective. Invariants: the order of examples follows from the seed; each step is cut into a
//! fixed number of micro-batches whose gradients are added in order, so that the result does not depend on the number of
//! threads; a loss or gradient that is not finite stops the training and names the step.

mod fit;
mod items;
mod local;
mod lora;
mod objective;
mod plan;
mod ppo;
mod units;

use std::ops::ControlFlow;

pub use fit::{FitObjective, PairLoss, RatedPair, RatedText, Regulariser, TaggedExample, fit};
pub use items::{Dpo, Example, Grpo, Kd, Pair, Rollout, advantages};
pub use lora::{Lora, Projection};
pub use ppo::{Ppo, ScoredRollout, gae, ppo, whiten};

use crate::error::{Error, Result};
use crate::lm::Lm;
use crate::net::NetLearner;
use crate::reward::Head;
use crate::sample;
pub(crate) use lora::Adapted;
pub(crate) use objective::{Objective, Seen};
pub(crate) use units::{Row, Unit};
#[cfg(test)]
pub(crate) use {local::LocalLearner, units::sft_units};

/// How long training goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// Passes over the examples, > 0; parts of a pass are allowed.
    Epochs(f64),
    /// Updates, ≥ 1.
    Steps(usize),
}

/// What one step takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// So many examples, pairs or rollouts, ≥ 1.
    Items(usize),
    /// As many of them as have at most so many tokens together, and at least one.
    Tokens(usize),
}

/// What holds the weights to those the training starts from, θ₀. The penalty is part of the gradient and of its clipping, not
/// of the loss that is reported.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Anchor {
    /// Nothing.
    #[default]
    None,
    /// λ ‖θ − θ₀‖₁ with this λ, ≥ 0.
    L1(f64),
    /// λ ‖θ − θ₀‖² with this λ, ≥ 0.
    L2(f64),
}

/// How a model is trained: `AdamW` (Loshchilov & Hutter 2019) on a rising, then falling rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    /// Peak learning rate, > 0.
    pub lr: f64,
    /// Share of steps over which the rate rises linearly from zero, in [0, 1].
    pub warmup: f64,
    /// Rate at the end, as a share of the peak, in [0, 1]; it falls by half a cosine. 1 keeps the peak.
    pub final_lr: f64,
    /// How long.
    pub length: Length,
    /// What a step takes in.
    pub batch: Batch,
    /// Decoupled decay of matrices, ≥ 0; norms and biases do not decay.
    pub weight_decay: f64,
    /// Decay rates of the two moments, in [0, 1).
    pub betas: [f64; 2],
    /// Added to the root of the second moment, > 0.
    pub eps: f64,
    /// Longest gradient (2-norm over all that is trained); longer ones are scaled down. None does not clip.
    pub clip: Option<f64>,
    /// What holds the weights to their start.
    pub anchor: Anchor,
    /// A low-rank adapter to train instead of the weights; none trains all of them.
    pub adapter: Option<Lora>,
    /// Order of the examples, and start of an adapter.
    pub seed: u64,
    /// Parts a step is computed in, ≥ 1, and so the most threads it uses. Rounding depends on it.
    pub micro_batches: usize,
}

impl Default for Training {
    /// One epoch of 16 examples a step at 1e-3, in two parts.
    fn default() -> Self {
        Self {
            lr: 1e-3,
            warmup: 0.05,
            final_lr: 0.1,
            length: Length::Epochs(1.0),
            batch: Batch::Items(16),
            weight_decay: 0.01,
            betas: [0.9, 0.99],
            eps: 1e-8,
            clip: Some(1.0),
            anchor: Anchor::None,
            adapter: None,
            seed: 0,
            micro_batches: 2,
        }
    }
}

/// What one step did.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// From 1.
    pub step: usize,
    /// Steps in all.
    pub n_steps: usize,
    /// The objective's loss before the update.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Predicted tokens; where none are predicted, positions a head reads at.
    pub n_tokens: usize,
    /// 2-norm of the gradient, over all that is trained, before clipping.
    pub grad_norm: f64,
    /// Other figures of the objective, means over the step: for pairs `accuracy` and `margin`, for rollouts `ratio`,
    /// `clipped` and `kl`; for reward models and values what [`fit()`] and [`ppo()`] say.
    pub figures: Vec<(&'static str, f64)>,
}

/// Called after each step; `Break` ends the training early, with the model as it is then.
pub type OnStep<'a> = &'a mut dyn FnMut(Step) -> ControlFlow<()>;

/// Supervised fine-tuning: the mean of −ln p(token) over the predicted tokens of a step, in nats.
///
/// # Errors
/// `Range` for a setting; `Empty`, `Token` or `TooLong` for an example; `NonFinite` if the training diverges; `Device` if
/// the device fails.
pub fn sft(lm: &Lm, examples: &[Example], training: &Training, n_threads: usize, on_step: OnStep<'_>) -> Result<Lm> {
    let units = units::sft_units(lm.config(), examples)?;
    run(lm, &Objective::Sft, &units, training, n_threads, on_step)
}

/// Supervised fine-tuning held to the outputs of a reference: what [`sft`] minimises, plus λ times the mean over the same
/// tokens of (p(token) − p₀(token))², p₀ the reference's.
///
/// Source: Lin et al. 2024 (arXiv 2309.06256), λ‖π − π₀‖², at the tokens seen.
///
/// # Errors
/// As [`sft`]; `Range` also if λ is negative or not finite.
pub fn kd(
    lm: &Lm,
    reference: &Lm,
    examples: &[Example],
    kd: Kd,
    training: &Training,
    n_threads: usize,
    on_step: OnStep<'_>,
) -> Result<Lm> {
    let units = units::kd_units(lm.config(), reference, examples, kd, n_threads)?;
    run(lm, &Objective::Kd(kd), &units, training, n_threads, on_step)
}

/// Direct preference optimisation: the mean over the pairs of a step of −ln σ(h), with
/// h = β [(ln p(chosen) − ln p₀(chosen)) − (ln p(rejected) − ln p₀(rejected))], sums over each completion's tokens, p the
/// trained model and p₀ the reference; without a reference ln p₀ = 0. With `smoothing` s: −(1 − s) ln σ(h) − s ln σ(−h).
///
/// Source: Rafailov et al. 2023, eq. 7; smoothing: Mitchell 2023, eq. 3.
///
/// # Errors
/// As [`sft`].
pub fn dpo(
    lm: &Lm,
    reference: Option<&Lm>,
    pairs: &[Pair],
    dpo: &Dpo,
    training: &Training,
    n_threads: usize,
    on_step: OnStep<'_>,
) -> Result<Lm> {
    let units = units::dpo_units(lm.config(), reference, pairs, dpo, n_threads)?;
    run(lm, &Objective::Dpo(*dpo), &units, training, n_threads, on_step)
}

/// Supervised fine-tuning on whichever of two completions is likelier at the time: the mean over the pairs of a step of
/// min(−ln p(chosen), −ln p(rejected)), sums over each completion's tokens; of equals, the chosen one counts.
///
/// Source: Zhang et al. 2024 (arXiv 2311.09677), the baseline that learns the answer or "I don't know".
///
/// # Errors
/// As [`sft`].
pub fn least(lm: &Lm, pairs: &[Pair], training: &Training, n_threads: usize, on_step: OnStep<'_>) -> Result<Lm> {
    let units = units::least_units(lm.config(), pairs)?;
    run(lm, &Objective::Least, &units, training, n_threads, on_step)
}

/// Group-relative policy optimisation: the mean over the rollouts of a step, and over each one's tokens, of
/// −min(r A, clip(r, 1 − ε, 1 + ε) A) + kl (p₀/p − ln(p₀/p) − 1), with r = p(token) / q(token), q the probability when it
/// was sampled, p₀ the reference's, and A the rollout's advantage ([`advantages`]).
///
/// Source: Shao et al. 2024, eq. 3 and 4. Without a reference `kl` must be 0.
///
/// # Errors
/// As [`sft`]; `Range` also if `kl` is not 0 and there is no reference.
pub fn grpo(
    lm: &Lm,
    reference: Option<&Lm>,
    rollouts: &[Rollout],
    grpo: &Grpo,
    training: &Training,
    n_threads: usize,
    on_step: OnStep<'_>,
) -> Result<Lm> {
    let units = units::grpo_units(lm.config(), reference, rollouts, grpo, n_threads)?;
    run(lm, &Objective::Grpo(*grpo), &units, training, n_threads, on_step)
}

/// The loss of [`sft`] on all examples at once, and ⟨∂loss/∂θ, to − from⟩ of each tensor.
pub(crate) fn slopes(lm: &Lm, ends: [&Lm; 2], examples: &[Example], n_threads: usize) -> Result<(f64, Vec<f64>)> {
    sample::check_threads(n_threads)?;
    let units = units::sft_units(lm.config(), examples)?;
    let lens: Vec<usize> = units.iter().map(Unit::n_ids).collect();
    let training = Training { micro_batches: MICRO_BATCHES, ..Training::default() };
    let items: Vec<usize> = (0..units.len()).collect();
    let parts = plan::parts(&items, &lens, MICRO_BATCHES);
    let on_device = |end: &Lm| end.on(lm.device()).net();
    let (gradient, along) =
        if let (Some(net), Some(from), Some(to)) = (lm.net()?, on_device(ends[0])?, on_device(ends[1])?) {
            let mut learner = NetLearner::new(lm, &net, &training);
            let gradient = learner.gradient(&Objective::Sft, &units, &parts)?;
            (gradient, learner.along([&from, &to])?)
        } else {
            let mut learner = local::LocalLearner::new(lm, &training, n_threads);
            let gradient = learner.gradient(&Objective::Sft, &units, &parts)?;
            (gradient, along(lm, &learner.into_gradient(), ends))
        };
    finite(1, "loss", gradient.loss)?;
    finite(1, "gradient norm", gradient.norm)?;
    Ok((gradient.loss, along))
}

/// ⟨grad, to − from⟩ of each tensor, in f64.
fn along(lm: &Lm, grad: &[f32], [from, to]: [&Lm; 2]) -> Vec<f64> {
    let of = |at: std::ops::Range<usize>| {
        let ends = to.weights().data[at.clone()].iter().zip(&from.weights().data[at.clone()]);
        grad[at].iter().zip(ends).map(|(g, (to, from))| f64::from(*g) * (f64::from(*to) - f64::from(*from))).sum()
    };
    lm.weights().layout.slots.iter().map(|slot| of(slot.at.clone())).collect()
}

/// Parts a lone gradient is computed in; fixed, so that its bits are.
const MICRO_BATCHES: usize = 8;

/// Whether the language model under a head is trained with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trunk {
    /// It is.
    #[default]
    Trained,
    /// It keeps its bits; the head alone learns.
    Frozen,
}

/// A head that is trained with a language model.
pub(crate) struct Reader {
    pub(crate) head: Head,
    pub(crate) trunk: Trunk,
}

/// What came out of a training.
pub(crate) struct Trained {
    pub(crate) lm: Lm,
    pub(crate) head: Option<Head>,
}

/// What a device does for the loop.
pub(crate) trait Learner {
    /// Computes the gradient of one step, cut into `parts` of indices into `units`.
    fn gradient(&mut self, objective: &Objective, units: &[Unit], parts: &[Vec<usize>]) -> Result<Gradient>;

    /// Moves the weights along the last gradient.
    fn update(&mut self, update: &Update) -> Result<()>;

    /// The head as it is; none if there is none.
    fn head(&self) -> Result<Option<Head>>;

    /// The model as it is.
    fn finish(self: Box<Self>) -> Result<Lm>;
}

/// The figures of a computed gradient.
#[derive(Debug, Default)]
pub(crate) struct Gradient {
    pub(crate) loss: f64,
    /// 2-norm over all that is trained.
    pub(crate) norm: f64,
    pub(crate) figures: Vec<(&'static str, f64)>,
}

/// One update's constants.
pub(crate) struct Update {
    /// From 1.
    pub(crate) step: usize,
    pub(crate) lr: f64,
    pub(crate) grad_scale: f64,
    pub(crate) betas: [f64; 2],
    pub(crate) eps: f64,
    pub(crate) weight_decay: f64,
}

/// Adds figures of the same names in the same order.
pub(crate) fn add_figures(to: &mut Vec<(&'static str, f64)>, from: &[(&'static str, f64)]) {
    if to.is_empty() {
        to.extend_from_slice(from);
    } else {
        to.iter_mut().zip(from).for_each(|(to, from)| to.1 += from.1);
    }
}

fn run(
    lm: &Lm,
    objective: &Objective,
    units: &[Unit],
    training: &Training,
    n_threads: usize,
    on_step: OnStep<'_>,
) -> Result<Lm> {
    Ok(run_with(lm, None, objective, units, training, n_threads, on_step)?.lm)
}

fn run_with(
    lm: &Lm,
    reader: Option<&Reader>,
    objective: &Objective,
    units: &[Unit],
    training: &Training,
    n_threads: usize,
    on_step: OnStep<'_>,
) -> Result<Trained> {
    training.check()?;
    training.adapter.iter().try_for_each(|lora| lora.check(&lm.weights().layout))?;
    let is_frozen = reader.is_some_and(|reader| reader.trunk == Trunk::Frozen);
    rule(!(is_frozen && training.adapter.is_some()), "adapter", "none, as the trunk is frozen", &training.adapter)?;
    sample::check_threads(n_threads)?;
    let lens: Vec<usize> = units.iter().map(Unit::n_ids).collect();
    let steps = plan::steps(&lens, training)?;
    let mut learner: Box<dyn Learner> = match lm.net()? {
        Some(net) => Box::new(NetLearner::new(lm, &net, training).with(reader)?),
        None => Box::new(local::LocalLearner::new(lm, training, n_threads).with(reader)),
    };
    for (at, items) in steps.iter().enumerate() {
        let step = at + 1;
        let parts = plan::parts(items, &lens, training.micro_batches);
        let gradient = learner.gradient(objective, units, &parts)?;
        finite(step, "loss", gradient.loss)?;
        finite(step, "gradient norm", gradient.norm)?;
        let lr = training.lr_at(step, steps.len());
        let grad_scale = training.clip.map_or(1.0, |clip| (clip / gradient.norm.max(f64::MIN_POSITIVE)).min(1.0));
        let Training { betas, eps, weight_decay, .. } = *training;
        learner.update(&Update { step, lr, grad_scale, betas, eps, weight_decay })?;
        let sum = |n: fn(&Unit) -> usize| items.iter().map(|item| n(&units[*item])).sum();
        let n_tokens = Some(sum(Unit::n_predicted)).filter(|n: &usize| *n > 0).unwrap_or_else(|| sum(Unit::n_reads));
        let Gradient { loss, norm, figures } = gradient;
        if on_step(Step { step, n_steps: steps.len(), loss, lr, n_tokens, grad_norm: norm, figures }).is_break() {
            break;
        }
    }
    let head = learner.head()?;
    Ok(Trained { lm: learner.finish()?, head })
}

fn finite(step: usize, what: &'static str, got: f64) -> Result<()> {
    if got.is_finite() { Ok(()) } else { Err(Error::NonFinite { step, what, got }) }
}

fn rule(holds: bool, what: &'static str, expected: &str, got: &dyn std::fmt::Debug) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Range { what, expected: expected.to_owned(), got: format!("{got:?}") })
}

fn positive(x: f64) -> bool {
    x.is_finite() && x > 0.0
}

fn share(x: f64) -> bool {
    (0.0..=1.0).contains(&x)
}

impl Training {
    fn check(&self) -> Result<()> {
        rule(positive(self.lr), "lr", "a positive number", &self.lr)?;
        rule(share(self.warmup), "warmup", "a number in [0, 1]", &self.warmup)?;
        rule(share(self.final_lr), "final_lr", "a number in [0, 1]", &self.final_lr)?;
        rule(
            self.weight_decay.is_finite() && self.weight_decay >= 0.0,
            "weight_decay",
            "a number, at least 0",
            &self.weight_decay,
        )?;
        rule(self.betas.iter().all(|beta| (0.0..1.0).contains(beta)), "betas", "numbers in [0, 1)", &self.betas)?;
        rule(positive(self.eps), "eps", "a positive number", &self.eps)?;
        let (Anchor::L1(lambda) | Anchor::L2(lambda)) = self.anchor else { return self.check_amounts() };
        rule(lambda.is_finite() && lambda >= 0.0, "anchor", "a number, at least 0", &lambda)?;
        self.check_amounts()
    }

    fn check_amounts(&self) -> Result<()> {
        rule(self.clip.is_none_or(positive), "clip", "a positive number or none", &self.clip)?;
        rule(self.micro_batches > 0, "micro_batches", "at least 1", &self.micro_batches)?;
        let length = match self.length {
            Length::Epochs(epochs) => positive(epochs),
            Length::Steps(steps) => steps > 0,
        };
        rule(length, "length", "more than 0", &self.length)?;
        let (Batch::Items(size) | Batch::Tokens(size)) = self.batch;
        rule(size > 0, "batch", "at least 1", &self.batch)
    }

    /// The rate of a step, counted from 1.
    fn lr_at(&self, step: usize, n_steps: usize) -> f64 {
        let n_warmup = (self.warmup * n_steps as f64).round();
        let step = step as f64;
        if step < n_warmup {
            return self.lr * step / n_warmup;
        }
        let progress = (step - n_warmup) / (n_steps as f64 - n_warmup).max(1.0);
        let cosine = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress));
        self.lr * (self.final_lr + (1.0 - self.final_lr) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_its_final_share() {
        let training = Training { lr: 2.0, warmup: 0.1, final_lr: 0.25, ..Training::default() };
        assert!((training.lr_at(1, 100) - 0.2).abs() < 1e-12);
        assert!((training.lr_at(10, 100) - 2.0).abs() < 1e-12);
        assert!((training.lr_at(55, 100) - 1.25).abs() < 1e-12);
        assert!((training.lr_at(100, 100) - 0.5).abs() < 1e-12);
        let flat = Training { lr: 2.0, warmup: 0.0, final_lr: 1.0, ..Training::default() };
        assert!((1..=7).all(|step| flat.lr_at(step, 7) == 2.0));
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let ok = Training::default();
        let cases = [
            ("lr", Training { lr: f64::NAN, ..ok.clone() }),
            ("warmup", Training { warmup: 1.5, ..ok.clone() }),
            ("final_lr", Training { final_lr: -0.1, ..ok.clone() }),
            ("length", Training { length: Length::Epochs(0.0), ..ok.clone() }),
            ("length", Training { length: Length::Steps(0), ..ok.clone() }),
            ("batch", Training { batch: Batch::Tokens(0), ..ok.clone() }),
            ("betas", Training { betas: [0.9, 1.0], ..ok.clone() }),
            ("clip", Training { clip: Some(0.0), ..ok.clone() }),
            ("micro_batches", Training { micro_batches: 0, ..ok.clone() }),
        ];
        for (name, training) in cases {
            match training.check() {
                Err(Error::Range { what, .. }) => assert_eq!(what, name),
                other => panic!("`{name}`: expected a refusal, got {other:?}"),
            }
        }
        assert!(ok.check().is_ok());
    }
}
