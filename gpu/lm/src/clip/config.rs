//! The shape of a CLIP, as Hugging Face's `config.json` says it.

use serde_json::{Map, Value};

use crate::cpu::{Activation, TowerShape};
use crate::error::{Error, Result};

/// The shape and constants of both towers.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipConfig {
    pub(crate) text: TowerShape,
    pub(crate) vision: TowerShape,
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Tokens a text may have, those around it included.
    pub max_positions: usize,
    /// The token a text is read at; `None` for the token with the largest id, as the first checkpoints have it.
    pub eos: Option<u32>,
    /// Pixels of a side of an image.
    pub image_size: usize,
    /// Pixels of a side of a patch.
    pub patch_size: usize,
    /// Numbers of an embedding.
    pub projection: usize,
}

fn wrong(key: &str, expected: &str, got: Option<&Value>) -> Error {
    let got = got.map_or_else(|| "nothing".to_owned(), Value::to_string);
    Error::Config { key: key.to_owned(), expected: expected.to_owned(), got }
}

/// A section of the file. A key that is left out has the value transformers gives it.
struct Section<'a> {
    name: &'a str,
    map: &'a Map<String, Value>,
}

impl Section<'_> {
    fn key(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn size(&self, key: &str, default: usize) -> Result<usize> {
        let Some(value) = self.map.get(key) else { return Ok(default) };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
        size.ok_or_else(|| wrong(&self.key(key), "a whole number above 0", Some(value)))
    }

    fn tower(&self, [hidden, inner, n_layers, n_heads]: [usize; 4]) -> Result<TowerShape> {
        let activation = match self.map.get("hidden_act").map(|act| (act, act.as_str())) {
            None | Some((_, Some("quick_gelu"))) => Activation::QuickGelu,
            Some((_, Some("gelu"))) => Activation::Gelu,
            Some((other, _)) => return Err(wrong(&self.key("hidden_act"), "`quick_gelu` or `gelu`", Some(other))),
        };
        let eps = match self.map.get("layer_norm_eps") {
            None => 1e-5,
            Some(eps) => eps
                .as_f64()
                .filter(|eps| *eps >= 0.0)
                .ok_or_else(|| wrong(&self.key("layer_norm_eps"), "a number of at least 0", Some(eps)))?,
        };
        let shape = TowerShape {
            hidden: self.size("hidden_size", hidden)?,
            inner: self.size("intermediate_size", inner)?,
            n_layers: self.size("num_hidden_layers", n_layers)?,
            n_heads: self.size("num_attention_heads", n_heads)?,
            eps: eps as f32,
            activation,
        };
        if !shape.hidden.is_multiple_of(shape.n_heads) {
            let expected = format!("a divisor of `{}` ({})", self.key("hidden_size"), shape.hidden);
            return Err(wrong(&self.key("num_attention_heads"), &expected, self.map.get("num_attention_heads")));
        }
        Ok(shape)
    }
}

impl ClipConfig {
    /// Reads `config.json` of a `CLIPModel`.
    ///
    /// # Errors
    /// `Config` for a key that is malformed or asks for what is not built; `Malformed` if it is not a JSON object.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let malformed = |detail: String| Error::Malformed { name: "config.json".to_owned(), detail };
        let value: Value = serde_json::from_slice(json).map_err(|error| malformed(error.to_string()))?;
        let Value::Object(map) = &value else { return Err(malformed("expected an object".to_owned())) };
        if map.get("model_type").and_then(Value::as_str) != Some("clip") {
            return Err(wrong("model_type", "`clip`", map.get("model_type")));
        }
        let section = |name: &'static str| match map.get(name) {
            Some(Value::Object(map)) => Ok(Section { name, map }),
            other => Err(wrong(name, "an object", other)),
        };
        let (text, vision) = (section("text_config")?, section("vision_config")?);
        let eos = match text.map.get("eos_token_id") {
            None | Some(Value::Null) => None,
            Some(eos) => {
                let id = eos.as_u64().and_then(|id| u32::try_from(id).ok());
                // transformers: 2 is what was saved by mistake before 4.31, and stands for the largest id.
                id.map(Some)
                    .ok_or_else(|| wrong("text_config.eos_token_id", "a token's id", Some(eos)))?
                    .filter(|id| *id != 2)
            }
        };
        let (image_size, patch_size) = (vision.size("image_size", 224)?, vision.size("patch_size", 32)?);
        if !image_size.is_multiple_of(patch_size) {
            let expected = format!("a divisor of `vision_config.image_size` ({image_size})");
            return Err(wrong("vision_config.patch_size", &expected, vision.map.get("patch_size")));
        }
        if vision.size("num_channels", 3)? != 3 {
            return Err(wrong("vision_config.num_channels", "3", vision.map.get("num_channels")));
        }
        Ok(Self {
            text: text.tower([512, 2048, 12, 8])?,
            vision: vision.tower([768, 3072, 12, 12])?,
            vocab_size: text.size("vocab_size", 49408)?,
            max_positions: text.size("max_position_embeddings", 77)?,
            eos,
            image_size,
            patch_size,
            projection: Section { name: "", map }.size("projection_dim", 512)?,
        })
    }

    /// Numbers of an image: three channels of pixels.
    #[must_use]
    pub fn n_pixels(&self) -> usize {
        3 * self.image_size * self.image_size
    }
}
