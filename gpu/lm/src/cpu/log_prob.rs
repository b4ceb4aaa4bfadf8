//! Log-probabilities of given tokens, without the logits of the whole vocabulary: those of [`TOKENS`] tokens by
//! [`BLOCK`] ids exist at a time, forward and backward.
//!
//! Every number is what the whole rows would give: a logit does not depend on the block it is computed in, the sum over
//! the vocabulary is by definition one over its blocks in order, and products continue their chains from block to block.

use std::ops::Range;

use super::gemm::{Left, Out, Panels, multiply};
use super::math::{self, BLOCK, LogSum};
use super::model::{Model, Picked, Shape, Work};

/// Predicted tokens whose logits are computed together.
pub(super) const TOKENS: usize = 256;

/// What is kept while the vocabulary passes by; reused.
#[derive(Default)]
pub(super) struct Passing {
    pub(super) picked: Picked,
    pub(super) grad_normed: Vec<f32>,
    logits: Vec<f32>,
    sums: Vec<LogSum>,
    right: Panels,
}

/// The vocabulary's blocks.
fn blocks(vocab: usize) -> impl Iterator<Item = Range<usize>> {
    (0..vocab).step_by(BLOCK).map(move |start| start..vocab.min(start + BLOCK))
}

impl Model {
    /// ln p of each of `ids` after its row of the residual stream, `[ids.len(), hidden]`, in nats. Not finite where the
    /// model's logits are not.
    pub(crate) fn log_probs(&self, rows: &[f32], ids: &[u32], work: &mut Work) -> Vec<f32> {
        let mut passing = std::mem::take(&mut work.passing);
        let (mut log_probs, mut log_sums) = (Vec::with_capacity(ids.len()), Vec::new());
        for (rows, ids) in rows.chunks(TOKENS * self.shape.hidden).zip(ids.chunks(TOKENS)) {
            passing.picked.x.clear();
            passing.picked.x.extend_from_slice(rows);
            self.pass(ids, &mut passing, &mut work.pack, &mut log_probs, &mut log_sums);
        }
        work.passing = passing;
        log_probs
    }

    /// Appends the log-probabilities of `ids` after the rows in `passing.picked.x`, and the logarithms of the sums they
    /// are shares of.
    pub(super) fn pass(
        &self,
        ids: &[u32],
        passing: &mut Passing,
        pack: &mut Vec<f32>,
        log_probs: &mut Vec<f32>,
        log_sums: &mut Vec<f32>,
    ) {
        let (n, first) = (ids.len(), log_probs.len());
        self.norm_picked(&mut passing.picked);
        passing.sums.clear();
        passing.sums.resize(n, LogSum::default());
        log_probs.resize(first + n, 0.0);
        let log_probs = &mut log_probs[first..];
        for block in blocks(self.shape.vocab) {
            self.block_logits(&block, passing, pack);
            let rows = passing.logits.chunks_exact(block.len()).zip(ids).zip(&mut passing.sums);
            for (((logits, id), sum), log_prob) in rows.zip(log_probs.iter_mut()) {
                *sum = math::log_sum_add(*sum, logits);
                if block.contains(&(*id as usize)) {
                    *log_prob = logits[*id as usize - block.start];
                }
            }
        }
        for (log_prob, sum) in log_probs.iter_mut().zip(&passing.sums) {
            *log_prob -= sum.ln();
            log_sums.push(sum.ln());
        }
    }

    /// From slopes of the log-probabilities of `ids` after the rows in `passing.picked.x`: adds to `grad_head` its gradient,
    /// sets `passing.grad_normed` to that of the normed rows. `log_sums` are those of [`Model::pass`], `reverse` the head as
    /// a right factor.
    pub(super) fn pass_back(
        &self,
        (ids, slopes, log_sums): (&[u32], &[f32], &[f32]),
        reverse: &Panels,
        passing: &mut Passing,
        pack: &mut Vec<f32>,
        grad_head: &mut [f32],
    ) {
        let Shape { hidden, vocab, .. } = self.shape;
        let n = ids.len();
        self.norm_picked(&mut passing.picked);
        passing.grad_normed.resize(n * hidden, 0.0);
        for block in blocks(vocab) {
            self.block_logits(&block, passing, pack);
            let Passing { picked, grad_normed, logits, right, .. } = passing;
            let width = block.len();
            let rows = logits.chunks_exact_mut(width).zip(ids).zip(slopes).zip(log_sums);
            for (((logits, id), slope), log_sum) in rows {
                math::scaled_softmax(logits, *log_sum, -slope);
                if block.contains(&(*id as usize)) {
                    logits[*id as usize - block.start] += slope;
                }
            }
            let to = Out { data: grad_normed, stride: hidden, add: block.start > 0 };
            multiply(n, Left::Rows(logits, width), reverse.rows(&block), to, pack);
            right.set(n, hidden, &picked.normed, hidden);
            let to = Out { data: &mut grad_head[block.start * hidden..block.end * hidden], stride: hidden, add: true };
            multiply(width, Left::Columns(logits, width), right.right(), to, pack);
        }
    }

    fn block_logits(&self, block: &Range<usize>, passing: &mut Passing, pack: &mut Vec<f32>) {
        let Passing { picked, logits, .. } = passing;
        let n = picked.scales.len();
        logits.resize(n * block.len(), 0.0);
        let to = Out { data: logits, stride: block.len(), add: false };
        multiply(n, Left::Rows(&picked.normed, self.shape.hidden), self.head.columns(block), to, pack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::weights::Weights;

    /// Ids in every block, the first and the last among them.
    const IDS: [u32; 5] = [0, 4095, 4096, 8191, 8299];

    fn model() -> Model {
        let config = Config {
            hidden_size: 16,
            intermediate_size: 16,
            n_layers: 1,
            n_heads: 1,
            n_kv_heads: 1,
            head_dim: 16,
            ..Config::tiny(8300, 8)
        };
        let Weights { layout, data } = Weights::init(&config, 5);
        let spread = data.iter().map(|value| if *value == 1.0 { 1.0 } else { value * 30.0 }).collect();
        Model::new(&config, &Weights::new(layout, spread))
    }

    fn rows(n: usize) -> Vec<f32> {
        (0..n * 16).map(|at| (at as f32 * 0.37).sin()).collect()
    }

    #[test]
    fn block_by_block_they_are_the_bits_of_the_whole_rows() {
        let model = model();
        let n = TOKENS + 3;
        let ids: Vec<u32> = (0..n).map(|at| IDS[at % 5]).collect();
        let rows = rows(n);
        let got = model.log_probs(&rows, &ids, &mut Work::default());
        let (mut picked, mut logits) = (Picked::default(), Vec::new());
        let all: Vec<usize> = (0..n).collect();
        model.logits_of(&all, &rows, &mut picked, &mut logits, &mut Vec::new());
        assert_eq!(got.len(), n);
        for ((logits, id), got) in logits.chunks_exact(8300).zip(&ids).zip(got) {
            assert_eq!(got.to_bits(), (logits[*id as usize] - math::log_sum_exp(logits)).to_bits());
        }
    }

    #[test]
    fn the_gradient_is_the_closed_form_of_the_whole_rows() {
        let model = model();
        let n = IDS.len();
        let slopes: Vec<f32> = (0..n).map(|at| (at as f32 * 1.3).cos()).collect();
        let mut passing = Passing::default();
        passing.picked.x = rows(n);
        let (mut log_probs, mut log_sums) = (Vec::new(), Vec::new());
        model.pass(&IDS, &mut passing, &mut Vec::new(), &mut log_probs, &mut log_sums);
        let head = model.slice(&model.weights.layout.head);
        let mut reverse = Panels::default();
        reverse.set(8300, 16, head, 16);
        let mut grad_head = vec![0.0; 8300 * 16];
        model.pass_back((&IDS, &slopes, &log_sums), &reverse, &mut passing, &mut Vec::new(), &mut grad_head);
        let normed = |row: usize, at: usize| f64::from(passing.picked.normed[row * 16 + at]);
        let mut want_head = vec![0.0f64; 8300 * 16];
        for row in 0..n {
            let weights = |id: usize| head[id * 16..][..16].iter().map(|value| f64::from(*value)).enumerate();
            let logits: Vec<f64> =
                (0..8300).map(|id| weights(id).map(|(at, weight)| normed(row, at) * weight).sum()).collect();
            let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
            let mut want = [0.0f64; 16];
            for (id, logit) in logits.iter().enumerate() {
                let slope =
                    f64::from(slopes[row]) * (f64::from(u8::from(id == IDS[row] as usize)) - logit.exp() / total);
                for (at, weight) in weights(id) {
                    want[at] += slope * weight;
                    want_head[id * 16 + at] += slope * normed(row, at);
                }
            }
            for (want, got) in want.iter().zip(&passing.grad_normed[row * 16..]) {
                assert!((want - f64::from(*got)).abs() < 1e-4 * (1.0 + want.abs()), "{row}: {got} and {want}");
            }
        }
        let far =
            want_head.iter().zip(&grad_head).map(|(want, got)| (want - f64::from(*got)).abs()).fold(0.0, f64::max);
        assert!(far < 1e-5, "{far}");
    }
}
