//! First fronts, ranks and hypervolumes, on the inputs of `rival.py` beside this file: CPU ms, the least of several repeats.
//!
//!     cargo bench --profile release -p tracker-front --bench front [-- CELL]      (e.g. "first front random m=3")
//!     python store/front/benches/rival.py      (see there)
//!
//! The figures include checking and turning the values ([`Points::new`]), as the rival's do. The rival's figures of the day
//! the bench was written stand beside; measure them again in the same minutes to compare.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and stops at a failure")]

use std::hint::black_box;
use std::time::Instant;

use tracker_front::{Direction, Points, hypervolume, non_dominated, ranks};

/// `SplitMix64` in the order of rows.
fn uniform(seed: u64, n: usize, m: usize) -> Vec<f64> {
    let mut state = seed;
    (0..n * m)
        .map(|_| {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            (z >> 11) as f64 * 0.5_f64.powi(53)
        })
        .collect()
}

/// Points on the plane sum = 1: none dominates another.
fn plane(seed: u64, n: usize, m: usize) -> Vec<f64> {
    let mut values = uniform(seed, n, m);
    for row in values.chunks_exact_mut(m) {
        let total = row.iter().fold(0.0, |sum, v| sum + v);
        for value in row {
            *value /= total;
        }
    }
    values
}

/// Least ms of several repeats, on one thread, so that wall time is CPU time on a quiet machine and never less.
fn least_ms<T>(mut work: impl FnMut() -> T) -> (f64, T) {
    let mut best = f64::INFINITY;
    let mut result = work();
    let begin = Instant::now();
    for i in 0..200 {
        let start = Instant::now();
        result = black_box(work());
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
        if i >= 4 && begin.elapsed().as_secs_f64() > 1.0 {
            break;
        }
    }
    (best, result)
}

fn points(values: &[f64], m: usize) -> Points {
    Points::new(&[Direction::Minimise; 6][..m], values.to_vec()).unwrap()
}

/// Makes points of a seed, a number and their objectives.
type Make = fn(u64, usize, usize) -> Vec<f64>;

fn main() {
    let wanted = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_default();
    let is_wanted = |cell: &str| cell.contains(&wanted);
    let kinds: [(&str, Make); 2] = [("random", uniform), ("front", plane)];
    let n = 100_000;
    for (kind, make) in kinds {
        for m in 2..=6 {
            let cell = format!("first front {kind} m={m}");
            if is_wanted(&cell) {
                let values = make(m as u64, n, m);
                let (ms, front) = least_ms(|| non_dominated(&points(&values, m)));
                println!("{cell}: {ms:.2} size {}", front.iter().filter(|f| **f).count());
            }
        }
    }
    for m in 2..=6 {
        let cell = format!("ranks random m={m}");
        if is_wanted(&cell) {
            let values = uniform(m as u64, n, m);
            let (ms, ranks) = least_ms(|| ranks(&points(&values, m)));
            let sum: u64 = ranks.iter().map(|r| u64::from(*r)).sum();
            println!("{cell}: {ms:.2} fronts {} sum {sum}", ranks.iter().max().unwrap() + 1);
        }
    }
    for (kind, make) in kinds {
        for m in 2..=6 {
            let cell = format!("hypervolume {kind} m={m}");
            if is_wanted(&cell) {
                let values = make(m as u64, 1_000, m);
                let (ms, volume) = least_ms(|| hypervolume(&points(&values, m), &vec![1.0; m]).unwrap());
                println!("{cell}: {ms:.3} is {volume:?}");
            }
        }
    }
}
