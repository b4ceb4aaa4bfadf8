//! burn's network against the CPU's: the same numbers within rounding, on burn's CPU backend and, where there is an
//! adapter, through wgpu.

use std::sync::Arc;

use burn::prelude::{Device, Tensor, TensorData};
use burn::tensor::activation::log_softmax;

use super::{Net, NetLearner, guard, sample};
use crate::Example;
use crate::config::{Architecture, Config};
use crate::error::Error;
use crate::lm::Lm;
use crate::reward::{HeadKind, RewardModel, Tagged};
use crate::sample::{Prompt, Sampling};
use crate::score::Continuation;
use crate::tokenizer::Tokenizer;
use crate::train::{
    Anchor, FitObjective, Learner, Lora, Objective, Pair, PairLoss, Projection, RatedPair, RatedText, Reader,
    Regulariser, TaggedExample, Training, Trunk, Update, sft_units,
};

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
fn blocks_of_the_vocabulary_give_what_the_whole_of_it_gives() {
    on_each(|name, lm, net| {
        // More ids than a block has at least.
        let config = Config { vocab_size: 700, ..lm.config().clone() };
        let lm = Lm::init(config, Tokenizer::words(&["a"]).expect("builds"), 3, &tracker_gpu::Device::cpu());
        let lm = lm.expect("fits");
        let net = Net::new(net.device.clone(), name.into(), &Arc::new(lm.config().clone()), lm.weights());
        let n = 11;
        let labels: Vec<i32> = (0..n as i32).map(|at| (at * 69) % 700).collect();
        assert!(labels.contains(&0) && labels.iter().any(|label| *label >= 512));
        let hidden = lm.config().hidden_size;
        let values: Vec<f32> = (0..n * hidden).map(|at| (at as f32 * 0.7).sin()).collect();
        let before = Tensor::<2>::from_data(TensorData::new(values, [n, hidden]), &net.device);
        let slopes: Vec<f32> = (0..n).map(|at| (at as f32 * 1.3).cos()).collect();
        let run = |cells| {
            let labelled = net.label_log_probs_by(&before, &labels, cells);
            let (of_before, of_head) = net.label_gradients_by(&before, &labels, &labelled, &slopes, cells);
            [net.read(labelled.log_probs), net.read(of_before), net.read(of_head)].map(|read| read.expect("reads"))
        };
        let (blocks, whole) = (run(1), run(n * 700));
        assert_eq!(whole[2].len(), 700 * hidden);
        for (got, want) in blocks.iter().zip(&whole) {
            close(name, got, want);
        }
        // By differentiation of the whole.
        let (tracked, head) = (before.clone().autodiff().require_grad(), net.params[net.at.head].clone());
        let head = head.autodiff().require_grad();
        let all = log_softmax(tracked.clone().matmul(head.clone().transpose()), 1);
        let log_probs = all.gather(1, net.ints(labels.clone()).reshape([n, 1])).reshape([n]);
        let grads = (log_probs.clone() * Tensor::<1>::from_data(TensorData::new(slopes.clone(), [n]), &net.device))
            .sum()
            .backward();
        let want = [
            net.read(log_probs.inner()),
            net.read(tracked.grad(&grads).expect("has one")),
            net.read(head.grad(&grads).expect("has one")),
        ];
        for (got, want) in blocks.iter().zip(want) {
            close(name, got, &want.expect("reads"));
        }
    });
}

fn heads() -> [HeadKind; 3] {
    let outputs = vec!["a".to_owned(), "b".to_owned()];
    [
        HeadKind::Linear { outputs: outputs.clone() },
        HeadKind::Mlp { hidden: 24, outputs },
        HeadKind::TwoToken { plus: 7, minus: 12 },
    ]
}

#[test]
fn what_a_head_reads_is_what_it_reads_on_the_cpu() {
    on_each(|name, lm, net| {
        for kind in heads() {
            let model = RewardModel::init(lm, kind, 5).expect("fits");
            let texts: Vec<(Vec<u32>, Vec<u32>)> =
                (0..9).map(|row| (ids(1 + row * 3, row), ids(30 - row * 3, row + 20))).collect();
            let places: Vec<Vec<usize>> = texts
                .iter()
                .map(|(prompt, all)| (prompt.len() - 1..prompt.len() + all.len()).step_by(2).collect())
                .collect();
            let tagged: Vec<Tagged<'_>> = texts
                .iter()
                .zip(&places)
                .map(|((prompt, completion), at)| Tagged { continuation: Continuation { prompt, completion }, at })
                .collect();
            let got = net.outputs(model.head(), &tagged).expect("runs");
            let want = crate::reward::outputs(&model, &tagged, 2).expect("runs");
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(&want) {
                assert!(!want.is_empty());
                close(name, got, want);
            }
        }
    });
}

/// Two steps of `objective` on both devices; heads and norms must agree.
fn two_head_steps(name: &str, lm: &Lm, net: &Net, kind: HeadKind, trunk: Trunk, objective: &FitObjective<'_>) {
    let model = RewardModel::init(lm, kind, 5).expect("fits");
    let (objective, units) = objective.units(&model, trunk, 2).expect("fits");
    let reader = Reader { head: model.head().clone(), trunk };
    let local = crate::train::LocalLearner::new(lm, &crate::Training::default(), 1).with(Some(&reader));
    let device = NetLearner::new(lm, net, &Training::default()).with(Some(&reader)).expect("runs");
    let mut learners: [Box<dyn Learner>; 2] = [Box::new(local), Box::new(device)];
    let parts = [vec![0, 3], vec![1, 2]];
    for step in 1..=3 {
        let gradients = learners.each_mut().map(|learner| learner.gradient(&objective, &units, &parts).expect("runs"));
        let [a, b] = &gradients;
        assert!(a.norm > 1e-4 && (a.norm / b.norm - 1.0).abs() < 2e-3, "{name} {gradients:?}");
        assert!((a.loss - b.loss).abs() < 2e-3 * (1.0 + a.loss.abs()), "{name} {gradients:?}");
        let update = Update { step, lr: 1e-3, grad_scale: 0.5, betas: [0.9, 0.99], eps: 1e-3, weight_decay: 0.1 };
        for learner in &mut learners {
            learner.update(&update).expect("runs");
        }
    }
    let ends = learners.map(|learner| {
        let head = learner.head().expect("reads").expect("has one");
        (head.data.to_vec(), learner.finish().expect("reads").weights().data.to_vec())
    });
    let [(head, weights), (device_head, device_weights)] = &ends;
    close(name, device_head, head);
    close(name, device_weights, weights);
    assert_eq!(trunk == Trunk::Frozen, *weights == *lm.weights().data);
    assert_eq!(trunk == Trunk::Frozen, *device_weights == *lm.weights().data);
    assert!(head.is_empty() || *head != *model.head().data);
}

#[test]
fn heads_are_trained_as_on_the_cpu() {
    on_each(|name, lm, net| {
        let [linear, mlp, two_tokens] = heads();
        let tagged: Vec<TaggedExample> = (0..4)
            .map(|row| TaggedExample { ids: ids(9 + row, row), at: vec![2, 5 + row], labels: vec![0.25, 1.0] })
            .collect();
        two_head_steps(name, lm, net, two_tokens, Trunk::Trained, &FitObjective::Tags(&tagged));
        let rated: Vec<RatedText> = (0..4)
            .map(|row| RatedText {
                prompt: ids(3, row),
                completion: ids(2 + row, row + 5),
                labels: vec![Some(row as f64), (row != 1).then_some(-0.5)],
            })
            .collect();
        for trunk in [Trunk::Trained, Trunk::Frozen] {
            for kind in [&linear, &mlp] {
                two_head_steps(name, lm, net, kind.clone(), trunk, &FitObjective::Ratings(&rated));
            }
        }
        let pairs: Vec<RatedPair> = (0..4)
            .map(|row| {
                let pair = Pair { prompt: ids(3, row), chosen: ids(2 + row, row + 5), rejected: ids(4, row + 9) };
                RatedPair { pair, margin: row as f64 * 0.1 }
            })
            .collect();
        let regulariser = Regulariser::Dpo { beta: 0.2, reference: lm.clone() };
        let loss = PairLoss { alpha: 0.3, regulariser, ..PairLoss::default() };
        let one = HeadKind::Mlp { hidden: 8, outputs: vec!["r".to_owned()] };
        two_head_steps(name, lm, net, one, Trunk::Trained, &FitObjective::Pairs(&pairs, &loss));
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

#[test]
fn slopes_between_models_are_those_of_the_cpu() {
    let examples: Vec<Example> = (0..5).map(|seed| Example::text(&ids(9 + seed, seed))).collect();
    on_each(|name, lm, net| {
        let shifted = |by: f32| {
            let data = lm.weights().data.iter().enumerate().map(|(i, x)| x + by * ((i % 7) as f32 - 3.0)).collect();
            lm.with_weights(crate::weights::Weights::new(lm.weights().layout.clone(), data))
        };
        let (from, to) = (shifted(0.01), shifted(-0.02));
        let want = crate::slopes(lm, &from, &to, &examples, 1).expect("differentiates").by_tensor;
        let on_device = |lm: &Lm| Net::new(net.device.clone(), name.into(), &net.config, lm.weights());
        let mut learner = NetLearner::new(lm, net, &Training::default());
        let units = sft_units(lm.config(), &examples).expect("fits");
        learner.gradient(&Objective::Sft, &units, &[vec![0, 1, 2], vec![3, 4]]).expect("differentiates");
        let got = learner.along([&on_device(&from), &on_device(&to)]).expect("sums");
        assert_eq!(got.len(), want.len());
        for ((slot, got), want) in lm.weights().layout.slots.iter().zip(got).zip(want) {
            assert!((got - want).abs() < 1e-3 * (1e-2 + want.abs()), "{name}, {}: {got} and {want}", slot.name);
        }
    });
}

#[test]
fn a_mixture_made_on_an_adapter_has_the_bits_of_one_made_on_the_cpu() {
    let Some(adapter) = tracker_gpu::devices().into_iter().find(|adapter| adapter.backend == "vulkan") else {
        return skipped("SKIP mixtures on wgpu: no Vulkan adapter");
    };
    let device = tracker_gpu::Device::open(&tracker_gpu::Choice::Wgpu(Some(adapter.idx))).expect("opens");
    let first = lm(llama());
    let data = first.weights().data.iter().rev().copied().collect();
    let second = first.with_weights(crate::weights::Weights::new(first.weights().layout.clone(), data));
    let share = |k: usize, at: usize| ((3 * k + at) % 11) as f32 / 11.0;
    let ratios = |k: usize| (0..first.tensors().count()).map(|at| vec![1.0 - share(k, at), share(k, at)]).collect();
    let ratios: Vec<crate::Ratios> = (0..5).map(ratios).collect();
    let bits = |parents: [Lm; 2]| -> Vec<Vec<u32>> {
        let mixed = crate::Parents::hold(&parents).expect("holds").mix(&ratios).expect("mixes");
        mixed.iter().map(|lm| lm.weights().data.iter().map(|x| x.to_bits()).collect()).collect()
    };
    assert_eq!(bits([first.on(&device), second.on(&device)]), bits([first.clone(), second.clone()]));
}
