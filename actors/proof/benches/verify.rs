//! Kernel, search and corpus rates, and what checking by Lean costs beside plain Lean.
//!
//! `cargo bench -p tracker-proof --bench verify`: medians of five; processor seconds of this process and its children.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

#[path = "../tests/first_order/mod.rs"]
mod first_order;

use std::{
    fmt::Write as _,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use rand::SeedableRng as _;
use tracker_proof::{
    Candidate, Verifier as _,
    corpus::{self, Level},
    kernel::Kernel,
    lean::{Lean, Options, find},
    prelude, search,
};

fn main() {
    let n = 5_000;
    let mut problems = Vec::new();
    let generate = median(5, || problems = corpus::statements(1, n, &Level::ALL).unwrap_or_default());
    println!("corpus: {n} problems over five levels in {generate:.2?}, {:.0} a second", rate(n, generate));
    let easy = median(5, || drop(corpus::statements(2, n, &Level::ALL[..3]).unwrap_or_default()));
    println!("corpus: {n} problems of levels 1 to 3 in {easy:.2?}, {:.0} a second", rate(n, easy));
    let prove = median(5, || {
        for problem in &problems {
            std::hint::black_box(search::prove(&problem.statement, search::Limits::default()));
        }
    });
    println!("search: {n} shortest proofs in {prove:.2?}, {:.0} a second", rate(n, prove));
    kernel(&problems);
    first_order_kernel();
    match find() {
        Some(_) => lean(&problems),
        None => println!("SKIP lean bench: no lean"),
    }
}

fn kernel(problems: &[corpus::Problem]) {
    let candidate = |problem: &corpus::Problem| Candidate {
        header: String::new(),
        statement: problem.statement.to_string(),
        proof: problem.proof.render(&[]),
    };
    // sixteen proofs of each statement, as a study samples them
    let candidates: Vec<Candidate> =
        problems.iter().flat_map(|problem| std::iter::repeat_n(candidate(problem), 16)).collect();
    let bytes: usize = candidates.iter().map(|candidate| candidate.proof.len()).sum();
    let mut kernel = Kernel::new();
    let mut proved = 0;
    let time = median(5, || proved = kernel.check(&candidates).iter().filter(|verdict| verdict.is_proved()).count());
    println!(
        "kernel: {proved} of {} proofs ({} bytes each on average) in {time:.2?}, {:.0} a second",
        candidates.len(),
        bytes / candidates.len(),
        rate(candidates.len(), time)
    );
    println!(
        "kernel: {:.0} a second of processor time",
        cpu_rate(candidates.len(), || drop(kernel.check(&candidates)))
    );
    let singles: Vec<Candidate> = problems.iter().map(candidate).collect();
    let time = median(5, || drop(kernel.check(&singles)));
    println!("kernel: a new statement with each proof: {:.0} a second", rate(singles.len(), time));
}

fn first_order_kernel() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let problems: Vec<(String, String)> =
        (0..1_000).map(|at| first_order::problem(&mut rng, first_order::Style::Constructor, 1 + at % 4)).collect();
    let candidate = |(statement, proof): &(String, String)| Candidate {
        header: String::new(),
        statement: statement.clone(),
        proof: proof.clone(),
    };
    let mut kernel = Kernel::with_axioms(&["propext", "Quot.sound", "Classical.choice"]);
    // some of what the generator writes leaves more to be inferred than Lean infers
    let mut singles: Vec<Candidate> = problems.iter().map(candidate).collect();
    singles.retain(|candidate| kernel.check_one(candidate).is_proved());
    let all: Vec<Candidate> = singles.iter().flat_map(|one| std::iter::repeat_n(one.clone(), 16)).collect();
    let bytes: usize = all.iter().map(|candidate| candidate.proof.len()).sum();
    let mut proved = 0;
    let time = median(5, || proved = kernel.check(&all).iter().filter(|verdict| verdict.is_proved()).count());
    println!(
        "first-order: {proved} of {} proofs ({} bytes each on average) in {time:.2?}, {:.0} a second",
        all.len(),
        bytes / all.len(),
        rate(all.len(), time)
    );
    println!("first-order: {:.0} a second of processor time", cpu_rate(all.len(), || drop(kernel.check(&all))));
    let time = median(5, || drop(kernel.check(&singles)));
    println!("first-order: a new statement with each proof: {:.0} a second", rate(singles.len(), time));
    let mut before = 0;
    for index in 0..1_100_000 {
        if index == 100_000 {
            before = resident_kib();
        }
        std::hint::black_box(kernel.check_one(&all[index % all.len()]));
    }
    println!("memory: {before} KiB resident after 100,000 candidates, {} KiB after a million more", resident_kib());
}

/// Resident memory of this process.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

fn lean(problems: &[corpus::Problem]) {
    let problems = &problems[..2_000];
    let candidates: Vec<Candidate> = problems
        .iter()
        .map(|problem| Candidate {
            header: prelude::TEXT.to_owned(),
            statement: problem.statement.to_string(),
            proof: problem.proof.render(&[]),
        })
        .collect();
    let options = Options::default();
    let setting = format!("the default: {} processes, at most {} theorems each", options.jobs, options.batch);
    let Ok(mut lean) = Lean::open(options) else { return };
    let Ok(folder) = tempfile::tempdir() else { return };
    let file = folder.path().join("Plain.lean");
    let mut text = prelude::TEXT.to_owned();
    for (index, candidate) in candidates.iter().enumerate() {
        let statement = candidate.statement.replacen("theorem t", &format!("theorem u{index}_"), 1);
        writeln!(text, "{statement} :=\n{}", candidate.proof).unwrap_or_default();
    }
    if fs::write(&file, text).is_err() {
        return;
    }
    let Some(binary) = find() else { return };
    let (mut plain_cpu, mut plain_wall, mut ours_cpu, mut ours_wall) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // by turns, so that what else the machine does falls on both
    for _ in 0..5 {
        let (cpu, wall) = cost(|| drop(Command::new(&binary).arg("--json").arg(&file).output()));
        plain_cpu.push(cpu);
        plain_wall.push(wall);
        let mut proved = 0;
        let (cpu, wall) =
            cost(|| proved = lean.screen(&candidates).iter().filter(|verdict| verdict.is_proved()).count());
        assert_eq!(proved, candidates.len(), "lean refused a proof");
        ours_cpu.push(cpu);
        ours_wall.push(wall);
    }
    let middle = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    println!(
        "lean, 2,000 theorems in one file by plain `lean --json`, and screened here ({setting}), medians of five:"
    );
    for (what, plain, ours) in [("CPU", &mut plain_cpu, &mut ours_cpu), ("wall", &mut plain_wall, &mut ours_wall)] {
        let (plain, ours) = (middle(plain), middle(ours));
        println!("  {what}: plain {plain:.2?}, here {ours:.2?}: {:.2}x", ratio(ours, plain));
    }
    let (cpu, wall) = cost(|| drop(lean.check(&candidates[..100])));
    println!("lean, 100 theorems screened and each confirmed alone: {cpu:.2?} CPU, {wall:.2?} wall");
}

fn rate(n: usize, time: Duration) -> f64 {
    n as f64 / time.as_secs_f64()
}

/// How many of `n` a second of processor time, which other processes do not take away.
fn cpu_rate(n: usize, mut work: impl FnMut()) -> f64 {
    let (cpu, _) = cost(|| (0..20).for_each(|_| work()));
    rate(20 * n, cpu)
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

fn median(n: usize, mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..n)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[n / 2]
}

/// Processor and elapsed time, children included.
fn cost(work: impl FnOnce()) -> (Duration, Duration) {
    let (before, start) = (cpu(), Instant::now());
    work();
    (cpu().saturating_sub(before), start.elapsed())
}

/// Processor time of this process and its finished children, in hundredths of a second.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> =
        stat.rsplit(')').next().unwrap_or("").split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    // utime, stime, cutime, cstime: fields 14 to 17, of which two precede the closing bracket
    Duration::from_millis(fields.iter().skip(11).take(4).sum::<u64>() * 10)
}
