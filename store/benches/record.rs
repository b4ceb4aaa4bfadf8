//! Recording: a million samples with their verdicts and edges; a million rewards. Bars: 20 s CPU and 300 MB for samples, 10 s CPU
//! for rewards.
#![allow(clippy::print_stdout, reason = "figures go to the terminal")]

mod measure;

use measure::{Bench, once, peak_rss_mb, size_of};
use tracker_store::{Durability, NodeId, Program, Query, Recording, Result, Reward, Store, Table, Tally};

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
    once("1,000,000 samples with verdicts, batches of 20,000", || samples(&bench))?;
    println!("on disk: {:.0} MB", size_of(dir) / 1e6);
    once("record digest of them", || bench.store.record_digest(bench.run))?;
    once("reading them back", || bench.store.samples(bench.run, None).try_for_each(|row| row.map(drop)))?;
    once("the same 100,000 again: all there", || again(&bench))?;
    let scorer = once("1,000,000 rewards of 5 steps with tallies, batches of 20,000", || rewards(&bench))?;
    let question =
        Query::new(Table::Rewards).of_run(bench.run).filter(&format!("scorer = '{scorer}' AND value < 0.1"))?;
    once("the rewards of one scorer below 0.1", || bench.store.query(&question))?;
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
