//! Files in and out. Bars: 1 GiB in 1.2 s CPU and 64 MB; twenty checkpoints with 5 % changed little more than ideal.
#![allow(clippy::print_stdout, reason = "figures go to the terminal")]

mod measure;

use std::io::Read as _;
use std::path::Path;

use measure::{once, peak_rss_mb};
use tracker_store::{Result, Store};

fn main() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("tracker-artifact-{}", std::process::id()));
    let result = bench(&dir);
    drop(std::fs::remove_dir_all(&dir));
    result
}

fn bench(dir: &Path) -> Result<()> {
    let store = Store::create(&dir.join("store"))?;
    let mut noise = blake3::Hasher::new_derive_key("noise").finalize_xof();
    let file = dir.join("input");
    let written =
        std::fs::File::create(&file).and_then(|mut out| std::io::copy(&mut (&mut noise).take(1 << 30), &mut out));
    println!("made {} bytes", written.unwrap_or(0));
    for name in ["input.bin", "input.bin again"] {
        once(&format!("1 GiB in as `{name}`"), || {
            let mut draft = store.draft("file")?;
            draft.add_from(name, &file)?;
            draft.save("big", &[], None)
        })?;
    }
    let version = store.artifact("big:v0")?;
    once("1 GiB out", || store.export_artifact(version.manifest, &dir.join("out")))?;
    println!("peak {:.0} MB", peak_rss_mb());
    let before = size_of(&dir.join("store/blobs"));
    once("twenty 200 MB checkpoints, 5 % changed each", || checkpoints(&store, &mut noise))?;
    println!("stored {:.3} GB of 4.0, ideal 0.390", (size_of(&dir.join("store/blobs")) - before) / 1e9);
    Ok(())
}

fn checkpoints(store: &Store, noise: &mut blake3::OutputReader) -> Result<()> {
    let mut tensors: Vec<Vec<u8>> = (0..100).map(|_| vec![0; 2_000_000]).collect();
    for tensor in &mut tensors {
        noise.fill(tensor);
    }
    for round in 0..20 {
        if round > 0 {
            for tensor in &mut tensors[round * 5 % 100..][..5] {
                noise.fill(tensor);
            }
        }
        let views = tensors.iter().enumerate().filter_map(|(nth, bytes)| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::U8, vec![bytes.len()], bytes).ok()?;
            Some((format!("layer.{nth:03}"), view))
        });
        let bytes = safetensors::serialize(views, None).unwrap_or_default();
        let mut draft = store.draft("model")?;
        draft.add("model.safetensors", &mut bytes.as_slice())?;
        draft.save("policy", &[], None)?;
    }
    Ok(())
}

fn size_of(dir: &Path) -> f64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|data| data.len() as f64).sum()
}
