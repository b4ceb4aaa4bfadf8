//! Figures of the engine: `cargo bench -p tracker-engine --bench engine [NAME…]`.
//!
//! Each line is one figure: median of the rounds, wall clock and CPU (user and system, of this process alone). Other
//! processes on the machine move the wall clock; compare CPU.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints its figures, and fails by panicking")]

mod measure;

use std::fs;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use tracker_engine::{Batch, Direction, Durability, Engine, KeyRange, Options, Read, Redb, open};

use measure::{Cost, cpu_time_of, folder, key, kill, load, median, peak_rss_mb, write_from};

const HOLD: &str = "TRACKER_ENGINE_BENCH_HOLD";

fn main() {
    if let Ok(dir) = std::env::var(HOLD) {
        return hold(Path::new(&dir));
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let benches: [(&str, fn()); 7] = [
        ("bulk", bulk),
        ("scattered", scattered),
        ("journal", journal),
        ("writers", writers),
        ("socket", socket),
        ("takeover", takeover),
        ("open", opening),
    ];
    for (name, bench) in benches {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            bench();
        }
    }
}

/// 5 M keys of 40 bytes with values of 100, in order, in batches of 10,000.
fn bulk() {
    let dir = folder();
    let engine = Redb::create(&dir.path().join("data"), 64 << 20).unwrap();
    let cost = Cost::start();
    load(&engine, 0, 5_000_000);
    let cost = cost.end();
    let n_bytes = fs::metadata(dir.path().join("data")).unwrap().blocks() * 512;
    println!(
        "bulk load, sorted            {:6.2} µs CPU a key  {:6.2} µs wall  {} MB on disk (700 MB of data)  {} MB peak RSS",
        cost.cpu.as_secs_f64() / 5.0,
        cost.wall.as_secs_f64() / 5.0,
        n_bytes >> 20,
        peak_rss_mb(),
    );
    let cost = Cost::start();
    let mut n_seen = 0_u64;
    engine
        .range(KeyRange::all(), Direction::Ascending, &mut |_, _| {
            n_seen += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    let cost = cost.end();
    println!("scan of 5 M                  {:6.3} µs CPU an entry", cost.cpu.as_secs_f64() / 5.0);
    assert_eq!(n_seen, 5_000_000);
}

/// 1 M keys in random order in batches of 10,000, onto 1 M that are there: what indexes do.
fn scattered() {
    let dir = folder();
    let engine = Redb::create(&dir.path().join("data"), 64 << 20).unwrap();
    load(&engine, 0, 1_000_000);
    let cost = Cost::start();
    for round in 0..100_u64 {
        let mut batch = Batch::new();
        for i in 0..10_000 {
            let mixed = (round * 10_000 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000_000;
            batch.put(&[&key(mixed)[..], &round.to_be_bytes()].concat(), &[1; 100]);
        }
        engine.commit(&batch, Durability::Os).unwrap();
    }
    println!("load, scattered              {:6.2} µs CPU a key", cost.end().cpu.as_secs_f64());
}

/// Commits that survive kill -9 alone: a value that is replaced, and a key that is added.
fn journal() {
    const N: u64 = 300_000;
    let dir = folder();
    let mut holder = spawn_holder(&dir.path().join("shared"));
    let engines: [(&str, Arc<dyn Engine>); 2] = [
        ("in process", Arc::new(Redb::create(&dir.path().join("data"), 64 << 20).unwrap())),
        ("over the socket", open(&dir.path().join("shared"), &Options::default()).unwrap()),
    ];
    for (how, engine) in engines {
        let before = cpu_time_of(holder.id());
        let cost = Cost::start();
        for i in 0..N {
            let mut batch = Batch::new();
            batch.put(b"the same", &i.to_be_bytes());
            batch.put(&key(i), &[1; 24]);
            engine.commit(&batch, Durability::Os).unwrap();
        }
        let (cost, there) = (cost.end(), cpu_time_of(holder.id()).saturating_sub(before));
        println!(
            "commits not synced, {how:<16} {:6.2} µs CPU (and {:.2} there)  {:6.2} µs wall",
            cost.cpu.as_secs_f64() * 1e6 / N as f64,
            there.as_secs_f64() * 1e6 / N as f64,
            cost.wall.as_secs_f64() * 1e6 / N as f64
        );
    }
    kill(&mut holder);
}

fn writers() {
    for n_threads in [1, 4, 16, 64] {
        let dir = folder();
        let engine = Redb::create(&dir.path().join("data"), 64 << 20).unwrap();
        let (rate, cpu_micros) = write_from(&engine, n_threads);
        let counts = engine.counts();
        println!(
            "{n_threads:2} writers, in process       {rate:7.0} commits/s  {cpu_micros:6.1} µs CPU each  {:.1} commits a sync",
            counts.n_commits as f64 / counts.n_syncs as f64
        );
    }
}

fn socket() {
    let dir = folder();
    let mut holder = spawn_holder(dir.path());
    let client = open(dir.path(), &Options::default()).unwrap();
    load(&*client, 0, 100_000);
    for n_threads in [1, 64] {
        let (rate, cpu_micros) = write_from(&*client, n_threads);
        println!(
            "{n_threads:2} writers, over the socket  {rate:7.0} commits/s  {cpu_micros:6.1} µs CPU each (client side)"
        );
    }
    reads("over the socket", &*client);
    kill(&mut holder);
    client.get(b"").unwrap();
    reads("in process", &*client);
    let snapshot = client.snapshot().unwrap();
    let cost = Cost::start();
    for i in 0..200_000_u64 {
        assert!(snapshot.get(&key(i.wrapping_mul(7919) % 100_000)).unwrap().is_some());
    }
    println!("get, of a snapshot, in process {:6.2} µs CPU", cost.end().cpu.as_secs_f64() * 5.0);
}

fn reads(how: &str, engine: &dyn Engine) {
    const N: u64 = 50_000;
    let cost = Cost::start();
    for i in 0..N {
        assert!(engine.get(&key(i.wrapping_mul(7919) % 100_000)).unwrap().is_some());
    }
    let get = cost.end();
    let cost = Cost::start();
    for i in 0..200 {
        let start = key(i * 400);
        assert_eq!(engine.collect(KeyRange::from(&start), Direction::Ascending, 10_000).unwrap().len(), 10_000);
    }
    let range = cost.end();
    println!(
        "get, {how:<16}        {:6.2} µs wall  {:6.2} µs CPU (this side)",
        get.wall.as_secs_f64() * 1e6 / N as f64,
        get.cpu.as_secs_f64() * 1e6 / N as f64
    );
    println!(
        "entry of a range, {how:<16} {:5.3} µs wall  {:5.3} µs CPU (this side)",
        range.wall.as_secs_f64() * 1e6 / 2e6,
        range.cpu.as_secs_f64() * 1e6 / 2e6
    );
}

/// From kill -9 of the holder to the first answer of the one that takes over.
fn takeover() {
    for (n_keys, label) in [(10_000, "2 MB"), (700_000, "100 MB"), (7_000_000, "1 GB")] {
        let dir = folder();
        let mut times = Vec::new();
        load(&*open(dir.path(), &Options::default()).unwrap(), 0, n_keys);
        for round in 0..5 {
            let mut holder = spawn_holder(dir.path());
            let client = open(dir.path(), &Options::default()).unwrap();
            // Writes leave the file as a killed holder leaves it, not as a clean one does.
            load(&*client, n_keys + round * 100, 100);
            kill(&mut holder);
            let start = Instant::now();
            assert!(client.get(&key(0)).unwrap().is_some());
            times.push(start.elapsed());
        }
        println!("takeover after kill -9, {label:>6} {:7.1} ms", median(&mut times).as_secs_f64() * 1e3);
    }
}

fn opening() {
    for (n_keys, label) in [(0, "new"), (10_000, "2 MB"), (7_000_000, "1 GB")] {
        let dir = folder();
        let mut times = Vec::new();
        if n_keys > 0 {
            load(&*open(dir.path(), &Options::default()).unwrap(), 0, n_keys);
        }
        for round in 0..5 {
            let dir = if n_keys > 0 { dir.path().to_path_buf() } else { dir.path().join(round.to_string()) };
            let start = Instant::now();
            let engine = open(&dir, &Options::default()).unwrap();
            engine.get(b"x").unwrap();
            times.push(start.elapsed());
        }
        println!("open and get, {label:>4}           {:7.2} ms", median(&mut times).as_secs_f64() * 1e3);
    }
}

/// The other process: holds `dir` until it is killed.
fn hold(dir: &Path) {
    let _engine = open(dir, &Options::default()).unwrap();
    println!("holding");
    let mut end = String::new();
    std::io::stdin().read_to_string(&mut end).unwrap();
}

fn spawn_holder(dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(HOLD, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    child
}
