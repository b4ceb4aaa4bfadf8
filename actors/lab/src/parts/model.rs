//! Models to start from: small language models with random weights, and those of folders, CLIPs among them.

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_lm::{Clip, Config, Lm, Tokenizer};
use tracker_store::{NodeId, Recording};

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::parts::checkpoint::{Files, record_files};
use crate::parts::pixels::{FILE, Preprocessing};
use crate::plan::require;

/// The shape of a small model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// Width.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of its feed-forward layers.
    pub ffn: usize,
    /// Its longest sequence, in tokens.
    pub context: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { hidden: 64, layers: 6, heads: 4, ffn: 172, context: 32 }
    }
}

impl Shape {
    /// Refuses values that make no model; `section` is where they stand in the plan.
    ///
    /// # Errors
    /// `Value` naming the key.
    pub fn check(&self, section: &str) -> Result<()> {
        let Self { hidden, layers, heads, ffn, context } = *self;
        let fit = heads > 0 && hidden > 0 && hidden.is_multiple_of(2 * heads);
        let expected = format!("a multiple of twice `{section}.heads` ({heads})");
        require(fit, &format!("{section}.hidden"), &expected, hidden)?;
        require(layers > 0, &format!("{section}.layers"), "at least 1", layers)?;
        require(ffn > 0, &format!("{section}.ffn"), "at least 1", ffn)?;
        require(context > 1, &format!("{section}.context"), "at least 2", context)
    }

    /// A model of this shape, whose random weights follow from the plan.
    ///
    /// # Errors
    /// Of the model.
    pub fn init(&self, lab: &Lab, tokenizer: Tokenizer) -> Result<Lm> {
        let config = Config {
            hidden_size: self.hidden,
            n_layers: self.layers,
            n_heads: self.heads,
            n_kv_heads: self.heads,
            head_dim: self.hidden / self.heads.max(1),
            intermediate_size: self.ffn,
            bos: Some(tracker_lm::BOS),
            eos: vec![tracker_lm::EOS],
            pad: Some(tracker_lm::PAD),
            ..Config::tiny(tokenizer.vocab_size(), self.context)
        };
        Ok(Lm::init(config, tokenizer, lab.seeds().seed("init", 0, 0), lab.device())?)
    }
}

/// The model of a Hugging Face folder.
///
/// # Errors
/// `Input` if it cannot be read.
pub fn load(lab: &Lab, folder: &str) -> Result<Lm> {
    Lm::load(Path::new(folder), lab.device()).map_err(|error| Error::Input {
        what: format!("checkpoint `{folder}`: {error}"),
        hint: Some("expected a Hugging Face folder of a Llama or Qwen2 model".into()),
    })
}

/// A CLIP with how its images are prepared, recorded as a checkpoint.
#[derive(Clone)]
pub struct Seer {
    /// Its checkpoint.
    pub node: NodeId,
    /// Its towers.
    pub clip: Arc<Clip>,
    /// How images become its pixels.
    pub preprocessing: Preprocessing,
}

/// The files of a `CLIPModel` that there may be, besides shards.
const CLIP_FILES: [&str; 6] = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    FILE,
];

/// The CLIP of a Hugging Face folder, recorded under `label`.
///
/// # Errors
/// `Input` if it cannot be read, or its preprocessing makes images of another size than it reads.
pub async fn load_clip(lab: &Lab, label: &str, folder: &str) -> Result<Seer> {
    let wrong = |what: String| Error::Input {
        what: format!("CLIP `{folder}`: {what}"),
        hint: Some("expected a Hugging Face folder of a CLIPModel with its preprocessor_config.json".into()),
    };
    let clip = Clip::load(folder).map_err(|error| wrong(error.to_string()))?;
    let dir = Path::new(folder);
    let read = |path: &Path| std::fs::read(path).map_err(|error| wrong(format!("`{}`: {error}", path.display())));
    let preprocessing = Preprocessing::from_json(&read(&dir.join(FILE))?).map_err(|error| wrong(error.to_string()))?;
    let size = clip.config().image_size;
    if preprocessing.side as usize != size {
        let got = preprocessing.side;
        return Err(wrong(format!("expected images of {size} pixels as config.json says, got {got} in {FILE}")));
    }
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| wrong(error.to_string()))? {
        let name = entry.map_err(|error| wrong(error.to_string()))?.file_name().to_string_lossy().into_owned();
        let is_shard = name.starts_with("model-") && name.ends_with(".safetensors");
        if is_shard || CLIP_FILES.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut named = Vec::with_capacity(names.len());
    for name in names {
        named.push((name.clone(), read(&dir.join(name))?));
    }
    let config = read(&dir.join("config.json"))?;
    let files = Files { config, named, n_params: clip.n_params() };
    let node = record_files(lab, Recording::new(), label, &files, 0, &[]).await?;
    Ok(Seer { node, clip: Arc::new(clip), preprocessing })
}
