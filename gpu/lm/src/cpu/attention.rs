//! Causal attention of a few query rows over the keys and values before them.

#![allow(unsafe_code, reason = "`with_simd` expands to a call of a function compiled for the instructions it detected")]

use macerator::{Simd, with_simd};

use super::cache::Span;
use super::gemm::{Left, Out, Panels, Right, multiply_in};
use super::math::{dot, softmax};

/// Query rows that share one key-value head: for each of `n_tokens` tokens in order, its `group` heads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queries<'a> {
    /// `[n_tokens · group, dim]`, scaled by 1 / sqrt(dim).
    pub(crate) rows: &'a [f32],
    pub(crate) n_tokens: usize,
    pub(crate) group: usize,
    pub(crate) dim: usize,
    /// Keys the first token sees, itself included; each later token sees one more.
    pub(crate) visible: usize,
}

/// Scratch of attention. After [`attend`], `probabilities` is `[n_tokens · group, stride]`, zero where nothing is seen.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) probabilities: Vec<f32>,
    pub(crate) stride: usize,
    pub(crate) pack: Vec<f32>,
}

/// softmax(Q Kᵀ) V (Vaswani et al. 2017, eq. 1) over the tokens of `spans` together, each row seeing only what is before
/// it. `out`: `[n_tokens · group, dim]`.
#[with_simd]
pub(crate) fn attend<'a, S: Simd>(queries: Queries<'a>, spans: &[Span<'a>], out: &mut [f32], scratch: &mut Scratch) {
    let Queries { rows, n_tokens, group, dim, visible } = queries;
    let n_rows = n_tokens * group;
    let total: usize = spans.iter().map(|span| span.keys.n).sum();
    scratch.stride = total;
    scratch.probabilities.resize(n_rows * total, 0.0);
    let mut at = 0;
    for span in spans.iter().filter(|span| span.keys.n > 0) {
        let to = Out { data: &mut scratch.probabilities[at..], stride: total, add: false };
        multiply_in::<S>(n_rows, Left::Rows(rows, dim), span.keys, to, &mut scratch.pack);
        at += span.keys.n;
    }
    for (row, scores) in scratch.probabilities.chunks_exact_mut(total).take(n_rows).enumerate() {
        let (seen, unseen) = scores.split_at_mut(visible + row / group);
        softmax(seen);
        unseen.fill(0.0);
    }
    let mut at = 0;
    for span in spans.iter().filter(|span| span.keys.n > 0) {
        let left = Left::Rows(&scratch.probabilities[at..], total);
        let to = Out { data: &mut *out, stride: dim, add: at > 0 };
        multiply_in::<S>(n_rows, left, span.values, to, &mut scratch.pack);
        at += span.keys.n;
    }
}

/// Gradients of one head's attention over one sequence, gathered tile by tile.
#[derive(Debug, Default)]
pub(crate) struct Backward {
    /// Of the queries of the last tile, before their scaling, `[n_tokens · group, dim]`.
    pub(crate) queries: Vec<f32>,
    /// Of all keys so far, `[n, dim]`.
    pub(crate) keys: Vec<f32>,
    /// Of all values so far, `[n, dim]`.
    pub(crate) values: Vec<f32>,
    key_rows: Panels,
    value_columns: Panels,
    right: Panels,
    probabilities: Vec<f32>,
    grad_scores: Vec<f32>,
    pack: Vec<f32>,
}

impl Backward {
    /// Starts on a sequence of `n` keys and values: rows `stride` apart.
    pub(crate) fn start(&mut self, n: usize, dim: usize, keys: &[f32], values: &[f32], stride: usize) {
        self.key_rows.set(n, dim, keys, stride);
        self.value_columns.set_transposed(dim, n, values, stride);
        for grad in [&mut self.keys, &mut self.values] {
            grad.clear();
            grad.resize(n * dim, 0.0);
        }
    }
}

/// Adds one tile's part to `state.keys` and `state.values`, and writes `state.queries`. `keys`: those the tile's last
/// token sees. `grad_out`: `[n_tokens · group, dim]`.
#[with_simd]
pub(crate) fn attend_backward<'a, S: Simd>(
    queries: Queries<'a>,
    keys: Right<'a>,
    grad_out: &[f32],
    state: &mut Backward,
) {
    let Queries { rows, n_tokens, group, dim, visible } = queries;
    let (n_rows, n) = (n_tokens * group, keys.n);
    let Backward { probabilities, grad_scores, pack, right, .. } = state;
    probabilities.resize(n_rows * n, 0.0);
    grad_scores.resize(n_rows * n, 0.0);
    let to = Out { data: probabilities, stride: n, add: false };
    multiply_in::<S>(n_rows, Left::Rows(rows, dim), keys, to, pack);
    let to = Out { data: grad_scores, stride: n, add: false };
    let values = Right { n, ..state.value_columns.right() };
    multiply_in::<S>(n_rows, Left::Rows(grad_out, dim), values, to, pack);
    let each = probabilities.chunks_exact_mut(n).zip(grad_scores.chunks_exact_mut(n)).take(n_rows);
    for (row, (scores, grads)) in each.enumerate() {
        let (seen, unseen) = scores.split_at_mut(visible + row / group);
        softmax(seen);
        unseen.fill(0.0);
        let (grads, unseen) = grads.split_at_mut(seen.len());
        let mean = dot(seen, grads);
        for (grad, p) in grads.iter_mut().zip(seen.iter()) {
            *grad = p * (*grad - mean);
        }
        unseen.fill(0.0);
    }
    right.set(n_rows, dim, grad_out, dim);
    let to = Out { data: &mut state.values, stride: dim, add: true };
    multiply_in::<S>(n, Left::Columns(probabilities, n), right.right(), to, pack);
    right.set(n_rows, dim, rows, dim);
    let to = Out { data: &mut state.keys, stride: dim, add: true };
    multiply_in::<S>(n, Left::Columns(grad_scores, n), right.right(), to, pack);
    state.queries.resize(n_rows * dim, 0.0);
    let to = Out { data: &mut state.queries, stride: dim, add: false };
    let key_rows = Right { k: n, ..state.key_rows.right() };
    multiply_in::<S>(n_rows, Left::Rows(grad_scores, n), key_rows, to, pack);
}
