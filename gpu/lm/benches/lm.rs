//! Sampling and training rates at one and five million parameters, and of the matrix product under them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops at a failure"
)]

use std::ops::ControlFlow;
use std::time::Instant;

use tracker_gpu::Device;
use tracker_lm::{Batch, Config, Example, Length, Lm, Prompt, Sampling, Tokenizer, Training, sample, sft};

const VOCAB: usize = 128;
const CONTEXT: usize = 128;
const PROMPT: usize = 32;

/// `[FILTER] [THREADS]`: only figures whose name contains FILTER, on so many threads (2).
fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let filter = args.first().cloned().unwrap_or_default();
    let n_threads = args.get(1).map_or(2, |n| n.parse().unwrap());
    let bench = Bench { filter, n_threads };
    for (name, config) in [("1m", Config::tiny(VOCAB, CONTEXT)), ("5m", five_million())] {
        let words: Vec<String> = (4..VOCAB).map(|id| format!("w{id}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let tokenizer = Tokenizer::words(&words).unwrap();
        let lm = Lm::init(config, tokenizer, 1, &Device::cpu()).unwrap();
        println!("{name}: {} parameters", lm.n_params());
        for batch in [1, 32] {
            bench.sampling(name, &lm, batch);
        }
        bench.training(name, &lm);
    }
}

fn five_million() -> Config {
    Config {
        hidden_size: 256,
        intermediate_size: 688,
        n_layers: 6,
        n_heads: 8,
        n_kv_heads: 8,
        ..Config::tiny(VOCAB, CONTEXT)
    }
}

/// A block of 32 tokens, repeated: the copy task.
fn copies(row: usize, len: usize) -> Vec<u32> {
    (0..len).map(|at| ((row * 31 + (at % 32) * (row % 7 + 3)) % VOCAB) as u32).collect()
}

struct Bench {
    filter: String,
    n_threads: usize,
}

impl Bench {
    fn sampling(&self, name: &str, lm: &Lm, batch: usize) {
        let settings = Sampling { temperature: 1.0, top_p: 1.0, max_tokens: CONTEXT - PROMPT, stop_ids: vec![] };
        let prompts: Vec<Prompt> =
            (0..batch).map(|row| Prompt { ids: copies(row, PROMPT), seed: row as u64 }).collect();
        self.report(&format!("sample {name} b={batch}"), || {
            sample(lm, &prompts, &settings, self.n_threads).unwrap().iter().map(|one| one.ids.len()).sum()
        });
    }

    fn training(&self, name: &str, lm: &Lm) {
        let name = format!("train {name}");
        if !name.contains(&self.filter) {
            return;
        }
        let examples: Vec<Example> = (0..256).map(|row| Example::text(&copies(row, CONTEXT))).collect();
        let settings = Training { length: Length::Steps(14), batch: Batch::Items(16), ..Training::default() };
        let mut times = Vec::new();
        let mut last = (Instant::now(), cpu_secs());
        sft(lm, &examples, &settings, self.n_threads, &mut |step| {
            let now = (Instant::now(), cpu_secs());
            times.push((step.n_tokens as f64, now.0.duration_since(last.0).as_secs_f64(), now.1 - last.1));
            last = now;
            ControlFlow::Continue(())
        })
        .unwrap();
        print(&name, &times[2..]);
    }

    fn report(&self, name: &str, mut work: impl FnMut() -> usize) {
        if !name.contains(&self.filter) {
            return;
        }
        work();
        let times: Vec<(f64, f64, f64)> = (0..9)
            .map(|_| {
                let (wall, cpu) = (Instant::now(), cpu_secs());
                let n_tokens = work();
                (n_tokens as f64, wall.elapsed().as_secs_f64(), cpu_secs() - cpu)
            })
            .collect();
        print(name, &times);
    }
}

/// Median wall rate, and tokens a CPU second over all repeats.
fn print(name: &str, times: &[(f64, f64, f64)]) {
    let mut rates: Vec<f64> = times.iter().map(|(tokens, wall, _)| tokens / wall).collect();
    rates.sort_by(f64::total_cmp);
    let tokens: f64 = times.iter().map(|time| time.0).sum();
    let cpu: f64 = times.iter().map(|time| time.2).sum();
    println!(
        "{name}: median of {} {:.0} tokens/s (best {:.0}), {:.0} tokens/CPU s",
        rates.len(),
        rates[rates.len() / 2],
        rates[rates.len() - 1],
        tokens / cpu
    );
}

/// CPU seconds of this process so far, user and system.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
