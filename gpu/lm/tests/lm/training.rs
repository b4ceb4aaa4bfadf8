//! Training: it learns, it repeats, and it says when it cannot.

use std::ops::ControlFlow;

use tracker_lm::{
    Anchor, Batch, Continuation, Dpo, Error, Example, Grpo, Kd, Length, Lm, Lora, Pair, Projection, Prompt, Rollout,
    Sampling, Step, Training, advantages, dpo, grpo, kd, log_probs, sample, sft,
};

use crate::{ids, init, llama, qwen};

fn training(n_steps: usize) -> Training {
    Training { lr: 3e-3, length: Length::Steps(n_steps), batch: Batch::Items(8), ..Training::default() }
}

/// Eight tokens, then the same eight: of varied lengths, to be ragged.
fn copies() -> Vec<Example> {
    (0..64)
        .map(|row| {
            let block = ids(3 + row % 6, row);
            Example::completion(&[&[1], block.as_slice(), &[3]].concat(), &[block.as_slice(), &[2]].concat())
        })
        .collect()
}

fn bits(lm: &Lm) -> Vec<u32> {
    lm.tensors().flat_map(|(_, _, values)| values.iter().map(|value| value.to_bits())).collect()
}

fn go(_: Step) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn training_learns_to_copy() {
    let mut losses = Vec::new();
    let settings = Training { batch: Batch::Tokens(200), ..training(400) };
    let trained = sft(&init(llama(), 1), &copies(), &settings, 2, &mut |step| {
        assert!(step.n_tokens > 0 && step.grad_norm > 0.0 && step.n_steps == 400);
        losses.push(step.loss);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(losses.len(), 400);
    assert!((losses[0] - 40f64.ln()).abs() < 0.1, "an untrained model is uniform: {}", losses[0]);
    let last = losses[390..].iter().sum::<f64>() / 10.0;
    assert!(last < 0.1, "{last}");
    let example = &copies()[5];
    let prompt = Prompt { ids: example.ids[..10].to_vec(), seed: 1 };
    let greedy = Sampling { temperature: 0.0, top_p: 1.0, max_tokens: 12, stop_ids: vec![2] };
    assert_eq!(sample(&trained, &[prompt], &greedy, 1).unwrap()[0].ids, example.ids[10..]);
}

#[test]
fn results_are_bit_equal_on_any_number_of_threads_and_repeat() {
    for config in [llama(), qwen()] {
        let lm = init(config, 2);
        let run = |n_threads| {
            let mut steps = Vec::new();
            let trained = sft(&lm, &copies(), &training(6), n_threads, &mut |step| {
                steps.push(step);
                ControlFlow::Continue(())
            });
            (bits(&trained.unwrap()), steps)
        };
        let one = run(1);
        assert_eq!(one, run(1));
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
        assert_ne!(one.0, bits(&lm), "the model that was given does not change, the result does");
    }
}

#[test]
fn what_holds_a_model_to_its_start_keeps_it_nearer_to_it() {
    let lm = init(llama(), 2);
    let moved = |trained: &Lm, norm: fn(f64) -> f64| -> f64 {
        let pairs = trained.tensors().zip(lm.tensors()).flat_map(|(a, b)| a.2.iter().zip(b.2));
        pairs.map(|(a, b)| norm(f64::from(*a) - f64::from(*b))).sum()
    };
    let under = |anchor| sft(&lm, &copies(), &Training { anchor, ..training(60) }, 2, &mut go).unwrap();
    let (free, l1, l2) = (under(Anchor::None), under(Anchor::L1(0.01)), under(Anchor::L2(1.0)));
    assert!(moved(&l1, f64::abs) < 0.5 * moved(&free, f64::abs));
    assert!(moved(&l2, |x| x * x) < 0.5 * moved(&free, |x| x * x));
    assert_eq!(bits(&under(Anchor::L2(0.0))), bits(&free));
    let distance = |lambda| {
        let mut last = f64::NAN;
        let mut on_step = |step: Step| {
            last = step.figures.iter().find(|(name, _)| *name == "distance").unwrap().1;
            ControlFlow::Continue(())
        };
        kd(&lm, &lm, &copies(), Kd { lambda }, &training(300), 2, &mut on_step).unwrap();
        last
    };
    assert!(distance(1000.0) < 0.2 * distance(0.0));
}

#[test]
fn the_cut_into_micro_batches_changes_rounding_alone() {
    let lm = init(qwen(), 2);
    let losses = |micro_batches| {
        let mut losses = Vec::new();
        let settings = Training { micro_batches, ..training(10) };
        sft(&lm, &copies(), &settings, 2, &mut |step| {
            losses.push(step.loss);
            ControlFlow::Continue(())
        })
        .unwrap();
        losses
    };
    let one = losses(1);
    for n in [2, 3, 50] {
        assert!(losses(n).iter().zip(&one).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}

#[test]
fn the_first_loss_is_the_scored_one() {
    let lm = init(qwen(), 4);
    let example = &copies()[7];
    let n_prompt = example.mask.iter().filter(|learnt| !**learnt).count();
    let (prompt, completion) = example.ids.split_at(n_prompt);
    let scored = log_probs(&lm, &[Continuation { prompt, completion }], 1).unwrap().remove(0);
    let want = -scored.iter().map(|log_prob| f64::from(*log_prob)).sum::<f64>() / scored.len() as f64;
    let mut first = f64::NAN;
    sft(&lm, std::slice::from_ref(example), &training(1), 1, &mut |step| {
        first = step.loss;
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(first, want);
}

#[test]
fn a_break_ends_the_training_with_the_model_so_far() {
    let lm = init(llama(), 2);
    let mut n = 0;
    let stopped = sft(&lm, &copies(), &Training { warmup: 0.0, final_lr: 1.0, ..training(50) }, 1, &mut |_| {
        n += 1;
        if n == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    let short = sft(&lm, &copies(), &Training { warmup: 0.0, final_lr: 1.0, ..training(3) }, 1, &mut go).unwrap();
    assert_eq!((n, bits(&stopped)), (3, bits(&short)));
}

#[test]
fn divergence_names_its_step() {
    let wild = Training { lr: 1e30, clip: None, warmup: 0.0, ..training(20) };
    let result = sft(&init(llama(), 2), &copies(), &wild, 2, &mut go);
    match result {
        Err(Error::NonFinite { step, .. }) => assert!((2..=20).contains(&step), "{step}"),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn examples_that_teach_nothing_are_refused_by_position() {
    let lm = init(llama(), 2);
    let fine = Example::text(&[1, 5, 6]);
    let try_with = |example: Example| sft(&lm, &[fine.clone(), example], &training(1), 1, &mut go);
    assert!(matches!(try_with(Example::text(&[])), Err(Error::Empty { idx: 1, .. })));
    assert!(matches!(try_with(Example::text(&[5])), Err(Error::Empty { idx: 1, .. })));
    assert!(matches!(try_with(Example::completion(&[5, 6], &[])), Err(Error::Empty { idx: 1, .. })));
    assert!(matches!(try_with(Example::text(&ids(65, 0))), Err(Error::TooLong { idx: 1, limit: 64, .. })));
    assert!(matches!(try_with(Example::text(&[1, 40])), Err(Error::Token { idx: 1, id: 40, .. })));
    let first = Example { ids: vec![5, 6], mask: vec![true, true] };
    assert!(matches!(try_with(first), Err(Error::Range { what: "mask", .. })));
    let short = Example { ids: vec![5, 6], mask: vec![false] };
    assert!(matches!(try_with(short), Err(Error::Range { what: "mask", .. })));
    assert!(matches!(sft(&lm, &[], &training(1), 1, &mut go), Err(Error::Empty { .. })));
}

fn completion_log_prob(lm: &Lm, prompt: &[u32], completion: &[u32]) -> f64 {
    let scored = log_probs(lm, &[Continuation { prompt, completion }], 1).unwrap();
    scored[0].iter().map(|log_prob| f64::from(*log_prob)).sum()
}

#[test]
fn preferences_raise_the_chosen_over_the_rejected() {
    let lm = init(qwen(), 3);
    let pairs: Vec<Pair> =
        (0..16).map(|row| Pair { prompt: ids(4, row), chosen: vec![10, 11, 2], rejected: vec![12, 2] }).collect();
    let settings = Dpo { beta: 0.5, smoothing: 0.0 };
    for reference in [None, Some(&lm)] {
        let mut steps = Vec::new();
        let trained = dpo(&lm, reference, &pairs, &settings, &training(20), 2, &mut |step| {
            steps.push(step);
            ControlFlow::Continue(())
        })
        .unwrap();
        if reference.is_some() {
            assert!((steps[0].loss - 2f64.ln()).abs() < 1e-6, "policy and reference are one: {}", steps[0].loss);
        }
        let last = steps.last().unwrap();
        assert_eq!(last.figures[0], ("accuracy", 1.0));
        assert!(last.loss < 0.3 && last.figures[1].1 > 1.0, "{last:?}");
        let gap = |lm: &Lm| {
            let Pair { prompt, chosen, rejected } = &pairs[0];
            completion_log_prob(lm, prompt, chosen) - completion_log_prob(lm, prompt, rejected)
        };
        assert!(gap(&trained) > gap(&lm) + 1.0);
    }
    let wrong = dpo(&lm, None, &pairs, &Dpo { beta: 0.0, smoothing: 0.0 }, &training(1), 1, &mut go);
    assert!(matches!(wrong, Err(Error::Range { what: "beta", .. })));
}

#[test]
fn rewarded_rollouts_become_likelier() {
    let lm = init(llama(), 3);
    let prompts: Vec<Prompt> = (0..64).map(|row| Prompt { ids: ids(4, row / 16), seed: row as u64 }).collect();
    let settings = Sampling { temperature: 1.0, top_p: 1.0, max_tokens: 6, stop_ids: vec![2] };
    let n_low = |ids: &[u32]| ids.iter().filter(|id| **id < 20).count() as f64 / ids.len() as f64;
    let share = |lm: &Lm| {
        let done = sample(lm, &prompts, &settings, 2).unwrap();
        done.iter().map(|one| n_low(&one.ids)).sum::<f64>() / 64.0
    };
    let (before, mut policy) = (share(&lm), lm.clone());
    for round in 0..4 {
        let done = sample(&policy, &prompts, &settings, 2).unwrap();
        let rewards: Vec<f64> = done.iter().map(|one| n_low(&one.ids)).collect();
        let advantages: Vec<f64> = rewards.chunks(16).flat_map(advantages).collect();
        let rollouts: Vec<Rollout> = prompts
            .iter()
            .zip(done)
            .zip(advantages)
            .map(|((prompt, done), advantage)| Rollout {
                prompt: prompt.ids.clone(),
                completion: done.ids,
                log_probs: done.log_probs,
                advantage,
            })
            .collect();
        let training = Training { batch: Batch::Items(32), seed: round, ..training(6) };
        let mut first = None;
        let next = grpo(&policy, Some(&lm), &rollouts, &Grpo { clip: 0.2, kl: 0.003 }, &training, 2, &mut |step| {
            first.get_or_insert(step);
            ControlFlow::Continue(())
        });
        policy = next.unwrap();
        let ratio = first.unwrap().figures[0];
        assert_eq!(ratio.0, "ratio");
        assert!((ratio.1 - 1.0).abs() < 1e-12, "sampled and trained probabilities are the same bits: {ratio:?}");
    }
    let after = share(&policy);
    assert!(after > before + 0.15, "{before} and {after}");
    let rollout = Rollout { prompt: vec![5], completion: vec![6], log_probs: vec![-1.0], advantage: 1.0 };
    let without =
        grpo(&lm, None, std::slice::from_ref(&rollout), &Grpo { clip: 0.2, kl: 0.1 }, &training(1), 1, &mut go);
    assert!(matches!(without, Err(Error::Range { what: "kl", .. })));
    let short = Rollout { log_probs: vec![], ..rollout };
    let short = grpo(&lm, None, &[short], &Grpo { clip: 0.2, kl: 0.0 }, &training(1), 1, &mut go);
    assert!(matches!(short, Err(Error::Range { what: "log_probs", .. })));
}

fn adapted(rank: usize, projections: &[Projection], n_steps: usize) -> Training {
    let adapter = Some(Lora { rank, alpha: 2.0 * rank as f64, projections: projections.to_vec() });
    Training { adapter, ..training(n_steps) }
}

fn all_projections() -> Vec<Projection> {
    [Projection::ATTENTION.as_slice(), &Projection::MLP].concat()
}

/// The absolute pivots of a matrix `[m, n]` under Gaussian elimination with full pivoting, the first `k`: those past its rank
/// are rounding.
fn pivots(mut rows: Vec<Vec<f64>>, k: usize) -> Vec<f64> {
    let mut pivots = Vec::new();
    for _ in 0..k {
        let places = rows.iter().enumerate().flat_map(|(i, row)| (0..row.len()).map(move |j| (i, j)));
        let (i, j) = places.max_by(|a, b| rows[a.0][a.1].abs().total_cmp(&rows[b.0][b.1].abs())).unwrap();
        let pivot = rows.swap_remove(i);
        pivots.push(pivot[j].abs());
        for row in &mut rows {
            let factor = row[j] / pivot[j];
            row.iter_mut().zip(&pivot).for_each(|(x, p)| *x -= factor * p);
        }
    }
    pivots
}

#[test]
fn an_adapter_changes_what_it_names_by_its_rank_and_nothing_else_for_every_objective() {
    let lm = init(qwen(), 3);
    let pairs: Vec<Pair> =
        (0..16).map(|row| Pair { prompt: ids(4, row), chosen: vec![10, 11, 2], rejected: vec![12, 2] }).collect();
    let rollouts: Vec<Rollout> = pairs
        .iter()
        .zip([1.0, -1.0].into_iter().cycle())
        .map(|(pair, advantage)| Rollout {
            prompt: pair.prompt.clone(),
            completion: pair.chosen.clone(),
            log_probs: vec![-3.0; 3],
            advantage,
        })
        .collect();
    let settings = adapted(3, &[Projection::Query, Projection::Output, Projection::Gate], 8);
    let (dpo_settings, grpo_settings) = (Dpo { beta: 0.5, smoothing: 0.0 }, Grpo { clip: 0.2, kl: 0.01 });
    let trained = [
        sft(&lm, &copies(), &settings, 2, &mut go),
        kd(&lm, &lm, &copies(), Kd { lambda: 1.0 }, &settings, 2, &mut go),
        dpo(&lm, Some(&lm), &pairs, &dpo_settings, &settings, 2, &mut go),
        grpo(&lm, Some(&lm), &rollouts, &grpo_settings, &settings, 2, &mut go),
    ];
    for trained in trained.map(Result::unwrap) {
        for ((name, shape, now), (_, _, start)) in trained.tensors().zip(lm.tensors()) {
            if !["q_proj.weight", "o_proj.weight", "gate_proj.weight"].iter().any(|end| name.ends_with(end)) {
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(now), bits(start), "{name}");
                continue;
            }
            let change: Vec<f64> = now.iter().zip(start).map(|(a, b)| f64::from(*a) - f64::from(*b)).collect();
            let pivots = pivots(change.chunks(shape[1]).map(<[f64]>::to_vec).collect(), 4);
            assert!(pivots[2] > 1e-3 * pivots[0] && pivots[3] < 1e-4 * pivots[0], "{name}: {pivots:?}");
        }
    }
}

#[test]
fn an_adapter_has_the_same_bits_on_any_number_of_threads() {
    for config in [llama(), qwen()] {
        let (lm, settings) = (init(config, 2), adapted(5, &all_projections(), 6));
        let run = |n_threads| {
            let mut steps = Vec::new();
            let trained = sft(&lm, &copies(), &settings, n_threads, &mut |step| {
                steps.push(step);
                ControlFlow::Continue(())
            });
            (bits(&trained.unwrap()), steps)
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
        let elsewhere = Training { seed: 1, ..settings.clone() };
        assert_ne!(one.0, bits(&sft(&lm, &copies(), &elsewhere, 1, &mut go).unwrap()));
    }
}

#[test]
fn an_adapter_of_full_rank_learns_what_full_training_learns_and_one_of_rank_one_does_not() {
    // Long enough that the head, which no adapter moves, tells words apart for certain.
    let start = sft(&init(llama(), 1), &copies(), &training(1500), 2, &mut go).unwrap();
    // From copying a text to copying what follows its first word.
    let shorter = |example: Example| {
        let n = example.mask.iter().filter(|learnt| !**learnt).count();
        Example::completion(&example.ids[..n], &example.ids[n + 1..])
    };
    let shorter: Vec<Example> = copies().into_iter().map(shorter).collect();
    let last = |settings: &Training| {
        let mut losses = Vec::new();
        let mut on_step = |step: Step| {
            losses.push(step.loss);
            ControlFlow::Continue(())
        };
        sft(&start, &shorter, settings, 2, &mut on_step).unwrap();
        losses[losses.len() - 10..].iter().sum::<f64>() / 10.0
    };
    // Two factors, one of which starts at zero, take longer than the matrix itself.
    let (free, full) = (last(&training(300)), last(&adapted(32, &all_projections(), 300)));
    let one = last(&adapted(1, &[Projection::Value], 300));
    assert!(free < 0.02 && full < 0.02 && one > 0.5, "{free} {full} {one}");
}

#[test]
fn an_adapter_that_cannot_be_is_refused_by_name() {
    let lm = init(llama(), 2);
    let lora = Lora { rank: 4, alpha: 8.0, projections: Projection::MLP.to_vec() };
    for (name, said, adapter) in [
        ("adapter.rank", "from 1 to 32", Lora { rank: 0, ..lora.clone() }),
        ("adapter.rank", "mlp.gate_proj.weight", Lora { rank: 33, ..lora.clone() }),
        ("adapter.alpha", "positive", Lora { alpha: 0.0, ..lora.clone() }),
        ("adapter.alpha", "positive", Lora { alpha: f64::NAN, ..lora.clone() }),
        ("adapter.projections", "at least one", Lora { projections: vec![], ..lora.clone() }),
    ] {
        let settings = Training { adapter: Some(adapter), ..training(1) };
        match sft(&lm, &copies(), &settings, 1, &mut go) {
            Err(Error::Range { what, expected, .. }) => assert!(what == name && expected.contains(said), "{expected}"),
            other => panic!("`{name}`: expected a refusal, got {other:?}"),
        }
    }
    assert!(sft(&lm, &copies(), &adapted(32, &Projection::MLP, 1), 1, &mut go).is_ok());
}
