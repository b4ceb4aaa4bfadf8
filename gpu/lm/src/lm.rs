//! A language model: its shape, its tokenizer, its weights, and the device it works on.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracker_gpu::Device;

use crate::checkpoint;
use crate::config::Config;
use crate::cpu;
use crate::error::Result;
use crate::net::Net;
use crate::tokenizer::Tokenizer;
use crate::weights::{Slot, Weights};

/// A decoder with its tokenizer. Cheap to clone; never changes: training returns another.
#[derive(Clone)]
pub struct Lm {
    config: Arc<Config>,
    tokenizer: Arc<Tokenizer>,
    weights: Weights,
    device: Device,
    prepared: Arc<Prepared>,
}

/// The weights in the form each device computes with, made when first needed.
#[derive(Default)]
struct Prepared {
    cpu: OnceLock<cpu::Model>,
    net: Mutex<Option<Net>>,
}

impl std::fmt::Debug for Lm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lm").field("config", &self.config).field("device", &self.device.id()).finish_non_exhaustive()
    }
}

impl Lm {
    fn new(config: Config, tokenizer: Tokenizer, weights: Weights, device: &Device) -> Self {
        Self {
            config: Arc::new(config),
            tokenizer: Arc::new(tokenizer),
            weights,
            device: device.clone(),
            prepared: Arc::default(),
        }
    }

    /// A model with random weights: N(0, 0.02), those of maps into the residual stream divided by sqrt(2 · layers).
    ///
    /// The bits follow from `config` and `seed` alone, on every machine.
    ///
    /// # Errors
    /// `Config` if the configuration is inconsistent, `Vocabulary` if the tokenizer has more ids than the model rows.
    pub fn init(config: Config, tokenizer: Tokenizer, seed: u64, device: &Device) -> Result<Self> {
        config.validate()?;
        tokenizer.check_fits(config.vocab_size)?;
        let weights = Weights::init(&config, seed);
        Ok(Self::new(config, tokenizer, weights, device))
    }

    /// Reads a Hugging Face folder: `config.json`, `tokenizer.json`, and `model.safetensors` or its shards and index.
    ///
    /// # Errors
    /// `NoFile`, `Io` or `Malformed` for a file; `Adapter` beside an adapter's; `Architecture` or `Config` for a network that is not built; `Tensors`
    /// or `Tensor` if the weights are not those of the configuration; `Vocabulary` if the tokenizer does not fit.
    pub fn load(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        let parts = checkpoint::read(|name| checkpoint::read_file(dir, name))?;
        Ok(Self::new(parts.config, parts.tokenizer, parts.weights, device))
    }

    /// [`Lm::load`] from names and bytes in memory. Other files are ignored.
    ///
    /// # Errors
    /// As [`Lm::load`], without `Io`.
    pub fn from_files<N: AsRef<str>, B: AsRef<[u8]>>(files: &[(N, B)], device: &Device) -> Result<Self> {
        let parts = checkpoint::read(|name| {
            let found = files.iter().find(|(file, _)| file.as_ref() == name);
            Ok(found.map(|(_, bytes)| Cow::Borrowed(bytes.as_ref())))
        })?;
        Ok(Self::new(parts.config, parts.tokenizer, parts.weights, device))
    }

    /// Writes a Hugging Face folder that transformers loads. It appears whole or not at all.
    ///
    /// # Errors
    /// `Exists` if `dir` is there and not empty, `Io` if the file system refuses.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        checkpoint::write_dir(dir.as_ref(), &self.to_files()?)
    }

    /// The files [`Lm::save`] writes, sorted by name; equal models give equal bytes.
    ///
    /// # Errors
    /// `Malformed` if the weights cannot be serialised.
    pub fn to_files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        checkpoint::files(&self.config, &self.tokenizer, &self.weights)
    }

    /// The same model on another device.
    #[must_use]
    pub fn on(&self, device: &Device) -> Self {
        let prepared = if device.id() == self.device.id() { self.prepared.clone() } else { Arc::default() };
        Self { device: device.clone(), prepared, ..self.clone() }
    }

    /// What the model is made of.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The device it works on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How many numbers its weights are; a tied head counts once.
    #[must_use]
    pub fn n_params(&self) -> usize {
        self.weights.layout.len
    }

    /// Its tensors as in a file: Hugging Face name, shape, values row-major.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        let slots = self.weights.layout.slots.iter();
        slots.map(|slot| (slot.name.as_str(), slot.shape.as_slice(), &self.weights.data[slot.at.clone()]))
    }

    /// The digest of its weights, as `tracker merge` writes it: BLAKE3 over, for each tensor by name, the name, a zero byte and
    /// the BLAKE3 of its bytes (f32, little-endian).
    #[must_use]
    pub fn weights_digest(&self) -> [u8; 32] {
        let mut whole = blake3::Hasher::new();
        digest_tensors(&mut whole, self.weights.layout.slots.iter(), &self.weights.data);
        whole.finalize().into()
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The same model with other weights of the same layout.
    pub(crate) fn with_weights(&self, weights: Weights) -> Self {
        Self { weights, prepared: Arc::default(), ..self.clone() }
    }

    /// The model as the CPU computes it.
    pub(crate) fn cpu(&self) -> &cpu::Model {
        self.prepared.cpu.get_or_init(|| cpu::Model::new(&self.config, &self.weights))
    }

    /// The model on its graphics processor; none if it works on the CPU.
    pub(crate) fn net(&self) -> Result<Option<Net>> {
        let Some(adapter) = self.device.adapter() else {
            return Ok(None);
        };
        let mut prepared = self.prepared.net.lock().unwrap_or_else(PoisonError::into_inner);
        if prepared.is_none() {
            *prepared = Some(Net::on_adapter(adapter, &self.config, &self.weights)?);
        }
        Ok(prepared.clone())
    }
}

/// Adds tensors to a digest, by name: the name, a zero byte and the digest of the bytes.
pub(crate) fn digest_tensors<'a>(whole: &mut blake3::Hasher, slots: impl Iterator<Item = &'a Slot>, data: &[f32]) {
    let mut slots: Vec<&Slot> = slots.collect();
    slots.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    for slot in slots {
        let mut one = blake3::Hasher::new();
        for values in data[slot.at.clone()].chunks(4096) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            one.update(&bytes);
        }
        whole.update(slot.name.as_bytes()).update(&[0]).update(one.finalize().as_bytes());
    }
}
