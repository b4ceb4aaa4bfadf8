//! Times of single pieces of work, for benches.

use std::time::Instant;

/// Processor seconds of this process so far, user and system; zero where there is no procfs.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: f64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Does a piece of work and prints what it took.
pub(crate) fn once<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (cpu, wall) = (cpu_secs(), Instant::now());
    let result = work();
    println!("{what}: {:.3} s wall, {:.2} s CPU", wall.elapsed().as_secs_f64(), cpu_secs() - cpu);
    result
}
