//! Learning on a device: burn's automatic differentiation, weights and moments resident.

use std::sync::Arc;

use burn::prelude::{Tensor, TensorData};

use super::lora::NetAdapter;
use super::{Net, guard};
use crate::error::Result;
use crate::lm::Lm;
use crate::train::{Anchor, Gradient, Learner, Objective, Row, Training, Unit, Update, add_figures};

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
}

impl NetLearner {
    pub(crate) fn new(lm: &Lm, net: &Net, training: &Training) -> Self {
        let anchor = training.anchor;
        let start = if anchor == Anchor::None { Vec::new() } else { net.params.clone() };
        let adapter = training.adapter.as_ref();
        let adapter = adapter.map(|lora| NetAdapter::new(lora, net, &lm.weights().layout, training.seed));
        let (grad, first, second) = (Vec::new(), Vec::new(), Vec::new());
        Self { lm: lm.clone(), net: net.clone(), anchor, start, adapter, grad, first, second }
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

    /// One part's loss and figures; its gradient is added to those before.
    fn part(&mut self, objective: &Objective, units: &[&Unit], weight: f64) -> Result<Gradient> {
        let mut net = self.net.clone();
        let learns = |idx| self.adapter.as_ref().is_none_or(|adapter| adapter.learns(idx));
        let tracked = |(idx, param): (usize, Tensor<2>)| {
            if learns(idx) { param.autodiff().require_grad() } else { param.autodiff() }
        };
        net.params = net.params.into_iter().enumerate().map(tracked).collect();
        let rows: Vec<&Row> = units.iter().flat_map(|unit| &unit.rows).collect();
        let tracked = net.row_log_probs(&rows);
        let log_probs = net.read(tracked.clone().inner())?;
        let mut part = Gradient::default();
        let mut slopes = Vec::with_capacity(log_probs.len());
        for unit in units {
            let n = unit.n_predicted();
            let signal = objective.signal(unit, &log_probs[slopes.len()..slopes.len() + n], weight);
            part.loss += signal.loss;
            add_figures(&mut part.figures, &signal.figures);
            slopes.extend(signal.slopes);
        }
        let n = slopes.len();
        let slopes = Tensor::<1>::from_data(TensorData::new(slopes, [n]), &net.device);
        let grads = (tracked * slopes).sum().backward();
        let grads =
            net.params.iter().map(|param| param.grad(&grads).unwrap_or_else(|| param.clone().inner().zeros_like()));
        self.grad = if self.grad.is_empty() {
            grads.collect()
        } else {
            std::mem::take(&mut self.grad).into_iter().zip(grads).map(|(sum, grad)| sum + grad).collect()
        };
        Ok(part)
    }
}

impl Learner for NetLearner {
    fn gradient(&mut self, objective: &Objective, units: &[Unit], parts: &[Vec<usize>]) -> Result<Gradient> {
        let name = self.net.name.clone();
        guard(&name, || {
            self.grad.clear();
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
            let squares = self.grad.iter().map(|grad| grad.clone().square().sum()).collect();
            let squares = self.net.read(Tensor::cat(squares, 0))?;
            all.norm = squares.iter().map(|square| f64::from(*square)).sum::<f64>().sqrt();
            Ok(all)
        })
    }

    fn update(&mut self, update: &Update) -> Result<()> {
        let name = self.net.name.clone();
        guard(&name, || {
            if self.first.is_empty() {
                self.first = self.grad.iter().map(Tensor::zeros_like).collect();
                self.second.clone_from(&self.first);
            }
            let corrections = update.betas.map(|beta| 1.0 / (1.0 - beta.powi(update.step as i32)));
            let [b1, b2] = update.betas;
            let slices = &self.net.at.slices;
            // An adapter is matrices alone, and those decay.
            let adapted = self.adapter.is_some();
            let trained = match &mut self.adapter {
                Some(adapter) => &mut adapter.factors,
                None => &mut self.net.params,
            };
            for (idx, values) in trained.iter_mut().enumerate() {
                let grad = self.grad[idx].clone().mul_scalar(update.grad_scale);
                let first = self.first[idx].clone().mul_scalar(b1) + grad.clone().mul_scalar(1.0 - b1);
                let second = self.second[idx].clone().mul_scalar(b2) + grad.square().mul_scalar(1.0 - b2);
                let root = second.clone().mul_scalar(corrections[1]).sqrt().add_scalar(update.eps);
                let shrink = if adapted || slices[idx].decays { 1.0 - update.lr * update.weight_decay } else { 1.0 };
                let change = (first.clone() / root).mul_scalar(corrections[0] * update.lr);
                *values = values.clone().mul_scalar(shrink) - change;
                (self.first[idx], self.second[idx]) = (first, second);
            }
            if let Some(adapter) = &self.adapter {
                adapter.merge(&mut self.net.params);
            }
            Ok(())
        })
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
