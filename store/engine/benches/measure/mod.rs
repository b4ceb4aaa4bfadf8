//! What the benches share: keys, loads, writers, clocks.
#![allow(dead_code, reason = "each bench uses some of it")]

use std::fs;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tracker_engine::{Batch, Durability, Engine};

/// Small commits from `n_threads` for two seconds: commits a second, CPU µs a commit.
pub(crate) fn write_from(engine: &dyn Engine, n_threads: u64) -> (f64, f64) {
    let n_done = AtomicU64::new(0);
    let cost = Cost::start();
    thread::scope(|scope| {
        for thread in 0..n_threads {
            let (cost, n_done) = (&cost, &n_done);
            scope.spawn(move || {
                for i in 0.. {
                    if cost.wall.elapsed() > Duration::from_secs(2) {
                        break;
                    }
                    let mut batch = Batch::new();
                    batch.put(&[&key(thread)[..], &u64::to_be_bytes(i)].concat(), &[1; 100]);
                    engine.commit(&batch, Durability::Sync).unwrap();
                    n_done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let cost = cost.end();
    let n_done = n_done.into_inner() as f64;
    (n_done / cost.wall.as_secs_f64(), cost.cpu.as_secs_f64() * 1e6 / n_done)
}

/// Keys in order, in batches of 10,000, with values of 100 equal bytes.
pub(crate) fn load(engine: &dyn Engine, start: u64, n_keys: u64) {
    let mut batch = Batch::new();
    for i in start..start + n_keys {
        batch.put(&key(i), &[(i % 256) as u8; 100]);
        if (i + 1) % 10_000 == 0 || i + 1 == start + n_keys {
            engine.commit(&batch, Durability::Os).unwrap();
            batch.clear();
        }
    }
}

/// Key `i` of 40 bytes.
pub(crate) fn key(i: u64) -> [u8; 40] {
    let mut key = [b'k'; 40];
    key[32..].copy_from_slice(&i.to_be_bytes());
    key
}

/// A new folder, where `TRACKER_BENCH_DIR` says or here.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(std::env::var("TRACKER_BENCH_DIR").unwrap_or_else(|_| ".".to_owned())).unwrap()
}

pub(crate) fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

pub(crate) fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Wall clock and CPU since a start.
pub(crate) struct Cost {
    pub(crate) wall: Instant,
    pub(crate) cpu: Duration,
}

pub(crate) struct Spent {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl Cost {
    pub(crate) fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }

    pub(crate) fn end(&self) -> Spent {
        Spent { wall: self.wall.elapsed(), cpu: cpu_time().saturating_sub(self.cpu) }
    }
}

/// User and system time of a process, in steps of 10 ms.
pub(crate) fn cpu_time() -> Duration {
    cpu_time_of(std::process::id())
}

pub(crate) fn cpu_time_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

pub(crate) fn peak_rss_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
