//! The operations every device offers. One file a kernel: what it means, its checks, its CPU twin, its passes over a
//! graphics device; the WGSL beside it.

#![allow(clippy::inline_always, reason = "only what ends up inside `vector::wide` is compiled for wide vectors")]

use std::sync::Arc;

use crate::error::Result;
use crate::gpu::Gpu;

pub(crate) mod direction_argmax;
mod log_mean_exp;
mod log_softmax_gather;
pub(crate) mod mix;
pub(crate) mod normal;
mod random_features;
pub(crate) mod truth_table;
mod two_token;
mod vector;

use direction_argmax::{Ask, Best};
use mix::Held;
use truth_table::{Program, Tables};

/// Arrays in, arrays out, the same on every device up to the stated tolerance. Empty arrays are fine everywhere.
///
/// Every method can return `Device` on an adapter, and `TooLarge` where one row exceeds what the adapter can bind.
pub trait Kernels: Send + Sync {
    /// Log-probabilities of labels under softmax: `logits[i, labels[i]] − log Σⱼ exp logits[i, j]`, in nats.
    ///
    /// `logits`: f32 `[n, n_cols]` row-major, −∞ allowed (a masked class). `labels`: u32 `[n]`, each `< n_cols`.
    /// Returns f32 `[n]`, ≤ 0 up to rounding; −∞ where the label is masked. Devices agree within `1e-5 · (1 + |result|)`.
    ///
    /// # Errors
    /// `Shape` or `Range` if the arrays do not belong together or a label is out of range; `Undefined` for a row with
    /// NaN or +∞, or of −∞ only.
    fn log_softmax_gather(&self, logits: &[f32], n_cols: usize, labels: &[u32]) -> Result<Vec<f32>>;

    /// Entropic means of rows: `(1/η) · log (1/k) Σⱼ exp(η x[i, j])`; their mean in the limit η = 0.
    ///
    /// `x`: f32 `[n, n_cols]` row-major, finite. `eta`: 0, or its magnitude within `1e-30 ..= 1e30`; negative values
    /// lean towards the minimum, positive ones towards the maximum. Returns f32 `[n]`, within each row's range up to
    /// rounding. Devices agree within `1e-5 · max |x[i, ·]|`.
    /// Source: the process reward of Zhang et al. 2024, "Entropy-Regularized Process Reward Model".
    ///
    /// # Errors
    /// `Shape` or `Range` for lengths or η; `Undefined` for a row that is not finite.
    fn log_mean_exp(&self, x: &[f32], n_cols: usize, eta: f32) -> Result<Vec<f32>>;

    /// The best candidate of each group in each direction: the first row i of the group with the greatest
    /// `Σⱼ directions[d, j] · rewards[i, j]`. No more scores are stored than are returned.
    ///
    /// `rewards`: f32 `[n, n_dims]` row-major, the candidates of a group together. `ends`: u32 `[n_groups]`, the row after
    /// the last of each group, ascending, the last one n. `directions`: f32 `[n_directions, n_dims]` row-major, finite.
    /// Returns `[n_groups, n_directions]`, row-major. Sums are in the order of dimensions, each product and sum rounded: the
    /// same rows and bits on every device, but where a product is denormal.
    /// Source: the choice of Wang et al. 2024 (arXiv 2402.18571), argmax of vᵀr.
    ///
    /// # Errors
    /// `Shape` or `Range` if the arrays do not belong together, a group is empty or a direction is not finite; `Undefined`
    /// for the first row without a finite score.
    fn direction_argmax(&self, rewards: &[f32], n_dims: usize, ends: &[u32], directions: &[f32]) -> Result<Vec<Best>>;

    /// The probability of one token where only two are asked about: `σ(Σⱼ hidden[i, j] · (plus[j] − minus[j]))`, in [0, 1].
    /// No other row of the language head is touched.
    ///
    /// `hidden`: f32 `[n, n_cols]` row-major, after the final norm. `head`: the rows of the language head of `plus` and
    /// `minus`, f32 `[n_cols]` each, finite. Returns f32 `[n]`. The difference of logits, z, is within
    /// `1e-5 · (1 + Σⱼ |hidden[i, j] · (plus[j] − minus[j])|)` on every device, and σ(z) within `1e-6` of it beside.
    /// Source: the step score of Zhang et al. 2024 (arXiv 2412.11006).
    ///
    /// # Errors
    /// `Shape` or `Range` if the arrays do not belong together or the head is not finite; `Undefined` for a row whose
    /// difference of logits is not finite.
    fn two_token(&self, hidden: &[f32], n_cols: usize, head: [&[f32]; 2]) -> Result<Vec<f32>>;

    /// Keeps arrays of one length on the device, for weighted sums of them.
    ///
    /// `arrays`: f32, at least one, any values.
    ///
    /// # Errors
    /// `Shape` if the lengths differ, `Range` if there is none.
    fn hold(&self, arrays: Vec<Arc<Vec<f32>>>) -> Result<Box<dyn Held>>;

    /// Random features of rows, rectified: `max(0, Σₖ x[i, k] · V[k, j])` with independent standard normal V, which are made where
    /// they are used and never stored.
    ///
    /// `x`: f32 `[n, n_cols]` row-major, finite. V[k, j] is number k of the row j of the stream `key` of
    /// [`normals`](crate::normals): the same bits on every device. Returns f32 `[n, n_features]`, row-major, not scaled by widths.
    /// Devices agree within `1e-5 · (1 + Σₖ |x[i, k] · V[k, j]|)`.
    /// Source: Rahimi and Recht 2007, "Random features for large-scale kernel machines", rectified.
    ///
    /// # Errors
    /// `Shape` or `Range` if the array is not of whole rows or features are too many; `Undefined` for a row that is not finite.
    fn random_features(&self, x: &[f32], n_cols: usize, key: u64, n_features: usize) -> Result<Vec<f32>>;

    /// Inner products of rows, `Σₖ x[i, k] · x[j, k]`.
    ///
    /// `x`: f32 `[n, n_cols]` row-major, finite. Returns f32 `[n, n]`, symmetric to the bit. Devices agree within
    /// `1e-5 · Σₖ |x[i, k] · x[j, k]|`.
    ///
    /// # Errors
    /// `Shape` if the array is not of whole rows; `Undefined` for a row that is not finite.
    fn gram(&self, x: &[f32], n_cols: usize) -> Result<Vec<f32>>;

    /// Truth tables of `programs` over the atoms `0..n_atoms`, `n_atoms` ≤ [`MAX_ATOMS`](truth_table::MAX_ATOMS).
    ///
    /// # Errors
    /// `Range` if `n_atoms` is too large or a program uses an atom past it.
    fn truth_tables(&self, programs: &[Program], n_atoms: usize) -> Result<Tables>;
}

/// The CPU, on rayon's threads where an array is large enough to pay for them.
pub(crate) struct Cpu;

/// A graphics adapter.
pub(crate) struct Wgpu(pub(crate) Arc<Gpu>);

impl Kernels for Cpu {
    fn log_softmax_gather(&self, logits: &[f32], n_cols: usize, labels: &[u32]) -> Result<Vec<f32>> {
        log_softmax_gather::check(logits, n_cols, labels)?;
        log_softmax_gather::on_cpu(logits, n_cols, labels)
    }

    fn log_mean_exp(&self, x: &[f32], n_cols: usize, eta: f32) -> Result<Vec<f32>> {
        let n_rows = log_mean_exp::check(x, n_cols, eta)?;
        log_mean_exp::on_cpu(x, n_rows, n_cols, eta)
    }

    fn direction_argmax(&self, rewards: &[f32], n_dims: usize, ends: &[u32], directions: &[f32]) -> Result<Vec<Best>> {
        direction_argmax::on_cpu(Ask::new(rewards, n_dims, ends, directions)?)
    }

    fn two_token(&self, hidden: &[f32], n_cols: usize, head: [&[f32]; 2]) -> Result<Vec<f32>> {
        let gap = two_token::gap(hidden, n_cols, head)?;
        two_token::on_cpu(hidden, &gap)
    }

    fn hold(&self, arrays: Vec<Arc<Vec<f32>>>) -> Result<Box<dyn Held>> {
        Ok(Box::new(mix::OnCpu::new(arrays)?))
    }

    fn random_features(&self, x: &[f32], n_cols: usize, key: u64, n_features: usize) -> Result<Vec<f32>> {
        random_features::on_cpu(random_features::Ask::new(x, n_cols, key, n_features)?)
    }

    fn gram(&self, x: &[f32], n_cols: usize) -> Result<Vec<f32>> {
        random_features::gram_on_cpu(x, n_cols)
    }

    fn truth_tables(&self, programs: &[Program], n_atoms: usize) -> Result<Tables> {
        truth_table::check(programs, n_atoms)?;
        Ok(truth_table::on_cpu(programs, n_atoms))
    }
}

impl Kernels for Wgpu {
    fn log_softmax_gather(&self, logits: &[f32], n_cols: usize, labels: &[u32]) -> Result<Vec<f32>> {
        log_softmax_gather::check(logits, n_cols, labels)?;
        log_softmax_gather::on_gpu(&self.0, logits, n_cols, labels)
    }

    fn log_mean_exp(&self, x: &[f32], n_cols: usize, eta: f32) -> Result<Vec<f32>> {
        let n_rows = log_mean_exp::check(x, n_cols, eta)?;
        log_mean_exp::on_gpu(&self.0, x, n_rows, n_cols, eta)
    }

    fn direction_argmax(&self, rewards: &[f32], n_dims: usize, ends: &[u32], directions: &[f32]) -> Result<Vec<Best>> {
        direction_argmax::on_gpu(&self.0, Ask::new(rewards, n_dims, ends, directions)?)
    }

    fn two_token(&self, hidden: &[f32], n_cols: usize, head: [&[f32]; 2]) -> Result<Vec<f32>> {
        let gap = two_token::gap(hidden, n_cols, head)?;
        two_token::on_gpu(&self.0, hidden, &gap)
    }

    fn hold(&self, arrays: Vec<Arc<Vec<f32>>>) -> Result<Box<dyn Held>> {
        Ok(Box::new(mix::OnGpu::new(&self.0, arrays)?))
    }

    fn random_features(&self, x: &[f32], n_cols: usize, key: u64, n_features: usize) -> Result<Vec<f32>> {
        random_features::on_gpu(&self.0, random_features::Ask::new(x, n_cols, key, n_features)?)
    }

    fn gram(&self, x: &[f32], n_cols: usize) -> Result<Vec<f32>> {
        random_features::gram_on_gpu(&self.0, x, n_cols)
    }

    fn truth_tables(&self, programs: &[Program], n_atoms: usize) -> Result<Tables> {
        truth_table::check(programs, n_atoms)?;
        truth_table::on_gpu(&self.0, programs, n_atoms)
    }
}
