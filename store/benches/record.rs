//! Recording: a million samples with their verdicts and edges; a million rewards; points of a series; runs. Bars: 20 s CPU
//! and 300 MB for samples, 10 s CPU for rewards.
#![allow(clippy::print_stdout, reason = "figures go to the terminal")]

mod measure;

use measure::{Bench, cpu_secs, new_run, once, peak_rss_mb};
use tracker_store::{Durability, NodeId, Point, Program, Query, Recording, Result, Reward, Store, Table, Tally};

const N_ITEMS: u32 = 62_500;
const N_SAMPLES: u32 = 16;
const ITEMS_PER_BATCH: u32 = 1_250;

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("tracker-record-{}", std::process::id()));
    let result = bench(&dir);
    drop(std::fs::remove_dir_all(&dir));
    result
}

fn bench(dir: &std::path::Path) -> Result<()> {
    let bench = Bench::new(Store::create(dir)?, N_ITEMS / 10)?;
    if std::env::args().any(|arg| arg == "points") {
        return points(&bench);
    }
    once("1,000,000 samples with verdicts, batches of 20,000", || samples(&bench))?;
    println!("on disk: {:.0} MB", size_of(dir) / 1e6);
    once("record digest of them", || bench.store.record_digest(bench.run))?;
    once("reading them back", || bench.store.samples(bench.run, None).try_for_each(|row| row.map(drop)))?;
    once("the same 100,000 again: all there", || again(&bench))?;
    let scorer = once("1,000,000 rewards of 5 steps with tallies, batches of 20,000", || rewards(&bench))?;
    let question =
        Query::new(Table::Rewards).of_run(bench.run).filter(&format!("scorer = '{scorer}' AND value < 0.1"))?;
    once("the rewards of one scorer below 0.1", || bench.store.query(&question))?;
    points(&bench)?;
    runs(&bench)?;
    println!("peak {:.0} MB", peak_rss_mb());
    Ok(())
}

fn samples(bench: &Bench) -> Result<()> {
    for start in (0..N_ITEMS).step_by(ITEMS_PER_BATCH as usize) {
        bench.store.commit(&batch(bench, start)?, Durability::Os)?;
    }
    Ok(())
}

fn rewards(bench: &Bench) -> Result<NodeId> {
    let mut scorer = None;
    for start in (0..N_ITEMS).step_by(ITEMS_PER_BATCH as usize) {
        let mut recording = Recording::new();
        let labels = Program {
            name: "step labels".to_owned(),
            version: "1".to_owned(),
            settings: "estimator = \"er\"".to_owned(),
        };
        let labels = *scorer.insert(recording.put(bench.run, &labels)?);
        for item in start..start + ITEMS_PER_BATCH {
            for k in 0..N_SAMPLES {
                recording.put_reward(bench.row(item, k), &reward(labels, item ^ k))?;
            }
        }
        bench.store.commit(&recording, Durability::Os)?;
    }
    Ok(scorer.unwrap_or(bench.policy))
}

fn reward(scorer: NodeId, nth: u32) -> Reward {
    let tallies: Vec<Tally> = (0..5).map(|step| Tally { hits: (nth + 3 * step) % 17, of: 16 }).collect();
    let values = tallies.iter().map(|tally| f64::from(tally.hits) / f64::from(tally.of)).collect();
    Reward { scorer, kind: "step".to_owned(), values, tallies }
}

fn again(bench: &Bench) -> Result<()> {
    for start in (0..N_ITEMS / 10).step_by(ITEMS_PER_BATCH as usize) {
        bench.store.commit(&batch(bench, start)?, Durability::Os)?;
    }
    Ok(())
}

fn batch(bench: &Bench, start: u32) -> Result<Recording> {
    let mut recording = Recording::new();
    for item in start..start + ITEMS_PER_BATCH {
        for k in 0..N_SAMPLES {
            let row = bench.row(item, k);
            recording.put_sample(row, &bench.sample(item, k))?;
            recording.put_verdict(row, &bench.verdict(item * N_SAMPLES + k))?;
        }
    }
    Ok(recording)
}

fn points(bench: &Bench) -> Result<()> {
    const N_POINTS: i64 = 1_000_000;
    const N_SINGLE: i64 = 200_000;
    let loss =
        |step: i64| f64::from(1.0_f32 / (1.0 + step as f32 / 1000.0) + ((step * 2_654_435_761) % 1000) as f32 / 1e5);
    let jitter = |step: i64| 1_790_000_000_000 + step * 137 + (step * 40_503) % 11;
    let before = cpu_secs();
    for start in (0..N_POINTS).step_by(1000) {
        let points: Vec<Point> = (start..start + 1000).map(|step| Point::new(step, jitter(step), loss(step))).collect();
        let mut recording = Recording::new();
        recording.put_points(bench.run, "loss", &points)?;
        bench.store.commit(&recording, Durability::Os)?;
    }
    println!("points in batches of 1,000: {:.2} µs CPU a point", (cpu_secs() - before) * 1e6 / N_POINTS as f64);
    let before = cpu_secs();
    for step in 0..N_SINGLE {
        let mut recording = Recording::new();
        recording.put_points(bench.run, "single", &[Point::new(step, jitter(step), loss(step))])?;
        bench.store.commit(&recording, Durability::Os)?;
    }
    println!("points one by one: {:.2} µs CPU a point", (cpu_secs() - before) * 1e6 / N_SINGLE as f64);
    let points = measure::median_millis("history of 1,000,000 points", || {
        bench.store.history(bench.run, "loss", None).map(Iterator::count)
    });
    println!("  ({} points)", points?);
    measure::median_millis("plot of them in 500 buckets", || bench.store.plot(bench.run, "loss", 500))?;
    Ok(())
}

fn runs(bench: &Bench) -> Result<()> {
    const N_RUNS: u32 = 300;
    let before = cpu_secs();
    for nth in 0..N_RUNS {
        let run = bench.store.create_run(&new_run(&format!("run {nth}")))?.id;
        let mut recording = Recording::new();
        for key in 0..10 {
            recording.put_param(run, &format!("param {key}"), "0.1")?;
            recording.put_points(run, &format!("metric {key}"), &[Point::new(0, 0, f64::from(key))])?;
        }
        bench.store.commit(&recording, Durability::Os)?;
    }
    println!("a run with 10 params and 10 metrics: {:.2} ms CPU", (cpu_secs() - before) * 1000.0 / f64::from(N_RUNS));
    Ok(())
}

fn size_of(dir: &std::path::Path) -> f64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|data| data.len() as f64)
        .sum()
}
