//! Interpolation: models whose weights are weighted sums of others', held in memory and never written.
//!
//! Invariant: a mixture has the bits a linear merge of the parents' files has: fused multiply-adds in f32, in the order of
//! the parents, from +0.

use rayon::prelude::*;

use crate::config::Config;
use crate::cpu;
use crate::error::{Error, Result};
use crate::lm::Lm;
use crate::train;
use crate::train::Example;
use crate::weights::Weights;

/// Numbers of every parent that are read at once, for all mixtures.
const CHUNK: usize = 1 << 14;

/// How much of each parent goes into each tensor: `[tensors][parents]`, tensors in the order of [`Lm::tensors`].
pub type Ratios = Vec<Vec<f32>>;

/// One model for each of `ratios`: θ = Σᵢ wᵢ θᵢ, tensor by tensor. The parents are read once, whatever the number of mixtures.
///
/// # Errors
/// `Range` if there is no parent, the parents differ in configuration, a mixture has another number of tensors or parents,
/// or a weight is not finite.
pub fn mix(parents: &[Lm], ratios: &[Ratios]) -> Result<Vec<Lm>> {
    let first = check(parents, ratios)?;
    let layout = first.weights().layout.clone();
    let mut mixed: Vec<Vec<f32>> = ratios.iter().map(|_| vec![0.0; layout.len]).collect();
    for (idx, slot) in layout.slots.iter().enumerate() {
        let mut chunks: Vec<Vec<&mut [f32]>> = Vec::new();
        for out in &mut mixed {
            for (nth, chunk) in out[slot.at.clone()].chunks_mut(CHUNK).enumerate() {
                if chunks.len() == nth {
                    chunks.push(Vec::with_capacity(ratios.len()));
                }
                chunks[nth].push(chunk);
            }
        }
        chunks.into_par_iter().enumerate().for_each(|(nth, outs)| {
            let start = slot.at.start + nth * CHUNK;
            for (out, ratios) in outs.into_iter().zip(ratios) {
                for (parent, weight) in parents.iter().zip(&ratios[idx]) {
                    cpu::add_scaled(out, &parent.weights().data[start..start + out.len()], *weight);
                }
            }
        });
    }
    Ok(mixed.into_iter().map(|data| first.with_weights(Weights::new(layout.clone(), data))).collect())
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
/// One forward and one backward pass over all examples, on the CPU whatever the device, on up to `n_threads` threads.
///
/// # Errors
/// As [`crate::sft`]; `Range` if the models differ in configuration.
pub fn slopes(lm: &Lm, from: &Lm, to: &Lm, examples: &[Example], n_threads: usize) -> Result<Slopes> {
    check(&[lm.clone(), from.clone(), to.clone()], &[])?;
    let (loss, grad) = train::gradient(lm, examples, n_threads)?;
    let layout = &lm.weights().layout;
    let along = |at: std::ops::Range<usize>| {
        let ends = to.weights().data[at.clone()].iter().zip(&from.weights().data[at.clone()]);
        grad[at].iter().zip(ends).map(|(g, (to, from))| f64::from(*g) * (f64::from(*to) - f64::from(*from))).sum()
    };
    Ok(Slopes { loss, by_tensor: layout.slots.iter().map(|slot| along(slot.at.clone())).collect() })
}

fn check<'a>(parents: &'a [Lm], ratios: &[Ratios]) -> Result<&'a Lm> {
    let wrong = |what, expected: String, got: String| Err(Error::Range { what, expected, got });
    let Some(first) = parents.first() else {
        return wrong("parents", "at least one".to_owned(), "0".to_owned());
    };
    if let Some(other) = parents.iter().find(|parent| !are_mixable(parent.config(), first.config())) {
        let shape = |lm: &Lm| String::from_utf8_lossy(&lm.config().to_json()).into_owned();
        return wrong("parents", format!("models of one shape: {}", shape(first)), shape(other));
    }
    let n_tensors = first.weights().layout.slots.len();
    for ratios in ratios {
        if ratios.len() != n_tensors || ratios.iter().any(|weights| weights.len() != parents.len()) {
            let expected = format!("`{}` weights for each of `{n_tensors}` tensors", parents.len());
            return wrong("ratios", expected, format!("{} tensors", ratios.len()));
        }
        if let Some(weight) = ratios.iter().flatten().find(|weight| !weight.is_finite()) {
            return wrong("ratios", "finite numbers".to_owned(), weight.to_string());
        }
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
