//! Interpolation: models whose weights are weighted sums of others', held in memory and never written.
//!
//! Invariant: on every device a mixture has the bits a linear merge of the parents' files has: fused multiply-adds in f32, in
//! the order of the parents, from +0.

use std::sync::Arc;

use tracker_gpu::{Held, Piece};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::lm::Lm;
use crate::train;
use crate::train::Example;
use crate::weights::Weights;

/// How much of each parent goes into each tensor: `[tensors][parents]`, tensors in the order of [`Lm::tensors`].
pub type Ratios = Vec<Vec<f32>>;

/// Models whose weights stay on their device, where mixtures of them are computed. Cheap to clone.
#[derive(Clone)]
pub struct Parents {
    first: Lm,
    n: usize,
    held: Arc<dyn Held>,
}

impl Parents {
    /// Puts the weights of `parents` on the first one's device: four bytes a number of each on a graphics processor, nothing
    /// on the CPU.
    ///
    /// # Errors
    /// `Range` if there is no parent, or if they differ in configuration; `Device` if the device has no room.
    pub fn hold(parents: &[Lm]) -> Result<Self> {
        let first = same_shape(parents)?.clone();
        let arrays = parents.iter().map(|parent| parent.weights().data.clone()).collect();
        let held = first.device().kernels().hold(arrays).map_err(|error| fault(&first, &error))?;
        Ok(Self { first, n: parents.len(), held: held.into() })
    }

    /// One model for each of `ratios`: θ = Σᵢ wᵢ θᵢ, tensor by tensor. No parent crosses to the device again, whatever the
    /// number of mixtures; each mixture comes back to the host once, where its digest is taken.
    ///
    /// # Errors
    /// `Range` if a mixture has another number of tensors or parents, or a weight is not finite; `Device`.
    pub fn mix(&self, ratios: &[Ratios]) -> Result<Vec<Lm>> {
        let layout = &self.first.weights().layout;
        let n_tensors = layout.slots.len();
        for ratios in ratios {
            if ratios.len() != n_tensors || ratios.iter().any(|weights| weights.len() != self.n) {
                let expected = format!("`{}` weights for each of `{n_tensors}` tensors", self.n);
                return wrong("ratios", expected, format!("{} tensors", ratios.len()));
            }
            if let Some(weight) = ratios.iter().flatten().find(|weight| !weight.is_finite()) {
                return wrong("ratios", "finite numbers".to_owned(), weight.to_string());
            }
        }
        let piece = |(idx, slot): (usize, &crate::weights::Slot)| Piece {
            at: slot.at.clone(),
            weights: ratios.iter().map(|ratios| ratios[idx].clone()).collect(),
        };
        let pieces: Vec<Piece> = layout.slots.iter().enumerate().map(piece).collect();
        let mixed = self.held.mix(&pieces).map_err(|error| fault(&self.first, &error))?;
        Ok(mixed.into_iter().map(|data| self.first.with_weights(Weights::new(layout.clone(), data))).collect())
    }
}

fn fault(lm: &Lm, error: &tracker_gpu::Error) -> Error {
    Error::Device { device: lm.device().id().to_owned(), detail: error.to_string() }
}

/// The loss of `lm` on examples, and its derivative by the ratio of each tensor on the way from `from` to `to`.
#[derive(Debug, Clone, PartialEq)]
pub struct Slopes {
    /// Mean of −ln p(token) over the predicted tokens, in nats.
    pub loss: f64,
    /// ⟨∂loss/∂θ, to − from⟩ of each tensor, in the order of [`Lm::tensors`].
    pub by_tensor: Vec<f64>,
}

/// How the loss changes as tensors move from one model to another: ∂L/∂α = ⟨∂L/∂θ, θ₁ − θ₀⟩, θ₀ being `from` and θ₁ `to`, tensor by tensor.
///
/// One forward and one backward pass over all examples on the device of `lm`, on up to `n_threads` threads of the CPU. Sums run
/// in f64 on the CPU and in f32 elsewhere.
///
/// # Errors
/// As [`crate::sft`]; `Range` if the models differ in configuration.
pub fn slopes(lm: &Lm, from: &Lm, to: &Lm, examples: &[Example], n_threads: usize) -> Result<Slopes> {
    same_shape(&[lm.clone(), from.clone(), to.clone()])?;
    let (loss, by_tensor) = train::slopes(lm, [from, to], examples, n_threads)?;
    Ok(Slopes { loss, by_tensor })
}

fn wrong<T>(what: &'static str, expected: String, got: String) -> Result<T> {
    Err(Error::Range { what, expected, got })
}

/// The first of `models`, all of one shape.
fn same_shape(models: &[Lm]) -> Result<&Lm> {
    let Some(first) = models.first() else {
        return wrong("parents", "at least one".to_owned(), "0".to_owned());
    };
    if let Some(other) = models.iter().find(|other| !are_mixable(other.config(), first.config())) {
        let shape = |lm: &Lm| String::from_utf8_lossy(&lm.config().to_json()).into_owned();
        return wrong("parents", format!("models of one shape: {}", shape(first)), shape(other));
    }
    Ok(first)
}

/// Whether every tensor of one has its twin in the other, and they mean the same.
fn are_mixable(a: &Config, b: &Config) -> bool {
    let shape = |config: &Config| Config { bos: None, eos: vec![], pad: None, max_positions: 0, ..config.clone() };
    shape(a) == shape(b)
}

#[cfg(test)]
mod tests {
    use tracker_gpu::Device;

    use super::*;
    use crate::tokenizer::Tokenizer;

    fn model(seed: u64) -> Lm {
        model_of(seed, 2)
    }

    fn model_of(seed: u64, n_layers: usize) -> Lm {
        let tokenizer = Tokenizer::words(&["a", "b", "c", "d"]).expect("distinct words");
        let config = Config {
            hidden_size: 32,
            intermediate_size: 48,
            n_layers,
            n_heads: 2,
            n_kv_heads: 2,
            head_dim: 16,
            ..Config::tiny(tokenizer.vocab_size(), 16)
        };
        Lm::init(config, tokenizer, seed, &Device::cpu()).expect("a consistent shape")
    }

    fn examples() -> Vec<Example> {
        (0..6).map(|i| Example::text(&[1, 4 + i % 4, 5, 4 + (i * 3) % 4, 2])).collect()
    }

    fn mix(parents: &[Lm], ratios: &[Ratios]) -> Result<Vec<Lm>> {
        Parents::hold(parents)?.mix(ratios)
    }

    fn uniform(lm: &Lm, weights: &[f32]) -> Ratios {
        lm.tensors().map(|_| weights.to_vec()).collect()
    }

    #[test]
    fn a_mixture_is_the_weighted_sum_of_its_parents_and_the_ends_are_the_parents() {
        let (a, b) = (model(1), model(2));
        let ratios = [uniform(&a, &[1.0, 0.0]), uniform(&a, &[0.0, 1.0]), uniform(&a, &[0.75, 0.25])];
        let mixed = mix(&[a.clone(), b.clone()], &ratios).expect("mixes");
        let bits = |lm: &Lm| lm.weights().data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&mixed[0]), bits(&a));
        assert_eq!(bits(&mixed[1]), bits(&b));
        for (i, x) in mixed[2].weights().data.iter().enumerate() {
            let first = a.weights().data[i].mul_add(0.75, 0.0);
            assert_eq!(x.to_bits(), b.weights().data[i].mul_add(0.25, first).to_bits());
        }
    }

    #[test]
    fn slopes_are_the_finite_differences_of_the_loss_along_each_tensor() {
        let (a, b) = (model(1), model(2));
        let middle = &mix(&[a.clone(), b.clone()], &[uniform(&a, &[0.5, 0.5])]).expect("mixes")[0];
        let got = slopes(middle, &a, &b, &examples(), 1).expect("differentiates");
        let loss = |ratios: Ratios| {
            let lm = mix(&[a.clone(), b.clone()], &[ratios]).expect("mixes").remove(0);
            slopes(&lm, &a, &b, &examples(), 1).expect("differentiates").loss
        };
        for tensor in [0, 1, 4, 9, got.by_tensor.len() - 1] {
            let step = 0.05_f32;
            let at = |shift: f32| {
                let mut ratios = uniform(&a, &[0.5, 0.5]);
                ratios[tensor] = vec![0.5 - shift, 0.5 + shift];
                loss(ratios)
            };
            let difference = (at(step) - at(-step)) / (2.0 * f64::from(step));
            let slope = got.by_tensor[tensor];
            assert!((slope - difference).abs() < 2e-4 + 0.05 * slope.abs(), "{tensor}: {slope} and {difference}");
        }
    }

    #[test]
    fn what_cannot_be_mixed_is_refused() {
        let a = model(1);
        assert!(matches!(mix(&[], &[]), Err(Error::Range { what: "parents", .. })));
        assert!(matches!(mix(std::slice::from_ref(&a), &[vec![]]), Err(Error::Range { what: "ratios", .. })));
        let nan = uniform(&a, &[f32::NAN]);
        assert!(matches!(mix(std::slice::from_ref(&a), &[nan]), Err(Error::Range { what: "ratios", .. })));
        let ratios = uniform(&a, &[0.5, 0.5]);
        assert!(matches!(mix(&[a, model_of(1, 1)], &[ratios]), Err(Error::Range { what: "parents", .. })));
    }
}
