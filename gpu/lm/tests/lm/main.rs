//! The language model through its public face.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests stop at what they do not expect")]

mod checkpoint;
mod clip;
mod fitting;
mod golden;
mod rewards;
mod sampling;
mod training;

use tracker_gpu::Device;
use tracker_lm::{Architecture, Config, Lm, Tokenizer};

/// Ids of the small models' tokenizers.
const VOCAB: usize = 40;

/// A configuration that uses all a decoder may have: shared key-value heads, biases, a tied head.
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
        eos: vec![2],
        ..Config::tiny(VOCAB, 64)
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
        ..Config::tiny(VOCAB, 64)
    }
}

fn tokenizer() -> Tokenizer {
    let words: Vec<String> = (4..VOCAB).map(|id| format!("w{id}")).collect();
    Tokenizer::words(&words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
}

fn init(config: Config, seed: u64) -> Lm {
    Lm::init(config, tokenizer(), seed, &Device::cpu()).unwrap()
}

/// A model whose distribution is far from uniform: random tensors of spread 0.3 instead of 0.02.
fn sharp(config: Config, seed: u64) -> Lm {
    let lm = init(config, seed);
    let mut files = lm.to_files().unwrap();
    let weights = &mut files.iter_mut().find(|(name, _)| name == "model.safetensors").unwrap().1;
    let header = usize::try_from(u64::from_le_bytes(weights[..8].try_into().unwrap())).unwrap();
    for bytes in weights[8 + header..].chunks_exact_mut(4) {
        let value = f32::from_le_bytes(bytes.try_into().unwrap());
        // Norms stay one, biases zero.
        let scaled = if value == 1.0 { value } else { value * 15.0 };
        bytes.copy_from_slice(&scaled.to_le_bytes());
    }
    Lm::from_files(&files, &Device::cpu()).unwrap()
}

/// Deterministic ids between 4 and the vocabulary's end.
fn ids(n: usize, seed: usize) -> Vec<u32> {
    (0..n).map(|at| (4 + (seed * 7 + at * at * 3 + at) % (VOCAB - 4)) as u32).collect()
}
