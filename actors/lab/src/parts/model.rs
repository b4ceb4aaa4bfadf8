//! Language models to start from: small ones with random weights, and those of folders.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracker_lm::{Config, Lm, Tokenizer};

use crate::error::{Error, Result};
use crate::lab::Lab;
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
