//! Learning on the CPU: the parts of a step on threads, their gradients added in order.

use std::sync::Mutex;
use std::sync::PoisonError;

use super::lora::Adapter;
use super::objective::{Objective, Seen, Signal};
use super::units::Unit;
use super::{Anchor, Gradient, Learner, Reader, Training, Trunk, Update, add_figures};
use crate::cpu::{self, AdamStep, Learned, Readout, Reads, Tape, Target};
use crate::error::Result;
use crate::lm::Lm;
use crate::reward::Head;
use crate::weights::{Slot, Weights};

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
    reading: Option<ReadoutLearner>,
    n_threads: usize,
}

/// A head being trained on the CPU.
struct ReadoutLearner {
    /// As it was at the start.
    head: Head,
    trunk: Trunk,
    readout: Readout,
    moments: [Vec<f32>; 2],
}

/// One part's gradient, and what computing it needs.
#[derive(Default)]
struct Part {
    tape: Tape,
    grad: Vec<f32>,
    /// Of the head's own parameters.
    head_grad: Vec<f32>,
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
            reading: None,
            n_threads,
        }
    }

    /// The same with a head.
    pub(crate) fn with(mut self, reader: Option<&Reader>) -> Self {
        self.reading = reader.map(|Reader { head, trunk }| {
            let readout = Readout::new(head, &self.learned.model);
            let len = readout.data().len();
            ReadoutLearner { head: head.clone(), trunk: *trunk, readout, moments: [vec![0.0; len], vec![0.0; len]] }
        });
        self
    }

    fn is_frozen(&self) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.trunk == Trunk::Frozen)
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
    fn compute(
        &mut self,
        (learned, reading): (&Learned, Option<&ReadoutLearner>),
        objective: &Objective,
        units: &[&Unit],
        weight: f64,
    ) {
        let rows: Vec<&[u32]> = units.iter().flat_map(|unit| &unit.rows).map(|row| row.ids.as_slice()).collect();
        let (mut targets, mut after) = (Vec::new(), Vec::new());
        let mut first = 0;
        for row in units.iter().flat_map(|unit| &unit.rows) {
            targets.extend(row.predicted.iter().map(|at| Target { after: first + at - 1, id: row.ids[*at] }));
            after.extend(row.reads.iter().map(|at| first + at));
            first += row.ids.len();
        }
        self.tape.forward(learned, &rows);
        let log_probs = self.tape.log_probs(learned, &targets);
        let outputs = match reading {
            Some(reading) => self.tape.outputs(learned, &reading.readout, &after),
            None => &[],
        };
        let k = outputs.len() / after.len().max(1);
        let mut slopes = Vec::with_capacity(targets.len());
        let mut output_slopes = Vec::with_capacity(outputs.len());
        (self.loss, self.figures) = (0.0, Vec::new());
        for unit in units {
            let seen = Seen {
                log_probs: &log_probs[slopes.len()..][..unit.n_predicted()],
                outputs: &outputs[output_slopes.len()..][..unit.n_reads() * k],
            };
            let signal = objective.signal(unit, seen, weight);
            add_figures(&mut self.figures, &signal.figures);
            let Signal { loss, slopes: new, output_slopes: new_outputs, .. } = signal;
            self.loss += loss;
            slopes.extend(new);
            output_slopes.extend(new_outputs);
        }
        self.head_grad.clear();
        self.head_grad.resize(reading.map_or(0, |reading| reading.readout.data().len()), 0.0);
        let own = &mut self.head_grad;
        self.grad.clear();
        if let Some(reading) = reading.filter(|reading| reading.trunk == Trunk::Frozen) {
            self.tape.backward_own(&reading.readout, &output_slopes, own);
            return;
        }
        let reads =
            reading.map(|reading| Reads { readout: &reading.readout, after: &after, slopes: &output_slopes, own });
        self.grad.resize(learned.weights().layout.len, 0.0);
        self.tape.backward(learned, &rows, &targets, &slopes, reads, &mut self.grad);
    }
}

impl Learner for LocalLearner {
    fn gradient(&mut self, objective: &Objective, units: &[Unit], parts: &[Vec<usize>]) -> Result<Gradient> {
        let weight = objective.weight(parts.iter().flatten().map(|item| &units[*item]));
        let model = (&self.learned, self.reading.as_ref());
        let n_threads = self.n_threads.min(parts.len());
        let jobs: Vec<(&mut Part, &Vec<usize>)> = self.parts.iter_mut().zip(parts).collect();
        each_on_threads(n_threads, jobs, |(part, items)| {
            let units: Vec<&Unit> = items.iter().map(|item| &units[*item]).collect();
            part.compute(model, objective, &units, weight);
        });
        let Some((first, others)) = self.parts[..parts.len()].split_first_mut() else {
            return Ok(Gradient::default());
        };
        for other in others {
            cpu::add(&mut first.grad, &other.grad);
            cpu::add(&mut first.head_grad, &other.head_grad);
            first.loss += other.loss;
            add_figures(&mut first.figures, &other.figures);
        }
        hold(self.anchor, &self.learned.weights().data, &self.lm.weights().data, &mut first.grad);
        let squares = match &mut self.adapter {
            Some(adapter) => adapter.pull_back(&first.grad),
            None => cpu::sum_of_squares(&first.grad),
        };
        let norm = (squares + cpu::sum_of_squares(&first.head_grad)).sqrt();
        Ok(Gradient { loss: first.loss, norm, figures: std::mem::take(&mut first.figures) })
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
        } else if !self.is_frozen() {
            let layout = self.learned.weights().layout.clone();
            let grad = &self.parts[0].grad;
            let moments = &mut self.moments;
            self.learned.update(|weights| adamw(step, &layout.slots, weights, grad, moments));
        }
        if let Some(ReadoutLearner { head, readout, moments, .. }) = &mut self.reading {
            let grad = &self.parts[0].head_grad;
            readout.update(|data| adamw(step, &head.slots, data, grad, moments));
            readout.repack(&self.learned.model);
        }
        Ok(())
    }

    fn head(&self) -> Result<Option<Head>> {
        Ok(self.reading.as_ref().map(|reading| reading.head.with_data(reading.readout.data().to_vec())))
    }

    fn finish(self: Box<Self>) -> Result<Lm> {
        let Weights { layout, data } = self.learned.weights().clone();
        Ok(self.lm.with_weights(Weights { layout, data }))
    }
}

/// One step of `AdamW` on every tensor; matrices alone decay.
fn adamw(step: AdamStep, slots: &[Slot], weights: &mut [f32], grad: &[f32], [first, second]: &mut [Vec<f32>; 2]) {
    for slot in slots {
        let at = slot.at.clone();
        let step = if slot.decays() { step } else { AdamStep { shrink: 0.0, ..step } };
        cpu::adamw(step, &mut weights[at.clone()], &grad[at.clone()], &mut first[at.clone()], &mut second[at]);
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
