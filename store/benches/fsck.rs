//! Checking a store of about 1 GB: records, series, artifacts. Bar: 500 MB of the store's folder a second on two cores.
//! With a folder as argument it checks the store there instead.
#![allow(clippy::print_stdout, reason = "figures go to the terminal")]

mod measure;

use std::path::{Path, PathBuf};
use std::time::Instant;

use measure::{Bench, cpu_secs, once, peak_rss_mb};
use tracker_store::{Durability, Level, Point, Recording, Result, Store};

/// Samples, each with a verdict and three edges: about half of the store. `TRACKER_FSCK_SAMPLES` is another number.
const N_SAMPLES: u32 = 400_000;
const BATCH: u32 = 20_000;
const N_SERIES: usize = 200;
const N_POINTS: i64 = 50_000;
/// Weights of a checkpoint, 2 bytes each; there are two, the second near the first.
const N_WEIGHTS: usize = 60_000_000;

fn main() -> Result<()> {
    if let Some(dir) = std::env::args().skip(1).find(|arg| !arg.starts_with("--")) {
        return check(Path::new(&dir));
    }
    let dir = std::env::temp_dir().join(format!("tracker-fsck-{}", std::process::id()));
    let result = bench(&dir);
    if std::env::var_os("TRACKER_BENCH_KEEP").is_none() {
        drop(std::fs::remove_dir_all(&dir));
    }
    result
}

fn bench(dir: &Path) -> Result<()> {
    let store_dir = dir.join("store");
    once("making the store", || fill(&store_dir))?;
    check(&store_dir)
}

fn check(dir: &Path) -> Result<()> {
    let n_bytes = size_of(dir);
    println!("{}: {:.3} GB", dir.display(), n_bytes / 1e9);
    for _ in 0..3 {
        let (wall, cpu) = (Instant::now(), cpu_secs());
        let mut n_told = 0;
        let mut tell = |finding: tracker_store::Finding| {
            n_told += 1;
            if n_told <= 20 || finding.level == Level::Damage && n_told < 100 {
                println!("{finding}");
            }
        };
        let checked = tracker_store::fsck(dir, &mut tell, &|_| {})?;
        let secs = wall.elapsed().as_secs_f64();
        println!("{checked:?}");
        println!(
            "{:.2} s wall, {:.2} s CPU, {:.0} MB/s, peak {:.0} MB",
            secs,
            cpu_secs() - cpu,
            n_bytes / 1e6 / secs,
            peak_rss_mb()
        );
    }
    Ok(())
}

fn fill(store_dir: &Path) -> Result<()> {
    let bench = Bench::new(Store::create(store_dir)?, 10_000)?;
    let n_samples = std::env::var("TRACKER_FSCK_SAMPLES").ok().and_then(|n| n.parse().ok()).unwrap_or(N_SAMPLES);
    for first in (0..n_samples).step_by(BATCH as usize) {
        let mut recording = Recording::new();
        for nth in first..first + BATCH {
            let row = bench.row(nth / 4, nth % 4);
            recording.put_sample(row, &bench.sample(nth / 4, nth % 4))?;
            recording.put_verdict(row, &bench.verdict(nth))?;
        }
        bench.store.commit(&recording, Durability::Os)?;
    }
    for series in 0..N_SERIES {
        let mut recording = Recording::new();
        let point =
            |step: i64| Point::new(step, 1_795_000_000_000 + step * 137, ((step * 7919 + series as i64) as f64).sin());
        let points: Vec<Point> = (0..N_POINTS).map(point).collect();
        recording.put_points(bench.run, &format!("loss/{series}"), &points)?;
        bench.store.commit(&recording, Durability::Os)?;
    }
    let mut noise = blake3::Hasher::new_derive_key("noise").finalize_xof();
    let mut bytes = vec![0; 200 << 20];
    noise.fill(&mut bytes);
    put(&bench.store, "exchanges", "all.bin", &bytes, None)?;
    let mut weights = vec![0_u8; 2 * N_WEIGHTS];
    noise.fill(&mut weights);
    // Floats of some width around nothing, as weights are: sign and mantissa at random, exponents near one another.
    for word in weights.as_chunks_mut::<2>().0 {
        let exponent = 116 + u16::from(word[1] & 0x38).count_ones() as u16;
        let bits = u16::from_le_bytes(*word) & 0x807f | exponent << 7;
        *word = bits.to_le_bytes();
    }
    put(&bench.store, "policy", "model.safetensors", &safetensors_of(&weights), None)?;
    for word in weights.as_chunks_mut::<2>().0.iter_mut().step_by(3) {
        word[0] ^= 1;
    }
    put(&bench.store, "policy", "model.safetensors", &safetensors_of(&weights), Some("policy:v0"))?;
    Ok(())
}

fn safetensors_of(weights: &[u8]) -> Vec<u8> {
    let views = weights.chunks(4 << 20).enumerate().filter_map(|(nth, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::BF16, vec![bytes.len() / 2], bytes).ok()?;
        Some((format!("layer.{nth:03}"), view))
    });
    safetensors::serialize(views, None).unwrap_or_default()
}

fn put(store: &Store, name: &str, file: &str, bytes: &[u8], base: Option<&str>) -> Result<()> {
    let mut draft = store.draft("model")?;
    if let Some(base) = base {
        draft.based_on(store.artifact(base)?.manifest)?;
    }
    draft.add(file, &mut &*bytes)?;
    draft.save(name, &[], None)?;
    Ok(())
}

fn size_of(dir: &Path) -> f64 {
    let mut folders: Vec<PathBuf> = vec![dir.to_path_buf()];
    let mut n_bytes = 0.0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => folders.push(entry.path()),
                Ok(data) => n_bytes += data.len() as f64,
                Err(_) => {}
            }
        }
    }
    n_bytes
}
