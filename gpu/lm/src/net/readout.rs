//! A reward head on a device.

use burn::prelude::{Device, Tensor, TensorData};
use burn::tensor::activation::relu;

use super::Net;
use crate::error::Result;
use crate::reward::Head;

/// A head whose parameters lie on a device.
#[derive(Clone)]
pub(super) struct Readout {
    pub(super) head: Head,
    /// Weight `[outputs, inputs]` and bias `[1, outputs]` of each linear map, first to last.
    pub(super) params: Vec<Tensor<2>>,
}

impl Readout {
    pub(super) fn new(head: &Head, device: &Device) -> Self {
        let upload = |slot: &crate::weights::Slot| {
            let columns = *slot.shape.last().unwrap_or(&1);
            let shape = [slot.at.len() / columns, columns];
            Tensor::from_data(TensorData::new(head.data[slot.at.clone()].to_vec(), shape), device)
        };
        Self { head: head.clone(), params: head.slots.iter().map(upload).collect() }
    }

    /// Outputs for rows of the final norm: `[rows, outputs]`. Two tokens give the difference of their logits.
    pub(super) fn outputs(&self, net: &Net, normed: Tensor<2>) -> Tensor<2> {
        if let Some(ids) = self.head.tokens() {
            let both = net.params[net.at.head].clone().select(0, net.ints(ids.map(|id| id as i32).to_vec()));
            let gap = both.clone().narrow(0, 0, 1) - both.narrow(0, 1, 1);
            return normed.matmul(gap.transpose());
        }
        let (maps, _) = self.params.as_chunks::<2>();
        let mut x = normed;
        for (idx, [weight, bias]) in maps.iter().enumerate() {
            if idx > 0 {
                x = relu(x);
            }
            x = x.matmul(weight.clone().transpose()) + bias.clone();
        }
        x
    }

    /// Reads the parameters back.
    pub(super) fn download(&self, net: &Net) -> Result<Head> {
        let mut data = vec![0.0; self.head.data.len()];
        for (slot, param) in self.head.slots.iter().zip(&self.params) {
            data[slot.at.clone()].copy_from_slice(&net.read(param.clone())?);
        }
        Ok(self.head.with_data(data))
    }
}
