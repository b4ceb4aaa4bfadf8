//! Hugging Face folders, in files or in memory.
//!
//! Reading takes `model.safetensors` or the shards of `model.safetensors.index.json`, in f32, f16 or bf16; every tensor
//! the configuration implies must be there in its shape, and no other; an adapter that was not merged is refused. Writing gives `config.json`,
//! `generation_config.json`, `model.safetensors` (f32, bytes the same for the same weights), `tokenizer.json` and
//! `tokenizer_config.json`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use half::slice::HalfFloatSliceExt;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use crate::weights::{Layout, Slot, Weights};

pub(crate) const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Files of an adapter: transformers puts it on top of what else is in the folder.
const ADAPTER: [&str; 3] = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"];

/// Tables that follow from the config, which releases of transformers before 4.32 saved.
const DERIVED: [&str; 2] = [".rotary_emb.inv_freq", ".position_ids"];

/// A checkpoint's parts.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) weights: Weights,
}

/// Reads a checkpoint through `file`, which gives the bytes of a file by name, or none if it is absent.
pub(crate) fn read<'a>(file: impl Fn(&str) -> Result<Option<Cow<'a, [u8]>>>) -> Result<Parts> {
    let need = |name: &str| file(name)?.ok_or_else(|| Error::NoFile { name: name.to_owned() });
    for name in ADAPTER {
        if file(name)?.is_some() {
            return Err(Error::Adapter { name: name.to_owned() });
        }
    }
    let config = Config::from_json(&need(CONFIG)?)?;
    let tokenizer = Tokenizer::from_json(&need(TOKENIZER)?, file(TOKENIZER_CONFIG)?.as_deref())?;
    tokenizer.check_fits(config.vocab_size)?;
    let layout = Layout::of(&config);
    let tied = config.tie_word_embeddings.then(|| layout.embed.clone());
    let data = tensors(file, &layout.slots, tied)?;
    Ok(Parts { config, tokenizer, weights: Weights::new(Arc::new(layout), data) })
}

/// Reads the tensors of these slots, which lie one after the other, and no others. `tied`: where the embedding is that a head, should a file
/// have one, has to equal.
pub(crate) fn tensors<'a>(
    file: impl Fn(&str) -> Result<Option<Cow<'a, [u8]>>>,
    slots: &[Slot],
    tied: Option<Range<usize>>,
) -> Result<Vec<f32>> {
    let need = |name: &str| file(name)?.ok_or_else(|| Error::NoFile { name: name.to_owned() });
    let mut filling = Filling::new(slots, tied);
    match file(INDEX)? {
        None => filling.take_file(WEIGHTS, &need(WEIGHTS)?, None)?,
        Some(index) => {
            for (shard, names) in shards(&index)? {
                filling.take_file(&shard, &need(&shard)?, Some(&names))?;
            }
        }
    }
    filling.finish()
}

/// The shards of an index, each with the tensors it is said to hold.
fn shards(index: &[u8]) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let malformed = |detail: String| Error::Malformed { name: INDEX.to_owned(), detail };
    let index: Value = serde_json::from_slice(index).map_err(|error| malformed(error.to_string()))?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| malformed("expected an object `weight_map`".to_owned()))?;
    let mut shards = BTreeMap::<String, BTreeSet<String>>::new();
    for (tensor, shard) in map {
        let shard = shard.as_str().filter(|name| Path::new(name).file_name().is_some_and(|file| file == *name));
        let shard = shard.ok_or_else(|| malformed(format!("expected a file name for tensor `{tensor}`")))?;
        shards.entry(shard.to_owned()).or_default().insert(tensor.clone());
    }
    Ok(shards)
}

/// Weights being read, and which tensors have arrived.
struct Filling<'a> {
    slots: &'a [Slot],
    by_name: HashMap<String, usize>,
    data: Vec<f32>,
    arrived: Vec<bool>,
    unexpected: Vec<String>,
    tied_head: Option<Vec<f32>>,
    tied: Option<Range<usize>>,
}

impl<'a> Filling<'a> {
    fn new(slots: &'a [Slot], tied: Option<Range<usize>>) -> Self {
        let by_name = slots.iter().enumerate().map(|(idx, slot)| (slot.name.clone(), idx)).collect();
        Self {
            data: vec![0.0; slots.last().map_or(0, |slot| slot.at.end)],
            arrived: vec![false; slots.len()],
            by_name,
            slots,
            unexpected: Vec::new(),
            tied_head: None,
            tied,
        }
    }

    /// Takes every tensor of one file. With `listed`, the file must hold those and no others.
    fn take_file(&mut self, file: &str, bytes: &[u8], listed: Option<&BTreeSet<String>>) -> Result<()> {
        let malformed = |detail: String| Error::Malformed { name: file.to_owned(), detail };
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| malformed(error.to_string()))?;
        let mut held: Vec<(&str, TensorView<'_>)> = tensors.iter().collect();
        held.sort_by(|a, b| a.0.cmp(b.0));
        if let Some(listed) = listed {
            let names: BTreeSet<&str> = held.iter().map(|(name, _)| *name).collect();
            if let Some(name) = listed.iter().find(|name| !names.contains(name.as_str())) {
                return Err(malformed(format!("the index puts tensor `{name}` here, and it is absent")));
            }
            if let Some(name) = names.into_iter().find(|name| !listed.contains(*name)) {
                return Err(malformed(format!("the index does not put tensor `{name}` here")));
            }
        }
        held.into_iter().try_for_each(|(name, view)| self.take(name, &view))
    }

    fn take(&mut self, name: &str, view: &TensorView<'_>) -> Result<()> {
        if let Some(&idx) = self.by_name.get(name) {
            let slot = &self.slots[idx];
            copy(slot, view, &mut self.data[slot.at.clone()])?;
            self.arrived[idx] = true;
        } else if let (Some(tied), "lm_head.weight") = (&self.tied, name) {
            let mut head = vec![0.0; tied.len()];
            let slot = Slot { name: name.to_owned(), ..self.slots[0].clone() };
            copy(&slot, view, &mut head)?;
            self.tied_head = Some(head);
        } else if !DERIVED.iter().any(|end| name.ends_with(end)) {
            self.unexpected.push(name.to_owned());
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<f32>> {
        let absent = self.slots.iter().zip(&self.arrived).filter(|(_, arrived)| !**arrived);
        let missing: Vec<String> = absent.map(|(slot, _)| slot.name.clone()).collect();
        if self.tied.zip(self.tied_head).is_some_and(|(tied, head)| head != self.data[tied]) {
            self.unexpected.push("lm_head.weight".to_owned());
        }
        if missing.is_empty() && self.unexpected.is_empty() {
            Ok(self.data)
        } else {
            Err(Error::Tensors { missing, unexpected: self.unexpected })
        }
    }
}

/// Copies a tensor of any of the three float types to f32.
pub(crate) fn copy(slot: &Slot, view: &TensorView<'_>, to: &mut [f32]) -> Result<()> {
    let wrong = |expected: String, got: String| Error::Tensor { name: slot.name.clone(), expected, got };
    if view.shape() != slot.shape {
        return Err(wrong(format!("shape {:?}", slot.shape), format!("shape {:?}", view.shape())));
    }
    let bytes = view.data();
    match view.dtype() {
        Dtype::F32 => bytemuck::cast_slice_mut::<f32, u8>(to).copy_from_slice(bytes),
        Dtype::F16 => bytemuck::pod_collect_to_vec::<u8, half::f16>(bytes).convert_to_f32_slice(to),
        Dtype::BF16 => bytemuck::pod_collect_to_vec::<u8, half::bf16>(bytes).convert_to_f32_slice(to),
        other => return Err(wrong("type F32, F16 or BF16".to_owned(), format!("type {other:?}"))),
    }
    Ok(())
}

/// The files of a checkpoint, sorted by name.
pub(crate) fn files(config: &Config, tokenizer: &Tokenizer, weights: &Weights) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = vec![
        (CONFIG.to_owned(), config.to_json()),
        (GENERATION.to_owned(), config.generation_json()),
        (WEIGHTS.to_owned(), safetensors_bytes(weights)?),
        (TOKENIZER.to_owned(), tokenizer.json().to_vec()),
    ];
    files.extend(tokenizer.config_json().map(|json| (TOKENIZER_CONFIG.to_owned(), json.to_vec())));
    Ok(files)
}

fn safetensors_bytes(weights: &Weights) -> Result<Vec<u8>> {
    let failed =
        |error: safetensors::SafeTensorError| Error::Malformed { name: WEIGHTS.to_owned(), detail: error.to_string() };
    let mut views = Vec::with_capacity(weights.layout.slots.len());
    for slot in &weights.layout.slots {
        let bytes = bytemuck::cast_slice(&weights.data[slot.at.clone()]);
        views.push((slot.name.as_str(), TensorView::new(Dtype::F32, slot.shape.clone(), bytes).map_err(failed)?));
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).map_err(failed)
}

/// Reads a file of `dir`, or none if it is absent.
pub(crate) fn read_file(dir: &Path, name: &str) -> Result<Option<Cow<'static, [u8]>>> {
    let path = dir.join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// Writes `files` as a new folder `dir`, which appears whole or not at all.
pub(crate) fn write_dir(dir: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(Error::io("write", parent))?;
    let partial =
        tempfile::Builder::new().prefix(".partial-").tempdir_in(parent).map_err(Error::io("write", parent))?;
    for (name, bytes) in files {
        let path = partial.path().join(name);
        let written = fs::File::create(&path).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(Error::io("write", path))?;
    }
    open_to_all(partial.path())?;
    // Renaming onto an empty folder replaces it; onto anything else it fails.
    match fs::rename(partial.path(), dir) {
        Ok(()) => {}
        Err(_) if dir.symlink_metadata().is_ok() => return Err(Error::Exists { path: dir.to_owned() }),
        Err(error) => return Err(Error::io("write", dir)(error)),
    }
    let synced = fs::File::open(parent).and_then(|parent| parent.sync_all());
    synced.map_err(Error::io("write", parent))
}

/// Gives a temporary folder the permissions of an ordinary one.
fn open_to_all(dir: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(Error::io("write", dir))?;
    }
    Ok(())
}
