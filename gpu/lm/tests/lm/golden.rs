//! Models made by transformers compute here what they compute there. `tests/golden/make.py` made the folders.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use tracker_gpu::Device;
use tracker_lm::{Continuation, Lm, log_probs, logits};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Ids `[2, 40]` and logits `[2, 40, 64]`.
fn expected(name: &str) -> (Vec<u32>, Vec<f32>) {
    let bytes = std::fs::read(folder(name).join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (ids, logits) = (tensors.tensor("ids").unwrap(), tensors.tensor("logits").unwrap());
    let ids = ids.data().chunks_exact(8).map(|id| i64::from_le_bytes(id.try_into().unwrap()) as u32);
    let logits = logits.data().chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap()));
    (ids.collect(), logits.collect())
}

fn check(name: &str) {
    let lm = Lm::load(folder(name), &Device::cpu()).unwrap();
    let (ids, want) = expected(name);
    for (ids, want) in ids.chunks(40).zip(want.chunks(40 * 64)) {
        let got = logits(&lm, ids).unwrap();
        let gap = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(gap <= 1e-4, "{name}: {gap}");
        let scored = log_probs(&lm, &[Continuation { prompt: &ids[..1], completion: &ids[1..] }], 1).unwrap();
        for ((got, id), row) in scored[0].iter().zip(&ids[1..]).zip(want.chunks(64)) {
            let total: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
            let want = f64::from(row[*id as usize]) - total.ln();
            assert!((f64::from(*got) - want).abs() <= 1e-4, "{name}: {got} and {want}");
        }
    }
}

#[test]
fn a_bf16_llama_with_stretched_frequencies_computes_what_transformers_computes() {
    check("llama");
}

#[test]
fn a_sharded_qwen2_with_a_tied_head_computes_what_transformers_computes() {
    check("qwen2");
}

#[test]
fn a_tokenizer_of_transformers_reads() {
    let lm = Lm::load(folder("qwen2"), &Device::cpu()).unwrap();
    assert_eq!(lm.tokenizer().encode("w7 w4").unwrap(), [7, 4]);
    assert_eq!((lm.config().bos, lm.config().eos.as_slice(), lm.config().pad), (Some(1), &[2][..], Some(0)));
}
