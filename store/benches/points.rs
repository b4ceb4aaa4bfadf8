//! Points of series and runs, as training scripts write them: one a call and in batches, in process and through the socket, synced by
//! 64 writers, and what they take on disk. Bars: 5 µs CPU one a call, three times that through the socket, 0.5 µs in batches,
//! 10,000 synced a second, 4 bytes a point of smooth curves once sealed and 9 of random numbers, 0.3 ms a run.
//!
//! `-- long` adds a series of a hundred million points, which takes a minute; `-- socket` compares calls through the socket with those in
//! process three times, and nothing else.
#![allow(clippy::print_stdout, reason = "figures go to the terminal")]

mod measure;

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use measure::{cpu_secs, cpu_secs_of, median_millis, new_run, size_of};
use tracker_store::{Durability, Point, Recording, Result, RunId, Store};

/// Set for the process that holds the store while another asks.
const HOLD: &str = "TRACKER_STORE_BENCH_HOLD";

fn main() -> Result<()> {
    if let Ok(dir) = std::env::var(HOLD) {
        return hold(Path::new(&dir));
    }
    let dir = std::env::temp_dir().join(format!("tracker-points-{}", std::process::id()));
    let result = bench(&dir);
    drop(std::fs::remove_dir_all(&dir));
    result
}

fn bench(dir: &Path) -> Result<()> {
    if std::env::args().any(|arg| arg == "socket") {
        for nth in 0..3 {
            let store = Store::create(&dir.join(format!("alone-{nth}")))?;
            one_by_one(&store, store.create_run(&new_run("bench"))?.id, 300_000, None)?;
            through_the_socket(&dir.join(format!("shared-{nth}")))?;
        }
        return Ok(());
    }
    let store = Store::create(&dir.join("alone"))?;
    let run = store.create_run(&new_run("bench"))?.id;
    one_by_one(&store, run, 300_000, None)?;
    in_batches(&store, run, None)?;
    synced(&store, run)?;
    runs(&store)?;
    drop(store);
    on_disk(dir)?;
    through_the_socket(&dir.join("shared"))?;
    reading(&dir.join("read"))?;
    Ok(())
}

/// A loss as training scripts log it: a curve with noise, in f32.
fn loss(step: i64) -> f64 {
    f64::from(1.0_f32 / (1.0 + step as f32 / 1000.0) + ((step * 2_654_435_761) % 1000) as f32 / 1e5)
}

/// Nearly regular times, in milliseconds.
fn time(step: i64) -> i64 {
    1_790_000_000_000 + step * 137 + (step * 40_503) % 11
}

fn point(step: i64) -> Point {
    Point::new(step, time(step), loss(step))
}

/// A loss of smooth decay, times in regular steps.
fn smooth(step: i64) -> Point {
    Point::new(step, 1_790_000_000_000 + step * 137, f64::from(1.0_f32 / (1.0 + step as f32 / 1000.0)))
}

fn log(store: &Store, run: RunId, key: &str, points: &[Point], durability: Durability) -> Result<()> {
    let mut recording = Recording::new();
    recording.put_points(run, key, points)?;
    store.commit(&recording, durability)
}

fn how(holder: Option<u32>) -> &'static str {
    if holder.is_some() { "through the socket" } else { "in process" }
}

/// `holder` is the process that has the store open, if it is another.
fn one_by_one(store: &Store, run: RunId, n_points: i64, holder: Option<u32>) -> Result<f64> {
    let there = || holder.map_or(0.0, cpu_secs_of);
    let (here_before, there_before, wall) = (cpu_secs(), there(), Instant::now());
    for step in 0..n_points {
        log(store, run, "single", &[point(step)], Durability::Os)?;
    }
    let each = |secs: f64| secs * 1e6 / n_points as f64;
    let (here, there) = (each(cpu_secs() - here_before), each(there() - there_before));
    let how = how(holder);
    let wall = each(wall.elapsed().as_secs_f64());
    println!("points one a call, {how}: {here:.2} + {there:.2} µs CPU a point, {wall:.1} µs wall");
    Ok(here + there)
}

fn in_batches(store: &Store, run: RunId, holder: Option<u32>) -> Result<()> {
    const N_POINTS: i64 = 3_000_000;
    let cpu = || cpu_secs() + holder.map_or(0.0, cpu_secs_of);
    let before = cpu();
    for start in (0..N_POINTS).step_by(1000) {
        let points: Vec<Point> = (start..start + 1000).map(point).collect();
        log(store, run, "batches", &points, Durability::Os)?;
    }
    let how = how(holder);
    println!("points in batches of 1,000, {how}: {:.3} µs CPU a point", (cpu() - before) * 1e6 / N_POINTS as f64);
    Ok(())
}

/// 64 threads, each with a series of its own, each point synced before the next.
fn synced(store: &Store, run: RunId) -> Result<()> {
    const TIME: Duration = Duration::from_secs(3);
    let (n_done, wall, before) = (AtomicU64::new(0), Instant::now(), cpu_secs());
    std::thread::scope(|scope| {
        let writers = (0..64).map(|thread| {
            let (key, n_done, store) = (format!("of {thread}"), &n_done, &store);
            scope.spawn(move || -> Result<()> {
                let mut step = 0;
                while wall.elapsed() < TIME {
                    log(store, run, &key, &[point(step)], Durability::Sync)?;
                    n_done.fetch_add(1, Ordering::Relaxed);
                    step += 1;
                }
                Ok(())
            })
        });
        let writers: Vec<_> = writers.collect();
        writers.into_iter().try_for_each(|writer| writer.join().unwrap_or(Ok(())))
    })?;
    let n_done = n_done.into_inner() as f64;
    println!(
        "points synced one a call by 64 writers: {:.0} a second, {:.1} µs CPU each",
        n_done / wall.elapsed().as_secs_f64(),
        (cpu_secs() - before) * 1e6 / n_done
    );
    Ok(())
}

fn runs(store: &Store) -> Result<()> {
    const N_RUNS: u32 = 1000;
    let before = cpu_secs();
    for nth in 0..N_RUNS {
        let run = store.create_run(&new_run(&format!("run {nth}")))?.id;
        let mut recording = Recording::new();
        for key in 0..10 {
            recording.put_param(run, &format!("param {key}"), "0.1")?;
            recording.put_points(run, &format!("metric {key}"), &[Point::new(0, 0, f64::from(key))])?;
        }
        store.commit(&recording, Durability::Os)?;
    }
    println!("a run with 10 params and 10 metrics: {:.3} ms CPU", (cpu_secs() - before) * 1000.0 / f64::from(N_RUNS));
    Ok(())
}

/// What points take once they are sealed, by the growth of the folder.
fn on_disk(dir: &Path) -> Result<()> {
    const N_POINTS: i64 = 4 << 20;
    let random = |step: i64| {
        let bits = (step as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Point::new(step, 1_790_000_000_000 + step * 137, (bits >> 11) as f64 / (1_u64 << 53) as f64)
    };
    let curves: [(&str, &dyn Fn(i64) -> Point); 3] =
        [("smooth f32", &smooth), ("noisy f32, uneven times", &point), ("random f64", &random)];
    for (name, of) in curves {
        let dir = dir.join(name.replace(' ', "-"));
        let store = Store::create(&dir)?;
        let run = store.create_run(&new_run("bench"))?.id;
        for start in (0..N_POINTS).step_by(1 << 16) {
            let points: Vec<Point> = (start..start + (1 << 16)).map(of).collect();
            log(&store, run, "loss", &points, Durability::Os)?;
        }
        drop(store);
        let per_point = size_of(&dir) / N_POINTS as f64;
        println!("sealed, {name}: {per_point:.2} bytes a point on disk");
    }
    Ok(())
}

fn through_the_socket(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).unwrap_or_default();
    let mut holder = spawn_holder(dir);
    let logged = Store::create(dir).and_then(|store| {
        let run = store.create_run(&new_run("bench"))?.id;
        one_by_one(&store, run, 100_000, Some(holder.id()))?;
        in_batches(&store, run, Some(holder.id()))
    });
    drop(holder.kill());
    drop(holder.wait());
    logged
}

fn reading(dir: &Path) -> Result<()> {
    let store = Store::create(dir)?;
    let run = store.create_run(&new_run("bench"))?.id;
    let fill = |key: &str, n_points: i64| -> Result<()> {
        for start in (0..n_points).step_by(50_000) {
            let points: Vec<Point> = (start..start + 50_000).map(point).collect();
            log(&store, run, key, &points, Durability::Os)?;
        }
        Ok(())
    };
    fill("short", 100_000)?;
    median_millis("history of 100,000 points", || store.history(run, "short", None).map(Iterator::count))?;
    let n_long = if std::env::args().any(|arg| arg == "long") { 100_000_000 } else { 2_000_000 };
    fill("long", n_long)?;
    median_millis(&format!("plot of {n_long} points in 500 buckets"), || store.plot(run, "long", 500))?;
    Ok(())
}

fn spawn_holder(dir: &Path) -> Child {
    let this = std::env::current_exe().unwrap_or_default();
    let spawned = Command::new(this).env(HOLD, dir).stdout(Stdio::piped()).spawn();
    let mut holder = spawned.unwrap_or_else(|error| panic!("the holder did not start: {error}"));
    let mut ready = [0; 1];
    if let Some(stdout) = &mut holder.stdout {
        stdout.read_exact(&mut ready).unwrap_or_default();
    }
    holder
}

/// The other process: holds the store until it is killed.
fn hold(dir: &Path) -> Result<()> {
    let _store = Store::create(dir)?;
    println!("r");
    loop {
        std::thread::sleep(Duration::from_mins(1));
    }
}
