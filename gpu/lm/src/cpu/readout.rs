//! A reward head on the CPU: linear maps with a rectifier between them on the final norm of given tokens, and their gradients.
//!
//! A head of two tokens is one linear map whose weights are the difference of two rows of the language head, so that its
//! output is the difference of the two logits and no other logit is computed.

use std::ops::Range;

use super::gemm::{Left, Out, Panels, multiply};
use super::math;
use super::model::{Model, Picked, Shape};
use crate::reward::Head;

/// A head ready to run.
pub(crate) struct Readout {
    layers: Vec<Layer>,
    /// Its parameters in their layout; for two tokens the derived `[hidden]`.
    data: Vec<f32>,
    tokens: Option<[Range<usize>; 2]>,
}

/// One linear map in panels for both directions.
struct Layer {
    inputs: usize,
    outputs: usize,
    weight: Range<usize>,
    bias: Option<Range<usize>>,
    forward: Panels,
    reverse: Panels,
}

/// What one reading keeps for its backward pass; reused.
#[derive(Default)]
pub(crate) struct Reading {
    pub(super) picked: Picked,
    /// What each map gave, after the rectifier where one follows.
    acts: Vec<Vec<f32>>,
    right: Panels,
    pack: Vec<f32>,
}

impl Readout {
    pub(crate) fn new(head: &Head, model: &Model) -> Self {
        let Shape { hidden, .. } = model.shape;
        let layer = |[outputs, inputs]: [usize; 2], weight, bias| Layer {
            inputs,
            outputs,
            weight,
            bias,
            forward: Panels::default(),
            reverse: Panels::default(),
        };
        let tokens = head.tokens().map(|ids| {
            let first = model.weights.layout.head.start;
            ids.map(|id| first + id as usize * hidden..first + (id as usize + 1) * hidden)
        });
        let (layers, data) = if tokens.is_some() {
            (vec![layer([1, hidden], 0..hidden, None)], vec![0.0; hidden])
        } else {
            let layers = head.layers().into_iter().map(|at| layer(at.shape, at.weight, Some(at.bias)));
            (layers.collect(), head.data.to_vec())
        };
        let mut readout = Self { layers, data, tokens };
        readout.repack(model);
        readout
    }

    /// How many numbers it gives at a token.
    #[cfg(test)]
    pub(super) fn n_outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.outputs)
    }

    /// Its own parameters now; none for two tokens.
    pub(crate) fn data(&self) -> &[f32] {
        if self.tokens.is_some() { &[] } else { &self.data }
    }

    /// Changes its own parameters in place.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut [f32])) {
        if self.tokens.is_none() {
            change(&mut self.data);
        }
    }

    /// Packs the weights anew after they, or the trunk's, were changed.
    pub(crate) fn repack(&mut self, model: &Model) {
        if let Some([plus, minus]) = &self.tokens {
            let both = model.slice(plus).iter().zip(model.slice(minus));
            self.data.iter_mut().zip(both).for_each(|(to, (plus, minus))| *to = plus - minus);
        }
        for Layer { inputs, outputs, weight, forward, reverse, .. } in &mut self.layers {
            let data = &self.data[weight.clone()];
            forward.set_transposed(*inputs, *outputs, data, *inputs);
            reverse.set(*outputs, *inputs, data, *inputs);
        }
    }

    /// Outputs after rows of the residual stream: `[rows, outputs]`, row-major.
    pub(crate) fn outputs<'r>(&self, model: &Model, rows: Vec<f32>, reading: &'r mut Reading) -> &'r [f32] {
        let Reading { picked, acts, pack, .. } = reading;
        picked.x = rows;
        model.norm_picked(picked);
        let n = picked.scales.len();
        acts.resize_with(self.layers.len(), Vec::new);
        for (idx, layer) in self.layers.iter().enumerate() {
            let (before, from) = acts.split_at_mut(idx);
            let (input, out) = (before.last().unwrap_or(&picked.normed), &mut from[0]);
            out.resize(n * layer.outputs, 0.0);
            if let Some(bias) = &layer.bias {
                out.chunks_exact_mut(layer.outputs).for_each(|row| row.copy_from_slice(&self.data[bias.clone()]));
            }
            let to = Out { data: out, stride: layer.outputs, add: layer.bias.is_some() };
            multiply(n, Left::Rows(input, layer.inputs), layer.forward.right(), to, pack);
            if idx + 1 < self.layers.len() {
                // A number that is not one stays so.
                out.iter_mut().filter(|value| **value < 0.0).for_each(|value| *value = 0.0);
            }
        }
        acts.last().map_or(&[], Vec::as_slice)
    }

    /// From slopes of the outputs last read to the residual stream. Adds to `own` the gradient of its parameters (for two
    /// tokens, of the derived ones), and returns that of the normed rows.
    pub(super) fn backward(&self, slopes: &[f32], reading: &mut Reading, own: &mut [f32]) -> Vec<f32> {
        let Reading { picked, acts, right, pack, .. } = reading;
        let n = picked.scales.len();
        let mut grad_out = slopes.to_vec();
        for (idx, layer) in self.layers.iter().enumerate().rev() {
            let Layer { inputs, outputs, .. } = *layer;
            let input = idx.checked_sub(1).map_or(&picked.normed, |before| &acts[before]);
            right.set(n, inputs, input, inputs);
            let to = Out { data: &mut own[layer.weight.clone()], stride: inputs, add: true };
            multiply(outputs, Left::Columns(&grad_out, outputs), right.right(), to, pack);
            if let Some(bias) = &layer.bias {
                grad_out.chunks_exact(outputs).for_each(|row| math::add(&mut own[bias.clone()], row));
            }
            let mut grad_in = vec![0.0; n * inputs];
            let to = Out { data: &mut grad_in, stride: inputs, add: false };
            multiply(n, Left::Rows(&grad_out, outputs), layer.reverse.right(), to, pack);
            if idx > 0 {
                let dead = grad_in.iter_mut().zip(input).filter(|(_, act)| **act == 0.0);
                dead.for_each(|(grad, _)| *grad = 0.0);
            }
            grad_out = grad_in;
        }
        grad_out
    }

    /// Where the two tokens lie in the trunk's weights, plus first.
    pub(super) fn tokens(&self) -> Option<&[Range<usize>; 2]> {
        self.tokens.as_ref()
    }
}
