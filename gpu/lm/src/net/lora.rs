//! A low-rank adapter on a device: factors and the matrices they change, resident.

use burn::prelude::{Tensor, TensorData};

use super::{Net, Slice};
use crate::train::{Adapted, Lora};
use crate::weights::{Layout, Weights};

/// An adapter being trained on a device.
pub(super) struct NetAdapter {
    scale: f64,
    matrices: Vec<Matrix>,
    /// A and B of each matrix, `[rank, in]` and `[out, rank]`, matrix after matrix.
    pub(super) factors: Vec<Tensor<2>>,
}

/// An adapted matrix: some rows of a parameter.
struct Matrix {
    of: Adapted,
    param: usize,
    first_row: usize,
    /// As it was at the start.
    start: Tensor<2>,
}

impl NetAdapter {
    pub(super) fn new(lora: &Lora, net: &Net, layout: &Layout, seed: u64) -> Self {
        let (mut matrices, mut factors) = (Vec::new(), Vec::new());
        for of in lora.adapted(layout, seed) {
            let holds = |slice: &Slice| slice.at.contains(&of.at.start);
            let Some(param) = net.at.slices.iter().position(holds) else { continue };
            let first_row = (of.at.start - net.at.slices[param].at.start) / of.n_in;
            let start = net.params[param].clone().narrow(0, first_row, of.n_out);
            factors.push(Tensor::from_data(TensorData::new(of.start.clone(), [lora.rank, of.n_in]), &net.device));
            factors.push(Tensor::zeros([of.n_out, lora.rank], &net.device));
            matrices.push(Matrix { of, param, first_row, start });
        }
        Self { scale: lora.scale(), matrices, factors }
    }

    /// Whether a parameter changes.
    pub(super) fn learns(&self, param: usize) -> bool {
        self.matrices.iter().any(|matrix| matrix.param == param)
    }

    fn each(&self) -> impl Iterator<Item = (&Matrix, &Tensor<2>, &Tensor<2>)> {
        self.matrices.iter().zip(self.factors.chunks_exact(2)).map(|(matrix, pair)| (matrix, &pair[0], &pair[1]))
    }

    /// From the gradients of the parameters to those of the factors.
    pub(super) fn pull_back(&self, grads: &[Tensor<2>]) -> Vec<Tensor<2>> {
        let of_factors = |(matrix, a, b): (&Matrix, &Tensor<2>, &Tensor<2>)| {
            let grad = grads[matrix.param].clone().narrow(0, matrix.first_row, matrix.of.n_out).mul_scalar(self.scale);
            [b.clone().transpose().matmul(grad.clone()), grad.matmul(a.clone().transpose())]
        };
        self.each().flat_map(of_factors).collect()
    }

    /// Writes the matrices that the factors make.
    pub(super) fn merge(&self, params: &mut [Tensor<2>]) {
        for (Matrix { of, param, first_row, start }, a, b) in self.each() {
            let matrix = start.clone() + b.clone().matmul(a.clone()).mul_scalar(self.scale);
            let rows = *first_row..first_row + of.n_out;
            params[*param] = params[*param].clone().slice_assign([rows, 0..of.n_in], matrix);
        }
    }

    /// The adapted matrices of `now`, and of `start` all others: their bits are kept, whatever a device's copies do.
    pub(super) fn with_the_rest_of(&self, start: &Weights, now: &Weights) -> Weights {
        let mut data = start.data.to_vec();
        for Matrix { of, .. } in &self.matrices {
            data[of.at.clone()].copy_from_slice(&now.data[of.at.clone()]);
        }
        Weights::new(start.layout.clone(), data)
    }
}
