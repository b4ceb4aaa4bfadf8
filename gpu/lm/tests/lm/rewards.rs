//! Reward models: scored as trained, and refused when head and trunk do not belong together.

use tracker_gpu::Device;
use tracker_lm::{Config, Continuation, Error, HeadKind, Lm, RewardModel, Tagged, logits, scores, tag_scores};

use crate::{ids, init, llama, qwen, sharp};

pub(crate) fn bits(model: &RewardModel) -> Vec<(String, Vec<u8>)> {
    model.to_files().unwrap()
}

pub(crate) fn trunk_bits(lm: &Lm) -> Vec<u32> {
    lm.tensors().flat_map(|(_, _, values)| values.iter().map(|value| value.to_bits())).collect()
}

pub(crate) fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn kinds() -> [HeadKind; 3] {
    [
        HeadKind::Linear { outputs: named(&["help", "length"]) },
        HeadKind::Mlp { hidden: 20, outputs: named(&["help", "length"]) },
        HeadKind::TwoToken { plus: 9, minus: 17 },
    ]
}

/// Prompts and completions; the first three share a prompt.
fn texts() -> Vec<(Vec<u32>, Vec<u32>)> {
    (0..7).map(|row| (ids(1 + 5 * (row / 3), row / 3), ids(2 + row * 6, row + 9))).collect()
}

fn continuations(texts: &[(Vec<u32>, Vec<u32>)]) -> Vec<Continuation<'_>> {
    texts.iter().map(|(prompt, completion)| Continuation { prompt, completion }).collect()
}

#[test]
fn scores_depend_on_model_and_text_alone() {
    for config in [llama(), qwen()] {
        for kind in kinds() {
            let model = RewardModel::init(&sharp(config.clone(), 2), kind, 4).unwrap();
            let texts = texts();
            let all = continuations(&texts);
            let want = scores(&model, &all, 1).unwrap();
            assert_eq!(want.len(), all.len());
            assert!(want.iter().all(|row| row.len() == model.kind().outputs().len()));
            for n_threads in [2, 5] {
                assert_eq!(scores(&model, &all, n_threads).unwrap(), want);
            }
            for (one, want) in all.iter().zip(&want) {
                assert_eq!(&scores(&model, &[*one], 1).unwrap()[0], want);
                // The same text cut elsewhere, and read at all its positions.
                let whole = [one.prompt, one.completion].concat();
                let (prompt, completion) = whole.split_at(1);
                let at: Vec<usize> = (0..whole.len()).collect();
                let tagged = Tagged { continuation: Continuation { prompt, completion }, at: &at };
                let read = tag_scores(&model, &[tagged], 1).unwrap().remove(0);
                assert_eq!(read.len(), whole.len());
                assert_eq!(read.last().unwrap(), want);
                assert_ne!(read[0], read[1]);
            }
        }
    }
}

#[test]
fn a_head_of_two_tokens_is_the_softmax_of_their_logits() {
    let lm = sharp(qwen(), 3);
    let model = RewardModel::init(&lm, HeadKind::TwoToken { plus: 9, minus: 17 }, 0).unwrap();
    let text = ids(30, 5);
    let all = logits(&lm, &text).unwrap();
    let at: Vec<usize> = (0..30).collect();
    let continuation = Continuation { prompt: &text[..1], completion: &text[1..] };
    let read = tag_scores(&model, &[Tagged { continuation, at: &at }], 1).unwrap().remove(0);
    for (logits, read) in all.chunks_exact(40).zip(read) {
        let (plus, minus) = (f64::from(logits[9]).exp(), f64::from(logits[17]).exp());
        assert!((read[0] - plus / (plus + minus)).abs() < 1e-5, "{read:?}");
    }
}

#[test]
fn long_texts_are_read_alike_wherever_they_are_cut() {
    let lm = sharp(Config { max_positions: 700, ..qwen() }, 3);
    let model = RewardModel::init(&lm, HeadKind::Mlp { hidden: 9, outputs: named(&["a"]) }, 0).unwrap();
    let text = ids(601, 5);
    let at = [99, 255, 256, 257, 511, 512, 600];
    let read = |cut: usize| {
        let (prompt, completion) = text.split_at(cut);
        tag_scores(&model, &[Tagged { continuation: Continuation { prompt, completion }, at: &at }], 1).unwrap()
    };
    let whole = read(1);
    assert_eq!(whole[0].len(), 7);
    assert_eq!(read(100), whole);
    assert_eq!(read(37), whole);
}

#[test]
fn initial_heads_follow_from_their_seed_and_have_the_stated_spread() {
    let lm = init(llama(), 2);
    let kind = || HeadKind::Mlp { hidden: 500, outputs: named(&["r"]) };
    let head = |seed| RewardModel::init(&lm, kind(), seed).unwrap();
    assert_eq!(head(1).head_digest(), head(1).head_digest());
    assert_ne!(head(1).head_digest(), head(2).head_digest());
    assert_eq!(head(1).n_head_params(), 500 * 32 + 500 + 500 + 1);
    let files = head(1).to_files().unwrap();
    let weights = &files.iter().find(|(name, _)| name == "head.safetensors").unwrap().1;
    let tensors = safetensors::SafeTensors::deserialize(weights).unwrap();
    let values = |name: &str| -> Vec<f64> {
        let bytes = tensors.tensor(name).unwrap().data().to_vec();
        bytes.chunks_exact(4).map(|one| f64::from(f32::from_le_bytes(one.try_into().unwrap()))).collect()
    };
    let dense = values("dense.weight");
    let variance = dense.iter().map(|value| value * value).sum::<f64>() / dense.len() as f64;
    assert!((variance * 33.0 - 1.0).abs() < 0.05, "{variance}");
    assert!(values("dense.bias").iter().all(|value| *value == 0.0));
}

#[test]
fn a_reward_model_comes_back_from_its_files_as_it_was() {
    for kind in kinds() {
        let model = RewardModel::init(&sharp(qwen(), 2), kind, 4).unwrap();
        let files = model.to_files().unwrap();
        assert!(files.is_sorted_by(|a, b| a.0 < b.0));
        let back = RewardModel::from_files(&files, &Device::cpu()).unwrap();
        assert_eq!(bits(&back), files);
        assert_eq!((back.kind(), back.head_digest()), (model.kind(), model.head_digest()));
        let texts = texts();
        let all = continuations(&texts);
        assert_eq!(scores(&back, &all, 1).unwrap(), scores(&model, &all, 1).unwrap());
        let dir = tempfile::tempdir().unwrap();
        model.save(dir.path().join("model")).unwrap();
        assert_eq!(bits(&RewardModel::load(dir.path().join("model"), &Device::cpu()).unwrap()), files);
        assert_eq!(trunk_bits(&Lm::from_files(&files, &Device::cpu()).unwrap()), trunk_bits(model.trunk()));
    }
}

/// The files with one of them changed.
fn with(files: &[(String, Vec<u8>)], name: &str, change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<(String, Vec<u8>)> {
    assert!(files.iter().any(|(file, _)| file == name));
    files.iter().map(|(file, bytes)| (file.clone(), if file == name { change(bytes) } else { bytes.clone() })).collect()
}

fn load(files: &[(String, Vec<u8>)]) -> Error {
    RewardModel::from_files(files, &Device::cpu()).expect_err("must be refused")
}

/// A file of tensors.
fn tensors(list: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> =
        list.iter().map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = list.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        (*name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn a_head_that_is_absent_mismatched_or_damaged_is_refused() {
    let kind = HeadKind::Linear { outputs: named(&["a", "b"]) };
    let model = RewardModel::init(&init(llama(), 2), kind.clone(), 4).unwrap();
    let files = model.to_files().unwrap();
    for gone in ["head.json", "head.safetensors"] {
        let rest: Vec<_> = files.iter().filter(|(name, _)| name != gone).cloned().collect();
        assert!(matches!(load(&rest), Error::NoFile { name } if name == gone));
    }
    // Another trunk of the same shape; another head of the same shape; another kind of the same width.
    let other = RewardModel::init(&init(llama(), 3), kind, 5).unwrap().to_files().unwrap();
    let of = |name: &str| other.iter().find(|(file, _)| file == name).unwrap().1.clone();
    assert!(matches!(load(&with(&files, "model.safetensors", |_| of("model.safetensors"))), Error::Trunk { .. }));
    let swapped = load(&with(&files, "head.safetensors", |_| of("head.safetensors")));
    assert!(
        matches!(&swapped, Error::Malformed { name, detail } if name == "head.safetensors" && detail.contains("digest"))
    );
    let fewer: Vec<f32> = vec![0.5; 32];
    let (w, b) = (vec![0.5; 64], vec![0.5; 2]);
    let head = |list: &[(&str, &[usize], &[f32])]| load(&with(&files, "head.safetensors", |_| tensors(list)));
    let missing = head(&[("score.weight", &[2, 32], &w)]);
    assert!(matches!(missing, Error::Tensors { missing, .. } if missing == ["score.bias"]));
    let more = head(&[("score.weight", &[2, 32], &w), ("score.bias", &[2], &b), ("dense.bias", &[2], &b)]);
    assert!(matches!(more, Error::Tensors { unexpected, .. } if unexpected == ["dense.bias"]));
    let shape = head(&[("score.weight", &[1, 32], &fewer), ("score.bias", &[2], &b)]);
    assert!(matches!(shape, Error::Tensor { name, .. } if name == "score.weight"));
    let mut nan = w.clone();
    nan[40] = f32::NAN;
    let damaged = head(&[("score.weight", &[2, 32], &nan), ("score.bias", &[2], &b)]);
    assert!(matches!(damaged, Error::Tensor { name, got, .. } if name == "score.weight" && got.contains("40")));
    for (from, to) in [
        ("\"linear\"", "\"mlp\""),
        ("\"linear\"", "\"cubic\""),
        ("\"format\": 1", "\"format\": 2"),
        ("\"hidden_size\": 32", "\"hidden_size\": 33"),
        ("\"hidden_size\": 32", "\"hidden_size\": 32, \"more\": 1"),
        ("\"b\"", "\"c\""),
        ("\"b\"", "\"a\""),
        ("{", "["),
    ] {
        let error = load(&with(&files, "head.json", |bytes| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert!(text.contains(from), "{text}");
            text.replacen(from, to, 1).into_bytes()
        }));
        assert!(matches!(error, Error::Malformed { .. } | Error::Range { .. }), "{from} {to}: {error}");
    }
    // Tokens whose meaning changed.
    let two = RewardModel::init(&init(llama(), 2), HeadKind::TwoToken { plus: 9, minus: 17 }, 0).unwrap();
    let changed = load(&with(&two.to_files().unwrap(), "tokenizer.json", |bytes| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.replace("\"w9\"", "\"x9\"").into_bytes()
    }));
    assert!(matches!(changed, Error::Malformed { name, detail } if name == "head.json" && detail.contains("x9")));
}

#[test]
fn heads_that_make_no_sense_are_refused() {
    let lm = init(llama(), 2);
    for kind in [
        HeadKind::Linear { outputs: vec![] },
        HeadKind::Linear { outputs: named(&["a", "a"]) },
        HeadKind::Linear { outputs: named(&[""]) },
        HeadKind::Mlp { hidden: 0, outputs: named(&["a"]) },
        HeadKind::TwoToken { plus: 4, minus: 4 },
        HeadKind::TwoToken { plus: 4, minus: 40 },
    ] {
        assert!(matches!(RewardModel::init(&lm, kind, 0), Err(Error::Range { .. })));
    }
}

#[test]
fn texts_that_cannot_be_scored_are_refused_by_position() {
    let model = RewardModel::init(&init(llama(), 2), HeadKind::reward(), 0).unwrap();
    let fine = Continuation { prompt: &[5], completion: &[6] };
    let long = ids(64, 1);
    let score = |bad: Continuation<'_>| scores(&model, &[fine, bad], 1);
    assert!(matches!(score(Continuation { prompt: &[], completion: &[6] }), Err(Error::Empty { idx: 1, .. })));
    assert!(matches!(score(Continuation { prompt: &[5], completion: &[] }), Err(Error::Empty { idx: 1, .. })));
    let too_long = Continuation { prompt: &[5], completion: &long };
    assert!(matches!(score(too_long), Err(Error::TooLong { idx: 1, limit: 64, got: 65, .. })));
    assert!(matches!(score(Continuation { prompt: &[99], completion: &[6] }), Err(Error::Token { idx: 1, .. })));
    let tag = |at: &[usize]| {
        let continuation = Continuation { prompt: &[5, 6], completion: &[7, 8] };
        tag_scores(&model, &[Tagged { continuation, at: &[1, 3] }, Tagged { continuation, at }], 1)
    };
    assert!(matches!(tag(&[]), Err(Error::Empty { idx: 1, .. })));
    for (at, bad) in [(&[0][..], 0), (&[1, 4], 4), (&[3, 2], 2), (&[2, 2], 2)] {
        assert!(matches!(tag(at), Err(Error::At { idx: 1, position, .. }) if position == bad));
    }
    assert!(matches!(scores(&model, &[fine], 0), Err(Error::Range { what: "n_threads", .. })));
    assert!(scores(&model, &[], 1).unwrap().is_empty());
}

#[test]
fn a_damaged_trunk_is_named_by_the_first_text_it_cannot_score() {
    let files = init(llama(), 2).to_files().unwrap();
    let broken = with(&files, "model.safetensors", |bytes| {
        let mut bytes = bytes.to_vec();
        let at = bytes.len() - 4;
        // The last tensor of the file is the final norm.
        bytes[at..].copy_from_slice(&f32::NAN.to_le_bytes());
        bytes
    });
    let lm = Lm::from_files(&broken, &Device::cpu()).unwrap();
    let model = RewardModel::init(&lm, HeadKind::reward(), 0).unwrap();
    let got = scores(&model, &[Continuation { prompt: &[5, 6], completion: &[7, 8] }], 1);
    assert!(matches!(got, Err(Error::Output { idx: 0, position: 3, .. })), "{got:?}");
}
