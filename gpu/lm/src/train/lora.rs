//! Low-rank adapters: some matrices learn as W = W₀ + (α / r) B A, everything else stays as it is.
//!
//! The network computes with W, so its gradient gives those of the factors: dA = (α / r) Bᵀ dW and dB = (α / r) dW Aᵀ.
//! Every matrix of a file has factors of its own, also where devices multiply several together. A starts as N(0, 1 / in)
//! from a stream of the seed, B as zero, so that a training starts at W₀.
//!
//! Source: Hu et al. 2021 (arXiv 2106.09685), §4.1.

use std::ops::Range;

use super::local::each_on_threads;
use super::{positive, rule};
use crate::cpu::{self, AdamStep, Left, Out, Panels, multiply};
use crate::error::Result;
use crate::weights::{Layout, Slot, fill_normal};

/// First of the streams that factors are drawn from: past those that order the examples.
const FIRST_STREAM: u64 = 1 << 32;

/// A linear map of every block, by what Hugging Face calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projection {
    /// `q_proj`.
    Query,
    /// `k_proj`.
    Key,
    /// `v_proj`.
    Value,
    /// `o_proj`.
    Output,
    /// `gate_proj`.
    Gate,
    /// `up_proj`.
    Up,
    /// `down_proj`.
    Down,
}

impl Projection {
    /// Those of attention.
    pub const ATTENTION: [Self; 4] = [Self::Query, Self::Key, Self::Value, Self::Output];
    /// Those of the feed-forward part.
    pub const MLP: [Self; 3] = [Self::Gate, Self::Up, Self::Down];

    /// How the names of its matrices end.
    fn suffix(self) -> &'static str {
        match self {
            Self::Query => ".q_proj.weight",
            Self::Key => ".k_proj.weight",
            Self::Value => ".v_proj.weight",
            Self::Output => ".o_proj.weight",
            Self::Gate => ".gate_proj.weight",
            Self::Up => ".up_proj.weight",
            Self::Down => ".down_proj.weight",
        }
    }
}

/// A low-rank adapter: what is trained instead of the weights. The model that comes out has it merged, and every tensor it
/// does not name has the bits it had.
///
/// Clipping, decay and the gradient's norm are of A and B, so decay pulls towards W₀; an [`Anchor`](super::Anchor) still
/// holds W itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// r: A is `[r, in]`, B is `[out, r]`. From 1 to the lesser side of the smallest matrix adapted.
    pub rank: usize,
    /// α, > 0: what B A is multiplied by, times r.
    pub alpha: f64,
    /// The maps that are adapted, in every block; at least one.
    pub projections: Vec<Projection>,
}

/// A matrix that is adapted, and where its factors start.
pub(crate) struct Adapted {
    /// Its place in the weights' array.
    pub(crate) at: Range<usize>,
    pub(crate) n_out: usize,
    pub(crate) n_in: usize,
    /// A, `[rank, in]`.
    pub(crate) start: Vec<f32>,
}

impl Lora {
    /// What B A is multiplied by.
    pub(crate) fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    fn slots<'a>(&'a self, layout: &'a Layout) -> impl Iterator<Item = (u64, &'a Slot)> {
        let named = |slot: &Slot| self.projections.iter().any(|projection| slot.name.ends_with(projection.suffix()));
        (FIRST_STREAM..).zip(&layout.slots).filter(move |(_, slot)| named(slot))
    }

    /// Refuses what a model of this layout cannot have.
    pub(super) fn check(&self, layout: &Layout) -> Result<()> {
        rule(!self.projections.is_empty(), "adapter.projections", "at least one", &self.projections)?;
        rule(positive(self.alpha), "adapter.alpha", "a positive number", &self.alpha)?;
        for (_, Slot { name, shape, .. }) in self.slots(layout) {
            let most = shape.iter().copied().min().unwrap_or(0);
            let expected = format!("a rank from 1 to {most}, the lesser side of `{name}`");
            rule((1..=most).contains(&self.rank), "adapter.rank", &expected, &self.rank)?;
        }
        Ok(())
    }

    /// Every matrix it adapts, in the order of the weights.
    pub(crate) fn adapted(&self, layout: &Layout, seed: u64) -> Vec<Adapted> {
        let adapted = |(stream, slot): (u64, &Slot)| {
            let (n_out, n_in) = (slot.shape[0], slot.shape[1]);
            let mut start = vec![0.0; self.rank * n_in];
            fill_normal(&mut start, 1.0 / (n_in as f64).sqrt(), seed, stream);
            Adapted { at: slot.at.clone(), n_out, n_in, start }
        };
        self.slots(layout).map(adapted).collect()
    }
}

/// An adapter being trained on the CPU.
pub(super) struct Adapter {
    scale: f32,
    rank: usize,
    n_threads: usize,
    matrices: Vec<Matrix>,
}

/// The factors of one matrix: A, then B, in one array; likewise their gradients and moments.
struct Matrix {
    of: Adapted,
    factors: Vec<f32>,
    grad: Vec<f32>,
    moments: [Vec<f32>; 2],
    right: Panels,
    pack: Vec<f32>,
}

impl Adapter {
    pub(super) fn new(lora: &Lora, layout: &Layout, seed: u64, n_threads: usize) -> Self {
        let matrix = |mut of: Adapted| {
            let mut factors = std::mem::take(&mut of.start);
            let len = factors.len() + of.n_out * lora.rank;
            factors.resize(len, 0.0);
            let zeros = || vec![0.0; len];
            let (right, pack) = (Panels::default(), Vec::new());
            Matrix { of, factors, grad: zeros(), moments: [zeros(), zeros()], right, pack }
        };
        let matrices = lora.adapted(layout, seed).into_iter().map(matrix).collect();
        Self { scale: lora.scale() as f32, rank: lora.rank, n_threads, matrices }
    }

    /// From the gradient of the weights to that of the factors; returns the sum of its squares.
    pub(super) fn pull_back(&mut self, grad: &[f32]) -> f64 {
        let (scale, rank) = (self.scale, self.rank);
        let jobs = self.matrices.iter_mut().collect();
        each_on_threads(self.n_threads, jobs, |matrix: &mut Matrix| {
            let at = matrix.of.at.clone();
            matrix.pull_back(scale, rank, &grad[at]);
        });
        self.matrices.iter().map(|matrix| cpu::sum_of_squares(&matrix.grad)).sum()
    }

    /// Moves the factors along their last gradient.
    pub(super) fn update(&mut self, step: AdamStep) {
        for Matrix { factors, grad, moments: [first, second], .. } in &mut self.matrices {
            cpu::adamw(step, factors, grad, first, second);
        }
    }

    /// Writes the matrices that the factors make of `start`.
    pub(super) fn merge(&mut self, start: &[f32], weights: &mut [f32]) {
        let (scale, rank) = (self.scale, self.rank);
        let (mut jobs, mut rest, mut done) = (Vec::new(), weights, 0);
        for matrix in &mut self.matrices {
            let at = matrix.of.at.clone();
            let (_, tail) = std::mem::take(&mut rest).split_at_mut(at.start - done);
            let (to, after) = tail.split_at_mut(at.len());
            (rest, done) = (after, at.end);
            jobs.push((matrix, &start[at], to));
        }
        each_on_threads(self.n_threads, jobs, |(matrix, start, to)| matrix.merge(scale, rank, start, to));
    }
}

impl Matrix {
    fn pull_back(&mut self, scale: f32, rank: usize, grad: &[f32]) {
        let Self { of: Adapted { n_out, n_in, .. }, factors, grad: to, right, pack, .. } = self;
        let (a, b) = factors.split_at(rank * *n_in);
        let (grad_a, grad_b) = to.split_at_mut(a.len());
        right.set(*n_out, *n_in, grad, *n_in);
        let out = Out { data: grad_a, stride: *n_in, add: false };
        multiply(rank, Left::Columns(b, rank), right.right(), out, pack);
        right.set_transposed(*n_in, rank, a, *n_in);
        let out = Out { data: grad_b, stride: rank, add: false };
        multiply(*n_out, Left::Rows(grad, *n_in), right.right(), out, pack);
        for grad in to {
            *grad *= scale;
        }
    }

    fn merge(&mut self, scale: f32, rank: usize, start: &[f32], to: &mut [f32]) {
        let Self { of: Adapted { n_out, n_in, .. }, factors, right, pack, .. } = self;
        let (a, b) = factors.split_at(rank * *n_in);
        right.set(rank, *n_in, a, *n_in);
        multiply(*n_out, Left::Rows(b, rank), right.right(), Out { data: to, stride: *n_in, add: false }, pack);
        to.iter_mut().zip(start).for_each(|(to, start)| *to = start + scale * *to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::lm::Lm;
    use crate::tokenizer::Tokenizer;
    use crate::train::{Example, Learner, LocalLearner, Objective, Training, Unit, Update, sft_units};
    use crate::weights::Weights;

    /// How far the difference quotient moves the loss.
    const RISE: f64 = 0.02;

    fn lm() -> Lm {
        let config = Config { hidden_size: 24, intermediate_size: 40, n_layers: 2, n_heads: 2, ..Config::tiny(30, 64) };
        let config = Config { n_kv_heads: 2, head_dim: 12, ..config };
        let tokenizer = Tokenizer::words(&["a"]).expect("builds");
        let lm = Lm::init(config, tokenizer, 3, &tracker_gpu::Device::cpu()).expect("fits");
        let weights = lm.weights();
        let spread = weights.data.iter().map(|value| if *value == 1.0 { 1.0 } else { value * 10.0 }).collect();
        lm.with_weights(Weights::new(weights.layout.clone(), spread))
    }

    fn units(lm: &Lm) -> Vec<Unit> {
        let ids = |n: usize, row: usize| (0..n).map(|at| ((at * at + row * 5 + at) % 30) as u32).collect::<Vec<_>>();
        let examples: Vec<Example> =
            (0..6).map(|row| Example::completion(&ids(3, row), &ids(6 + row, row + 9))).collect();
        sft_units(lm.config(), &examples).expect("fits")
    }

    #[test]
    fn the_gradient_of_every_factor_is_the_difference_quotient_along_it() {
        let (lm, parts) = (lm(), [vec![0, 3, 4], vec![1, 2, 5]]);
        let units = units(&lm);
        let projections = [Projection::ATTENTION.as_slice(), &Projection::MLP].concat();
        let lora = Lora { rank: 3, alpha: 5.0, projections };
        let training = Training { adapter: Some(lora), ..Training::default() };
        let mut learner = LocalLearner::new(&lm, &training, 2);
        let gradient = |learner: &mut LocalLearner| learner.gradient(&Objective::Sft, &units, &parts).expect("runs");
        // B starts as zero, which hides A's gradient: one step away from it.
        gradient(&mut learner);
        let update = Update { step: 1, lr: 0.05, grad_scale: 1.0, betas: [0.9, 0.99], eps: 1e-8, weight_decay: 0.0 };
        learner.update(&update).expect("runs");
        let norm = gradient(&mut learner).norm;
        let grads: Vec<Vec<f32>> = adapter(&mut learner).matrices.iter().map(|matrix| matrix.grad.clone()).collect();
        let squares = |grads: &[f32]| grads.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
        assert!((squares(&grads.concat()).sqrt() / norm - 1.0).abs() < 1e-5);
        assert_eq!(grads.len(), 14, "seven matrices in each of two blocks");
        for (nth, grad) in grads.iter().enumerate() {
            let cut = 3 * adapter(&mut learner).matrices[nth].of.n_in;
            for (name, place) in [("A", 0..cut), ("B", cut..grad.len())] {
                let along = &grad[place.clone()];
                let norm = squares(along).sqrt();
                assert!(norm > 1e-3, "{name} {nth}: {norm}");
                let mut after = |steps: f64| {
                    let factors = &mut adapter(&mut learner).matrices[nth].factors[place.clone()];
                    for (value, g) in factors.iter_mut().zip(along) {
                        *value += (steps * RISE / (norm * norm) * f64::from(*g)) as f32;
                    }
                    learner.merge();
                    gradient(&mut learner).loss
                };
                let (up, down) = (after(1.0), after(-2.0));
                after(1.0);
                let rise = (up - down) / 2.0;
                assert!((rise / RISE - 1.0).abs() < 0.02, "{name} {nth}: {rise}");
            }
        }
    }

    fn adapter(learner: &mut LocalLearner) -> &mut Adapter {
        learner.adapter.as_mut().expect("has one")
    }

    #[test]
    fn the_factors_start_at_no_change_and_a_has_the_stated_spread() {
        let lm = lm();
        let lora = Lora { rank: 24, alpha: 1.0, projections: Projection::MLP.to_vec() };
        let layout = &lm.weights().layout;
        let mut adapter = Adapter::new(&lora, layout, 7, 1);
        let mut merged = lm.weights().data.to_vec();
        adapter.merge(&lm.weights().data, &mut merged);
        assert_eq!(&merged, &*lm.weights().data);
        let down = &lora.adapted(layout, 7)[2];
        assert_eq!((down.n_out, down.n_in, down.start.len()), (24, 40, 24 * 40));
        let mean_square = down.start.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>() / 960.0;
        assert!((mean_square * 40.0 - 1.0).abs() < 0.15, "{mean_square}");
        assert_ne!(down.start, lora.adapted(layout, 8)[2].start);
        assert_ne!(down.start, lora.adapted(layout, 7)[5].start, "each matrix has factors of its own");
    }
}
