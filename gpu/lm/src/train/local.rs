//! Learning on the CPU: the parts of a step on threads, their gradients added in order.

use std::sync::Mutex;
use std::sync::PoisonError;

use super::lora::Adapter;
use super::objective::{Objective, Signal, Unit};
use super::{Anchor, Gradient, Learner, Training, Update, add_figures};
use crate::cpu::{self, AdamStep, Learned, Tape, Target};
use crate::error::Result;
use crate::lm::Lm;
use crate::weights::Weights;

/// A model being trained on the CPU.
pub(crate) struct LocalLearner {
    /// As it was at the start.
    lm: Lm,
    anchor: Anchor,
    learned: Learned,
    /// What is trained instead of the weights.
    pub(super) adapter: Option<Adapter>,
    parts: Vec<Part>,
    moments: [Vec<f32>; 2],
    n_threads: usize,
}

/// One part's gradient, and what computing it needs.
#[derive(Default)]
struct Part {
    tape: Tape,
    grad: Vec<f32>,
    loss: f64,
    figures: Vec<(&'static str, f64)>,
}

impl LocalLearner {
    pub(crate) fn new(lm: &Lm, training: &Training, n_threads: usize) -> Self {
        let layout = &lm.weights().layout;
        let adapter = training.adapter.as_ref().map(|lora| Adapter::new(lora, layout, training.seed, n_threads));
        let len = if adapter.is_some() { 0 } else { lm.n_params() };
        let mut parts = Vec::new();
        parts.resize_with(training.micro_batches, Part::default);
        Self {
            lm: lm.clone(),
            anchor: training.anchor,
            learned: Learned::new(cpu::Model::new(lm.config(), lm.weights())),
            adapter,
            parts,
            moments: [vec![0.0; len], vec![0.0; len]],
            n_threads,
        }
    }
}

impl LocalLearner {
    /// The last gradient of the weights, in their order.
    pub(crate) fn into_gradient(mut self) -> Vec<f32> {
        std::mem::take(&mut self.parts[0].grad)
    }

    /// Brings the weights up to the adapter.
    pub(super) fn merge(&mut self) {
        if let Some(adapter) = &mut self.adapter {
            let start = &self.lm.weights().data;
            self.learned.update(|weights| adapter.merge(start, weights));
        }
    }
}

/// Adds the gradient of what holds `weights` to `start`.
fn hold(anchor: Anchor, weights: &[f32], start: &[f32], grad: &mut [f32]) {
    let gaps = weights.iter().zip(start).map(|(now, start)| now - start);
    match anchor {
        Anchor::None => {}
        Anchor::L1(lambda) => {
            let lambda = lambda as f32;
            // A weight that has not moved is not pushed.
            grad.iter_mut().zip(gaps).filter(|(_, gap)| *gap != 0.0).for_each(|(g, gap)| *g += lambda.copysign(gap));
        }
        Anchor::L2(lambda) => {
            let slope = 2.0 * lambda as f32;
            grad.iter_mut().zip(gaps).for_each(|(g, gap)| *g += slope * gap);
        }
    }
}

impl Part {
    fn compute(&mut self, learned: &Learned, objective: &Objective, units: &[&Unit], weight: f64) {
        let rows: Vec<&[u32]> = units.iter().flat_map(|unit| &unit.rows).map(|row| row.ids.as_slice()).collect();
        let mut targets = Vec::new();
        let mut first = 0;
        for row in units.iter().flat_map(|unit| &unit.rows) {
            targets.extend(row.predicted.iter().map(|at| Target { after: first + at - 1, id: row.ids[*at] }));
            first += row.ids.len();
        }
        self.tape.forward(learned, &rows);
        let log_probs = self.tape.log_probs(learned, &targets);
        let (mut slopes, mut at) = (Vec::with_capacity(targets.len()), 0);
        (self.loss, self.figures) = (0.0, Vec::new());
        for unit in units {
            let n = unit.n_predicted();
            let signal = objective.signal(unit, &log_probs[at..at + n], weight);
            at += n;
            add_figures(&mut self.figures, &signal.figures);
            let Signal { loss, slopes: new, .. } = signal;
            self.loss += loss;
            slopes.extend(new);
        }
        self.grad.clear();
        self.grad.resize(learned.weights().layout.len, 0.0);
        self.tape.backward(learned, &rows, &targets, &slopes, &mut self.grad);
    }
}

impl Learner for LocalLearner {
    fn gradient(&mut self, objective: &Objective, units: &[Unit], parts: &[Vec<usize>]) -> Result<Gradient> {
        let weight = objective.weight(parts.iter().flatten().map(|item| &units[*item]));
        let learned = &self.learned;
        let n_threads = self.n_threads.min(parts.len());
        let jobs: Vec<(&mut Part, &Vec<usize>)> = self.parts.iter_mut().zip(parts).collect();
        each_on_threads(n_threads, jobs, |(part, items)| {
            let units: Vec<&Unit> = items.iter().map(|item| &units[*item]).collect();
            part.compute(learned, objective, &units, weight);
        });
        let Some((first, others)) = self.parts[..parts.len()].split_first_mut() else {
            return Ok(Gradient::default());
        };
        for other in others {
            cpu::add(&mut first.grad, &other.grad);
            first.loss += other.loss;
            add_figures(&mut first.figures, &other.figures);
        }
        hold(self.anchor, &self.learned.weights().data, &self.lm.weights().data, &mut first.grad);
        let squares = match &mut self.adapter {
            Some(adapter) => adapter.pull_back(&first.grad),
            None => cpu::sum_of_squares(&first.grad),
        };
        Ok(Gradient { loss: first.loss, norm: squares.sqrt(), figures: std::mem::take(&mut first.figures) })
    }

    fn update(&mut self, update: &Update) -> Result<()> {
        let correction = |beta: f64| (1.0 / (1.0 - beta.powi(update.step as i32))) as f32;
        let step = AdamStep {
            betas: update.betas.map(|beta| beta as f32),
            corrections: update.betas.map(correction),
            eps: update.eps as f32,
            lr: update.lr as f32,
            shrink: (update.lr * update.weight_decay) as f32,
            grad_scale: update.grad_scale as f32,
        };
        if let Some(adapter) = &mut self.adapter {
            adapter.update(step);
            self.merge();
            return Ok(());
        }
        let layout = self.learned.weights().layout.clone();
        let grad = &self.parts[0].grad;
        let [first, second] = &mut self.moments;
        self.learned.update(|weights| {
            for slot in &layout.slots {
                let at = slot.at.clone();
                let step = if slot.decays() { step } else { AdamStep { shrink: 0.0, ..step } };
                cpu::adamw(step, &mut weights[at.clone()], &grad[at.clone()], &mut first[at.clone()], &mut second[at]);
            }
        });
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Lm> {
        let Weights { layout, data } = self.learned.weights().clone();
        Ok(self.lm.with_weights(Weights { layout, data }))
    }
}

/// Does each job once, on up to `n_threads` threads; which thread does which does not matter.
pub(super) fn each_on_threads<J: Send>(n_threads: usize, jobs: Vec<J>, work: impl Fn(J) + Sync) {
    if n_threads <= 1 {
        jobs.into_iter().for_each(work);
        return;
    }
    let jobs = Mutex::new(jobs.into_iter());
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                while let Some(job) = next() {
                    work(job);
                }
            });
        }
    });
}
