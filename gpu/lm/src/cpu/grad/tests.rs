//! Gradients against difference quotients.

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
