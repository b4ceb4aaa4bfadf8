//! The elementwise and row-wise parts of the decoder, forward and backward, in plain loops.
//!
//! Each function is compiled once for every instruction set and chosen at run time; the bits do not depend on the
//! choice, since sums run in sixteen fixed lanes and nothing is reassociated.

#![allow(unsafe_code, reason = "`with_simd` expands to a call of a function compiled for the instructions it detected")]
#![allow(clippy::extra_unused_type_parameters, reason = "`with_simd` compiles the function once for each `S`")]

use macerator::{Simd, with_simd};

const LANES: usize = 16;

/// Sum over `x` of `f`, in [`LANES`] lanes that are added pairwise at the end.
#[inline(always)]
fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f(*value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += f(*value);
    }
    fold(lanes)
}

/// Sum of `x · y` in the same lanes; the slices have one length.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane = x.mul_add(*y, *lane);
        }
    }
    for ((lane, x), y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane = x.mul_add(*y, *lane);
    }
    fold(lanes)
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, value| if *value > max { *value } else { max })
}

/// e^x within 2 units in the last place for x in [-87, 88]; clamped outside, NaN kept.
///
/// Range reduction by ln 2 in two parts and the polynomial of Cephes' `expf` (Moshier 1992), with fused multiply-adds.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    const BIAS: u32 = 127;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4_f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p.mul_add(r, coefficient);
    }
    let value = p.mul_add(r * r, r) + 1.0;
    let scale = shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(BIAS) << 23;
    value * f32::from_bits(scale)
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// RMS norm of rows of width `weight.len()`: x / sqrt(mean(x²) + eps) · weight (Zhang & Sennrich 2019, eq. 4).
/// `scales`: 1 / sqrt(…) of each row.
#[with_simd]
pub(crate) fn rms_norm<S: Simd>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32], scales: &mut [f32]) {
    let width = weight.len();
    for ((x, out), scale) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)).zip(scales) {
        *scale = 1.0 / (sum(x, |v| v * v) / width as f32 + eps).sqrt();
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * *scale * weight;
        }
    }
}

/// Adds to `grad_x` and `grad_weight` what `grad_out` is to [`rms_norm`]'s inputs.
#[with_simd]
pub(crate) fn rms_norm_backward<S: Simd>(
    x: &[f32],
    weight: &[f32],
    scales: &[f32],
    grad_out: &[f32],
    grad_x: &mut [f32],
    grad_weight: &mut [f32],
) {
    let width = weight.len();
    let rows = x.chunks_exact(width).zip(grad_out.chunks_exact(width)).zip(scales);
    for (((x, grad_out), scale), grad_x) in rows.zip(grad_x.chunks_exact_mut(width)) {
        let mut lanes = [0.0f32; LANES];
        for ((x, g), w) in x.chunks(LANES).zip(grad_out.chunks(LANES)).zip(weight.chunks(LANES)) {
            for (((lane, x), g), w) in lanes.iter_mut().zip(x).zip(g).zip(w) {
                *lane += x * g * w;
            }
        }
        let back = fold(lanes) * scale * scale * scale / width as f32;
        for ((((grad_x, x), g), w), grad_weight) in
            grad_x.iter_mut().zip(x).zip(grad_out).zip(weight).zip(grad_weight.iter_mut())
        {
            *grad_x += g * w * scale - x * back;
            *grad_weight += g * x * scale;
        }
    }
}

/// Layer norm of rows of width `weight.len()`: (x − mean) / sqrt(variance + eps) · weight + bias (Ba et al. 2016).
#[with_simd]
pub(crate) fn layer_norm<S: Simd>(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let width = weight.len();
    for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let mean = sum(x, |v| v) / width as f32;
        let scale = 1.0 / (sum(x, |v| (v - mean) * (v - mean)) / width as f32 + eps).sqrt();
        for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
            *out = (x - mean) * scale * weight + bias;
        }
    }
}

/// x · σ(1.702 x), in place: what the first CLIPs have in place of GELU.
#[with_simd]
pub(crate) fn quick_gelu<S: Simd>(x: &mut [f32]) {
    for x in x {
        *x *= sigmoid(1.702 * *x);
    }
}

/// x · Φ(x), in place (Hendrycks & Gimpel 2016).
pub(crate) fn gelu(x: &mut [f32]) {
    for x in x {
        *x *= 0.5 * (1.0 + libm::erff(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// Rotates pairs (i, i + half) of each head by its row's angle (Su et al. 2021, in Hugging Face's half-split layout).
/// `x`: rows of `stride`, of which the first `n_heads · 2 · half` are heads. `tables`: for each row, cosines then sines,
/// `2 · half`. `inverse` turns back, which is the gradient.
#[allow(clippy::needless_lifetimes, clippy::elidable_lifetime_names, reason = "the macro needs every lifetime by name")]
#[with_simd]
pub(crate) fn rotate<'t, S: Simd>(x: &mut [f32], stride: usize, n_heads: usize, tables: &[&'t [f32]], inverse: bool) {
    for (row, table) in x.chunks_exact_mut(stride).zip(tables) {
        let half = table.len() / 2;
        let (cos, sin) = table.split_at(half);
        for head in row.chunks_exact_mut(2 * half).take(n_heads) {
            let (low, high) = head.split_at_mut(half);
            for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                let sin = if inverse { -*sin } else { *sin };
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

/// silu(gate) · up (Shazeer 2020). `gate_up`: rows of gate then up. `out`: rows of `width`.
#[with_simd]
pub(crate) fn swiglu<S: Simd>(gate_up: &[f32], width: usize, out: &mut [f32]) {
    for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at(width);
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * sigmoid(*gate) * up;
        }
    }
}

/// Replaces `gate_up` by its gradient, given that of [`swiglu`]'s output.
#[with_simd]
pub(crate) fn swiglu_backward<S: Simd>(gate_up: &mut [f32], width: usize, grad_out: &[f32]) {
    for (row, grad_out) in gate_up.chunks_exact_mut(2 * width).zip(grad_out.chunks_exact(width)) {
        let (gate, up) = row.split_at_mut(width);
        for ((gate, up), g) in gate.iter_mut().zip(up).zip(grad_out) {
            let s = sigmoid(*gate);
            let grad_gate = g * *up * s * (1.0 + *gate * (1.0 - s));
            *up = g * *gate * s;
            *gate = grad_gate;
        }
    }
}

/// Softmax of `row` in place.
#[inline(always)]
pub(crate) fn softmax(row: &mut [f32]) {
    let max = max(row);
    for value in row.iter_mut() {
        *value = exp(*value - max);
    }
    let scale = 1.0 / sum(row, |v| v);
    for value in row.iter_mut() {
        *value *= scale;
    }
}

/// Numbers of which one sum of exponentials is taken at once.
pub(crate) const BLOCK: usize = 4096;

/// Σ exp(x) of the numbers seen so far, as exp(max) · total.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LogSum {
    max: f32,
    total: f32,
}

impl Default for LogSum {
    /// Of no numbers.
    fn default() -> Self {
        Self { max: f32::NEG_INFINITY, total: 0.0 }
    }
}

impl LogSum {
    /// ln Σ exp(x), in nats; NaN or infinite if an `x` is NaN or infinite.
    pub(crate) fn ln(self) -> f32 {
        self.max + libm::logf(self.total)
    }

    #[inline(always)]
    fn add(self, x: &[f32]) -> Self {
        // `max` passes over NaN, so the terms carry it.
        let top = max(x);
        let total = sum(x, |v| exp(v - top));
        if self == Self::default() {
            return Self { max: top, total };
        }
        let max = if top > self.max { top } else { self.max };
        Self { max, total: self.total * exp(self.max - max) + total * exp(top - max) }
    }
}

/// A sum with the next [`BLOCK`] numbers, or the last ones, added.
#[with_simd]
pub(crate) fn log_sum_add<S: Simd>(sum: LogSum, x: &[f32]) -> LogSum {
    sum.add(x)
}

/// ln Σ exp(x), in nats: block after block. NaN or infinite if an `x` is NaN or infinite.
#[with_simd]
pub(crate) fn log_sum_exp<S: Simd>(x: &[f32]) -> f32 {
    x.chunks(BLOCK).fold(LogSum::default(), LogSum::add).ln()
}

/// exp((x − max x) · `inverse`): unnormalised probabilities at a temperature.
#[with_simd]
pub(crate) fn tempered<S: Simd>(x: &[f32], inverse: f32, out: &mut Vec<f32>) {
    let max = max(x);
    out.clear();
    out.extend(x.iter().map(|v| exp((v - max) * inverse)));
}

/// Replaces logits by `scale` · softmax.
#[with_simd]
pub(crate) fn scaled_softmax<S: Simd>(row: &mut [f32], log_sum: f32, scale: f32) {
    for value in row.iter_mut() {
        *value = exp(*value - log_sum) * scale;
    }
}

/// Adds `x` to `out`.
#[with_simd]
pub(crate) fn add<S: Simd>(out: &mut [f32], x: &[f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += x;
    }
}

/// `out += x · weight`, fused: rounded once.
#[with_simd]
pub(crate) fn add_scaled<S: Simd>(out: &mut [f32], x: &[f32], weight: f32) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = x.mul_add(weight, *out);
    }
}

/// Sum of squares.
#[with_simd]
pub(crate) fn sum_of_squares<S: Simd>(x: &[f32]) -> f64 {
    // Blocks keep the sum accurate over many millions of terms.
    x.chunks(4096).map(|block| f64::from(sum(block, |v| v * v))).sum()
}

/// One step of `AdamW`'s constants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamStep {
    pub(crate) betas: [f32; 2],
    /// 1 / (1 − βᵗ), for both.
    pub(crate) corrections: [f32; 2],
    pub(crate) eps: f32,
    pub(crate) lr: f32,
    /// lr · decay; zero where no decay applies.
    pub(crate) shrink: f32,
    /// What gradients are multiplied by, for clipping.
    pub(crate) grad_scale: f32,
}

/// `AdamW` (Loshchilov & Hutter 2019, algorithm 2) on one array.
#[with_simd]
pub(crate) fn adamw<S: Simd>(step: AdamStep, weights: &mut [f32], grad: &[f32], first: &mut [f32], second: &mut [f32]) {
    for (((w, g), m), v) in weights.iter_mut().zip(grad).zip(first).zip(second) {
        let g = g * step.grad_scale;
        *m = step.betas[0] * *m + (1.0 - step.betas[0]) * g;
        *v = step.betas[1] * *v + (1.0 - step.betas[1]) * g * g;
        let update = *m * step.corrections[0] / ((*v * step.corrections[1]).sqrt() + step.eps);
        *w -= step.shrink * *w + step.lr * update;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0.0f64;
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let want = f64::from(x).exp();
            let ulp = f64::from((want as f32).next_up()) - f64::from(want as f32);
            worst = worst.max((f64::from(exp(x)) - want).abs() / ulp);
        }
        assert!(worst < 2.0, "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
    }

    #[test]
    fn log_sum_exp_agrees_with_doubles_and_keeps_nan() {
        let x: Vec<f32> = (0..77).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
        let want = x.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
        assert!((f64::from(log_sum_exp(&x)) - want).abs() < 1e-6);
        let long: Vec<f32> = (0..3 * BLOCK + 5).map(|i| (i as f32 * 0.37).sin() * 9.0 + i as f32 * 1e-3).collect();
        let want = long.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
        assert!((f64::from(log_sum_exp(&long)) - want).abs() < 3e-6);
        let parts = long.chunks(BLOCK).fold(LogSum::default(), log_sum_add);
        assert_eq!(parts.ln().to_bits(), log_sum_exp(&long).to_bits());
        for (at, bad) in [(3, f32::NAN), (2 * BLOCK, f32::NAN), (BLOCK, f32::INFINITY)] {
            let mut long = long.clone();
            long[at] = bad;
            assert!(!log_sum_exp(&long).is_finite(), "{at} {bad}");
        }
        assert!(!log_sum_exp(&[0.0, f32::NAN]).is_finite());
        assert!(!log_sum_exp(&[0.0, f32::INFINITY]).is_finite());
    }

    #[test]
    fn rotating_back_undoes_rotating() {
        let mut x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let start = x.clone();
        let angle = 0.7f32;
        let table = [angle.cos(), angle.cos(), angle.sin(), angle.sin()];
        rotate(&mut x, 12, 2, &[&table], false);
        assert_eq!(x[8..], start[8..], "columns past the heads are not touched");
        assert_ne!(x[..8], start[..8]);
        rotate(&mut x, 12, 2, &[&table], true);
        assert!(x.iter().zip(&start).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
