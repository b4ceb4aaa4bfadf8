//! Learning on a device: burn's automatic differentiation, weights and moments resident.

use std::sync::Arc;

use burn::prelude::{Tensor, TensorData};

use super::lora::NetAdapter;
use super::readout::Readout;
use super::{Net, Picked, Slice, guard};
use crate::error::Result;
use crate::lm::Lm;
use crate::reward::Head;
use crate::train::{
    Anchor, Gradient, Learner, Objective, Reader, Row, Seen, Training, Trunk, Unit, Update, add_figures,
};
use crate::weights::Slot;

/// A model being trained on a device.
pub(crate) struct NetLearner {
    lm: Lm,
    net: Net,
    anchor: Anchor,
    /// The parameters at the start, where they are held to them.
    start: Vec<Tensor<2>>,
    /// What is trained instead of the parameters.
    adapter: Option<NetAdapter>,
    /// By parameter or, once it is whole, by what is trained; so are the moments.
    grad: Vec<Tensor<2>>,
    first: Vec<Tensor<2>>,
    second: Vec<Tensor<2>>,
    reading: Option<ReadoutLearner>,
}

/// A head being trained on a device.
struct ReadoutLearner {
    trunk: Trunk,
    readout: Readout,
    grad: Vec<Tensor<2>>,
    first: Vec<Tensor<2>>,
    second: Vec<Tensor<2>>,
}

impl NetLearner {
    pub(crate) fn new(lm: &Lm, net: &Net, training: &Training) -> Self {
        let anchor = training.anchor;
        let start = if anchor == Anchor::None { Vec::new() } else { net.params.clone() };
        let adapter = training.adapter.as_ref();
        let adapter = adapter.map(|lora| NetAdapter::new(lora, net, &lm.weights().layout, training.seed));
        let (grad, first, second) = (Vec::new(), Vec::new(), Vec::new());
        Self { lm: lm.clone(), net: net.clone(), anchor, start, adapter, grad, first, second, reading: None }
    }

    /// The same with a head.
    pub(crate) fn with(mut self, reader: Option<&Reader>) -> Result<Self> {
        if let Some(Reader { head, trunk }) = reader {
            let readout = guard(&self.net.name, || Ok(Readout::new(head, &self.net.device)))?;
            let (grad, first, second) = (Vec::new(), Vec::new(), Vec::new());
            self.reading = Some(ReadoutLearner { trunk: *trunk, readout, grad, first, second });
        }
        Ok(self)
    }

    fn is_frozen(&self) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.trunk == Trunk::Frozen)
    }

    /// Adds the gradient of what holds the parameters to their start.
    fn hold(&mut self) {
        for ((grad, param), start) in self.grad.iter_mut().zip(&self.net.params).zip(&self.start) {
            let gap = param.clone() - start.clone();
            let slope = match self.anchor {
                Anchor::None => continue,
                Anchor::L1(lambda) => gap.sign().mul_scalar(lambda),
                Anchor::L2(lambda) => gap.mul_scalar(2.0 * lambda),
            };
            *grad = grad.clone() + slope;
        }
    }

    /// ⟨the last gradient, to − from⟩ of each tensor, summed on the device.
    pub(crate) fn along(&self, [from, to]: [&Net; 2]) -> Result<Vec<f64>> {
        let sum = |slot: &Slot| {
            let holds = |slice: &Slice| slice.at.start <= slot.at.start && slot.at.end <= slice.at.end;
            let idx = self.net.at.slices.iter().position(holds)?;
            let Slice { at, shape: [n_rows, n_columns], .. } = &self.net.at.slices[idx];
            let first = slot.at.start - at.start;
            // Of a fused map a tensor is some rows; of a fused vector, which is one row, some columns.
            let [rows, columns] = match n_rows {
                1 => [0..1, first..first + slot.at.len()],
                _ => [first / n_columns..(first + slot.at.len()) / n_columns, 0..*n_columns],
            };
            let part = |tensor: &Tensor<2>| tensor.clone().slice([rows.clone(), columns.clone()]);
            Some((part(&self.grad[idx]) * (part(&to.params[idx]) - part(&from.params[idx]))).sum())
        };
        guard(&self.net.name, || {
            let sums = self.lm.weights().layout.slots.iter().filter_map(sum).collect();
            Ok(self.net.read(Tensor::cat(sums, 0))?.into_iter().map(f64::from).collect())
        })
    }

    /// One part's loss and figures; its gradient is added to those before.
    fn part(&mut self, objective: &Objective, units: &[&Unit], weight: f64) -> Result<Gradient> {
        let mut net = self.net.clone();
        if !self.is_frozen() {
            let learns = |idx| self.adapter.as_ref().is_none_or(|adapter| adapter.learns(idx));
            let tracked = |(idx, param): (usize, Tensor<2>)| {
                if learns(idx) { param.autodiff().require_grad() } else { param.autodiff() }
            };
            net.params = net.params.into_iter().enumerate().map(tracked).collect();
        }
        let readout = self.reading.as_ref().map(|ReadoutLearner { readout, .. }| {
            let params = tracked(readout.params.clone());
            Readout { params, ..readout.clone() }
        });
        let rows: Vec<&Row> = units.iter().flat_map(|unit| &unit.rows).collect();
        let Picked { before, labels, reads } = net.picked(&rows);
        let labelled = before.as_ref().map(|before| self.net.label_log_probs(&before.clone().inner(), &labels));
        let outputs = readout.as_ref().zip(reads).map(|(readout, reads)| {
            let outputs = readout.outputs(&net, reads);
            let [n, k] = outputs.dims();
            outputs.reshape([n * k])
        });
        let read = |tensor: Option<Tensor<1>>| tensor.map_or(Ok(Vec::new()), |tensor| net.read(tensor));
        let seen_log_probs = read(labelled.as_ref().map(|labelled| labelled.log_probs.clone()))?;
        let seen_outputs = read(outputs.as_ref().map(|outputs| outputs.clone().inner()))?;
        let k = readout.as_ref().map_or(0, |readout| readout.head.n_outputs());
        let mut part = Gradient::default();
        let mut slopes = Vec::with_capacity(seen_log_probs.len());
        let mut output_slopes = Vec::with_capacity(seen_outputs.len());
        for unit in units {
            let seen = Seen {
                log_probs: &seen_log_probs[slopes.len()..][..unit.n_predicted()],
                outputs: &seen_outputs[output_slopes.len()..][..unit.n_reads() * k],
            };
            let signal = objective.signal(unit, seen, weight);
            part.loss += signal.loss;
            add_figures(&mut part.figures, &signal.figures);
            slopes.extend(signal.slopes);
            output_slopes.extend(signal.output_slopes);
        }
        // The language head's part is known in closed form; the rest follows from what it and the reward head are to
        // their inputs.
        let mut of_head = None;
        let of_log_probs = before.zip(labelled).map(|(before, labelled)| {
            let (of_before, head) = self.net.label_gradients(&before.clone().inner(), &labels, &labelled, &slopes);
            of_head = Some(head);
            (before * of_before).sum()
        });
        let of_outputs = outputs.map(|outputs| {
            let n = output_slopes.len();
            (outputs * Tensor::<1>::from_data(TensorData::new(output_slopes, [n]), &net.device)).sum()
        });
        let Some(total) = [of_log_probs, of_outputs].into_iter().flatten().reduce(|a, b| a + b) else {
            return Ok(part);
        };
        let grads = total.backward();
        let of = |params: &[Tensor<2>]| {
            let zeros = |param: &Tensor<2>| param.clone().inner().zeros_like();
            params.iter().map(|param| param.grad(&grads).unwrap_or_else(|| zeros(param))).collect::<Vec<_>>()
        };
        if !self.is_frozen() {
            let mut grads = of(&net.params);
            if let Some(of_head) = of_head {
                let head = &mut grads[net.at.head];
                *head = head.clone() + of_head;
            }
            add(&mut self.grad, grads);
        }
        if let (Some(reading), Some(readout)) = (&mut self.reading, readout) {
            add(&mut reading.grad, of(&readout.params));
        }
        Ok(part)
    }
}

/// The same parameters, with gradients to come.
fn tracked(params: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
    params.into_iter().map(|param| param.autodiff().require_grad()).collect()
}

/// Adds gradients to those before.
fn add(sum: &mut Vec<Tensor<2>>, grads: Vec<Tensor<2>>) {
    if sum.is_empty() {
        *sum = grads;
    } else {
        *sum = std::mem::take(sum).into_iter().zip(grads).map(|(sum, grad)| sum + grad).collect();
    }
}

/// One step of `AdamW` on every parameter; those that `decays` says decay. Missing moments are zero.
fn adamw(
    update: &Update,
    decays: impl Iterator<Item = bool>,
    params: &mut [Tensor<2>],
    grads: &[Tensor<2>],
    firsts: &mut Vec<Tensor<2>>,
    seconds: &mut Vec<Tensor<2>>,
) {
    if firsts.is_empty() {
        *firsts = grads.iter().map(Tensor::zeros_like).collect();
        seconds.clone_from(firsts);
    }
    let corrections = update.betas.map(|beta| 1.0 / (1.0 - beta.powi(update.step as i32)));
    let [b1, b2] = update.betas;
    for (idx, decays) in decays.enumerate() {
        let grad = grads[idx].clone().mul_scalar(update.grad_scale);
        let first = firsts[idx].clone().mul_scalar(b1) + grad.clone().mul_scalar(1.0 - b1);
        let second = seconds[idx].clone().mul_scalar(b2) + grad.square().mul_scalar(1.0 - b2);
        let root = second.clone().mul_scalar(corrections[1]).sqrt().add_scalar(update.eps);
        let shrink = if decays { 1.0 - update.lr * update.weight_decay } else { 1.0 };
        let change = (first.clone() / root).mul_scalar(corrections[0] * update.lr);
        params[idx] = params[idx].clone().mul_scalar(shrink) - change;
        (firsts[idx], seconds[idx]) = (first, second);
    }
}

impl Learner for NetLearner {
    fn gradient(&mut self, objective: &Objective, units: &[Unit], parts: &[Vec<usize>]) -> Result<Gradient> {
        let name = self.net.name.clone();
        guard(&name, || {
            self.grad.clear();
            if let Some(reading) = &mut self.reading {
                reading.grad.clear();
            }
            let weight = objective.weight(parts.iter().flatten().map(|item| &units[*item]));
            let mut all = Gradient::default();
            for part in parts {
                let units: Vec<&Unit> = part.iter().map(|item| &units[*item]).collect();
                let part = self.part(objective, &units, weight)?;
                all.loss += part.loss;
                add_figures(&mut all.figures, &part.figures);
            }
            self.hold();
            if let Some(adapter) = &self.adapter {
                self.grad = adapter.pull_back(&self.grad);
            }
            let own = self.reading.iter().flat_map(|reading| &reading.grad);
            let squares = self.grad.iter().chain(own).map(|grad| grad.clone().square().sum()).collect();
            let squares = self.net.read(Tensor::cat(squares, 0))?;
            all.norm = squares.iter().map(|square| f64::from(*square)).sum::<f64>().sqrt();
            Ok(all)
        })
    }

    fn update(&mut self, update: &Update) -> Result<()> {
        let name = self.net.name.clone();
        guard(&name, || {
            if let Some(adapter) = &mut self.adapter {
                // An adapter is matrices alone, and those decay.
                let decays = std::iter::repeat_n(true, adapter.factors.len());
                adamw(update, decays, &mut adapter.factors, &self.grad, &mut self.first, &mut self.second);
                adapter.merge(&mut self.net.params);
            } else if !self.is_frozen() {
                let places = self.net.at.clone();
                let decays = places.slices.iter().map(|slice| slice.decays);
                adamw(update, decays, &mut self.net.params, &self.grad, &mut self.first, &mut self.second);
            }
            if let Some(ReadoutLearner { readout, grad, first, second, .. }) = &mut self.reading {
                let decays = readout.head.slots.iter().map(Slot::decays);
                adamw(update, decays, &mut readout.params, grad, first, second);
            }
            Ok(())
        })
    }

    fn head(&self) -> Result<Option<Head>> {
        let download = |reading: &ReadoutLearner| guard(&self.net.name, || reading.readout.download(&self.net));
        self.reading.as_ref().map(download).transpose()
    }

    fn finish(self: Box<Self>) -> Result<Lm> {
        let layout: Arc<_> = self.lm.weights().layout.clone();
        let weights = guard(&self.net.name, || self.net.download(&layout))?;
        let weights = match &self.adapter {
            Some(adapter) => adapter.with_the_rest_of(self.lm.weights(), &weights),
            None => weights,
        };
        Ok(self.lm.with_weights(weights))
    }
}
