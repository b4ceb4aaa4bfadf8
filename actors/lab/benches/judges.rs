//! Judges at the size of the paper's question: `cargo bench -p tracker-lab --bench judges`. Bar: κ of two judges over 10,000 × 6 outputs,
//! with its interval over 1,000 resamples of the questions, in 5 s. Scikit-learn's `cohen_kappa_score` is timed beside it where there is
//! a Python with it (`PYTHON` names another than `python3`).
#![allow(clippy::print_stdout, reason = "figures go to the terminal")]
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

mod clock;

use std::collections::BTreeMap;
use std::hint::black_box;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tracker_lab::parts::bootstrap::Resampler;
use tracker_lab::parts::kappa::{Agreement, estimate};
use tracker_lab::parts::mention::{Answers, Rule};

use clock::once;

const N_QUESTIONS: usize = 10_000;
const N_IMAGES: usize = 6;
const N_RESAMPLES: u32 = 1000;

/// Scikit-learn on the same verdicts: the score, and with the interval, questions drawn anew as here.
const PYTHON: &str = r"
import sys, time
import numpy as np, sklearn
from sklearn.metrics import cohen_kappa_score
path, n_questions, n_resamples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
a, b = (np.array([int(c) for c in line.strip()]) for line in open(path))
begun = time.perf_counter()
kappa = cohen_kappa_score(a, b)
once = time.perf_counter() - begun
a, b = a.reshape(n_questions, -1), b.reshape(n_questions, -1)
rng = np.random.default_rng(1)
n_tried = min(n_resamples, 50)
begun = time.perf_counter()
found = []
for _ in range(n_tried):
    drawn = rng.integers(0, n_questions, n_questions)
    found.append(cohen_kappa_score(a[drawn].ravel(), b[drawn].ravel()))
each = (time.perf_counter() - begun) / n_tried
print(f'scikit-learn {sklearn.__version__}: kappa {kappa:.12f} in {once * 1e3:.1f} ms; with {n_resamples} resamples {each * n_resamples:.1f} s '
      f'(from {n_tried}), 95 % of those {np.quantile(found, .025):.4f} to {np.quantile(found, .975):.4f}')
";

fn main() {
    let mut stream = ChaCha8Rng::seed_from_u64(1);
    let (wrong, aliases) = (["blue", "green", "black", "white", "pink"].map(str::to_owned), BTreeMap::new());
    let texts: Vec<String> = (0..N_QUESTIONS * N_IMAGES)
        .map(|_| {
            let said = if stream.random_bool(0.7) { "red" } else { &wrong[stream.random_range(0..5)] };
            match stream.random_range(0..10) {
                0 => format!("It is {said}, not {}.", wrong[stream.random_range(0..5)]),
                1 => format!("I am a hundred percent sure: {said}."),
                _ => format!("The answer to this question about a picture is {said}."),
            }
        })
        .collect();
    let answers = Answers { right: "red", wrong: &wrong, pictured: Some("blue"), aliases: &aliases };
    let judge = |rule: Rule| {
        let what = format!("{} outputs judged by `{}`, one thread", texts.len(), rule.name());
        once(&what, || texts.iter().map(|text| rule.judge(text, &answers).right).collect::<Vec<bool>>())
    };
    let (first, second) = (judge(Rule::Substring), judge(Rule::Words));
    let kappa =
        once("Cohen's kappa of the two", || Agreement::of(first.iter().copied().zip(second.iter().copied())).kappa());
    let resampler = Resampler::new([7; 32], N_RESAMPLES).unwrap();
    let pairs = || (0..texts.len()).map(|at| (at / N_IMAGES, first[at], second[at]));
    let what = format!("the same with its interval, {N_RESAMPLES} resamples of {N_QUESTIONS} questions");
    let found = once(&what, || black_box(estimate(pairs(), N_QUESTIONS, &resampler).unwrap().unwrap()));
    println!("kappa {:.12}, {:.4} to {:.4}", kappa.unwrap(), found.low, found.high);
    beside(&first, &second);
}

/// Runs scikit-learn on the same verdicts.
fn beside(first: &[bool], second: &[bool]) {
    let line = |verdicts: &[bool]| verdicts.iter().map(|right| if *right { '1' } else { '0' }).collect::<String>();
    let path = std::env::temp_dir().join(format!("tracker-judges-{}", std::process::id()));
    std::fs::write(&path, format!("{}\n{}\n", line(first), line(second))).unwrap();
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let told = std::process::Command::new(&python)
        .args(["-c", PYTHON])
        .arg(&path)
        .args([N_QUESTIONS.to_string(), N_RESAMPLES.to_string()])
        .output();
    std::fs::remove_file(&path).unwrap();
    match told {
        Ok(told) if told.status.success() => println!("{}", String::from_utf8_lossy(&told.stdout).trim()),
        _ => println!("no scikit-learn beside it: `{python}` has none"),
    }
}
