//! Diversity at the size of a paper: `cargo bench -p tracker-lab --bench vendi`. Bar: 5 s for Vendi scores of 10,000 × 6 outputs, n-grams
//! counted and eigenvalues taken, and Cohen's κ of two judges of them all, resamples included. The same texts go to `benches/vendi.py` (`NumPy`) in the same run, if `PYTHON` (or `python3`) has it,
//! and both must come to the same scores.
#![allow(clippy::print_stdout, reason = "figures go to the terminal")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod clock;

use std::io::Write;
use std::process::{Command, Stdio};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;
use tracker_lab::parts::bootstrap::Resampler;
use tracker_lab::parts::kappa;
use tracker_lab::parts::vendi::{NgramKernel, answer_entropy, vendi_of};

use clock::once;

const N_PROMPTS: usize = 10_000;
const N_OUTPUTS: usize = 6;
/// Words an output; some hundred, as answers with their reasoning have.
const N_WORDS: usize = 100;

/// Outputs of a prompt: each goes on with the words of the first, or with others.
fn outputs(stream: &mut ChaCha8Rng) -> Vec<String> {
    let first: Vec<u32> = (0..N_WORDS).map(|_| stream.random_range(0..2000)).collect();
    let one = |nth: usize, stream: &mut ChaCha8Rng| {
        let differs = 0.1 * nth as f64;
        let word = |word: &u32, stream: &mut ChaCha8Rng| {
            format!("w{}", if stream.random_bool(differs) { stream.random_range(0..2000) } else { *word })
        };
        first.iter().map(|of| word(of, stream)).collect::<Vec<_>>().join(" ")
    };
    (0..N_OUTPUTS).map(|nth| one(nth, stream)).collect()
}

fn main() {
    let mut stream = ChaCha8Rng::seed_from_u64(1);
    let all: Vec<Vec<String>> = (0..N_PROMPTS).map(|_| outputs(&mut stream)).collect();
    let kernel = NgramKernel::default();
    println!("{N_PROMPTS} prompts, {N_OUTPUTS} outputs of {N_WORDS} words each; {}", kernel.definition());
    let score = |texts: &Vec<String>| vendi_of(texts, &kernel).unwrap().unwrap();
    let alone: Vec<f64> = once("Vendi scores, one thread", || all.iter().map(score).collect());
    let both: Vec<f64> = once("the same on all threads", || all.par_iter().map(score).collect());
    assert_eq!(alone, both);
    once("entropy of the answers", || all.iter().map(|texts| answer_entropy(texts)).sum::<f64>());

    let judged: Vec<(usize, bool, bool)> = (0..N_PROMPTS * N_OUTPUTS)
        .map(|at| {
            let first = stream.random_bool(0.6);
            (at / N_OUTPUTS, first, if stream.random_bool(0.8) { first } else { !first })
        })
        .collect();
    let resampler = Resampler::new([7; 32], 1000).unwrap();
    let kappa = once("kappa of two judges of all outputs, 1,000 resamples of prompts", || {
        kappa::estimate(judged.iter().copied(), N_PROMPTS, &resampler).unwrap().unwrap()
    });
    println!("kappa {:.3} [{:.3}, {:.3}]", kappa.value, kappa.low, kappa.high);

    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/vendi.py");
    let child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        println!("no Python: nothing to compare with");
        return;
    };
    let lines: String = all.iter().flatten().flat_map(|text| [text.as_str(), "\n"]).collect();
    let written = child.stdin.take().unwrap().write_all(lines.as_bytes());
    let answer = child.wait_with_output().unwrap();
    if written.is_err() || !answer.status.success() {
        println!("Python without NumPy: nothing to compare with");
        return;
    }
    let said = String::from_utf8(answer.stdout).unwrap();
    let (figures, scores) = said.split_once("\n\n").unwrap();
    println!("{figures}");
    let theirs: Vec<f64> = scores.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(theirs.len(), alone.len());
    let gap = alone.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("greatest difference between the two: {gap:.1e}");
    assert!(gap < 1e-8);
}
