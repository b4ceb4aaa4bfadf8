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
mod tests {
    use super::*;
    use crate::config::{Architecture, Config};
    use crate::reward::{Head, HeadKind};

    fn configs() -> [Config; 2] {
        let llama = Config {
            hidden_size: 24,
            intermediate_size: 40,
            n_layers: 2,
            n_heads: 2,
            n_kv_heads: 2,
            ..Config::tiny(30, 100)
        };
        let qwen = Config {
            architecture: Architecture::Qwen2,
            n_heads: 6,
            n_kv_heads: 3,
            head_dim: 4,
            tie_word_embeddings: true,
            ..llama.clone()
        };
        [Config { head_dim: 12, ..llama }, qwen]
    }

    /// How far the difference quotient moves the value: far above rounding, and well within the slope's reach.
    const RISE: f64 = 0.02;

    /// Weights with nothing at a special value: norms and biases differ from one and zero.
    fn weights(config: &Config) -> Weights {
        let Weights { layout, data } = Weights::init(config, 5);
        let noise = |at: usize| ((at as u32).wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5;
        let data = data.iter().enumerate().map(|(at, value)| value * 10.0 + noise(at) * 0.1).collect();
        Weights::new(layout, data)
    }

    fn rows() -> Vec<Vec<u32>> {
        [70, 1, 9, 33]
            .iter()
            .enumerate()
            .map(|(row, n)| (0..*n).map(|at| ((at * at + row * 5 + at) % 30) as u32).collect())
            .collect()
    }

    /// Every second token of every row, and a slope for each.
    fn targets(rows: &[Vec<u32>]) -> (Vec<Target>, Vec<f32>) {
        let mut targets = Vec::new();
        let mut first = 0;
        for row in rows {
            targets.extend((1..row.len()).step_by(2).map(|at| Target { after: first + at - 1, id: row[at] }));
            first += row.len();
        }
        let slopes = (0..targets.len()).map(|at| (at as f32 * 0.7).sin()).collect();
        (targets, slopes)
    }

    /// Every third token of every row, the last of the first row among them, and a slope for each of `k` outputs.
    fn reads(rows: &[Vec<u32>], k: usize) -> (Vec<usize>, Vec<f32>) {
        let n: usize = rows.iter().map(Vec::len).sum();
        let after: Vec<usize> = (0..n).step_by(3).collect();
        let slopes = (0..after.len() * k).map(|at| (at as f32 * 1.3).cos()).collect();
        (after, slopes)
    }

    /// One head of each kind; none of the parameters is special.
    fn heads(config: &Config) -> [Head; 3] {
        let outputs = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let kinds = [
            HeadKind::Linear { outputs: outputs.clone() },
            HeadKind::Mlp { hidden: 37, outputs },
            HeadKind::TwoToken { plus: 7, minus: 3 },
        ];
        kinds.map(|kind| {
            let head = Head::init(kind, config, 9).expect("fits");
            let data = head.data.iter().enumerate().map(|(at, value)| value + (at as f32 * 0.9).sin() * 0.1).collect();
            head.with_data(data)
        })
    }

    /// Σ slope · log-probability + Σ slope · output.
    fn value(learned: &Learned, readout: Option<&Readout>, tape: &mut Tape) -> f64 {
        let rows = rows();
        let (targets, slopes) = targets(&rows);
        let slices: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        tape.forward(learned, &slices);
        let log_probs = tape.log_probs(learned, &targets);
        let sum = |slopes: &[f32], values: &[f32]| -> f64 {
            assert_eq!(slopes.len(), values.len());
            slopes.iter().zip(values).map(|(slope, value)| f64::from(*slope) * f64::from(*value)).sum()
        };
        let mut value = sum(&slopes, &log_probs);
        if let Some(readout) = readout {
            let (after, slopes) = reads(&rows, readout.n_outputs());
            value += sum(&slopes, tape.outputs(learned, readout, &after));
        }
        value
    }

    /// Of the trunk and of the head.
    fn gradient(learned: &Learned, readout: Option<&Readout>, tape: &mut Tape) -> (Vec<f32>, Vec<f32>) {
        let rows = rows();
        let (targets, slopes) = targets(&rows);
        let slices: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        value(learned, readout, tape);
        let mut grad = vec![0.0; learned.weights().layout.len];
        let mut own = vec![0.0; readout.map_or(0, |readout| readout.data().len())];
        let (after, output_slopes) = reads(&rows, readout.map_or(0, Readout::n_outputs));
        let reads = readout.map(|readout| Reads { readout, after: &after, slopes: &output_slopes, own: &mut own });
        tape.backward(learned, &slices, &targets, &slopes, reads, &mut grad);
        (grad, own)
    }

    /// Steps along a tensor's own gradient, `part`: there the value rises by the gradient's norm a unit, a step of `RISE`.
    fn check_rise(name: &str, part: &[f32], mut after: impl FnMut(f64) -> f64) {
        let norm = part.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 1e-3, "{name}: {norm}");
        let scale = RISE / (norm * norm);
        let (up, down) = (after(scale), after(-2.0 * scale));
        after(scale);
        let rise = (up - down) / 2.0;
        // The kinks of a rectifier are within the step.
        assert!((rise / RISE - 1.0).abs() < 0.02, "{name}: {rise}");
    }

    fn step(data: &mut [f32], part: &[f32], by: f64) {
        data.iter_mut().zip(part).for_each(|(value, g)| *value += (by * f64::from(*g)) as f32);
    }

    #[test]
    fn the_gradient_of_every_tensor_is_the_difference_quotient_along_it() {
        for config in configs() {
            for head in heads(&config).iter().map(Some).chain([None]) {
                let mut learned = Learned::new(Model::new(&config, &weights(&config)));
                let mut readout = head.map(|head| Readout::new(head, &learned.model));
                let mut tape = Tape::default();
                let (grad, own) = gradient(&learned, readout.as_ref(), &mut tape);
                let layout = learned.weights().layout.clone();
                for slot in &layout.slots {
                    let part = &grad[slot.at.clone()];
                    check_rise(&slot.name, part, |by| {
                        learned.update(|data| step(&mut data[slot.at.clone()], part, by));
                        if let Some(readout) = &mut readout {
                            readout.repack(&learned.model);
                        }
                        value(&learned, readout.as_ref(), &mut tape)
                    });
                }
                let (Some(head), Some(readout)) = (head, &mut readout) else {
                    continue;
                };
                for slot in head.slots.iter() {
                    let part = &own[slot.at.clone()];
                    check_rise(&slot.name, part, |by| {
                        readout.update(|data| step(&mut data[slot.at.clone()], part, by));
                        readout.repack(&learned.model);
                        value(&learned, Some(readout), &mut tape)
                    });
                }
            }
        }
    }

    #[test]
    fn a_head_of_two_tokens_gives_the_difference_of_their_logits_and_a_frozen_trunk_the_same_gradient_of_the_head() {
        for config in configs() {
            let learned = Learned::new(Model::new(&config, &weights(&config)));
            let (mut tape, rows) = (Tape::default(), rows());
            let slices: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
            for head in heads(&config) {
                let readout = Readout::new(&head, &learned.model);
                let (after, slopes) = reads(&rows, readout.n_outputs());
                tape.forward(&learned, &slices);
                let outputs = tape.outputs(&learned, &readout, &after).to_vec();
                let mut own = vec![0.0; readout.data().len()];
                if let Some([plus, minus]) = head.tokens() {
                    let mut logits = Vec::new();
                    learned.model.logits(&after, &mut tape.work, &mut logits);
                    for (output, logits) in outputs.iter().zip(logits.chunks_exact(30)) {
                        assert!((output - (logits[plus as usize] - logits[minus as usize])).abs() < 1e-4);
                    }
                } else {
                    tape.backward_own(&readout, &slopes, &mut own);
                    assert_eq!(own, gradient(&learned, Some(&readout), &mut tape).1);
                }
            }
        }
    }

    #[test]
    fn rows_do_not_feel_each_other() {
        for config in configs() {
            let learned = Learned::new(Model::new(&config, &weights(&config)));
            let mut tape = Tape::default();
            let (targets_of_all, _) = targets(&rows());
            let all = rows();
            tape.forward(&learned, &all.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let together = tape.log_probs(&learned, &targets_of_all);
            let mut alone = Vec::new();
            for row in rows() {
                let (targets, _) = targets(std::slice::from_ref(&row));
                tape.forward(&learned, &[&row]);
                alone.extend(tape.log_probs(&learned, &targets));
            }
            assert_eq!(together, alone);
        }
    }

    #[test]
    fn a_used_tape_gives_the_bits_of_a_new_one() {
        let [config, _] = configs();
        let learned = Learned::new(Model::new(&config, &weights(&config)));
        let mut tape = Tape::default();
        tape.forward(&learned, &[&[1; 99], &[2; 50]]);
        let [_, head, _] = heads(&config);
        let readout = Readout::new(&head, &learned.model);
        tape.outputs(&learned, &readout, &[0, 100, 5]);
        let used = gradient(&learned, Some(&readout), &mut tape);
        assert_eq!(used, gradient(&learned, Some(&readout), &mut Tape::default()));
    }
}
