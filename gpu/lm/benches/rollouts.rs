//! What sharing a prefix saves: sixteen completions of each prefix against as many that read their prefix themselves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops at a failure"
)]

use std::time::Instant;

use tracker_gpu::{Choice, Device};
use tracker_lm::{Config, Lm, Prompt, Sampling, Tokenizer, sample};

const VOCAB: usize = 128;
const CONTEXT: usize = 1024;
/// Completions of a prefix, as in ER-PRM (arXiv 2412.11006).
const FORKS: usize = 16;
/// Prefixes of a call.
const PREFIXES: usize = 4;
const ROUNDS: usize = 3;

/// Tokens of a prefix and of a completion: a late step of a solution, a short prompt, a middle step and a first step.
const SIZES: [(usize, usize); 5] = [(448, 32), (224, 32), (112, 16), (96, 48), (48, 48)];

/// `[DEVICE] [THREADS]`: on `cpu`, with two threads. An adapter (`wgpu:N`) is given one size only.
fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let choice: Choice = args.first().map_or(Choice::Cpu, |name| name.parse().unwrap());
    let n_threads = args.get(1).map_or(2, |n| n.parse().unwrap());
    let device = Device::open(&choice).unwrap();
    let (sizes, n_rounds) = if device.adapter().is_some() { (&SIZES[2..3], 1) } else { (&SIZES[..], ROUNDS) };
    let words: Vec<String> = (4..VOCAB).map(|id| format!("w{id}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let tokenizer = Tokenizer::words(&words).unwrap();
    let lm = Lm::init(Config::tiny(VOCAB, CONTEXT), tokenizer, 1, &device).unwrap();
    println!("{}, {} parameters, {n_threads} threads", device.id(), lm.n_params());
    for (prefix, completion) in sizes {
        compare(&lm, *prefix, *completion, n_rounds, n_threads);
    }
}

/// Rows of one prefix are equal, or differ in their first token so that each has to be read.
fn prompts(n_tokens: usize, own: bool) -> Vec<Prompt> {
    let prompt = |row: usize| {
        let at = |at: usize| (row / FORKS * 31 + (at % 37) * 5 + 7) % VOCAB;
        let mut ids: Vec<u32> = (0..n_tokens).map(|nth| at(nth) as u32).collect();
        if own {
            ids[0] = (row % FORKS) as u32;
        }
        Prompt { ids, seed: row as u64 }
    };
    (0..PREFIXES * FORKS).map(prompt).collect()
}

/// By turns, after one turn to warm up.
fn compare(lm: &Lm, prefix: usize, completion: usize, n_rounds: usize, n_threads: usize) {
    let settings = Sampling { temperature: 1.0, top_p: 1.0, max_tokens: completion, stop_ids: vec![] };
    let both = [prompts(prefix, false), prompts(prefix, true)];
    let mut spent = [[0.0; 2]; 2];
    let n_tokens = (PREFIXES * FORKS * completion) as f64;
    for round in 0..=n_rounds {
        for (prompts, spent) in both.iter().zip(&mut spent) {
            let (wall, cpu) = (Instant::now(), cpu_secs());
            let done = sample(lm, prompts, &settings, n_threads).unwrap();
            let took = [wall.elapsed().as_secs_f64(), cpu_secs() - cpu];
            assert!(done.iter().all(|one| one.ids.len() == completion));
            if round > 0 {
                spent.iter_mut().zip(took).for_each(|(sum, took)| *sum += took / n_rounds as f64);
            }
        }
    }
    let [shared, own] = spent.map(|spent| spent.map(|secs| n_tokens / secs));
    let (forks, all) = (FORKS as f64, (prefix + completion) as f64);
    println!(
        "{completion} tokens after {prefix}: shared {:.0} tokens/s ({:.0} a CPU s), own {:.0} ({:.0}); {:.2} times ({:.2}); tokens read {:.2} times less",
        shared[0],
        shared[1],
        own[0],
        own[1],
        shared[0] / own[0],
        shared[1] / own[1],
        all / (prefix as f64 / forks + completion as f64),
    );
}

/// CPU seconds of this process so far, user and system.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
