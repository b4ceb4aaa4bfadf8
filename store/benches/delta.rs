//! Checkpoint families. Bars, as shares of raw, for 8 M bf16 weights N(0, 0.02²), each moved by N(0, σ²): σ = 1e-5 8.5 %,
//! 1e-4 23.5 %, 1e-3 44.5 %; alone 67 %; f32 moved by 1e-3 relative 51 %; twenty checkpoints with 5 % of the bytes
//! changed 10.5 % in all. Coding 150 MB/s a core, restoring 800 MB/s a core.
#![allow(clippy::print_stdout, reason = "figures go to the terminal")]

mod measure;

use std::path::Path;

use measure::{cpu_secs, peak_rss_mb};
use pco::standalone::{simple_compress, simple_decompress_into};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};
use safetensors::Dtype;
use tracker_store::{Result, Store, Version};

const N_WEIGHTS: usize = 8_000_000;
const N_TENSORS: usize = 4;
const N_READS: usize = 20;

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("tracker-delta-{}", std::process::id()));
    let result = bench(&dir);
    drop(std::fs::remove_dir_all(&dir));
    result
}

fn bench(dir: &Path) -> Result<()> {
    let mut draws = Draws::new();
    let weights: Vec<f32> = (0..N_WEIGHTS).map(|_| (0.02 * draws.normal()) as f32).collect();
    let base = file(Dtype::BF16, &bf16(&weights));
    println!("{:<34}{:>9}{:>14}{:>14}", "", "of raw", "coded MB/s", "restored MB/s");
    let store = Store::create(&dir.join("lone"))?;
    put(&store, "bf16 alone", &base, None)?;
    reference("  pco alone, no digests, no files", &sorted(&bf16(&weights)));
    for sigma in [1e-6, 1e-5, 1e-4, 1e-3] {
        let store = Store::create(&dir.join(format!("sigma {sigma:e}")))?;
        let first = save(&store, &base, None)?;
        let mut moved = || {
            // As in training: the weights move in f32, and what is kept of them is rounded.
            let moved = weights.iter().map(|weight| (f64::from(*weight) + sigma * draws.normal()) as f32);
            file(Dtype::BF16, &bf16(&moved.collect::<Vec<_>>()))
        };
        // The first child lays its base down raw; what a child costs from then on is that of the second.
        save(&store, &moved(), Some(&first))?;
        let child = moved();
        put(&store, &format!("bf16 moved by {sigma:e}"), &child, Some(&first))?;
        let header = child.len() - 2 * N_WEIGHTS;
        let steps = sorted(&child[header..]).into_iter().zip(sorted(&base[header..]));
        reference("  pco alone", &steps.map(|(new, old)| new.wrapping_sub(old)).collect::<Vec<_>>());
    }
    chain(&Store::create(&dir.join("chain"))?, &weights, &mut draws)?;

    let store = Store::create(&dir.join("f32"))?;
    let halves = &weights[..N_WEIGHTS / 2];
    let first = put(&store, "f32 alone", &file(Dtype::F32, &f32s(halves)), None)?;
    let mut moved =
        || halves.iter().map(|w| (f64::from(*w) * (1.0 + 1e-3 * draws.normal())) as f32).collect::<Vec<_>>();
    save(&store, &file(Dtype::F32, &f32s(&moved())), Some(&first))?;
    put(&store, "f32 moved by 1e-3 relative", &file(Dtype::F32, &f32s(&moved())), Some(&first))?;
    twenty(&Store::create(&dir.join("twenty"))?, weights, &mut draws)?;
    println!("peak {:.0} MB, most of it the weights the bench itself holds", peak_rss_mb());
    Ok(())
}

/// Twenty steps of 1e-4, each told from the one before.
fn chain(store: &Store, weights: &[f32], draws: &mut Draws) -> Result<()> {
    let mut weights = weights.to_vec();
    let mut last = save(store, &file(Dtype::BF16, &bf16(&weights)), None)?;
    for nth in 1..=20 {
        for weight in &mut weights {
            *weight = (f64::from(*weight) + 1e-4 * draws.normal()) as f32;
        }
        let bytes = file(Dtype::BF16, &bf16(&weights));
        last = if [1, 2, 10, 20].contains(&nth) {
            put(store, &format!("chain of 1e-4, step {nth}"), &bytes, Some(&last))?
        } else {
            save(store, &bytes, Some(&last))?
        };
    }
    println!(
        "{:<34}{:>7.1} %",
        "the whole chain, 21 versions",
        100.0 * size_of(store) / (21.0 * 2.0 * N_WEIGHTS as f64)
    );
    Ok(())
}

/// Twenty checkpoints, 5 % of the weights drawn anew in each.
fn twenty(store: &Store, mut weights: Vec<f32>, draws: &mut Draws) -> Result<()> {
    let n_part = N_WEIGHTS / 20;
    let mut last: Option<Version> = None;
    for round in 0..20 {
        if round > 0 {
            weights[round * n_part..][..n_part].fill_with(|| (0.02 * draws.normal()) as f32);
        }
        last = Some(save(store, &file_of(Dtype::BF16, &bf16(&weights), 20), last.as_ref())?);
    }
    println!(
        "{:<34}{:>7.1} %",
        "twenty, 5 % drawn anew in each",
        100.0 * size_of(store) / (20.0 * 2.0 * N_WEIGHTS as f64)
    );
    Ok(())
}

/// Puts a file, reads it back some times, and prints what that took.
fn put(store: &Store, what: &str, bytes: &[u8], base: Option<&Version>) -> Result<Version> {
    let (before, cpu) = (size_of(store), cpu_secs());
    let version = save(store, bytes, base)?;
    let (coded, n_stored) = (cpu_secs() - cpu, size_of(store) - before);
    let digest = store.manifest(&version)?.files[0].digest;
    let cpu = cpu_secs();
    for _ in 0..N_READS {
        let mut reader = store.open_file(digest, 0)?;
        drop(std::io::copy(&mut reader, &mut std::io::sink()));
    }
    let restored = (cpu_secs() - cpu) / N_READS as f64;
    let mb = bytes.len() as f64 / 1e6;
    println!("{what:<34}{:>7.1} %{:>14.0}{:>14.0}", n_stored / mb / 1e4, mb / coded, mb / restored);
    assert!(store.read_file(digest)? == bytes, "`{what}` came back otherwise");
    Ok(version)
}

/// What the coder costs by itself, in this run, on these numbers: the most that could be had.
fn reference(what: &str, numbers: &[i16]) {
    let config = ChunkConfig::default().with_mode_spec(ModeSpec::Classic).with_delta_spec(DeltaSpec::NoOp);
    let cpu = cpu_secs();
    let coded: Vec<Vec<u8>> =
        numbers.chunks(N_WEIGHTS / N_TENSORS).filter_map(|part| simple_compress(part, &config).ok()).collect();
    let coding = cpu_secs() - cpu;
    let mut out = vec![0_i16; N_WEIGHTS / N_TENSORS];
    let cpu = cpu_secs();
    for part in std::iter::repeat_n(&coded, N_READS).flatten() {
        drop(simple_decompress_into(part, &mut out));
    }
    let restoring = (cpu_secs() - cpu) / N_READS as f64;
    let mb = 2.0 * numbers.len() as f64 / 1e6;
    let n_stored: usize = coded.iter().map(Vec::len).sum();
    println!("{what:<34}{:>7.1} %{:>14.0}{:>14.0}", n_stored as f64 / mb / 1e4, mb / coding, mb / restoring);
}

/// 16-bit floats as numbers that sort as they do.
fn sorted(bytes: &[u8]) -> Vec<i16> {
    let sorted = |bits: i16| if bits < 0 { i16::MIN.wrapping_sub(bits) } else { bits };
    bytes.as_chunks().0.iter().map(|bytes| sorted(i16::from_le_bytes(*bytes))).collect()
}

fn save(store: &Store, mut bytes: &[u8], base: Option<&Version>) -> Result<Version> {
    let mut draft = store.draft("model")?;
    if let Some(base) = base {
        draft.based_on(base.manifest)?;
    }
    draft.add("model.safetensors", &mut bytes)?;
    draft.save("policy", &[], None)
}

fn file(dtype: Dtype, bytes: &[u8]) -> Vec<u8> {
    file_of(dtype, bytes, N_TENSORS)
}

fn file_of(dtype: Dtype, bytes: &[u8], n_tensors: usize) -> Vec<u8> {
    let n_each = bytes.len() / n_tensors;
    let views = bytes.chunks(n_each).enumerate().filter_map(|(nth, bytes)| {
        let shape = vec![bytes.len() * 8 / dtype.bitsize()];
        let view = safetensors::tensor::TensorView::new(dtype, shape, bytes).ok()?;
        Some((format!("layer.{nth:03}"), view))
    });
    safetensors::serialize(views, None).unwrap_or_default()
}

/// Rounded to nearest, ties to even.
fn bf16(weights: &[f32]) -> Vec<u8> {
    let round = |bits: u32| ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    weights.iter().flat_map(|weight| round(weight.to_bits()).to_le_bytes()).collect()
}

fn f32s(weights: &[f32]) -> Vec<u8> {
    weights.iter().flat_map(|weight| weight.to_le_bytes()).collect()
}

fn size_of(store: &Store) -> f64 {
    let entries = store.dir().into_iter().flat_map(|dir| std::fs::read_dir(dir.join("blobs"))).flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|data| data.len() as f64).sum()
}

/// Normal numbers, the same in every run.
struct Draws(blake3::OutputReader);

impl Draws {
    fn new() -> Self {
        Self(blake3::Hasher::new_derive_key("draws").finalize_xof())
    }

    /// In (0, 1).
    fn uniform(&mut self) -> f64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        ((u64::from_le_bytes(bytes) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// By Box and Muller.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}
