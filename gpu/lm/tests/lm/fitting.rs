//! Fitting reward models and optimising policies: they learn what they are told, repeat, and say when they cannot.

use std::ops::ControlFlow;

use tracker_lm::{
    Anchor, Batch, Continuation, Error, FitObjective, HeadKind, Length, Lora, Pair, PairLoss, Ppo, Projection, Prompt,
    RatedPair, RatedText, Regulariser, RewardModel, Sampling, ScoredRollout, Step, Tagged, TaggedExample, Training,
    Trunk, fit, ppo, sample, scores, tag_scores,
};

use crate::rewards::{bits, named, trunk_bits};
use crate::{ids, init, llama, qwen, sharp};

fn training(n_steps: usize) -> Training {
    Training { lr: 3e-3, length: Length::Steps(n_steps), batch: Batch::Items(8), ..Training::default() }
}

fn go(_: Step) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Steps that hold token 10 are right.
fn tagged() -> Vec<TaggedExample> {
    (0..32)
        .map(|row| {
            let mut text = ids(12, row);
            text.iter_mut().filter(|id| **id == 10).for_each(|id| *id = 11);
            let right = [row % 2 == 0, row % 3 == 0];
            for (step, _) in right.iter().enumerate().filter(|(_, right)| **right) {
                text[step * 6 + 2] = 10;
            }
            TaggedExample {
                ids: text,
                at: vec![5, 11],
                labels: right.map(|right| if right { 0.9 } else { 0.2 }).into(),
            }
        })
        .collect()
}

#[test]
fn a_process_reward_model_learns_the_soft_labels() {
    let start = RewardModel::init(&init(llama(), 2), HeadKind::TwoToken { plus: 9, minus: 17 }, 0).unwrap();
    let examples = tagged();
    let mut steps = Vec::new();
    let model = fit(&start, &FitObjective::Tags(&examples), Trunk::Trained, &training(150), 2, &mut |step| {
        steps.push(step);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!((steps[0].loss - 2f64.ln()).abs() < 0.03, "an untrained model says one half: {}", steps[0].loss);
    assert_eq!(steps[0].n_tokens, 16);
    let last = steps.last().unwrap();
    assert!(last.figures[0].0 == "gap" && last.figures[0].1 < 0.05, "{last:?}");
    // A soft label cannot be learnt below its entropy.
    assert!(last.loss > 0.32, "{last:?}");
    let tagged: Vec<Tagged<'_>> = examples
        .iter()
        .map(|one| Tagged {
            continuation: Continuation { prompt: &one.ids[..1], completion: &one.ids[1..] },
            at: &one.at,
        })
        .collect();
    for (read, example) in tag_scores(&model, &tagged, 2).unwrap().iter().zip(&examples) {
        for (read, label) in read.iter().zip(&example.labels) {
            assert!((read[0] - label).abs() < 0.2, "{read:?} {label}");
        }
    }
}

/// Completions with more of token 10 are better; prompts vary.
fn pairs(n: usize) -> Vec<RatedPair> {
    (0..n)
        .map(|row| {
            let mut rejected = ids(5, row + 3);
            rejected.iter_mut().filter(|id| **id == 10).for_each(|id| *id = 11);
            let mut chosen = rejected.clone();
            chosen[row % 5] = 10;
            RatedPair { pair: Pair { prompt: ids(3, row), chosen, rejected }, margin: 0.0 }
        })
        .collect()
}

#[test]
fn the_first_loss_is_the_scored_one_and_pairs_are_learnt() {
    for kind in [HeadKind::reward(), HeadKind::Mlp { hidden: 16, outputs: named(&["r"]) }] {
        let start = RewardModel::init(&init(qwen(), 2), kind, 1).unwrap();
        let pairs = pairs(32);
        let score = |model: &RewardModel, pair: &Pair| {
            let Pair { prompt, chosen, rejected } = pair;
            let both = [chosen, rejected].map(|completion| Continuation { prompt, completion });
            let read = scores(model, &both, 1).unwrap();
            read[0][0] - read[1][0]
        };
        let loss = PairLoss::default();
        let mut first = f64::NAN;
        fit(&start, &FitObjective::Pairs(&pairs[..1], &loss), Trunk::Trained, &training(1), 1, &mut |step| {
            first = step.loss;
            ControlFlow::Continue(())
        })
        .unwrap();
        let want = (-score(&start, &pairs[0].pair)).exp().ln_1p();
        assert!((first - want).abs() < 1e-14, "{first} and {want}");
        let model =
            fit(&start, &FitObjective::Pairs(&pairs, &loss), Trunk::Trained, &training(60), 2, &mut go).unwrap();
        let right = pairs.iter().filter(|rated| score(&model, &rated.pair) > 0.0).count();
        assert!(right >= 31, "{right}");
    }
}

#[test]
fn without_weight_a_regulariser_changes_no_bit() {
    let start = RewardModel::init(&init(llama(), 2), HeadKind::reward(), 1).unwrap();
    let pairs = pairs(16);
    let run = |alpha, regulariser, n_threads| {
        let loss = PairLoss { alpha, regulariser, ..PairLoss::default() };
        let mut steps = Vec::new();
        let model =
            fit(&start, &FitObjective::Pairs(&pairs, &loss), Trunk::Trained, &training(6), n_threads, &mut |step| {
                steps.push(step);
                ControlFlow::Continue(())
            });
        (bits(&model.unwrap()), steps)
    };
    let bt = run(0.0, Regulariser::Nll, 1);
    let reference = start.trunk().clone();
    let all = || {
        [
            Regulariser::Dpo { beta: 0.1, reference: reference.clone() },
            Regulariser::DpoWithoutReference { beta: 0.1 },
            Regulariser::Sft { beta: 0.1 },
            Regulariser::Nll,
        ]
    };
    for regulariser in all() {
        assert_eq!(run(0.0, regulariser, 2), bt);
    }
    for regulariser in all() {
        let got = run(0.01, regulariser, 2);
        assert_ne!(got.0, bt.0);
        assert_eq!(got.1[0].figures[2].0, "regulariser");
    }
}

#[test]
fn a_reference_that_is_the_model_itself_starts_at_even_odds() {
    let start = RewardModel::init(&init(llama(), 2), HeadKind::reward(), 1).unwrap();
    let regulariser = Regulariser::Dpo { beta: 0.1, reference: start.trunk().clone() };
    let loss = PairLoss { alpha: 0.5, regulariser, ..PairLoss::default() };
    let mut first = None;
    fit(&start, &FitObjective::Pairs(&pairs(8), &loss), Trunk::Trained, &training(1), 1, &mut |step| {
        first = Some(step);
        ControlFlow::Continue(())
    })
    .unwrap();
    let regulariser = first.unwrap().figures[2].1;
    assert!((regulariser - 2f64.ln()).abs() < 1e-12, "{regulariser}");
}

#[test]
fn a_regulariser_keeps_the_language_model_better() {
    let start = RewardModel::init(&sharp(llama(), 2), HeadKind::reward(), 1).unwrap();
    let pairs = pairs(32);
    let nll = |alpha| {
        let loss = PairLoss { alpha, regulariser: Regulariser::Nll, ..PairLoss::default() };
        let model =
            fit(&start, &FitObjective::Pairs(&pairs, &loss), Trunk::Trained, &training(40), 2, &mut go).unwrap();
        let chosen: Vec<Continuation<'_>> = pairs
            .iter()
            .map(|rated| Continuation { prompt: &rated.pair.prompt, completion: &rated.pair.chosen })
            .collect();
        let log_probs = tracker_lm::log_probs(model.trunk(), &chosen, 2).unwrap();
        -log_probs.iter().flatten().map(|log_prob| f64::from(*log_prob)).sum::<f64>()
    };
    assert!(nll(0.1) < 0.9 * nll(0.0));
}

/// Whether token 10 comes first and whether token 12 comes last, some of them unknown.
fn rated(missing: bool) -> Vec<RatedText> {
    (0..48)
        .map(|row| {
            let mut completion = ids(2 + row % 5, row);
            completion.iter_mut().filter(|id| [10, 12].contains(*id)).for_each(|id| *id += 1);
            let labels = [row % 2 == 0, row % 3 == 0];
            if labels[0] {
                completion[0] = 10;
            }
            if labels[1] {
                *completion.last_mut().unwrap() = 12;
            }
            let labels = labels.map(|label| f64::from(u8::from(label)));
            let kept = |output: usize| !missing || (row / 2 + output).is_multiple_of(2);
            let labels = (0..2).map(|output| kept(output).then_some(labels[output])).collect();
            RatedText { prompt: ids(2, row), completion, labels }
        })
        .collect()
}

#[test]
fn several_ratings_are_learnt_from_what_is_known_of_each() {
    let start =
        RewardModel::init(&init(llama(), 2), HeadKind::Linear { outputs: named(&["ten", "twelve"]) }, 1).unwrap();
    let known = rated(true);
    let model = fit(&start, &FitObjective::Ratings(&known), Trunk::Trained, &training(200), 2, &mut go).unwrap();
    let all = rated(false);
    let texts: Vec<Continuation<'_>> =
        all.iter().map(|one| Continuation { prompt: &one.prompt, completion: &one.completion }).collect();
    let mut squares = [0.0; 2];
    for (read, one) in scores(&model, &texts, 2).unwrap().iter().zip(&all) {
        for (at, square) in squares.iter_mut().enumerate() {
            *square += (read[at] - one.labels[at].unwrap()).powi(2) / all.len() as f64;
        }
    }
    assert!(squares.iter().all(|square| *square < 0.05), "{squares:?}");
}

#[test]
fn a_frozen_trunk_keeps_its_bits_and_the_head_learns() {
    let start = RewardModel::init(&sharp(llama(), 2), HeadKind::Mlp { hidden: 32, outputs: named(&["r"]) }, 1).unwrap();
    let pairs = pairs(32);
    let (bt, mut losses) = (PairLoss::default(), Vec::new());
    let settings = Training { anchor: Anchor::L2(0.1), ..training(120) };
    let model = fit(&start, &FitObjective::Pairs(&pairs, &bt), Trunk::Frozen, &settings, 2, &mut |step| {
        losses.push(step.loss);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(trunk_bits(model.trunk()), trunk_bits(start.trunk()));
    assert_ne!(model.head_digest(), start.head_digest());
    assert!(losses[119] < 0.5 * losses[0], "{losses:?}");
    let regularised = PairLoss { alpha: 0.1, ..PairLoss::default() };
    let got = fit(&start, &FitObjective::Pairs(&pairs, &regularised), Trunk::Frozen, &settings, 2, &mut go);
    assert!(matches!(got, Err(Error::Range { what: "alpha", .. })));
    let two = RewardModel::init(start.trunk(), HeadKind::TwoToken { plus: 9, minus: 17 }, 0).unwrap();
    let got = fit(&two, &FitObjective::Tags(&tagged()), Trunk::Frozen, &settings, 2, &mut go);
    assert!(matches!(got, Err(Error::Range { what: "trunk", .. })));
}

#[test]
fn fitting_is_bit_equal_on_any_number_of_threads() {
    for (kind, trunk) in [(HeadKind::reward(), Trunk::Trained), (HeadKind::reward(), Trunk::Frozen)] {
        let start = RewardModel::init(&init(qwen(), 2), kind, 1).unwrap();
        let pairs = pairs(16);
        let run = |n_threads| {
            let bt = PairLoss::default();
            bits(&fit(&start, &FitObjective::Pairs(&pairs, &bt), trunk, &training(5), n_threads, &mut go).unwrap())
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
        assert_ne!(one, bits(&start));
    }
}

#[test]
fn items_that_teach_nothing_are_refused_by_position() {
    let lm = init(llama(), 2);
    let two = RewardModel::init(&lm, HeadKind::TwoToken { plus: 9, minus: 17 }, 0).unwrap();
    let tag = |change: &dyn Fn(&mut TaggedExample)| {
        let mut examples = tagged();
        change(&mut examples[1]);
        fit(&two, &FitObjective::Tags(&examples), Trunk::Trained, &training(1), 1, &mut go)
    };
    assert!(matches!(tag(&|one| one.labels[1] = 1.5), Err(Error::At { idx: 1, position: 11, .. })));
    assert!(matches!(tag(&|one| one.labels[0] = f64::NAN), Err(Error::At { idx: 1, position: 5, .. })));
    assert!(matches!(tag(&|one| one.labels.truncate(1)), Err(Error::At { idx: 1, .. })));
    assert!(matches!(tag(&|one| one.at[1] = 12), Err(Error::At { idx: 1, position: 12, .. })));
    assert!(matches!(tag(&|one| one.ids.clear()), Err(Error::Empty { idx: 1, .. })));
    let one = RewardModel::init(&lm, HeadKind::reward(), 0).unwrap();
    let pair = |loss: &PairLoss, change: &dyn Fn(&mut RatedPair)| {
        let mut pairs = pairs(3);
        change(&mut pairs[2]);
        fit(&one, &FitObjective::Pairs(&pairs, loss), Trunk::Trained, &training(1), 1, &mut go)
    };
    let bt = PairLoss::default();
    assert!(matches!(pair(&bt, &|one| one.pair.chosen.clear()), Err(Error::Empty { idx: 2, .. })));
    assert!(matches!(pair(&bt, &|one| one.margin = f64::NAN), Err(Error::Range { what: "margin", .. })));
    assert!(matches!(pair(&bt, &|one| one.pair.prompt = ids(60, 0)), Err(Error::TooLong { idx: 2, .. })));
    for (what, loss) in [
        ("smoothing", PairLoss { smoothing: 0.5, ..bt.clone() }),
        ("positive", PairLoss { positive: -1.0, ..bt.clone() }),
        ("alpha", PairLoss { alpha: 1.0, ..bt.clone() }),
        ("beta", PairLoss { regulariser: Regulariser::Sft { beta: 0.0 }, ..bt.clone() }),
    ] {
        assert!(matches!(pair(&loss, &|_| ()), Err(Error::Range { what: got, .. }) if got == what), "{what}");
    }
    let rate = |labels: Vec<Option<f64>>| {
        let mut texts = rated(false);
        for text in &mut texts {
            text.labels.truncate(1);
        }
        texts[4].labels = labels;
        fit(&one, &FitObjective::Ratings(&texts), Trunk::Trained, &training(1), 1, &mut go)
    };
    assert!(matches!(rate(vec![None]), Err(Error::Empty { idx: 4, .. })));
    assert!(matches!(rate(vec![Some(f64::NAN)]), Err(Error::Range { what: "labels", .. })));
    assert!(matches!(rate(vec![Some(1.0), None]), Err(Error::Range { what: "labels", .. })));
    // Heads that cannot learn what they are told.
    let tags = tagged();
    let wrong = [
        fit(&one, &FitObjective::Tags(&tags), Trunk::Trained, &training(1), 1, &mut go),
        fit(&two, &FitObjective::Ratings(&rated(false)), Trunk::Trained, &training(1), 1, &mut go),
    ];
    assert!(wrong.into_iter().all(|wrong| matches!(wrong, Err(Error::Range { what: "head", .. }))));
    assert!(matches!(
        fit(&two, &FitObjective::Tags(&[]), Trunk::Trained, &training(1), 1, &mut go),
        Err(Error::Empty { .. })
    ));
}

#[test]
fn a_policy_is_optimised_towards_its_reward() {
    let start = RewardModel::init(&init(llama(), 3), HeadKind::value(), 1).unwrap();
    let prompts: Vec<Prompt> = (0..64).map(|row| Prompt { ids: ids(4, row / 16), seed: row as u64 }).collect();
    let settings = Sampling { temperature: 1.0, top_p: 1.0, max_tokens: 6, stop_ids: vec![2] };
    let share = |ids: &[u32]| ids.iter().filter(|id| **id < 20).count() as f64 / ids.len() as f64;
    let rollouts = |policy: &RewardModel| -> Vec<ScoredRollout> {
        let done = sample(policy.trunk(), &prompts, &settings, 2).unwrap();
        let rollout = |(prompt, done): (&Prompt, tracker_lm::Completion)| ScoredRollout {
            prompt: prompt.ids.clone(),
            reward: share(&done.ids),
            completion: done.ids,
            log_probs: done.log_probs,
        };
        prompts.iter().zip(done).map(rollout).collect()
    };
    let mean = |policy: &RewardModel| rollouts(policy).iter().map(|one| one.reward).sum::<f64>() / 64.0;
    let (mut policy, mut errors) = (start.clone(), Vec::new());
    for round in 0..8 {
        let batch = rollouts(&policy);
        let training = Training { batch: Batch::Items(32), seed: round, ..training(8) };
        let mut steps = Vec::new();
        let settings = Ppo { kl: 0.01, ..Ppo::default() };
        policy = ppo(&policy, Some(start.trunk()), &batch, &settings, &training, 2, &mut |step| {
            steps.push(step);
            ControlFlow::Continue(())
        })
        .unwrap();
        let names: Vec<&str> = steps[0].figures.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["ratio", "clipped", "policy_loss", "value_loss"]);
        assert!((steps[0].figures[0].1 - 1.0).abs() < 1e-12, "drawn and trained are the same bits: {:?}", steps[0]);
        errors.push(steps[0].figures[3].1);
    }
    assert!(errors[7] < 0.5 * errors[0], "values come nearer to the returns: {errors:?}");
    let (before, after) = (mean(&start), mean(&policy));
    assert!(after > before + 0.15, "{before} and {after}");
}

#[test]
fn rollouts_and_settings_out_of_range_are_refused() {
    let policy = RewardModel::init(&init(llama(), 3), HeadKind::value(), 1).unwrap();
    let rollout = ScoredRollout { prompt: vec![5], completion: vec![6, 7], log_probs: vec![-1.0; 2], reward: 1.0 };
    let go_with = |model: &RewardModel, rollout: ScoredRollout, settings: Ppo| {
        ppo(model, None, &[rollout], &settings, &training(1), 1, &mut go)
    };
    assert!(go_with(&policy, rollout.clone(), Ppo::default()).is_ok());
    for (what, settings) in [
        ("clip", Ppo { clip: 1.0, ..Ppo::default() }),
        ("value_clip", Ppo { value_clip: 0.0, ..Ppo::default() }),
        ("value_coefficient", Ppo { value_coefficient: -1.0, ..Ppo::default() }),
        ("gamma", Ppo { gamma: 1.1, ..Ppo::default() }),
        ("lambda", Ppo { lambda: f64::NAN, ..Ppo::default() }),
        ("kl", Ppo { kl: 0.1, ..Ppo::default() }),
    ] {
        let got = go_with(&policy, rollout.clone(), settings);
        assert!(matches!(got, Err(Error::Range { what: got, .. }) if got == what), "{what}");
    }
    let bad = |change: &dyn Fn(&mut ScoredRollout)| {
        let mut rollout = rollout.clone();
        change(&mut rollout);
        go_with(&policy, rollout, Ppo::default())
    };
    assert!(matches!(bad(&|one| one.reward = f64::NAN), Err(Error::Range { what: "reward", .. })));
    assert!(matches!(bad(&|one| one.log_probs.truncate(1)), Err(Error::Range { what: "log_probs", .. })));
    assert!(matches!(bad(&|one| one.completion.clear()), Err(Error::Empty { idx: 0, .. })));
    let one_token = |one: &mut ScoredRollout| {
        one.completion.truncate(1);
        one.log_probs.truncate(1);
    };
    assert!(matches!(bad(&one_token), Err(Error::Range { what: "advantages", .. })));
    let two = RewardModel::init(policy.trunk(), HeadKind::TwoToken { plus: 9, minus: 17 }, 0).unwrap();
    assert!(matches!(go_with(&two, rollout.clone(), Ppo::default()), Err(Error::Range { what: "head", .. })));
    assert!(matches!(ppo(&policy, None, &[], &Ppo::default(), &training(1), 1, &mut go), Err(Error::Empty { .. })));
}

fn adapted(n_steps: usize) -> Training {
    let adapter = Lora { rank: 3, alpha: 6.0, projections: vec![Projection::Query, Projection::Down] };
    Training { adapter: Some(adapter), ..training(n_steps) }
}

#[test]
fn an_adapter_of_a_trunk_comes_out_merged_whatever_is_fitted() {
    let trunk = init(qwen(), 4);
    let (examples, pairs, loss) = (tagged(), pairs(16), PairLoss::default());
    let regularised = PairLoss { alpha: 0.2, ..PairLoss::default() };
    let texts: Vec<RatedText> = (0..16)
        .map(|row| RatedText {
            prompt: ids(3, row),
            completion: ids(4, row + 2),
            labels: vec![Some(row as f64 / 16.0)],
        })
        .collect();
    let deep = HeadKind::Mlp { hidden: 8, outputs: named(&["r"]) };
    let cases = [
        (HeadKind::TwoToken { plus: 9, minus: 17 }, FitObjective::Tags(&examples)),
        (HeadKind::reward(), FitObjective::Pairs(&pairs, &loss)),
        (deep, FitObjective::Pairs(&pairs, &regularised)),
        (HeadKind::reward(), FitObjective::Ratings(&texts)),
    ];
    for (kind, objective) in cases {
        let start = RewardModel::init(&trunk, kind, 1).unwrap();
        let fitted = |n_threads| fit(&start, &objective, Trunk::Trained, &adapted(6), n_threads, &mut go).unwrap();
        let model = fitted(2);
        assert!(bits(&model) == bits(&fitted(1)), "threads change no bit");
        // Tensors have the names and shapes they had; those that are named moved, by what has a rank of three, the others kept their bits.
        for ((name, shape, now), (old_name, old_shape, before)) in model.trunk().tensors().zip(trunk.tensors()) {
            assert_eq!((name, shape), (old_name, old_shape));
            let is_adapted = ["q_proj.weight", "down_proj.weight"].iter().any(|end| name.ends_with(end));
            let same = now.iter().zip(before).all(|(now, before)| now.to_bits() == before.to_bits());
            assert_eq!(same, !is_adapted, "{name}");
        }
        let learns = model.n_head_params() > 0;
        assert_eq!(model.head_digest() != start.head_digest(), learns, "the head learns in full");
        // What is saved needs nothing beside it, and says the same.
        let back = RewardModel::from_files(&model.to_files().unwrap(), model.trunk().device()).unwrap();
        let asked = [Continuation { prompt: &[5, 6], completion: &[10, 11, 12] }];
        assert_eq!(scores(&back, &asked, 1).unwrap(), scores(&model, &asked, 1).unwrap());
        assert_ne!(scores(&model, &asked, 1).unwrap(), scores(&start, &asked, 1).unwrap());
    }
}

#[test]
fn an_adapted_trunk_learns_pairs_and_a_frozen_one_has_no_adapter() {
    let start = RewardModel::init(&init(llama(), 2), HeadKind::reward(), 1).unwrap();
    let (pairs, loss) = (pairs(32), PairLoss::default());
    let objective = FitObjective::Pairs(&pairs, &loss);
    let mut accuracy = 0.0;
    let mut watch = |step: Step| {
        accuracy = step.figures[0].1;
        ControlFlow::Continue(())
    };
    fit(&start, &objective, Trunk::Trained, &adapted(120), 2, &mut watch).unwrap();
    assert!(accuracy > 0.85, "{accuracy}");
    let frozen = fit(&start, &objective, Trunk::Frozen, &adapted(1), 1, &mut go);
    assert!(matches!(frozen, Err(Error::Range { what: "adapter", .. })), "{frozen:?}");
}
