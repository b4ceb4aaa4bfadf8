//! Log-probabilities of given tokens on a device, without the logits of the whole vocabulary.
//!
//! The vocabulary passes by in blocks of ids whose logits for all tokens are at most [`CELLS`] numbers, with a running
//! sum of exponentials; the gradient is written in closed form and recomputes each block's logits.

use burn::prelude::{Int, Tensor, TensorData};
use burn::tensor::IndexingUpdateOp;

use super::Net;

/// Logits held at once.
const CELLS: usize = 1 << 22;

/// Fewest ids of a block: more tokens than `CELLS / LEAST` hold more logits.
const LEAST: usize = 256;

/// Log-probabilities of labels, `[n]`, and the logarithms of the sums they are shares of, `[n, 1]`.
pub(super) struct Labelled {
    pub(super) log_probs: Tensor<1>,
    log_sums: Tensor<2>,
}

/// Ids `start..start + len`.
struct Block {
    start: usize,
    len: usize,
}

fn blocks(n: usize, vocab: usize, cells: usize) -> impl Iterator<Item = Block> {
    let most = (cells / n.max(1)).clamp(LEAST.min(vocab), vocab);
    (0..vocab).step_by(most).map(move |start| Block { start, len: most.min(vocab - start) })
}

impl Net {
    /// Log-probabilities of `labels`, given the final norm before each, `[n, hidden]`; n ≥ 1. Follows no gradient.
    pub(super) fn label_log_probs(&self, before: &Tensor<2>, labels: &[i32]) -> Labelled {
        self.label_log_probs_by(before, labels, CELLS)
    }

    /// With at most `cells` logits at once.
    pub(super) fn label_log_probs_by(&self, before: &Tensor<2>, labels: &[i32], cells: usize) -> Labelled {
        let n = labels.len();
        let head = &self.params[self.at.head];
        // As small as a number can be, which no logit is.
        let mut max = Tensor::<2>::full([n, 1], f32::MIN, &self.device);
        let mut sum = max.zeros_like();
        let mut of_labels = max.zeros_like();
        for block in blocks(n, head.dims()[0], cells) {
            let weights = head.clone().narrow(0, block.start, block.len);
            let logits = before.clone().matmul(weights.transpose());
            let (places, inside) = self.places(labels, &block);
            of_labels = of_labels + logits.clone().gather(1, places) * inside;
            let top = max.clone().max_pair(logits.clone().max_dim(1));
            sum = sum * (max - top.clone()).exp() + (logits - top.clone()).exp().sum_dim(1);
            max = top;
        }
        let log_sums = max + sum.log();
        Labelled { log_probs: (of_labels - log_sums.clone()).reshape([n]), log_sums }
    }

    /// The gradient of Σ slope · log-probability by `before`, `[n, hidden]`, and by the language head,
    /// `[vocabulary, hidden]`.
    pub(super) fn label_gradients(
        &self,
        before: &Tensor<2>,
        labels: &[i32],
        labelled: &Labelled,
        slopes: &[f32],
    ) -> (Tensor<2>, Tensor<2>) {
        self.label_gradients_by(before, labels, labelled, slopes, CELLS)
    }

    /// With at most `cells` logits at once.
    pub(super) fn label_gradients_by(
        &self,
        before: &Tensor<2>,
        labels: &[i32],
        labelled: &Labelled,
        slopes: &[f32],
        cells: usize,
    ) -> (Tensor<2>, Tensor<2>) {
        let n = labels.len();
        let head = &self.params[self.at.head];
        let slopes = Tensor::<2>::from_data(TensorData::new(slopes.to_vec(), [n, 1]), &self.device);
        let mut of_before = before.zeros_like();
        let mut of_head = Vec::new();
        for block in blocks(n, head.dims()[0], cells) {
            let weights = head.clone().narrow(0, block.start, block.len);
            let logits = before.clone().matmul(weights.clone().transpose());
            let shares = (logits - labelled.log_sums.clone()).exp() * slopes.clone().neg();
            let (places, inside) = self.places(labels, &block);
            let slopes = shares.scatter(1, places, slopes.clone() * inside, IndexingUpdateOp::Add);
            of_before = of_before + slopes.clone().matmul(weights);
            of_head.push(slopes.transpose().matmul(before.clone()));
        }
        (of_before, Tensor::cat(of_head, 0))
    }

    /// Where each label lies in a block (0 where it does not), and 1 where it does, `[n, 1]`.
    fn places(&self, labels: &[i32], block: &Block) -> (Tensor<2, Int>, Tensor<2>) {
        let n = labels.len();
        let place = |label: &i32| usize::try_from(*label).ok()?.checked_sub(block.start).filter(|at| *at < block.len);
        let at: Vec<i32> = labels.iter().map(|label| place(label).unwrap_or(0) as i32).collect();
        let inside: Vec<f32> = labels.iter().map(|label| f32::from(u8::from(place(label).is_some()))).collect();
        let inside = Tensor::from_data(TensorData::new(inside, [n, 1]), &self.device);
        (self.ints(at).reshape([n, 1]), inside)
    }
}
