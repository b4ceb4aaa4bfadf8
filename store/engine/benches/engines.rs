//! The engines beside one another: `cargo bench -p tracker-engine --bench engines [--features rocksdb]`.
//!
//! Each engine is measured in a process of its own, one after the other, over the same keys and values, of which half can be
//! compressed. CPU is user and system, of all its threads; other processes on the machine move the wall clock.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints its figures, and fails by panicking")]

mod measure;

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tracker_engine::{Batch, Direction, Durability, Engine, KeyRange, Kind, Options, Read, convert, open};

use measure::{Cost, folder, key, median, peak_rss_mb, write_from};

const ENGINE: &str = "TRACKER_ENGINE_BENCH_OF";
const DYING: &str = "TRACKER_ENGINE_BENCH_DYING";
const N_KEYS: u64 = 1_000_000;

fn main() {
    if let Ok(dir) = std::env::var(DYING) {
        die(Path::new(&dir));
    }
    if let Ok(engine) = std::env::var(ENGINE) {
        return measure(engine.parse().unwrap());
    }
    for kind in Kind::ALL {
        if kind.is_built() {
            let ended = Command::new(std::env::current_exe().unwrap()).env(ENGINE, kind.name()).status().unwrap();
            assert!(ended.success());
        } else {
            println!("{kind}: not in this build");
        }
    }
}

fn options(engine: Kind) -> Options {
    Options { engine, ..Options::default() }
}

fn measure(kind: Kind) {
    println!("{kind}");
    let dir = folder();
    let engine = open(dir.path(), &options(kind)).unwrap();
    let cost = Cost::start();
    put(&*engine, (0..N_KEYS).map(|i| key(i).to_vec()), 10_000);
    let cost = cost.end();
    println!(
        "  load of 1 M in order      {:6.2} µs CPU a key  {:6.2} µs wall  {} MB peak RSS",
        cost.cpu.as_secs_f64(),
        cost.wall.as_secs_f64(),
        peak_rss_mb()
    );
    println!("  on disk, 140 MB of data   {} MB", disk_mb(dir.path()));
    reads(&*engine);
    drop(engine);
    println!("  on disk, closed           {} MB", disk_mb(dir.path()));
    opening(kind, dir.path());
    let engine = open(dir.path(), &options(kind)).unwrap();
    scattered(&*engine);
    println!("  on disk then, 170 MB      {} MB", disk_mb(dir.path()));
    held(&*engine);
    unsynced(&*engine);
    for n_threads in [1, 64] {
        let (rate, cpu_micros) = write_from(&*engine, n_threads);
        println!("  {n_threads:2} durable writers       {rate:7.0} commits/s  {cpu_micros:6.1} µs CPU each");
    }
    drop(engine);
    if kind != Kind::default() {
        let start = Instant::now();
        let done = convert(dir.path(), Kind::default(), &options(kind), &mut |_| {}).unwrap().unwrap();
        println!(
            "  conversion to {}        {:5.1} s  {} entries, {} MB on disk become {}",
            done.to,
            start.elapsed().as_secs_f64(),
            done.n_entries,
            done.n_disk_bytes_before >> 20,
            done.n_disk_bytes_after >> 20
        );
    }
}

/// Commits values of 100 bytes, half of them without pattern, in batches of `n_batch`.
fn put(engine: &dyn Engine, keys: impl Iterator<Item = Vec<u8>>, n_batch: usize) {
    let mut batch = Batch::new();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut value = [0; 100];
    for (i, key) in keys.enumerate() {
        for word in value[..48].as_chunks_mut::<8>().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state.to_le_bytes();
        }
        batch.put(&key, &value);
        if (i + 1) % n_batch == 0 {
            engine.commit(&batch, Durability::Os).unwrap();
            batch.clear();
        }
    }
    engine.commit(&batch, Durability::Sync).unwrap();
}

fn reads(engine: &dyn Engine) {
    const N: u64 = 200_000;
    let snapshot = engine.snapshot().unwrap();
    for (how, reader) in [("", engine as &dyn Read), (" of a snapshot", &*snapshot)] {
        let cost = Cost::start();
        for i in 0..N {
            assert!(reader.get(&key(i.wrapping_mul(7_919_317) % N_KEYS)).unwrap().is_some());
        }
        let cost = cost.end();
        println!("  get{how:<22} {:6.2} µs CPU", cost.cpu.as_secs_f64() * 1e6 / N as f64);
    }
    for direction in [Direction::Ascending, Direction::Descending] {
        let cost = Cost::start();
        let mut n_seen = 0_u64;
        engine
            .range(KeyRange::all(), direction, &mut |_, _| {
                n_seen += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(n_seen, N_KEYS);
        let name = format!("{direction:?}").to_lowercase();
        println!("  entry of a range, {name:<11} {:6.3} µs CPU", cost.end().cpu.as_secs_f64());
    }
    let cost = Cost::start();
    for i in 0..20_000_u64 {
        let start = key(i.wrapping_mul(7_919_317) % (N_KEYS - 10));
        assert_eq!(engine.collect(KeyRange::from(&start), Direction::Ascending, 10).unwrap().len(), 10);
    }
    println!("  range of ten              {:6.2} µs CPU", cost.end().cpu.as_secs_f64() * 50.0);
}

/// Opening what was closed, and what a killed process left.
fn opening(kind: Kind, dir: &Path) {
    let timed = || {
        let start = Instant::now();
        let engine = open(dir, &options(kind)).unwrap();
        assert!(engine.get(&key(7)).unwrap().is_some());
        let elapsed = start.elapsed();
        drop(engine);
        elapsed
    };
    let mut times: Vec<Duration> = (0..3).map(|_| timed()).collect();
    println!("  open and get, closed      {:7.1} ms", median(&mut times).as_secs_f64() * 1e3);
    let mut times: Vec<Duration> = (0..3)
        .map(|_| {
            let child = Command::new(std::env::current_exe().unwrap()).env(DYING, dir).output().unwrap();
            assert!(!child.status.success());
            timed()
        })
        .collect();
    println!("  open and get, killed      {:7.1} ms", median(&mut times).as_secs_f64() * 1e3);
}

/// Writes 20,000 keys that are there, and dies.
fn die(dir: &Path) -> ! {
    let engine = open(dir, &Options::default()).unwrap();
    put(&*engine, (0..20_000).map(|i| key(i * 50).to_vec()), 1_000);
    std::process::abort();
}

/// 200,000 keys in no order, onto the million.
fn scattered(engine: &dyn Engine) {
    let cost = Cost::start();
    let keys = (0..200_000_u64).map(|i| [&key(i.wrapping_mul(7_919_317) % N_KEYS)[..], b"+"].concat());
    put(engine, keys, 10_000);
    println!("  load of 0.2 M scattered   {:6.2} µs CPU a key", cost.end().cpu.as_secs_f64() * 5.0);
}

/// A snapshot that is held while 200,000 keys change.
fn held(engine: &dyn Engine) {
    let before = peak_rss_mb();
    let snapshot = engine.snapshot().unwrap();
    let cost = Cost::start();
    put(engine, (0..200_000).map(|i| key(i * 5).to_vec()), 10_000);
    let cost = cost.end();
    println!(
        "  0.2 M changed, one held   {:6.2} µs CPU a key  {} MB more peak RSS",
        cost.cpu.as_secs_f64() * 5.0,
        peak_rss_mb() - before
    );
    let cost = Cost::start();
    for i in 0..50_000_u64 {
        assert!(snapshot.get(&key(i.wrapping_mul(7_919_317) % N_KEYS)).unwrap().is_some());
    }
    println!("  get of what was held      {:6.2} µs CPU", cost.end().cpu.as_secs_f64() * 20.0);
}

/// Small commits that survive kill -9 alone.
fn unsynced(engine: &dyn Engine) {
    const N: u64 = 20_000;
    let cost = Cost::start();
    for i in 0..N {
        let mut batch = Batch::new();
        batch.put(&[&key(i)[..], b"-"].concat(), &[1; 24]);
        engine.commit(&batch, Durability::Os).unwrap();
    }
    let cost = cost.end();
    println!(
        "  commit not synced         {:6.2} µs CPU  {:6.2} µs wall",
        cost.cpu.as_secs_f64() * 1e6 / N as f64,
        cost.wall.as_secs_f64() * 1e6 / N as f64
    );
}

/// What a folder takes on disk, in MB.
fn disk_mb(dir: &Path) -> u64 {
    fn n_bytes(path: &Path) -> u64 {
        let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
        let within =
            if metadata.is_dir() { fs::read_dir(path).unwrap().map(|e| n_bytes(&e.unwrap().path())).sum() } else { 0 };
        metadata.blocks() * 512 + within
    }
    n_bytes(dir) / 1_000_000
}
