//! Writes `expected.safetensors` into a Hugging Face folder: ids `[2, 40]` and the logits this crate gives after each.
//! `tests/golden/make.py check FOLDER` compares them with what transformers computes from the same folder.
//!
//!     tracker artifact get "goedel/round 4" model
//!     cargo run --release --example logits -- model && python gpu/lm/tests/golden/make.py check model
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "an example stops at a failure")]

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tracker_gpu::Device;
use tracker_lm::{Lm, logits};

const N_ROWS: usize = 2;
const N_TOKENS: usize = 40;

fn main() {
    let folder = std::env::args().nth(1).expect("a Hugging Face folder");
    let folder = Path::new(&folder);
    let lm = Lm::load(folder, &Device::cpu()).unwrap();
    let vocab = lm.config().vocab_size;
    let rows: Vec<Vec<u32>> = (0..N_ROWS)
        .map(|row| (0..N_TOKENS).map(|at| ((at * 7 + row * 13 + at * at) % vocab) as u32).collect())
        .collect();
    let ids: Vec<u8> = rows.iter().flatten().flat_map(|id| i64::from(*id).to_le_bytes()).collect();
    let all: Vec<u8> = rows.iter().flat_map(|row| logits(&lm, row).unwrap()).flat_map(f32::to_le_bytes).collect();
    let ids = TensorView::new(Dtype::I64, vec![N_ROWS, N_TOKENS], &ids).unwrap();
    let all = TensorView::new(Dtype::F32, vec![N_ROWS, N_TOKENS, vocab], &all).unwrap();
    serialize_to_file([("ids", ids), ("logits", all)], None, &folder.join("expected.safetensors")).unwrap();
}
