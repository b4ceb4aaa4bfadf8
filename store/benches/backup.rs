//! A backup of about a gigabyte, again after one more run, checked and restored; beside it `cp -a`. Exports and imports.
#![allow(clippy::print_stdout, reason = "figures go to the terminal")]

mod measure;

use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use measure::{Bench, checkpoint, cpu_secs, once, peak_rss_mb};
use tracker_store::{Bundle, Durability, Recording, Result, Store, Target};

const N_ROWS: u32 = 400_000;
const N_ARTIFACTS: u64 = 20;
const ARTIFACT_BYTES: u64 = 30_000_000;

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("tracker-backup-{}", std::process::id()));
    drop(std::fs::create_dir_all(&dir));
    let result = bench(&dir);
    drop(std::fs::remove_dir_all(&dir));
    result
}

fn bench(dir: &Path) -> Result<()> {
    let path = dir.join("store");
    let store = fill(&path)?;
    let n_bytes = size_of(&path);
    println!("a store of {:.0} MB", n_bytes / 1e6);
    let copied = dir.join("copy");
    rate("cp -a", n_bytes, || drop(Command::new("cp").arg("-a").args([&path, &copied]).status()));
    rate("cp -a, and sync", n_bytes, || {
        drop(std::fs::remove_dir_all(&copied));
        drop(Command::new("cp").arg("-a").args([&path, &copied]).status());
        drop(Command::new("sync").arg("-f").arg(dir).status());
    });
    drop(std::fs::remove_dir_all(&copied));
    let backup = dir.join("backup");
    let saved = rate("backup to a folder", n_bytes, || store.back_up(Target::Folder(&backup), &mut |_| {}))?;
    println!("{:?}\nthe folder takes {:.0} MB", saved.counts, saved.written_bytes as f64 / 1e6);
    let tar = dir.join("backup.tar");
    rate("backup to a tar", n_bytes, || store.back_up(Target::File(&tar), &mut |_| {}))?;
    drop(std::fs::remove_file(&tar));
    let saved = rate("backup again, nothing new", n_bytes, || store.back_up(Target::Folder(&backup), &mut |_| {}))?;
    println!("wrote {:.3} MB", saved.written_bytes as f64 / 1e6);
    let run = one_more(&store)?;
    let saved = rate("backup after one more run", n_bytes, || store.back_up(Target::Folder(&backup), &mut |_| {}))?;
    println!("wrote {:.1} MB", saved.written_bytes as f64 / 1e6);
    rate("verify", n_bytes, || Bundle::open(&backup)?.verify(&mut |_| {}))?;
    rate("restore", n_bytes, || Bundle::open(&backup)?.restore(&dir.join("restored"), &mut |_| {}))?;
    drop(std::fs::remove_dir_all(&backup));
    let file = dir.join("run.tar");
    let exported = once("export of one run", || store.export(&[run], Target::File(&file), &mut |_| {}))?;
    println!("{:?}", exported.counts);
    let to = Store::create(&dir.join("to"))?;
    once("import of it", || to.import(&Bundle::open(&file)?, &mut |_| {}))?;
    once("import of it again", || to.import(&Bundle::open(&file)?, &mut |_| {}))?;
    println!("peak {:.0} MB", peak_rss_mb());
    Ok(())
}

/// Half a gigabyte of rows, and as much of artifacts that do not compress.
fn fill(dir: &Path) -> Result<Store> {
    let bench = Bench::new(Store::create(dir)?, 2000)?;
    rows(&bench, N_ROWS)?;
    let mut noise = blake3::Hasher::new_derive_key("noise").finalize_xof();
    for nth in 0..N_ARTIFACTS {
        artifact(&bench.store, &format!("artifact {nth}"), &mut (&mut noise).take(ARTIFACT_BYTES))?;
    }
    Ok(bench.store)
}

/// A run of 5,000 rows and 20 MB.
fn one_more(store: &Store) -> Result<tracker_store::RunId> {
    let bench = Bench::new(store.clone(), 100)?;
    rows(&bench, 5000)?;
    let mut noise = blake3::Hasher::new_derive_key("more").finalize_xof();
    let mut draft = store.draft("file")?;
    draft.add("file", &mut (&mut noise).take(20_000_000))?;
    let version = draft.save("more", &[], Some(bench.run))?;
    let mut recording = Recording::new();
    recording.put(bench.run, &tracker_store::Checkpoint { manifest: version.manifest, ..checkpoint(99) })?;
    store.commit(&recording, Durability::Sync)?;
    Ok(bench.run)
}

fn rows(bench: &Bench, n: u32) -> Result<()> {
    let mut recording = Recording::new();
    for item in 0..n {
        let row = bench.row(item, 0);
        recording.put_sample(row, &bench.sample(item, 0))?;
        recording.put_verdict(row, &bench.verdict(item))?;
        if item % 20_000 == 19_999 {
            bench.store.commit(&std::mem::take(&mut recording), Durability::Os)?;
        }
    }
    bench.store.commit(&recording, Durability::Os)
}

fn artifact(store: &Store, name: &str, source: &mut dyn std::io::Read) -> Result<()> {
    let mut draft = store.draft("file")?;
    draft.add("file", source)?;
    draft.save(name, &[], None).map(drop)
}

/// Runs `work` once; prints seconds, megabytes of the store a second, and processor seconds, children's too.
fn rate<T>(what: &str, n_bytes: f64, work: impl FnOnce() -> T) -> T {
    let (cpu, wall) = (cpu_secs() + children_secs(), Instant::now());
    let result = work();
    let secs = wall.elapsed().as_secs_f64();
    let cpu = cpu_secs() + children_secs() - cpu;
    println!("{what}: {secs:.2} s, {:.0} MB/s, {cpu:.2} s CPU", n_bytes / 1e6 / secs);
    result
}

/// Processor seconds of children that ended.
fn children_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(13) + ticks(14)) / 100.0
}

fn size_of(dir: &Path) -> f64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => size_of(&entry.path()),
        Ok(data) => data.len() as f64,
        Err(_) => 0.0,
    };
    entries.map(size).sum()
}
