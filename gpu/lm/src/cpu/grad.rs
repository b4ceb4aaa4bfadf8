//! Gradients of the network, by hand.
//!
//! A [`Tape`] reads rows of tokens, gives the log-probabilities of chosen tokens, and then, given what a loss is to each
//! of those, adds the loss's gradient to every weight. The loss itself is not known here. Rows are ragged: nothing is
//! padded.

use std::ops::Range;
use std::sync::Arc;

use super::attention::{Backward, Queries, attend_backward};
use super::cache::Cache;
use super::gemm::{Left, Out, Panels, multiply};
use super::log_prob::{Passing, TOKENS};
use super::math;
use super::model::{Activations, Block, Model, Picked, Seq, Shape, Work, gather};
use super::readout::{Reading, Readout};
use crate::weights::Weights;

/// Tokens of one sequence whose attention is computed together.
const TILE: usize = 64;

/// A model that learns: its weights, in the panels that both directions need.
pub(crate) struct Learned {
    pub(crate) model: Model,
    blocks: Vec<ReverseBlock>,
    head: Panels,
}

/// One block's linear maps as right factors of gradients.
#[derive(Default)]
struct ReverseBlock {
    qkv: Panels,
    out: Panels,
    gate_up: Panels,
    down: Panels,
}

impl Learned {
    pub(crate) fn new(model: Model) -> Self {
        let blocks = model.blocks.iter().map(|_| ReverseBlock::default()).collect();
        let mut learned = Self { model, blocks, head: Panels::default() };
        learned.pack_reverse();
        learned
    }

    /// Its weights now.
    pub(crate) fn weights(&self) -> &Weights {
        &self.model.weights
    }

    /// Changes the weights in place.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut [f32])) {
        let data: &mut Vec<f32> = Arc::make_mut(&mut self.model.weights.data);
        change(data);
        self.model.repack();
        self.pack_reverse();
    }

    fn pack_reverse(&mut self) {
        let Shape { hidden, inner, vocab, .. } = self.model.shape;
        let (q, qkv) = (self.model.shape.q(), self.model.shape.qkv());
        let data = &self.model.weights.data;
        for (reverse, block) in self.blocks.iter_mut().zip(&self.model.blocks) {
            reverse.qkv.set(qkv, hidden, &data[block.at.qkv.clone()], hidden);
            reverse.out.set(hidden, q, &data[block.at.out.clone()], q);
            reverse.gate_up.set(2 * inner, hidden, &data[block.at.gate_up.clone()], hidden);
            reverse.down.set(hidden, inner, &data[block.at.down.clone()], inner);
        }
        self.head.set(vocab, hidden, &data[self.model.weights.layout.head.clone()], hidden);
    }
}

/// A token whose log-probability is asked for: `id`, after the token `after` (counted through all rows).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) after: usize,
    pub(crate) id: u32,
}

/// What the outputs a head last read are to a loss, and where the gradient of the head goes.
pub(crate) struct Reads<'a> {
    pub(crate) readout: &'a Readout,
    /// The tokens it read after, counted through all rows.
    pub(crate) after: &'a [usize],
    /// Derivative of the loss by each output, `[after.len() · outputs]`.
    pub(crate) slopes: &'a [f32],
    /// In the layout of the head's own parameters; added to.
    pub(crate) own: &'a mut [f32],
}

/// What one forward pass keeps for its backward pass; reused from step to step.
#[derive(Default)]
pub(crate) struct Tape {
    work: Work,
    acts: Vec<Activations>,
    caches: Vec<Cache>,
    reading: Reading,
    scratch: Scratch,
}

/// Scratch of the backward pass.
#[derive(Default)]
struct Scratch {
    grad_x: Vec<f32>,
    grad_normed: Vec<f32>,
    grad_act: Vec<f32>,
    grad_attended: Vec<f32>,
    grad_qkv: Vec<f32>,
    right: Panels,
    pack: Vec<f32>,
    passing: Passing,
    log_sums: Vec<f32>,
    picked_grad: Vec<f32>,
    queries: Vec<f32>,
    grad_out: Vec<f32>,
    attention: Backward,
}

impl Tape {
    /// Reads `rows`.
    pub(crate) fn forward(&mut self, learned: &Learned, rows: &[&[u32]]) {
        let model = &learned.model;
        self.caches.clear();
        self.caches.extend(rows.iter().map(|_| model.cache(None)));
        let mut seqs: Vec<Seq<'_>> = self.caches.iter_mut().zip(rows).map(|(cache, ids)| Seq { cache, ids }).collect();
        let tables = model.start(&seqs, &mut self.work);
        self.acts.resize_with(model.blocks.len(), Activations::default);
        for (idx, acts) in self.acts.iter_mut().enumerate() {
            acts.input.clone_from(&self.work.x);
            model.block(idx, &mut seqs, &tables, acts, &mut self.work);
        }
    }

    /// Log-probabilities of `targets`, in nats.
    pub(crate) fn log_probs(&mut self, learned: &Learned, targets: &[Target]) -> Vec<f32> {
        let mut log_probs = Vec::with_capacity(targets.len());
        self.scratch.log_sums.clear();
        for chunk in targets.chunks(TOKENS) {
            let ids = self.pick(learned, chunk);
            let Scratch { passing, pack, log_sums, .. } = &mut self.scratch;
            learned.model.pass(&ids, passing, pack, &mut log_probs, log_sums);
        }
        log_probs
    }

    /// Takes the residual stream before some targets; returns what they are.
    fn pick(&mut self, learned: &Learned, chunk: &[Target]) -> Vec<u32> {
        let after: Vec<usize> = chunk.iter().map(|target| target.after).collect();
        self.scratch.passing.picked.x = learned.model.stream(&after, &self.work);
        chunk.iter().map(|target| target.id).collect()
    }

    /// What `readout` gives after the tokens `after`, `[after.len() · outputs]`.
    pub(crate) fn outputs(&mut self, learned: &Learned, readout: &Readout, after: &[usize]) -> &[f32] {
        let rows = learned.model.stream(after, &self.work);
        readout.outputs(&learned.model, rows, &mut self.reading)
    }

    /// Adds the gradient of Σ slope · output to the head's own parameters, and to nothing else.
    pub(crate) fn backward_own(&mut self, readout: &Readout, slopes: &[f32], own: &mut [f32]) {
        readout.backward(slopes, &mut self.reading, own);
    }

    /// Adds to `grad` (in the weights' layout) the gradient of Σ slope · log-probability over the `targets` of the rows
    /// last read, those of the last [`Tape::log_probs`], and of Σ slope · output over what a head read of them. Consumes what [`Tape::forward`] kept.
    pub(crate) fn backward(
        &mut self,
        learned: &Learned,
        rows: &[&[u32]],
        targets: &[Target],
        slopes: &[f32],
        reads: Option<Reads<'_>>,
        grad: &mut [f32],
    ) {
        let model = &learned.model;
        self.scratch.grad_x.clear();
        self.scratch.grad_x.resize(self.work.x.len(), 0.0);
        for (at, chunk) in targets.chunks(TOKENS).enumerate() {
            let at = at * TOKENS..at * TOKENS + chunk.len();
            self.head_backward(learned, chunk, (at.clone(), &slopes[at]), grad);
        }
        if let Some(reads) = reads {
            self.read_backward(model, reads, grad);
        }
        let tables: Vec<&[f32]> =
            rows.iter().flat_map(|row| (0..row.len()).map(|position| model.rope.at(position))).collect();
        for idx in (0..model.blocks.len()).rev() {
            self.mlp_backward(learned, idx, grad);
            self.attention_backward(learned, idx, rows, &tables, grad);
        }
        let hidden = model.shape.hidden;
        let embed = &mut grad[model.weights.layout.embed.clone()];
        let ids = rows.iter().flat_map(|row| row.iter());
        for (id, grad_x) in ids.zip(self.scratch.grad_x.chunks_exact(hidden)) {
            math::add(&mut embed[*id as usize * hidden..][..hidden], grad_x);
        }
    }

    /// From slopes of log-probabilities to the residual stream; `at` is where the targets stand among all.
    fn head_backward(
        &mut self,
        learned: &Learned,
        chunk: &[Target],
        (at, slopes): (Range<usize>, &[f32]),
        grad: &mut [f32],
    ) {
        let model = &learned.model;
        let ids = self.pick(learned, chunk);
        let Scratch { passing, picked_grad, grad_x, log_sums, pack, .. } = &mut self.scratch;
        let grad_head = &mut grad[model.weights.layout.head.clone()];
        model.pass_back((&ids, slopes, &log_sums[at]), &learned.head, passing, pack, grad_head);
        let after = chunk.iter().map(|target| target.after);
        norm_backward(model, &passing.picked, &passing.grad_normed, after, picked_grad, grad_x, grad);
    }

    /// From slopes of a head's outputs to the residual stream, the final norm and the head.
    fn read_backward(&mut self, model: &Model, reads: Reads<'_>, grad: &mut [f32]) {
        let Reads { readout, after, slopes, own } = reads;
        let hidden = model.shape.hidden;
        let grad_normed = if let Some([plus, minus]) = readout.tokens() {
            let mut derived = vec![0.0; hidden];
            let grad_normed = readout.backward(slopes, &mut self.reading, &mut derived);
            math::add(&mut grad[plus.clone()], &derived);
            math::add_scaled(&mut grad[minus.clone()], &derived, -1.0);
            grad_normed
        } else {
            readout.backward(slopes, &mut self.reading, own)
        };
        let Scratch { picked_grad, grad_x, .. } = &mut self.scratch;
        let after = after.iter().copied();
        norm_backward(model, &self.reading.picked, &grad_normed, after, picked_grad, grad_x, grad);
    }

    fn mlp_backward(&mut self, learned: &Learned, idx: usize, grad: &mut [f32]) {
        let model = &learned.model;
        let Shape { hidden, inner, .. } = model.shape;
        let (block, reverse) = (&model.blocks[idx], &learned.blocks[idx]);
        let acts = &mut self.acts[idx];
        let Scratch { grad_x, grad_act, grad_normed, right, pack, .. } = &mut self.scratch;
        let m = grad_x.len() / hidden;
        grad_act.resize(m * inner, 0.0);
        let to = Out { data: grad_act, stride: inner, add: false };
        multiply(m, Left::Rows(grad_x, hidden), reverse.down.right(), to, pack);
        right.set(m, inner, &acts.act, inner);
        let to = Out { data: &mut grad[block.at.down.clone()], stride: inner, add: true };
        multiply(hidden, Left::Columns(grad_x, hidden), right.right(), to, pack);
        math::swiglu_backward(&mut acts.gate_up, inner, grad_act);
        grad_normed.resize(m * hidden, 0.0);
        let to = Out { data: grad_normed, stride: hidden, add: false };
        multiply(m, Left::Rows(&acts.gate_up, 2 * inner), reverse.gate_up.right(), to, pack);
        right.set(m, hidden, &acts.middle_normed, hidden);
        let to = Out { data: &mut grad[block.at.gate_up.clone()], stride: hidden, add: true };
        multiply(2 * inner, Left::Columns(&acts.gate_up, 2 * inner), right.right(), to, pack);
        let norm = &block.at.mlp_norm;
        let grad_norm = &mut grad[norm.clone()];
        math::rms_norm_backward(&acts.middle, model.slice(norm), &acts.middle_scales, grad_normed, grad_x, grad_norm);
    }

    fn attention_backward(
        &mut self,
        learned: &Learned,
        idx: usize,
        rows: &[&[u32]],
        tables: &[&[f32]],
        grad: &mut [f32],
    ) {
        let model = &learned.model;
        let Shape { hidden, n_heads, n_kv_heads, .. } = model.shape;
        let (q, width) = (model.shape.q(), model.shape.qkv());
        let (block, reverse) = (&model.blocks[idx], &learned.blocks[idx]);
        let m = self.scratch.grad_x.len() / hidden;
        let Scratch { grad_x, grad_attended, right, pack, .. } = &mut self.scratch;
        grad_attended.resize(m * q, 0.0);
        let to = Out { data: grad_attended, stride: q, add: false };
        multiply(m, Left::Rows(grad_x, hidden), reverse.out.right(), to, pack);
        right.set(m, q, &self.acts[idx].attended, q);
        let to = Out { data: &mut grad[block.at.out.clone()], stride: q, add: true };
        multiply(hidden, Left::Columns(grad_x, hidden), right.right(), to, pack);

        self.scratch.grad_qkv.resize(m * width, 0.0);
        let mut first = 0;
        for (row, ids) in rows.iter().enumerate() {
            for head in 0..n_kv_heads {
                self.head_attention_backward(&model.shape, idx, row, first..first + ids.len(), head);
            }
            first += ids.len();
        }
        let acts = &self.acts[idx];
        let Scratch { grad_x, grad_qkv, grad_normed, right, pack, .. } = &mut self.scratch;
        math::rotate(grad_qkv, width, n_heads + n_kv_heads, tables, true);
        add_bias_grad(block, grad_qkv, grad);
        let to = Out { data: grad_normed, stride: hidden, add: false };
        multiply(m, Left::Rows(grad_qkv, width), reverse.qkv.right(), to, pack);
        right.set(m, hidden, &acts.input_normed, hidden);
        let to = Out { data: &mut grad[block.at.qkv.clone()], stride: hidden, add: true };
        multiply(width, Left::Columns(grad_qkv, width), right.right(), to, pack);
        let norm = &block.at.attention_norm;
        let grad_norm = &mut grad[norm.clone()];
        math::rms_norm_backward(&acts.input, model.slice(norm), &acts.input_scales, grad_normed, grad_x, grad_norm);
    }

    /// Writes the gradient of queries, keys and values of one row of tokens, for one key-value head.
    fn head_attention_backward(
        &mut self,
        shape: &Shape,
        block: usize,
        row: usize,
        tokens: std::ops::Range<usize>,
        head: usize,
    ) {
        let (dim, group, q, kv, width) = (shape.dim, shape.group(), shape.q(), shape.kv(), shape.qkv());
        let n = tokens.len();
        let qkv = &self.acts[block].qkv[tokens.start * width..tokens.end * width];
        let Scratch { grad_qkv, grad_attended, queries, grad_out, attention, .. } = &mut self.scratch;
        let grad_qkv = &mut grad_qkv[tokens.start * width..tokens.end * width];
        let grad_attended = &grad_attended[tokens.start * q..tokens.end * q];
        let columns = head * group * dim..(head + 1) * group * dim;
        let (key_at, value_at) = (q + head * dim, q + kv + head * dim);
        attention.start(n, dim, &qkv[key_at..], &qkv[value_at..], width);
        let scale = 1.0 / (dim as f32).sqrt();
        for start in (0..n).step_by(TILE) {
            let tile = start..n.min(start + TILE);
            gather(&qkv[tile.start * width..tile.end * width], width, columns.clone(), queries);
            for value in queries.iter_mut() {
                *value *= scale;
            }
            gather(&grad_attended[tile.start * q..tile.end * q], q, columns.clone(), grad_out);
            let keys = self.caches[row].own.span(block, head, tile.end).keys;
            let queries = Queries { rows: queries, n_tokens: tile.len(), group, dim, visible: start + 1 };
            attend_backward(queries, keys, grad_out, attention);
            let to = grad_qkv[tile.start * width..tile.end * width].chunks_exact_mut(width);
            for (to, from) in to.zip(attention.queries.chunks_exact(group * dim)) {
                for (to, from) in to[columns.clone()].iter_mut().zip(from) {
                    *to = from * scale;
                }
            }
        }
        let heads = attention.keys.chunks_exact(dim).zip(attention.values.chunks_exact(dim));
        for (to, (key, value)) in grad_qkv.chunks_exact_mut(width).zip(heads) {
            to[key_at..][..dim].copy_from_slice(key);
            to[value_at..][..dim].copy_from_slice(value);
        }
    }
}

/// Through the final norm of picked rows: adds to `grad_x` at the tokens `after`, and to the norm's own gradient.
fn norm_backward(
    model: &Model,
    picked: &Picked,
    grad_normed: &[f32],
    after: impl Iterator<Item = usize>,
    picked_grad: &mut Vec<f32>,
    grad_x: &mut [f32],
    grad: &mut [f32],
) {
    let hidden = model.shape.hidden;
    picked_grad.clear();
    picked_grad.resize(picked.x.len(), 0.0);
    let norm = &model.weights.layout.norm;
    let grad_norm = &mut grad[norm.clone()];
    math::rms_norm_backward(&picked.x, model.slice(norm), &picked.scales, grad_normed, picked_grad, grad_norm);
    for (token, from) in after.zip(picked_grad.chunks_exact(hidden)) {
        math::add(&mut grad_x[token * hidden..][..hidden], from);
    }
}

fn add_bias_grad(block: &Block, grad_qkv: &[f32], grad: &mut [f32]) {
    if let Some(at) = &block.at.qkv_bias {
        let bias = &mut grad[at.clone()];
        for row in grad_qkv.chunks_exact(bias.len()) {
            math::add(bias, row);
        }
    }
}

#[cfg(test)]
mod tests;
