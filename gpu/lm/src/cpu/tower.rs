//! A stack of pre-norm transformer blocks with biases, as CLIP's towers are: layer norms, full or causal attention, two linear maps with an
//! activation between them (Radford et al. 2021, section 2.4).
//!
//! Attention is the decoder's ([`attend`]): where every token sees every other, the rows of all tokens are as many heads of one token.

use std::ops::Range;

use super::attention::{Queries, Scratch, attend};
use super::cache::Span;
use super::gemm::{Left, Out, Panels, multiply};
use super::math;
use crate::weights::{Init, Slots};

/// What stands between the two maps of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    QuickGelu,
    Gelu,
}

/// The sizes of a tower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    pub(crate) hidden: usize,
    pub(crate) inner: usize,
    pub(crate) n_heads: usize,
    pub(crate) n_layers: usize,
    pub(crate) eps: f32,
    pub(crate) activation: Activation,
}

/// A weight and a bias.
pub(crate) type Pair = [Range<usize>; 2];

/// Where the weights of a block lie.
struct BlockAt {
    norm1: Pair,
    qkv: Pair,
    out: Pair,
    norm2: Pair,
    up: Pair,
    down: Pair,
}

/// Where the weights of a tower lie.
pub(crate) struct TowerAt {
    blocks: Vec<BlockAt>,
}

/// Puts a norm's weight and bias.
pub(crate) fn norm_at(slots: &mut Slots, name: &str, width: usize) -> Pair {
    [
        slots.push(format!("{name}.weight"), &[width], Init::One),
        slots.push(format!("{name}.bias"), &[width], Init::Zero),
    ]
}

impl TowerAt {
    /// Puts the slots of `prefix.encoder.layers`.
    pub(crate) fn new(slots: &mut Slots, prefix: &str, shape: &Shape) -> Self {
        let Shape { hidden, inner, n_layers, .. } = *shape;
        let block = |idx| {
            let name = |of: &str| format!("{prefix}.encoder.layers.{idx}.{of}");
            let norm1 = norm_at(slots, &name("layer_norm1"), hidden);
            // What is multiplied together lies together.
            let mut three = |part: &str, shape: &[usize]| {
                let at = ["q", "k", "v"]
                    .map(|of| slots.push(name(&format!("self_attn.{of}_proj.{part}")), shape, Init::Normal));
                at[0].start..at[2].end
            };
            let qkv = [three("weight", &[hidden, hidden]), three("bias", &[hidden])];
            let mut map = |of: &str, to: usize, from: usize| {
                let weight = slots.push(name(&format!("{of}.weight")), &[to, from], Init::Normal);
                [weight, slots.push(name(&format!("{of}.bias")), &[to], Init::Zero)]
            };
            let out = map("self_attn.out_proj", hidden, hidden);
            let (up, down) = (map("mlp.fc1", inner, hidden), map("mlp.fc2", hidden, inner));
            BlockAt { norm1, qkv, out, norm2: norm_at(slots, &name("layer_norm2"), hidden), up, down }
        };
        Self { blocks: (0..n_layers).map(block).collect() }
    }
}

/// A linear map with its bias.
struct Linear {
    map: Panels,
    bias: Vec<f32>,
}

impl Linear {
    fn new(data: &[f32], [weight, bias]: &Pair) -> Self {
        let n = bias.len();
        Self { map: Panels::transposed(weight.len() / n, n, &data[weight.clone()]), bias: data[bias.clone()].to_vec() }
    }

    /// Rows times the map plus the bias; added to `out`, or in its place.
    fn apply(&self, x: &[f32], k: usize, out: &mut Vec<f32>, add: bool, pack: &mut Vec<f32>) {
        let (m, n) = (x.len() / k, self.bias.len());
        out.resize(m * n, 0.0);
        for row in out.chunks_exact_mut(n) {
            if add {
                math::add(row, &self.bias);
            } else {
                row.copy_from_slice(&self.bias);
            }
        }
        multiply(m, Left::Rows(x, k), self.map.right(), Out { data: out, stride: n, add: true }, pack);
    }
}

struct Block {
    norm1: [Vec<f32>; 2],
    qkv: Linear,
    out: Linear,
    norm2: [Vec<f32>; 2],
    up: Linear,
    down: Linear,
}

/// A tower, ready to run.
pub(crate) struct Tower {
    shape: Shape,
    blocks: Vec<Block>,
}

/// Scratch of a forward pass.
#[derive(Default)]
pub(crate) struct TowerWork {
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    inner: Vec<f32>,
    queries: Vec<f32>,
    of_head: Vec<f32>,
    keys: Panels,
    values: Panels,
    scratch: Scratch,
    pub(crate) pack: Vec<f32>,
}

/// Rows times `map` (packed from `[n, k]`), `[m, n]`.
pub(crate) fn apply(x: &[f32], k: usize, map: &Panels, n: usize, pack: &mut Vec<f32>) -> Vec<f32> {
    let m = x.len() / k;
    let mut out = vec![0.0; m * n];
    multiply(m, Left::Rows(x, k), map.right(), Out { data: &mut out, stride: n, add: false }, pack);
    out
}

impl Tower {
    pub(crate) fn new(data: &[f32], at: &TowerAt, shape: Shape) -> Self {
        let pair = |at: &Pair| at.clone().map(|at| data[at].to_vec());
        let block = |at: &BlockAt| Block {
            norm1: pair(&at.norm1),
            qkv: Linear::new(data, &at.qkv),
            out: Linear::new(data, &at.out),
            norm2: pair(&at.norm2),
            up: Linear::new(data, &at.up),
            down: Linear::new(data, &at.down),
        };
        Self { shape, blocks: at.blocks.iter().map(block).collect() }
    }

    /// Passes one sequence through all blocks, in place: `x` is `[n, hidden]`, n ≥ 1. `causal`: whether tokens see none after them.
    pub(crate) fn forward(&self, x: &mut Vec<f32>, causal: bool, work: &mut TowerWork) {
        let Shape { hidden, inner, eps, activation, .. } = self.shape;
        let n = x.len() / hidden;
        for block in &self.blocks {
            work.normed.resize(n * hidden, 0.0);
            math::layer_norm(x, &block.norm1[0], &block.norm1[1], eps, &mut work.normed);
            block.qkv.apply(&work.normed, hidden, &mut work.qkv, false, &mut work.pack);
            self.attend(n, causal, work);
            block.out.apply(&work.attended, hidden, x, true, &mut work.pack);
            math::layer_norm(x, &block.norm2[0], &block.norm2[1], eps, &mut work.normed);
            block.up.apply(&work.normed, hidden, &mut work.inner, false, &mut work.pack);
            match activation {
                Activation::QuickGelu => math::quick_gelu(&mut work.inner),
                Activation::Gelu => math::gelu(&mut work.inner),
            }
            block.down.apply(&work.inner, inner, x, true, &mut work.pack);
        }
    }

    fn attend(&self, n: usize, causal: bool, work: &mut TowerWork) {
        let Shape { hidden, n_heads, .. } = self.shape;
        let (dim, width) = (hidden / n_heads, 3 * hidden);
        let scale = 1.0 / (dim as f32).sqrt();
        work.attended.resize(n * hidden, 0.0);
        work.of_head.resize(n * dim, 0.0);
        for head in 0..n_heads {
            let at = head * dim;
            work.queries.clear();
            for row in work.qkv.chunks_exact(width) {
                work.queries.extend(row[at..at + dim].iter().map(|value| value * scale));
            }
            work.keys.set_transposed(dim, n, &work.qkv[hidden + at..], width);
            work.values.set(n, dim, &work.qkv[2 * hidden + at..], width);
            // Seen by all, the rows are heads of one token; else each is a token that sees one more.
            let (n_tokens, group, visible) = if causal { (n, 1, 1) } else { (1, n, n) };
            let queries = Queries { rows: &work.queries, n_tokens, group, dim, visible };
            let span = Span { keys: work.keys.right(), values: work.values.right() };
            attend(queries, &[span], &mut work.of_head, &mut work.scratch);
            for (to, from) in work.attended.chunks_exact_mut(hidden).zip(work.of_head.chunks_exact(dim)) {
                to[at..at + dim].copy_from_slice(from);
            }
        }
    }
}
