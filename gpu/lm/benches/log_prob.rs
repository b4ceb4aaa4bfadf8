//! Memory and time of log-probabilities and of a training step against the size of the vocabulary.
//!
//!     cargo bench --workspace --profile release --bench log_prob -- [VOCABULARY] [score|train] [ROWS] [DEVICE]
//!
//! One process measures one size, since what is reported is the most memory the process ever held: the model's own (weights,
//! and for training gradients, moments and packed copies) apart from what the work adds. Without arguments the sizes are run one
//! after the other as processes of their own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops at a failure"
)]

use std::ops::ControlFlow;
use std::time::Instant;

use tracker_gpu::{Choice, Device};
use tracker_lm::{Batch, Config, Continuation, Example, Length, Lm, Tokenizer, Training, log_probs, sft};

const HIDDEN: usize = 256;
const LEN: usize = 128;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    if args.is_empty() {
        let program = std::env::current_exe().unwrap();
        for what in ["score", "train"] {
            for vocab in ["4096", "32768", "131072"] {
                let status = std::process::Command::new(&program).args([vocab, what, "8"]).status().unwrap();
                assert!(status.success());
            }
        }
        return;
    }
    let vocab: usize = args[0].parse().unwrap();
    let n_rows: usize = args.get(2).map_or(8, |n| n.parse().unwrap());
    let device = match args.get(3).map(String::as_str) {
        None | Some("cpu") => Device::cpu(),
        Some(name) => Device::open(&name.parse::<Choice>().unwrap()).unwrap(),
    };
    let config = Config {
        hidden_size: HIDDEN,
        intermediate_size: 344,
        n_layers: 1,
        n_heads: 4,
        n_kv_heads: 4,
        head_dim: 64,
        tie_word_embeddings: true,
        ..Config::tiny(vocab, LEN)
    };
    let tokenizer = Tokenizer::words(&["a"]).unwrap();
    let lm = Lm::init(config, tokenizer, 1, &device).unwrap();
    let rows: Vec<Vec<u32>> =
        (0..n_rows).map(|row| (0..LEN).map(|at| ((row * 7919 + at * 104_729) % vocab) as u32).collect()).collect();
    // One short row first: what the model itself needs is then there.
    let score = |rows: &[Vec<u32>]| {
        let all: Vec<Continuation<'_>> =
            rows.iter().map(|row| Continuation { prompt: &row[..1], completion: &row[1..] }).collect();
        assert_eq!(log_probs(&lm, &all, 1).unwrap().len(), rows.len());
    };
    let train = |rows: &[Vec<u32>]| {
        let examples: Vec<Example> = rows.iter().map(|row| Example::text(row)).collect();
        let training = Training {
            length: Length::Steps(1),
            batch: Batch::Items(rows.len()),
            micro_batches: 1,
            ..Training::default()
        };
        sft(&lm, &examples, &training, 1, &mut |_| ControlFlow::Continue(())).unwrap();
    };
    let work: &dyn Fn(&[Vec<u32>]) = match args[1].as_str() {
        "score" => &score,
        "train" => &train,
        other => panic!("expected `score` or `train`, got `{other}`"),
    };
    work(&[rows[0][..2].to_vec()]);
    let own = peak_mib();
    let (wall, cpu) = (Instant::now(), cpu_secs());
    work(&rows);
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_secs() - cpu);
    println!(
        "{} {vocab} ids, {} tokens, {}: {own:.0} MiB of the model's own, {:.0} MiB on top; {wall:.2} s, {cpu:.2} CPU s",
        args[1],
        n_rows * (LEN - 1),
        device.id(),
        peak_mib() - own,
    );
}

/// The most memory this process ever held.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// CPU seconds of this process so far, user and system.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
