//! Sampling and scoring: what a completion depends on, and what it does not.

use tracker_lm::{Completion, Config, Continuation, Error, Finish, Lm, Prompt, Sampling, log_probs, logits, sample};

use crate::{VOCAB, ids, init, llama, qwen, sharp};

fn settings() -> Sampling {
    Sampling { temperature: 1.0, top_p: 0.95, max_tokens: 20, stop_ids: vec![2, 9] }
}

/// Prompts of many lengths, some equal.
fn prompts() -> Vec<Prompt> {
    (0..30).map(|row| Prompt { ids: ids(1 + row * 5 % 40, row % 11), seed: row as u64 }).collect()
}

fn scored(lm: &Lm, prompts: &[Prompt], completions: &[Completion], n_threads: usize) -> Vec<Vec<f32>> {
    let pairs = prompts.iter().zip(completions);
    let continuations: Vec<Continuation<'_>> =
        pairs.map(|(prompt, done)| Continuation { prompt: &prompt.ids, completion: &done.ids }).collect();
    log_probs(lm, &continuations, n_threads).unwrap()
}

#[test]
fn a_completion_is_the_same_alone_in_company_and_on_any_number_of_threads() {
    for config in [llama(), qwen()] {
        let lm = sharp(config, 5);
        let prompts = prompts();
        let all = sample(&lm, &prompts, &settings(), 1).unwrap();
        assert!(all.iter().any(|one| one.finish == Finish::Stop) && all.iter().any(|one| one.finish == Finish::Length));
        for n_threads in [1, 2, 3] {
            assert_eq!(sample(&lm, &prompts, &settings(), n_threads).unwrap(), all);
        }
        for (prompt, done) in prompts.iter().zip(&all) {
            let alone = sample(&lm, std::slice::from_ref(prompt), &settings(), 1).unwrap();
            assert_eq!(alone[0], *done);
        }
        let mut backwards: Vec<Prompt> = prompts.clone();
        backwards.reverse();
        let mut reversed = sample(&lm, &backwards, &settings(), 2).unwrap();
        reversed.reverse();
        assert_eq!(reversed, all);
    }
}

#[test]
fn scoring_gives_the_bits_that_sampling_reported() {
    // The last has a vocabulary of more than two blocks.
    for config in [llama(), qwen(), Config { vocab_size: 9000, ..qwen() }] {
        let lm = sharp(config, 6);
        let prompts = prompts();
        let done = sample(&lm, &prompts, &settings(), 2).unwrap();
        for n_threads in [1, 2] {
            let scored = scored(&lm, &prompts, &done, n_threads);
            assert!(scored.iter().zip(&done).all(|(scored, done)| *scored == done.log_probs));
        }
    }
}

#[test]
fn long_texts_are_scored_as_their_logits_say() {
    let lm = sharp(Config { max_positions: 700, ..llama() }, 6);
    for n in [256, 257, 258, 601] {
        let text = ids(n, 3);
        let (prompt, completion) = text.split_at(1);
        let scored = log_probs(&lm, &[Continuation { prompt, completion }], 1).unwrap().remove(0);
        assert_eq!(scored.len(), n - 1);
        let all = logits(&lm, &text).unwrap();
        for ((logits, id), got) in all.chunks_exact(VOCAB).zip(completion).zip(scored) {
            let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
            assert!((f64::from(logits[*id as usize]) - total.ln() - f64::from(got)).abs() < 1e-5, "{n}");
        }
    }
}

#[test]
fn seeds_change_completions_and_the_same_seed_repeats_them() {
    let lm = sharp(llama(), 5);
    let prompt = |seed| Prompt { ids: ids(4, 1), seed };
    let done = sample(&lm, &[prompt(1), prompt(1), prompt(2)], &settings(), 1).unwrap();
    assert_eq!(done[0], done[1]);
    assert_ne!(done[0], done[2]);
}

#[test]
fn a_completion_ends_at_a_stop_token_at_the_limit_or_at_the_end_of_the_context() {
    let lm = sharp(llama(), 5);
    for (row, done) in prompts().iter().zip(sample(&lm, &prompts(), &settings(), 1).unwrap()) {
        assert_eq!(done.ids.len(), done.log_probs.len());
        assert!(done.log_probs.iter().all(|log_prob| log_prob.is_finite() && *log_prob <= 0.0));
        let stops: Vec<usize> = (0..done.ids.len()).filter(|at| [2, 9].contains(&done.ids[*at])).collect();
        match done.finish {
            Finish::Stop => assert_eq!(stops, [done.ids.len() - 1]),
            Finish::Length => assert!(stops.is_empty() && done.ids.len() == 20.min(64 - row.ids.len())),
        }
        assert_eq!(done.text_ids().len(), done.ids.len() - stops.len());
    }
    let last = Prompt { ids: ids(63, 0), seed: 1 };
    let done = sample(&lm, &[last], &settings(), 1).unwrap();
    assert_eq!(done[0].ids.len(), 1);
}

#[test]
fn temperature_zero_takes_the_likeliest_token_whatever_the_seed() {
    let lm = sharp(qwen(), 5);
    let greedy = Sampling { temperature: 0.0, ..settings() };
    let prompt = |seed| Prompt { ids: ids(9, 2), seed };
    let done = sample(&lm, &[prompt(1), prompt(2)], &greedy, 2).unwrap();
    assert_eq!(done[0], done[1]);
    let vocab = 0..40u32;
    let prompt = ids(9, 2);
    let all: Vec<[u32; 1]> = vocab.map(|id| [id]).collect();
    let each: Vec<Continuation<'_>> = all.iter().map(|id| Continuation { prompt: &prompt, completion: id }).collect();
    let scores: Vec<f32> = log_probs(&lm, &each, 2).unwrap().concat();
    let best = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    assert_eq!(scores[done[0].ids[0] as usize], best);
    let total: f64 = scores.iter().map(|score| f64::from(*score).exp()).sum();
    assert!((total - 1.0).abs() < 1e-5, "probabilities of all tokens add to one: {total}");
}

#[test]
fn nothing_to_do_gives_nothing() {
    let lm = init(llama(), 1);
    assert!(sample(&lm, &[], &settings(), 2).unwrap().is_empty());
    assert!(log_probs(&lm, &[], 2).unwrap().is_empty());
}

#[test]
fn prompts_that_cannot_be_continued_are_refused_by_position() {
    let lm = init(llama(), 1);
    let fine = Prompt { ids: ids(3, 0), seed: 0 };
    let try_with = |ids: Vec<u32>| sample(&lm, &[fine.clone(), Prompt { ids, seed: 0 }], &settings(), 1);
    assert!(matches!(try_with(vec![]), Err(Error::Empty { idx: 1, .. })));
    assert!(matches!(try_with(vec![4, 99]), Err(Error::Token { idx: 1, id: 99, vocab_size: 40, .. })));
    for n in [64, 65, 100] {
        assert!(matches!(try_with(ids(n, 0)), Err(Error::TooLong { idx: 1, limit: 63, got, .. }) if got == n));
    }
    let completion = ids(30, 1);
    let long = [Continuation { prompt: &ids(35, 0), completion: &completion }];
    assert!(matches!(log_probs(&lm, &long, 1), Err(Error::TooLong { limit: 64, got: 65, .. })));
    let empty = [Continuation { prompt: &[4], completion: &[] }];
    assert!(matches!(log_probs(&lm, &empty, 1), Err(Error::Empty { .. })));
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let lm = init(llama(), 1);
    let cases = [
        ("temperature", Sampling { temperature: -1.0, ..settings() }),
        ("temperature", Sampling { temperature: f32::NAN, ..settings() }),
        ("top_p", Sampling { top_p: 0.0, ..settings() }),
        ("top_p", Sampling { top_p: 1.1, ..settings() }),
        ("max_tokens", Sampling { max_tokens: 0, ..settings() }),
    ];
    for (name, settings) in cases {
        assert!(matches!(sample(&lm, &[], &settings, 1), Err(Error::Range { what, .. }) if what == name));
    }
    assert!(matches!(sample(&lm, &[], &settings(), 0), Err(Error::Range { what: "n_threads", .. })));
}

#[test]
fn damaged_weights_are_an_error_and_not_a_completion() {
    let lm = init(llama(), 1);
    let mut files = lm.to_files().unwrap();
    let weights = &mut files.iter_mut().find(|(name, _)| name == "model.safetensors").unwrap().1;
    let end = weights.len() - 4;
    weights[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    let damaged = Lm::from_files(&files, lm.device()).unwrap();
    let prompt = Prompt { ids: ids(3, 0), seed: 0 };
    let done = sample(&damaged, &[prompt], &settings(), 1);
    assert!(matches!(done, Err(Error::Logits { idx: 0, position: 3, .. })), "{done:?}");
}
