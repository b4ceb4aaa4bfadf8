//! Interpolating two models block by block: which ratio each tensor gets, and the actor that holds the parents.
//!
//! A ratio is the share of the model *after* alignment, θ; the rest is the model *before*, θ₀. Outside this module weights are
//! written by parent, because released code and paper put the ratio on opposite ends (Lin et al. 2024, arXiv 2309.06256).

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_actors::{Fault, Handle, Pool, PoolOptions, Turn, Worker};
use tracker_lm::{Lm, Parents, Ratios};
use tracker_store::{Checkpoint, Digest, NodeId, Recipe, RecipeWeight, Recording};

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::train::Trained;

/// What becomes of tensors outside the layers: embeddings, the final norm, the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rest {
    /// As they are before alignment.
    Before,
    /// As they are after it.
    After,
    /// Interpolated at the mean of the blocks' ratios.
    Mean,
}

impl Rest {
    /// Its name in a plan.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Mean => "mean",
        }
    }
}

/// Layers cut into blocks, as half-open ranges that follow one another from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// The ranges.
    pub layers: Vec<Range<usize>>,
    /// What becomes of the rest.
    pub rest: Rest,
}

impl Blocks {
    /// `n` blocks of equal size; where they do not come out even, the first ones have a layer more.
    ///
    /// # Errors
    /// `Input` if there are fewer layers than blocks, or no block.
    pub fn even(n_layers: usize, n: usize, rest: Rest) -> Result<Self> {
        if n == 0 || n > n_layers {
            return Err(Error::Input {
                what: format!("a model of {n_layers} layers cannot be cut into {n} blocks"),
                hint: Some("set `blocks.n` to a number from 1 to the number of layers".to_owned()),
            });
        }
        let at = |k: usize| (k * n_layers).div_ceil(n);
        Ok(Self { layers: (0..n).map(|k| at(k)..at(k + 1)).collect(), rest })
    }

    /// Blocks that begin at 0 and at each of `cuts`.
    ///
    /// # Errors
    /// `Input` unless cuts rise strictly and lie inside the layers.
    pub fn at(n_layers: usize, cuts: &[usize], rest: Rest) -> Result<Self> {
        let bounds: Vec<usize> = [0].iter().chain(cuts).chain([&n_layers]).copied().collect();
        if bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Error::Input {
                what: format!("cuts {cuts:?} do not cut {n_layers} layers into blocks"),
                hint: Some(format!("expected rising numbers from 1 to {}", n_layers.saturating_sub(1))),
            });
        }
        Ok(Self { layers: bounds.windows(2).map(|pair| pair[0]..pair[1]).collect(), rest })
    }

    /// How many there are.
    #[must_use]
    pub fn n(&self) -> usize {
        self.layers.len()
    }

    /// The share of θ in the tensor called `name`, given the blocks' shares.
    #[must_use]
    pub fn share(&self, name: &str, alpha: &[f64]) -> f64 {
        if let Some(block) = self.block_of(name) {
            return alpha[block];
        }
        match self.rest {
            Rest::Before => 0.0,
            Rest::After => 1.0,
            Rest::Mean => alpha.iter().sum::<f64>() / alpha.len() as f64,
        }
    }

    /// The block a tensor belongs to, unless it is in no layer.
    fn block_of(&self, name: &str) -> Option<usize> {
        let layer: usize = name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()?;
        self.layers.iter().position(|layers| layers.contains(&layer))
    }

    /// Weights of [θ₀, θ] for every tensor of a model.
    #[must_use]
    pub fn ratios(&self, model: &Lm, alpha: &[f64]) -> Ratios {
        let weights = |share: f64| vec![(1.0 - share) as f32, share as f32];
        model.tensors().map(|(name, ..)| weights(self.share(name, alpha))).collect()
    }

    /// The derivative by each block's share, from those by each tensor's.
    #[must_use]
    pub fn by_block(&self, model: &Lm, by_tensor: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.n()];
        for ((name, ..), slope) in model.tensors().zip(by_tensor) {
            match (self.block_of(name), self.rest) {
                (Some(block), _) => sums[block] += slope,
                (None, Rest::Before | Rest::After) => {}
                (None, Rest::Mean) => sums.iter_mut().for_each(|sum| *sum += slope / self.layers.len() as f64),
            }
        }
        sums
    }

    /// The recipe of a mixture in the words of `tracker merge`, weights by parent, and the digest of the weights it makes.
    #[must_use]
    pub fn recipe(&self, before: &str, after: &str, alpha: &[f64], output: Digest) -> String {
        let weights = |share: f64| {
            // The very numbers that were used: shares are rounded to f32 before the sum.
            let [b, a] = [(1.0 - share) as f32, share as f32];
            format!("{{\"{before}\": {b}, \"{after}\": {a}}}")
        };
        let block = |(layers, share): (&Range<usize>, &f64)| {
            format!("  - layers: [{}, {}]\n    weights: {}\n", layers.start, layers.end, weights(*share))
        };
        let blocks: String = self.layers.iter().zip(alpha).map(block).collect();
        let rest = weights(self.share("", alpha));
        format!(
            "merge_method: linear\nmodels:\n  - model: {before}\n  - model: {after}\nblocks:\n{blocks}rest: {rest}\n\
             dtype: float32\noutput: {output}\n"
        )
    }
}

/// The point of {mean(x) = `mean`, 0 ≤ xₖ ≤ 1} nearest to `x`: xₖ + τ, clipped, with τ found by bisection.
///
/// `mean` is in [0, 1].
#[must_use]
pub fn project(x: &[f64], mean: f64) -> Vec<f64> {
    let shifted = |tau: f64| x.iter().map(|x| (x + tau).clamp(0.0, 1.0)).collect::<Vec<f64>>();
    let average = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let least = x.iter().copied().fold(f64::INFINITY, f64::min);
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut low, mut high) = (-most, 1.0 - least);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if average(&shifted(middle)) < mean {
            low = middle;
        } else {
            high = middle;
        }
    }
    shifted(high)
}

/// The paper's way to keep the mean: αₖ = K α α̂ₖ / Σ α̂, with α̂ₖ = σ(sₖ) + ε.
///
/// Its equation 11 leaves out the factor K, without which the mean is α / K. Nothing bounds αₖ by 1.
#[must_use]
pub fn reparameterised(s: &[f64], alpha: f64, epsilon: f64) -> Vec<f64> {
    let raw: Vec<f64> = s.iter().map(|s| sigmoid(*s) + epsilon).collect();
    let total: f64 = raw.iter().sum();
    raw.iter().map(|raw| s.len() as f64 * alpha * raw / total).collect()
}

/// The derivative by each sₖ of [`reparameterised`], given that by each αₖ.
#[must_use]
pub fn reparameterised_slopes(s: &[f64], alpha: f64, epsilon: f64, by_alpha: &[f64]) -> Vec<f64> {
    let raw: Vec<f64> = s.iter().map(|s| sigmoid(*s) + epsilon).collect();
    let total: f64 = raw.iter().sum();
    let scale = s.len() as f64 * alpha / total;
    let mean: f64 = by_alpha.iter().zip(&raw).map(|(slope, raw)| slope * raw / total).sum();
    let slope = |(s, by_alpha): (&f64, &f64)| scale * sigmoid(*s) * (1.0 - sigmoid(*s)) * (by_alpha - mean);
    s.iter().zip(by_alpha).map(slope).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Every point of {mean = `mean`, 0 ≤ xₖ ≤ 1} on a grid of `step`, for `n` blocks, in lexicographic order.
#[must_use]
pub fn grid(n: usize, mean: f64, step: f64) -> Vec<Vec<f64>> {
    fn extend(n_left: usize, sum: usize, top: usize, head: &mut Vec<usize>, out: &mut Vec<Vec<usize>>) {
        if n_left == 1 {
            if sum <= top {
                out.push(head.iter().copied().chain([sum]).collect());
            }
            return;
        }
        for first in 0..=sum.min(top) {
            head.push(first);
            extend(n_left - 1, sum - first, top, head, out);
            head.pop();
        }
    }
    let top = (1.0 / step).round() as usize;
    let mut points = Vec::new();
    if n > 0 {
        extend(n, (n as f64 * mean / step).round() as usize, top, &mut Vec::new(), &mut points);
    }
    let scaled = |point: Vec<usize>| point.into_iter().map(|x| x as f64 / top as f64).collect();
    points.into_iter().map(scaled).collect()
}

/// The digest of a model's weights, as `tracker merge` writes it.
#[must_use]
pub fn weights_digest(model: &Lm) -> Digest {
    blake3::Hash::from_bytes(model.weights_digest()).into()
}

/// Records a mixture as its recipe: weights by parent digest, in the words of `tracker merge`, and the digest of what they
/// make. The weights themselves are not stored: `tracker materialize` makes them again.
///
/// # Errors
/// Those of the store.
pub async fn record_mixture(
    lab: &Lab,
    label: &str,
    blocks: &Blocks,
    [before, after]: [&Trained; 2],
    alpha: &[f64],
    model: &Lm,
) -> Result<NodeId> {
    let weigh = |(parent, is_after): (&Trained, bool)| {
        let of_block = move |(layers, share): (&Range<usize>, &f64)| {
            let weight = if is_after { *share } else { 1.0 - share };
            let block = format!("layers {}..{}", layers.start, layers.end);
            Some(RecipeWeight { parent: parent.node.digest()?, block, weight })
        };
        blocks.layers.iter().zip(alpha).filter_map(of_block).collect::<Vec<_>>()
    };
    let output = weights_digest(model);
    let recipe = Recipe {
        text: blocks.recipe(&before.node.to_string(), &after.node.to_string(), alpha, output),
        method: "linear".to_owned(),
        weights: [(before, false), (after, true)].into_iter().flat_map(weigh).collect(),
        parents: vec![before.node, after.node],
        others: blocks.rest.name().to_owned(),
        seed: 0,
    };
    let checkpoint = Checkpoint {
        label: label.to_owned(),
        config: Digest::of(&model.config().to_json()),
        // Takes the recipe's digest when it is recorded.
        manifest: output,
        n_params: model.n_params() as u64,
        step: 0,
    };
    let mut recording = Recording::new();
    let node = recording.put_virtual(lab.run(), &checkpoint, &recipe)?;
    lab.record(recording).await?;
    Ok(node)
}

/// Holds the two ends of an interpolation, θ₀ and θ, on their device and makes models between them.
pub struct Interpolator {
    ends: Parents,
}

/// How many models were made, and how often the parents were read for them.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Made {
    /// Models.
    pub n_models: u64,
    /// Passes over the parents.
    pub n_passes: u64,
}

impl Interpolator {
    /// Starts one between `before` and `after`.
    ///
    /// # Errors
    /// `Lm` if they differ in shape or the device has no room; those of starting a pool.
    pub fn start(actors: &Handle, before: Lm, after: Lm) -> Result<Pool<Self>> {
        let ends = Parents::hold(&[before, after])?;
        Ok(Pool::start(actors, PoolOptions::cpu("interpolator", 1), move |_| Ok(Self { ends: ends.clone() }))?)
    }
}

impl Worker for Interpolator {
    type Message = Vec<Ratios>;
    type Reply = Vec<Lm>;
    type State = Made;

    async fn handle(&mut self, ratios: Vec<Ratios>, turn: &mut Turn<'_, Made>) -> std::result::Result<Vec<Lm>, Fault> {
        let models = self.ends.mix(&ratios).map_err(|error| Fault::input("could not interpolate").because(error))?;
        turn.update(|made| {
            made.n_models += models.len() as u64;
            made.n_passes += 1;
        });
        Ok(models)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(x: &[f64]) -> f64 {
        x.iter().sum::<f64>() / x.len() as f64
    }

    #[test]
    fn the_factor_k_keeps_the_mean_and_its_range_is_the_stated_one() {
        for s in [[0.0, 0.0, 0.0], [3.0, -2.0, 0.5], [-9.0, 9.0, 9.0]] {
            assert!((mean(&reparameterised(&s, 0.4, 0.2)) - 0.4).abs() < 1e-12);
        }
        assert!(reparameterised(&[0.0; 3], 0.4, 0.2).iter().all(|a| (a - 0.4).abs() < 1e-12));
        // K = 3: one block against two at the other end of the sigmoid.
        let ends = |epsilon| {
            let high = reparameterised(&[60.0, -60.0, -60.0], 1.0, epsilon)[0];
            let low = reparameterised(&[-60.0, 60.0, 60.0], 1.0, epsilon)[0];
            (low, high)
        };
        let close = |got: (f64, f64), want: (f64, f64)| (got.0 - want.0).abs() < 0.01 && (got.1 - want.1).abs() < 0.01;
        assert!(close(ends(1.0), (0.6, 1.5)), "{:?}", ends(1.0));
        assert!(close(ends(0.2), (0.23, 2.25)), "{:?}", ends(0.2));
        // Nothing clips: above α = .444 a block can be given more than all of θ.
        assert!(reparameterised(&[60.0, -60.0, -60.0], 0.5, 0.2)[0] > 1.0);
    }

    #[test]
    fn slopes_of_the_reparameterisation_are_its_difference_quotients() {
        let (s, by_alpha) = ([0.3, -1.0, 2.0], [1.5, -0.5, 0.25]);
        let value = |s: &[f64]| -> f64 {
            reparameterised(s, 0.3, 0.1).iter().zip(by_alpha).map(|(alpha, slope)| alpha * slope).sum()
        };
        let slopes = reparameterised_slopes(&s, 0.3, 0.1, &by_alpha);
        for k in 0..3 {
            let moved = |by: f64| {
                let mut s = s;
                s[k] += by;
                value(&s)
            };
            assert!((slopes[k] - (moved(1e-5) - moved(-1e-5)) / 2e-5).abs() < 1e-8);
        }
    }

    #[test]
    fn the_projection_is_the_nearest_point_of_the_set() {
        for (x, alpha) in
            [([0.9, 0.1, -0.4], 0.3), ([5.0, 0.0, 0.0], 0.4), ([0.2, 0.2, 0.2], 0.2), ([-1.0, 2.0, 0.5], 1.0)]
        {
            let got = project(&x, alpha);
            assert!((mean(&got) - alpha).abs() < 1e-9, "{got:?}");
            assert!(got.iter().all(|a| (0.0..=1.0).contains(a)));
            let distance = |y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum::<f64>();
            assert!(grid(3, alpha, 0.05).iter().all(|y| distance(&got) <= distance(y) + 1e-9));
        }
    }

    #[test]
    fn the_grid_has_every_point_of_the_set_once() {
        let points = grid(3, 0.2, 0.05);
        assert_eq!(points.len(), 91);
        assert_eq!(grid(3, 0.4, 0.05).len(), 295);
        assert!(points.iter().all(|x| (mean(x) - 0.2).abs() < 1e-9));
        assert!(grid(3, 1.0, 0.05) == [[1.0; 3]] && grid(1, 0.35, 0.05) == [[0.35]]);
    }

    #[test]
    fn blocks_are_half_open_ranges_that_cover_all_layers() {
        assert_eq!(Blocks::even(26, 3, Rest::Before).unwrap().layers, [0..9, 9..18, 18..26]);
        assert_eq!(Blocks::even(6, 3, Rest::Before).unwrap().layers, [0..2, 2..4, 4..6]);
        // The paper's 1–8/9–17/18–26, counted from 1 and inclusive.
        assert_eq!(Blocks::at(26, &[8, 17], Rest::Before).unwrap().layers, [0..8, 8..17, 17..26]);
        for cuts in [&[0][..], &[26], &[9, 9], &[17, 8]] {
            assert!(Blocks::at(26, cuts, Rest::Before).is_err(), "{cuts:?}");
        }
        assert!(Blocks::even(2, 3, Rest::Before).is_err() && Blocks::even(2, 0, Rest::Before).is_err());
    }

    #[test]
    fn the_share_is_of_the_aligned_model_and_the_rest_follows_its_policy() {
        let alpha = [0.1, 0.4, 0.7];
        let blocks = |rest| Blocks::even(6, 3, rest).unwrap();
        let share = |rest, name: &str| blocks(rest).share(name, &alpha);
        assert_eq!(share(Rest::Before, "model.layers.2.mlp.up_proj.weight"), 0.4);
        assert_eq!(share(Rest::Before, "model.layers.5.input_layernorm.weight"), 0.7);
        for (rest, expected) in [(Rest::Before, 0.0), (Rest::After, 1.0), (Rest::Mean, 0.4)] {
            for name in ["model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"] {
                assert!((share(rest, name) - expected).abs() < 1e-12, "{rest:?} {name}");
            }
        }
    }
}
