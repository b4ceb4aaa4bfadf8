//! burn's network against the CPU's: the same numbers within rounding, on burn's CPU backend and, where there is an
//! adapter, through wgpu.

use std::sync::Arc;

use burn::prelude::Device;

use super::{Net, NetLearner, guard, sample};
use crate::Example;
use crate::config::{Architecture, Config};
use crate::error::Error;
use crate::lm::Lm;
use crate::sample::{Prompt, Sampling};
use crate::score::Continuation;
use crate::tokenizer::Tokenizer;
use crate::train::{Anchor, Learner, Lora, Objective, Projection, Training, Update, sft_units};

const TOLERANCE: f32 = 1e-4;

fn qwen() -> Config {
    Config {
        architecture: Architecture::Qwen2,
        hidden_size: 48,
        intermediate_size: 72,
        n_layers: 2,
        n_heads: 6,
        n_kv_heads: 2,
        head_dim: 8,
        tie_word_embeddings: true,
        ..Config::tiny(40, 64)
    }
}

fn llama() -> Config {
    Config {
        hidden_size: 32,
        intermediate_size: 40,
        n_layers: 2,
        n_heads: 2,
        n_kv_heads: 2,
        head_dim: 16,
        ..Config::tiny(40, 64)
    }
}

/// A model on the CPU, spread out so that its distribution is far from uniform.
fn lm(config: Config) -> Lm {
    let lm = Lm::init(config, Tokenizer::words(&["a"]).expect("builds"), 3, &tracker_gpu::Device::cpu()).expect("fits");
    let weights = lm.weights();
    let spread = weights.data.iter().map(|value| if *value == 1.0 { 1.0 } else { value * 10.0 }).collect();
    lm.with_weights(crate::weights::Weights::new(weights.layout.clone(), spread))
}

fn ids(n: usize, seed: usize) -> Vec<u32> {
    (0..n).map(|at| ((seed * 7 + at * at * 3 + at) % 40) as u32).collect()
}

/// burn's devices on this machine. The CPU backend is always one; a skip is printed.
fn devices() -> Vec<(&'static str, Device)> {
    let mut devices = vec![("flex", Device::flex())];
    match tracker_gpu::devices().into_iter().find(|adapter| adapter.backend == "vulkan") {
        Some(adapter) => devices.push(("wgpu", super::burn_device(&adapter))),
        None => skipped("SKIP net on wgpu: no Vulkan adapter"),
    }
    devices
}

#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn skipped(what: &str) {
    eprintln!("{what}");
}

fn on_each(check: impl Fn(&str, &Lm, &Net)) {
    for (name, device) in devices() {
        for config in [llama(), qwen()] {
            let lm = lm(config);
            let net = Net::new(device.clone(), name.into(), &Arc::new(lm.config().clone()), lm.weights());
            check(name, &lm, &net);
        }
    }
}

fn close(name: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{name}");
    let gap = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(gap <= TOLERANCE, "{name}: {gap}");
}

#[test]
fn logits_and_log_probabilities_are_those_of_the_cpu() {
    on_each(|name, lm, net| {
        let text = ids(50, 1);
        close(name, &net.all_logits(&text).expect("runs"), &crate::logits(lm, &text).expect("runs"));
        let (prompts, completions): (Vec<_>, Vec<_>) =
            (0..9).map(|row| (ids(1 + row * 3, row), ids(30 - row * 3, row + 20))).unzip();
        let all: Vec<Continuation<'_>> =
            prompts.iter().zip(&completions).map(|(prompt, completion)| Continuation { prompt, completion }).collect();
        let (got, want) = (net.log_probs(&all).expect("runs"), crate::log_probs(lm, &all, 2).expect("runs"));
        for (got, want) in got.iter().zip(&want) {
            close(name, got, want);
        }
        assert_eq!(got.len(), want.len());
    });
}

#[test]
fn the_likeliest_completions_are_those_of_the_cpu_whoever_leaves_and_joins() {
    on_each(|name, lm, net| {
        let prompts: Vec<Prompt> =
            (0..300).map(|row| Prompt { ids: ids(1 + row * 7 % 40, row % 23), seed: 0 }).collect();
        let greedy = Sampling { temperature: 0.0, top_p: 1.0, max_tokens: 9, stop_ids: (0..8).collect() };
        let want = crate::sample(lm, &prompts, &greedy, 2).expect("runs");
        let got = sample(net, &prompts, &greedy).expect("runs");
        assert_eq!(got.len(), want.len());
        for (row, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!((&got.ids, got.finish), (&want.ids, want.finish), "{name} row {row}");
            close(name, &got.log_probs, &want.log_probs);
        }
    });
}

#[test]
fn two_training_steps_end_where_those_of_the_cpu_end() {
    two_steps(&Training::default());
}

#[test]
fn two_training_steps_held_to_their_start_end_where_those_of_the_cpu_end() {
    two_steps(&Training { anchor: Anchor::L2(20.0), ..Training::default() });
}

#[test]
fn two_training_steps_of_an_adapter_end_where_those_of_the_cpu_end() {
    // A part of a map that is fused with others, a whole map, and one end of a fused map.
    let projections = vec![Projection::Key, Projection::Down, Projection::Up];
    let adapter = Some(Lora { rank: 4, alpha: 16.0, projections });
    two_steps(&Training { adapter, anchor: Anchor::L2(20.0), ..Training::default() });
}

fn two_steps(training: &Training) {
    on_each(|name, lm, net| {
        let examples: Vec<Example> =
            (0..6).map(|row| Example::completion(&ids(3, row), &ids(5 + row, row + 9))).collect();
        let units = sft_units(lm.config(), &examples).expect("fits");
        let mut local: Box<dyn Learner> = Box::new(crate::train::LocalLearner::new(lm, training, 1));
        let mut device: Box<dyn Learner> = Box::new(NetLearner::new(lm, net, training));
        for step in 1..=2 {
            let parts = [vec![0, 3, 4], vec![1, 2, 5]];
            for learner in [&mut local, &mut device] {
                let gradient = learner.gradient(&Objective::Sft, &units, &parts).expect("runs");
                assert!(gradient.norm > 0.1);
                let update =
                    Update { step, lr: 1e-2, grad_scale: 0.5, betas: [0.9, 0.99], eps: 1e-8, weight_decay: 0.1 };
                learner.update(&update).expect("runs");
            }
            let gradients = [&mut local, &mut device]
                .map(|learner| learner.gradient(&Objective::Sft, &units, &parts).expect("runs"));
            assert!((gradients[0].loss - gradients[1].loss).abs() < 1e-3, "{name} {gradients:?}");
            assert!((gradients[0].norm / gradients[1].norm - 1.0).abs() < 1e-3, "{name} {gradients:?}");
        }
        let (local, device) = (local.finish().expect("reads"), device.finish().expect("reads"));
        let moved: f32 = local
            .tensors()
            .zip(lm.tensors())
            .flat_map(|(a, b)| a.2.iter().zip(b.2))
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(moved > 1e-2);
        // Adam's first steps move a weight by the rate whatever its gradient, so a weight whose gradient is rounding alone
        // may go either way: what must agree is all but a few.
        let pairs = local
            .tensors()
            .zip(device.tensors())
            .flat_map(|(a, b)| a.2.iter().zip(b.2).map(|(a, b)| (a - b).abs()).collect::<Vec<_>>());
        let (far, all) = pairs.fold((0, 0), |(far, all), gap| (far + usize::from(gap > 1e-3), all + 1));
        assert!(far * 1000 < all, "{name}: {far} of {all}");
        let Some(lora) = &training.adapter else { return };
        let adapted = lora.adapted(&lm.weights().layout, 0);
        assert_eq!(adapted.len(), 6, "three matrices in each of two blocks");
        for learned in [&local, &device] {
            let (now, start) = (&learned.weights().data, &lm.weights().data);
            let frozen = (0..start.len()).filter(|at| !adapted.iter().any(|matrix| matrix.at.contains(at)));
            assert!(frozen.into_iter().all(|at| now[at].to_bits() == start[at].to_bits()), "{name}");
            assert!(adapted.iter().all(|matrix| now[matrix.at.clone()] != start[matrix.at.clone()]), "{name}");
        }
    });
}

#[test]
fn a_panic_of_the_driver_is_an_error_with_its_message() {
    let got: Result<(), Error> = guard("gpu 0", || panic!("kernel {} does not compile", 7));
    assert!(matches!(got, Err(Error::Device { device, detail }) if device == "gpu 0" && detail.contains("kernel 7")));
}

#[test]
fn an_adapter_that_is_not_there_is_an_error() {
    let got = guard("none", || {
        let lm = lm(llama());
        let device = Device::wgpu(burn::tensor::DeviceKind::DiscreteGpu(99));
        Net::new(device, "none".into(), &Arc::new(lm.config().clone()), lm.weights()).all_logits(&[1])
    });
    assert!(matches!(got, Err(Error::Device { .. })), "{got:?}");
}
